"""The page as text: everything is inside, nothing is loaded, no name becomes more than a name."""

import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from memspike.reporter import Report
from memspike.reporter.items import Column, Figure, Headline, Note, Section, Table, shown
from reports import HOSTILE, Case


class Page(HTMLParser):
    """Elements with their attributes, the text outside scripts and styles, and the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.scripts = "", list[tuple[dict[str, str], str]]()
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append((values, ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif not self._inside:
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [values[name] for _, values in self.elements if name in values]


@pytest.fixture(scope="module")
def page(full_page: str) -> Page:
    return Page(full_page)


@pytest.fixture(scope="module")
def evil(hostile_page: str) -> Page:
    return Page(hostile_page)


def csv_of(page: Page, filename: str) -> list[list[str]]:
    link = next(values for tag, values in page.elements if tag == "a" and values.get("download") == filename)
    text = base64.b64decode(link["href"].removeprefix("data:text/csv;charset=utf-8;base64,")).decode()
    return list(csv.reader(io.StringIO(text)))


def test_every_section_is_there_and_in_the_contents(full_report: Report, page: Page) -> None:
    ids, links = page.attributes("id"), page.attributes("href")
    for section in full_report.sections:
        assert section.name in ids
        assert f"#{section.name}" in links
        assert section.title in page.text
    assert len(ids) == len(set(ids))


def test_every_number_of_every_table_is_on_the_page(full_report: Report, page: Page) -> None:
    text = " ".join(page.text.split())
    for item in (item for section in full_report.sections for item in section.items):
        if isinstance(item, Table):
            for row in item.rows:
                for value, column in zip(row, item.columns, strict=True):
                    assert " ".join(shown(value, column.unit).split()) in text
        elif isinstance(item, Note):
            assert " ".join(item.text.split()) in text
        elif isinstance(item, Headline):
            for measure in item.measures:
                assert shown(measure.value, measure.unit) in text
                assert measure.paper in text and measure.caution in text


def test_the_page_loads_nothing(page: Page, evil: Page) -> None:
    for made in (page, evil):
        for name in ("src", "srcset", "action", "formaction", "data", "poster", "xlink:href", "background"):
            assert made.attributes(name) == []
        assert all(link.startswith(("#", "data:text/csv")) for link in made.attributes("href"))
        assert not [tag for tag, _ in made.elements if tag in ("link", "iframe", "object", "embed", "img", "base", "form")]


def test_the_style_loads_nothing(full_page: str) -> None:
    style = re.search(r"<style>(.*?)</style>", full_page, re.DOTALL)
    assert style and not re.search(r"@import|url\(|expression", style[1])


def test_the_policy_allows_our_scripts_by_hash_and_nothing_else(page: Page) -> None:
    policy = next(values["content"] for tag, values in page.elements if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy")
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["img-src"] == ["data:", "blob:"]
    run = [script for attributes, script in page.scripts if attributes.get("type") != "application/json"]
    assert rules["script-src"] == [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in run]
    assert len(run) == 3


def test_the_policy_comes_before_everything_that_could_run(page: Page) -> None:
    tags = [tag for tag, values in page.elements if tag == "script" or "http-equiv" in values]
    assert tags[0] == "meta"


def test_hostile_names_become_text_and_nothing_else(page: Page, evil: Page) -> None:
    assert len(evil.scripts) == len(page.scripts)
    assert not [values for _, values in evil.elements if any(name.startswith("on") for name in values)]
    assert not [link for link in evil.attributes("href") if "javascript" in link]
    assert "<script>alert(1)</script>" in evil.text
    assert "[bold red]loud[/bold red]" in evil.text


def test_no_control_character_reaches_the_page(hostile_page: str) -> None:
    before_plotly, _, after = hostile_page.partition("plotly.js v")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", before_plotly + after[-5000:])


def test_figures_in_the_page_cannot_end_their_script(evil: Page, hostile_report: Report) -> None:
    attributes, text = next((a, s) for a, s in evil.scripts if a.get("type") == "application/json")
    assert attributes["id"] == "figures"
    assert not set(text) & set("<>&")
    plots = json.loads(text)
    wanted = [item.plot for section in hostile_report.sections for item in section.items if isinstance(item, Figure)]
    assert list(plots.values()) == json.loads(json.dumps(wanted))


def test_plotly_gets_no_markup_in_any_label(hostile_report: Report) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, inner in value.items() if key != "hovertemplate" for text in texts(inner)]
        return [text for inner in value for text in texts(inner)] if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []

    found = [text for section in hostile_report.sections for item in section.items if isinstance(item, Figure) for text in texts(dict(item.plot))]
    assert any("alert" in text for text in found)
    for text in found:
        assert not set(text.replace("<br>", "")) & set("<>\x1b")


def test_hover_templates_hold_no_name(hostile_report: Report) -> None:
    for section in hostile_report.sections:
        for item in section.items:
            if isinstance(item, Figure):
                assert all("alert" not in trace.get("hovertemplate", "") for trace in item.plot["data"])


def test_every_plot_has_words_and_its_data(full_report: Report, page: Page) -> None:
    plots = [values for tag, values in page.elements if values.get("class") == "plot"]
    figures = [item for section in full_report.sections for item in section.items if isinstance(item, Figure)]
    assert len(plots) == len(figures)
    for values, item in zip(plots, figures, strict=True):
        assert values["role"] == "img"
        assert len(values["aria-label"]) > 20
        rows = csv_of(page, f"{re.sub('[^A-Za-z0-9_-]+', '-', item.name)[:80]}.csv")
        assert len(rows) == len(item.rows) + 1
        assert all(len(row) == len(item.columns) for row in rows)


def test_downloads_hold_the_raw_numbers(case: Case, page: Page) -> None:
    header, *rows = csv_of(page, "energy-by-component.csv")
    design, baseline = case.designs[0]
    assert header == ["component", f"{design.label} [J]", f"{baseline.label} [J]"]
    assert sum(float(row[1]) for row in rows) == pytest.approx(design.cost.energy, rel=1e-12)


def test_spreadsheets_get_no_formula(evil: Page) -> None:
    for name in ("constants-predictive.csv", "run.csv", "recipe.csv", "conversion.csv"):
        cells = [cell for row in csv_of(evil, name) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "@") or (cell.startswith("-") and not re.fullmatch(r"-[0-9.e+-]+", cell))]
    assert any(cell.startswith("'=1+1") for row in csv_of(evil, "constants-predictive.csv") for cell in row)


def test_tables_scroll_by_keyboard_in_their_own_frame(page: Page) -> None:
    frames = [values for _, values in page.elements if values.get("class") == "scroll"]
    assert len(frames) >= 10
    assert all(values["tabindex"] == "0" and values["role"] == "region" and ("aria-labelledby" in values or "aria-label" in values) for values in frames)


def test_an_id_is_never_more_than_an_id() -> None:
    bad = HOSTILE[3]
    made = Report(bad, (Section(f'a" {bad}', bad, (Table(bad, bad, (Column(bad, "standing"),), ((bad,),), bad), Note(bad, "plain"))),))
    parsed = Page(made.html())
    assert not [values for _, values in parsed.elements if values.get("href", "").startswith("javascript")]
    assert parsed.text.count("<a href='javascript:alert(2)'>x</a>") >= 6
