"""Pixels become counts: all of them or a range, rounded half up or by an ordered dither, on one line or several."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType

DITHERS = (0, 1, 2, 4)
_TEXT = re.compile(r"(?: range=([0-9]{1,3})-([0-9]{1,3}))?(?: dither=([0-9]{1,3}))?(?: lines=([0-9]{1,3}))?")
_SAYS = "' range=<low>-<high>', ' dither=<number>', ' lines=<number>', each or none, in this order"


@dataclass(frozen=True, slots=True)
class PixelCode:
    """How the pixels of an image become counts; the same for all images of a program.

    A pixel on L `lines` counts `n = floor((pixel - low) / (high - low) * L * max + r)` in all, clipped to 0..L * max, where `max` is the highest count of
    one line, and line j carries `(n + j) // L` of it. Without `dither`, r is 1/2 everywhere. With a dither of p it runs evenly through 0..1 over a pattern of
    p x p pixels and all channels (the matrices of Bayer 1973, shifted from channel to channel), so that neighbours that see one light do not all round it one
    way. From `low` down a pixel counts 0, from `high` up L * max, whatever the code. Raises ProgramError for a dither that is unknown, a number of lines below
    1, or a range that is none.
    """

    dither: int = 0
    lines: int = 1
    low: int = 0
    high: int = 255

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 255:
            raise ProgramError(f"a range of pixels from {self.low} to {self.high}", cure="a range lies within 0 to 255, its low end first")
        if self.dither not in DITHERS:
            raise ProgramError(f"unknown dither {self.dither}", cure=f"known are: {', '.join(map(str, DITHERS))} (0 for none)")
        if self.lines < 1:
            raise ProgramError(f"an image has 1 line for a pixel or more, not {self.lines}")

    @property
    def clips(self) -> bool:
        """Whether pixels lie outside the range."""
        return (self.low, self.high) != (0, 255)

    def most(self, line: IntType) -> int:
        """The highest count of a pixel, all its lines together, each of the type `line`. Raises ProgramError where that is more than pixels have levels."""
        most = self.lines * line.max
        if self.lines > 1 and most > 255:
            what = f"{self.lines} lines of {line.bits} bits count {most + 1} levels, a pixel has 256"
            raise ProgramError(what, cure=f"lines of {line.bits} bits are of use up to {max(1, 255 // line.max)}")
        return most

    def counts(self, pixels: NDArray[np.uint8], line: IntType) -> Integers:
        """The counts of images `[n, channels, rows, columns]`, int64 `[n, channels * lines, rows, columns]`: all lines of a channel, then the next's.

        Computed in integers, so exact. On one line and without dither images may have any shape. Raises ProgramError for pixels that are not uint8.
        """
        if np.asarray(pixels).dtype != np.uint8:
            raise ProgramError(f"pixels are {np.asarray(pixels).dtype}; expected uint8, 0 (black) to 255", cure="scale them and use astype('uint8')")
        factor, addend, divisor = self.rounding(pixels.shape[1:], line)
        return self.on_lines(((pixels.astype(np.int64) * factor + addend) // divisor).clip(0, self.most(line)))

    def on_lines(self, counts: Integers) -> Integers:
        """Whole counts of pixels `[n, channels, rows, columns]` as what each line carries, `[n, channels * lines, rows, columns]`; they sum up to them."""
        if self.lines == 1:
            return counts
        return ((counts[:, :, None] + np.arange(self.lines).reshape(-1, 1, 1)) // self.lines).reshape(len(counts), -1, *counts.shape[2:])

    def rounding(self, shape: tuple[int, ...], line: IntType) -> tuple[int, Integers, int]:
        """Integers such that all lines of a pixel count `(pixel * factor + addend) // divisor` together, clipped; `addend` is a number, or with dither one for
        each pixel of `shape` [channels, rows, columns]."""
        places, rank = (1, np.array(0)) if not self.dither else self._ranks(shape)
        size, most = self.high - self.low, self.most(line)
        factor, addend, divisor = 2 * places * most, size * (2 * rank + 1) - 2 * places * most * self.low, 2 * places * size
        common = math.gcd(factor, divisor, *np.unique(addend).tolist())
        return factor // common, addend // common, divisor // common

    def _ranks(self, shape: tuple[int, ...]) -> tuple[int, Integers]:
        """How many roundings there are, and which of them each pixel takes."""
        (channels, rows, columns), size = shape, self.dither
        pattern = np.tile(_bayer(size), (-(-rows // size), -(-columns // size)))[:rows, :columns]
        channel = np.arange(channels).reshape(-1, 1, 1)
        # Each channel takes the pattern as far along as it is among the channels, so that those of one pixel lie evenly apart too.
        return channels * size**2, channels * ((pattern + channel * size**2 // channels) % size**2) + channel

    def fitted(self, images: NDArray[np.uint8], line: IntType) -> "PixelCode":
        """The same code with the range that counts these images [n, ...] with the least squared error, as steps of activations are found."""
        parts = (images[start : start + 1000] for start in range(0, len(images), 1000))
        share = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0) / images.size
        _, low, high = min((self._error(share, low, high, line), low, high) for low in range(128) for high in range(128, 256))
        return replace(self, low=low, high=high)

    def _error(self, share: NDArray[np.float64], low: int, high: int, line: IntType) -> float:
        """Mean squared error, in pixels, of what counts of this range stand for, where each pixel 0..255 has its share."""
        most, pixel = self.most(line), np.arange(256)
        counts = np.floor((pixel - low) / (high - low) * most + 0.5).clip(0, most)
        return float(share @ (low + counts / most * (high - low) - pixel) ** 2)

    def check(self, line: IntType, shape: tuple[int, ...]) -> None:
        """Raises ProgramError unless images of counts of the type `line` and `shape`, as a program takes them, can come of this code."""
        self.most(line)
        if self != PixelCode() and (len(shape) != 3 or shape[0] % self.lines):
            what = f"images of shape {list(shape)} cannot be counted with{self}"
            raise ProgramError(what, cure="they need rows, columns, and the lines of each channel one after the other")

    def __str__(self) -> str:
        """As a program's text has it behind `input`: nothing where every pixel 0..255 rounds half up on one line."""
        return f" range={self.low}-{self.high}" * self.clips + f" dither={self.dither}" * (self.dither > 0) + f" lines={self.lines}" * (self.lines > 1)

    @classmethod
    def parse(cls, text: str) -> "PixelCode":
        """The inverse of `str`; raises ProgramError for anything else."""
        match = _TEXT.fullmatch(text)
        if not match:
            raise ProgramError(f"{text[:40]!r} says nothing of pixels; expected {_SAYS}")
        return cls(int(match[3] or 0), int(match[4] or 1), int(match[1] or 0), int(match[2] or 255))


def _bayer(size: int) -> Integers:
    """The numbers 0 to size**2 - 1 in a square of a power of two, each far from those next to it in size."""
    pattern = np.zeros((1, 1), np.int64)
    while len(pattern) < size:
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    return pattern
