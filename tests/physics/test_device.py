"""Cells: what is written, what is read later, and what the papers say about it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import device, law, number, stuck
from memspike.chip import Verify
from memspike.errors import ChipError
from memspike.physics.device import age, check_laws, draw_faults, level_conductances, read_noise, write

DAY = 86400.0
MANY = 40_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def read_after(cell, level: int, seconds: float, max_level: int = 8, number_of_cells: int = MANY):
    """Target and conductances [S] of many cells of one level, `seconds` after writing."""
    written = write(cell, np.full(number_of_cells, level), max_level, rng(1))
    return written.target[0], age(cell, written, seconds, rng(2))


@given(st.integers(1, 15), st.integers(0, 2**32 - 1), st.floats(0, 1e9))
def test_a_perfect_cell_is_what_it_was_meant_to_be(max_level, seed, seconds):
    levels = rng(seed).integers(0, max_level + 1, (3, 4))
    written = write(device(), levels, max_level, rng(seed))
    assert np.array_equal(written.g, level_conductances(device(), max_level)[levels])
    assert np.array_equal(age(device(), written, seconds, rng(seed)), written.g)
    assert (written.pulses == 1).all() and read_noise(device()) == 0


# Standard deviation in percent of g_max at targets of 0, 1/4, 1/2, 3/4 and all of it: Wan et al. 2022 as fitted in aihwkit, inference/noise/reram.py
WAN = {1.0: (0.9, 5.6, 5.1, 3.8, 2.8), DAY: (1.8, 9.3, 9.8, 8.4, 6.6), 2 * DAY: (2.0, 9.2, 9.8, 8.4, 6.7)}


@pytest.mark.parametrize("seconds", WAN)
def test_hfox_cells_spread_as_wan_2022_measured(seconds):
    cell = device(programming=law("wan2022"), g_min=number(1e-12, "S"))
    for level, percent in enumerate(WAN[seconds]):
        target, g = read_after(cell, level, seconds, max_level=4)
        if level:  # at level 0 the distribution is cut at zero
            assert abs(np.std(g) / 40e-6 * 100 - percent) < 0.15
            assert abs(np.mean(g) - target) < 4 * np.std(g) / math.sqrt(MANY) + 0.002 * target
        else:
            assert abs(np.std(g, mean=0.0) / 40e-6 * 100 - percent / math.sqrt(2)) < 0.15


def test_cells_that_have_been_written_move_on_from_where_they_are():
    """The day after, a cell lies where it lay plus a further error: the whole distribution is Wan's, and the cell remembers."""
    cell = device(programming=law("wan2022"))
    written = write(cell, np.full(MANY, 4), 8, rng(1))
    later = age(cell, written, DAY, rng(2))
    assert np.corrcoef(written.g, later)[0, 1] == pytest.approx(np.std(written.g) / np.std(later), abs=0.02)
    spreads = [np.std(age(cell, written, seconds, rng(2))) for seconds in (0, 1, 60, 3600, DAY)]
    assert spreads[0] == spreads[1] and spreads == sorted(spreads)


@pytest.mark.parametrize(
    ("programming", "std"),
    [
        (law("constant", std=0.035), lambda g: 0.035 * 39e-6),
        (law("milo2021"), lambda g: 4.78e-6 - 0.0091 * g),
        (law("cmo_hfox"), lambda g: 0.0112e-6 + 0.0113 * g),
        (law("nandakumar2019"), lambda g: (0.26348 + 1.965 * g / 40e-6 - 1.1731 * (g / 40e-6) ** 2) / 25 * 40e-6),
    ],
    ids=lambda value: getattr(value, "model", ""),
)
def test_an_error_of_writing_has_the_spread_of_its_paper(programming, std):
    for level in (4, 6, 8):
        target, g = read_after(device(programming=programming), level, 0)
        assert np.std(g) == pytest.approx(std(target), rel=4 / math.sqrt(2 * MANY))
        assert abs(np.mean(g) - target) < 5 * np.std(g) / math.sqrt(MANY)


def test_a_lognormal_error_multiplies():
    target, g = read_after(device(programming=law("lognormal", std=0.3)), 5, 0)
    assert np.std(np.log(g / target)) == pytest.approx(0.3, rel=0.02) and np.mean(np.log(g / target)) == pytest.approx(0, abs=0.01)


def test_a_relaxing_cell_loses_conductance_with_the_logarithm_of_time():
    target, g = read_after(device(drift=law("cmo_hfox")), 4, DAY)
    assert np.mean(g) - target == pytest.approx(-0.089e-6 * math.log(DAY), abs=0.03e-6)
    assert np.std(g) == pytest.approx((0.042 * math.log(DAY) + 0.412) * 1e-6, rel=0.02)


def test_phase_change_cells_drift_with_a_power_of_time():
    target, g = read_after(device(drift=law("nandakumar2019")), 8, DAY)
    assert np.median(g) / target == pytest.approx(((DAY + 20) / 20) ** -0.049, rel=0.01)
    _, fixed = read_after(device(drift=law("power_law", nu=0.05, t0=1.0)), 8, 99.0)
    assert fixed == pytest.approx(np.full(MANY, 40e-6 * 100**-0.05))


@given(st.floats(0.005, 0.2), st.integers(1, 8))
def test_verifying_writes_again_what_misses(tolerance, max_pulses):
    cell = device(programming=law("constant", std=0.05), verify=Verify(number(tolerance), max_pulses))
    written = write(cell, rng().integers(0, 9, 500), 8, rng())
    misses = np.abs(written.g - written.target) > tolerance * 40e-6
    assert written.pulses.max() <= max_pulses
    assert (written.pulses[misses] == max_pulses).all(), "a cell is given up only when its pulses are spent"


def test_more_pulses_lie_closer():
    def spread(max_pulses: int) -> float:
        cell = device(programming=law("constant", std=0.05), verify=Verify(number(0.01), max_pulses))
        written = write(cell, np.full(5000, 4), 8, rng())
        return float(np.std(written.g - written.target))

    found = [spread(pulses) for pulses in (1, 2, 5, 20)]
    assert found == sorted(found, reverse=True) and found[-1] < found[0] / 3


def test_stuck_cells_are_as_many_as_the_device_says_and_never_move():
    cell = device(stuck=stuck(0.0904, 0.0175, high_g=90e-6), programming=law("wan2022"), drift=law("cmo_hfox"))
    faults = draw_faults(cell, (MANY,), rng())
    for kind, rate in ((1, 0.0904), (2, 0.0175)):
        assert abs(np.mean(faults == kind) - rate) < 5 * math.sqrt(rate * (1 - rate) / MANY)
    g = age(cell, write(cell, np.full(MANY, 4), 8, rng(), faults), DAY, rng())
    assert (g[faults == 1] == 1e-6).all() and (g[faults == 2] == 90e-6).all()
    assert not draw_faults(device(), (3, 4), rng()).any()


def test_a_measured_table_is_used_whole_or_by_its_nearest_conductances():
    table = (1e-6, 4e-6, 12e-6, 19e-6, 40e-6)
    cell = replace(device(), conductances=table, conductances_source="test", levels=5)
    assert np.array_equal(level_conductances(cell, 4), table)
    assert np.array_equal(level_conductances(cell, 2), np.array(table)[[0, 3, 4]])
    assert np.array_equal(level_conductances(cell, 3), np.array(table)[[0, 2, 3, 4]])
    with pytest.raises(ChipError, match="has 5 measured levels; levels 0 to 7 are wanted"):
        level_conductances(cell, 7)
    noisy = replace(cell, programming=law("measured", **{f"std_{level}": 1e-7 * (level + 1) for level in range(5)}))
    g = write(noisy, np.full(MANY, 4), 4, rng()).g
    assert np.std(g) == pytest.approx(5e-7, rel=0.02)


def test_laws_and_times_that_make_no_sense_are_refused():
    with pytest.raises(ChipError, match=r"device test-cell: no law is called 'wan'\n  laws: constant, lognormal, measured, wan2022"):
        check_laws(device(programming=law("wan")))
    with pytest.raises(ChipError, match="the law 'constant' takes std, got none"):
        check_laws(device(programming=law("constant")))
    with pytest.raises(ChipError, match="the law 'measured' needs measured conductances"):
        check_laws(device(programming=law("measured", std_0=1e-7)))
    with pytest.raises(ChipError, match="a time of -1 s"):
        age(device(), write(device(), np.zeros(3, int), 8, rng()), -1, rng())
