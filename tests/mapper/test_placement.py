"""Placement: crossbars in the order of the ops, small groups together, copies as asked for."""

import numpy as np
import pytest

from chips import test_chip
from memspike.errors import MappingError
from memspike.mapper import map
from small_programs import one_conv, one_dense, small_network


def test_crossbars_are_numbered_without_gaps_in_the_order_of_the_ops():
    mapping = map(small_network(), test_chip(8, 8, bits_per_cell=3))
    assert [tile.crossbar for tile in mapping.tiles] == [0, 1, 2, 3, 4]  # conv: 18 rows, 3 channels; dense: 12 rows, 4 channels
    assert [tile.op for tile in mapping.tiles] == ["conv.sum"] * 3 + ["scores.sum"] * 2
    assert [tile.rows for tile in mapping.tiles] == [(0, 8), (8, 16), (16, 18), (0, 8), (8, 12)]
    assert mapping.num_crossbars == 5


def test_column_tiles_of_a_row_tile_lie_side_by_side():
    tiles = map(one_dense(10, 6), test_chip(8, 8, bits_per_cell=3)).tiles
    assert [(tile.crossbar, tile.rows, tile.channels) for tile in tiles] == [
        (0, (0, 8), (0, 4)),
        (1, (0, 8), (4, 6)),
        (2, (8, 10), (0, 4)),
        (3, (8, 10), (4, 6)),
    ]


def test_small_groups_lie_along_the_diagonal_of_one_crossbar():
    mapping = map(one_dense(3, 2, groups=5), test_chip(8, 8, bits_per_cell=3))
    assert [(tile.crossbar, tile.row_offset, tile.column_offset) for tile in mapping.tiles] == [(0, 0, 0), (0, 3, 4), (1, 0, 0), (1, 3, 4), (2, 0, 0)]
    assert mapping.num_crossbars == 3 and mapping.utilization == 5 * 12 / (3 * 64)


def test_groups_share_a_crossbar_only_while_their_columns_fit():
    mapping = map(one_dense(2, 3, groups=4), test_chip(8, 8, bits_per_cell=3))
    assert [tile.crossbar for tile in mapping.tiles] == [0, 1, 2, 3]


def test_copies_multiply_crossbars_and_not_tiles():
    program, chip = one_conv(1, 2, 3, 7), test_chip(16, 8, bits_per_cell=3)
    one, four = map(program, chip), map(program, chip, copies={"conv.sum": 4})
    assert (one.num_crossbars, four.num_crossbars) == (1, 4)
    assert (len(one.tiles), len(four.tiles)) == (1, 1)
    assert four.plan("conv.sum").copies == 4


def test_one_number_of_copies_gives_no_op_more_than_its_positions():
    mapping = map(small_network(), test_chip(8, 8, bits_per_cell=3), copies=np.int64(100))
    assert {plan.op: plan.copies for plan in mapping.layers} == {"conv.sum": 64, "scores.sum": 1}


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        ({"conv": 2}, "program small: copies asked for 'conv', which is no op with weights\n  ops with weights: conv.sum, scores.sum"),
        ({"scores.sum": 2}, "program small: 2 copies of scores.sum asked for, it has 1 position(s) to share between them\n  ask for 1 at most"),
        ({"conv.sum": 0}, "program small: copies of conv.sum is 0; expected an integer, 1 or more"),
        ({"conv.sum": 1.5}, "program small: copies of conv.sum is 1.5; expected an integer, 1 or more"),
        (-1, "program small: copies is -1; expected an integer, 1 or more"),
        (True, "program small: copies is True; expected an integer, 1 or more"),
        (2.5, "program small: copies is 2.5; expected an integer, 1 or more"),
    ],
)
def test_copies_that_make_no_sense_are_refused(copies, message):
    with pytest.raises(MappingError) as error:
        map(small_network(), test_chip(8, 8, bits_per_cell=3), copies=copies)
    assert str(error.value) == message


def test_fifty_thousand_crossbars_are_placed():
    mapping = map(one_dense(1, 100_000), test_chip(1, 4, bits_per_cell=3))
    assert mapping.num_crossbars == 50_000 and mapping.utilization == 1
