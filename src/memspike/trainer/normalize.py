"""Normalised images: mean and standard deviation folded into the layers that read the image."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from memspike.errors import ModelError
from memspike.trainer.layers import Layer, Trace

PADDED = "its zero padding now means a black pixel instead of a mean one, which may change what it says along the edges"
_MOST = 1e6  # of a mean, and of a std either way: what is folded with them must stay a number in single precision, squared and summed


def normalize(model: nn.Module, trace: Trace, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[nn.Module, str]:
    """A copy of `model` that takes pixels in 0..1 instead of `(pixel - mean) / std`, folded into the layers that read the image.

    Returns the model and a sentence for the conversion table. Zero padding then means a black pixel instead of a mean one.
    Raises ModelError when anything but a Conv2d or a Linear (behind a flatten) reads the image.
    """
    channels = trace.input_shape[0]
    mean, std = _numbers(mean), _numbers(std)
    if len(mean) != channels or len(std) != channels or not all(math.isfinite(m) for m in mean) or not all(0 < s < math.inf for s in std):
        raise ModelError(f"mean {mean} and std {std} do not fit {channels} channels", cure="give one mean and one positive std per channel")
    if any(abs(m) > _MOST for m in mean) or not all(1 / _MOST <= s <= _MOST for s in std):
        cure = f"give those of pixels between 0 and 1; a mean may reach {_MOST:g}, a std from {1 / _MOST:g} to {_MOST:g}"
        raise ModelError(f"mean {mean} and std {std} are out of range", cure=cure)
    model = copy.deepcopy(model)
    flat = {layer.name for layer in trace.layers if layer.kind == "flatten" and layer.inputs == ("image",)}
    readers = [layer for layer in trace.layers if layer.name not in flat and not flat.union({"image"}).isdisjoint(layer.inputs)]
    for layer in readers:
        held = _weight(model, layer)
        others = [other.name for other in trace.layers if other not in readers and held is not None and _weight(model, other) is held]
        if layer.module is None or others:
            also = f", and {others[0]} reads counts with the same weight" if others else ""
            what = f"{layer.name} reads the normalised image{also}"
            raise ModelError(what, cure="only a Conv2d or Linear that reads nothing else can take mean and std into its weights")
    for path in dict.fromkeys(layer.module for layer in readers if layer.module):
        _fold_normalization(model.get_submodule(path), torch.tensor(mean), torch.tensor(std))
    padded = any(any(layer.padding) for layer in readers)
    return model, f"mean and std folded into the first layer{f'; {PADDED}' if padded else ''}"


def _numbers(given: Any) -> tuple[float, ...]:
    """One number per channel; raises ModelError for what is none."""
    try:
        return tuple(float(each) for each in ((given,) if isinstance(given, int | float) else given))
    except (TypeError, ValueError) as error:
        raise ModelError(f"mean and std are numbers, one for each channel; got {given!r}", cure="as mean=(0.49, 0.48, 0.45)") from error


def _weight(model: nn.Module, layer: Layer) -> Any:
    """The parameter that the layer multiplies with; two layers may hold one."""
    return getattr(model.get_submodule(layer.module), "weight", None) if layer.module else None


def _fold_normalization(module: Any, mean: Tensor, std: Tensor) -> None:
    """Change the module's weight and bias so that it gives for `x` what it gave for `(x - mean) / std`."""
    outputs, inputs = module.weight.shape[:2]
    groups = getattr(module, "groups", 1)
    if module.weight.ndim == 2:  # a vector holds the channels one after the other, each with all its pixels
        mean, std = (values.repeat_interleave(inputs // len(values)) for values in (mean, std))
    # Channel o of a convolution in groups reads the inputs of its own group.
    mean, std = (values.reshape(groups, inputs).repeat_interleave(outputs // groups, 0).to(module.weight) for values in (mean, std))
    with torch.no_grad():
        module.weight /= std.reshape(outputs, inputs, *[1] * (module.weight.ndim - 2))
        shift = -(module.weight.flatten(2).sum(2) if module.weight.ndim > 2 else module.weight).mul(mean).sum(1)
        module.bias = nn.Parameter(shift if module.bias is None else module.bias + shift)
