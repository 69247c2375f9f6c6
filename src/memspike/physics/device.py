"""Memristor cells: levels to conductances and back to what is read: errors of writing, stuck cells, drift, read noise.

A law of programming says how far one write lands from its target; a law of drift what time does to a cell that has been written. Each is named after its
paper and described where it is defined, with equation, source and valid range; a device names it and brings its numbers. No conductance is negative.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Device, Law
from memspike.errors import ChipError

Floats = NDArray[np.float64]
L = TypeVar("L")

HEALTHY, STUCK_LOW, STUCK_HIGH = 0, 1, 2  # what a fault map says of a cell

_DAY = 86400.0
_WAN_TIMES = (1.0, _DAY, 2 * _DAY)
_WAN = (  # standard deviation [uS] at 40 uS full scale, coefficients of (target / g_max)^0 ... ^4
    (0.348, 16.030, -43.853, 45.393, -16.815),
    (0.701, 22.086, -50.773, 47.095, -16.458),
    (0.782, 20.274, -43.507, 37.062, -11.934),
)


@dataclass(frozen=True, slots=True)
class Written:
    """Cells as written: `target`, `g` [S], `faults`, and how many write `pulses` each took; arrays of one shape."""

    target: Floats
    g: Floats
    faults: NDArray[np.uint8]
    pulses: NDArray[np.int64]


def level_conductances(device: Device, max_level: int) -> Floats:
    """The conductances [S] that levels 0 to `max_level` aim at: even steps from g_min to g_max; or a measured table itself, if it has as many levels, and
    otherwise its conductances that are nearest to even steps.

    Raises ChipError when a measured table has too few levels.
    """
    low, high = device.g_min.value, device.g_max.value
    even = low + np.arange(max_level + 1) / max_level * (high - low)
    if device.conductances is None:
        return even
    if max_level >= device.levels:
        raise ChipError(f"has {device.levels} measured levels; levels 0 to {max_level} are wanted", where=f"device {device.name}", cure="use fewer bits")
    table = np.array(device.conductances)
    return table if len(table) == len(even) else table[np.abs(table[:, None] - even).argmin(axis=0)]


def draw_faults(device: Device, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A fault map of the device's rates, each cell for itself: HEALTHY, STUCK_LOW or STUCK_HIGH (conductance)."""
    if device.stuck is None:
        return np.zeros(shape, np.uint8)
    drawn = rng.random(shape)
    low, high = device.stuck.low.value, device.stuck.high.value
    return np.where(drawn < low, STUCK_LOW, np.where(drawn < low + high, STUCK_HIGH, HEALTHY)).astype(np.uint8)


def stuck_conductances(device: Device) -> tuple[float, float]:
    """Where cells are stuck at low and at high conductance [S]."""
    stuck = device.stuck
    low, high = (stuck.low_g, stuck.high_g) if stuck else (None, None)
    return (low or device.g_min).value, (high or device.g_max).value


def write(device: Device, levels: NDArray[np.unsignedinteger], max_level: int, rng: np.random.Generator, faults: NDArray[np.uint8] | None = None) -> Written:
    """Write cell levels of any shape, and read them right after: the target, the device's error, write-verify, and stuck cells as `faults` says.

    A cell whose last pulse still misses the tolerance stays where that pulse left it.
    """
    target = level_conductances(device, max_level)[levels]
    faults = np.zeros(target.shape, np.uint8) if faults is None else faults
    pulses = np.ones(target.shape, np.int64)
    if device.programming is None:
        g = target.copy()
    else:
        law = _law(device, device.programming, _PROGRAMMING)
        g = law(target, rng)
        if device.verify is not None:
            tolerance = device.verify.tolerance.value * device.g_max.value
            for _ in range(device.verify.max_pulses - 1):
                misses = np.abs(g - target) > tolerance
                if not misses.any():
                    break
                g[misses] = law(target[misses], rng)
                pulses[misses] += 1
    low, high = stuck_conductances(device)
    g[faults == STUCK_LOW], g[faults == STUCK_HIGH] = low, high
    return Written(target, g, faults, pulses)


def age(device: Device, written: Written, seconds: float, rng: np.random.Generator) -> Floats:
    """The conductances [S] of written cells `seconds` later, before read noise; stuck cells stay. No time, no change."""
    if not 0 <= seconds < math.inf:
        raise ChipError(f"a time of {seconds} s; expected a finite one, zero or more")
    g = written.g
    if seconds == 0:
        return g
    if device.programming is not None and device.programming.model == "wan2022":
        g = g + np.sqrt(np.maximum(0, _wan_std(device, written.target, seconds) ** 2 - _wan_std(device, written.target, 1.0) ** 2)) * rng.standard_normal(
            g.shape
        )
    if device.drift is not None:
        g = _law(device, device.drift, _DRIFT)(g, seconds, written.target, rng)
    return np.where(written.faults == HEALTHY, np.maximum(g, 0.0), written.g)


def read_noise(device: Device) -> float:
    """Standard deviation of one cell's conductance from timestep to timestep [S]."""
    return device.read_noise.value * device.g_max.value if device.read_noise else 0.0


_Write = Callable[[Floats, np.random.Generator], Floats]
_Drift = Callable[[Floats, float, Floats, np.random.Generator], Floats]


def _normal(std: Callable[[Floats], Floats]) -> _Write:
    return lambda target, rng: np.maximum(target + std(target) * rng.standard_normal(target.shape), 0.0)


def _constant(device: Device, std: float) -> _Write:
    """A normal error of `std` x (g_max - g_min), the same for every target: a device's own number, e.g. 3.5 % in NeuroSim, Cell.cpp."""
    return _normal(lambda target: np.full_like(target, std * (device.g_max.value - device.g_min.value)))


def _lognormal(device: Device, std: float) -> _Write:
    """g = target x exp(`std` x z), z normal (Chen et al., DATE 2017, doi 10.23919/DATE.2017.7926952, who sweep std up to 2)."""
    return lambda target, rng: target * np.exp(std * rng.standard_normal(target.shape))


def _measured(device: Device, **stds: float) -> _Write:
    """A normal error with the standard deviation `std_<level>` [S] measured at each level of the device's own table, linear between levels."""
    levels = device.conductances
    if levels is None or set(stds) != {f"std_{level}" for level in range(device.levels)}:
        raise ChipError("the law 'measured' needs measured conductances and one std for each", where=f"device {device.name}")
    return _normal(lambda target: np.interp(target, levels, [stds[f"std_{level}"] for level in range(device.levels)]))


def _wan2022(device: Device) -> _Write:
    """HfOx of the NeuRRAM chip, right after writing: a normal error whose standard deviation follows `_wan_std` at 1 s.

    Wan et al., Nature 608 (2022), doi 10.1038/s41586-022-04992-8, as aihwkit fitted it (inference/noise/reram.py). Valid for cells of 0 to 40 uS; for
    another g_max the errors scale with it. `age` then widens the error as the paper's later distributions do.
    """
    return _normal(lambda target: _wan_std(device, target, 1.0))


def _wan_std(device: Device, target: Floats, seconds: float) -> Floats:
    """Standard deviation [S] around the target at a time after writing (Wan et al. 2022, see `_wan2022`).

    Published for 1 s, 1 day and 2 days; between them it is interpolated linearly in log t, before and beyond them it is held.
    """
    x = target / device.g_max.value
    stds = [np.maximum(np.polynomial.polynomial.polyval(x, coefficients), 0.0) for coefficients in _WAN]
    place = np.interp(math.log(max(seconds, 1.0)), np.log(_WAN_TIMES), [0.0, 1.0, 2.0])
    first = min(int(place), 1)
    return (stds[first] + (place - first) * (stds[first + 1] - stds[first])) / 40.0 * device.g_max.value


def _milo2021(device: Device) -> _Write:
    """A normal error of 4.78 uS - 0.0091 x target (Milo et al. 2021, as CrossSim fitted it in RRAM_Milo.py); valid from 50 to 225 uS."""
    return _normal(lambda target: np.maximum(4.78e-6 - 0.0091 * target, 0.0))


def _cmo_hfox(device: Device) -> _Write:
    """A normal error of 0.0112 uS + 0.0113 x target: CMO/HfOx written with verify within 2 % of the target.

    Falcone et al., as aihwkit fitted it (inference/noise/reram.py, acceptance range 2 %); valid for tens of uS.
    """
    return _normal(lambda target: 0.0112e-6 + 0.0113 * target)


def _nandakumar2019(device: Device) -> _Write:
    """Phase-change memory: a normal error of (0.263 + 1.965 x - 1.173 x^2) uS, x = target / g_max.

    Nandakumar et al., ICECS 2019, as aihwkit fitted it (inference/noise/pcm.py) at g_max = 25 uS; for another g_max the errors scale with it.
    """

    def std(target: Floats) -> Floats:
        x = target / device.g_max.value
        return (0.26348 + 1.9650 * x - 1.1731 * x**2) / 25.0 * device.g_max.value

    return _normal(std)


def _cmo_hfox_relaxation(device: Device) -> _Drift:
    """Relaxation of CMO/HfOx: adds a normal with mean -0.089 ln t uS and standard deviation 0.042 ln t + 0.412 uS, t in seconds, at least 1.

    Falcone et al., as aihwkit fitted it (inference/noise/reram.py); the same for every target.
    """

    def drift(g: Floats, seconds: float, target: Floats, rng: np.random.Generator) -> Floats:
        log = math.log(max(seconds, 1.0))
        return g + 1e-6 * (-0.089 * log + (0.042 * log + 0.412) * rng.standard_normal(g.shape))

    return drift


def _nandakumar2019_drift(device: Device) -> _Drift:
    """Drift and 1/f noise of phase-change memory, x = target / g_max, t in seconds after writing, t0 = 20 s, t_r = 250 ns.

    g x ((t + t0) / t0)^-nu, where nu is normal from cell to cell with mean -0.0155 ln x + 0.0244 (within 0.049 to 0.1) and standard deviation
    -0.0125 ln x - 0.0059 (within 0.008 to 0.045); then a normal of g x q x sqrt(ln((t + t0 + t_r) / (2 t_r))) with q = 0.0088 x^-0.65, at most 0.2,
    of the conductance as written. Nandakumar et al., ICECS 2019, as aihwkit fitted it (inference/noise/pcm.py).
    """

    def drift(g: Floats, seconds: float, target: Floats, rng: np.random.Generator) -> Floats:
        log = np.log(np.maximum(target / device.g_max.value, 1e-7))
        mean, spread = np.clip(-0.0155 * log + 0.0244, 0.049, 0.1), np.clip(-0.0125 * log - 0.0059, 0.008, 0.045)
        nu = np.abs(mean + spread * rng.standard_normal(g.shape))
        noise = np.minimum(0.2, 0.0088 / np.maximum((g / device.g_max.value) ** 0.65, 1e-3)) * math.sqrt(math.log((seconds + 20 + 250e-9) / 500e-9))
        return g * ((seconds + 20) / 20) ** -nu * (1 + noise * rng.standard_normal(g.shape))

    return drift


def _power_law(device: Device, nu: float, t0: float) -> _Drift:
    """g x ((t + `t0`) / `t0`)^-`nu`, the same for every cell: a device's own numbers."""
    return lambda g, seconds, target, rng: g * ((seconds + t0) / t0) ** -nu


_PROGRAMMING: Mapping[str, Callable[..., _Write]] = {
    "constant": _constant,
    "lognormal": _lognormal,
    "measured": _measured,
    "wan2022": _wan2022,
    "milo2021": _milo2021,
    "cmo_hfox": _cmo_hfox,
    "nandakumar2019": _nandakumar2019,
}
_DRIFT: Mapping[str, Callable[..., _Drift]] = {"cmo_hfox": _cmo_hfox_relaxation, "nandakumar2019": _nandakumar2019_drift, "power_law": _power_law}


def check_laws(device: Device) -> None:
    """Raises ChipError when the device names a law that is unknown, or gives it other numbers than it takes."""
    for law, known in ((device.programming, _PROGRAMMING), (device.drift, _DRIFT)):
        if law is not None:
            _law(device, law, known)


def _law(device: Device, law: Law, known: Mapping[str, Callable[..., L]]) -> L:
    where = f"device {device.name}"
    if law.model not in known:
        raise ChipError(f"no law is called {law.model!r}", where=where, cure=f"laws: {', '.join(known)}")
    try:
        return known[law.model](device, **{name: quantity.value for name, quantity in law.parameters.items()})
    except TypeError as error:
        wanted = ", ".join(known[law.model].__code__.co_varnames[1 : known[law.model].__code__.co_argcount]) or "no numbers"
        raise ChipError(f"the law {law.model!r} takes {wanted}, got {', '.join(law.parameters) or 'none'}", where=where) from error
