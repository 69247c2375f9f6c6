"""Exact integers at floating-point speed: sums, floors and the digital ops, each in the fastest arithmetic proven right for its layer.

A float that holds an integer below `2**24` (float32) or `2**53` (float64) holds it exactly, and so does every partial sum below that bound,
whatever the order of summation, the number of threads or the use of fused multiply-adds. Where no float is wide enough, int64 is used.
"""

import functools
from collections.abc import Callable, Generator, Set
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import Add, Charge, Concat, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, Slice, SumPool2d
from memspike.program import Program

MAX_BREAKPOINTS = 1 << 22  # beyond this many a table costs more than dividing
_EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 53}
# How far one rounding may move a result, relative to it; float64 is checked in float64 itself, whose own roundings take the factor 4.
_ROUNDING = {torch.float32: 1.01 * 2.0**-24, torch.float64: 4 * 2.0**-53}


@contextmanager
def exact_arithmetic() -> Generator[None]:
    """Inside, torch computes float32 sums as sums of float32 products: no bfloat16 or TF32 short cuts, no Winograd transforms."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def carrier(magnitude: int) -> torch.dtype:
    """The narrowest of float32, float64 and int64 that holds every integer up to `magnitude` exactly."""
    return next((dtype for dtype, bound in _EXACT.items() if magnitude <= bound), torch.int64)


def magnitude_of(type: IntType) -> int:
    """The largest absolute value of an integer type."""
    return max(-type.min, type.max)


def carrier_of(type: IntType) -> torch.dtype:
    """The dtype that carries values of an integer type."""
    return carrier(magnitude_of(type))


def to_numpy(values: Tensor) -> Integers:
    """Integer values as int64, whatever carries them."""
    return values.to(torch.int64).numpy()


def total(values: Tensor, magnitude: int, dim: int | None = None) -> Tensor:
    """The sum of absolute values of integers up to `magnitude`, over all elements or along `dim`, exact."""
    dtype = carrier(magnitude * (values.numel() if dim is None else values.shape[dim]))
    return values.abs().sum(dtype=dtype) if dim is None else values.abs().sum(dim=dim, dtype=dtype)


class Linear:
    """`acc = sum k * c` of a Conv2d or Dense: counts `[n, ...]` in, sums `[n, ...]` out, exact for counts up to `magnitude`.

    `dtype` carries the sums; `low` and `high` bound them for counts of the type `x`, `largest` is the greatest `sum |k|` of a channel.
    """

    def __init__(self, op: Conv2d | Dense, x: IntType, magnitude: int) -> None:
        self.op = op
        rows = op.weight.reshape(len(op.weight), -1)
        plus, minus = ([int(total) for total in half.sum(axis=1)] for half in (rows.clip(min=0), rows.clip(max=0)))
        self.low = min(n * x.max + p * x.min for p, n in zip(plus, minus, strict=True))
        self.high = max(p * x.max + n * x.min for p, n in zip(plus, minus, strict=True))
        self.largest = max(p - n for p, n in zip(plus, minus, strict=True))
        self.dtype = carrier(magnitude * self.largest)
        self._weight = torch.from_numpy(op.weight.copy()).to(self.dtype)

    def __call__(self, counts: Tensor) -> Tensor:
        op, weight = self.op, self._weight
        if self.dtype == torch.int64:  # torch has no convolution of integers; the meaning itself is the kernel
            return torch.from_numpy(op.evaluate(to_numpy(counts)))
        x = counts.to(self.dtype)
        if isinstance(op, Conv2d):
            return F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, op.groups)
        if op.groups == 1:
            return F.linear(x, weight)
        grouped = torch.einsum("ngc,gkc->ngk", x.reshape(len(x), op.groups, -1), weight.reshape(op.groups, -1, weight.shape[1]))
        return grouped.reshape(len(x), -1)


class Floor:
    """`y = clip(floor((acc * 2**f + charge) / threshold), low, high)` per channel, for sums from `acc_low` to `acc_high`.

    The value climbs in steps: `y >= n` exactly from `acc = b[n] = ceil((n * threshold - charge) / 2**f)` on. `floor(acc * a + b)` in floats
    climbs too (rounding keeps order), so it is right everywhere if it is right just below and at every step. `_line` looks for such a line and
    proves it with a margin that covers every way the hardware may round, fused or not; without one, int64 divides.
    """

    def __init__(self, fire: Fire, low: int, high: int, acc_low: int, acc_high: int, axes: int) -> None:
        self.low, self.high, self.fraction_bits = low, high, fire.fraction_bits
        self._shape = (1, -1, *[1] * (axes - 1))
        self.threshold, self.charge = self._per_channel(fire.threshold), self._per_channel(fire.charge)
        self.dtype, lines = torch.int64, None
        for dtype in _EXACT:
            lines = _line(fire, low, high, acc_low, acc_high, dtype) if max(-acc_low, acc_high) <= _EXACT[dtype] else None
            if lines:
                self.dtype = dtype
                self._slope, self._offset = (self._per_channel(array).to(dtype) for array in lines)
                break

    def __call__(self, acc: Tensor) -> Tensor:
        """Counts `[n, ...]` of sums `[n, ...]`, carried by float32 where they fit."""
        if self.dtype == torch.int64:
            potential = (acc.to(torch.int64) << self.fraction_bits) + self.charge
            quotient = torch.div(potential, self.threshold, rounding_mode="floor").clamp_(self.low, self.high)
            return quotient.to(carrier(max(-self.low, self.high)))
        # two passes with one broadcast operand each run vectorised; one fused pass would not
        counts = torch.mul(acc.to(self.dtype), self._slope).add_(self._offset).floor_().clamp_(self.low, self.high)
        return counts.to(carrier(max(-self.low, self.high)))

    def _per_channel(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array.copy()).reshape(self._shape)


def step(program: Program, op: Op) -> Callable[..., Tensor]:
    """The op as a function from input tensors `[n, ...]` to the output tensor `[n, ...]`, exact for every input of the right types."""
    types, out = [program.types[name].type for name in op.inputs], program.types[op.out].type
    if isinstance(op, Conv2d | Dense):
        return Linear(op, types[0], magnitude_of(types[0]))
    if isinstance(op, Fire):
        return Floor(op, op.type.min, op.type.max, types[0].min, types[0].max, axes=len(program.types[op.out].shape))
    if isinstance(op, Charge):
        return lambda x: torch.from_numpy(op.evaluate(to_numpy(x))).to(carrier_of(out))
    area = op.kernel[0] * op.kernel[1] if isinstance(op, SumPool2d) else 1
    dtype = carrier(area * sum(magnitude_of(type) for type in types))
    return lambda *inputs: _digital(op, [x.to(dtype) for x in inputs], types[0]).to(carrier_of(out))


def walk(program: Program, images: Tensor, compute: Callable[[Op, list[Tensor]], dict[str, Tensor]], keep: Set[str]) -> dict[str, Tensor]:
    """Run the ops in order, `compute` giving one op's values from its inputs; returns the values named in `keep` and forgets the others early."""
    last_reader = {name: op.out for op in program.ops for name in op.inputs}
    values = {program.input: images}
    for op in program.ops:
        if op.out not in values:
            values |= compute(op, [values[name] for name in op.inputs])
        for name in set(op.inputs) - keep:
            if last_reader[name] == op.out:
                del values[name]
    return {name: value for name, value in values.items() if name in keep}


def _digital(op: Op, inputs: list[Tensor], type: IntType) -> Tensor:
    """What lies between layers and needs no spikes, on counts `[n, ...]` that are carried wide enough for their sum."""
    match op:
        case Add():
            return torch.stack(inputs).sum(dim=0).clamp_(op.type.min, op.type.max)
        case SumPool2d():
            return _pooled(inputs[0], op, torch.add, padding=0)
        case MaxPool2d():
            return _pooled(inputs[0], op, torch.maximum, padding=type.min)
        case Concat():
            return torch.cat(inputs, dim=1)
        case Slice():
            return inputs[0][:, op.start : op.stop]
        case Flatten():
            return inputs[0].reshape(len(inputs[0]), -1)
        case _:
            raise ProgramError(f"the simulator does not know {op.word}", where=f"op {op.out}")


def _pooled(x: Tensor, op: SumPool2d | MaxPool2d, combine: Callable[[Tensor, Tensor], Tensor], *, padding: int) -> Tensor:
    """Combine each window, first along its rows, then along its columns; over ten times faster on a processor than torch's own pooling."""
    x = F.pad(x, (op.padding[1], op.padding[1], op.padding[0], op.padding[0]), value=padding)
    for axis, kernel, stride in zip((2, 3), op.kernel, op.stride, strict=True):
        places = x.shape[axis] - kernel + 1
        shifted = (x.narrow(axis, shift, places)[(..., slice(None, None, stride), *[slice(None)] * (3 - axis))] for shift in range(kernel))
        x = functools.reduce(combine, shifted)
    return x


def _line(fire: Fire, low: int, high: int, acc_low: int, acc_high: int, dtype: torch.dtype) -> tuple[NDArray[np.floating], NDArray[np.floating]] | None:
    """Slope and offset per channel such that `floor(acc * slope + offset)`, clipped, is the count at every sum; None when no margin is left."""
    threshold, charge, scale = fire.threshold[:, None], fire.charge[:, None], 1 << fire.fraction_bits
    largest = max(abs(low), abs(high)) * int(threshold.max()) + int(np.abs(charge).max()) + scale
    if (high - low) * len(threshold) > MAX_BREAKPOINTS or largest >= 1 << 62:
        return None
    n = np.arange(low + 1, high + 1)[None, :]
    climb = n * threshold - charge
    steps = -(-climb >> fire.fraction_bits)
    slack = ((steps << fire.fraction_bits) - climb) / scale  # how far beyond its exact place each step is first seen, in 0 <= slack < 1
    is_seen = (steps > acc_low) & (steps <= acc_high)
    least, most = slack.min(axis=1, where=is_seen, initial=1.0), slack.max(axis=1, where=is_seen, initial=0.0)
    shift = np.where(is_seen.any(axis=1), (1.0 - most - least) / 2, 0.5)  # the line half-way between the closest misses on both sides
    real = np.float32 if dtype == torch.float32 else np.float64
    slope = (scale / fire.threshold).astype(real)
    offset = ((fire.charge / scale + shift) * (scale / fire.threshold)).astype(real)
    a, b = slope.astype(np.float64)[:, None], offset.astype(np.float64)[:, None]

    def between(acc: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and highest float that `acc * slope + offset` may give: the product and the sum each rounded, or both at once."""
        error = _ROUNDING[dtype] * (np.abs(acc * a) + np.abs(acc * a + b)) + 1e-30
        return acc * a + b - error, acc * a + b + error

    reached, _ = between(np.maximum(steps, acc_low))
    _, below = between(np.minimum(steps - 1, acc_high))
    is_right = ((reached >= n) | (steps > acc_high)) & ((below < n) | (steps <= acc_low))
    return (slope, offset) if is_right.all() else None
