"""Mapping: what it counts, and how it answers for an op that has no weights."""

import numpy as np
import pytest

from chips import test_chip
from memspike.errors import MappingError
from memspike.mapping import LayerPlan, Mapping, Tile
from small_programs import small_network


def _tile(crossbar: int, op: str = "conv.sum", levels: int = 3) -> Tile:
    return Tile(op, 0, (0, 2), (0, 1), crossbar, 0, 0, np.full((2, 2), levels))


def _plan(op: str, copies: int) -> LayerPlan:
    return LayerPlan(op, 1, 2, 1, 1, 1, 1, 7, positions=4, copies=copies)


MAPPING = Mapping(
    small_network(),
    test_chip(4, 4),
    (_plan("conv.sum", 3), _plan("scores.sum", 1)),
    (_tile(0), _tile(0), _tile(1), _tile(2, "scores.sum")),
)


def test_crossbars_are_counted_once_per_op_and_again_per_copy():
    assert (MAPPING.crossbars_of("conv.sum"), MAPPING.crossbars_of("scores.sum")) == (2, 1)
    assert MAPPING.num_crossbars == 2 * 3 + 1


def test_utilization_is_the_share_of_cells_that_hold_a_weight():
    assert MAPPING.utilization == 4 * 4 / (3 * 16)


def test_tiles_and_plans_are_found_by_op():
    assert [tile.crossbar for tile in MAPPING.tiles_of("scores.sum")] == [2]
    assert MAPPING.plan("conv.sum").copies == 3
    with pytest.raises(MappingError, match="op 'max' has no weights on the chip\n  ops with weights: conv.sum, scores.sum"):
        MAPPING.plan("max")


def test_levels_are_kept_small_and_read_only():
    assert _tile(0, levels=255).levels.dtype == np.uint8
    assert _tile(0, levels=256).levels.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        _tile(0).levels[0, 0] = 1
