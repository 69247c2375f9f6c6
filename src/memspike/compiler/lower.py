"""Layers become ops: every layer of a QuantizedNetwork as integer ops whose counts equal its real numbers, rounded."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from memspike.compiler import thresholds
from memspike.errors import ModelError
from memspike.integer import Integers, IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.ops import Add, Charge, Concat, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, SumPool2d, TensorType
from memspike.program import Program

IMAGE = "image"
SCORES = "scores"


def lower(network: QuantizedNetwork) -> Program:
    """The program of a network: input `image`, a sum `<layer>.sum` and neurons `<layer>` for each layer, the last charge as `scores`.

    `notes` are the network's own, and under "compile" what the compiler chose and checked. Raises ModelError naming the layer that cannot be
    compiled, and ProgramError where ops do not fit each other or would overflow.
    """
    if not network.layers:
        raise ModelError("has no layers", where=f"network {network.name}")
    draft = _Draft(network)
    for layer in network.layers:
        _LOWER[_checked(layer, draft).kind](layer, draft)
    output = draft.ops[-1].out
    return Program(network.name, IMAGE, draft.types[IMAGE], tuple(draft.ops), output, {**network.notes, "compile": {"layers": draft.report}}, network.pixels)


@dataclass
class _Draft:
    """A program in the making: for every value its type and, where it is counted, the real value of one count.

    `lines` are the values whose counts several lines carry, the image and what only rearranges it: how many, and how many elements of each lie between
    one line and the next.
    """

    network: QuantizedNetwork
    ops: list[Op] = field(default_factory=list[Op])
    types: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    scales: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    report: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __post_init__(self) -> None:
        lines, (channels, *size) = self.network.pixels.lines, self.network.input_shape
        if lines > 1:
            self.lines[IMAGE] = lines, 1
        self.types[IMAGE] = TensorType((channels * lines, *size), self.network.input_type)
        self.scales[IMAGE] = _positive(self.network.input_scale, "input_scale", f"network {self.network.name}")

    def add(self, op: Op, scale: float | None = None) -> TensorType:
        """Append an op whose counts stand for `scale` each; None for sums and charges."""
        self.types[op.out] = op.infer(*(self.types[name] for name in op.inputs))
        self.ops.append(op)
        if scale is not None:
            self.scales[op.out] = scale
        return self.types[op.out]

    def note(self, layer: QuantizedLayer, neurons: thresholds.Neurons, sum_type: IntType) -> None:
        self.report.append(
            {
                "layer": layer.name,
                "fraction_bits": neurons.fraction_bits,
                "sum_bits": sum_type.bits,
                "breakpoints": neurons.num_breakpoints,
                "moved": neurons.num_moved,
                "largest_move": neurons.largest_move,
            }
        )


def _weighted(layer: QuantizedLayer, draft: _Draft) -> None:
    """`conv2d` and `dense`: a negative gain changes the sign of its channel's weights, a gain of zero makes them zero."""
    where = f"layer {layer.name}"
    if layer.weight is None or layer.weight_type is None:
        raise ModelError(f"a {layer.kind} needs weight and weight_type", where=where)
    channels = len(layer.weight)
    gain = _reals(layer, "gain", np.ones(channels))
    offset = _reals(layer, "offset", np.zeros(channels))
    if layer.activation_type is None and (gain[0] <= 0 or any(g != gain[0] for g in gain)):
        raise ModelError("scores need one positive gain for all classes", where=where, cure="fold the gains into the weights before they are quantised")
    weight = _on_lines(layer, layer.weight, draft) * np.sign(gain).astype(np.int64).reshape(-1, *[1] * (layer.weight.ndim - 1))
    if not layer.weight_type.holds(int(weight.min(initial=0)), int(weight.max(initial=0))):
        raise ModelError(
            f"weights from {weight.min()} to {weight.max()}, the signs of the gains applied, do not fit {layer.weight_type}",
            where=where,
            cure="use weights whose negatives fit too: -7 to 7 in i4",
        )
    scale = Fraction(_positive(layer.weight_scale, "weight_scale", where)) * Fraction(draft.scales[layer.inputs[0]])
    total = layer.name + ".sum"
    if layer.kind == "conv2d":
        op: Op = Conv2d(total, layer.inputs, weight, layer.weight_type, layer.stride, layer.padding, layer.dilation, layer.groups)
    else:
        op = Dense(total, layer.inputs, weight, layer.weight_type, layer.groups)
    sum_type = draft.add(op).type
    low, high = thresholds.reach(weight, draft.types[layer.inputs[0]].type)
    real = thresholds.RealLayer([abs(Fraction(g)) * scale for g in gain.tolist()], [Fraction(o) for o in offset.tolist()], low, high, sum_type)
    if layer.activation_type is None:
        neurons = thresholds.scores(real)
        draft.add(Charge(SCORES, (total,), neurons.charge, neurons.fraction_bits))
    else:
        step = _positive(layer.activation_scale, "activation_scale", where)
        neurons = thresholds.fire(real, Fraction(step), layer.activation_type)
        draft.add(Fire(layer.name, (total,), neurons.threshold, neurons.charge, neurons.fraction_bits, layer.activation_type), step)
    draft.note(layer, neurons, sum_type)


def _on_lines(layer: QuantizedLayer, weight: Integers, draft: _Draft) -> Integers:
    """The weights for each line of the inputs: the same for all lines of a count."""
    lines, apart = draft.lines.get(layer.inputs[0], (1, 1))
    if lines == 1:
        return weight
    if weight.shape[1] % apart or (apart > 1 and layer.groups > 1):
        raise ModelError(f"reads parts of images on {lines} lines", where=f"layer {layer.name}", cure="train with one line for a pixel")
    blocks = weight.reshape(len(weight), -1, apart, *weight.shape[2:])
    return np.repeat(blocks, lines, axis=1).reshape(len(weight), -1, *weight.shape[2:])


def _average_pool(layer: QuantizedLayer, draft: _Draft) -> None:
    """A sum over the window, then neurons that divide by the area (zeros padded count) and change to the layer's own step."""
    if layer.activation_type is None:
        raise ModelError("an average_pool needs an activation_type", where=f"layer {layer.name}")
    total = layer.name + ".sum"
    summed = draft.add(SumPool2d(total, layer.inputs, layer.kernel, layer.stride, layer.padding))
    area, counted = math.prod(layer.kernel), draft.types[layer.inputs[0]].type
    unit = Fraction(draft.scales[layer.inputs[0]]) / area
    real = thresholds.RealLayer([unit], [Fraction(0)], np.array([area * counted.min]), np.array([area * counted.max]), summed.type)
    step = _positive(layer.activation_scale, "activation_scale", f"layer {layer.name}")
    neurons = thresholds.fire(real, Fraction(step), layer.activation_type)
    channels = summed.shape[0]
    threshold, charge = np.repeat(neurons.threshold, channels), np.repeat(neurons.charge, channels)
    draft.add(Fire(layer.name, (total,), threshold, charge, neurons.fraction_bits, layer.activation_type), step)
    draft.note(layer, neurons, summed.type)


def _max_pool(layer: QuantizedLayer, draft: _Draft) -> None:
    _pass_lines(layer, draft)  # a line never counts less where the pixel counts more, so the maximum of each is that of the whole
    _same_type(layer, draft.add(MaxPool2d(layer.name, layer.inputs, layer.kernel, layer.stride, layer.padding), _common_scale(layer, draft)))


def _flatten(layer: QuantizedLayer, draft: _Draft) -> None:
    _pass_lines(layer, draft, apart=math.prod(draft.types[layer.inputs[0]].shape[1:]))
    _same_type(layer, draft.add(Flatten(layer.name, layer.inputs), _common_scale(layer, draft)))


def _concat(layer: QuantizedLayer, draft: _Draft) -> None:
    _pass_lines(layer, draft)
    _same_type(layer, draft.add(Concat(layer.name, layer.inputs), _common_scale(layer, draft)))


def _pass_lines(layer: QuantizedLayer, draft: _Draft, apart: int = 1) -> None:
    """What only rearranges counts hands on the lines that carry them."""
    if layer.inputs[0] in draft.lines:
        lines, before = draft.lines[layer.inputs[0]]
        draft.lines[layer.name] = lines, apart * before


def _add(layer: QuantizedLayer, draft: _Draft) -> None:
    if layer.activation_type is None:
        raise ModelError("an add needs an activation_type to clip to", where=f"layer {layer.name}")
    draft.add(Add(layer.name, layer.inputs, layer.activation_type), _common_scale(layer, draft))


_LOWER: dict[str, Callable[[QuantizedLayer, _Draft], None]] = {
    "conv2d": _weighted,
    "dense": _weighted,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "add": _add,
    "concat": _concat,
    "flatten": _flatten,
}


def _checked(layer: QuantizedLayer, draft: _Draft) -> QuantizedLayer:
    where = f"layer {layer.name}"
    if layer.kind not in _LOWER:
        raise ModelError(f"kind {layer.kind!r} is unknown; known are {', '.join(_LOWER)}", where=where)
    for name in layer.inputs:
        if name not in draft.scales:
            raise ModelError(f"reads {name!r}, which is neither {IMAGE!r} nor the counts of an earlier layer", where=where)
    on_lines = {draft.lines.get(name, (1, 1)) for name in layer.inputs}
    if on_lines != {(1, 1)} and (layer.kind in ("add", "average_pool") or len(on_lines) > 1):
        raise ModelError(f"no {layer.kind} can read pixels on {max(on_lines)[0]} lines", where=where, cure="train with one line for a pixel")
    if len(layer.inputs) != 1 and layer.kind not in ("add", "concat"):
        raise ModelError(f"a {layer.kind} reads one value, got {len(layer.inputs)}", where=where)
    return layer


def _common_scale(layer: QuantizedLayer, draft: _Draft) -> float:
    """The one scale of everything that meets in the layer; ModelError when there are two, or the layer claims another."""
    for name in layer.inputs:
        if draft.scales[name] != draft.scales[layer.inputs[0]]:
            first = layer.inputs[0]
            raise ModelError(
                f"joins counts of different steps: {first} counts in {draft.scales[first]}, {name} in {draft.scales[name]}",
                where=f"layer {layer.name}",
                cure="train with one activation_scale for everything that meets in an add or a concat",
            )
    scale = draft.scales[layer.inputs[0]] if layer.inputs else 1.0
    if layer.activation_scale not in (1.0, scale):
        raise ModelError(f"says activation_scale {layer.activation_scale}, but its inputs count in {scale}", where=f"layer {layer.name}")
    return scale


def _same_type(layer: QuantizedLayer, inferred: TensorType) -> None:
    if layer.activation_type not in (None, inferred.type):
        raise ModelError(f"says activation_type {layer.activation_type}, but a {layer.kind} gives {inferred.type}", where=f"layer {layer.name}")


def _reals(layer: QuantizedLayer, name: str, default: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = getattr(layer, name)
    if values is None:
        return default
    if values.shape != default.shape or not np.isfinite(values).all():
        raise ModelError(f"{name} needs one finite number for each of {len(default)} channels, got shape {list(values.shape)}", where=f"layer {layer.name}")
    return values


def _positive(value: float, name: str, where: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ModelError(f"{name} is {value}; expected a finite number above zero", where=where)
    return float(value)
