"""Where the weights lie and how the chip spikes, as sections: floorplan, layers on crossbars, cells, rasters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.mapping import LayerPlan, Mapping
from memspike.reporter import plots
from memspike.reporter.items import Cell, Column, Figure, Item, Note, Section, Table
from memspike.reporter.report import Design

_MOST_SQUARES = 4096  # of the floorplan: more would be smaller than a screen's pixels and cost megabytes
_MOST_CROSSBARS = 8  # drawn cell by cell
_MOST_CELLS = 128  # rows and columns of a drawn crossbar
_MOST_NEURONS = 96  # of a raster
_MOST_RASTERS = 6


def placement(design: Design, baseline: Design) -> Section:
    """Which crossbars hold which layer, how full they are, and what the cells look like."""
    mapping, crossbar = design.mapping, design.mapping.chip.crossbar
    text = (
        f"{design.label} needs {mapping.num_crossbars} crossbars of {crossbar.rows} x {crossbar.columns} cells and fills "
        f"{100 * mapping.utilization:.1f} % of them; {baseline.label} needs {baseline.mapping.num_crossbars} and fills {100 * baseline.mapping.utilization:.1f} %."
    )
    held = _crossbars(mapping)
    return Section("placement", "On the chip", (Note(text), *_floorplan(mapping, held), _layers(mapping, held), *_cells(mapping, held)))


def spikes(design: Design, baseline: Design) -> Section:
    """How much the design spikes, layer by layer, and the rasters of the first image."""
    rows: list[tuple[Cell, ...]] = []
    for op in dict.fromkeys(op for d in (design, baseline) for op, _, _ in d.result.activity.counts):
        for d in (design, baseline):
            activity = d.result.activity
            counts = [activity.counts.get((op, component, action), 0) for component, action in (("row_driver", "spike"), ("neuron", "fire"), ("cell", "read"))]
            if any(counts):
                rows.append((op, d.label, activity.num_timesteps.get(op), *(n / activity.num_images for n in counts)))
    columns = (
        Column("layer"),
        Column("design"),
        Column("timesteps of a window"),
        Column("row spikes per image"),
        Column("neuron spikes per image"),
        Column("cells read per image"),
    )
    note = f"Counted in the simulation of {design.result.activity.num_images} images ({design.label}) and {baseline.result.activity.num_images} ({baseline.label})."
    items: list[Item] = [Table("activity", "Spikes per image", columns, tuple(rows), note)]
    pairs = [(d, layer) for layer in list(design.result.rasters)[:_MOST_RASTERS] for d in (design, baseline) if layer in d.result.rasters]
    items += [_raster(d, layer, i) for i, (d, layer) in enumerate(pairs)]
    if not pairs:
        items.append(Note("The result carries no rasters, so no spikes over time are shown.", "missing"))
    if len(design.result.rasters) > _MOST_RASTERS:
        items.append(Note(f"{len(design.result.rasters)} layers have rasters; the first {_MOST_RASTERS} are shown."))
    return Section("spikes", "Spikes", (*items, *(Note(text) for text in design.result.notes)))


@dataclass(frozen=True, slots=True)
class _Held:
    """What one crossbar holds: its layer, its cells `[rows, columns]` (-1 where there is no weight), and the share that is held."""

    number: int
    op: str
    cells: int
    levels: int

    def share(self, capacity: int) -> float:
        return self.cells / capacity


def _crossbars(mapping: Mapping) -> list[_Held]:
    sums: dict[int, tuple[str, int, int]] = {}
    for tile in mapping.tiles:
        op, cells, levels = sums.get(tile.crossbar, (tile.op, 0, 0))
        sums[tile.crossbar] = (op, cells + tile.levels.size, levels + int(tile.levels.sum(dtype=np.int64)))
    return [_Held(number, *sums[number]) for number in sorted(sums)]


def _floorplan(mapping: Mapping, held: list[_Held]) -> list[Item]:
    """Two maps of the crossbars in the order of their numbers: by layer, and by how full they are."""
    if not held:
        return [Note("No op of this program has weights, so there is no floorplan.", "missing")]
    each = -(-len(held) // _MOST_SQUARES)
    ops = [plan.op for plan in mapping.layers]
    groups = [group for op in ops for group in _chunks([h for h in held if h.op == op], each)]
    capacity = mapping.chip.crossbar.rows * mapping.chip.crossbar.columns
    full = [sum(h.share(capacity) for h in g) / len(g) for g in groups]
    columns = max(1, round((1.5 * len(groups)) ** 0.5))
    text = (
        f"One square is one crossbar, numbered from left to right and top to bottom."
        if each == 1
        else f"One square is {each} crossbars that follow each other (there are {len(held)})."
    )
    if any(plan.copies > 1 for plan in mapping.layers):
        text += f" One copy of each layer is drawn; with copies the chip has {mapping.num_crossbars} crossbars."
    names = [f"crossbar {g[0].number}" + (f" to {g[-1].number}" if len(g) > 1 else "") for g in groups]
    rows = tuple((g[0].number, g[-1].number, g[0].op, share) for g, share in zip(groups, full, strict=True))
    data = (Column("from crossbar"), Column("to crossbar"), Column("layer"), Column("cells that hold a weight", "share"))
    hover = [f"{name}, {g[0].op}: {100 * share:.0f} % held" for name, g, share in zip(names, groups, full, strict=True)]
    by_layer = plots.floorplan(_grid([ops.index(g[0].op) for g in groups], columns), _grid_text(hover, columns), ops)
    by_share = plots.floorplan(_grid([100 * share for share in full], columns), _grid_text(hover, columns), None)
    counts = ", ".join(f"{op} {sum(h.op == op for h in held)}" for op in ops)
    lowest = min(zip(full, groups, strict=True), key=lambda pair: pair[0])
    return [
        Figure("floorplan", "Crossbars by layer", text, f"Map of {len(held)} crossbars by layer: {counts}.", by_layer, data, rows),
        Figure(
            "fill",
            "Crossbars by how full they are",
            f"Share of the cells that hold a weight; the emptiest is at {100 * lowest[0]:.0f} % ({lowest[1][0].op}).",
            f"Map of {len(held)} crossbars by the share of cells that hold a weight, {100 * mapping.utilization:.1f} % on average.",
            by_share,
            data,
            rows,
        ),
    ]


def _chunks(held: list[_Held], each: int) -> list[list[_Held]]:
    return [held[i : i + each] for i in range(0, len(held), each)]


def _grid(values: Sequence[float], columns: int) -> NDArray[np.float32]:
    """The values row by row, the last row filled up with NaN."""
    rows = -(-len(values) // columns)
    grid = np.full(rows * columns, np.nan, np.float32)
    grid[: len(values)] = values
    return grid.reshape(rows, columns)


def _grid_text(texts: Sequence[str], columns: int) -> list[list[str]]:
    padded = [*texts, *[""] * (-len(texts) % columns)]
    return [padded[i : i + columns] for i in range(0, len(padded), columns)]


def _layers(mapping: Mapping, held: list[_Held]) -> Table:
    capacity = mapping.chip.crossbar.rows * mapping.chip.crossbar.columns
    rows: list[tuple[Cell, ...]] = []
    for plan in mapping.layers:
        own = [h for h in held if h.op == plan.op]
        share = sum(h.cells for h in own) / (capacity * len(own)) if own else None
        rows.append((plan.op, _matrix(plan), plan.slices, plan.row_tiles, plan.column_tiles, len(own), plan.copies, plan.positions, share))
    names = ("layer", "matrix", "slices", "stacked tiles", "crossbars side by side", "crossbars", "copies", "positions")
    note = "A matrix is inputs x outputs of one group. Slices: cells in which a magnitude is cut. Positions: windows of one image that use the same weights."
    return Table("layers", "Layers on crossbars", (*map(Column, names), Column("cells that hold a weight", "share")), tuple(rows), note)


def _matrix(plan: LayerPlan) -> str:
    return f"{plan.num_rows} x {plan.num_channels}" + (f", {plan.num_groups} groups" if plan.num_groups > 1 else "")


def _cells(mapping: Mapping, held: list[_Held]) -> list[Item]:
    """The fullest crossbar of each layer, cell by cell."""
    plans = [plan for plan in mapping.layers if any(h.op == plan.op for h in held)]
    drawn = plans if len(plans) <= _MOST_CROSSBARS else [plans[i * (len(plans) - 1) // (_MOST_CROSSBARS - 1)] for i in range(_MOST_CROSSBARS)]
    items: list[Item] = []
    if len(drawn) < len(plans):
        items.append(
            Note(f"{len(plans)} layers have crossbars; one crossbar of {len(drawn)} of them is drawn cell by cell, the first and the last layer included.")
        )
    for i, plan in enumerate(drawn):
        fullest = max((h for h in held if h.op == plan.op), key=lambda h: h.cells)
        levels = _levels(mapping, fullest.number)
        zero = float((levels == 0).sum()) / max(1, int((levels >= 0).sum()))
        cut = f" Its first {levels.shape[0]} x {levels.shape[1]} cells." if levels.shape != (mapping.chip.crossbar.rows, mapping.chip.crossbar.columns) else ""
        text = f"Crossbar {fullest.number}, levels 0 to {plan.max_level}; columns come in pairs, plus then minus. {100 * zero:.0f} % of the cells are at level 0.{cut}"
        rows = tuple(tuple(int(v) if v >= 0 else None for v in row) for row in levels)
        plot = plots.cells(levels, plan.max_level)
        items.append(
            Figure(
                f"cells-{i}",
                f"Cells of {plan.op}",
                text,
                f"Levels of the cells of one crossbar of {plan.op}. {text}",
                plot,
                tuple(Column(f"column {c}") for c in range(levels.shape[1])),
                rows,
                size="small",
            )
        )
    return items


def _levels(mapping: Mapping, number: int) -> NDArray[np.int32]:
    """The levels of one crossbar, -1 where no weight lies, cut to `_MOST_CELLS` on each side."""
    crossbar = mapping.chip.crossbar
    levels = np.full((crossbar.rows, crossbar.columns), -1, np.int32)
    for tile in mapping.tiles:
        if tile.crossbar == number:
            rows, columns = tile.levels.shape
            levels[tile.row_offset : tile.row_offset + rows, tile.column_offset : tile.column_offset + columns] = tile.levels
    return levels[:_MOST_CELLS, :_MOST_CELLS]


def _raster(design: Design, layer: str, number: int) -> Figure:
    raster = design.result.rasters[layer]
    flat = raster.reshape(len(raster), -1)
    firing = np.flatnonzero(flat.any(axis=0))
    drawn = firing[np.linspace(0, len(firing) - 1, _MOST_NEURONS).round().astype(int)] if len(firing) > _MOST_NEURONS else firing
    picture = flat[:, drawn].T
    which = f"{len(drawn)} of them, evenly spaced, are drawn" if len(drawn) < len(firing) else "all of them are drawn"
    text = f"{len(firing)} of {flat.shape[1]} neurons fire in {len(flat)} timesteps, {int(np.abs(flat.astype(np.int64)).sum())} spikes in all; {which}."
    rows = tuple((int(n), *(" ".join(map(str, np.flatnonzero(sign * flat[:, n] > 0))) for sign in (1, -1))) for n in drawn)
    columns = (Column("neuron"), Column("timesteps of a spike up"), Column("timesteps of a spike down"))
    title = f"{layer}, {design.label}"
    return Figure(f"raster-{number}", title, text, f"Spikes of {title} over one window, first image. {text}", plots.raster(picture), columns, rows)
