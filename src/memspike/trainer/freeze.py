"""Freeze: a trained Net becomes a QuantizedNetwork: integers read out, batch norm folded into gain and offset."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from memspike.errors import TrainingError
from memspike.integer import Integers, IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.trainer.layers import Layer
from memspike.trainer.net import Net

_ONES = IntType(2, signed=True)


@torch.no_grad()
def freeze(net: Net, name: str, notes: Mapping[str, Any]) -> QuantizedNetwork:
    """The network of counts that `net` has become; raises TrainingError while weights or activations are floating point."""
    if net.bits.activation is None or net.bits.weight is None or net.bits.image_type is None:
        missing = "activations" if net.bits.activation is None else "weights"
        raise TrainingError(f"{missing} are still floating point; a network of counts needs bits for both")
    layers = [layer for layer in net.layers if layer.kind != "dropout"]
    if net.scores is None or layers[-1] is net.scores:
        frozen = [_freeze_layer(net, layer) for layer in layers]
    else:
        *before, scores, flatten = layers
        frozen = [*(_freeze_layer(net, layer) for layer in before), *_scores_as_dense(net, scores, flatten)]
    return QuantizedNetwork(name, net.input_shape, net.bits.image_type, float(net.step("image")), tuple(frozen), notes, net.bits.pixels)


def _freeze_layer(net: Net, layer: Layer) -> QuantizedLayer:
    shared: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "inputs": _inputs(net, layer)}
    if layer is not net.scores:
        shared |= {"activation_type": net.types[layer.name], "activation_scale": float(net.step(layer.name))}
    if layer.kind in ("max_pool", "average_pool"):
        return QuantizedLayer(**shared, kernel=layer.kernel, stride=layer.stride, padding=layer.padding)
    if layer.kind not in ("conv2d", "dense"):
        return QuantizedLayer(**shared)
    gain, offset = net.affine(layer)
    largest = net.bits.largest_weight(layer.name) or 1
    return QuantizedLayer(
        **shared,
        weight=_integers(net, layer),
        weight_type=IntType.smallest(-largest, largest) if layer.module else _ONES,
        weight_scale=float(net.weight_scale(layer)),
        gain=gain.cpu().numpy(),
        offset=offset.cpu().numpy(),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _inputs(net: Net, layer: Layer) -> tuple[str, ...]:
    """What the layer reads once dropouts, which do nothing outside training, are gone."""
    passed = {other.name: other.inputs[0] for other in net.layers if other.kind == "dropout"}
    inputs = layer.inputs
    while any(name in passed for name in inputs):
        inputs = tuple(passed.get(name, name) for name in inputs)
    return inputs


def _integers(net: Net, layer: Layer) -> Integers:
    if layer.module is None:
        return np.ones((layer.shape[0], 1, *layer.kernel) if layer.kind != "dense" else (layer.shape[0], 1), np.int64)
    return net.weight(layer).round().to(torch.int64).cpu().numpy()


def _scores_as_dense(net: Net, scores: Layer, flatten: Layer) -> tuple[QuantizedLayer, QuantizedLayer]:
    """Scores that a convolution or an average pool gives at a single place, then flattened, as a flatten and a dense layer: the charges are then a vector."""
    read = _inputs(net, scores)
    shape = next((layer.shape for layer in net.layers if layer.name == read[0]), net.input_shape)
    flat = QuantizedLayer(flatten.name, "flatten", read, net.types[read[0]], float(net.step(read[0])))
    frozen = _freeze_layer(net, scores)
    if scores.kind == "average_pool":
        gain, offset = net.affine(scores)
        frozen = replace(frozen, weight_type=_ONES, gain=gain.cpu().numpy(), offset=offset.cpu().numpy(), groups=scores.shape[0], kernel=(1, 1))
    weight = _at_one_place(_integers(net, scores), scores, shape[1:])
    plain: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    return flat, replace(frozen, kind="dense", inputs=(flatten.name,), weight=weight, **plain)


def _at_one_place(weight: Integers, layer: Layer, size: tuple[int, ...]) -> Integers:
    """The weights `[channels, inputs, rows, columns]` of a window's first place as a matrix `[channels, inputs * height * width]`."""
    matrix = np.zeros((*weight.shape[:2], *size), np.int64)
    for i, j in np.ndindex(*weight.shape[2:]):
        row, column = i * layer.dilation[0] - layer.padding[0], j * layer.dilation[1] - layer.padding[1]
        if 0 <= row < size[0] and 0 <= column < size[1]:
            matrix[:, :, row, column] = weight[:, :, i, j]
    return matrix.reshape(len(weight), -1)
