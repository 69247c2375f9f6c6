"""Mapping: which block of which weight sits on which crossbar, and as which cell levels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Chip
from memspike.errors import MappingError
from memspike.integer import frozen
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

    def tiles_of(self, op: str) -> Iterator[Tile]:
        return (tile for tile in self.tiles if tile.op == op)

    def crossbars_of(self, op: str) -> int:
        """Crossbars that one copy of the op uses (a crossbar belongs to one op)."""
        return len({tile.crossbar for tile in self.tiles_of(op)})
