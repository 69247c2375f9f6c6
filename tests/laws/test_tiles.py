"""Law: for every program, chip and cut, the tiles hold each weight exactly once, inside their crossbars, and say the weights again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chips import test_chip
from memspike.integer import IntType
from memspike.mapper import map
from memspike.mapping import Mapping
from random_programs import programs
from small_programs import one_conv, one_dense

crossbars = st.builds(
    test_chip,
    rows=st.integers(1, 12),
    columns=st.integers(16, 40),
    bits_per_cell=st.integers(1, 8),
)
types = st.integers(2, 8).map(lambda bits: IntType(bits, signed=True))


@given(programs(), crossbars)
def test_tiles_of_random_programs(program, chip):
    _check(map(program, chip))


@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 12), types, crossbars)
def test_tiles_of_grouped_matrices(num_rows, num_channels, groups, type, chip):
    _check(map(one_dense(num_rows, num_channels, groups=groups, type=type), chip))


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4), types, crossbars)
def test_tiles_of_depthwise_convolutions(channels, kernel, size, type, chip):
    _check(map(one_conv(channels, channels, kernel, kernel + size - 1, groups=channels, type=type), chip))


def _check(mapping: Mapping) -> None:
    rows, columns = mapping.chip.crossbar.rows, mapping.chip.crossbar.columns
    used: dict[int, np.ndarray] = {}
    owner: dict[int, str] = {}
    for plan in mapping.layers:
        times = np.zeros((plan.num_groups, plan.num_rows, plan.num_channels), np.int64)
        for tile in mapping.tiles_of(plan.op):
            times[tile.group, slice(*tile.rows), slice(*tile.channels)] += 1
            height, width = tile.rows[1] - tile.rows[0], (tile.channels[1] - tile.channels[0]) * 2 * plan.slices
            assert tile.levels.shape == (height, width)
            assert 0 <= tile.row_offset <= rows - height and 0 <= tile.column_offset <= columns - width
            assert tile.levels.max(initial=0) <= plan.max_level < mapping.chip.crossbar.device.levels
            cells = used.setdefault(tile.crossbar, np.zeros((rows, columns), np.int64))
            cells[tile.row_offset : tile.row_offset + height, tile.column_offset : tile.column_offset + width] += 1
            assert owner.setdefault(tile.crossbar, plan.op) == plan.op
        assert (times == 1).all()
        assert np.array_equal(mapping.weights(plan.op), mapping.program.op(plan.op).weight)
    assert all(cells.max() == 1 for cells in used.values())
    assert sorted(used) == list(range(mapping.num_crossbars))
    assert mapping.utilization == sum(int(cells.sum()) for cells in used.values()) / (len(used) * rows * columns)
