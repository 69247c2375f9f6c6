"""Mapper: a program and a chip become a mapping, every weight a pair of cells on a numbered crossbar."""

import collections.abc

from memspike.chip import Chip
from memspike.errors import MappingError
from memspike.mapper.placement import copies_of, num_crossbars, place
from memspike.mapper.tiling import plan_layer, weighted_ops
from memspike.mapping import LayerPlan, Mapping, Tile
from memspike.program import Program

__all__ = ["map"]


def map(program: Program, chip: Chip, *, copies: collections.abc.Mapping[str, int] | int | None = None) -> Mapping:
    """Place the weights of `program` on the crossbars of `chip`.

    Args:
        program: an integer program; its Conv2d and Dense ops get crossbars, every other op is digital or a neuron's own.
        chip: the hardware.
        copies: how often each op's weights are held, so that its positions are shared between copies: a number per op name (the others 1),
            one number for all (an op with fewer positions gets one copy per position), or None for 1.

    Returns:
        A mapping whose tiles hold every weight exactly once (of one copy), crossbars numbered in the order of the ops.

    Raises:
        MappingError: the program has no weights, an op does not fit the chip, or `copies` makes no sense.
    """
    where = f"program {program.name}"
    ops = weighted_ops(program)
    if not ops:
        raise MappingError("has no op with weights; there is nothing to put on crossbars", where=where)
    try:
        wanted = copies_of(program, ops, copies)
    except MappingError as error:
        raise MappingError(error.what, where=where, cure=error.cure) from error
    layers: list[LayerPlan] = []
    tiles: list[Tile] = []
    first = 0
    for op in ops:
        try:
            plan = plan_layer(program, op, chip, wanted[op.out])
        except MappingError as error:
            raise MappingError(error.what, where=f"{where}, op {op.out}", cure=error.cure) from error
        layers.append(plan)
        tiles.extend(place(op, plan, chip, first))
        first += num_crossbars(plan, chip)
    return Mapping(program, chip, tuple(layers), tuple(tiles))
