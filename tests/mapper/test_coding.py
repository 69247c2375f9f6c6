"""Coding: integers become differential pairs and bit slices, and come back."""

import numpy as np
import pytest

from chips import test_chip
from memspike.errors import MappingError
from memspike.integer import IntType
from memspike.mapper import map
from memspike.mapper.coding import magnitude_bits, matrices, slice_bits, to_levels
from memspike.mapping import from_levels
from small_programs import one_conv, one_dense, weights


def test_a_weight_is_a_plus_cell_and_a_minus_cell_lowest_slice_first():
    levels = to_levels(np.array([[5, -6, 0]]), slices=2, bits_per_cell=2)
    # 5 = 1 + 4 * 1 on the plus side, -6 = -(2 + 4 * 1) on the minus side
    assert levels.tolist() == [[1, 0, 1, 0, 0, 2, 0, 1, 0, 0, 0, 0]]


def test_one_side_of_every_pair_is_at_level_zero():
    levels = to_levels(weights(3, 20, 30, type=IntType(8, signed=True)), slices=3, bits_per_cell=3)
    assert (levels.reshape(20, 30, 3, 2).min(axis=-1) == 0).all() and levels.max() == 7


@pytest.mark.parametrize(("bits_per_cell", "slices"), [(7, 1), (4, 2), (3, 3), (2, 4), (1, 7)])
def test_levels_say_the_weights_again(bits_per_cell, slices):
    every = np.arange(-127, 128).reshape(1, -1)
    assert np.array_equal(from_levels(to_levels(every, slices, bits_per_cell), slices, bits_per_cell), every)


def test_rows_are_channel_then_kernel_row_then_kernel_column_within_each_group():
    op = one_conv(4, 6, 2, 5, groups=2).op("conv.sum")
    matrix = matrices(op)
    assert matrix.shape == (2, 8, 3)
    assert matrix[1, 1 * 4 + 1 * 2 + 0, 2] == op.weight[3 + 2, 1, 1, 0]


def test_a_grid_that_reaches_the_most_negative_value_gets_the_bit_it_needs():
    assert magnitude_bits(one_dense(1, 1, weight=np.array([[-7]])).op("scores.sum")) == 3
    program = one_dense(2, 1, weight=np.array([[-8, 7]]))
    assert magnitude_bits(program.op("scores.sum")) == 4
    mapping = map(program, test_chip(bits_per_cell=2))
    assert mapping.plan("scores.sum").slices == 2 and mapping.weights("scores.sum").tolist() == [[-8, 7]]
    narrow = map(program, test_chip(bits_per_cell=3))
    assert narrow.plan("scores.sum").slices == 2 and narrow.weights("scores.sum").tolist() == [[-8, 7]]


def test_a_one_bit_type_still_takes_a_cell():
    assert slice_bits(one_dense(1, 1, type=IntType(1, signed=True), weight=np.array([[0]])).op("scores.sum"), 4) == (1, 1)


def test_levels_past_sixteen_bits_are_refused():
    with pytest.raises(MappingError, match=r"program one, op scores.sum: needs cells of 17 bits; a cell's level is kept in 16"):
        map(one_dense(1, 1, type=IntType(18, signed=True), weight=np.array([[131071]])), test_chip(bits_per_cell=17))


def test_weights_of_an_op_without_any_are_refused():
    mapping = map(one_conv(1, 2, 3, 5), test_chip(16, 8))
    with pytest.raises(MappingError, match="op 'flat' has no weights on the chip"):
        mapping.weights("flat")
