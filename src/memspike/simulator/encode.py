"""Counts to spikes and back: when, within its window, a line that carries the count c spikes c times."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.errors import SimulationError
from memspike.integer import Integers
from memspike.result import Encoder
from memspike.simulator.kernels import carrier, channels_last

ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
MAX_TIMESTEPS = 1 << 16  # walking through a longer window takes hours; 8-bit designs need 256


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Counts `[n, ...]` on their way, as spikes over `num_timesteps`: integers up to that in magnitude, uint8 ones below it.

    `keys` `[n]` is one random number per image. A negative count sends negative spikes: those of its magnitude, read at the opposite voltage.
    """

    counts: Tensor
    num_timesteps: int
    encoder: Encoder
    keys: Tensor

    def sent(self, length: int) -> Iterator[Tensor]:
        """What each line has sent up to and including each timestep, up to `length` timesteps at once, `[timesteps, n, ...]`.

        uint8 where the counts are, else floats or int64 that hold them.
        """
        counts = channels_last(self.counts)
        if counts.dtype == torch.uint8:
            for sent in self._sizes_sent(counts, length):
                yield _first(sent)
            return
        sign, size = counts.sign().to(torch.float64), counts.to(torch.int64).abs()
        dtype = carrier(self.num_timesteps)
        for sent in self._sizes_sent(size, length):
            yield _first((sent * sign).to(dtype))

    def spikes(self) -> Iterator[Tensor]:
        """The spikes of one timestep after the other, `[n, ...]` of -1, 0 and 1 in float32."""
        before: Tensor | None = None
        for sent in self.sent(1):
            now = sent[0].to(torch.float32)
            yield now if before is None else now - before
            before = now

    def _sizes_sent(self, sizes: Tensor, length: int) -> Iterator[Tensor]:
        drawn = self._random(sizes) if self.encoder == "random" else iter(())
        for start in range(0, self.num_timesteps, length):
            stop = min(start + length, self.num_timesteps)
            timesteps = torch.arange(start + 1, stop + 1, device=sizes.device).reshape(-1, *[1] * sizes.ndim)
            match self.encoder:
                case "even":
                    yield self._even(sizes, timesteps)
                case "burst":  # all at once: the first c timesteps
                    yield torch.minimum(sizes[None], timesteps.clamp(max=torch.iinfo(sizes.dtype).max).to(sizes.dtype))
                case "random":
                    yield torch.stack([next(drawn) for _ in range(start, stop)])

    def _even(self, sizes: Tensor, timesteps: Tensor) -> Tensor:
        """Spread evenly: by timestep t, `floor(t c / T)`; T is a power of two."""
        if sizes.dtype == torch.uint8:
            largest = self.num_timesteps * (self.num_timesteps - 1)
            wide = next(dtype for dtype in (torch.uint8, torch.int16, torch.int32) if largest <= torch.iinfo(dtype).max)
            sizes, timesteps = sizes.to(wide), timesteps.to(wide)
            return (sizes[None] * timesteps).bitwise_right_shift_(self.num_timesteps.bit_length() - 1).to(torch.uint8)
        return (sizes[None] * timesteps) >> (self.num_timesteps.bit_length() - 1)

    def _random(self, sizes: Tensor) -> Iterator[Tensor]:
        """Exactly c of the T timesteps, every choice equally likely: each step spikes with probability (spikes left) / (timesteps left)."""
        shape = self.counts.shape[1:]
        line = channels_last(torch.arange(math.prod(shape), device=sizes.device).reshape(1, *shape))
        keys = self.keys.to(sizes.device).reshape(-1, *[1] * (sizes.ndim - 1))
        left, sent = sizes.to(torch.int64), torch.zeros_like(sizes)
        for t in range(self.num_timesteps):
            draw = _mix(keys + (line * self.num_timesteps + t) * _GOLDEN) & 0xFFFFFF
            fires = (draw * (self.num_timesteps - t)) >> 24 < left  # in integers, so that the last chance is always taken
            left, sent = left - fires.to(torch.int64), sent + fires
            yield sent


def line_keys(seed: int, first_image: int, num_images: int, value: int) -> Tensor:
    """One random key `[n]` per image for the lines of the program's value number `value`: the same however images are batched."""
    image = torch.arange(first_image, first_image + num_images)
    key = torch.full_like(image, _wrapped(seed))
    for part in (torch.full_like(image, value), image):
        key = _mix(key + (part + 1) * _GOLDEN)
    return key


def encode(counts: Integers, num_timesteps: int, encoder: Encoder = "even", seed: int = 0) -> NDArray[np.int8]:
    """Spikes `[num_timesteps, n, ...]` (-1, 0 or 1) of integer counts `[n, ...]`.

    Raises SimulationError for an unknown encoder and for counts that do not fit the window.
    """
    counts = np.asarray(counts)
    check_encoder(encoder)
    check_window(num_timesteps, "counts")
    if counts.size and np.abs(counts).max() > num_timesteps:
        raise SimulationError(f"a count of {np.abs(counts).max()} does not fit a window of {num_timesteps} timesteps")
    window = Window(torch.from_numpy(counts.astype(np.int64)), num_timesteps, encoder, line_keys(seed, 0, len(counts), 0))
    spikes = np.zeros((num_timesteps, *counts.shape), np.int8)
    for t, spike in enumerate(window.spikes()):
        spikes[t] = spike.numpy()
    return spikes


def decode(spikes: NDArray[np.int8]) -> Integers:
    """Counts `[n, ...]` of spikes `[timesteps, n, ...]`: their sum over time."""
    return spikes.sum(axis=0, dtype=np.int64)


def check_encoder(encoder: str) -> None:
    """Raises SimulationError for a name that is no encoder."""
    if encoder not in ENCODERS:
        raise SimulationError(f"unknown encoder {encoder!r}", cure=f"known are: {', '.join(ENCODERS)}")


def check_window(num_timesteps: int, where: str) -> None:
    """Raises SimulationError for a window that is not `2**M` timesteps, or too long to walk through."""
    if num_timesteps < 1 or num_timesteps & (num_timesteps - 1):
        raise SimulationError(f"a window of {num_timesteps} timesteps; expected a power of two", where=where)
    if num_timesteps > MAX_TIMESTEPS:
        raise SimulationError(
            f"needs a window of {num_timesteps} timesteps; at most {MAX_TIMESTEPS} are simulated",
            where=where,
            cure="fire the values into fewer bits, or use fidelity='ideal'",
        )


def _first(sent: Tensor) -> Tensor:
    """Timesteps of images with their channels last, seen as `[timesteps, n, channels, rows, columns]`."""
    return sent.movedim(-1, 2) if sent.ndim == 5 else sent


def _wrapped(value: int) -> int:
    """An integer modulo 2**64, as the int64 with the same bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


_GOLDEN = _wrapped(0x9E3779B97F4A7C15)
_MIX = (_wrapped(0xBF58476D1CE4E5B9), _wrapped(0x94D049BB133111EB))


def _mix(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014) on int64 with the bits of uint64: counters in, independent-looking bits out."""
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift: torch's drags the sign along
