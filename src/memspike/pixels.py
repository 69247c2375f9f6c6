"""Pixels become counts: of M bits, rounded half up, or by an ordered dither whose errors cancel among neighbours."""

import numpy as np
from numpy.typing import NDArray

from memspike.integer import Integers, IntType

DITHERS = (0, 1, 2, 4)


def to_counts(pixels: NDArray[np.uint8], image_type: IntType, dither: int = 0) -> Integers:
    """Pixels 0..255 as counts, int64 of the same shape: `floor(pixel / 255 * max + r)`, computed in integers so that it is exact.

    Without dither, r is 1/2 everywhere. With a `dither` of p, `pixels` are `[..., channels, rows, columns]`, and r runs evenly through
    0..1 over a pattern of p x p pixels and all channels (the matrices of Bayer 1973, shifted from channel to channel), so that
    neighbours that see one light do not all round it one way. Black stays 0 and white `max`.
    """
    factor, addend, divisor = rounding(pixels.shape[-3:], image_type, dither)
    return (pixels.astype(np.int64) * factor + addend) // divisor


def rounding(shape: tuple[int, ...], image_type: IntType, dither: int = 0) -> tuple[int, Integers, int]:
    """Integers such that `count = (pixel * factor + addend) // divisor`; `addend` is a number, or with dither one for each pixel of `shape`
    [channels, rows, columns]."""
    if not dither:
        return 2 * image_type.max, np.array(255), 510
    channels, rows, columns = shape
    pattern = np.tile(_bayer(dither), (-(-rows // dither), -(-columns // dither)))[:rows, :columns]
    channel = np.arange(channels).reshape(-1, 1, 1)
    places = channels * dither**2
    # Each channel takes the pattern as far along as it is among the channels, so that those of one pixel lie evenly apart too.
    rank = channels * ((pattern + channel * dither**2 // channels) % dither**2) + channel
    return 2 * places * image_type.max, 255 * (2 * rank + 1), 510 * places


def _bayer(size: int) -> Integers:
    """The numbers 0 to size**2 - 1 in a square of a power of two, each far from those next to it in size."""
    pattern = np.zeros((1, 1), np.int64)
    while len(pattern) < size:
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    return pattern
