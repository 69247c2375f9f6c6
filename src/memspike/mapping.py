"""Mapping: which block of which weight sits on which crossbar, and as which cell levels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Chip
from memspike.errors import MappingError
from memspike.integer import Integers, frozen
from memspike.program import Program


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A block of one op's weights on one crossbar.

    The weights of `op` are a matrix per group: `rows` (start, stop) of its inputs, `channels` (start, stop) of its outputs within `group`.
    The block lies on crossbar number `crossbar` from (`row_offset`, `column_offset`) on. `levels` is `[rows, columns]`, uint8 or uint16; for each
    channel come its bit slices, the lowest first, and for each slice its plus cell, then its minus cell.
    """

    op: str
    group: int
    rows: tuple[int, int]
    channels: tuple[int, int]
    crossbar: int
    row_offset: int
    column_offset: int
    levels: NDArray[np.unsignedinteger]

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", frozen(self.levels, np.uint8 if self.levels.max(initial=0) < 256 else np.uint16))


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How one op runs: its matrix of `num_rows` x `num_channels` in `num_groups`, cut into `slices` bit slices,
    used at `positions` places of the image by `copies` copies; `row_tiles` tiles are stacked on each integrator,
    `column_tiles` crossbars share each row. The level `max_level` is written as the device's `g_max`, level 0 as `g_min`."""

    op: str
    num_groups: int
    num_rows: int
    num_channels: int
    slices: int
    row_tiles: int
    column_tiles: int
    max_level: int
    positions: int
    copies: int


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A program on a chip: `layers` (one plan per op with weights) and the `tiles` that hold the weights, one copy of each."""

    program: Program
    chip: Chip
    layers: tuple[LayerPlan, ...]
    tiles: tuple[Tile, ...]

    def __repr__(self) -> str:
        return f"<Mapping of {self.program.name} on chip {self.chip.name}: {self.num_crossbars} crossbars, {self.utilization:.1%} of their cells hold a weight>"

    @property
    def num_crossbars(self) -> int:
        """Crossbars on the chip, copies included."""
        return sum(self.crossbars_of(plan.op) * plan.copies for plan in self.layers)

    @property
    def utilization(self) -> float:
        """Share of the cells of all crossbars that hold a weight."""
        held = sum(tile.levels.size for tile in self.tiles)
        crossbars = sum(self.crossbars_of(plan.op) for plan in self.layers)
        return held / (crossbars * self.chip.crossbar.rows * self.chip.crossbar.columns) if crossbars else 0.0

    def plan(self, op: str) -> LayerPlan:
        """How the op named `op` runs; raises MappingError when it has no weights."""
        for plan in self.layers:
            if plan.op == op:
                return plan
        raise MappingError(f"op {op!r} has no weights on the chip", cure=f"ops with weights: {', '.join(p.op for p in self.layers)}")

    def weights(self, op: str) -> Integers:
        """The integer weights of `op` as its cells hold them, in the shape of the op's own `weight`.

        Raises MappingError when the op has no weights on the chip, or when its tiles leave out a weight or hold one twice.
        """
        plan = self.plan(op)
        matrices = np.zeros((plan.num_groups, plan.num_rows, plan.num_channels), np.int64)
        times_held = np.zeros(matrices.shape, np.int64)
        for tile in self.tiles_of(op):
            block = tile.group, slice(*tile.rows), slice(*tile.channels)
            matrices[block] += from_levels(tile.levels, plan.slices, self.chip.bits_per_cell)
            times_held[block] += 1
        if (times_held != 1).any():
            group, row, channel = np.argwhere(times_held != 1)[0]
            times = times_held[group, row, channel]
            raise MappingError(f"the weight of group {group}, row {row}, channel {channel} lies on {times} tiles; expected 1", where=f"op {op}")
        return matrices.transpose(0, 2, 1).reshape(self.program.op(op).constants()["weight"].shape)

    def tiles_of(self, op: str) -> Iterator[Tile]:
        return (tile for tile in self.tiles if tile.op == op)

    def crossbars_of(self, op: str) -> int:
        """Crossbars that one copy of the op uses (a crossbar belongs to one op)."""
        return len({tile.crossbar for tile in self.tiles_of(op)})


def from_levels(levels: NDArray[np.unsignedinteger], slices: int, bits_per_cell: int) -> Integers:
    """Integer weights `[..., channels]` of cell levels `[..., channels * slices * 2]`, laid out as a Tile's: plus minus minus, slices shifted and added."""
    pairs = levels.astype(np.int64).reshape(*levels.shape[:-1], -1, slices, 2)
    return ((pairs[..., 0] - pairs[..., 1]) << bits_per_cell * np.arange(slices)).sum(axis=-1)
