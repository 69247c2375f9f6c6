"""Quantity: one number in SI with its source and standing; and how things that are made of such numbers are checked, listed and told apart."""

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, cast

from memspike.errors import ChipError

Standing = Literal["primary", "secondary", "assumed", "fitted"]

_LARGEST = 1e18  # of any unit: products of a few such numbers stay finite
MOST = 1 << 20  # of anything that a description counts

# What each number is in, by its name; a law says so for its own, an action's energy is in J.
UNITS = {
    **dict.fromkeys(("g_min", "g_max", "low_g", "high_g"), "S"),
    **dict.fromkeys(("read_noise", "tolerance", "low", "high", "threshold_mismatch", "offset", "leak", "saturation", "reset_error"), "1"),
    **dict.fromkeys(("timestep", "window_overhead"), "s"),
    "read_voltage": "V",
    "wire_resistance": "ohm",
    "area": "m2",
    "leakage": "W",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One hardware number in SI: value, unit, where it is from, and how far to trust it.

    Standing: `primary` read in the source itself; `secondary` read in notes on the source; `assumed`; `fitted` to published ratios.
    """

    value: float
    unit: str
    source: str
    standing: Standing

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))  # 0 and 0.0 are one number, and have one digest
        if not math.isfinite(self.value) or self.value < 0:
            raise ChipError(f"{self.value} {self.unit} is no hardware number; expected a finite one, zero or more")
        if self.value > _LARGEST:
            raise ChipError(f"{self.value} {self.unit} is no hardware number; expected at most {_LARGEST:g}")
        if not self.source.strip():
            raise ChipError(f"{self.value} {self.unit} has no source", cure="name one, or write source = 'assumed' with standing = 'assumed'")


def check_units(thing: Any, where: str) -> None:
    """Raises ChipError unless all its numbers are in SI: a timestep of 10 ns, given as 10, would be read as 10 s."""
    for name, unit in UNITS.items():
        if isinstance(quantity := getattr(thing, name, None), Quantity):
            check_unit(quantity, name, unit, where)


def check_unit(quantity: Quantity, name: str, unit: str, where: str) -> None:
    """Raises ChipError unless the number is given in this unit."""
    if quantity.unit != unit:
        raise ChipError(f"{name} is given in {quantity.unit!r}; chips are in SI, here in {unit!r}", where=where, cure="convert the value")


def said(thing: Any) -> str:
    """`repr` without the fields that are None or empty text, so that a field added for new chips leaves the digests of old ones as they were."""
    if is_dataclass(thing):
        values = ((f.name, getattr(thing, f.name)) for f in fields(thing))
        return f"{type(thing).__name__}({', '.join(f'{name}={said(value)}' for name, value in values if value is not None and value != '')})"
    if isinstance(thing, dict):
        return f"{{{', '.join(f'{key!r}: {said(value)}' for key, value in cast('dict[str, Any]', thing).items())}}}"
    if isinstance(thing, tuple):
        parts = cast("tuple[Any, ...]", thing)
        return f"({', '.join(map(said, parts))}{',' if len(parts) == 1 else ''})"
    return repr(thing)


def quantities(thing: Any, path: str = "") -> dict[str, Quantity]:
    """Every number of a thing by its path: fields by their names, parts of a tuple by the names that they have."""
    if isinstance(thing, Quantity):
        return {path: thing}
    inner: dict[str, Any] = {}
    if is_dataclass(thing):
        inner = {f.name: getattr(thing, f.name) for f in fields(thing)}
    elif isinstance(thing, dict):
        inner = cast("dict[str, Any]", thing)
    elif isinstance(thing, tuple):
        inner = {part.name: part for part in cast("tuple[Any, ...]", thing) if hasattr(part, "name")}
    return {place: found for name, value in inner.items() for place, found in quantities(value, f"{path}.{name}" if path else name).items()}
