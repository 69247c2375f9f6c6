"""Where the weights lie and how the chip spikes, as sections: floorplan, layers on crossbars, cells, rasters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.mapping import LayerPlan, Mapping
from memspike.reporter import plots
from memspike.reporter.items import Cell, Column, Figure, Item, Note, Section, Table, shown
from memspike.reporter.report import Design

_MOST_SQUARES = 4096  # of the floorplan: more would be smaller than a screen's pixels and cost megabytes
_MOST_CROSSBARS = 8  # drawn cell by cell
_MOST_CELLS = 128  # rows and columns of a drawn crossbar
_MOST_NEURONS = 96  # of a raster
_MOST_RASTERS = 6


def placement(design: Design, baseline: Design) -> Section:
    """Which crossbars hold which layer, how full they are, and what the cells look like."""
    mapping, crossbar = design.mapping, design.mapping.chip.crossbar
    needs = [f"{d.label} needs {shown(d.mapping.num_crossbars)} and fills {100 * d.mapping.utilization:.1f} % of their cells" for d in (design, baseline)]
    text = f"Crossbars have {crossbar.rows} x {crossbar.columns} cells: {needs[0]}; {needs[1]}. The figures below are of {design.label}."
    crossbars = _crossbars(mapping)
    return Section("placement", "On the chip", (Note(text), *_floorplan(mapping, crossbars), _layers(mapping, crossbars), *_cells(mapping, crossbars)))


def spikes(design: Design, baseline: Design) -> Section:
    """How much both designs spike, layer by layer, and the rasters of the first image."""
    items: list[Item] = [_activity(design, baseline)]
    layers = list(design.result.rasters)
    drawn = [(d, layer) for layer in layers[:_MOST_RASTERS] for d in (design, baseline) if layer in d.result.rasters]
    items += [_raster(d, layer, i) for i, (d, layer) in enumerate(drawn)]
    if not drawn:
        items.append(Note("The result carries no rasters, so no spikes over time are shown.", "missing"))
    if len(layers) > _MOST_RASTERS:
        items.append(Note(f"{len(layers)} layers have rasters; the first {_MOST_RASTERS} are shown."))
    if design.result.notes:
        items.append(Note(f"Simulated were: {'; '.join(design.result.notes)}."))
    return Section("spikes", "Spikes", tuple(items))


def _activity(design: Design, baseline: Design) -> Table:
    counted = (("row_driver", "spike"), ("neuron", "fire"), ("cell", "read"))
    rows: list[tuple[Cell, ...]] = []
    for op in dict.fromkeys(op for d in (design, baseline) for op, _, _ in d.result.activity.counts):
        for d in (design, baseline):
            activity = d.result.activity
            counts = [activity.counts.get((op, component, action), 0) for component, action in counted]
            if any(counts):
                rows.append((op, d.label, activity.num_timesteps.get(op), *(n / activity.num_images for n in counts)))
    names = ("layer", "design", "timesteps of a window", "row spikes per image", "neuron spikes per image", "cells read per image")
    images = [f"{d.result.activity.num_images} images ({d.label})" for d in (design, baseline)]
    return Table("activity", "Spikes per image", tuple(map(Column, names)), tuple(rows), f"Counted in simulations of {images[0]} and {images[1]}.")


@dataclass(frozen=True, slots=True)
class _Crossbar:
    """One crossbar of the chip: its number, the op it belongs to, and the share of its cells that hold a weight."""

    number: int
    op: str
    share: float


def _crossbars(mapping: Mapping) -> list[_Crossbar]:
    """The crossbars of one copy, in the order of their numbers."""
    capacity = mapping.chip.crossbar.rows * mapping.chip.crossbar.columns
    ops = {tile.crossbar: tile.op for tile in mapping.tiles}
    cells = dict.fromkeys(ops, 0)
    for tile in mapping.tiles:
        cells[tile.crossbar] += tile.levels.size
    return [_Crossbar(number, ops[number], cells[number] / capacity) for number in sorted(ops)]


def _floorplan(mapping: Mapping, crossbars: list[_Crossbar]) -> list[Item]:
    """Two maps of the crossbars in the order of their numbers: by layer, and by how full they are."""
    if not crossbars:
        return [Note("No op of this program has weights, so there is no floorplan.", "missing")]
    each = -(-len(crossbars) // _MOST_SQUARES)
    ops = [plan.op for plan in mapping.layers]
    squares = [square for op in ops for square in _chunks([c for c in crossbars if c.op == op], each)]
    full = [sum(c.share for c in square) / len(square) for square in squares]
    hover = [f"{_numbers(square)}, {square[0].op}: {100 * share:.0f} % held" for square, share in zip(squares, full, strict=True)]
    columns = (Column("from crossbar"), Column("to crossbar"), Column("layer"), Column("cells that hold a weight", "share"))
    rows = tuple((square[0].number, square[-1].number, square[0].op, share) for square, share in zip(squares, full, strict=True))
    layers = ", ".join(f"{op} {sum(c.op == op for c in crossbars)}" for op in ops)
    emptiest = min(rows, key=lambda row: row[3])
    share_text = f"Share of the cells that hold a weight; the emptiest square has {100 * emptiest[3]:.0f} % ({emptiest[2]})."
    width = max(1, round((1.5 * len(squares)) ** 0.5))
    by_layer = plots.floorplan(_grid([ops.index(square[0].op) for square in squares], width), _grid_text(hover, width), ops)
    by_share = plots.floorplan(_grid([100 * share for share in full], width), _grid_text(hover, width), None)
    what = f"Map of {len(crossbars)} crossbars"
    return [
        Figure("floorplan", "Crossbars by layer", _square_text(mapping, len(crossbars), each), f"{what} by layer: {layers}.", by_layer, columns, rows),
        Figure("fill", "Crossbars by how full they are", share_text, f"{what} by how full they are. {share_text}", by_share, columns, rows),
    ]


def _chunks(crossbars: list[_Crossbar], each: int) -> list[list[_Crossbar]]:
    return [crossbars[i : i + each] for i in range(0, len(crossbars), each)]


def _numbers(square: list[_Crossbar]) -> str:
    return f"crossbar {square[0].number}" if len(square) == 1 else f"crossbars {square[0].number} to {square[-1].number}"


def _square_text(mapping: Mapping, num_crossbars: int, each: int) -> str:
    text = "One square is one crossbar" if each == 1 else f"One square is up to {each} crossbars of a layer that follow each other (there are {num_crossbars})"
    text += ", numbered from left to right and top to bottom."
    if any(plan.copies > 1 for plan in mapping.layers):
        text += f" One copy of each layer is drawn; with copies the chip has {mapping.num_crossbars} crossbars."
    return text


def _grid(values: Sequence[float], columns: int) -> NDArray[np.float32]:
    """The values row by row, the last row filled up with NaN."""
    rows = -(-len(values) // columns)
    grid = np.full(rows * columns, np.nan, np.float32)
    grid[: len(values)] = values
    return grid.reshape(rows, columns)


def _grid_text(texts: Sequence[str], columns: int) -> list[list[str]]:
    padded = [*texts, *[""] * (-len(texts) % columns)]
    return [padded[i : i + columns] for i in range(0, len(padded), columns)]


def _layers(mapping: Mapping, crossbars: list[_Crossbar]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for plan in mapping.layers:
        shares = [c.share for c in crossbars if c.op == plan.op]
        full = sum(shares) / len(shares) if shares else None
        rows.append((plan.op, _matrix(plan), plan.slices, plan.row_tiles, plan.column_tiles, len(shares), plan.copies, plan.positions, full))
    names = ("layer", "matrix", "slices", "stacked tiles", "crossbars side by side", "crossbars", "copies", "positions")
    note = "A matrix is inputs × outputs of one group. Slices: cells into which a magnitude is cut. Positions: windows of one image that use the same weights."
    return Table("layers", "Layers on crossbars", (*map(Column, names), Column("cells that hold a weight", "share")), tuple(rows), note)


def _matrix(plan: LayerPlan) -> str:
    return f"{plan.num_rows}×{plan.num_channels}" + (f", {plan.num_groups} groups" if plan.num_groups > 1 else "")


def _cells(mapping: Mapping, crossbars: list[_Crossbar]) -> list[Item]:
    """The fullest crossbar of each layer, cell by cell; of many layers some."""
    fullest = {c.op: c for c in sorted(crossbars, key=lambda c: (c.share, -c.number))}
    plans = [plan for plan in mapping.layers if plan.op in fullest]
    if len(plans) <= _MOST_CROSSBARS:
        return [_cell_figure(mapping, plan, fullest[plan.op].number) for plan in plans]
    drawn = [plans[i * (len(plans) - 1) // (_MOST_CROSSBARS - 1)] for i in range(_MOST_CROSSBARS)]
    text = f"{len(plans)} layers have crossbars; one crossbar of {len(drawn)} of them is drawn cell by cell, the first and the last layer included."
    return [Note(text), *(_cell_figure(mapping, plan, fullest[plan.op].number) for plan in drawn)]


def _cell_figure(mapping: Mapping, plan: LayerPlan, number: int) -> Figure:
    levels = _levels(mapping, number)
    zero = int((levels == 0).sum()) / max(1, int((levels >= 0).sum()))
    around = any(tile.column_places is not None for tile in mapping.tiles if tile.crossbar == number)
    sides = "plus before minus or after it, placed around its stuck cells" if around else "plus then minus"
    text = f"Crossbar {number}, levels 0 to {plan.max_level}; columns come in pairs, {sides}. {100 * zero:.0f} % of the cells are at level 0."
    if levels.shape != (mapping.chip.crossbar.rows, mapping.chip.crossbar.columns):
        text += f" Drawn are its first {levels.shape[0]} x {levels.shape[1]} cells."
    columns = tuple(Column(f"column {c}") for c in range(levels.shape[1]))
    rows = tuple(tuple(int(level) if level >= 0 else None for level in row) for row in levels)
    alt = f"Levels of the cells of one crossbar of {plan.op}. {text}"
    return Figure(f"cells-{plan.op}", f"Cells of {plan.op}", text, alt, plots.cells(levels, plan.max_level), columns, rows, size="small")


def _levels(mapping: Mapping, number: int) -> NDArray[np.int32]:
    """The levels that one crossbar is written to, -1 where no weight lies, cut to `_MOST_CELLS` on each side."""
    crossbar = mapping.chip.crossbar
    levels = np.full((crossbar.rows, crossbar.columns), -1, np.int32)
    for tile in mapping.tiles:
        if tile.crossbar == number:
            levels[np.ix_(*tile.places)] = tile.written
    return levels[:_MOST_CELLS, :_MOST_CELLS]


def _raster(design: Design, layer: str, number: int) -> Item:
    """The spikes of one layer over one window of the first image, `[neurons that are drawn, timesteps]`."""
    raster = design.result.rasters[layer]
    flat = raster.reshape(len(raster), -1)
    firing = np.flatnonzero(flat.any(axis=0))
    if not len(firing):
        return Note(f"No neuron of {layer}, {design.label}, fires for the first image.")
    drawn = firing[np.linspace(0, len(firing) - 1, _MOST_NEURONS).round().astype(int)] if len(firing) > _MOST_NEURONS else firing
    picture = flat[:, drawn].T
    which = f"{len(drawn)} of them, evenly spaced, are drawn" if len(drawn) < len(firing) else "all of them are drawn"
    spikes_in_all = int(np.abs(flat.astype(np.int64)).sum())
    text = f"{len(firing)} of {flat.shape[1]} neurons fire in {len(flat)} timesteps, {spikes_in_all} spikes in all; {which}. Blue counts up, orange down."
    rows = tuple((int(n), *(" ".join(map(str, np.flatnonzero(sign * flat[:, n] > 0))) for sign in (1, -1))) for n in drawn)
    columns = (Column("neuron"), Column("timesteps of a spike up"), Column("timesteps of a spike down"))
    title = f"{layer}, {design.label}"
    return Figure(f"raster-{number}", title, text, f"Spikes of {title} over one window, first image. {text}", plots.raster(picture), columns, rows)
