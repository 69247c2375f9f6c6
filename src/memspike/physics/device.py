"""Memristor cells: levels to conductances and back to what is read: errors of writing, stuck cells, drift, heat, read noise.

The laws that a device names stand in `physics.laws`. A write is drawn from the law of programming as it is right after writing; where that law was
measured to widen with time, `age` adds the variance that is missing, so that the whole distribution at any time is the law's and a cell remembers how it
was written. A law's normal tail may fall below zero: there a cell conducts nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.cell import Device
from memspike.errors import ChipError
from memspike.physics.laws import DAY, HOUR, MICRO, Draws, Floats, Programming, Range, drift_of, heat_of, programming_of

HEALTHY, STUCK_LOW, STUCK_HIGH = 0, 1, 2  # what a fault map says of a cell


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """Cells as written, arrays of one shape: `levels`, each aiming at its place in `table` [S]; where they `landed` [S], below zero where the law's
    tail reaches there; `faults`; and how many write `pulses` each took."""

    levels: NDArray[np.integer]
    table: Floats
    landed: Floats
    faults: NDArray[np.uint8]
    pulses: NDArray[np.int64]

    @property
    def target(self) -> Floats:
        """What each cell aimed at [S]."""
        return self.table[self.levels]

    @property
    def g(self) -> Floats:
        """What each cell conducts right after writing [S]."""
        return np.maximum(self.landed, 0.0)


def draw_faults(device: Device, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A fault map of the device's rates, each cell for itself: HEALTHY, STUCK_LOW or STUCK_HIGH (conductance)."""
    if device.stuck is None:
        return np.zeros(shape, np.uint8)
    drawn = rng.random(shape)
    low, high = device.stuck.low.value, device.stuck.high.value
    return STUCK_HIGH * (drawn < low + high).astype(np.uint8) - (drawn < low)


def write(device: Device, levels: NDArray[np.integer], max_level: int, rng: Draws, faults: NDArray[np.uint8] | None = None) -> Written:
    """Write cell levels of any shape, 0 to `max_level`: targets, the device's error, write-verify, and stuck cells where `faults` says so.

    Every pulse draws a new error. A cell that misses the tolerance after its last pulse stays where that pulse left it; a stuck one takes all its pulses,
    unless it is stuck close enough to its target. Verifying reads without noise.
    """
    table, law = device.level_conductances(max_level), programming_of(device)
    faults = np.zeros(levels.shape, np.uint8) if faults is None else faults
    spread = np.zeros_like(table) if law is None else law.std(table, 0.0)

    def pulse(levels: NDArray[np.integer]) -> Floats:
        if law is None:
            return table[levels]
        error = spread[levels] * rng.standard_normal(levels.shape)
        return table[levels] * np.exp(error) if law.is_relative else table[levels] + error

    landed, pulses = pulse(levels), np.ones(levels.shape, np.int64)
    for kind, g in zip((STUCK_LOW, STUCK_HIGH), device.stuck_conductances, strict=True):
        landed[faults == kind] = g
    if device.verify is not None:
        tolerance = device.verify.tolerance.value * device.g_max.value
        for _ in range(device.verify.max_pulses - 1):
            misses = np.abs(np.maximum(landed, 0.0) - table[levels]) > tolerance
            if not misses.any():
                break
            pulses += misses
            misses &= faults == HEALTHY
            landed[misses] = pulse(levels[misses])
    return Written(levels, table, landed, faults, pulses)


def age(device: Device, written: Written, seconds: float, rng: Draws) -> Floats:
    """The conductances [S] of written cells `seconds` later, at the device's temperature, before read noise. Stuck cells do not drift, but are as hot
    as others.

    From one seed, different times are the same cells at different times.
    """
    if not 0 <= seconds < math.inf:
        raise ChipError(f"a time of {seconds} s; expected a finite one, zero or more")
    programming, drift, heat = programming_of(device), drift_of(device), heat_of(device)
    g, table, levels = written.landed, written.table, written.levels
    if programming is not None and _relaxes(programming, table):
        missing = np.sqrt(programming.std(table, seconds) ** 2 - programming.std(table, 0.0) ** 2)
        if missing.any() or drift is not None:  # a drift draws after it: the same at all times
            g = g + missing[levels] * rng.standard_normal(g.shape)
    if drift is not None and (seconds > 0 or drift.is_at_once):
        g = drift.change(g, table[levels], seconds, rng)
    g = np.maximum(np.where(written.faults == HEALTHY, g, written.landed), 0.0)
    return heat.change(g) if heat is not None else g


def _relaxes(programming: Programming, targets: Floats) -> bool:
    """Whether the error of a write grows with time."""
    return not programming.is_relative and bool((programming.std(targets, DAY) > programming.std(targets, 0.0)).any())


def relaxes(device: Device) -> bool:
    """Whether the error of its writes grows with time: that is of its law of programming, beside whatever drift it has."""
    programming, targets = programming_of(device), np.array([device.g_min.value, device.g_max.value])
    return programming is not None and _relaxes(programming, targets)


def does_age(device: Device) -> bool:
    """Whether time changes what its cells conduct."""
    return drift_of(device) is not None or relaxes(device)


def read_noise(device: Device) -> float:
    """Standard deviation of one cell's conductance from timestep to timestep [S]; nothing cuts it off at zero (decision 7)."""
    return device.read_noise.value * device.g_max.value if device.read_noise else 0.0


def cautions(device: Device, seconds: float = 0.0) -> tuple[str, ...]:
    """Where a device read `seconds` after writing is taken beyond what its laws' papers measured, a sentence for each."""
    programming, drift, heat, found = programming_of(device), drift_of(device), heat_of(device), list[str]()
    laws = (device.programming, programming), (device.drift, drift), (device.temperature, heat)
    for law, measured in ((law, found_law and found_law.measured) for law, found_law in laws):
        if law is not None and measured is not None:
            found += [f"Cells {device.name}: the law {law.model} {what}." for what in _beyond(device, measured, seconds)]
    if seconds > 0 and not does_age(device):
        found.append(f"Cells {device.name}: no law says what time does to them; after {_span(seconds)} they are read as they were written.")
    if device.verify is not None and device.programming is not None and programming is not None and programming.is_verified:
        found.append(f"Cells {device.name}: the law {device.programming.model} is what its paper's write-verify left; here it is verified once more.")
    return tuple(dict.fromkeys(found))


def _beyond(device: Device, measured: Range, seconds: float) -> list[str]:
    low, high, found = device.g_min.value, device.g_max.value, list[str]()
    slack = 1e-9 * high  # the limits are given in uS
    if low < measured.low - slack or high > measured.high + slack:
        found.append(f"was measured from {measured.low / MICRO:.4g} to {measured.high / MICRO:.4g} uS, not from {low / MICRO:.4g} to {high / MICRO:.4g} uS")
    if measured.full_scale is not None and abs(high - measured.full_scale) > slack:
        found.append(f"was measured at a full scale of {measured.full_scale / MICRO:.4g} uS and is scaled to {high / MICRO:.4g} uS")
    if seconds > measured.longest:
        found.append(f"was measured for {_span(measured.longest)}; its last value is held at {_span(seconds)}")
    return found


def _span(seconds: float) -> str:
    unit, word = next(((unit, word) for unit, word in ((DAY, "days"), (HOUR, "hours")) if seconds >= unit), (1.0, "s"))
    return f"{seconds / unit:.4g} {word}"
