"""Area: how many of each part a mapped program needs, counted by hand."""

import pytest

from chips import test_chip
from memspike.cost import CostRow
from memspike.estimator import estimate
from memspike.estimator.area import area_rows
from memspike.mapper import map
from small_programs import small_network, some_activity

CHIP = test_chip(8, 8, bits_per_cell=3)


def _instances(copies: int = 1) -> dict[tuple[str, str], float]:
    rows = area_rows(map(small_network(), CHIP, copies={"conv.sum": copies}))
    assert all(row.action == "instance" and row.area_each == 1e-12 for row in rows)
    assert len({(row.layer, row.component) for row in rows}) == len(rows)
    return {(row.layer, row.component): row.count for row in rows}


def test_every_part_of_the_small_network():
    assert _instances() == {
        ("x", "buffer"): 2 * 8 * 8 * 4,
        ("conv.sum", "cell"): 3 * 8 * 8,  # 18 rows need 3 crossbars, each paid whole
        ("conv.sum", "row_driver"): 3 * 8,
        ("conv.sum", "encoder"): 18 * 4,
        ("conv.sum", "bus"): 3,
        ("conv.sum", "controller"): 3,
        ("conv.sum", "neuron"): 3,
        ("conv.sum", "counter"): 3 * 4,
        ("conv.sum", "buffer"): 3 * 8 * 8 * 4,
        ("max", "comparator"): 3 * 4,
        ("max", "buffer"): 3 * 4 * 4 * 4,
        ("average.sum", "adder"): 3 * 6,  # four counts of 4 bits
        ("average.sum", "counter"): 3 * 4,
        ("average.sum", "buffer"): 3 * 2 * 2 * 4,
        ("scores.sum", "cell"): 2 * 8 * 8,
        ("scores.sum", "row_driver"): 2 * 8,
        ("scores.sum", "encoder"): 12 * 4,
        ("scores.sum", "bus"): 2,
        ("scores.sum", "controller"): 2,
        ("scores.sum", "neuron"): 4,  # charges: no counter, no buffer, but a comparison of every class
        ("scores.sum", "comparator"): 4 * map(small_network(), CHIP).program.types["scores"].type.bits,
    }


def test_copies_repeat_crossbars_and_neurons_and_not_buffers():
    one, three = _instances(), _instances(copies=3)
    repeated = {("conv.sum", part) for part in ("cell", "row_driver", "encoder", "bus", "controller", "neuron", "counter")}
    assert three == {key: 3 * count if key in repeated else count for key, count in one.items()}


def test_area_does_not_depend_on_what_happened():
    mapping = map(small_network(), CHIP)
    rows = [row for row in estimate(mapping, some_activity(mapping)).rows if row.area]
    assert rows == area_rows(mapping) and all(isinstance(row, CostRow) for row in rows)
    assert estimate(mapping, some_activity(mapping)).area == pytest.approx(sum(row.count for row in rows) * 1e-12)
