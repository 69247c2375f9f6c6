"""Cut the weights of an op into crossbar-sized blocks, or say with numbers why they do not fit."""

import math

from memspike.chip import Chip
from memspike.errors import MappingError
from memspike.mapper.coding import slice_bits
from memspike.mapping import LayerPlan
from memspike.ops import Charge, Conv2d, Dense, Fire
from memspike.program import Program

Span = tuple[int, int]


def weighted_ops(program: Program) -> tuple[Conv2d | Dense, ...]:
    """The ops that take crossbars, in program order."""
    return tuple(op for op in program.ops if isinstance(op, (Conv2d, Dense)))


def plan_layer(program: Program, op: Conv2d | Dense, chip: Chip, copies: int) -> LayerPlan:
    """How `op` runs on `chip`.

    Raises MappingError when its sum is not read by one neuron, or does not fit the crossbars and the stacking of the chip.
    """
    _one_neuron_reads(program, op)
    slices, digit_bits = slice_bits(op, chip.bits_per_cell)
    num_channels, num_rows = len(op.weight) // op.groups, math.prod(op.weight.shape[1:])
    if 2 * slices > chip.crossbar.columns:
        raise MappingError(
            f"a channel needs {2 * slices} columns (a differential pair for each of {slices} bit slices), the crossbar has {chip.crossbar.columns}",
            cure="use fewer weight bits, more bits per cell or a wider crossbar",
        )
    plan = LayerPlan(
        op=op.out,
        num_groups=op.groups,
        num_rows=num_rows,
        num_channels=num_channels,
        slices=slices,
        row_tiles=-(-num_rows // chip.crossbar.rows),
        column_tiles=-(-num_channels // channels_per_crossbar(slices, chip)),
        max_level=(1 << digit_bits) - 1,
        positions=positions(program, op),
        copies=copies,
    )
    _fits_stack(plan, chip)
    return plan


def positions(program: Program, op: Conv2d | Dense) -> int:
    """At how many places of the image the op's weights are used: 1 for a Dense."""
    return math.prod(program.types[op.out].shape[1:])


def channels_per_crossbar(slices: int, chip: Chip) -> int:
    """How many channels lie side by side; the cells of one channel are never parted."""
    return chip.crossbar.columns // (2 * slices)


def spans(total: int, size: int) -> list[Span]:
    """`total` things in blocks of `size`, the last one maybe shorter, as (start, stop)."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def _one_neuron_reads(program: Program, op: Conv2d | Dense) -> None:
    # A sum is charge on a capacitor: it leaves the crossbar through one integrate-and-fire circuit, or as the charge of a score.
    users = program.users(op.out)
    if op.out == program.output or len(users) != 1 or not isinstance(users[0], (Fire, Charge)):
        readers = ", ".join([*(f"{user.word} {user.out}" for user in users), *(["the output"] if op.out == program.output else [])])
        raise MappingError(f"its sum is read by {readers}; on a chip one neuron reads it", cure="let one fire (or, for the scores, one charge) read the sum")


def _fits_stack(plan: LayerPlan, chip: Chip) -> None:
    rows = chip.crossbar.rows
    if chip.partial_sums == "digital" and plan.row_tiles > 1:
        raise MappingError(
            f"needs {plan.num_rows} rows, a crossbar of chip {chip.name} has {rows} and fires into counters of its own (partial_sums = 'digital')",
            cure=f"compile the program with partial_sums='digital' and rows={rows}, or take a chip with partial_sums = 'analog'",
        )
    if plan.row_tiles > chip.max_stacked_tiles:
        raise MappingError(
            f"needs {plan.num_rows} rows = {plan.row_tiles} stacked crossbars, chip {chip.name} stacks {chip.max_stacked_tiles} of {rows} rows "
            f"on one integrator ({chip.max_stacked_tiles * rows} rows)",
            cure=f"compile the program with partial_sums='digital' and rows={chip.max_stacked_tiles * rows}, "
            f"set max_stacked_tiles to {plan.row_tiles}, or use crossbars of {-(-plan.num_rows // chip.max_stacked_tiles)} rows",
        )
