"""The golden texts: what the compiler makes of known networks, reviewed as diffs."""

import runpy
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
MAKE = runpy.run_path(str(GOLDEN / "make.py"))
PROGRAMS = MAKE["programs"]()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_compiler_still_writes_the_golden_text(name: str) -> None:
    command, digest, text = (GOLDEN / f"{name}.program").read_text(encoding="utf-8").split("\n", 2)
    assert f"{command}\n" == MAKE["COMMAND"]
    assert text == str(PROGRAMS[name])
    assert digest == f"# digest: {PROGRAMS[name].digest()}"


def test_every_golden_text_has_its_program() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.program")) == sorted(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_count_moved(name: str) -> None:
    assert [layer["moved"] for layer in PROGRAMS[name].notes["compile"]["layers"]] == [0] * len(PROGRAMS[name].notes["compile"]["layers"])
