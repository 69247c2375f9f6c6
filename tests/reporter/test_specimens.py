"""The page on many chips: what it says is what the study found, and what was not studied is left out."""

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from memspike.ensemble import Ensemble
from memspike.reporter import Report, print_report, report_chips
from memspike.reporter.items import Figure, Headline, Note, Table
from memspike.reporter.specimens import duration
from reports import HOSTILE, make_study


def printed(report: Report, width: int = 200) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


SECTIONS = ["chips", "causes", "ways", "time", "layers", "cells", "device", "provenance"]


def item(report: Report, section: str, kind: type[Any], name: str = "") -> Any:
    return next(i for i in report.section(section).items if isinstance(i, kind) and (not name or i.name == name))


def test_sections_come_in_reading_order_and_only_what_was_studied(chips_report: Report) -> None:
    assert [section.name for section in chips_report.sections] == SECTIONS
    assert [section.name for section in report_chips(make_study(detail=0), 0.5).sections] == ["chips", "cells", "device"]
    assert chips_report.title == "lenet: 30 chips on predictive"
    assert Report.from_json(chips_report.to_json()) == chips_report


def test_the_headline_and_the_box_are_the_ensemble() -> None:
    study = make_study()
    report = report_chips(study, 1.0)
    mean, ideal, share = item(report, "chips", Headline).measures
    assert (mean.value, ideal.value, share.value) == (study.whole.mean, 0.9932, study.whole.yield_within(1.0)[0])
    assert "one image is 0.1 points" in ideal.detail
    assert "within 1 points" in share.detail
    figure = item(report, "chips", Figure)
    (box,) = figure.plot["data"]
    assert box["x"][0] == pytest.approx(100 * study.whole.accuracies)
    spans = ((box["q1"], 25), (box["median"], 50), (box["q3"], 75))
    assert [found for found, _ in spans] == [pytest.approx([np.percentile(box["x"][0], q)]) for _, q in spans], "as the table below has them"
    assert figure.plot["layout"]["shapes"][0]["x0"] == pytest.approx(99.32)
    low, high = figure.plot["layout"]["xaxis"]["range"]
    assert low < 100 * study.whole.accuracies.min() and high > max(99.32, 100 * study.whole.accuracies.max())
    assert [row[0] for row in figure.rows] == list(range(7, 37))
    rows = dict(item(report, "chips", Table).rows)
    assert rows["median"] == np.median(study.whole.accuracies) and rows["lowest"] <= rows["5 %"] <= rows["25 %"] <= rows["median"] <= rows["highest"]


def test_losses_keep_their_sign_and_their_error() -> None:
    """A chip that does better than the program is drawn to the other side; it is not hidden."""
    study = make_study()
    better = Ensemble(0.9932, 1000, np.arange(2), np.array([0.9952, 0.9972]), np.array([3, 5]))
    study = dataclasses.replace(study, alone={**study.alone, "wires": better})
    figure = item(report_chips(study, 0.5), "causes", Figure)
    alone, others = figure.plot["data"]
    at = alone["y"].index("wire resistance")
    assert alone["x"][at] == pytest.approx(-0.3) and alone["error_x"]["array"][at] == pytest.approx(0.1)
    assert alone["y"][0] == "all together" and alone["x"][0] == pytest.approx(100 * study.together.loss)
    assert alone["x"][1:] == sorted(alone["x"][1:], reverse=True), "the worst first"
    assert others["x"][at] == pytest.approx(100 * study.without["wires"].loss)


def test_a_figure_says_on_how_many_chips_it_rests(chips_report: Report) -> None:
    for section in ("causes", "time", "layers"):
        assert "5 chips" in item(chips_report, section, Figure).caption


def test_every_number_of_the_device_has_source_and_standing(chips_report: Report) -> None:
    study = make_study()
    table = item(chips_report, "device", Table)
    wanted = {name for name in study.chip.quantities() if name.startswith(("crossbar", "neuron"))}
    assert {row[0] for row in table.rows} == wanted and all(row[2] and row[3] for row in table.rows)
    assert "the law 'wan2022'" in item(chips_report, "device", Note).text


def test_many_layers_are_all_in_the_table_and_some_are_drawn() -> None:
    report = report_chips(make_study(layers=tuple(f"conv{i}.sum" for i in range(20))), 0.5)
    assert len(item(report, "cells", Table).rows) == 20
    assert sum(isinstance(i, Figure) and i.name.startswith("written-") for i in report.section("cells").items) == 12
    assert item(report, "cells", Note).text.startswith("20 layers hold weights; the first 12 are drawn")


def test_chips_that_cannot_differ_are_said_to_be_one() -> None:
    study = make_study()
    alike = dataclasses.replace(study, chip=study.chip.only("wires"), imperfections=("wires",), is_alike=True)
    assert [i.tone for i in report_chips(alike, 0.5).section("chips").items if isinstance(i, Note)] == ["plain", "caution"]


def test_names_are_harmless(chips_report: Report) -> None:
    evil = " ".join(HOSTILE)
    report = report_chips(dataclasses.replace(make_study(layers=(evil,)), name=evil), 0.5, {evil: evil})
    assert "<script>alert(1)" not in report.html()
    assert "\x1b" not in printed(report, 1000)
    assert "Yield" in printed(chips_report)
    assert printed(chips_report).isascii()


@pytest.mark.parametrize(("seconds", "said"), [(0.5, "0.5 s"), (1.0, "1 s"), (90.0, "1.5 min"), (86400.0, "1 d"), (315576000.0, "10 y")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
