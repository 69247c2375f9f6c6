"""The page in a browser: every figure is drawn, no error, no broken policy, no sideways scrolling, at two widths and in two themes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memspike.reporter import Report
from memspike.reporter.items import Figure

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the page is not opened in a browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not opened in a browser"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, path: Path, width: int, theme: str) -> tuple[Any, list[str]]:
    """The page with every figure drawn, and everything that the browser complained about or asked the network for."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".plot:not([data-drawn])", state="detached")
    return page, complaints


@pytest.fixture(scope="module")
def path(full_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    full_report.save(path)
    return path


@pytest.fixture(scope="module")
def wide(browser: Any, path: Path) -> tuple[Any, list[str]]:
    return opened(browser, path, 1400, "light")


@pytest.fixture(scope="module")
def narrow(browser: Any, path: Path) -> tuple[Any, list[str]]:
    return opened(browser, path, 390, "dark")


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_every_figure_is_drawn_without_complaint(request: pytest.FixtureRequest, full_report: Report, width: str) -> None:
    page, complaints = request.getfixturevalue(width)
    figures = sum(isinstance(item, Figure) for section in full_report.sections for item in section.items)
    assert page.evaluate("Array.from(document.querySelectorAll('.plot')).filter(p => p.querySelector('.main-svg .cartesianlayer .subplot')).length") == figures
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("Array.from(document.querySelectorAll('.plot')).every(p => p.scrollWidth <= p.clientWidth + 1)")
    assert complaints == []


def test_numbers_and_figures_can_be_taken_away(wide: tuple[Any, list[str]]) -> None:
    page, complaints = wide
    with page.expect_download() as csv:
        page.locator("a[download='energy-by-component.csv']").click()
    assert Path(csv.value.path()).read_text(encoding="utf-8").startswith("component,")
    with page.expect_download() as svg:
        page.locator("button[data-name='energy-by-component.svg']").press("Enter")
    assert Path(svg.value.path()).read_text(encoding="utf-8").startswith("<svg")
    assert complaints == []


def test_paper_is_light_and_narrow(narrow: tuple[Any, list[str]]) -> None:
    page, complaints = narrow
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    widths = page.evaluate("Array.from(document.querySelectorAll('.plot-container .main-svg')).map(svg => svg.getBoundingClientRect().width)")
    assert 600 <= max(widths) <= 640
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") is None
    assert complaints == []


def test_the_theme_is_chosen_kept_and_reaches_the_plots(narrow: tuple[Any, list[str]]) -> None:
    page, complaints = narrow
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    dark = page.evaluate(ink)
    page.locator("#theme").press("Enter")
    assert page.locator("#theme").text_content() == "Theme: light"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 249, 246)"
    page.wait_for_timeout(200)
    assert page.evaluate(ink) != dark
    page.reload(wait_until="domcontentloaded")
    assert page.locator("#theme").text_content() == "Theme: light"
    assert complaints == []


def test_hostile_names_do_nothing_in_a_browser(browser: Any, hostile_report: Report, tmp_path: Path) -> None:
    hostile_report.save(tmp_path / "evil.html")
    page, complaints = opened(browser, tmp_path / "evil.html", 1400, "light")
    assert complaints == []
    assert page.locator(".plot a, .plot b, .plot script").count() == 0
    assert page.locator(".plot text", has_text="<script>alert(1)").count() > 0


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_the_page_on_many_chips_is_drawn_without_complaint(browser: Any, chips_report: Report, tmp_path: Path, width: int, theme: str) -> None:
    chips_report.save(tmp_path / "chips.html")
    page, complaints = opened(browser, tmp_path / "chips.html", width, theme)
    figures = sum(isinstance(item, Figure) for section in chips_report.sections for item in section.items)
    assert page.evaluate("Array.from(document.querySelectorAll('.plot')).filter(p => p.querySelector('.main-svg .cartesianlayer .subplot')).length") == figures
    assert page.locator(".plot .boxlayer .point, .plot .boxlayer path.point, .plot path.point").count() >= 30
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints == []
