"""Net: a traced network that runs in floating point or in counts, with gradients through both."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.errors import ModelError, TrainingError
from memspike.integer import IntType, round_half_up
from memspike.trainer.bits import Bits
from memspike.trainer.trace import Layer, Trace

FLOAT = Bits(None, None)


class Net(nn.Module):
    """The layers of a trace over a copy of the user's model.

    Images are uint8 `[n, channels, height, width]`. With bits, every value that travels between layers is a count held in a float tensor,
    every weight an integer, and sums are exact, so the forward pass is the integer program's own arithmetic; the real value of a count is
    `count * step`. Steps and weight scales are learned as logarithms, so that a learning rate means percent.
    """

    def __init__(self, model: nn.Module, trace: Trace, bits: Bits = FLOAT) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.conversion = trace.conversion
        self.input_shape = trace.input_shape
        self.layers, self.groups = _separate_image(trace.layers, trace.input_shape)
        self.scores = _score_layer(self.layers)
        self.log_steps = nn.ParameterDict()
        self.log_scales = nn.ParameterDict()
        self.set_bits(bits)

    def set_bits(self, bits: Bits) -> None:
        """Change the bits; steps and scales start at 1 and want to be set."""
        bits.check_overrides([layer.name for layer in self.layers])
        self.bits = bits
        self.types = _types(self.layers, bits)
        fired = {self.groups[layer.name] for layer in self.layers if layer.is_neuron and layer is not self.scores}
        device = next(self.model.parameters()).device
        one = torch.zeros((), device=device)
        self.log_steps = nn.ParameterDict({_key(group): nn.Parameter(one.clone()) for group in sorted(fired) if bits.activation})
        modules = {layer.module for layer in self.layers if layer.module}
        self.log_scales = nn.ParameterDict({_key(path): nn.Parameter(one.clone()) for path in sorted(modules) if bits.weight})

    # -- scales

    def step(self, name: str) -> Tensor | float:
        """The real value of one count of the value `name`; 1 where nothing is counted."""
        if self.bits.image_type is None or self.bits.activation is None:
            return 1.0
        if self.groups[name] == "image":
            return 1.0 / self.bits.image_type.max
        return self.log_steps[_key(self.groups[name])].exp()

    def set_step(self, name: str, step: float) -> None:
        with torch.no_grad():
            self.log_steps[_key(self.groups[name])].fill_(step).log_()

    def weight_scale(self, layer: Layer) -> Tensor | float:
        return self.log_scales[_key(layer.module)].exp() if layer.module and self.bits.weight else 1.0

    def set_weight_scale(self, layer: Layer, scale: float) -> None:
        with torch.no_grad():
            self.log_scales[_key(layer.module or "")].fill_(scale).log_()

    # -- the forward pass

    def forward(self, images: Tensor, keep: dict[str, Tensor] | None = None) -> Tensor:
        """Real-valued scores `[n, classes]`; `keep`, if given, receives the real signals of every neuron layer before rounding."""
        values = {"image": self._image(images)}
        for layer in self.layers:
            values[layer.name] = self._run(layer, [values[name] for name in layer.inputs], keep)
        last = self.layers[-1].name
        return values[last] if self.scores is not None else values[last] * self.step(last)

    def _image(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            raise TrainingError(f"images must be uint8 pixels, got {images.dtype}")
        if self.bits.activation is None or self.bits.image_type is None:
            return images.float() / 255
        # The same integers as memspike.integer.to_counts; exact in float32, because 2 * 255 * 255 + 255 < 2**24.
        return ((images.float() * (2 * self.bits.image_type.max) + 255) / 510).floor()

    def _run(self, layer: Layer, inputs: list[Tensor], keep: dict[str, Tensor] | None) -> Tensor:
        if layer.is_neuron:
            return self._neurons(layer, inputs[0], keep)
        if layer.kind == "max_pool":
            return F.max_pool2d(inputs[0], layer.kernel, layer.stride, layer.padding)
        if layer.kind == "flatten":
            return inputs[0].flatten(1)
        if layer.kind == "concat":
            return torch.cat(inputs, dim=1)
        if layer.kind == "dropout":
            return F.dropout(inputs[0], layer.probability, self.training and self.bits.activation is None)
        total = sum(inputs[1:], start=inputs[0])
        if self.bits.activation is None:
            return F.relu(total) if layer.relu else total
        type = self.types[layer.name]
        return total.clamp(type.min, type.max)

    def _neurons(self, layer: Layer, x: Tensor, keep: dict[str, Tensor] | None) -> Tensor:
        acc = self.accumulate(layer, x)
        counts = self.bits.activation is not None and layer is not self.scores
        if counts and not torch.is_grad_enabled() and keep is None and not self.training:
            gain, offset = self.affine(layer, torch.float64)
            step = self.step(layer.name)
            potential = acc * _along(acc, gain / step).float() + _along(acc, offset / step + 0.5).float()
            return potential.floor_().clamp_(*_range(self.types[layer.name]))
        signal = self._signal(layer, acc)
        if keep is not None and layer is not self.scores:
            keep[layer.name] = F.relu(signal) if layer.relu else signal
        if not counts:
            return F.relu(signal) if layer.relu else signal
        return _Round.apply(signal, self.step(layer.name), *_range(self.types[layer.name]))

    def accumulate(self, layer: Layer, x: Tensor) -> Tensor:
        """What the crossbar integrates: integer sums when weights and activations are integers."""
        if layer.kind == "average_pool":
            return F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, divisor_override=1)
        if layer.module is None:
            return x
        weight = self.weight(layer)
        if layer.kind == "dense":
            return F.linear(x, weight)
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)

    def weight(self, layer: Layer) -> Tensor:
        """The layer's weights, as integers (with straight-through gradients) when weights have bits."""
        weight = self.weight_before_rounding(layer)
        largest = self.bits.largest_weight(layer.name)
        return weight if largest is None else _Round.apply(weight, self.weight_scale(layer), -largest, largest)

    def weight_before_rounding(self, layer: Layer) -> Tensor:
        module = self.model.get_submodule(layer.module or "")
        if layer is self.scores and layer.norm:  # scores are compared, so their gain must be one for all classes: it goes into the weights
            gain, _ = self._norm_affine(layer, torch.float32)
            return module.weight * gain.reshape(-1, *[1] * (module.weight.ndim - 1))
        return module.weight

    def _signal(self, layer: Layer, acc: Tensor) -> Tensor:
        """The real signal of the layer's neurons, batch norm by this batch's statistics while training."""
        scale = self.step(layer.inputs[0]) * self.weight_scale(layer)
        if layer.kind == "average_pool":
            return acc * (scale / (layer.kernel[0] * layer.kernel[1]))
        signal = acc if isinstance(scale, float) and scale == 1.0 else acc * scale
        if layer is self.scores and layer.norm:
            _, offset = self.affine(layer, torch.float32)
            return signal + _along(signal, offset)
        bias = self._bias(layer)
        if bias is not None:
            signal = signal + _along(signal, bias)
        return self.model.get_submodule(layer.norm)(signal) if layer.norm else signal

    def _bias(self, layer: Layer) -> Tensor | None:
        return self.model.get_submodule(layer.module).bias if layer.module else None

    def affine(self, layer: Layer, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Per channel (gain, offset) such that the real signal is `gain * acc + offset`, batch norm by its running statistics."""
        scale = self.step(layer.inputs[0]) * self.weight_scale(layer)
        scale = scale.to(dtype) if isinstance(scale, Tensor) else torch.tensor(scale, dtype=dtype)
        channels = layer.shape[0]
        device = next(self.model.parameters()).device
        gain, offset = torch.ones(channels, dtype=dtype, device=device), torch.zeros(channels, dtype=dtype, device=device)
        if layer.kind == "average_pool":
            return gain * scale.to(device) / (layer.kernel[0] * layer.kernel[1]), offset
        if layer.norm:
            gain, offset = self._norm_affine(layer, dtype)
        bias = self._bias(layer)
        if bias is not None:
            offset = offset + gain * bias.to(dtype)
        if layer is self.scores:
            gain = torch.ones_like(gain)
        return gain * scale.to(device), offset

    def _norm_affine(self, layer: Layer, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        norm: Any = self.model.get_submodule(layer.norm or "")
        gain = (norm.running_var.to(dtype) + norm.eps).rsqrt()
        if norm.weight is not None:
            gain = gain * norm.weight.to(dtype)
        offset = -norm.running_mean.to(dtype) * gain
        return gain, offset if norm.bias is None else offset + norm.bias.to(dtype)


class _Round(torch.autograd.Function):
    """`clip(round_half_up(x / step))`, the gradient passing straight through inside the range.

    With `count * step` downstream, autograd then gives the learned-step gradient of Esser et al. 2020, equation 3.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        scaled = x / step
        ctx.save_for_backward(scaled, step)
        ctx.range = (low - 0.5, high + 0.5)
        return round_half_up(scaled).clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scaled, step = ctx.saved_tensors
        low, high = ctx.range
        inside = gradients[0] * ((scaled > low) & (scaled < high))
        return inside / step, -(inside * scaled).sum() / step, None, None


def normalize(model: nn.Module, trace: Trace, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[nn.Module, str]:
    """A copy of `model` that takes pixels in 0..1 instead of `(pixel - mean) / std`, folded into the layers that read the image.

    Returns the model and a sentence for the conversion table. Zero padding then means a black pixel instead of a mean one.
    Raises ModelError when a layer other than Conv2d or Linear reads the image.
    """
    if len(mean) != trace.input_shape[0] or len(std) != len(mean) or min(std) <= 0:
        raise ModelError(f"mean {mean} and std {std} do not fit {trace.input_shape[0]} channels", cure="give one mean and one positive std per channel")
    model = copy.deepcopy(model)
    padded = False
    for layer in (layer for layer in trace.layers if "image" in layer.inputs):
        if layer.module is None or layer.kind != "conv2d" or layer.groups != 1:
            raise ModelError(f"{layer.name} reads the normalised image; only an ungrouped Conv2d can take mean and std into its weights")
        module: Any = model.get_submodule(layer.module)
        with torch.no_grad():
            module.weight /= torch.tensor(std).reshape(1, -1, 1, 1)
            shift = -(module.weight * torch.tensor(mean).reshape(1, -1, 1, 1)).sum((1, 2, 3))
            module.bias = nn.Parameter(shift if module.bias is None else module.bias + shift)
        padded = padded or any(layer.padding)
    return model, "mean and std folded into the first layer" + ("; its zero padding now means black instead of the mean" if padded else "")


def _key(name: str | None) -> str:
    return (name or "").replace(".", "/")


def _along(like: Tensor, per_channel: Tensor) -> Tensor:
    return per_channel.reshape(1, -1, *[1] * (like.ndim - 2))


def _range(type: IntType) -> tuple[int, int]:
    return type.min, type.max


def _score_layer(layers: tuple[Layer, ...]) -> Layer | None:
    """The layer whose charges are the scores: the last neurons, unless a ReLU or another op stands behind them."""
    layer = layers[-1]
    by_name = {other.name: other for other in layers}
    while layer.kind in ("flatten", "dropout") and layer.inputs[0] in by_name and _num_readers(layers, layer.inputs[0]) == 1:
        layer = by_name[layer.inputs[0]]
    return layer if layer.is_neuron and not layer.relu else None


def _num_readers(layers: tuple[Layer, ...], name: str) -> int:
    return sum(name in layer.inputs for layer in layers)


def _groups(layers: tuple[Layer, ...]) -> dict[str, str]:
    """Values that must count in one step, by the name of the first of them: what is pooled by maximum, flattened, added or joined."""
    groups = {"image": "image"}
    for layer in layers:
        groups[layer.name] = layer.name
        if not layer.is_neuron:
            merged = {groups[name] for name in layer.inputs} | {layer.name}
            first = "image" if "image" in merged else min(merged, key=lambda name: [*groups].index(name))
            groups = {name: first if group in merged else group for name, group in groups.items()}
    return groups


def _separate_image(layers: tuple[Layer, ...], shape: tuple[int, ...]) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """The layers and their step groups; an image that would be added to or joined with counts gets neurons of its own first,
    because its step is fixed."""
    groups = _groups(layers)
    if not any(layer.is_neuron and groups[layer.name] == "image" for layer in layers):
        return layers, groups
    own = Layer("image.counts", "conv2d", ("image",), shape, relu=True, groups=shape[0])
    others = tuple(
        layer if layer.is_neuron else replace(layer, inputs=tuple(own.name if name == "image" else name for name in layer.inputs)) for layer in layers
    )
    return (own, *others), _groups((own, *others))


def _types(layers: tuple[Layer, ...], bits: Bits) -> dict[str, IntType]:
    """The integer type of every value: unsigned behind a ReLU, one bit more with a sign without."""
    if bits.activation is None or bits.image_type is None:
        return {}
    types = {"image": bits.image_type}
    for layer in layers:
        inputs = [types[name] for name in layer.inputs]
        count = bits.activation_of(layer.name) or bits.activation
        if layer.kind in ("conv2d", "dense", "average_pool", "add"):
            unsigned = layer.relu or (layer.kind in ("average_pool", "add") and not any(type.signed for type in inputs))
            types[layer.name] = IntType(count) if unsigned else IntType(count + 1, signed=True)
        else:
            types[layer.name] = IntType.smallest(min(type.min for type in inputs), max(type.max for type in inputs))
    return types
