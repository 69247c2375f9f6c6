"""Exact integers at floating-point speed, on any device: sums and the digital ops, each in the fastest arithmetic proven right for its layer.

A float that holds an integer below `2**24` (float32) or `2**53` (float64) holds it exactly, and so does every partial sum below that bound,
whatever the order of summation, the number of threads or the use of fused multiply-adds. Where no float is wide enough, int64 is used.
"""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import Add, Charge, Concat, Conv2d, Dense, Flatten, MaxPool2d, Op, Slice, SumPool2d
from memspike.program import Program

_EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 53}


@contextmanager
def exact_arithmetic() -> Generator[None]:
    """Inside, torch computes float32 sums as sums of float32 products: no bfloat16 or TF32 short cuts, by whatever the caller is in, no Winograd or
    Fourier transforms.

    On CUDA cuDNN stays out of it, because it may transform; torch's own convolution is a matrix product.
    """
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.enabled
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.enabled = False
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.backends.nnpack.flags(enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.enabled = cudnn


def carrier(magnitude: int) -> torch.dtype:
    """The narrowest of float32, float64 and int64 that holds every integer up to `magnitude` exactly."""
    return next((dtype for dtype, bound in _EXACT.items() if magnitude <= bound), torch.int64)


def magnitude_of(type: IntType) -> int:
    """The largest absolute value of an integer type."""
    return max(-type.min, type.max)


def carrier_of(type: IntType) -> torch.dtype:
    """The dtype that carries values of an integer type."""
    return carrier(magnitude_of(type))


def stored(type: IntType) -> torch.dtype:
    """The dtype in which values of an integer type are kept between layers: a byte where they fit, else their carrier."""
    return (torch.int8 if type.signed else torch.uint8) if type.bits <= 8 else carrier_of(type)


def to_numpy(values: Tensor) -> Integers:
    """Integer values as int64, whatever carries them."""
    return values.to("cpu", torch.int64).numpy()


def channels_last(values: Tensor) -> Tensor:
    """Images `[n, channels, rows, columns]` as `[n, rows, columns, channels]`, contiguous; other values as they are, contiguous."""
    return (values.movedim(1, -1) if values.ndim == 4 else values).contiguous()


def channels_first(values: Tensor) -> Tensor:
    """The inverse of `channels_last`, without moving anything in memory."""
    return values.movedim(-1, 1) if values.ndim == 4 else values


def in_channels_last(images: Tensor) -> Tensor:
    """The same `[n, channels, rows, columns]` with its channels last in memory, which halves a convolution; of one channel torch has to be told."""
    if images.shape[1] > 1:
        return images.contiguous(memory_format=torch.channels_last)
    size, width = images.shape[1:].numel(), images.shape[3]
    return images.contiguous().as_strided(images.shape, (size, 1, width, 1))


def has_idle_stride(op: Conv2d, width: int) -> bool:
    """Whether rows of `width` pixels give one output each, so that the stride along them moves nothing. There some of oneDNN's kernels (3.x, in torch 2.13)
    read other pixels: those for AMX, and those in float32 for one channel laid out as the last."""
    reach = op.dilation[1] * (op.weight.shape[3] - 1) + 1
    return op.stride[1] > 1 and width + 2 * op.padding[1] < reach + op.stride[1]


def convolved(op: Conv2d, images: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Images through a convolution's window, in floats; `weight` has its channels last in memory, as the images will but where that goes wrong."""
    if has_idle_stride(op, images.shape[3]):
        images, weight = (values.clone(memory_format=torch.contiguous_format) for values in (images, weight))
    else:
        images = in_channels_last(images)
    return F.conv2d(images, weight, None, op.stride, op.padding, op.dilation, groups)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the sums of a Conv2d or Dense can be: `low` to `high`; `largest` is the greatest `sum |k|` of a channel."""

    low: int
    high: int
    largest: int


@functools.lru_cache(maxsize=8)  # asked several times of one layer, in turn
def bounds_of(op: Conv2d | Dense, x: IntType) -> Bounds:
    """The bounds of the op's sums for counts of type `x`."""
    rows = op.weight.reshape(len(op.weight), -1)
    net, gross = rows.sum(axis=1), np.abs(rows).sum(axis=1)
    # Python's integers, because a product may pass int64
    halves = [(int(total + size) // 2, int(total - size) // 2) for total, size in zip(net, gross, strict=True)]
    low, high = min(n * x.max + p * x.min for p, n in halves), max(p * x.max + n * x.min for p, n in halves)
    return Bounds(low, high, max(p - n for p, n in halves))


class Linear:
    """`acc = sum k * c` of a Conv2d or Dense: counts `[n, ...]` of type `x` in, sums `[n, ...]` out, exact; `dtype` carries the sums."""

    def __init__(self, op: Conv2d | Dense, x: IntType, device: str = "cpu") -> None:
        self.op = op
        self.dtype = carrier(magnitude_of(x) * bounds_of(op, x).largest)
        weight = torch.from_numpy(op.weight.copy()).to(device, self.dtype)
        self._weight = in_channels_last(weight) if isinstance(op, Conv2d) else weight

    def __call__(self, counts: Tensor) -> Tensor:
        op, weight = self.op, self._weight
        if isinstance(op, Dense):
            counts = counts.reshape(len(counts), -1)  # they may not have been flattened
        if self.dtype == torch.int64:  # torch has no convolution of integers; the meaning itself is the kernel
            return torch.from_numpy(op.evaluate(to_numpy(counts))).to(counts.device)
        x = counts.to(self.dtype)
        if isinstance(op, Conv2d):
            return convolved(op, x, weight, op.groups)
        if op.groups == 1:
            return F.linear(x, weight)
        grouped = torch.einsum("ngc,gkc->ngk", x.reshape(len(x), op.groups, -1), weight.reshape(op.groups, -1, weight.shape[1]))
        return grouped.reshape(len(x), -1)

    def note(self) -> str:
        """Its arithmetic, in words."""
        return f"sums exact in {str(self.dtype).removeprefix('torch.')}"


def digital(program: Program, op: Op) -> Callable[..., Tensor]:
    """An op without neurons as a function from input tensors `[n, ...]` to the output tensor `[n, ...]`, exact for every input of the right types."""
    types, out = [program.types[name].type for name in op.inputs], stored(program.types[op.out].type)
    if isinstance(op, Charge):
        charge = torch.from_numpy(op.charge.copy()).reshape(1, -1, *[1] * (len(program.types[op.out].shape) - 1))
        return lambda x: ((x.to(torch.int64) << op.fraction_bits) + charge.to(x.device)).to(out)
    dtype = _between(op, types)
    return lambda *inputs: _as(_digital(op, [_as(x, dtype) for x in inputs], types[0]), out)


def _as(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values that fit `dtype`, in it: bytes with and without a sign look the same then, and need not be copied."""
    if values.dtype == dtype:
        return values
    return values.view(dtype) if values.dtype.itemsize == dtype.itemsize == 1 else values.to(dtype)


def _between(op: Op, types: list[IntType]) -> torch.dtype:
    """The narrowest dtype, a byte if it can be, that carries the inputs of a digital op and everything it computes on the way."""
    area = op.kernel[0] * op.kernel[1] if isinstance(op, SumPool2d) else 1
    lowest, highest = (area * total if isinstance(op, Add | SumPool2d) else total for total in _reach(op, types))
    for dtype in (torch.uint8, torch.int8, torch.int16):
        held = torch.iinfo(dtype)
        if held.min <= lowest and highest <= held.max:
            return dtype
    return carrier(max(-lowest, highest))


def _reach(op: Op, types: list[IntType]) -> tuple[int, int]:
    """The least and greatest of any input, or of any sum of some of the inputs of an Add."""
    if isinstance(op, Add):
        return min(sum(min(type.min, 0) for type in types), op.type.min), max(sum(type.max for type in types), op.type.max)
    return min(type.min for type in types), max(type.max for type in types)


def _digital(op: Op, inputs: list[Tensor], type: IntType) -> Tensor:
    """What lies between layers and needs no spikes, on counts `[n, ...]` that are carried wide enough for their sum."""
    match op:
        case Add():
            if len(inputs) == 1:
                return inputs[0].clamp(op.type.min, op.type.max)
            return functools.reduce(torch.add, inputs).clamp_(op.type.min, op.type.max)
        case SumPool2d():
            return pooled(inputs[0], op, torch.add, padding=0)
        case MaxPool2d():
            return pooled(inputs[0], op, torch.maximum, padding=type.min)
        case Concat():
            return torch.cat(inputs, dim=1)
        case Slice():
            return inputs[0][:, op.start : op.stop]
        case Flatten():
            return inputs[0].reshape(len(inputs[0]), -1)
        case _:
            raise ProgramError(f"the simulator does not know {op.word}", where=f"op {op.out}")


def pooled(x: Tensor, op: SumPool2d | MaxPool2d, combine: Callable[[Tensor, Tensor], Tensor], *, padding: int) -> Tensor:
    """Combine each window, first along its rows, then along its columns; over ten times faster on a processor than torch's own pooling."""
    if any(op.padding):
        x = F.pad(x, (op.padding[1], op.padding[1], op.padding[0], op.padding[0]), value=padding)
    for axis, kernel, stride in zip((2, 3), op.kernel, op.stride, strict=True):
        shape, steps, first, step = list(x.shape), list(x.stride()), x.storage_offset(), x.stride(axis)
        shape[axis], steps[axis] = (shape[axis] - kernel) // stride + 1, step * stride
        x = functools.reduce(combine, [x.as_strided(shape, steps, first + shift * step) for shift in range(kernel)])
    return x
