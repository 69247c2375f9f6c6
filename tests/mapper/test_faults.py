"""Mapping around faults: the weights stay what they are, every means helps, and an assignment is the best there is."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import chip, stuck
from memspike.errors import MappingError
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.mapper.faults import _Crossbar
from memspike.mapping import AVOID, FaultMap
from memspike.simulator import faults_of, simulate, written
from random_programs import images_for, programs
from small_programs import one_conv, one_dense, small_network

SICK = chip(8, 8, stuck=stuck(0.1, 0.1))


def error(mapping) -> float:
    """The sum of squared weight errors in level units, from the cells themselves."""
    return sum(float((layer.deviation**2).sum()) for layer in written(mapping, seed=0).values())


@settings(max_examples=40)
@given(programs(), st.integers(4, 12), st.integers(8, 20), st.integers(0, 2**32 - 1), st.sets(st.sampled_from(AVOID)), st.integers(0, 2))
def test_a_mapping_around_faults_holds_the_same_weights_and_means_the_same(program, rows, pairs, seed, avoid, spare):
    sick = chip(rows, 2 * pairs, stuck=stuck(0.1, 0.1))
    plain = map_program(program, sick, spare_columns=spare)
    faults = faults_of(plain, seed)
    around = map_program(program, sick, spare_columns=spare, faults=faults, avoid=avoid)
    assert around.layers == plain.layers and around.faults is faults
    taken: set[tuple[int, int, int]] = set()
    for tile, before in zip(around.tiles, plain.tiles, strict=True):
        assert np.array_equal(tile.levels, before.levels)
        tile_rows, tile_columns = tile.places
        places = {(tile.crossbar, int(row), int(column)) for row in tile_rows for column in tile_columns}
        assert max(tile_rows) < rows and max(tile_columns) < 2 * pairs and taken.isdisjoint(places), "cells of the crossbar, each held once"
        assert (tile_columns.reshape(-1, 2) // 2 == tile_columns.reshape(-1, 2)[:, :1] // 2).all(), "a pair stays a pair"
        taken |= places
    images = images_for(program, seed, 2)
    assert np.array_equal(simulate(around, images, fidelity="spike").outputs, program.evaluate(images))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.permutations(AVOID), st.floats(0, 0.3), st.floats(0, 0.3))
def test_no_means_ever_makes_it_worse(seed, order, low, high):
    sick = chip(8, 8, stuck=stuck(low, high, high_g=60e-6))
    plain = map_program(small_network(), sick)
    faults = faults_of(plain, seed)
    before = error(replace(plain, faults=faults))
    for means in order:
        assert error(map_program(small_network(), sick, faults=faults, avoid=(means,))) <= before + 1e-9
    assert error(map_program(small_network(), sick, faults=faults)) <= before + 1e-9


def test_without_faults_nothing_moves():
    plain = map_program(small_network(), SICK)
    around = map_program(small_network(), SICK, faults=FaultMap(np.zeros((5, 8, 8), np.uint8), "test"))
    for tile, before in zip(around.tiles, plain.tiles, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(tile.places, before.places, strict=True)) and tile.targets is None


@pytest.mark.parametrize("seed", range(5))
def test_rows_take_the_best_of_all_orders(seed):
    program = one_dense(4, 3, weight=np.random.default_rng(seed).integers(-7, 8, (3, 4)))
    sick = chip(5, 6, stuck=stuck(0.2, 0.2))
    plain = map_program(program, sick)
    faults = faults_of(plain, seed)
    (tile,) = plain.tiles
    best = min(error(replace(plain, faults=faults, tiles=(replace(tile, row_places=np.array(order)),))) for order in permutations(range(5), 4))
    assert error(map_program(program, sick, faults=faults, avoid=["rows"])) == pytest.approx(best)


def test_the_healthy_cell_of_a_pair_makes_up_for_the_other():
    program = one_dense(2, 1, weight=np.array([[3, -5]]))
    cells = np.zeros((1, 2, 2), np.uint8)
    cells[0, 0, 0], cells[0, 1, 1] = 2, 1  # the plus cell of 3 is stuck at 7, the minus cell of -5 at 0
    around = map_program(program, chip(2, 2), faults=FaultMap(cells, "test"), avoid=["compensate"])
    (tile,) = around.tiles
    assert tile.written.tolist() == [[3, 4], [0, 5]]  # 7 - 4 is 3; from 0 nothing can be taken that would give -5
    (layer,) = written(around, seed=0).values()
    assert layer.deviation[0, :, 0] == pytest.approx([0, 5])


@pytest.mark.parametrize("means", [("compensate",), ("rows",), AVOID])
def test_cells_of_measured_levels_are_written_by_what_they_conduct(means):
    """Every healthy neighbour of a stuck cell takes the level that comes closest, and rows lie where the whole error is least."""
    table = tuple(1e-6 + 39e-6 * (level / 7) ** 2 for level in range(7))
    uneven = chip(5, 6, stuck=stuck(0.2, 0.2), levels=8, conductances=(*table, 40e-6), conductances_source="test", bits=3)
    weight = np.random.default_rng(1).integers(-7, 8, (3, 4))
    program = one_dense(4, 3, weight=weight)
    plain = map_program(program, uneven)
    for seed in range(40 if means == ("rows",) else 5):
        faults = faults_of(plain, seed)
        around = map_program(program, uneven, faults=faults, avoid=means)
        (tile,), before = around.tiles, error(around)
        if means == ("rows",):
            best = min(error(replace(plain, faults=faults, tiles=(replace(tile, row_places=np.array(order)),))) for order in permutations(range(5), 4))
            assert before == pytest.approx(best)
            continue
        stuck_cells = faults.cells[0][np.ix_(*tile.places)] > 0
        for row, column in np.argwhere(stuck_cells):
            for level in range(8):
                targets = tile.written.copy()
                targets[row, column ^ 1] = level
                assert error(replace(around, tiles=(replace(tile, targets=targets),))) >= before - 1e-9


def test_spare_columns_cost_crossbars_and_take_the_faults():
    program = one_dense(8, 16, weight=np.random.default_rng(0).integers(-7, 8, (16, 8)))
    found = []
    for spare in (0, 1, 2):
        plain = map_program(program, SICK, spare_columns=spare)
        faults = [faults_of(plain, seed) for seed in range(20)]
        found.append((plain.num_crossbars, np.mean([error(map_program(program, SICK, faults=each, spare_columns=spare)) for each in faults])))
    assert [number for number, _ in found] == [4, 6, 8]
    assert found[0][1] > found[1][1] > found[2][1]


def test_groups_on_one_crossbar_keep_rows_and_columns_of_their_own():
    program = one_conv(4, 4, 2, 4, groups=4)
    plain = map_program(program, chip(20, 10, stuck=stuck(0.1, 0.1)))
    around = map_program(program, plain.chip, faults=faults_of(plain, 1))
    rows = np.concatenate([tile.places[0] for tile in around.tiles if tile.crossbar == 0])
    assert len(set(rows)) == len(rows) > 4
    assert error(around) < error(replace(plain, faults=faults_of(plain, 1)))


@pytest.mark.parametrize("means", [AVOID, ("compensate",), ("rows", "compensate")])
def test_what_is_made_small_is_the_error_of_the_cells(means, monkeypatch):
    """Also where another group's row crosses: nothing is written there, so that nothing makes up for a fault."""
    program, found = one_conv(4, 4, 2, 4, groups=4), []
    plain = map_program(program, chip(20, 10, stuck=stuck(0.1, 0.1)))
    assert len({tile.group for tile in plain.tiles if tile.crossbar == 0}) > 1
    tiles = _Crossbar.tiles

    def noting(crossbar):
        yield from tiles(crossbar)
        found.append(crossbar._error())

    monkeypatch.setattr(_Crossbar, "tiles", noting)
    for seed in range(12):
        found.clear()
        around = map_program(program, plain.chip, faults=faults_of(plain, seed), avoid=means)
        assert sum(found) == pytest.approx(error(around), abs=1e-9)


def test_two_groups_take_the_best_of_all_orders():
    program = one_dense(2, 1, groups=2, weight=np.array([[3, -5], [7, 1]]))
    for seed in range(5):
        plain = map_program(program, chip(5, 4, stuck=stuck(0.2, 0.2)))
        faults = faults_of(plain, seed)
        first, second = plain.tiles
        assert first.crossbar == second.crossbar

        def placed(order, first=first, second=second):
            return replace(first, row_places=np.array(order[:2])), replace(second, row_places=np.array(order[2:]))

        best = min(error(replace(plain, faults=faults, tiles=placed(order))) for order in permutations(range(5), 4))
        assert error(map_program(program, plain.chip, faults=faults, avoid=["rows"])) == pytest.approx(best)


def test_the_ways_may_come_one_by_one():
    plain = map_program(small_network(), SICK)
    faults = faults_of(plain, 1)
    around, again = (map_program(small_network(), SICK, faults=faults, avoid=ways) for ways in (AVOID, iter(AVOID)))
    assert error(around) == error(again) < error(replace(plain, faults=faults))


def test_a_level_that_makes_up_for_a_fault_may_be_higher_than_any_weight():
    """Of nine bits where the weights take eight: what is written is not cut to them."""
    nine = replace(chip(2, 2, levels=512), bits_per_cell=9)
    cells = np.zeros((1, 2, 2), np.uint8)
    cells[0, 0, 0] = 2  # the plus cell of 3 is stuck at 511
    program = one_dense(2, 1, weight=np.array([[3, -5]]), type=IntType(10, signed=True))
    (tile,) = map_program(program, nine, faults=FaultMap(cells, "test"), avoid=["compensate"]).tiles
    assert tile.written.tolist() == [[3, 508], [0, 5]] and tile.levels.dtype == np.uint8


def test_a_map_of_another_chip_and_unknown_means_are_refused():
    with pytest.raises(MappingError, match=r"a fault map of \[3, 8, 8\] cells; the mapping has \[5, 8, 8\]"):
        map_program(small_network(), SICK, faults=FaultMap(np.zeros((3, 8, 8), np.uint8), "test"))
    faults = FaultMap(np.zeros((5, 8, 8), np.uint8), "test")
    with pytest.raises(MappingError, match="no way around faults is called 'luck'\n  ways: rows, columns, sides, compensate"):
        map_program(small_network(), SICK, faults=faults, avoid=["luck"])
    with pytest.raises(MappingError, match="a fault map knows one copy of each op"):
        map_program(small_network(), SICK, faults=faults, copies=2)
    with pytest.raises(MappingError, match="no way around faults is called 'luck'"):
        map_program(small_network(), SICK, avoid=["luck"])
    for spare in (4, -1, 1.5, True):
        with pytest.raises(MappingError, match=f"{spare} spare pairs of columns; the crossbar has 4 pairs"):
            map_program(small_network(), SICK, spare_columns=spare)
    with pytest.raises(MappingError, match="of 0 healthy, 1 low, 2 high"):
        FaultMap(np.full((4, 8, 8), 3, np.uint8), "test")
