"""The op table: what each integer operation means, which shapes and types it takes, how it is written."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType, frozen

Pair = tuple[int, int]
MAX_FRACTION_BITS = 48


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape of one image's tensor (no batch axis) and the integer type of its elements; prints as `u4[1, 28, 28]`."""

    shape: tuple[int, ...]
    type: IntType

    def __str__(self) -> str:
        return f"{self.type}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True, eq=False)
class Op(ABC):
    """One step of a program: reads the values named in `inputs`, defines the value `out`."""

    word: ClassVar[str] = ""

    out: str
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type == Integers:
                object.__setattr__(self, field.name, frozen(getattr(self, field.name)))

    def constants(self) -> dict[str, Integers]:
        """The op's integer arrays by field name: weights, thresholds, charges."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}

    def numbers(self) -> dict[str, Any]:
        """The op's other numbers by field name: strides, types, fraction bits."""
        skip = {"out", "inputs", *self.constants()}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skip}

    @abstractmethod
    def infer(self, *inputs: TensorType) -> TensorType:
        """Shape and type of `out`; raises ProgramError when the inputs do not fit or a sum could overflow."""

    @abstractmethod
    def evaluate(self, *inputs: Integers) -> Integers:
        """The meaning, in int64: arrays `[images, ...]` in, one array `[images, ...]` out."""


@dataclass(frozen=True, slots=True, eq=False)
class Conv2d(Op):
    """`acc = sum k * c` over a window; stride, zero padding, dilation and groups as in torch.

    `weight` is `[channels, in_channels / groups, height, width]`.
    """

    word: ClassVar[str] = "conv2d"

    weight: Integers
    weight_type: IntType
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        channels, height, width = _image(self, x)
        _weights_fit(self, self.weight, self.weight_type, 4)
        _grouped(self, channels, self.weight.shape[1] * self.groups, self.weight.shape[0], self.groups)
        kernel = (self.weight.shape[2], self.weight.shape[3])
        size = _window_size(self, (height, width), kernel, self.stride, self.padding, self.dilation)
        return TensorType((self.weight.shape[0], *size), _sum_type(self.weight, x.type))

    def evaluate(self, *inputs: Integers) -> Integers:
        windows = _windows(inputs[0], self.weight.shape[2:], self.stride, self.padding, self.dilation, fill=0)
        n, channels, height, width, kh, kw = windows.shape
        grouped = windows.reshape(n, self.groups, channels // self.groups, height, width, kh, kw)
        weight = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        acc = np.einsum("ngchwij,gkcij->ngkhw", grouped, weight, optimize=True)
        return acc.reshape(n, len(self.weight), height, width)


@dataclass(frozen=True, slots=True, eq=False)
class Dense(Op):
    """`acc = sum k * c` over a vector; `weight` is `[channels, in_channels / groups]`, groups as in a convolution."""

    word: ClassVar[str] = "dense"

    weight: Integers
    weight_type: IntType
    groups: int = 1

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        if len(x.shape) != 1:
            raise ProgramError(f"takes a vector, got {x}", where=f"op {self.out}", cure="put a flatten before it")
        _weights_fit(self, self.weight, self.weight_type, 2)
        _grouped(self, x.shape[0], self.weight.shape[1] * self.groups, self.weight.shape[0], self.groups)
        return TensorType((self.weight.shape[0],), _sum_type(self.weight, x.type))

    def evaluate(self, *inputs: Integers) -> Integers:
        (x,) = inputs
        grouped = x.reshape(len(x), self.groups, self.weight.shape[1])
        weight = self.weight.reshape(self.groups, -1, self.weight.shape[1])
        return np.einsum("ngc,gkc->ngk", grouped, weight, optimize=True).reshape(len(x), len(self.weight))


@dataclass(frozen=True, slots=True, eq=False)
class Fire(Op):
    """Integrate and fire: `y = clip(floor((acc * 2**f + charge) / threshold))`, floor towards minus infinity.

    `threshold` (>= 1) and `charge` hold one integer per channel; `f` is `fraction_bits`.
    """

    word: ClassVar[str] = "fire"

    threshold: Integers
    charge: Integers
    fraction_bits: int
    type: IntType

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        _per_channel(self, x, self.threshold, "threshold")
        _charge_fits(self, x, self.charge, self.fraction_bits)
        if self.threshold.min() < 1:
            channel = int(self.threshold.argmin())
            raise ProgramError(f"threshold of channel {channel} is {self.threshold[channel]}; a neuron needs at least 1", where=f"op {self.out}")
        return TensorType(x.shape, self.type)

    def evaluate(self, *inputs: Integers) -> Integers:
        acc = inputs[0]
        potential = (acc << self.fraction_bits) + _along_channels(self.charge, acc)
        return self.type.clip(potential // _along_channels(self.threshold, acc))


@dataclass(frozen=True, slots=True, eq=False)
class Charge(Op):
    """Scores: the integrator's charge `acc * 2**f + charge`, one per class, compared by a winner-take-all."""

    word: ClassVar[str] = "charge"

    charge: Integers
    fraction_bits: int

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        low, high = _charge_fits(self, x, self.charge, self.fraction_bits)
        return TensorType(x.shape, IntType.smallest(low, high))

    def evaluate(self, *inputs: Integers) -> Integers:
        return (inputs[0] << self.fraction_bits) + _along_channels(self.charge, inputs[0])


@dataclass(frozen=True, slots=True, eq=False)
class Add(Op):
    """`clip(sum of inputs)`; with one input it is a ReLU or a change of type."""

    word: ClassVar[str] = "add"

    type: IntType

    def infer(self, *inputs: TensorType) -> TensorType:
        if not inputs:
            raise ProgramError("adds nothing", where=f"op {self.out}")
        shapes = {x.shape for x in inputs}
        if len(shapes) > 1:
            raise ProgramError(f"adds tensors of different shapes: {', '.join(map(str, inputs))}", where=f"op {self.out}")
        IntType.smallest(sum(x.type.min for x in inputs), sum(x.type.max for x in inputs))
        return TensorType(inputs[0].shape, self.type)

    def evaluate(self, *inputs: Integers) -> Integers:
        return self.type.clip(sum(inputs[1:], start=inputs[0]))


@dataclass(frozen=True, slots=True, eq=False)
class SumPool2d(Op):
    """Sum over a window, zeros padded; average pooling is this, then a Fire."""

    word: ClassVar[str] = "sum_pool2d"

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        channels, height, width = _image(self, x)
        size = _window_size(self, (height, width), self.kernel, self.stride, self.padding, (1, 1))
        area = self.kernel[0] * self.kernel[1]
        return TensorType((channels, *size), IntType.smallest(area * x.type.min, area * x.type.max))

    def evaluate(self, *inputs: Integers) -> Integers:
        return _windows(inputs[0], self.kernel, self.stride, self.padding, (1, 1), fill=0).sum(axis=(4, 5))


@dataclass(frozen=True, slots=True, eq=False)
class MaxPool2d(Op):
    """Maximum over a window; padding never wins (it counts as the type's minimum)."""

    word: ClassVar[str] = "max_pool2d"

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        channels, height, width = _image(self, x)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ProgramError(f"padding {self.padding} is more than half of kernel {self.kernel}", where=f"op {self.out}")
        size = _window_size(self, (height, width), self.kernel, self.stride, self.padding, (1, 1))
        return TensorType((channels, *size), x.type)

    def evaluate(self, *inputs: Integers) -> Integers:
        lowest = np.iinfo(np.int64).min
        return _windows(inputs[0], self.kernel, self.stride, self.padding, (1, 1), fill=lowest).max(axis=(4, 5))


@dataclass(frozen=True, slots=True, eq=False)
class Flatten(Op):
    """Channels, rows and columns of an image as one vector, in that order."""

    word: ClassVar[str] = "flatten"

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        return TensorType((math.prod(x.shape),), x.type)

    def evaluate(self, *inputs: Integers) -> Integers:
        return inputs[0].reshape(len(inputs[0]), math.prod(inputs[0].shape[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class Concat(Op):
    """Tensors one after the other along the channels; the type is the smallest that holds all."""

    word: ClassVar[str] = "concat"

    def infer(self, *inputs: TensorType) -> TensorType:
        if not inputs or len({x.shape[1:] for x in inputs}) > 1:
            raise ProgramError(f"joins tensors that differ beyond their channels: {', '.join(map(str, inputs))}", where=f"op {self.out}")
        channels = sum(x.shape[0] for x in inputs)
        type = IntType.smallest(min(x.type.min for x in inputs), max(x.type.max for x in inputs))
        return TensorType((channels, *inputs[0].shape[1:]), type)

    def evaluate(self, *inputs: Integers) -> Integers:
        return np.concatenate(inputs, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Op):
    """The channels from `start` up to `stop`: the inverse of Concat. Partial sums that are added digitally read slices."""

    word: ClassVar[str] = "slice"

    start: int
    stop: int

    def infer(self, *inputs: TensorType) -> TensorType:
        (x,) = _arity(self, inputs, 1)
        if not 0 <= self.start < self.stop <= x.shape[0]:
            raise ProgramError(f"takes channels {self.start} to {self.stop} of {x}", where=f"op {self.out}")
        return TensorType((self.stop - self.start, *x.shape[1:]), x.type)

    def evaluate(self, *inputs: Integers) -> Integers:
        return inputs[0][:, self.start : self.stop]


OPS: dict[str, type[Op]] = {op.word: op for op in (Conv2d, Dense, Fire, Charge, Add, SumPool2d, MaxPool2d, Flatten, Concat, Slice)}


def _arity(op: Op, inputs: tuple[TensorType, ...], wanted: int) -> tuple[TensorType, ...]:
    if len(inputs) != wanted:
        raise ProgramError(f"{op.word} takes {wanted} input, got {len(inputs)}", where=f"op {op.out}")
    return inputs


def _image(op: Op, x: TensorType) -> tuple[int, int, int]:
    if len(x.shape) != 3:
        raise ProgramError(f"{op.word} takes [channels, height, width], got {x}", where=f"op {op.out}")
    return x.shape[0], x.shape[1], x.shape[2]


def _grouped(op: Op, channels: int, wanted: int, out_channels: int, groups: int) -> None:
    if groups < 1 or channels != wanted or out_channels % groups:
        raise ProgramError(f"weights for {wanted} input and {out_channels} output channels in {groups} groups, got {channels} channels", where=f"op {op.out}")


def _weights_fit(op: Op, weight: Integers, type: IntType, axes: int) -> None:
    if weight.ndim != axes or weight.size == 0:
        raise ProgramError(f"{op.word} takes weights with {axes} axes, got shape {list(weight.shape)}", where=f"op {op.out}")
    if not type.signed or not type.holds(int(weight.min()), int(weight.max())):
        raise ProgramError(f"weights from {weight.min()} to {weight.max()} do not fit {type}", where=f"op {op.out}")


def _window_size(op: Op, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise ProgramError(f"kernel {kernel}, stride {stride} and dilation {dilation} start at 1, padding {padding} at 0", where=f"op {op.out}")
    spans = [n + 2 * p - d * (k - 1) for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)]
    if min(spans) < 1:
        raise ProgramError(f"kernel {kernel} is larger than its padded input {size}", where=f"op {op.out}")
    return (spans[0] - 1) // stride[0] + 1, (spans[1] - 1) // stride[1] + 1


def _sum_type(weight: Integers, x: IntType) -> IntType:
    """The smallest type of `sum k * c` for any inputs of type `x` (zero among them, so padding changes nothing)."""
    rows = weight.reshape(len(weight), -1)
    positive, negative = rows.clip(min=0).sum(axis=1), rows.clip(max=0).sum(axis=1)
    low = min(int(p) * x.min + int(n) * x.max for p, n in zip(positive, negative, strict=True))
    high = max(int(p) * x.max + int(n) * x.min for p, n in zip(positive, negative, strict=True))
    return IntType.smallest(low, high)


def _per_channel(op: Op, x: TensorType, array: Integers, name: str) -> None:
    if array.shape != x.shape[:1]:
        raise ProgramError(f"{name} needs one integer for each of {x.shape[0]} channels, got shape {list(array.shape)}", where=f"op {op.out}")


def _charge_fits(op: Op, x: TensorType, charge: Integers, fraction_bits: int) -> Pair:
    """Lowest and highest potential; raises ProgramError when int64 cannot hold them."""
    _per_channel(op, x, charge, "charge")
    if not 0 <= fraction_bits < MAX_FRACTION_BITS:
        raise ProgramError(f"fraction_bits lies between 0 and {MAX_FRACTION_BITS - 1}, got {fraction_bits}", where=f"op {op.out}")
    low = (x.type.min << fraction_bits) + int(charge.min())
    high = (x.type.max << fraction_bits) + int(charge.max())
    if not IntType(63, signed=True).holds(low, high):
        raise ProgramError(f"the potential reaches from {low} to {high}, past int64", where=f"op {op.out}", cure="use fewer fraction bits")
    return low, high


def _along_channels(array: Integers, like: Integers) -> Integers:
    return array.reshape(1, -1, *[1] * (like.ndim - 2))


def _windows(x: Integers, kernel: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, *, fill: int) -> Integers:
    """Every window of `x [n, channels, height, width]` as `[n, channels, rows, columns, kernel rows, kernel columns]`."""
    (ph, pw), (dh, dw) = padding, dilation
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    span = (dh * (kernel[0] - 1) + 1, dw * (kernel[1] - 1) + 1)
    return sliding_window_view(padded, span, axis=(2, 3))[:, :, :: stride[0], :: stride[1], ::dh, ::dw]
