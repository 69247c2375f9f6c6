"""Map around stuck cells: choose, crossbar by crossbar, the places and levels whose weights come closest to the intended ones.

With a cell's fault known, what a pair of cells can hold is known too. Four means bring it close to the intended weight, the sum of squared errors in units
of one level being what is made small: `rows` and `columns` choose the physical row of each row of weights and the physical pair of columns of each
channel's slice (unused ones are spares); `sides` chooses which column of a pair is plus; `compensate` writes the healthy cell of a pair so that the difference
is right. Rows and columns are each an optimal assignment while the other is held (Hungarian method, scipy), in turn until nothing is gained.

That any row of weights can be driven from any word line, and any pair read by any neuron, is assumed: it takes a configurable routing that is not costed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Chip
from memspike.integer import Integers
from memspike.mapping import FaultMap, LayerPlan, Tile

Floats = NDArray[np.float64]

_MAX_ROUNDS = 20  # a round that gains nothing ends it long before


def avoid_faults(tiles: Sequence[Tile], plan: LayerPlan, chip: Chip, faults: FaultMap, means: frozenset[str]) -> Iterator[Tile]:
    """The tiles of one op, on the same crossbars, placed and written around the stuck cells of `faults` by these `means`."""
    pair = _Pair.of(chip, plan.max_level, "compensate" in means)
    for crossbar, group in groupby(sorted(tiles, key=lambda tile: tile.crossbar), key=lambda tile: tile.crossbar):
        yield from _Crossbar(tuple(group), plan, pair, faults.cells[crossbar], means).tiles()


@dataclass(frozen=True, slots=True)
class _Pair:
    """What a pair of cells can hold: `error` [3, 3, weights] in levels, and what is written to its `plus` and `minus` cell [3, 3, weights], by the faults of
    the plus and the minus cell and the intended weight, counted from -max_level; and the `empty` error [3, 3] of a pair that is never written."""

    max_level: int
    error: Floats
    empty: Floats
    plus: Integers
    minus: Integers

    @classmethod
    def of(cls, chip: Chip, max_level: int, compensate: bool) -> "_Pair":
        device = chip.crossbar.device
        step = (device.g_max.value - device.g_min.value) / max_level
        stuck = [(g - device.g_min.value) / step for g in device.stuck_conductances]
        levels = np.arange(max_level + 1) + device.level_errors(max_level)  # what each level conducts, in even steps
        weight = np.arange(-max_level, max_level + 1)
        shape = 3, 3, len(weight)
        plus, minus = np.broadcast_to(weight.clip(min=0), shape).copy(), np.broadcast_to((-weight).clip(min=0), shape).copy()
        if compensate:
            for kind, level in enumerate(stuck, start=1):
                minus[kind, 0] = _nearest(levels, level - weight)
                plus[0, kind] = _nearest(levels, level + weight)
        held = [levels[side] for side in (plus, minus)]
        for kind, level in enumerate(stuck, start=1):
            held[0][kind], held[1][:, kind] = level, level
        left = np.array([0.0, *stuck])
        return cls(max_level, held[0] - held[1] - weight, left[:, None] - left, plus, minus)


class _Crossbar:
    """One crossbar: rows of weights `[rows]` and pairs of a channel's slice `[pairs]`, which physical `row` and pair of columns (`column`) each takes, and
    whether its sides are `swapped`."""

    def __init__(self, tiles: tuple[Tile, ...], plan: LayerPlan, pair: _Pair, faults: NDArray[np.uint8], means: frozenset[str]) -> None:
        self.given, self.pair, self.means = tiles, pair, means  # tiles of one crossbar are different groups, with rows and columns of their own
        self.row: Integers = np.concatenate([tile.places[0] for tile in tiles])
        self.column: Integers = np.concatenate([tile.places[1][::2] for tile in tiles]) // 2
        self.swapped: NDArray[np.bool_] = np.zeros(len(self.column), bool)
        self.weight = np.zeros((len(self.row), len(self.column)), np.int64)  # 0 where another group's row crosses: it should hold nothing
        self.own = np.zeros(self.weight.shape, bool)  # not where it crosses: nothing is written there, so that nothing makes up for a fault
        self.blocks: list[tuple[slice, slice]] = []
        r = c = 0
        for tile in tiles:
            height, width = tile.levels.shape[0], tile.levels.shape[1] // 2
            block = slice(r, r + height), slice(c, c + width)
            levels = tile.levels.astype(np.int64)
            self.weight[block] = levels[:, ::2] - levels[:, 1::2]
            self.own[block] = True
            self.blocks.append(block)
            r, c = r + height, c + width
        slices = np.tile(np.arange(plan.slices), len(self.column) // plan.slices)
        self.worth: Floats = 4.0 ** (slices * np.log2(pair.max_level + 1))  # an error in a higher slice weighs by its place, squared
        self.faults: NDArray[np.uint8] = faults[:, : faults.shape[1] // 2 * 2].reshape(len(faults), -1, 2)

    def tiles(self) -> Iterator[Tile]:
        """The tiles as they are best placed and written."""
        if self.faults.any() and self.means:
            self._choose()
        plus_faults, minus_faults = self._sides(self.row, self.column, self.swapped)
        index = plus_faults, minus_faults, self.weight + self.pair.max_level
        plus, minus = self.pair.plus[index], self.pair.minus[index]
        for tile, (rows, pairs) in zip(self.given, self.blocks, strict=True):
            swapped = self.swapped[pairs].astype(np.int64)
            columns = np.stack([2 * self.column[pairs] + swapped, 2 * self.column[pairs] + 1 - swapped], axis=1).ravel()
            targets = np.stack([plus[rows, pairs], minus[rows, pairs]], axis=2).reshape(tile.levels.shape)
            changed = None if np.array_equal(targets, tile.levels) else targets
            yield replace(tile, row_places=self.row[rows], column_places=columns, targets=changed)

    def _choose(self) -> None:
        best = self._error()
        for _ in range(_MAX_ROUNDS):
            before = self.row, self.column, self.swapped
            if "columns" in self.means or "sides" in self.means:
                self._choose_columns()
            if "rows" in self.means:
                self._choose_rows()
            found = self._error()
            if found >= best:
                self.row, self.column, self.swapped = before
                return
            best = found

    def _choose_columns(self) -> None:
        plain = self._costs_of_columns(False)
        swapped = self._costs_of_columns(True) if "sides" in self.means else np.full_like(plain, np.inf)
        costs = np.minimum(plain, swapped)
        if "columns" in self.means:
            self.column = _assigned(costs)
        pairs = np.arange(len(self.column))
        self.swapped = swapped[pairs, self.column] < plain[pairs, self.column]

    def _costs_of_columns(self, swap: bool) -> Floats:
        """The squared error `[pairs, physical pairs]` of each pair on each pair of columns, the rows as they are."""
        sides = self.faults[self.row][:, :, ::-1] if swap else self.faults[self.row]
        costs = np.zeros((len(self.column), self.faults.shape[1]))
        for plus, minus in _FAULTY:
            is_so = ((sides[..., 0] == plus) & (sides[..., 1] == minus)).astype(np.float64)
            costs += self._squared(plus, minus).T @ is_so
        return costs

    def _choose_rows(self) -> None:
        plus_faults, minus_faults = self._sides(np.arange(len(self.faults)), self.column, self.swapped)
        costs = np.zeros((len(self.row), len(self.faults)))
        for plus, minus in _FAULTY:
            is_so = ((plus_faults == plus) & (minus_faults == minus)).astype(np.float64)
            costs += self._squared(plus, minus) @ is_so.T
        self.row = _assigned(costs)

    def _squared(self, plus: int, minus: int) -> Floats:
        """How much squared error `[rows, pairs]` such faults would add to each weight's."""
        return (self._errors(plus, minus) ** 2 - self._errors(0, 0) ** 2) * self.worth

    def _sides(self, row: Integers, column: Integers, swapped: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The faults `[rows, pairs]` of the plus and of the minus cells."""
        pairs = self.faults[row][:, column]
        return np.where(swapped, pairs[..., 1], pairs[..., 0]), np.where(swapped, pairs[..., 0], pairs[..., 1])

    def _error(self) -> float:
        plus, minus = self._sides(self.row, self.column, self.swapped)
        return float((self._errors(plus, minus) ** 2 * self.worth).sum())

    def _errors(self, plus: int | NDArray[np.uint8], minus: int | NDArray[np.uint8]) -> Floats:
        """The error `[rows, pairs]` of each weight with such faults, in levels."""
        held: Floats = self.pair.error[plus, minus, self.weight + self.pair.max_level]
        return np.where(self.own, held, self.pair.empty[plus, minus])


_FAULTY = [(plus, minus) for plus in range(3) for minus in range(3) if plus or minus]


def _nearest(levels: Floats, wanted: NDArray[np.floating[Any]]) -> Integers:
    """The levels that conduct closest to what is wanted, a tie going to the even one."""
    if np.array_equal(levels, np.arange(len(levels))):
        return np.rint(wanted).clip(0, len(levels) - 1).astype(np.int64)
    return np.abs(levels[:, None] - wanted).argmin(axis=0)


def _assigned(costs: Floats) -> Integers:
    """For each row of costs the column that it takes, all different, at the least cost in all."""
    # half a second, which every command that maps would wait for
    from scipy.optimize import linear_sum_assignment  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return np.asarray(linear_sum_assignment(costs)[1], np.int64)  # pyright: ignore[reportUnknownArgumentType]
