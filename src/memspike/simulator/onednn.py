"""oneDNN's products of uint8 counts and int8 weights, by torch's internal operators; nothing here is proven, `int8` does that.

A convolution has several kernels, all of them the same sums. Which is fastest is a matter of the processor's integer units, so it is measured.
"""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memspike.integer import IntType
from memspike.ops import Conv2d, Dense, MaxPool2d, Pair
from memspike.simulator.floor import Line
from memspike.simulator.kernels import channels_first, channels_last, pooled
from memspike.simulator.reductions import maxima

_WORDS = torch.int64, torch.int32, torch.int16, torch.uint8
_RUN = 15  # words that are worth copying at once
_TRIED = 256, 1 << 20, 1 << 22  # images on which kernels are timed, values in them, and outputs of them
_ZEROS = 3  # times a convolution's products a band may have, zeros included, to be tried
_FREE = 192  # products of an output that hide behind the making of its count
_COPIES = 16  # times its image a convolution's bands may take in memory
Image = tuple[int, ...] | None


class Product:
    """`sum k * c` of a Conv2d or Dense, float32 `[n, ...]`; with a line, the counts that it makes of the sums, in int8 or uint8.

    Takes uint8 counts `[n, ...]`. With `image` a Dense reads images `[n, *image]`, as if they had been flattened.
    """

    def __init__(self, op: Conv2d | Dense, line: Line | None = None, dtype: torch.dtype = torch.float32, image: Image = None) -> None:
        self.op, self.dtype, channels = op, dtype, len(op.weight)
        self._zeros = torch.zeros(channels, dtype=torch.int32)
        self._take(line)
        weight = torch.from_numpy(op.weight.astype(np.int8))
        if isinstance(op, Conv2d):
            self._window = (list(op.stride), list(op.padding), list(op.dilation), op.groups)
            # a clone, because with one channel torch takes any layout for this one and oneDNN does not
            self._packed = _operators().qconv_prepack(weight.clone(memory_format=torch.channels_last), self._scale, 1.0, 0, *self._window, None)
        else:
            if image is not None:
                weight = channels_last(weight.reshape(channels, *image)).reshape(channels, -1)
            self._packed = _operators().qlinear_prepack(weight, None)

    def with_line(self, line: Line) -> "Product":
        """The same product, other counts made of its sums; its weights are packed already."""
        other = copy.copy(self)
        other._take(line)
        return other

    def _take(self, line: Line | None) -> None:
        self.line = line
        self._scale = torch.ones(len(self.op.weight)) if line is None else torch.from_numpy(line.slope.astype(np.float32))
        self._bias = None if line is None else torch.from_numpy(line.offset.astype(np.float32))
        self._post = ("none", [], "") if line is None else ("hardtanh", [float(line.low), float(line.high)], "")

    def __call__(self, counts: Tensor) -> Tensor:
        given = (self._scale, self._zeros, self._bias)
        if isinstance(self.op, Conv2d):
            x = counts.contiguous(memory_format=torch.channels_last)
            return _operators().qconv2d_pointwise(x, 1.0, 0, self._packed, *given, *self._window, 1.0, 0, self.dtype, *self._post)
        x = channels_last(counts).reshape(len(counts), -1)
        return _operators().qlinear_pointwise(x, 1.0, 0, self._packed, *given, 1.0, 0, self.dtype, *self._post)

    def note(self) -> str:
        """Its arithmetic, in words."""
        return "sums of int8 products"


class Banded:
    """A convolution without groups as a matrix product, and the largest value of each window of `pool` outputs: else a Product in all it does.

    Each row of the matrix is a band of the image, high and wide enough for `columns` neighbouring windows of outputs; the weights hold the kernel once
    for each output, with zeros around it. The zeros cost products, but a band is copied in fewer and longer pieces than single windows are. The outputs
    are ordered by their place in their window first, so that a maximum reads long pieces too.
    """

    def __init__(self, op: Conv2d, line: Line | None, dtype: torch.dtype, shape: tuple[int, ...], columns: int, pool: Pair = (1, 1)) -> None:
        self.op, self.line, self.dtype, self.columns, self.pool = op, line, dtype, columns, pool
        self._bands = Bands(op, shape, columns, pool)
        (channels, inputs, *kernel), (dh, dw), (down, right) = op.weight.shape, op.dilation, op.stride
        weight = np.zeros((*pool, columns, channels, self._bands.high, self._bands.wide, inputs), np.int64)
        for row, shift, column in np.ndindex(*pool, columns):
            top, left = row * down, (column * pool[1] + shift) * right
            window = weight[row, shift, column, :, top : top + dh * (kernel[0] - 1) + 1 : dh, left : left + dw * (kernel[1] - 1) + 1 : dw]
            window[:] = op.weight.transpose(0, 2, 3, 1)
        self._area, outputs = math.prod(pool), math.prod(pool) * columns
        dense = Dense(op.out, op.inputs, weight.reshape(outputs * channels, -1), op.weight_type)
        repeated = line and Line(np.tile(line.slope, outputs), np.tile(line.offset, outputs), line.low, line.high)
        self.product = Product(dense, repeated, dtype)

    def __call__(self, counts: Tensor) -> Tensor:
        return self.pooled(self.all(counts))[0]

    def all(self, counts: Tensor) -> Tensor:
        """Every output of images `[n, ...]`, before any maximum, as bands `[n * rows * across, area of the pool, ...]`."""
        found = self.product(self._bands.of(counts))
        return found.view(len(found), self._area, -1)

    def pooled(self, found: Tensor) -> tuple[Tensor, int | None]:
        """The largest of each window of what `all` gave, as images `[n, channels, rows, columns]`; and the sum of it all, where `maxima` takes it."""
        largest, total = (found, None) if self._area == 1 else maxima(found)
        return self._bands.image(largest, len(self.op.weight)), total

    def note(self) -> str:
        """Its arithmetic, in words."""
        return self.product.note()


class Bands:
    """Where the bands of a convolution's images lie: `rows` times `across` of them an image, each `high` times `wide` pixels, for `columns` of the
    `num_columns` windows of `pool` outputs in a row."""

    def __init__(self, op: Conv2d, shape: tuple[int, ...], columns: int, pool: Pair = (1, 1)) -> None:
        (_, self.inputs, *kernel), self._padding, outputs = op.weight.shape, op.padding, (pool[0], columns * pool[1])
        self.height, self.width = (side + 2 * padding for side, padding in zip(shape[1:], op.padding, strict=True))
        reach = [dilation * (length - 1) + 1 for dilation, length in zip(op.dilation, kernel, strict=True)]
        self._down, self._step = (number * stride for number, stride in zip(outputs, op.stride, strict=True))
        self.high, self.wide = ((number - 1) * stride + length for number, stride, length in zip(outputs, op.stride, reach, strict=True))
        self.rows = ((self.height - reach[0]) // op.stride[0] + 1) // pool[0]
        self.num_columns = ((self.width - reach[1]) // op.stride[1] + 1) // pool[1]
        self.across = self.num_columns // columns
        # bytes are copied in the longest words that begin where rows, bands and their steps do
        self._word = next(dtype for dtype in _WORDS if all(length * self.inputs % dtype.itemsize == 0 for length in (self.width, self.wide, self._step)))
        self.bytes = self.rows * self.across * self.high * self.wide * self.inputs  # of an image's bands

    def of(self, counts: Tensor) -> Tensor:
        """The bands `[n * rows * across, high * wide * inputs]` of images."""
        (ph, pw), number, word = self._padding, len(counts), self._word.itemsize
        image = channels_last(F.pad(counts, (pw, pw, ph, ph)) if ph or pw else counts).view(number, -1).view(self._word)
        row, band, step = (length * self.inputs // word for length in (self.width, self.wide, self._step))
        if band == row or band >= _RUN:
            bands = image.as_strided((number, self.rows, self.across, self.high, band), (self.height * row, self._down * row, step, row, 1))
        else:  # first strips of the image, as wide as a band: what lies below each other in a strip lies together
            strips = image.as_strided((number, self.across, self.height, band), (self.height * row, step, row, 1)).contiguous()
            strip = self.height * band
            bands = strips.as_strided((number, self.rows, self.across, self.high * band), (self.across * strip, self._down * band, strip, 1))
        return bands.contiguous().view(torch.uint8).view(-1, self.high * band * word)

    def image(self, found: Tensor, channels: int) -> Tensor:
        """What the bands gave, as images `[n, channels, rows, columns]`."""
        return channels_first(found.view(-1, self.rows, self.num_columns, channels))


def made(op: Conv2d | Dense, line: Line | None, dtype: torch.dtype, image: Image, shape: tuple[int, ...], pool: Pair = (1, 1)) -> Iterator[Product | Banded]:
    """The op on the kernel that is fastest here for inputs of `shape`, and on the fastest of the other kind; nothing if oneDNN does not know such a layer.

    With `pool` a maximum over such windows comes next, which some kernels take themselves (`Banded.pool`).
    """
    with suppress(RuntimeError):
        if isinstance(op, Dense):
            yield Product(op, line, dtype, image)
            return
        for columns, taken in _fastest(op.weight.shape, op.stride, op.padding, op.dilation, op.groups, shape, pool):
            yield Banded(op, line, dtype, shape, columns, taken) if columns else Product(op, line, dtype)


@lru_cache(maxsize=1024)
def _fastest(
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    shape: tuple[int, ...],
    pool: Pair,
) -> list[tuple[int, Pair]]:
    """For how many columns a band of such a convolution should be, 0 for oneDNN's convolution, and the pool that it takes itself, where `pool` comes next;
    the fastest way first, then the fastest of the other kind. Measured once in a process."""
    op = Conv2d("y", ("x",), np.zeros(kernel, np.int64), IntType(2, signed=True), stride, padding, dilation, groups)
    line = Line(np.ones(kernel[0], np.float32), np.zeros(kernel[0], np.float32), 0, 1)
    outputs = Bands(op, shape, 1)
    number = max(1, min(_TRIED[0], _TRIED[1] // math.prod(shape), _TRIED[2] // (kernel[0] * outputs.rows * outputs.num_columns)))
    images = torch.zeros(number, *shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    ways = [(0, (1, 1)), *((columns, taken) for taken in dict.fromkeys([(1, 1), pool]) for columns in _worth_trying(op, shape, taken))]
    seconds: dict[tuple[int, Pair], float] = {}
    for columns, taken in ways:
        product = Banded(op, line, torch.uint8, shape, columns, taken) if columns else Product(op, line, torch.uint8)
        left = None if taken == pool else MaxPool2d("z", ("y",), pool, pool)
        _seconds(product, images, left)  # the first call makes the kernel
        seconds[columns, taken] = min(_seconds(product, images, left) for _ in range(3))
    first, *others = sorted(ways, key=seconds.__getitem__)
    return [first, *[way for way in others if bool(way[0]) != bool(first[0])][:1]]


def _worth_trying(op: Conv2d, shape: tuple[int, ...], pool: Pair = (1, 1)) -> list[int]:
    """Widths of bands that divide the columns and are no waste."""
    if op.groups > 1 or op.weight[0, 0].size == 1:
        return []
    all_columns = Bands(op, shape, 1, pool).num_columns
    found: list[int] = []
    for columns in (number for number in range(1, all_columns + 1) if all_columns % number == 0):
        bands = Bands(op, shape, columns, pool)
        if bands.high * bands.wide * bands.inputs <= max(_FREE, _ZEROS * op.weight[0].size) and bands.bytes <= _COPIES * math.prod(shape):
            found.append(columns)
    return found


def _seconds(product: Product | Banded, images: Tensor, pool: MaxPool2d | None) -> float:
    started = time.perf_counter()
    found = product(images)
    if pool:
        pooled(found, pool, torch.maximum, padding=0)
    return time.perf_counter() - started


def is_available() -> bool:
    """Whether this build of torch has the operators for this processor."""
    names = ("qconv_prepack", "qlinear_prepack", "qconv2d_pointwise", "qlinear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(_operators(), name) for name in names)


def _operators() -> Any:
    return torch.ops.onednn
