"""A report as one HTML page: everything inlined, every name escaped, nothing loaded, scripts named by their hash."""

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from memspike.reporter.items import Cell, Column, Figure, Item, Measure, Section, Table, shown
from memspike.words import clean

_MOST_DATA_CELLS = 400  # a larger table under a figure would only be scrolled past; its CSV holds everything
_WORDS = {"", "code", "standing"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins with one of these


def page(title: str, sections: Sequence[Section]) -> str:
    """The page; its only scripts are plotly and our own, allowed by their SHA-256, and it may load nothing."""
    scripts = {"theme": _read("theme.js"), "plotly": _plotly(), "page": _read("page.js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_harmless, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(shown=_shown, csv=_csv, filename=_filename)  # pyright: ignore[reportUnknownMemberType, reportCallIssue, reportArgumentType]
    environment.tests.update(numeric=_numeric, kind=_is_kind)  # pyright: ignore[reportUnknownMemberType, reportCallIssue, reportArgumentType]
    return environment.from_string(_read("report.html.j2")).render(
        title=title,
        sections=sections,
        figures=Markup(_json(_plots(sections))),
        style=Markup(_read("page.css")),
        scripts={name: Markup(script) for name, script in scripts.items()},
        policy=_policy(scripts.values()),
        most_data_cells=_MOST_DATA_CELLS,
    )


def _plots(sections: Sequence[Section]) -> dict[str, Any]:
    """Every plot by the id of its figure, as the template numbers them."""
    return {f"{s.name}-{i}": item.plot for s in sections for i, item in enumerate(s.items, start=1) if isinstance(item, Figure)}


def _policy(scripts: Any) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def _json(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _harmless(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shown(value: Cell, column: Column | Measure) -> str:
    return shown(value, column.unit)


def _is_kind(item: Item, kind: str) -> bool:
    return type(item).__name__ == kind


def _numeric(item: Table | Figure, column: int) -> bool:
    """Whether a column is aligned to the right: it has a unit, or holds numbers only."""
    values = [row[column] for row in item.rows if row[column] is not None]
    return item.columns[column].unit not in _WORDS or (bool(values) and not any(isinstance(value, str) for value in values))


def _csv(item: Table | Figure) -> str:
    """A data URL of the item's raw numbers; units stand in the heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(
        [_safe_cell(f"{c.label} [{c.unit}]" if c.unit not in (*_WORDS, "%", "share", "x", "points", "quantity") else c.label) for c in item.columns]
    )
    writer.writerows([_safe_cell(value) for value in row] for row in item.rows)
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.getvalue().encode()).decode()}"


def _safe_cell(value: Cell) -> Cell:
    if not isinstance(value, str):
        return value
    value = clean(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


def _filename(name: str, suffix: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:80]}.{suffix}"


def _read(name: str) -> str:
    return resources.files("memspike.reporter").joinpath("page", name).read_text(encoding="utf-8")


def _plotly() -> str:
    # The one heavy import, needed only when a page is written.
    from plotly.offline import get_plotlyjs  # pyright: ignore[reportMissingTypeStubs]

    return get_plotlyjs()
