"""Products of uint8 counts and int8 weights on the processor's integer units, the neurons in the same kernel: oneDNN's, proven layer by layer.

torch's operators for this are internal ones, so nothing is taken on trust. A layer runs here only if

* every sum is below 2**24, so that the int32 accumulator is an exact float32, and processors without VNNI, which add pairs of products
  in 16 bits, cannot saturate;
* its line (see `floor`) has a margin on both sides of every step, however the kernel rounds; and the kernel that this machine makes gives Fire's count
  just below and at every step of every channel: it is monotone, and therefore right everywhere;
* the layer itself gives the exact counts, or sums, of images that drive it to its limits.

What fails takes a slower route. Values are images with their channels last, which is how oneDNN wants them.
"""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memspike.integer import IntType
from memspike.ops import Conv2d, Dense, Fire, TensorType
from memspike.simulator.floor import Line, line_of, sums_at_steps
from memspike.simulator.kernels import Linear, bounds_of, channels_first, channels_last, to_numpy

MAX_SUM = 1 << 24
MAX_PROOF = 1 << 26  # elements of the table on which a layer's steps are tried
_INT16 = 32767
_LARGE = 127  # as weight and as count: two such products fit 16 bits
_WIDER = 3  # times its kernel an image may be for its bands to be worth their zeros
_TOGETHER = 32  # channels whose steps are tried at once


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
            self._packed = _onednn().qconv_prepack(weight.clone(memory_format=torch.channels_last), self._scale, 1.0, 0, *self._window, None)
        else:
            if image is not None:
                weight = channels_last(weight.reshape(channels, *image)).reshape(channels, -1)
            self._packed = _onednn().qlinear_prepack(weight, None)

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
            return _onednn().qconv2d_pointwise(x, 1.0, 0, self._packed, *given, *self._window, 1.0, 0, self.dtype, *self._post)
        x = channels_last(counts).reshape(len(counts), -1)
        return _onednn().qlinear_pointwise(x, 1.0, 0, self._packed, *given, 1.0, 0, self.dtype, *self._post)

    def note(self) -> str:
        """Its arithmetic, in words."""
        return "sums of int8 products"


class Banded:
    """A convolution as a matrix product of bands of the image's rows, `[n * rows, kernel rows * columns * channels]`: a Product in all it does.

    A band's matrix holds a kernel at every column, with zeros around it. Where the kernel is nearly as wide as the image, or there is but one channel, which
    oneDNN's convolution pads to four, these zeros cost less than that convolution does.
    """

    def __init__(self, op: Conv2d, line: Line | None, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        self.op, self.line, self.dtype = op, line, dtype
        (channels, inputs, *kernel), (ph, pw), (dh, dw), (sh, sw) = op.weight.shape, op.padding, op.dilation, op.stride
        self._height, self._width, high = shape[1] + 2 * ph, shape[2] + 2 * pw, dh * (kernel[0] - 1) + 1
        self._rows, self._columns = (self._height - high) // sh + 1, (self._width - dw * (kernel[1] - 1) - 1) // sw + 1
        weight = np.zeros((self._columns, channels, high, self._width, inputs), np.int64)
        for column in range(self._columns):
            weight[column, :, ::dh, column * sw : column * sw + dw * (kernel[1] - 1) + 1 : dw] = op.weight.transpose(0, 2, 3, 1)
        dense = Dense(op.out, op.inputs, weight.reshape(self._columns * channels, -1), op.weight_type)
        wide = line and Line(np.tile(line.slope, self._columns), np.tile(line.offset, self._columns), line.low, line.high)
        self._product = Product(dense, wide, dtype)

    @staticmethod
    def suits(op: Conv2d | Dense, shape: tuple[int, ...]) -> bool:
        """Whether the op is such a convolution; measured for LeNet, both of whose convolutions it halves, and for kernels of 3 x 3, which it slows."""
        if not isinstance(op, Conv2d) or op.groups > 1 or op.weight[0, 0].size < 16:
            return False
        return op.weight.shape[1] == 1 or shape[2] + 2 * op.padding[1] <= _WIDER * op.weight.shape[3]

    def __call__(self, counts: Tensor) -> Tensor:
        (ph, pw), (number, inputs) = self.op.padding, counts.shape[:2]
        image = channels_last(F.pad(counts, (pw, pw, ph, ph)) if ph or pw else counts)
        row, length = self._width * inputs, self._product.op.weight.shape[1]
        bands = image.as_strided((number, self._rows, length), (self._height * row, self.op.stride[0] * row, 1)).reshape(-1, length)
        return channels_first(self._product(bands).reshape(number, self._rows, self._columns, -1))

    def note(self) -> str:
        """Its arithmetic, in words."""
        return self._product.note()


def is_available() -> bool:
    """Whether this build of torch has the operators for this processor."""
    names = ("qconv_prepack", "qlinear_prepack", "qconv2d_pointwise", "qlinear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(_onednn(), name) for name in names)


def fits(op: Conv2d | Dense, x: IntType) -> bool:
    """Whether the op's sums of counts of type `x` are exact on every integer unit that this processor may have."""
    largest = int(np.abs(op.weight).max())
    if x.signed or x.bits > 8 or op.weight.min() < -128 or op.weight.max() > 127 or (isinstance(op, Dense) and op.groups > 1):
        return False
    return bounds_of(op, x).largest * x.max < MAX_SUM and (2 * largest * x.max <= _INT16 or _has_vnni())


def sums(op: Conv2d | Dense, x: TensorType, image: Image = None) -> Product | Banded | None:
    """The op's sums of counts `x`, if they are proven; `image` is the shape before a Flatten that the product undoes."""
    if not (is_available() and fits(op, x.type) and _is_ordinary(op, x)):
        return None
    product = _made(op, None, torch.float32, image, x.shape)
    return product if product and _agrees(product, x, image, None) else None


def counts(
    op: Conv2d | Dense, x: TensorType, fire: Fire, low: int, high: int, image: Image = None, dtype: torch.dtype | None = None
) -> Product | Banded | None:
    """The counts, clipped to `low` to `high`, that Fire makes of the op's sums of counts `x`, if they are proven; int8 if any is negative, else uint8."""
    dtype = dtype or (torch.int8 if low < 0 else torch.uint8)
    if low < torch.iinfo(dtype).min or high > torch.iinfo(dtype).max or not (is_available() and fits(op, x.type) and _is_ordinary(op, x)):
        return None
    bounds = bounds_of(op, x.type)
    line = line_of(fire, low, high, bounds.low, bounds.high, torch.float32, to_nearest=True)
    if line is None or not _steps_hold(op, x.type, fire, line, dtype):
        return None
    product = _made(op, line, dtype, image, x.shape)
    return product if product and _agrees(product, x, image, fire) else None


def _is_ordinary(op: Conv2d | Dense, x: TensorType) -> bool:
    """Whether no window of a convolution can lie in the padding alone: there oneDNN's kernels (3.x, in torch 2.13) read outside the image and may crash."""
    if isinstance(op, Dense):
        return True
    reach = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(op.weight.shape[2:], op.dilation, strict=True)]
    return all(padding == 0 or (2 * padding < size and size <= side) for padding, size, side in zip(op.padding, reach, x.shape[1:], strict=True))


def _made(op: Conv2d | Dense, line: Line | None, dtype: torch.dtype, image: Image = None, shape: tuple[int, ...] | None = None) -> Product | Banded | None:
    try:
        return Banded(op, line, dtype, shape) if shape and isinstance(op, Conv2d) and Banded.suits(op, shape) else Product(op, line, dtype, image)
    except RuntimeError:  # a layer that oneDNN does not know; it runs without
        return None


def _steps_hold(op: Conv2d | Dense, x: IntType, fire: Fire, line: Line, dtype: torch.dtype) -> bool:
    """Try the line in this machine's kernel on every sum next to a step of each channel.

    The kernel gets inputs of its own for each channel, from whose weights any sum can be put together; these saturate nowhere either.
    """
    bounds, channels = bounds_of(op, x), len(op.weight)
    wanted = sums_at_steps(fire, line.low, line.high, bounds.low, bounds.high)
    ways = -(-int(np.abs(wanted).max()) // _LARGE**2)
    if wanted.size * _TOGETHER * 2 * (ways + 1) > MAX_PROOF:
        return False
    whole, rest = np.divmod(np.abs(wanted), _LARGE)
    inputs = np.concatenate([np.clip(whole[..., None] - _LARGE * np.arange(ways), 0, _LARGE), rest[..., None]], axis=2)
    inputs = np.concatenate([np.where(side[..., None], inputs, 0) for side in (wanted > 0, wanted < 0)], axis=2).astype(np.uint8)
    weight = np.kron(np.eye(_TOGETHER, dtype=np.int64), np.concatenate([[_LARGE] * ways, [1], [-_LARGE] * ways, [-1]]))
    is_image = isinstance(op, Conv2d)
    probe = Conv2d(op.out, op.inputs, weight[:, :, None, None], op.weight_type) if is_image else Dense(op.out, op.inputs, weight, op.weight_type)
    meant = replace(fire, type=IntType(63, signed=True)).evaluate(wanted.T).clip(line.low, line.high)
    product = None
    for start in range(0, channels, _TOGETHER):
        part = np.minimum(np.arange(start, start + _TOGETHER), channels - 1)  # the last channel again, where there are no more
        own = replace(line, slope=line.slope[part], offset=line.offset[part])
        product = product.with_line(own) if isinstance(product, Product) else _made(probe, own, dtype)
        if product is None:
            return False
        rows = inputs[part].transpose(1, 0, 2).reshape(wanted.shape[1], -1)
        if is_image:
            rows = np.pad(rows, ((0, -len(rows) % 64), (0, 0))).reshape(-1, 8, 8, rows.shape[1])  # pixels, along which the kernel's inner loop runs
        got = channels_last(product(channels_first(torch.from_numpy(rows)))).reshape(-1, _TOGETHER)[: len(meant)]
        if not np.array_equal(to_numpy(got), meant[:, part]):
            return False
    return True


def _agrees(product: Product | Banded, x: TensorType, image: Image, fire: Fire | None) -> bool:
    """Whether the layer gives what slower arithmetic gives: on counts at random, on all at their most, and where they raise some channel most."""
    op, line, most = product.op, product.line, x.type.max
    images = np.full((4, *x.shape), most, np.uint8)
    images[0] = np.random.default_rng(0).integers(0, most + 1, x.shape)
    raising = op.weight.reshape(op.groups, -1, op.weight.shape[1], op.weight[0, 0].size).sum(axis=3) > 0  # [groups, channels, inputs]
    for number in (2, 3):
        images[number] *= raising[:, number % raising.shape[1]].reshape(-1, *[1] * (len(x.shape) - 1))
    given = torch.from_numpy(images)
    meant = to_numpy(Linear(op, x.type)(given))
    if fire is not None and line is not None:
        meant = replace(fire, type=IntType(63, signed=True)).evaluate(meant).clip(line.low, line.high)
    return np.array_equal(to_numpy(product(given if image is None else given.reshape(-1, *image))), meant)


def _has_vnni() -> bool:
    """Whether products of bytes are added in 32 bits; unknown counts as no."""
    found = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(found and found())


def _onednn() -> Any:
    return torch.ops.onednn
