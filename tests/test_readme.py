"""The examples of the pages run as they stand, and print what the pages say they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("page", "begins", "points"), [("README.md", "accuracy ", 1.0), ("docs/python.md", "fp32 ", 2.0)])
def test_an_example_prints_what_its_page_shows(page: str, begins: str, points: float, tmp_path: Path) -> None:
    """Digits may differ between machines: accuracies on 360 images to a point (two where training is cut short, twice that on imperfect chips), what follows
    from them to a tenth."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    (shown,) = re.findall(rf"```text\n({begins}.*?)```", text, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    number = re.compile(r"\d+(?:\.\d+)?")
    assert number.sub("#", done.stdout) == number.sub("#", shown)
    for line, told in zip(done.stdout.splitlines(), shown.splitlines(), strict=True):
        most = 2 * points if "chip" in line and "%" in line else points
        for printed, promised in zip(number.findall(line), number.findall(told), strict=True):
            tolerance = most if "." in promised and float(promised) > 90 else 0.1 * float(promised)
            assert abs(float(printed) - float(promised)) <= tolerance, f"prints {printed}, the page says {promised}"


@pytest.mark.parametrize("page", [Path("README.md"), *sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))], ids=str)
def test_what_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page.parent / target).exists(), target
