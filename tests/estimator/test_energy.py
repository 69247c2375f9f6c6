"""Energy: each counted action times its price, cell reads from physics, leakage from instances and time."""

from dataclasses import replace

import numpy as np
import pytest

from chips import test_chip
from memspike.errors import CostError
from memspike.estimator import estimate
from memspike.estimator.energy import cell_read_energies
from memspike.mapper import map
from memspike.simulator import simulate
from small_programs import one_dense, small_network, some_activity

CHIP = test_chip(8, 8, bits_per_cell=3)  # 1 pJ per action, 1 uW per instance, cells 1 to 100 uS at 0.1 V for 10 ns
MAPPING = map(small_network(), CHIP)
ACTIVITY = some_activity(MAPPING)


def _row(layer: str, component: str, action: str):
    (row,) = [row for row in estimate(MAPPING, ACTIVITY).rows if (row.layer, row.component, row.action) == (layer, component, action)]
    return row


def test_every_count_is_a_row_per_image():
    rows = [row for row in estimate(MAPPING, ACTIVITY).rows if row.action not in ("leak", "instance")]
    assert len(rows) == len(ACTIVITY.counts) and all(row.count == 100 for row in rows)
    assert _row("conv.sum", "row_driver", "spike").energy == pytest.approx(100e-12)


def test_what_a_neuron_does_is_booked_under_its_layer():
    assert _row("conv.sum", "neuron", "fire").count == 100  # counted for the value `conv`, fired from `conv.sum`
    assert _row("max", "comparator", "compare").count == 100


def test_a_read_cell_costs_voltage_squared_times_conductance_times_time():
    assert _row("conv.sum", "cell", "read").energy_each == pytest.approx(0.1**2 * 1e-6 * 10e-9)
    assert _row("conv.sum", "cell", "read_levels").energy_each == pytest.approx(0.1**2 * 99e-6 / 7 * 10e-9)


def test_all_levels_of_a_cell_read_once_cost_its_highest_conductance():
    for max_level in (1, 7, 127):
        each = cell_read_energies(CHIP, max_level)
        assert each["read"] + max_level * each["read_levels"] == pytest.approx(0.1**2 * 100e-6 * 10e-9)


def test_cells_of_measured_levels_cost_what_they_conduct():
    """Each spike reads every cell of its row at its own conductance; rows are rounded to whole steps."""
    chip = test_chip(8, 12, bits_per_cell=3)
    low, high = chip.crossbar.device.g_min.value, chip.crossbar.device.g_max.value
    table = tuple(low + (high - low) * (level / 7) ** 3 for level in range(7))
    uneven = chip.with_device(replace(chip.crossbar.device, levels=8, conductances=(*table, high), conductances_source="test"))
    program = one_dense(64, 40)
    mapping, images = map(program, uneven), np.random.default_rng(0).integers(0, 16, (20, 64))
    cost = estimate(mapping, simulate(mapping, images, fidelity="spike"))
    found = sum(row.energy for row in cost.rows if row.component == "cell" and row.action != "leak")
    spikes = images.sum(axis=0)
    g = sum(
        (spikes[slice(*tile.rows), None] * uneven.crossbar.device.level_conductances(mapping.layers[0].max_level)[tile.levels]).sum() for tile in mapping.tiles
    )
    assert found == pytest.approx(0.1**2 * 10e-9 * g / len(images), rel=0.01)
    even = estimate(map(program, chip), simulate(map(program, chip), images, fidelity="spike"))
    assert found < 0.7 * sum(row.energy for row in even.rows if row.component == "cell" and row.action != "leak")


def test_what_another_mapping_did_is_refused_and_more_copies_are_not():
    """A spike drives as many crossbars, and reads as many cells of as high levels, as its mapping has."""
    chip = test_chip(8, 12, bits_per_cell=3)
    plain, images = map(small_network(), chip), np.random.default_rng(0).integers(0, 16, (3, 2, 8, 8))
    result = simulate(plain, images, fidelity="spike")
    assert estimate(map(small_network(), chip, copies={"conv.sum": 2}), result).throughput > 0
    spread = map(small_network(), chip, spare_columns=5)
    with pytest.raises(CostError, match="of another mapping of the same program"):
        estimate(spread, result)
    ours, theirs = (simulate(mapping, images, fidelity="spike").activity.counts for mapping in (plain, spread))
    differ = {(component, action) for op, component, action in ours if ours[op, component, action] != theirs[op, component, action]}
    assert differ == {("row_driver", "spike")}, "each row of the same cells is driven in more crossbars"


def test_every_instance_leaks_for_the_time_between_two_images():
    cost = estimate(MAPPING, ACTIVITY)
    instances = sum(row.count for row in cost.rows if row.action == "instance")
    leaked = sum(row.energy for row in cost.rows if row.action == "leak")
    assert leaked == pytest.approx(instances * 1e-6 / cost.throughput)


def test_parts_that_do_not_leak_have_no_leak_row():
    parts = tuple(replace(part, leakage=replace(part.leakage, value=0.0)) if part.name != "bus" else part for part in CHIP.components)
    cost = estimate(map(small_network(), replace(CHIP, components=parts)), ACTIVITY)
    assert {row.component for row in cost.rows if row.action == "leak"} == {"bus"}


@pytest.mark.parametrize(
    ("key", "count", "message"),
    [
        (("fc9", "neuron", "fire"), 1, "activity of (fc9, neuron, fire): program small has no value 'fc9'\n  use the activity of a simulation of this mapping"),
        (("conv", "neuron", "fire"), -1, "activity of (conv, neuron, fire): counted -1 times; expected zero or more"),
        (("max", "cell", "read"), 1, "activity of (max, cell, read): op 'max' has no cells\n  ops with cells: conv.sum, scores.sum"),
    ],
)
def test_counts_that_the_chip_cannot_have_made_are_refused(key, count, message):
    with pytest.raises(CostError) as error:
        estimate(MAPPING, replace(ACTIVITY, counts={**ACTIVITY.counts, key: count}))
    assert str(error.value) == message


@pytest.mark.parametrize("key", [("conv", "laser", "fire"), ("conv", "neuron", "sing"), ("conv.sum", "bus", "read")])
def test_unknown_parts_and_actions_are_refused_with_those_that_are_known(key):
    with pytest.raises(CostError, match=f"no component '{key[1]}' has an action '{key[2]}'\n  known are cell: read, read_levels; row_driver: spike"):
        estimate(MAPPING, replace(ACTIVITY, counts={key: 1}))
