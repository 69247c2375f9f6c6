"""Laws of memristor cells, each named after its paper: how far a write lands from its target, and what time does to it.

A device names a law and brings the numbers that the law takes (`chip.Law`); the constants of a published law stand here, with their source and range.
Conductances are in siemens, times in seconds after writing. Where a law was measured at another full scale, its errors scale with g_max.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from memspike.cell import Device, Law
from memspike.errors import ChipError

Floats = NDArray[np.float64]

HOUR, DAY = 3600.0, 86400.0
MICRO = 1e-6


class Draws(Protocol):
    """What draws standard normals of a shape: a numpy Generator, or many that draw a part each."""

    def standard_normal(self, size: tuple[int, ...], /) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Range:
    """Where a law was measured: targets from `low` to `high` [S]; or at a full scale of `full_scale` [S], to any of which it is scaled; until `longest` [s]."""

    low: float = 0.0
    high: float = math.inf
    full_scale: float | None = None
    longest: float = math.inf


@dataclass(frozen=True, slots=True)
class Programming:
    """The error of a write, normal around the target: `std(targets, seconds)` [S] of targets `[n]`, as read that long after writing; never less
    than right after.

    `is_relative`: it is the logarithm of the conductance that is normal, and `std` is that of the logarithm.
    `is_verified`: the error is what the paper's own write-verify left.
    """

    std: Callable[[Floats, float], Floats]
    measured: Range = Range()
    is_relative: bool = False
    is_verified: bool = False


@dataclass(frozen=True, slots=True)
class Drift:
    """What time does to cells that have been written: `change(g, targets, seconds, rng)` [S]; `g` below zero is a cell that conducts nothing.

    `is_at_once`: part of it is there at 0 s, as noise that is slower than the time from writing to reading.
    """

    change: Callable[[Floats, Floats, float, Draws], Floats]
    measured: Range = Range()
    is_at_once: bool = False


@dataclass(frozen=True, slots=True)
class Heat:
    """What temperature does to cells while they are read: `change(g)` [S]."""

    change: Callable[[Floats], Floats]
    measured: Range = Range()


def programming_of(device: Device) -> Programming | None:
    """The device's law of programming. Raises ChipError when it is unknown or takes other numbers."""
    return None if device.programming is None else _find(device, device.programming, _PROGRAMMING)


def drift_of(device: Device) -> Drift | None:
    """The device's law of drift. Raises ChipError when it is unknown or takes other numbers."""
    return None if device.drift is None else _find(device, device.drift, _DRIFT)


def heat_of(device: Device) -> Heat | None:
    """The device's law of temperature. Raises ChipError when it is unknown or takes other numbers."""
    return None if device.temperature is None else _find(device, device.temperature, _HEAT)


def check_laws(device: Device) -> None:
    """Raises ChipError when the device names a law that is unknown, or gives it other numbers than it takes."""
    programming_of(device)
    drift_of(device)
    heat_of(device)


# Programming


def _constant(device: Device, std: float) -> Programming:
    """The same error for every target: `std` x (g_max - g_min). The number is the device's own, e.g. 3.5 % in NeuroSim."""
    if std > 1:
        what = f"the law 'constant' takes std as a share of g_max - g_min; got {std:g}, more than all of it"
        raise ChipError(what, where=f"device {device.name}", cure="0.035 is 3.5 %")
    return Programming(lambda targets, seconds: np.full_like(targets, std * (device.g_max.value - device.g_min.value)))


def _lognormal(device: Device, std: float) -> Programming:
    """g = target x exp(`std` x z), z normal: the w' = w exp(t) of Chen et al., DATE 2017, doi 10.23919/DATE.2017.7926952, who sweep `std` up to 2.

    Theirs is a weight's, here it is each cell's. The median stays on the target; the mean lies exp(std^2 / 2) above it.
    """
    return Programming(lambda targets, seconds: np.full_like(targets, std), is_relative=True)


def _measured(device: Device, **stds: float) -> Programming:
    """The standard deviation `std_<level>` [S] that was measured at each level of the device's own table (or of its even steps), linear between levels."""
    levels = device.level_conductances(device.levels - 1)
    if set(stds) != {f"std_{level}" for level in range(device.levels)}:
        raise ChipError("the law 'measured' needs one std for each level", where=f"device {device.name}")
    found = [stds[f"std_{level}"] for level in range(device.levels)]
    return Programming(lambda targets, seconds: np.interp(targets, levels, found), Range(levels[0], levels[-1]))


_WAN_TIMES = (1.0, DAY, 2 * DAY)
_WAN = np.array(  # standard deviation [uS] at 40 uS full scale, a row for each time: coefficients of (target / g_max)^0 ... ^4
    [
        [0.348, 16.030, -43.853, 45.393, -16.815],
        [0.701, 22.086, -50.773, 47.095, -16.458],
        [0.782, 20.274, -43.507, 37.062, -11.934],
    ]
)


def _wan2022(device: Device) -> Programming:
    """HfOx cells of the NeuRRAM chip, written with verify, then relaxing: Wan et al., Nature 608 (2022), doi 10.1038/s41586-022-04992-8.

    Standard deviations by target at 1 s, 1 day and 2 days are aihwkit's polynomials (inference/noise/reram.py, ReRamWan2022NoiseModel), fitted to the
    paper's figures at 40 uS full scale. Between these times the standard deviation is interpolated linearly in ln t, before the first and after the last
    it is held: both are ours. CrossSim (RRAM_Wan.py) reads the same figure (Extended Data 3, 1 s) as 2.6, 6.0, 5.9, 4.5, 4.2 % of 40 uS at targets of
    0, 1/4, 1/2, 3/4 and all of it, where aihwkit has 0.9, 5.6, 5.1, 3.8, 2.8 %: so sure are these numbers.
    """

    def std(targets: Floats, seconds: float) -> Floats:
        known = np.maximum(_WAN @ (targets / device.g_max.value) ** np.arange(5)[:, None], 0.0)
        place = np.interp(math.log(max(seconds, _WAN_TIMES[0])), np.log(_WAN_TIMES), [0.0, 1.0, 2.0])
        first = min(int(place), 1)
        found = known[first] + (place - first) * (known[first + 1] - known[first])
        return np.maximum(found, known[0]) / 40.0 * device.g_max.value

    return Programming(std, Range(full_scale=40 * MICRO, longest=_WAN_TIMES[-1]), is_verified=True)


def _milo2021(device: Device) -> Programming:
    """HfO2 cells written by the algorithm IGVVA-100: 4.782321 uS - 0.009107 x target, valid from 50 to 225 uS.

    Milo et al., IRPS 2021, Fig. 4 (ieeexplore 9405119), as CrossSim fitted it (devices/custom/RRAM_Milo.py). Its nonlinear I-V curves are left out.
    """
    return Programming(lambda targets, seconds: np.maximum(4.782321 * MICRO - 0.009107 * targets, 0.0), Range(50 * MICRO, 225 * MICRO), is_verified=True)


_CMO_ACCEPTANCE = {  # accepted distance from the target: standard deviation [uS] at target 0, and per target
    0.002: (0.00081107, 0.00106879),
    0.02: (0.0112185391, 0.01129027418),
}


def _cmo_hfox(device: Device, acceptance: float = 0.02) -> Programming:
    """CMO/HfOx cells written until within `acceptance` (0.02 or 0.002) of the target: 0.01122 uS + 0.01129 x target, or 0.00081 uS + 0.00107 x target.

    Falcone et al., arXiv 2502.04524, as aihwkit has it (inference/noise/reram.py, ReRamCMONoiseModel; docs/source/reram_inference.rst); valid from 8 to
    90 uS. (A ReRamCMONoiseModel that is given no acceptance range takes the narrow one.)
    """
    if acceptance not in _CMO_ACCEPTANCE:
        raise ChipError(f"the law 'cmo_hfox' was measured for an acceptance of 0.002 and 0.02; got {acceptance:g}", where=f"device {device.name}")
    offset, slope = _CMO_ACCEPTANCE[acceptance]
    return Programming(lambda targets, seconds: offset * MICRO + slope * targets, Range(8 * MICRO, 90 * MICRO), is_verified=True)


def _nandakumar2019(device: Device) -> Programming:
    """Phase-change cells: (0.26348 + 1.9650 x - 1.1731 x^2) uS at 25 uS full scale, x = target / g_max.

    Nandakumar et al., ICECS 2019 (ieeexplore 8964852), as aihwkit has it (inference/noise/pcm.py, PCMLikeNoiseModel).
    """

    def std(targets: Floats, seconds: float) -> Floats:
        x = targets / device.g_max.value
        return (0.26348 + 1.9650 * x - 1.1731 * x**2) / 25.0 * device.g_max.value

    return Programming(std, Range(full_scale=25 * MICRO))


# Drift


def _power_law(device: Device, nu: float, t0: float, nu_std: float = 0.0) -> Drift:
    """g x ((t + `t0`) / `t0`)^-nu, nu normal from cell to cell around `nu` with standard deviation `nu_std`: the device's own numbers."""

    def change(g: Floats, targets: Floats, seconds: float, rng: Draws) -> Floats:
        exponent = nu + nu_std * rng.standard_normal(g.shape) if nu_std else nu
        return g * ((seconds + t0) / t0) ** -exponent

    if t0 <= 0:
        raise ChipError("the law 'power_law' needs a t0 above zero", where=f"device {device.name}")
    return Drift(change)


def _cmo_hfox_relaxation(device: Device) -> Drift:
    """CMO/HfOx cells relax: a normal with mean -0.08900 ln t uS and standard deviation 0.04201 ln t + 0.41183 uS, the same for every target; then
    1/f noise: a normal with standard deviation 0.02773 log10(g / uS) sqrt(ln((t + t_r) / 2 t_r)) uS, t_r = 1 us, none below 1 uS.

    Falcone et al., arXiv 2502.04524 (relaxation, measured at 50 uS), and Lombardo et al., DRC 2024 (noise), as aihwkit has them (inference/noise/reram.py,
    ReRamCMONoiseModel). At 0 s there is none yet; earlier than 1 s that of 1 s is taken. aihwkit also cuts off what leaves g_min to g_max; here cells may
    leave it.
    """

    def change(g: Floats, targets: Floats, seconds: float, rng: Draws) -> Floats:
        log = math.log(max(seconds, 1.0))
        g = g + MICRO * (-0.08900206 * log + (0.04201137 * log + 0.41183342) * rng.standard_normal(g.shape))
        noise = 0.0277316483 * np.log10(np.maximum(g / MICRO, 1.0)) * math.sqrt(math.log((max(seconds, 1.0) + 1e-6) / 2e-6))
        return g + MICRO * noise * rng.standard_normal(g.shape)

    return Drift(change, Range(8 * MICRO, 90 * MICRO))


def _nandakumar2019_drift(device: Device) -> Drift:
    """Phase-change cells drift and fluctuate; x = target / g_max, t0 = 20 s, t_r = 250 ns.

    Drift: g x ((t + t0) / t0)^-|nu|, nu normal from cell to cell, its mean -0.0155 ln x + 0.0244 within 0.049 to 0.1, its standard deviation
    -0.0125 ln x - 0.0059 within 0.008 to 0.045. Then 1/f noise accumulated since writing: a normal of g x q x sqrt(ln((t + t0 + t_r) / 2 t_r)),
    q = 0.0088 / (g / g_max)^0.65, at most 0.2, of the g that was written. Nandakumar et al., ICECS 2019 (ieeexplore 8964852), as aihwkit has it
    (inference/noise/pcm.py, PCMLikeNoiseModel).
    """
    t0, t_read = 20.0, 250e-9

    def change(g: Floats, targets: Floats, seconds: float, rng: Draws) -> Floats:
        g = np.maximum(g, 0.0)
        log = np.log(np.maximum(targets / device.g_max.value, 1e-7))
        mean, spread = np.clip(-0.0155 * log + 0.0244, 0.049, 0.1), np.clip(-0.0125 * log - 0.0059, 0.008, 0.045)
        nu = np.abs(mean + spread * rng.standard_normal(g.shape))
        q = np.minimum(0.2, 0.0088 / np.maximum((g / device.g_max.value) ** 0.65, 1e-3))
        noise = q * math.sqrt(math.log((seconds + t0 + t_read) / (2 * t_read)))
        return g * np.exp(-nu * math.log((seconds + t0) / t0)) * (1 + noise * rng.standard_normal(g.shape))

    return Drift(change, Range(full_scale=25 * MICRO), is_at_once=True)  # written t0 before 0 s


# Temperature

_WRITTEN_AT, _COLD, _COLDEST, _HOTTEST = 298.0, 273.0, 213.0, 413.0  # kelvin
_LAMMIE = ((1 / 55e3, -0.00420717061486765), (1 / 2400.0, 0.000801158151673717))  # conductance [S], slope of log10 of the resistance [1/K]


def _lammie2021(device: Device, temperature: float) -> Heat:
    """Metal-oxide cells read at `temperature`: above 273 K the resistance is R x 10^(p (T - 273 K)), p = +0.000801 per K in the low-resistance state
    (2.4 kohm) and -0.00421 per K in the high-resistance state (55 kohm); colder, it is R.

    Lammie, Rahimi Azghadi and Ielmini, Semicond. Sci. Technol. 2021, Fig. 3A (measured from 213 to 413 K), coefficients of the authors' own code
    (github.com/coreylammie/SST-Reproducibility, plot_3B.py). Two things are ours: cells are written at 298 K, and between the two states p is linear in the
    logarithm of the conductance, beyond them held.
    """
    if not _COLDEST <= temperature <= _HOTTEST:
        what = f"the law 'lammie2021' was measured from {_COLDEST:g} to {_HOTTEST:g} K; got {temperature:g} K"
        raise ChipError(what, where=f"device {device.name}", cure="give a temperature within that range")
    kelvin = max(temperature - _COLD, 0.0) - (_WRITTEN_AT - _COLD)
    conductances, slopes = zip(*_LAMMIE, strict=True)

    def change(g: Floats) -> Floats:
        slope = np.interp(np.log(np.maximum(g, 1e-12)), np.log(conductances), slopes)
        return g * 10 ** (-slope * kelvin)

    return Heat(change, Range(conductances[0], conductances[1]))


_PROGRAMMING: Mapping[str, Callable[..., Programming]] = {
    "constant": _constant,
    "lognormal": _lognormal,
    "measured": _measured,
    "wan2022": _wan2022,
    "milo2021": _milo2021,
    "cmo_hfox": _cmo_hfox,
    "nandakumar2019": _nandakumar2019,
}
_DRIFT: Mapping[str, Callable[..., Drift]] = {"cmo_hfox": _cmo_hfox_relaxation, "nandakumar2019": _nandakumar2019_drift, "power_law": _power_law}
_HEAT: Mapping[str, Callable[..., Heat]] = {"lammie2021": _lammie2021}
_UNITS = {"t0": "s", "temperature": "K"}  # of a law's numbers; std_<level> is in S, all others are numbers

L = TypeVar("L")


def _find(device: Device, law: Law, known: Mapping[str, Callable[..., L]]) -> L:
    where = f"device {device.name}"
    if law.model not in known:
        raise ChipError(f"no law is called {law.model!r}", where=where, cure=f"laws: {', '.join(known)}")
    make, numbers = known[law.model], {name: quantity.value for name, quantity in law.parameters.items()}
    for name, quantity in law.parameters.items():
        unit = _UNITS.get(name, "S" if name.startswith("std_") else "1")
        if quantity.unit != unit:
            raise ChipError(f"the law {law.model!r} takes {name} in {unit!r}, got it in {quantity.unit!r}", where=where, cure="convert the value")
    try:
        return make(device, **numbers)
    except TypeError as error:
        wanted = ", ".join(list(inspect.signature(make).parameters)[1:]) or "no numbers"
        raise ChipError(f"the law {law.model!r} takes {wanted}, got {', '.join(numbers) or 'none'}", where=where) from error


def laws_of(device: Device) -> dict[str, tuple[str, str]]:
    """The laws that a device follows: by what they rule, each one's name and what it is, with its source."""
    ruled = {"programming": (device.programming, _PROGRAMMING), "drift": (device.drift, _DRIFT), "temperature": (device.temperature, _HEAT)}
    return {what: (law.model, " ".join((known[law.model].__doc__ or "").split("\n\n")[0].split())) for what, (law, known) in ruled.items() if law}
