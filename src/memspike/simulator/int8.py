"""Products of uint8 counts and int8 weights on the processor's integer units, the neurons in the same kernel: oneDNN's, proven layer by layer.

torch's operators for this are internal ones, so nothing is taken on trust. A layer runs here only if

* every sum is below 2**24, so that the int32 accumulator is an exact float32, and processors without VNNI, which add pairs of products
  in 16 bits, cannot saturate;
* its line (see `floor`) has a margin on both sides of every step, however the kernel rounds; and the kernel that this machine makes gives Fire's count
  just below and at every step of every channel: it is monotone, and therefore right everywhere;
* the layer itself gives the exact counts, or sums, of images that drive it to its limits.

What fails takes a slower route. Values are images with their channels last, which is how oneDNN wants them.
"""

from dataclasses import replace

import numpy as np
import torch

from memspike.integer import IntType
from memspike.ops import Conv2d, Dense, Fire, MaxPool2d, Pair, TensorType
from memspike.simulator.floor import line_of, sums_at_steps
from memspike.simulator.kernels import Linear, bounds_of, channels_first, channels_last, has_idle_stride, to_numpy
from memspike.simulator.onednn import Banded, Image, Product, is_available, made

MAX_SUM = 1 << 24
MAX_PROOF = 1 << 26  # elements of the table on which a layer's steps are tried
_INT16 = 32767
_LARGE = 127  # as weight and as count: two such products fit 16 bits
_TOGETHER = 32  # channels whose steps are tried at once


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
    products = made(op, None, torch.float32, image, x.shape)
    return next((product for product in products if _agrees(product, x, image, None)), None)


def counts(op: Conv2d | Dense, x: TensorType, fire: Fire, low: int, high: int, image: Image = None, pool: Pair = (1, 1)) -> Product | Banded | None:
    """The counts, clipped to `low` to `high`, that Fire makes of the op's sums of counts `x`, if they are proven; int8 if any is negative, else uint8.

    Where that is faster, also the largest count of each window of `pool` outputs; `Banded.pool` says so.
    """
    dtype = torch.int8 if low < 0 else torch.uint8
    if low < torch.iinfo(dtype).min or high > torch.iinfo(dtype).max or not (is_available() and fits(op, x.type) and _is_ordinary(op, x)):
        return None
    bounds = bounds_of(op, x.type)
    line = line_of(fire, low, high, bounds.low, bounds.high, torch.float32, to_nearest=True)
    products = made(op, line, dtype, image, x.shape, pool) if line else ()
    return next((product for product in products if _steps_hold(product, x.type, fire) and _agrees(product, x, image, fire)), None)


def _is_ordinary(op: Conv2d | Dense, x: TensorType) -> bool:
    """Whether a convolution keeps clear of what oneDNN's kernels (3.x, in torch 2.13) get wrong on some images, unseen by a few tries.

    Where a window can lie in the padding alone they read outside the image and may crash.
    """
    if isinstance(op, Dense):
        return True
    reach = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(op.weight.shape[2:], op.dilation, strict=True)]
    inside = all(padding == 0 or (2 * padding < size and size <= side) for padding, size, side in zip(op.padding, reach, x.shape[1:], strict=True))
    return inside and not has_idle_stride(op, x.shape[2])


def _steps_hold(product: Product | Banded, x: IntType, fire: Fire) -> bool:
    """Try the product's line in the kernel it uses on this machine, on every sum next to a step of each channel.

    The kernel gets inputs of its own for each channel, from whose weights any sum can be put together; these saturate nowhere either.
    """
    op, line = product.op, product.line
    assert line is not None
    bounds, channels = bounds_of(op, x), len(op.weight)
    wanted = sums_at_steps(fire, line.low, line.high, bounds.low, bounds.high)
    ways = -(-int(np.abs(wanted).max()) // _LARGE**2)
    if wanted.size * _TOGETHER * 2 * (ways + 1) > MAX_PROOF:
        return False
    whole, rest = np.divmod(np.abs(wanted), _LARGE)
    inputs = np.concatenate([np.clip(whole[..., None] - _LARGE * np.arange(ways), 0, _LARGE), rest[..., None]], axis=2)
    inputs = np.concatenate([np.where(side[..., None], inputs, 0) for side in (wanted > 0, wanted < 0)], axis=2).astype(np.uint8)
    weight = np.kron(np.eye(_TOGETHER, dtype=np.int64), np.concatenate([[_LARGE] * ways, [1], [-_LARGE] * ways, [-1]]))
    is_image = isinstance(op, Conv2d) and isinstance(product, Product)
    probe = Conv2d(op.out, op.inputs, weight[:, :, None, None], op.weight_type) if is_image else Dense(op.out, op.inputs, weight, op.weight_type)
    meant = replace(fire, type=IntType(63, signed=True)).evaluate(wanted.T).clip(line.low, line.high)
    tried = None
    for start in range(0, channels, _TOGETHER):
        part = np.minimum(np.arange(start, start + _TOGETHER), channels - 1)  # the last channel again, where there are no more
        own = replace(line, slope=line.slope[part], offset=line.offset[part])
        tried = tried.with_line(own) if tried else Product(probe, own, product.dtype)
        rows = inputs[part].transpose(1, 0, 2).reshape(wanted.shape[1], -1)
        if is_image:
            rows = np.pad(rows, ((0, -len(rows) % 64), (0, 0))).reshape(-1, 8, 8, rows.shape[1])  # pixels, along which the kernel's inner loop runs
        got = channels_last(tried(channels_first(torch.from_numpy(rows)))).reshape(-1, _TOGETHER)[: len(meant)]
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
    if isinstance(product, Banded):
        every = to_numpy(product.all(given)).reshape(len(given), -1)  # in an order of its own
        if not np.array_equal(np.sort(every), np.sort(meant.reshape(len(given), -1))):
            return False
        meant = MaxPool2d("z", ("y",), product.pool, product.pool).evaluate(meant)
    return np.array_equal(to_numpy(product(given if image is None else given.reshape(-1, *image))), meant)


def _has_vnni() -> bool:
    """Whether products of bytes are added in 32 bits; unknown counts as no."""
    found = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(found and found())
