"""Area: how many of each part the chip has, layer by layer."""

import math
from collections.abc import Iterator

from memspike.cost import CostRow
from memspike.estimator.layers import layer_of, neuron_layers
from memspike.integer import IntType
from memspike.mapping import LayerPlan, Mapping
from memspike.ops import Add, Fire, MaxPool2d, Op, SumPool2d
from memspike.program import Program, fired_by

Part = tuple[str, str, int]  # layer, component, instances


def area_rows(mapping: Mapping) -> list[CostRow]:
    """One row per layer and component: action "instance", the number of instances, the area [m2] of one."""
    chip = mapping.chip
    return [CostRow(layer, part, "instance", count, area_each=chip.component(part).area.value) for layer, part, count in parts(mapping) if count]


def parts(mapping: Mapping) -> Iterator[Part]:
    """Every part of the chip: (layer, component, instances). Encoders, counters, adders, comparators and buffers are counted in bits."""
    program = mapping.program
    plans = {plan.op: plan for plan in mapping.layers}
    yield program.input, "buffer", _bits(program, program.input)
    for plan in mapping.layers:
        yield from _crossbar_parts(mapping, plan)
    for layer in neuron_layers(program):
        yield from _neuron_parts(program, layer, plans.get(layer))
    for op in program.ops:
        yield from _digital_parts(program, op)
    scores = program.types[program.output]
    yield layer_of(program, program.output), "comparator", scores.shape[0] * scores.type.bits  # the winner-take-all


def _crossbar_parts(mapping: Mapping, plan: LayerPlan) -> Iterator[Part]:
    # Whole arrays are paid for, filled or not. Lines of the image are encoded once for all the column tiles that share them.
    rows, columns = mapping.chip.crossbar.rows, mapping.chip.crossbar.columns
    crossbars = mapping.crossbars_of(plan.op) * plan.copies
    read = mapping.program.types[mapping.program.op(plan.op).inputs[0]]
    yield plan.op, "cell", crossbars * rows * columns
    yield plan.op, "row_driver", crossbars * rows
    yield plan.op, "encoder", plan.num_groups * plan.num_rows * plan.copies * read.type.bits
    yield plan.op, "bus", crossbars
    yield plan.op, "controller", crossbars


def _neuron_parts(program: Program, layer: str, plan: LayerPlan | None) -> Iterator[Part]:
    # An average pool is digital: its adders take the threshold off again and again, a counter per channel keeps the quotient.
    neurons = plan.num_groups * plan.num_channels * plan.copies if plan else program.types[layer].shape[0]
    if plan:
        yield layer, "neuron", neurons
    for op in neuron_layers(program)[layer]:
        if isinstance(op, Fire):  # a score stays a charge: its neuron has an integrator and no counter
            yield layer, "counter", neurons * op.type.bits


def _digital_parts(program: Program, op: Op) -> Iterator[Part]:
    out = program.types[op.out]
    if isinstance(op, Add):
        inputs = [program.types[name].type for name in op.inputs]
        unclipped = IntType.smallest(sum(type.min for type in inputs), sum(type.max for type in inputs))
        yield op.out, "adder", out.shape[0] * unclipped.bits if len(inputs) > 1 else 0
        if not fired_by(program, op.out):  # a total that is shifted at once stays in the adder's own register
            yield op.out, "buffer", _bits(program, op.out)
    elif isinstance(op, SumPool2d):
        yield op.out, "adder", out.shape[0] * out.type.bits
        if not fired_by(program, op.out):
            yield op.out, "buffer", _bits(program, op.out)
    elif isinstance(op, MaxPool2d):
        yield op.out, "comparator", out.shape[0] * out.type.bits
        yield op.out, "buffer", _bits(program, op.out)
    elif isinstance(op, Fire):
        yield layer_of(program, op.out), "buffer", _bits(program, op.out)


def _bits(program: Program, value: str) -> int:
    return math.prod(program.types[value].shape) * program.types[value].type.bits
