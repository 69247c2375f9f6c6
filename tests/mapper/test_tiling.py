"""Tiling: how many crossbars an op takes, and the words in which it is told that it does not fit."""

from dataclasses import replace

import pytest

from chips import test_chip
from memspike.errors import MappingError
from memspike.integer import IntType
from memspike.mapper import map
from memspike.ops import Add, Flatten
from memspike.program import Program
from memspike.storage import load_chip
from small_programs import U4, fire, one_conv, one_dense


def test_an_op_is_cut_into_rows_and_columns_of_the_crossbar():
    plan = map(one_dense(800, 500), load_chip("predictive")).plan("scores.sum")
    assert (plan.row_tiles, plan.column_tiles, plan.slices, plan.max_level) == (25, 32, 1, 7)
    assert (plan.num_groups, plan.num_rows, plan.num_channels, plan.positions, plan.copies) == (1, 800, 500, 1, 1)


def test_eight_bit_weights_take_two_slices_of_four_bits_and_one_of_seven():
    i8 = IntType(8, signed=True)
    two, one = (map(one_dense(32, 16, type=i8), load_chip(name)) for name in ("predictive", "liu2018"))
    assert (two.plan("scores.sum").slices, two.plan("scores.sum").max_level, two.num_crossbars) == (2, 15, 2)
    assert (one.plan("scores.sum").slices, one.plan("scores.sum").max_level, one.num_crossbars) == (1, 127, 1)


def test_positions_are_the_places_where_a_kernel_is_used():
    assert map(one_conv(1, 2, 3, 7), test_chip(16, 8)).plan("conv.sum").positions == 25


def test_too_many_stacked_crossbars_say_the_numbers_and_the_cures():
    with pytest.raises(MappingError) as error:
        map(one_dense(800, 500), replace(load_chip("predictive"), max_stacked_tiles=16))
    assert str(error.value) == (
        "program one, op scores.sum: needs 800 rows = 25 stacked crossbars, chip predictive stacks 16 of 32 rows on one integrator (512 rows)\n"
        "  compile the program with partial_sums='digital' and rows=512, set max_stacked_tiles to 25, or use crossbars of 50 rows"
    )


def test_exactly_as_many_stacked_crossbars_as_allowed_fit():
    chip = test_chip(8, 8, max_stacked_tiles=3)
    assert map(one_dense(24, 2), chip).plan("scores.sum").row_tiles == 3
    with pytest.raises(MappingError, match="25 rows = 4 stacked crossbars"):
        map(one_dense(25, 2), chip)


def test_digital_partial_sums_take_one_row_tile():
    chip = test_chip(8, 8, partial_sums="digital")
    assert map(one_dense(8, 9), chip).num_crossbars == 5
    with pytest.raises(MappingError) as error:
        map(one_dense(9, 9), chip)
    assert str(error.value) == (
        "program one, op scores.sum: needs 9 rows, a crossbar of chip test has 8 and fires into counters of its own (partial_sums = 'digital')\n"
        "  compile the program with partial_sums='digital' and rows=8, or take a chip with partial_sums = 'analog'"
    )


def test_a_channel_that_is_wider_than_a_crossbar_is_refused():
    with pytest.raises(MappingError, match=r"a channel needs 14 columns \(a differential pair for each of 7 bit slices\), the crossbar has 8"):
        map(one_dense(1, 1, type=IntType(8, signed=True)), test_chip(bits_per_cell=1))


def test_a_sum_that_no_neuron_reads_cannot_be_built():
    dense = one_dense(2, 2).op("scores.sum")
    image = one_dense(2, 2).input_type
    raw = Program("raw", "x", image, (dense,), "scores.sum")
    with pytest.raises(MappingError, match="program raw, op scores.sum: its sum is read by the output; on a chip one neuron reads it"):
        map(raw, test_chip())
    added = Program("added", "x", image, (dense, Add("scores", ("scores.sum",), U4)), "scores")
    with pytest.raises(MappingError, match="its sum is read by add scores"):
        map(added, test_chip())
    two = (dense, fire("scores", 2), replace(fire("scores", 2), out="again"), Add("both", ("scores", "again"), U4))
    with pytest.raises(MappingError, match="its sum is read by fire scores, fire again"):
        map(Program("two", "x", image, two, "both"), test_chip())


def test_a_program_without_weights_is_refused():
    program = Program("empty", "x", one_conv(1, 2, 3, 5).input_type, (Flatten("flat", ("x",)),), "flat")
    with pytest.raises(MappingError, match="program empty: has no op with weights"):
        map(program, test_chip())
