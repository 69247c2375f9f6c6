"""The Report itself: made from designs that belong together, saved whole, read back as it was."""

import copy
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from chips import test_chip
from memspike.errors import FileRefused, MemspikeError
from memspike.reporter import Report, print_report, report
from memspike.reporter.items import Figure, Note, Section
from reports import Case, relabelled

SECTIONS = ["headline", "accuracy", "cost", "evidence", "paper", "placement", "spikes", "training", "constants", "provenance"]


def test_sections_come_in_reading_order(full_report: Report) -> None:
    assert [section.name for section in full_report.sections] == SECTIONS
    assert full_report.title == "lenet on predictive"


def test_a_title_may_be_given(case: Case) -> None:
    assert report(case.network, case.designs[:1], case.summary, title="mine").title == "mine"


def test_json_comes_back_equal(full_report: Report, hostile_report: Report) -> None:
    for made in (full_report, hostile_report):
        text = made.to_json()
        again = Report.from_json(text)
        assert again.to_json() == text
        assert again.html() == made.html()


def test_report_is_the_same_every_time(case: Case, full_report: Report) -> None:
    assert report(case.network, case.designs, case.summary).to_json() == full_report.to_json()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"memspike report": 2}', '{"memspike report": 1, "title": "x", "sections": [{"name": "a"}]}', "[" * 100_000]
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(FileRefused, match="is no report"):
        Report.from_json(text)


@pytest.mark.parametrize("change", [{"kind": "video"}, {"surprise": 1}, {"tone": None}])
def test_an_item_that_is_none_is_refused(change: dict[str, Any]) -> None:
    document = json.loads(Report("x", (Section("a", "A", (Note("text"),)),)).to_json())
    item = document["sections"][0]["items"][0]
    item.update(change)
    if change == {"tone": None}:
        del item["text"]
    with pytest.raises(FileRefused, match="is no report"):
        Report.from_json(json.dumps(document))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_report_is_refused_or_shown(full_report: Report, data: st.DataObject) -> None:
    """One value anywhere becomes another, or goes: never a traceback."""
    document = json.loads(full_report.to_json())
    inner: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if not isinstance(inner[key], dict | list) or not inner[key] or data.draw(st.integers(0, 5)) == 0:
            break
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[key]
    else:
        inner[key] = data.draw(st.sampled_from([None, 5, -1.5, "x", [], {}, True, [1], {"a": 1}, "\x1b[2J", 1e400]))
    try:
        read = Report.from_json(json.dumps(document))
    except FileRefused as error:
        assert error.what.startswith("is no report")
    else:
        print_report(read, Console(file=io.StringIO(), width=120))
        read.html()


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("table", {"rows": [["a", 1, 2]]}, "has a row of 3 cells and"),
        ("figure", {"plot": {"layout": {}}}, "has the height None"),
        ("figure", {"plot": {"layout": {"height": 1e400}}}, "is no report"),
        ("note", {"text": ["a"]}, "Input should be a valid string"),
    ],
)
def test_what_is_wrong_with_an_item_is_said(full_report: Report, kind: str, change: dict[str, Any], says: str) -> None:
    document = json.loads(full_report.to_json())
    items = [item for section in document["sections"] for item in section["items"] if item["kind"] == kind]
    next(item for item in items if kind != "table" or len(item["columns"]) == 2).update(change)
    with pytest.raises(FileRefused, match=says):
        Report.from_json(json.dumps(document))


def test_saving_goes_by_suffix(full_report: Report, full_page: str, tmp_path: Path) -> None:
    full_report.save(tmp_path / "a.html")
    full_report.save(tmp_path / "a.json")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == full_page
    assert Report.from_json((tmp_path / "a.json").read_text(encoding="utf-8")).title == full_report.title
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]


def test_another_suffix_is_refused(full_report: Report, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"\.html or \.json, not as \.pdf"):
        full_report.save(tmp_path / "a.pdf")
    with pytest.raises(FileRefused, match="cannot be written"):
        full_report.save(tmp_path / "nowhere" / "a.html")


def test_a_section_is_found_by_name(full_report: Report) -> None:
    assert full_report.section("cost").title == "Speed, energy, area"
    with pytest.raises(MemspikeError, match="no section 'costs'"):
        full_report.section("costs")


def test_a_page_stays_small_beside_plotly(full_report: Report) -> None:
    assert len(full_report.to_json()) < 1_500_000


def test_figure_names_are_different(full_report: Report) -> None:
    names = [item.name for section in full_report.sections for item in section.items if isinstance(item, Figure)]
    assert len(names) == len(set(names)) > 15


def test_designs_must_come_in_pairs_on_one_chip(case: Case) -> None:
    (design, baseline), (other, _) = case.designs
    with pytest.raises(MemspikeError, match="at least one pair"):
        report(case.network, [], case.summary)
    with pytest.raises(MemspikeError, match="is on chip predictive, 8-bit dynamic fixed point on test"):
        report(case.network, [(design, relabelled(baseline, test_chip(), baseline.label))], case.summary)
    with pytest.raises(MemspikeError, match="two pairs are on the same chip"):
        report(case.network, [case.designs[0]] * 2, case.summary)
    with pytest.raises(MemspikeError, match="both designs of a pair are called '4/4 bits'"):
        report(case.network, [(other, dataclasses.replace(case.designs[1][1], label=other.label))], case.summary)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("cost", "latency_s"),
        ("cost", "throughput_hz"),
        ("baseline", "energy_j"),
        ("baseline", "area_m2"),
        ("ratio", "speedup"),
        ("ratio", "energy_saving"),
        ("ratio", "area_saving"),
    ],
)
def test_a_summary_that_contradicts_the_designs_is_refused(case: Case, part: str, key: str) -> None:
    summary = copy.deepcopy(case.summary)
    summary[part][key] *= 1.001
    with pytest.raises(MemspikeError, match=rf"summary {part}\.{key}: is .*, but the first pair of designs gives"):
        report(case.network, case.designs, summary)
    del summary[part][key]
    assert report(case.network, case.designs, summary) == report(case.network, case.designs, case.summary), "the designs say it"


@pytest.mark.parametrize("value", [None, "good", 99.3, float("nan"), -0.1])
def test_an_accuracy_is_a_fraction(case: Case, value: Any) -> None:
    summary = copy.deepcopy(case.summary)
    summary["accuracy"]["program"] = value
    with pytest.raises(MemspikeError, match=r"accuracy of program is .*; expected a fraction from 0 to 1"):
        report(case.network, case.designs, summary)
