"""Device: a memristor cell, the levels it has and what is imperfect about it."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from memspike.errors import ChipError
from memspike.quantity import MOST, Quantity, check_units, quantities

_EVEN = 1e-9  # of a step: less is the rounding of a table, and no imperfection


@dataclass(frozen=True, slots=True)
class Law:
    """A law of nature by its name in `physics.laws`, and the numbers that it takes from the device."""

    model: str
    parameters: dict[str, Quantity] = field(default_factory=dict[str, Quantity])


@dataclass(frozen=True, slots=True)
class Verify:
    """Write-verify: a cell is written again until it lies within `tolerance` (a share of g_max) of its target, `max_pulses` times in all."""

    tolerance: Quantity
    max_pulses: int

    def __post_init__(self) -> None:
        check_units(self, "verify")
        if not 1 <= self.max_pulses <= MOST:
            raise ChipError(f"max_pulses is {self.max_pulses}; a cell is written at least once, at most {MOST} times", where="verify")
        _check_share(self.tolerance, "a tolerance", "verify")
        if self.tolerance.value == 0:
            raise ChipError("a tolerance of 0 is never met", where="verify", cure="give a share of g_max, 0.01 say")


@dataclass(frozen=True, slots=True)
class Stuck:
    """The share of cells that are stuck at low and at high conductance, and where [S]; without a conductance, at g_min and g_max."""

    low: Quantity
    high: Quantity
    low_g: Quantity | None = None
    high_g: Quantity | None = None

    def __post_init__(self) -> None:
        check_units(self, "stuck")
        if self.low.value + self.high.value > 1:
            raise ChipError(f"{self.low.value:.4g} of the cells stuck low and {self.high.value:.4g} stuck high are more than all", where="stuck")


@dataclass(frozen=True, slots=True)
class Device:
    """A memristor cell: `levels` conductances spaced evenly from `g_min` to `g_max` [S], or measured ones; and what is imperfect about it.

    `conductances` [S] are measured levels in ascending order, from `conductances_source`; where their steps are uneven, weights are off by that before any
    error. `programming` is the error of one write, `verify` how it is repeated, `stuck` cells cannot be written, `read_noise` is the standard deviation of
    a cell's conductance from timestep to timestep as a share of g_max, `drift` what time does, `temperature` what heat does while they are read. None is
    perfect. The fidelities ideal and spike know none of them.
    """

    name: str
    g_min: Quantity
    g_max: Quantity
    levels: int
    conductances: tuple[float, ...] | None = None
    conductances_source: str = ""
    programming: Law | None = None
    verify: Verify | None = None
    stuck: Stuck | None = None
    read_noise: Quantity | None = None
    drift: Law | None = None
    temperature: Law | None = None

    def __post_init__(self) -> None:
        where = f"device {self.name}"
        check_units(self, where)
        if not 0 < self.g_min.value < self.g_max.value or self.levels < 2:
            raise ChipError("needs 0 < g_min < g_max and at least 2 levels", where=where)
        if self.levels > MOST:
            raise ChipError(f"{self.levels} levels; expected at most {MOST}", where=where)
        if self.g_max.value >= 1:
            raise ChipError(f"g_max is {self.g_max.value:g} S; a memristor conducts far less than 1 S", where=where, cure="4.0e-5 is 40 uS")
        low, high = self.stuck_conductances
        if not low < high < 1:
            cure = "4.0e-5 is 40 uS; low_g is the lower one, and without them cells are stuck at g_min and g_max"
            raise ChipError(f"cells stuck low at {low:g} S and high at {high:g} S; expected low below high, far less than 1 S", where=where, cure=cure)
        if self.read_noise is not None:
            _check_share(self.read_noise, "read noise", where)
        if self.verify is not None and self.programming is None:
            raise ChipError("verifies its writes, which have no error", where=where, cure="name a law of programming, or leave verify out")
        if self.conductances is None:
            return
        found = self.conductances
        if len(found) != self.levels or any(not 0 <= low < high for low, high in zip(found, found[1:], strict=False)):
            what = f"{len(found)} measured conductances for {self.levels} levels; expected one for each, ascending, none negative"
            raise ChipError(what, where=where, cure="sort them, lowest first, and set levels to their number")
        if (found[0], found[-1]) != (self.g_min.value, self.g_max.value):
            raise ChipError(f"measured from {found[0]} to {found[-1]} S, but g_min and g_max are {self.g_min.value} and {self.g_max.value} S", where=where)
        if not self.conductances_source.strip():
            raise ChipError("the measured conductances have no source", where=where, cure="name one in conductances_source")

    @property
    def stuck_conductances(self) -> tuple[float, float]:
        """Where cells are stuck at low and at high conductance [S]."""
        low, high = (self.stuck.low_g, self.stuck.high_g) if self.stuck else (None, None)
        return (low or self.g_min).value, (high or self.g_max).value

    @property
    def acting(self) -> "Device":
        """The same cells without imperfections of zero, which change nothing."""
        has_stuck, has_noise = self.stuck and self.stuck.low.value + self.stuck.high.value, self.read_noise and self.read_noise.value
        return replace(self, stuck=self.stuck if has_stuck else None, read_noise=self.read_noise if has_noise else None)

    def level_conductances(self, max_level: int) -> NDArray[np.float64]:
        """The conductances [S] that levels 0 to `max_level` aim at: even steps from g_min to g_max; or a measured table itself, if it has as many levels,
        and otherwise its conductances that are nearest to even steps, none twice.

        Raises ChipError when a measured table has too few levels.
        """
        low, high = self.g_min.value, self.g_max.value
        even = low + np.arange(max_level + 1) / max_level * (high - low)
        if self.conductances is None:
            return even
        spare = self.levels - len(even)
        if spare < 0:
            raise ChipError(f"has {self.levels} measured levels; levels 0 to {max_level} are wanted", where=f"device {self.name}", cure="use fewer bits")
        table, order = np.array(self.conductances), np.arange(len(even))
        if spare == 0:
            return table
        nearest = np.abs(table[:, None] - even).argmin(axis=0)
        nearest[-1] = len(table) - 1  # g_max itself, which the last even step may miss by a rounding
        ascending = order + np.maximum.accumulate(nearest - order)  # a level that is taken gives way to the next one,
        return table[np.minimum(ascending, spare + order)]  # and those above leave room for the rest

    def level_errors(self, max_level: int) -> NDArray[np.float64]:
        """By how much each of these conductances lies off even steps, in steps; 0 of g_min and g_max."""
        if self.conductances is None:
            return np.zeros(max_level + 1)
        found = self.level_conductances(max_level)
        error = (found - found[0]) / (found[-1] - found[0]) * max_level - np.arange(max_level + 1)
        return np.where(np.abs(error) < _EVEN, 0.0, error)

    def quantities(self) -> dict[str, Quantity]:
        """Every number of the cells with its source, by its path."""
        return quantities(self)


def _check_share(share: Quantity, what: str, where: str) -> None:
    if share.value > 1:
        raise ChipError(f"{what} of {share.value:g} is more than all of g_max", where=where, cure="a share: 0.01 is 1 %")
