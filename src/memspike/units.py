"""SI numbers for people: prefixes on the way out; inside, everything is SI."""

import math

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"), (1e-18, "a"))


def si(value: float, unit: str, digits: int = 3) -> str:
    """Write an SI value with `digits` significant digits and a prefix: `si(4.2e-9, "J")` is `4.20 nJ`.

    Areas use prefixes of the length: `si(3.1e-7, "m2")` is `0.310 mm2`.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    if unit == "m2":
        factor, prefix = next((p for p in ((1e-6, "mm2"), (1e-12, "um2"), (1e-18, "nm2")) if abs(value) >= 0.1 * p[0]), (1e-18, "nm2"))
        return f"{_significant(value / factor, digits)} {prefix}"
    factor, prefix = next((p for p in _PREFIXES if abs(value) >= p[0] * (1 - 0.5 * 10**-digits)), _PREFIXES[-1])
    return f"{_significant(value / factor, digits)} {prefix}{unit}"


def percent(fraction: float, digits: int = 2) -> str:
    """Write a fraction as a percentage: `percent(0.9932)` is `99.32 %`."""
    return f"{100 * fraction:.{digits}f} %"


def _significant(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits - 1}e}")  # first, since 9.999 has one digit more in front of the point once it is rounded
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"
