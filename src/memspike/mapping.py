"""Mapping: which block of which weight sits on which crossbar, and as which cell levels."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Chip
from memspike.errors import MappingError
from memspike.integer import Integers, frozen
from memspike.program import Program

Avoid = Literal["rows", "columns", "sides", "compensate"]  # ways around stuck cells, see mapper.faults
AVOID: tuple[Avoid, ...] = ("rows", "columns", "sides", "compensate")


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A block of one op's weights on one crossbar.

    The weights of `op` are a matrix per group: `rows` (start, stop) of its inputs, `channels` (start, stop) of its outputs within `group`.
    The block lies on crossbar number `crossbar` from (`row_offset`, `column_offset`) on. `levels` is `[rows, columns]`, uint8 or uint16; for each
    channel come its bit slices, the lowest first, and for each slice its plus cell, then its minus cell.

    Where a mapping avoids faults, `row_places` and `column_places` say on which physical row and column of the crossbar each row and column of `levels`
    lies, and `targets` what its cells are written to instead, so that with their faults they come closest to `levels`.
    """

    op: str
    group: int
    rows: tuple[int, int]
    channels: tuple[int, int]
    crossbar: int
    row_offset: int
    column_offset: int
    levels: NDArray[np.unsignedinteger]
    row_places: Integers | None = None
    column_places: Integers | None = None
    targets: NDArray[np.unsignedinteger] | None = None

    def __post_init__(self) -> None:
        for name in ("levels", "targets"):
            if (held := getattr(self, name)) is not None:
                object.__setattr__(self, name, frozen(held, np.uint8 if held.max(initial=0) < 256 else np.uint16))
        for name, size in (("row_places", self.levels.shape[0]), ("column_places", self.levels.shape[1])):
            places = getattr(self, name)
            if places is not None:
                if len(np.unique(places)) != size:
                    raise MappingError(f"{name} are {list(places)}; expected {size} different ones", where=f"op {self.op}, crossbar {self.crossbar}")
                object.__setattr__(self, name, frozen(places))

    @property
    def places(self) -> tuple[Integers, Integers]:
        """The physical rows and columns of the crossbar on which the rows and columns of `levels` lie."""
        own = (np.arange(size, dtype=np.int64) + start for size, start in zip(self.levels.shape, (self.row_offset, self.column_offset), strict=True))
        rows, columns = own
        return rows if self.row_places is None else self.row_places, columns if self.column_places is None else self.column_places

    @property
    def written(self) -> NDArray[np.unsignedinteger]:
        """The levels that the cells are written to."""
        return self.levels if self.targets is None else self.targets


@dataclass(frozen=True, slots=True, eq=False)
class FaultMap:
    """Which cells are stuck: uint8 `[crossbars, rows, columns]`, 0 healthy, 1 stuck at low and 2 at high conductance; and where that is known from."""

    cells: NDArray[np.uint8]
    source: str

    def __post_init__(self) -> None:
        if self.cells.ndim != 3 or self.cells.dtype.kind not in "iu" or self.cells.min(initial=0) < 0 or self.cells.max(initial=0) > 2:
            what = f"a fault map of {self.cells.dtype} {list(self.cells.shape)}; expected [crossbars, rows, columns] of 0 healthy, 1 low, 2 high"
            raise MappingError(what, where=self.source)
        object.__setattr__(self, "cells", frozen(self.cells, np.uint8))

    def __repr__(self) -> str:
        low, high = (float((self.cells == kind).mean()) for kind in (1, 2))
        return f"<FaultMap of {len(self.cells)} crossbars: {low:.2%} stuck low, {high:.2%} stuck high; {self.source}>"

    def digest(self) -> str:
        return hashlib.sha256(str(self.cells.shape).encode() + self.cells.tobytes()).hexdigest()


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


@dataclass(frozen=True, eq=False)
class Mapping:
    """A program on a chip: `layers` (one plan per op with weights), the `tiles` that hold the weights, one copy of each, and the `faults` of the
    chip's crossbars (of that copy) if they are known."""

    program: Program
    chip: Chip
    layers: tuple[LayerPlan, ...]
    tiles: tuple[Tile, ...]
    faults: FaultMap | None = None

    def __post_init__(self) -> None:
        crossbar = self.chip.crossbar
        wanted = (sum(self.crossbars_of(plan.op) for plan in self.layers), crossbar.rows, crossbar.columns)
        if self.faults is not None and self.faults.cells.shape != wanted:
            what = f"a fault map of {list(self.faults.cells.shape)} cells; the mapping has {list(wanted)} (crossbars, rows, columns)"
            raise MappingError(what, where=self.faults.source)
        if self.faults is None and any(tile.targets is not None for tile in self.tiles):
            raise MappingError("cells are written so as to make up for faults, and no faults are named", cure="mapping.without_faults() drops both")

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

    def without_faults(self) -> "Mapping":
        """The same places on a chip of which no stuck cell is known: every cell is written to its own level."""
        return replace(self, tiles=tuple(replace(tile, targets=None) for tile in self.tiles), faults=None)

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

    def row_loads(self, op: str) -> tuple[Integers, Integers]:
        """What a spike on each row of the op's matrices reads, both `[groups, rows]`: how many cells, and the sum of their levels, a row of measured levels
        that are uneven rounded to whole steps."""
        return self._row_loads[op]

    @cached_property
    def _row_loads(self) -> dict[str, tuple[Integers, Integers]]:
        shapes = {plan.op: (plan.num_groups, plan.num_rows) for plan in self.layers}
        loads = {op: (np.zeros(shape, np.int64), np.zeros(shape, np.int64)) for op, shape in shapes.items()}
        errors = {plan.op: self.chip.crossbar.device.level_errors(plan.max_level) for plan in self.layers}
        for tile in self.tiles:
            (cells, levels), rows = loads[tile.op], (tile.group, slice(*tile.rows))
            cells[rows] += tile.levels.shape[1]
            levels[rows] += tile.levels.sum(axis=1, dtype=np.int64)
            if errors[tile.op].any():
                levels[rows] += np.rint(errors[tile.op][tile.levels].sum(axis=1)).astype(np.int64)
        return loads

    @cached_property
    def loads(self) -> str:
        """SHA-256 of what the chip has to do for a spike, row by row: mappings of a program that share it do the same for the same images."""
        found = hashlib.sha256()
        for plan in self.layers:
            found.update(f"{plan.op}: {plan.column_tiles}\n".encode())
            for load in self.row_loads(plan.op):
                found.update(load.tobytes())
        return found.hexdigest()

    def tiles_of(self, op: str) -> Iterator[Tile]:
        return (tile for tile in self.tiles if tile.op == op)

    def crossbars_of(self, op: str) -> int:
        """Crossbars that one copy of the op uses (a crossbar belongs to one op)."""
        return len({tile.crossbar for tile in self.tiles_of(op)})


def from_levels(levels: NDArray[np.unsignedinteger], slices: int, bits_per_cell: int) -> Integers:
    """Integer weights `[..., channels]` of cell levels `[..., channels * slices * 2]`, laid out as a Tile's: plus minus minus, slices shifted and added."""
    pairs = levels.astype(np.int64).reshape(*levels.shape[:-1], -1, slices, 2)
    return ((pairs[..., 0] - pairs[..., 1]) << bits_per_cell * np.arange(slices)).sum(axis=-1)
