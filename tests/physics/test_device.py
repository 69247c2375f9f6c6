"""Cells: what is written, what is read later, and what the papers say about it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import chip, device, law, number, stuck
from memspike.cell import Device, Law, Verify
from memspike.errors import ChipError
from memspike.physics.device import age, cautions, does_age, draw_faults, read_noise, write
from memspike.physics.laws import check_laws
from memspike.storage import device_names, load_device

DAY = 86400.0
MANY = 40_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def read_after(cell, level: int, seconds: float, max_level: int = 8, number_of_cells: int = MANY):
    """Target and conductances [S] of many cells of one level, `seconds` after writing."""
    written = write(cell, np.full(number_of_cells, level), max_level, rng(1))
    return written.target[0], age(cell, written, seconds, rng(2))


@st.composite
def devices(draw) -> Device:
    """Cells with any laws, tolerances, stuck cells and noise."""
    shares = st.floats(0, 0.5)
    kinds = [law("constant", std=draw(shares)), law("lognormal", std=draw(shares)), law("wan2022"), law("milo2021"), law("cmo_hfox"), law("nandakumar2019")]
    programming = draw(st.sampled_from([None, *kinds]))
    return device(
        programming=programming,
        verify=draw(st.none() | st.builds(Verify, st.floats(0.001, 0.5).map(number), st.integers(1, 5))) if programming else None,
        stuck=draw(st.none() | st.builds(stuck, shares, shares, st.none() | st.floats(0, 1e-6), st.none() | st.floats(40e-6, 1e-3))),
        read_noise=draw(st.none() | shares.map(number)),
        drift=draw(st.sampled_from([None, law("cmo_hfox"), law("nandakumar2019"), law("power_law", nu=0.05, t0=20.0, nu_std=0.01)])),
        temperature=draw(st.sampled_from([None, law("lammie2021", temperature=250.0), law("lammie2021", temperature=400.0)])),
    )


@given(devices(), st.integers(1, 15), st.integers(0, 2**32 - 1), st.floats(0, 1e9))
def test_whatever_the_cell_no_conductance_is_negative_and_a_seed_says_all(cell, max_level, seed, seconds):
    levels = rng(seed).integers(0, max_level + 1, (5, 6))
    faults = draw_faults(cell, levels.shape, rng(seed))
    written = write(cell, levels, max_level, rng(seed), faults)
    later = age(cell, written, seconds, rng(seed))
    for g in (written.g, later):
        assert g.shape == levels.shape and np.isfinite(g).all() and (g >= 0).all()
        for kind, held in zip((1, 2), cell.stuck_conductances, strict=True):
            assert (g[faults == kind] == held).all() or (g is later and cell.temperature is not None)
    assert np.array_equal(written.target, cell.level_conductances(max_level)[levels])
    is_as_written = cell.temperature is None and (cell.drift is None or cell.drift.model != "nandakumar2019")
    assert not is_as_written or np.array_equal(age(cell, written, 0, rng(seed)), written.g)
    assert np.array_equal(later, age(cell, write(cell, levels, max_level, rng(seed), faults), seconds, rng(seed)))


@given(st.integers(1, 15), st.integers(0, 2**32 - 1), st.floats(0, 1e9))
def test_a_perfect_cell_is_what_it_was_meant_to_be(max_level, seed, seconds):
    levels = rng(seed).integers(0, max_level + 1, (3, 4))
    written = write(device(), levels, max_level, rng(seed))
    assert np.array_equal(written.g, device().level_conductances(max_level)[levels])
    assert np.array_equal(age(device(), written, seconds, rng(seed)), written.g)
    assert (written.pulses == 1).all() and read_noise(device()) == 0


# Standard deviation in percent of g_max at targets of 0, 1/4, 1/2, 3/4 and all of it: Wan et al. 2022 as fitted in aihwkit, inference/noise/reram.py
WAN = {1.0: (0.9, 5.6, 5.1, 3.8, 2.8), DAY: (1.8, 9.3, 9.8, 8.4, 6.6), 2 * DAY: (2.0, 9.2, 9.8, 8.4, 6.7)}


@pytest.mark.parametrize("seconds", WAN)
def test_hfox_cells_spread_as_wan_2022_measured(seconds):
    cell = device(programming=law("wan2022"), g_min=number(1e-12, "S"))
    for level, percent in enumerate(WAN[seconds]):
        target, g = read_after(cell, level, seconds, max_level=4)
        if level:
            assert abs(np.std(g) / 40e-6 * 100 - percent) < 0.05 + 4 * percent / math.sqrt(2 * MANY)  # they are given to 0.1
            assert abs(np.mean(g) - target) < 4 * np.std(g) / math.sqrt(MANY)
        else:  # half of the normal distribution lies below zero, where a cell conducts nothing
            assert abs(np.mean(g == 0) - 0.5) < 4 * 0.5 / math.sqrt(MANY)
            assert abs(np.sqrt(np.mean(g**2)) / 40e-6 * 100 - percent / math.sqrt(2)) < 0.05 + 4 * percent / math.sqrt(MANY)


def test_between_the_published_times_the_spread_is_interpolated_and_beyond_them_held():
    cell = device(programming=law("wan2022"))
    at = {seconds: np.std(read_after(cell, 4, seconds)[1]) for seconds in (1, math.sqrt(DAY), DAY, 2 * DAY, 365 * DAY)}
    assert at[math.sqrt(DAY)] == pytest.approx((at[1] + at[DAY]) / 2, rel=4 / math.sqrt(2 * MANY))
    assert at[365 * DAY] == at[2 * DAY]


def test_cells_at_the_lowest_level_are_as_the_law_says_at_any_time():
    """What lands below zero is kept as such until it is read: writing and ageing give the law's own distribution, cut at zero once."""
    cell = device(programming=law("wan2022"))
    _, g = read_after(cell, 0, DAY)
    x = 1 / 40
    std = sum(c * x**i for i, c in enumerate((0.701, 22.086, -50.773, 47.095, -16.458)))
    direct = np.maximum(1 + std * rng(3).standard_normal(MANY), 0) * 1e-6
    assert abs(np.mean(g) - np.mean(direct)) < 5 * np.std(g) * math.sqrt(2 / MANY)
    assert abs(np.mean(g == 0) - np.mean(direct == 0)) < 5 * math.sqrt(0.25 * 2 / MANY)


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
        (law("cmo_hfox", acceptance=0.002), lambda g: 0.00081e-6 + 0.00107 * g),
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
    relaxed, noise = 0.042 * math.log(DAY) + 0.412, 0.0277 * math.log10(target * 1e6) * math.sqrt(math.log(DAY / 2e-6))
    assert np.mean(g) - target == pytest.approx(-0.089e-6 * math.log(DAY), abs=0.03e-6)
    assert np.std(g) == pytest.approx(math.hypot(relaxed, noise) * 1e-6, rel=0.02)


def test_phase_change_cells_drift_with_a_power_of_time():
    target, g = read_after(device(drift=law("nandakumar2019")), 8, DAY)
    assert np.median(g) / target == pytest.approx(((DAY + 20) / 20) ** -0.049, rel=0.01)
    _, fixed = read_after(device(drift=law("power_law", nu=0.05, t0=1.0)), 8, 99.0)
    assert fixed == pytest.approx(np.full(MANY, 40e-6 * 100**-0.05))
    _, spread = read_after(device(drift=law("power_law", nu=0.05, t0=1.0, nu_std=0.01)), 8, 99.0)
    assert np.std(np.log(spread)) == pytest.approx(0.01 * math.log(100), rel=4 / math.sqrt(2 * MANY))


def test_a_hot_cell_conducts_as_its_paper_says():
    """R x 10^(p (T - 273)) of the authors' code, from 298 to 373 K: the low-resistance state loses conductance, the high-resistance state gains."""
    for resistance, p in ((2400.0, 0.000801158151673717), (55e3, -0.00420717061486765)):
        cell = device(g_min=number(0.5 / resistance, "S"), g_max=number(1 / resistance, "S"), temperature=law("lammie2021", temperature=373.0))
        hot = age(cell, write(cell, np.array([1]), 1, rng(0)), 0.0, rng(0))[0]
        published = [resistance * 10 ** (p * kelvin + np.log10(1) - p * 273) for kelvin in (298, 373)]
        assert hot * resistance == pytest.approx(published[0] / published[1])
    cold = replace(cell, temperature=law("lammie2021", temperature=250.0))
    colder = replace(cell, temperature=law("lammie2021", temperature=220.0))
    assert age(cold, write(cold, np.array([1]), 1, rng(0)), 0.0, rng(0)) == age(colder, write(colder, np.array([1]), 1, rng(0)), 0.0, rng(0))
    as_written = replace(cell, temperature=law("lammie2021", temperature=298.0))
    assert age(as_written, write(as_written, np.array([0, 1]), 1, rng(0)), 0.0, rng(0)) == pytest.approx(cell.level_conductances(1))
    with pytest.raises(ChipError, match="measured from 213 to 413 K; got 500 K"):
        age(replace(cell, temperature=law("lammie2021", temperature=500.0)), write(cell, np.array([1]), 1, rng(0)), 0.0, rng(0))
    assert "law lammie2021 was measured from 18.18 to 416.7 uS, not from 1 to 40 uS" in cautions(device(temperature=law("lammie2021", temperature=350.0)))[0]


def test_heat_knows_no_stuck_cell():
    """What cannot be written is as hot as what can: a cell stuck at a level conducts what a healthy one of that level does."""
    cell = device(temperature=law("lammie2021", temperature=358.0), stuck=stuck(0.1, 0.1))
    levels, faults = np.array([0, 0, 8, 8]), np.array([0, 1, 0, 2], np.uint8)
    low, stuck_low, high, stuck_high = age(cell, write(cell, levels, 8, rng(), faults), DAY, rng())
    assert low == stuck_low > 1.5e-6 and high == stuck_high > 41e-6


def test_phase_change_cells_fluctuate_from_the_start():
    """Their slow noise has been growing since they were written, 20 s before time 0: aihwkit has it at 0 s too."""
    target, g = read_after(device(drift=law("nandakumar2019")), 8, 0.0)
    slow = 0.0088 * math.sqrt(math.log((20 + 250e-9) / 500e-9))
    assert np.std(g) / target == pytest.approx(slow, rel=4 / math.sqrt(2 * MANY)) and np.mean(g) == pytest.approx(target, rel=0.01)


@pytest.mark.parametrize("drift", [None, law("power_law", nu=0.05, t0=1.0, nu_std=0.05)])
def test_different_times_are_the_same_cells(drift):
    """Also across the first second, before which no relaxation is known: what is drawn next is drawn alike."""
    cell = device(programming=law("wan2022"), drift=drift)
    written = write(cell, np.full(MANY, 4), 8, rng(1))
    before, after, later = (age(cell, written, seconds, rng(2)) - written.g for seconds in (1.0, 1.001, 1.01))
    assert np.corrcoef(after, later)[0, 1] > 0.9 and (drift is None or np.corrcoef(before, after)[0, 1] > 0.9)


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


def test_a_stuck_cell_takes_all_its_pulses_unless_it_is_where_it_should_be():
    cell = device(programming=law("constant", std=0.05), verify=Verify(number(0.01), 7), stuck=stuck(0.1, 0.1))
    written = write(cell, np.array([0, 8, 8, 0]), 8, rng(), np.array([1, 1, 2, 2], np.uint8))
    assert written.pulses.tolist() == [1, 7, 1, 7]


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
    assert np.array_equal(cell.level_conductances(4), table)
    assert np.array_equal(cell.level_conductances(2), np.array(table)[[0, 3, 4]])
    assert np.array_equal(cell.level_conductances(3), np.array(table)[[0, 2, 3, 4]])
    close = (2.7846372007420796e-05, 9.999999999999999e-05, 1e-4)  # the last even step rounds to the second of these
    assert replace(cell, g_min=number(close[0], "S"), g_max=number(close[-1], "S"), conductances=close, levels=3).level_conductances(1)[-1] == close[-1]
    with pytest.raises(ChipError, match="has 5 measured levels; levels 0 to 7 are wanted"):
        cell.level_conductances(7)
    assert cell.level_errors(4) == pytest.approx((np.array(table) - 1e-6) / 39e-6 * 4 - np.arange(5)) and cell.level_errors(4)[1] < -0.5
    assert not device().level_errors(4).any() and not replace(cell, conductances=tuple(np.linspace(1e-6, 40e-6, 5))).level_errors(4).any()
    noisy = replace(cell, programming=measured([1e-7 * (level + 1) for level in range(5)]))
    g = write(noisy, np.full(MANY, 4), 4, rng()).g
    assert np.std(g) == pytest.approx(5e-7, rel=0.02)


def measured(stds: list[float]) -> Law:
    return Law("measured", {f"std_{level}": number(std, "S") for level, std in enumerate(stds)})


@given(st.lists(st.floats(1e-7, 1e-4), min_size=3, max_size=16, unique=True), st.data())
def test_levels_of_a_measured_table_are_its_own_ascend_and_reach_its_ends(values, data):
    table = tuple(sorted(values))
    cell = replace(device(), g_min=number(table[0], "S"), g_max=number(table[-1], "S"), conductances=table, conductances_source="test", levels=len(table))
    max_level = data.draw(st.integers(1, len(table) - 1))
    found = cell.level_conductances(max_level)
    assert len(found) == max_level + 1 and set(found) <= set(table) and (np.diff(found) > 0).all()
    assert (found[0], found[-1]) == (table[0], table[-1])


def test_what_no_paper_measured_is_said():
    assert cautions(load_device("neurosim-rram")) == ()
    (ageless,) = cautions(load_device("neurosim-rram"), DAY)
    assert ageless == "Cells neurosim-rram: no law says what time does to them; after 1 days they are read as they were written."
    assert cautions(load_device("wan2022-hfox"), 2 * DAY) == ()
    (late,) = cautions(load_device("wan2022-hfox"), 30 * DAY)
    assert late == "Cells wan2022-hfox: the law wan2022 was measured for 2 days; its last value is held at 30 days."
    (scaled,) = cautions(device(programming=law("wan2022"), g_max=number(80e-6, "S")))
    assert scaled == "Cells test-cell: the law wan2022 was measured at a full scale of 40 uS and is scaled to 80 uS."
    (outside,) = cautions(device(programming=law("milo2021")))
    assert outside == "Cells test-cell: the law milo2021 was measured from 50 to 225 uS, not from 1 to 40 uS."
    (twice,) = cautions(device(programming=law("wan2022"), verify=Verify(number(0.01), 3)))
    assert twice == "Cells test-cell: the law wan2022 is what its paper's write-verify left; here it is verified once more."


@pytest.mark.parametrize("name", device_names())
def test_cells_that_come_with_memspike_are_what_their_papers_measured(name):
    cell = load_device(name)
    assert cell.name == name and cautions(cell) == () and len(cautions(cell, DAY)) == (not does_age(cell))
    assert cell.programming or cell.stuck
    for path, quantity in chip().with_device(cell).quantities().items():
        if not path.startswith("crossbar.device."):
            continue
        assert (quantity.standing == "assumed") == quantity.source.startswith("assumed: "), path
    written = write(cell, np.full(MANY, 7), 7, rng(1))
    assert abs(np.mean(age(cell, written, DAY, rng(2))) - written.target[0]) < 0.4 * written.target[0]


def test_laws_and_times_that_make_no_sense_are_refused():
    with pytest.raises(ChipError, match=r"device test-cell: no law is called 'wan'\n  laws: constant, lognormal, measured, wan2022"):
        check_laws(device(programming=law("wan")))
    with pytest.raises(ChipError, match="the law 'constant' takes std, got none"):
        check_laws(device(programming=law("constant")))
    with pytest.raises(ChipError, match="the law 'power_law' takes nu, t0, nu_std, got nu"):
        check_laws(device(drift=law("power_law", nu=0.05)))
    with pytest.raises(ChipError, match="the law 'power_law' takes t0 in 's', got it in '1'"):
        check_laws(device(drift=Law("power_law", {"nu": number(0.05), "t0": number(20.0)})))
    with pytest.raises(ChipError, match="the law 'power_law' needs a t0 above zero"):
        check_laws(device(drift=law("power_law", nu=0.05, t0=0.0)))
    with pytest.raises(ChipError, match="the law 'cmo_hfox' was measured for an acceptance of 0.002 and 0.02; got 0.01"):
        check_laws(device(programming=law("cmo_hfox", acceptance=0.01)))
    with pytest.raises(ChipError, match="the law 'measured' needs one std for each level"):
        check_laws(device(programming=measured([1e-7])))
    with pytest.raises(ChipError, match=r"the law 'constant' takes std as a share of g_max - g_min; got 3.5, more than all of it\n  0.035 is 3.5 %"):
        check_laws(device(programming=law("constant", std=3.5)))
    with pytest.raises(ChipError, match="a time of -1 s"):
        age(device(), write(device(), np.zeros(3, int), 8, rng()), -1, rng())
