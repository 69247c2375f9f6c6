"""Cost: products, and the sums of them."""

import pytest

from memspike.cost import Cost, CostRow, LayerTime

ROWS = (
    CostRow("conv", "neuron", "fire", 10, energy_each=2.0),
    CostRow("conv", "cell", "read", 5, energy_each=100.0),
    CostRow("fc", "neuron", "fire", 1, energy_each=2.0),
    CostRow("fc", "neuron", "instance", 4, area_each=3.0),
)
COST = Cost(1.0, 2.0, (), ROWS)


def test_a_row_is_a_product():
    assert (ROWS[0].energy, ROWS[0].area) == (20.0, 0.0)
    assert (ROWS[3].energy, ROWS[3].area) == (0.0, 12.0)


def test_a_layer_takes_one_window_after_the_other():
    assert LayerTime("conv", 576, 16, 260e-9).time == pytest.approx(576 * 260e-9)


def test_energy_and_area_are_the_sums_of_the_rows():
    assert (COST.energy, COST.area) == (522.0, 12.0)
    assert (Cost(1.0, 1.0, (), ()).energy, Cost(1.0, 1.0, (), ()).area) == (0, 0)


def test_sums_by_component_or_layer_begin_with_the_largest_energy():
    assert list(COST.by("component").items()) == [("cell", (500.0, 0.0)), ("neuron", (22.0, 12.0))]
    assert list(COST.by("layer").items()) == [("conv", (520.0, 0.0)), ("fc", (2.0, 12.0))]
