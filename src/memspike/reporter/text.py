"""A report on a terminal: headline, accuracy, costs and checks as tables."""

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from memspike.reporter.items import Headline, Note, Table, shown
from memspike.reporter.report import Report
from memspike.words import clean

_TABLES = ("ratios", "accuracy", "costs", "energy-components", "area-components", "checks", "quantiles", "causes", "ways", "over-time", "layers-written")
_WORDS = {"", "code", "standing"}
_ASCII = str.maketrans({"µ": "u", "²": "2", "×": "x", "–": "-"})  # not every terminal has these signs


def print_report(report: Report, console: Console) -> None:
    """Print the short form of a report; names are printed as text, never as markup or control codes."""
    console.print(_text(report.title, "bold"))
    printed: set[str] = set()
    for item in (item for section in report.sections for item in section.items):
        if isinstance(item, Headline):
            console.print(_headline(item))
        elif isinstance(item, Note) and item.tone == "caution":
            console.print(_text(item.text, "yellow"))
        elif isinstance(item, Table) and item.name in _TABLES and item.name not in printed:
            printed.add(item.name)
            console.print(_table(item))


def _headline(item: Headline) -> Grid:
    compares = any(m.paper for m in item.measures)
    paper = [("paper (abstract)", "right")] if compares else []
    grid = _grid("", [("", "left"), ("here" if compares else "", "right"), *paper, ("", "left")])
    for m in item.measures:
        published = [m.paper] if compares else []
        grid.add_row(*map(_text, (m.label, shown(m.value, m.unit), *published, f"{m.detail} ({m.caution})" if m.caution else m.detail)))
    return grid


def _table(item: Table) -> Grid:
    grid = _grid(item.title, [(c.label, "left" if c.unit in _WORDS else "right") for c in item.columns])
    for row in item.rows:
        grid.add_row(*(_text(shown(value, column.unit)) for value, column in zip(row, item.columns, strict=True)))
    return grid


def _grid(title: str, columns: list[tuple[str, str]]) -> Grid:
    grid = Grid(title=_text(title) if title else None, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for label, side in columns:
        grid.add_column(_text(label), justify="right" if side == "right" else "left", overflow="fold")
    return grid


def _text(value: str, style: str = "") -> Text:
    return Text(clean(value).translate(_ASCII), style=style)
