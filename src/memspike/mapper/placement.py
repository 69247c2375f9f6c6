"""Number the crossbars: which block lies where, small groups together, busy ops in copies."""

from collections.abc import Iterator, Mapping

from memspike.chip import Chip
from memspike.errors import MappingError
from memspike.integer import whole
from memspike.mapper.coding import matrices, to_levels
from memspike.mapper.tiling import channels_per_crossbar, positions, spans
from memspike.mapping import LayerPlan, Tile
from memspike.ops import Conv2d, Dense
from memspike.program import Program


def groups_per_crossbar(plan: LayerPlan, chip: Chip) -> int:
    """How many groups share a crossbar: small ones lie along its diagonal, with rows and columns of their own."""
    if plan.row_tiles > 1 or plan.column_tiles > 1:
        return 1
    return min(plan.num_groups, chip.crossbar.rows // plan.num_rows, chip.crossbar.columns // (2 * plan.slices * plan.num_channels))


def num_crossbars(plan: LayerPlan, chip: Chip) -> int:
    """Crossbars of one copy of the op."""
    return -(-plan.num_groups // groups_per_crossbar(plan, chip)) * plan.row_tiles * plan.column_tiles


def place(op: Conv2d | Dense, plan: LayerPlan, chip: Chip, first: int) -> Iterator[Tile]:
    """The tiles of one copy of `op`, on crossbars from number `first` on: group by group, row tile by row tile, column tile by column tile."""
    together = groups_per_crossbar(plan, chip)
    columns = 2 * plan.slices
    row_spans = spans(plan.num_rows, chip.crossbar.rows)
    channel_spans = spans(plan.num_channels, channels_per_crossbar(plan.slices, chip))
    for group, matrix in enumerate(matrices(op)):
        in_crossbar = group % together
        for row_tile, rows in enumerate(row_spans):
            levels = to_levels(matrix[slice(*rows)], plan.slices, chip.bits_per_cell)
            crossbar = first + (group // together * plan.row_tiles + row_tile) * plan.column_tiles
            for column_tile, (start, stop) in enumerate(channel_spans):
                yield Tile(
                    op=op.out,
                    group=group,
                    rows=rows,
                    channels=(start, stop),
                    crossbar=crossbar + column_tile,
                    row_offset=in_crossbar * plan.num_rows,
                    column_offset=in_crossbar * plan.num_channels * columns,
                    levels=levels[:, start * columns : stop * columns],
                )


def copies_of(program: Program, ops: tuple[Conv2d | Dense, ...], copies: Mapping[str, int] | int | None) -> dict[str, int]:
    """Copies of each op by name, from what the user asked for.

    Raises MappingError for an unknown op, a number below 1, or more copies of a named op than it has positions to share.
    """
    most = {op.out: positions(program, op) for op in ops}
    if not isinstance(copies, Mapping):
        number = _at_least_one(1 if copies is None else copies, "copies")
        return {name: min(number, available) for name, available in most.items()}
    unknown = sorted(copies.keys() - most.keys())
    if unknown:
        raise MappingError(f"copies asked for {unknown[0]!r}, which is no op with weights", cure=f"ops with weights: {', '.join(most)}")
    wanted = {name: _at_least_one(number, f"copies of {name}") for name, number in copies.items()}
    for name, number in wanted.items():
        if number > most[name]:
            raise MappingError(
                f"{number} copies of {name} asked for, it has {most[name]} position(s) to share between them", cure=f"ask for {most[name]} at most"
            )
    return {name: wanted.get(name, 1) for name in most}


def _at_least_one(given: object, what: str) -> int:
    number = whole(given)
    if number is None or number < 1:
        raise MappingError(f"{what} is {given!r}; expected an integer, 1 or more")
    return number
