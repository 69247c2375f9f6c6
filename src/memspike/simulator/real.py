"""Real weights at matrix-product speed, repeatably: sums that no order of summation changes, and normal variates that no batch changes."""

import math
from functools import cache
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from memspike.ops import Conv2d, Dense
from memspike.simulator.kernels import channels_first, convolved, in_channels_last

Floats = NDArray[np.float64]

_QUANTILES = 1 << 16
_FINE = 2.0**-10  # of the largest weight: a coarser grid than this takes float64
_ALIKE = 0.1  # how far one variance may lie from a product of profiles, relative; half of that in a standard deviation, far less in a window's sum


class Product:
    """`sum w * c` of a Conv2d or Dense for a real matrix `[blocks, rows, channels]`: counts `[n, ...]` in, sums `[n, num_channels, ...]` out.

    Weights are rounded to a binary grid on which every partial sum is exact for counts up to `magnitude`: in float32 where that grid is as fine as a
    thousandth of the largest weight, else in float64. So neither batches nor threads nor the machine change a sum, and integer weights stay integers.
    A block is as many groups of the op as its rows need; the last one may reach beyond the op's groups.
    """

    def __init__(self, op: Conv2d | Dense, matrix: Floats, magnitude: int, num_channels: int) -> None:
        self.op, self._num_channels = op, num_channels
        self._blocks, rows, channels = matrix.shape
        finest = min(1.0, _FINE * float(np.abs(matrix).max(initial=0.0)))
        grid = _grid(matrix, magnitude, 24)
        self.dtype = torch.float32 if grid <= finest else torch.float64
        grid = grid if grid <= finest else _grid(matrix, magnitude, 53)
        kernel = op.weight.shape[2:]
        inputs = rows // math.prod(kernel)
        self._missing = self._blocks * inputs - op.groups * op.weight.shape[1]
        shaped = (np.rint(matrix / grid) * grid).transpose(0, 2, 1).reshape(self._blocks * channels, inputs, *kernel)
        weight = torch.from_numpy(np.ascontiguousarray(shaped)).to(self.dtype)
        self._weight = in_channels_last(weight) if isinstance(op, Conv2d) else weight

    def __call__(self, counts: Tensor) -> Tensor:
        op, x = self.op, counts.to(self.dtype)
        if self._missing:
            x = F.pad(x, [0, 0] * (x.ndim - 2) + [0, self._missing])
        if isinstance(op, Conv2d):
            sums = convolved(op, x, self._weight, self._blocks)
        elif self._blocks == 1:
            sums = F.linear(x, self._weight)
        else:
            weight = self._weight.reshape(self._blocks, -1, self._weight.shape[1])
            sums = torch.einsum("nbr,bkr->nbk", x.reshape(len(x), self._blocks, -1), weight).reshape(len(x), -1)
        return sums[:, : self._num_channels]


class Normals:
    """Standard normals for the images number `first` and following, from one stream per call and `key`, of which every image has its own stretch.

    They are drawn from 2**16 equally likely quantiles, the outermost at 4.3: probabilities are right to 1e-5, the variance is one, the kurtosis 2.999.
    """

    def __init__(self, key: tuple[int, ...], first: int) -> None:
        self._key, self._first, self._num_calls = key, first, 0

    def like(self, values: Tensor) -> Tensor:
        """Variates float32 of the shape of `values`, `[n, ...]`, those of an image with its channels last."""
        size = values[0].numel() if len(values) else 0
        num_words = -(-size // 4)  # four 16-bit draws to a word
        bits = np.random.PCG64([*self._key, self._num_calls])
        bits.advance(self._first * num_words)
        self._num_calls += 1
        words = np.random.Generator(bits).integers(0, 1 << 64, (len(values), num_words), dtype=np.uint64)
        places = torch.from_numpy(words.astype("<u8", copy=False).view("<u2")[:, :size].astype(np.int32))
        return channels_first(_quantiles().index_select(0, places.flatten()).reshape(values.movedim(1, -1).shape if values.ndim == 4 else values.shape))


class ReadNoise:
    """Read noise of a window's charge for the variances `[blocks, rows, channels]` of one spike: one normal variate per neuron.

    Where every variance is a product of a profile of the rows and one of the channels to within 10 % (without wires exactly), one channel is summed for all.
    For LeNet on crossbars of 32 x 32 with 2.8 ohm wires that puts the standard deviation of a window off by less than 1 %.
    """

    def __init__(self, op: Conv2d | Dense, variance: Floats, magnitude: int) -> None:
        rows, channels = variance.mean(axis=2, keepdims=True), variance.mean(axis=1, keepdims=True) / variance.mean(axis=(1, 2), keepdims=True)
        is_product = bool((np.abs(rows * channels - variance) <= _ALIKE * variance + 1e-12 * variance.max()).all())
        self._channels_per_sum = variance.shape[2] if is_product else 1
        profile = channels.ravel()[: len(op.weight)] if is_product else np.ones(1)
        self._profile = None if np.allclose(profile, 1.0, rtol=1e-9) else _along(np.sqrt(profile), op.weight.ndim)
        num_sums = len(variance) if is_product else len(op.weight)
        self._variance = Product(op, rows if is_product else variance, magnitude, num_sums)

    def of(self, counts: Tensor, like: Tensor, normals: Normals) -> Tensor:
        """The noise of windows with these input counts, in the shape of their charge."""
        deviation = self._variance(counts.abs()).sqrt_()
        if self._channels_per_sum > 1 and deviation.shape[1] > 1:
            deviation = deviation.repeat_interleave(self._channels_per_sum, dim=1)[:, : like.shape[1]]
        noise = normals.like(like).mul_(deviation)
        return noise if self._profile is None else noise.mul_(self._profile)


def _grid(matrix: Floats, magnitude: int, bits: int) -> float:
    """The finest power of two such that every sum of weights on this grid, times counts up to `magnitude`, fits `bits` bits."""
    largest = float(np.abs(matrix).sum(axis=1).max(initial=0.0)) * magnitude
    grid = 2.0 ** (math.floor(math.log2(largest)) - bits) if largest else 1.0
    while np.abs(np.rint(matrix / grid)).sum(axis=1).max(initial=0.0) * magnitude > 2**bits:
        grid *= 2
    return grid


def _along(values: Floats, axes: int) -> Tensor:
    """One number per channel, to be used on `[n, channels, ...]` of so many axes."""
    return torch.from_numpy(values.astype(np.float32)).reshape(1, -1, *[1] * (axes - 2))


@cache
def _quantiles() -> Tensor:
    lower = np.array([NormalDist().inv_cdf((place + 0.5) / _QUANTILES) for place in range(_QUANTILES // 2)])
    both = np.concatenate([lower, -lower[::-1]])
    return torch.from_numpy((both / np.sqrt(np.mean(both**2))).astype(np.float32))
