"""oneDNN's products of uint8 counts and int8 weights, by torch's internal operators; nothing here is proven, `int8` does that.

A convolution has several kernels, all of them the same sums. Which is fastest is a matter of the processor's integer units, so it is measured.
"""

import copy
import math
import time
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memspike.integer import IntType
from memspike.ops import Conv2d, Dense
from memspike.simulator.floor import Line
from memspike.simulator.kernels import channels_first, channels_last

_WORDS = torch.int64, torch.int32, torch.int16, torch.uint8
_RUN = 15  # words that are worth copying at once
_TRIED = 64, 1 << 20  # images on which kernels are timed, and values in them
_ZEROS = 3  # times a convolution's products a band may have, zeros included, to be tried
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
    """A convolution without groups as a matrix product: a Product in all it does.

    Each row of the matrix is a band of the image, as high as the kernel and wide enough for `columns` neighbouring outputs; the weights hold the kernel
    once for each of them, with zeros around it. The zeros cost products, but a band is copied in fewer and longer pieces than single windows are.
    """

    def __init__(self, op: Conv2d, line: Line | None, dtype: torch.dtype, shape: tuple[int, ...], columns: int) -> None:
        self.op, self.line, self.dtype, self.columns = op, line, dtype, columns
        self._bands = Bands(op, shape, columns)
        (channels, inputs, *kernel), (dh, dw), stride = op.weight.shape, op.dilation, op.stride[1]
        weight = np.zeros((columns, channels, self._bands.high, self._bands.wide, inputs), np.int64)
        for column in range(columns):
            weight[column, :, ::dh, column * stride : column * stride + dw * (kernel[1] - 1) + 1 : dw] = op.weight.transpose(0, 2, 3, 1)
        dense = Dense(op.out, op.inputs, weight.reshape(columns * channels, -1), op.weight_type)
        repeated = line and Line(np.tile(line.slope, columns), np.tile(line.offset, columns), line.low, line.high)
        self.product = Product(dense, repeated, dtype)

    def __call__(self, counts: Tensor) -> Tensor:
        return self._bands.image(self.product(self._bands.of(counts)))

    def note(self) -> str:
        """Its arithmetic, in words."""
        return self.product.note()


class Bands:
    """Where the bands of a convolution's images lie: `rows` times `across` of them an image, each `high` times `wide` pixels."""

    def __init__(self, op: Conv2d, shape: tuple[int, ...], columns: int) -> None:
        (_, self.inputs, kernel_rows, kernel_columns), (dh, dw) = op.weight.shape, op.dilation
        self._padding, (self._down, right) = op.padding, op.stride
        self.height, self.width = shape[1] + 2 * op.padding[0], shape[2] + 2 * op.padding[1]
        self.high = dh * (kernel_rows - 1) + 1
        reach = dw * (kernel_columns - 1) + 1
        self.rows, num_columns = (self.height - self.high) // self._down + 1, (self.width - reach) // right + 1
        self.across, self.num_columns = num_columns // columns, num_columns
        self.wide, self._step = (columns - 1) * right + reach, columns * right
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

    def image(self, found: Tensor) -> Tensor:
        """What the bands gave, as images `[n, channels, rows, columns]`."""
        return channels_first(found.reshape(-1, self.rows, self.num_columns, found.shape[1] * self.across // self.num_columns))


def made(op: Conv2d | Dense, line: Line | None, dtype: torch.dtype, image: Image = None, shape: tuple[int, ...] | None = None) -> Product | Banded | None:
    """The op on the kernel that is fastest here for inputs of `shape`; None if oneDNN does not know such a layer."""
    try:
        if shape and isinstance(op, Conv2d):
            columns = _columns_at_once(op.weight.shape, op.stride, op.padding, op.dilation, op.groups, shape)
            if columns:
                return Banded(op, line, dtype, shape, columns)
        return Product(op, line, dtype, image)
    except RuntimeError:
        return None


@lru_cache(maxsize=1024)
def _columns_at_once(
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    shape: tuple[int, ...],
) -> int:
    """How many columns of outputs a band of such a convolution should have; 0 where oneDNN's convolution is faster. Measured once in a process."""
    op = Conv2d("y", ("x",), np.zeros(kernel, np.int64), IntType(2, signed=True), stride, padding, dilation, groups)
    line = Line(np.ones(kernel[0], np.float32), np.zeros(kernel[0], np.float32), 0, 1)
    number = max(1, min(_TRIED[0], _TRIED[1] // math.prod(shape)))
    images = torch.zeros(number, *shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    fastest, least = 0, math.inf
    for columns in (0, *_worth_trying(op, shape)):
        product = Banded(op, line, torch.uint8, shape, columns) if columns else Product(op, line, torch.uint8)
        product(images)  # the first call makes the kernel
        seconds = min(_seconds(product, images) for _ in range(3))
        if seconds < least:
            fastest, least = columns, seconds
    return fastest


def _worth_trying(op: Conv2d, shape: tuple[int, ...]) -> list[int]:
    """Widths of bands that divide the columns and are no waste."""
    if op.groups > 1 or op.weight[0, 0].size == 1:
        return []
    all_columns = Bands(op, shape, 1).num_columns
    found: list[int] = []
    for columns in (number for number in range(1, all_columns + 1) if all_columns % number == 0):
        bands = Bands(op, shape, columns)
        if bands.high * bands.wide <= _ZEROS * op.weight[0, 0].size and bands.bytes <= _COPIES * math.prod(shape):
            found.append(columns)
    return found


def _seconds(product: Product | Banded, images: Tensor) -> float:
    started = time.perf_counter()
    product(images)
    return time.perf_counter() - started


def is_available() -> bool:
    """Whether this build of torch has the operators for this processor."""
    names = ("qconv_prepack", "qlinear_prepack", "qconv2d_pointwise", "qlinear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(_operators(), name) for name in names)


def _operators() -> Any:
    return torch.ops.onednn
