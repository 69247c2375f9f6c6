"""The short form on a terminal: the numbers of the report, and no name that speaks to the terminal."""

import io
from pathlib import Path

from rich.console import Console
from typer.testing import CliRunner

from memspike.cli.app import app
from memspike.errors import FileRefused
from memspike.reporter import Report, print_report
from memspike.reporter.items import shown
from reports import Case


def printed(made: Report, width: int = 200) -> str:
    stream = io.StringIO()
    print_report(made, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def test_the_terminal_shows_headline_accuracy_costs_and_checks(case: Case, full_report: Report) -> None:
    text = printed(full_report)
    design, baseline = case.designs[0]
    ratio = case.summary["ratio"]
    wanted = [shown(ratio["speedup"], "x").replace("×", "x"), shown(ratio["energy_saving"], "share"), shown(design.cost.latency, "s").replace("µ", "u")]
    wanted += [
        shown(baseline.cost.energy, "J").replace("µ", "u"),
        shown(case.summary["accuracy"]["direct"], "%"),
        "spike_equals_program",
        "89.1 %",
        "not evidence",
    ]
    for piece in wanted:
        assert piece in text


def test_the_terminal_needs_no_special_signs(full_report: Report) -> None:
    assert printed(full_report).isascii()


def test_names_are_printed_as_they_are(hostile_report: Report) -> None:
    text = printed(hostile_report, 1000)
    assert "[bold red]loud[/bold red]" in text
    assert "<script>alert(1)</script>" in text
    assert "\x1b" not in text


def test_narrow_terminals_lose_nothing(full_report: Report) -> None:
    assert max(map(len, printed(full_report, 60).splitlines())) <= 60


def test_a_page_that_cannot_be_written_is_an_error_alone(full_report: Report, tmp_path: Path) -> None:
    full_report.save(tmp_path / "report.json")
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "no" / "page.html")])
    assert isinstance(done.exception, FileRefused) and not done.stdout
