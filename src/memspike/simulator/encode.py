"""Counts to spikes and back: when, within its window, a line that carries the count c spikes c times."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.errors import SimulationError
from memspike.integer import Integers
from memspike.result import Encoder

MAX_TIMESTEPS = 1 << 16  # walking through a longer window takes hours; 8-bit designs need 256

# An encoder takes counts [n, ...] with |count| <= num_timesteps and one random key per image, and yields the spikes of one timestep after the
# other, each [n, ...] of -1, 0 and 1. A negative count sends negative spikes: those of its magnitude, read at the opposite voltage.
SpikeTrain = Iterator[Tensor]


def even(counts: Tensor, num_timesteps: int, keys: Tensor) -> SpikeTrain:
    """Spread evenly: a spike at t if and only if `floor((t + 1) c / T) > floor(t c / T)`."""
    sign, size = _sign_and_size(counts)
    size = size.to(torch.float32 if num_timesteps <= 1 << 12 else torch.float64)  # t / T is a power-of-two fraction: the products are exact
    before = torch.zeros_like(size)
    for t in range(1, num_timesteps + 1):
        after = (size * (t / num_timesteps)).floor_()
        yield ((after - before) * sign).to(torch.float32)
        before = after


def burst(counts: Tensor, num_timesteps: int, keys: Tensor) -> SpikeTrain:
    """All at once: the first c timesteps."""
    sign, size = _sign_and_size(counts)
    for t in range(num_timesteps):
        yield (size > t).to(torch.float32) * sign


def random(counts: Tensor, num_timesteps: int, keys: Tensor) -> SpikeTrain:
    """Exactly c of the T timesteps, every choice equally likely: each step spikes with probability (spikes left) / (timesteps left)."""
    sign, left = _sign_and_size(counts)
    left = left.to(torch.int64)
    lines = counts[0].numel() if len(counts) else 0
    line = torch.arange(lines).reshape(1, *counts.shape[1:])
    keys = keys.reshape(-1, *[1] * (counts.ndim - 1))
    for t in range(num_timesteps):
        draw = _mix(keys + (line * num_timesteps + t) * _GOLDEN) & 0xFFFFFF
        fires = (draw * (num_timesteps - t)) >> 24 < left  # in integers, so that the last chance is always taken
        left = left - fires.to(torch.int64)
        yield fires.to(torch.float32) * sign


ENCODERS: dict[Encoder, Callable[[Tensor, int, Tensor], SpikeTrain]] = {"even": even, "burst": burst, "random": random}


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
    spikes = np.zeros((num_timesteps, *counts.shape), np.int8)
    train = ENCODERS[encoder](torch.from_numpy(counts.astype(np.float32)), num_timesteps, line_keys(seed, 0, len(counts), 0))
    for t, spike in enumerate(train):
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


def _sign_and_size(counts: Tensor) -> tuple[Tensor | float, Tensor]:
    """Counts as sign times size; the sign is the number 1 when no count is negative, as in most layers."""
    return (counts.sign().to(torch.float32), counts.abs()) if bool((counts < 0).any()) else (1.0, counts)


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
