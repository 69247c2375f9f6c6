"""Fire at the speed of floats: one line per channel, proven right just below and at every step of every count."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.integer import Integers
from memspike.ops import Fire
from memspike.simulator.kernels import carrier

MAX_BREAKPOINTS = 1 << 22  # beyond this many a table costs more than dividing
_EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 53}
# How far one rounding may move a result, relative to it; float64 is checked in float64 itself, whose own roundings take the factor 4.
_ROUNDING = {torch.float32: 1.01 * 2.0**-24, torch.float64: 4 * 2.0**-53}


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """`acc * slope + offset` per channel, whose floor (or nearest integer), clipped to `low` to `high`, is the count at every sum."""

    slope: NDArray[np.floating]
    offset: NDArray[np.floating]
    low: int
    high: int


class Floor:
    """`y = clip(floor((acc * 2**f + charge) / threshold), low, high)` per channel, for sums from `acc_low` to `acc_high`.

    The value climbs in steps: `y >= n` exactly from `acc = b[n] = ceil((n * threshold - charge) / 2**f)` on. `floor(acc * a + b)` in floats
    climbs too (rounding keeps order), so it is right everywhere if it is right just below and at every step. `line_of` looks for such a line and
    proves it with a margin that covers every way the hardware may round, fused or not; without one, int64 divides. Counts come in `out`, or where
    that is None in the narrowest float that holds them.
    """

    def __init__(self, fire: Fire, low: int, high: int, acc_low: int, acc_high: int, axes: int, device: str = "cpu", out: torch.dtype | None = None) -> None:
        self.low, self.high, self.fraction_bits = low, high, fire.fraction_bits
        self.out = out or carrier(max(-low, high))
        self._shape, self._device = (1, -1, *[1] * (axes - 1)), device
        self.threshold, self.charge = self._per_channel(fire.threshold), self._per_channel(fire.charge)
        self.dtype = torch.int64
        for dtype, bound in _EXACT.items():
            line = line_of(fire, low, high, acc_low, acc_high, dtype) if max(-acc_low, acc_high) <= bound else None
            if line:
                self.dtype = dtype
                self._slope, self._offset = (self._per_channel(array).to(dtype) for array in (line.slope, line.offset))
                break

    def __call__(self, acc: Tensor) -> Tensor:
        """Counts `[n, ...]` of sums `[n, ...]`."""
        if self.dtype == torch.int64:
            potential = (acc.to(torch.int64) << self.fraction_bits) + self.charge
            return torch.div(potential, self.threshold, rounding_mode="floor").clamp_(self.low, self.high).to(self.out)
        # two passes with one broadcast operand each run vectorised; one fused pass would not
        return torch.mul(acc.to(self.dtype), self._slope).add_(self._offset).floor_().clamp_(self.low, self.high).to(self.out)

    def note(self) -> str:
        """Its arithmetic, in words."""
        return f"counts exact in {str(self.dtype).removeprefix('torch.')}"

    def _per_channel(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array.copy()).reshape(self._shape).to(self._device)


def line_of(fire: Fire, low: int, high: int, acc_low: int, acc_high: int, dtype: torch.dtype, *, to_nearest: bool = False) -> Line | None:
    """The line whose floor is Fire's count, clipped to `low` to `high`, at every sum from `acc_low` to `acc_high`; None when no margin is left.

    With `to_nearest` the line is half a count lower, for hardware that rounds to the nearest integer, in whichever way it breaks ties.
    """
    steps, slack = _steps_and_slack(fire, low, high)
    if steps is None or slack is None:
        return None
    is_seen = (steps > acc_low) & (steps <= acc_high)
    least, most = slack.min(axis=1, where=is_seen, initial=1.0), slack.max(axis=1, where=is_seen, initial=0.0)
    shift = np.where(is_seen.any(axis=1), (1.0 - most - least) / 2, 0.5)  # the line half-way between the closest misses on both sides
    real, scale, lower = (np.float32 if dtype == torch.float32 else np.float64), 1 << fire.fraction_bits, 0.5 if to_nearest else 0.0
    slope = (scale / fire.threshold).astype(real)
    offset = ((fire.charge / scale + shift) * (scale / fire.threshold) - lower).astype(real)
    a, b = slope.astype(np.float64)[:, None], offset.astype(np.float64)[:, None]

    def between(acc: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and highest float that `acc * slope + offset` may give: the product and the sum each rounded, or both at once."""
        error = _ROUNDING[dtype] * (np.abs(acc * a) + np.abs(acc * a + b)) + 1e-30
        return acc * a + b - error, acc * a + b + error

    n = np.arange(low + 1, high + 1)[None, :] - lower
    reached, _ = between(np.maximum(steps, acc_low))
    _, below = between(np.minimum(steps - 1, acc_high))
    has_reached = reached > n if to_nearest else reached >= n
    is_right = (has_reached | (steps > acc_high)) & ((below < n) | (steps <= acc_low))
    return Line(slope, offset, low, high) if is_right.all() else None


def sums_at_steps(fire: Fire, low: int, high: int, acc_low: int, acc_high: int) -> Integers:
    """For each channel the sums just below and at every step of its count, `[channels, 2 * (high - low)]`, none outside `acc_low` to `acc_high`."""
    steps, _ = _steps_and_slack(fire, low, high)
    if steps is None:
        raise ValueError("a fire without a line has no table of steps")
    return np.concatenate([steps - 1, steps], axis=1).clip(acc_low, acc_high)


def _steps_and_slack(fire: Fire, low: int, high: int) -> tuple[Integers, NDArray[np.float64]] | tuple[None, None]:
    """For each channel and count above `low`, the first sum that reaches it, and how far beyond its exact place that sum lies, in 0 <= slack < 1."""
    threshold, charge, scale = fire.threshold[:, None], fire.charge[:, None], 1 << fire.fraction_bits
    largest = max(abs(low), abs(high)) * int(threshold.max()) + int(np.abs(charge).max()) + scale
    if (high - low) * len(threshold) > MAX_BREAKPOINTS or largest >= 1 << 62:
        return None, None
    climb = np.arange(low + 1, high + 1)[None, :] * threshold - charge
    steps = -(-climb >> fire.fraction_bits)
    return steps, ((steps << fire.fraction_bits) - climb) / scale
