"""Roles of a network's layers: which gives the scores, which values count in one step and in which integers, which maximum goes before its neurons."""

from collections.abc import Mapping
from dataclasses import replace

from memspike.errors import TrainingError
from memspike.integer import IntType
from memspike.trainer.bits import Bits
from memspike.trainer.layers import Layer, num_uses


def score_layer(layers: tuple[Layer, ...]) -> Layer | None:
    """The layer whose charges are the scores: the last neurons, unless a ReLU or another op stands behind them, or they are a batch norm that stands
    alone, whose gains differ from class to class."""
    layer = layers[-1]
    by_name = {other.name: other for other in layers}
    while layer.kind in ("flatten", "dropout") and layer.inputs[0] in by_name and num_uses(layers, layer.inputs[0]) == 1:
        layer = by_name[layer.inputs[0]]
    return layer if layer.is_neuron and not layer.relu and (layer.module or layer.kind == "average_pool") else None


def pools_of_neurons(layers: tuple[Layer, ...], scores: Layer | None) -> dict[str, Layer]:
    """By the name of a layer of neurons, the max_pool that alone reads it."""
    by_name = {layer.name: layer for layer in layers}
    pools = [(by_name[pool.inputs[0]], pool) for pool in layers if pool.kind == "max_pool" and pool.inputs[0] in by_name]
    return {layer.name: pool for layer, pool in pools if layer.is_neuron and layer is not scores and num_uses(layers, layer.name) == 1}


def step_groups(layers: tuple[Layer, ...]) -> dict[str, str]:
    """Values that must count in one step, by the name of the first of them: what is pooled by maximum, flattened, added or joined."""
    groups = {"image": "image"}
    for layer in layers:
        groups[layer.name] = layer.name
        if not layer.is_neuron:
            merged = {groups[name] for name in layer.inputs} | {layer.name}
            first = "image" if "image" in merged else min(merged, key=lambda name: [*groups].index(name))
            groups = {name: first if group in merged else group for name, group in groups.items()}
    return groups


def separate_image(layers: tuple[Layer, ...], shape: tuple[int, ...]) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """The layers and their step groups; an image that would be added, rectified or joined with counts gets neurons of its own first,
    because its step is fixed and its bits are its own."""
    groups = step_groups(layers)
    if not any(layer.clips and groups[layer.name] == "image" for layer in layers):
        return layers, groups
    own = Layer("image.counts", "conv2d", ("image",), shape, relu=True, groups=shape[0])
    others = tuple(
        layer if layer.is_neuron else replace(layer, inputs=tuple(own.name if name == "image" else name for name in layer.inputs)) for layer in layers
    )
    return (own, *others), step_groups((own, *others))


def check_pixels(layers: tuple[Layer, ...], groups: Mapping[str, str], bits: Bits) -> None:
    """Raises TrainingError when a layer reads pixels on several lines, or from a range that begins above black, and has no weights that could answer for it."""
    code = bits.pixels
    for layer in layers if bits.activation is not None else ():
        if not layer.is_neuron or groups[layer.inputs[0]] != "image":
            continue
        where = f"layer {layer.name} ({layer.kind})"
        if code.lines > 1 and (layer.kind == "average_pool" or (layer.kind == "dense" and layer.groups > 1)):
            cure = "use one line for a pixel, or put a convolution or a whole dense layer first"
            raise TrainingError(f"{where} cannot read pixels on {code.lines} lines", cure=cure)
        if code.low and layer.module is None:
            raise TrainingError(f"{where} cannot read pixels that count from {code.low} on", cure="begin the range at 0, or put a layer with weights first")


def types(layers: tuple[Layer, ...], bits: Bits) -> dict[str, IntType]:
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
