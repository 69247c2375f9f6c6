"""Mapper: a program and a chip become a mapping, every weight a pair of cells on a numbered crossbar."""

import collections.abc
from dataclasses import replace

from memspike.chip import Chip
from memspike.errors import MappingError, expect
from memspike.integer import whole
from memspike.mapper.faults import avoid_faults
from memspike.mapper.placement import copies_of, num_crossbars, place
from memspike.mapper.tiling import plan_layer, weighted_ops
from memspike.mapping import AVOID, FaultMap, LayerPlan, Mapping, Tile
from memspike.program import Program

__all__ = ["map"]


def map(
    program: Program,
    chip: Chip,
    *,
    copies: collections.abc.Mapping[str, int] | int | None = None,
    faults: FaultMap | None = None,
    avoid: collections.abc.Iterable[str] = AVOID,
    spare_columns: int = 0,
) -> Mapping:
    """Place the weights of `program` on the crossbars of `chip`.

    Args:
        program: an integer program; its Conv2d and Dense ops get crossbars, every other op is digital or a neuron's own.
        chip: the hardware.
        copies: how often each op's weights are held, so that its positions are shared between copies: a number per op name (the others 1),
            one number for all (an op with fewer positions gets one copy per position), or None for 1.
        faults: which cells are stuck; weights are then placed and written around them by the means `avoid` (see `mapper.faults`).
        spare_columns: pairs of columns that every crossbar keeps free, so that faulty ones can be left out.

    Returns:
        A mapping whose tiles hold every weight exactly once (of one copy), crossbars numbered in the order of the ops.

    Raises:
        MappingError: the program has no weights, an op does not fit the chip, `copies`, `avoid` or `spare_columns` make no sense, or the
            fault map is another chip's.
    """
    expect(program, Program, MappingError, "ms.compile(network) makes one of a network, ms.load_program and ms.load read one")
    expect(chip, Chip, MappingError, "ms.load_chip('predictive') gives one, by its name or from a file")
    expect(faults, (FaultMap, type(None)), MappingError, "ms.storage.load_faults reads one from a file, FaultMap(cells, source) makes one of an array")
    where = f"program {program.name}"
    ops = weighted_ops(program)
    if not ops:
        raise MappingError("has no op with weights; there is nothing to put on crossbars", where=where)
    try:
        wanted = copies_of(program, ops, copies)
    except MappingError as error:
        raise MappingError(error.what, where=where, cure=error.cure) from error
    spare, means = whole(spare_columns), frozenset(avoid)
    if spare is None or not 0 <= spare < chip.crossbar.columns // 2:
        what = f"{spare_columns!r} spare pairs of columns; the crossbar has {chip.crossbar.columns // 2} pairs"
        raise MappingError(what, where=where, cure="a whole number, and at least one pair left for weights")
    if unknown := means.difference(AVOID):
        raise MappingError(f"no way around faults is called {min(unknown)!r}", where=where, cure=f"ways: {', '.join(AVOID)}")
    # Weights are cut for a crossbar without its spare columns, and lie on the whole one.
    used = replace(chip, crossbar=replace(chip.crossbar, columns=chip.crossbar.columns - 2 * spare))
    layers: list[LayerPlan] = []
    tiles: list[Tile] = []
    first = 0
    for op in ops:
        try:
            plan = plan_layer(program, op, used, wanted[op.out])
        except MappingError as error:
            raise MappingError(error.what, where=f"{where}, op {op.out}", cure=error.cure) from error
        layers.append(plan)
        tiles.extend(place(op, plan, used, first))
        first += num_crossbars(plan, used)
    mapping = Mapping(program, chip, tuple(layers), tuple(tiles), faults)
    if faults is None:
        if means != frozenset(AVOID):
            raise MappingError("avoid says how weights are mapped around stuck cells, and no faults are given", where=where, cure="give faults too")
        return mapping
    if any(plan.copies > 1 for plan in layers):
        raise MappingError("a fault map knows one copy of each op", where=where, cure="map without copies, or without a fault map")
    around = (tile for plan in layers for tile in avoid_faults(list(mapping.tiles_of(plan.op)), plan, chip, faults, means))
    return replace(mapping, tiles=tuple(around))
