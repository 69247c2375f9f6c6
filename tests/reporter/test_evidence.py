"""The arithmetic behind the headline, against closed forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chips import test_chip
from memspike.cost import Cost, CostRow
from memspike.quantity import Quantity, Standing
from memspike.reporter.evidence import AREA, ENERGY, Ratio, overhead_for, saving_range, shares, softest, speedup_of_windows, standing_of
from reports import Case

CHIP = test_chip()


def cost(*rows: CostRow, latency: float = 1.0, throughput: float = 1.0) -> Cost:
    return Cost(latency, throughput, (), rows)


def test_ratio_says_what_the_first_saves_against_the_second() -> None:
    ours = cost(CostRow("a", "counter", "count", 1, energy_each=1.0), CostRow("a", "counter", "instance", 1, area_each=7.0), latency=2.0, throughput=3.0)
    theirs = cost(CostRow("a", "counter", "count", 1, energy_each=4.0), CostRow("a", "counter", "instance", 1, area_each=10.0), latency=20.0, throughput=0.5)
    assert Ratio.of(ours, theirs) == Ratio(10.0, 6.0, 0.75, pytest.approx(0.3))


def test_softest_is_the_last_in_the_order_of_trust() -> None:
    def quantity(standing: Standing) -> Quantity:
        return Quantity(1.0, "J", "somewhere", standing)

    assert softest([quantity("primary")]) == "primary"
    assert softest([quantity("secondary"), quantity("primary")]) == "secondary"
    assert softest([quantity("fitted"), quantity("assumed"), quantity("primary")]) == "fitted"


def test_shares_sum_to_one_and_follow_the_constants(case: Case) -> None:
    for design in (d for pair in case.designs for d in pair):
        for amount in (ENERGY, AREA):
            found = shares(design.mapping.chip, design.cost, amount)
            assert sum(found.values()) == pytest.approx(1.0)
            total = sum(amount.of(row) for row in design.cost.rows)
            assumed = sum(amount.of(row) for row in design.cost.rows if amount.of(row) and standing_of(design.mapping.chip, row) == "assumed")
            assert found["assumed"] == pytest.approx(assumed / total)


def test_only_the_fitted_chip_rests_on_fitted_constants(case: Case) -> None:
    fitted = {d.mapping.chip.name: shares(d.mapping.chip, d.cost, AREA)["fitted"] for d, _ in case.designs}
    assert fitted["predictive"] == 0
    assert fitted["liu2018"] > 0


def test_every_row_of_a_cost_has_a_standing(case: Case) -> None:
    actions = {row.action for row in case.designs[0][0].cost.rows}
    assert {"read", "read_levels", "leak", "instance", "fire"} <= actions
    assert {standing_of(CHIP, CostRow("a", row.component, row.action, 1, row.energy_each, row.area_each)) for row in case.designs[0][0].cost.rows} == {
        "assumed"
    }


def test_nothing_rests_on_anything_when_nothing_is_spent() -> None:
    assert set(shares(CHIP, cost(), ENERGY).values()) == {0.0}


def test_saving_range_scales_one_component_in_both_designs() -> None:
    ours, theirs = {"cell": 1.0, "neuron": 2.0}, {"cell": 10.0, "neuron": 10.0}
    low, high = saving_range(ours, theirs, "neuron")
    assert low == pytest.approx(1 - (1 + 1) / (10 + 5))
    assert high == pytest.approx(1 - (1 + 4) / (10 + 20))


def test_a_component_that_is_everything_changes_no_saving() -> None:
    assert saving_range({"cell": 1.0}, {"cell": 4.0}, "cell") == (pytest.approx(0.75), pytest.approx(0.75))


@given(st.integers(1, 5), st.integers(6, 10), st.floats(0, 1000))
def test_overhead_is_the_inverse_of_the_speedup_of_windows(bits: int, baseline_bits: int, overhead: float) -> None:
    ours, theirs = ([(number, 2**own), (500, 2 ** (own + 1))] for number, own in ((3, bits), (70, baseline_bits)))
    assert overhead_for(speedup_of_windows(ours, theirs, overhead), ours, theirs) == pytest.approx(overhead, rel=1e-6, abs=1e-6)


def test_windows_alone_as_in_the_notes_on_hardware() -> None:
    for number in (1, 642):
        assert [round(speedup_of_windows([(number, 16)], [(number, 256)], tau), 1) for tau in (0, 2, 8, 16)] == [16.0, 14.3, 11.0, 8.5]


def test_one_long_window_among_many_decides_by_its_share() -> None:
    """An image of 8 bits before signals of 4, as in ResNet-20: most windows are short all the same."""
    ours, theirs = [(1024, 256), (8385, 16)], [(9409, 256)]
    assert speedup_of_windows(ours, theirs, 0) == pytest.approx(9409 * 256 / (1024 * 256 + 8385 * 16))
