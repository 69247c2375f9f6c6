"""Currents of crossbars with wire resistance agree with badcrossbar, an independent nodal solver (see badcrossbar/HOW.md)."""

import os
from pathlib import Path

import numpy as np
import pytest

from memspike.physics import effective_conductance

ROOT = Path(__file__).parents[2]
KEPT = sorted((Path(__file__).parent / "badcrossbar").glob("*.npz"))
DATA = os.environ.get("MEMSPIKE_DATA")
ELSEWHERE = (Path(DATA).parent if DATA else ROOT.parent / "shared") / "reference" / "badcrossbar"
LARGER = [path for path in sorted(ELSEWHERE.glob("*.npz")) if path.name not in {kept.name for kept in KEPT}]


def largest_error(path: Path) -> float:
    """Largest relative error of a current; where no current flows, none may be computed."""
    with np.load(path) as truth:
        with np.errstate(divide="ignore"):
            g = 1 / truth["resistance"]
        currents = truth["voltage"].T @ effective_conductance(g, *(float(ohm) for ohm in truth["wire_resistance"]))
        wanted = truth["current"]
    assert (currents[wanted == 0] == 0).all()
    return float(np.max(np.abs(currents - wanted)[wanted != 0] / np.abs(wanted[wanted != 0])))


def test_the_kept_files_are_there() -> None:
    assert [path.stem for path in KEPT] == ["16x12_stuck_off_inf_and_on_r2", "8x8_rw2_rb0", "readme_3x5"]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_currents_are_badcrossbars(path: Path) -> None:
    assert largest_error(path) <= 1e-9


@pytest.mark.skipif(not LARGER, reason=f"no larger crossbars solved by badcrossbar in {ELSEWHERE}")
@pytest.mark.parametrize("path", LARGER, ids=lambda path: path.stem)
def test_currents_of_larger_crossbars_are_badcrossbars(path: Path) -> None:
    assert largest_error(path) <= 1e-9
