"""What a report is made of: sections of notes, headlines, tables and figures, each with the numbers behind it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from memspike.errors import MemspikeError
from memspike.units import percent, si
from memspike.words import clean

Cell = str | int | float | None
Tone = Literal["plain", "caution", "missing"]
Size = Literal["wide", "half", "small"]


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: `unit` is an SI unit, "%" (cells are fractions), "share" (the same with one
    decimal), "x" (ratios), "points" (percentage points), "quantity" (cells are texts like "2e-08 s"), "standing", "code", or empty."""

    label: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph; `caution` is what a reader must not miss, `missing` says what could not be shown and why."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of the headline: `value` in `unit`, a line of detail, what the paper says, and how far to trust it."""

    label: str
    value: float
    unit: str
    detail: str
    paper: str
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """The few figures that a reader looks for first."""

    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under `columns`; cells hold raw numbers (SI, fractions), and only showing them gives them prefixes."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        _check_rows(self)


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot: a plotly figure whose colours are CSS variables (`var(--design)`), and its data as columns and rows.

    `alt` says in words what the plot shows, for readers who do not see it.
    """

    name: str
    title: str
    caption: str
    alt: str
    plot: Mapping[str, Any]
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    size: Size = "half"

    def __post_init__(self) -> None:
        _check_rows(self)
        height = self.plot.get("layout", {}).get("height") if isinstance(self.plot.get("layout"), Mapping) else None
        if not isinstance(height, int | float) or isinstance(height, bool):
            raise MemspikeError(f"the plot {self.name} has the height {height!r}", where=self.title, cure="give plot['layout']['height'] in pixels")


Item = Note | Headline | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report; `name` is its anchor."""

    name: str
    title: str
    items: tuple[Item, ...]


def _check_rows(item: Table | Figure) -> None:
    for row in item.rows:
        if len(row) != len(item.columns):
            what = f"{item.name} has a row of {len(row)} cells and {len(item.columns)} columns"
            raise MemspikeError(what, where=item.title, cure="give every row as many cells")


def pretty(text: str) -> str:
    """A number of `units.si` with the signs that a page can show: `77.3 um2` is `77.3 µm²`."""
    number, _, unit = text.partition(" ")
    if len(unit) > 1 and unit[0] == "u":
        unit = f"µ{unit[1:]}"
    return f"{number} {unit.removesuffix('2')}²" if unit.endswith("m2") else f"{number} {unit}"


def shown(value: Cell, unit: str = "") -> str:
    """A cell as people read it: `shown(4.2e-9, "J")` is `4.2 nJ`, `shown(0.891, "share")` is `89.1 %`, `shown(9.8, "x")` is `9.80×`."""
    if value is None:
        return "–"
    if isinstance(value, str) and unit == "quantity":
        number, _, name = value.partition(" ")
        if name == "1":
            return f"{float(number):.4g}"
        return pretty(si(float(number), name))
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    if unit in ("%", "share"):
        return percent(value, 2 if unit == "%" else 1)
    if unit == "x":
        return f"{value:.2f}×"
    if unit == "points":
        return f"{round(100 * value, 2) + 0:.2f} points"
    if unit and unit not in ("code", "standing"):
        return pretty(si(value, unit))
    large = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}".replace(",", " ") if large else f"{value:.4g}"
