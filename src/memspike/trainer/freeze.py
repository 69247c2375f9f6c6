"""Freeze: a trained Net becomes a QuantizedNetwork: integers read out, batch norm folded into gain and offset."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from memspike.errors import TrainingError
from memspike.integer import IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.trainer.net import Net
from memspike.trainer.trace import Layer


@torch.no_grad()
def freeze(net: Net, name: str, notes: Mapping[str, Any]) -> QuantizedNetwork:
    """The network of counts that `net` has become; raises TrainingError while weights or activations are floating point."""
    if net.bits.activation is None or net.bits.weight is None or net.bits.image_type is None:
        missing = "activations" if net.bits.activation is None else "weights"
        raise TrainingError(f"{missing} are still floating point; a network of counts needs bits for both")
    layers = tuple(_freeze_layer(net, layer) for layer in net.layers if layer.kind != "dropout")
    passed = {layer.name: layer.inputs[0] for layer in net.layers if layer.kind == "dropout"}
    return QuantizedNetwork(
        name, net.input_shape, net.bits.image_type, 1.0 / net.bits.image_type.max, tuple(_without(layer, passed) for layer in layers), notes
    )


def _without(layer: QuantizedLayer, passed: dict[str, str]) -> QuantizedLayer:
    """The layer reading past dropouts, which do nothing outside training."""
    inputs = list(layer.inputs)
    while any(name in passed for name in inputs):
        inputs = [passed.get(name, name) for name in inputs]
    values = {field: getattr(layer, field) for field in QuantizedLayer.__dataclass_fields__}
    return QuantizedLayer(**{**values, "inputs": tuple(inputs)})


def _freeze_layer(net: Net, layer: Layer) -> QuantizedLayer:
    shared: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "inputs": layer.inputs}
    if layer is not net.scores:
        shared |= {"activation_type": net.types[layer.name], "activation_scale": float(net.step(layer.name))}
    window: dict[str, Any] = {"kernel": layer.kernel, "stride": layer.stride, "padding": layer.padding}
    if layer.kind in ("max_pool", "average_pool"):
        return QuantizedLayer(**shared, **window)
    if layer.kind not in ("conv2d", "dense"):
        return QuantizedLayer(**shared)
    gain, offset = net.affine(layer)
    scale = float(net.weight_scale(layer)) * float(net.step(layer.inputs[0]))
    weight = _integers(net, layer)
    largest = net.bits.largest_weight(layer.name) or 1
    return QuantizedLayer(
        **shared,
        weight=weight,
        weight_type=IntType.smallest(-largest, largest) if layer.module else IntType(2, signed=True),
        weight_scale=float(net.weight_scale(layer)),
        gain=(gain / scale).cpu().numpy(),
        offset=offset.cpu().numpy(),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _integers(net: Net, layer: Layer) -> np.ndarray:
    if layer.module is None:
        return np.ones((layer.shape[0], 1, 1, 1) if layer.kind == "conv2d" else (layer.shape[0], 1), np.int64)
    return net.weight(layer).round().to(torch.int64).cpu().numpy()
