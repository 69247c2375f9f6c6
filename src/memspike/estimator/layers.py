"""The names a cost is booked under: a sum and the neurons that read it are one layer, named by the sum."""

from memspike.ops import Charge, Conv2d, Dense, Fire, SumPool2d
from memspike.program import Program


def neuron_layers(program: Program) -> dict[str, list[Fire | Charge]]:
    """What takes windows: every weighted sum and every pooled sum, by name and in program order, with the Fire or Charge that reads it.

    A Fire that reads anything else is digital: after partial sums it is a shift of added counts, and takes neither neurons nor windows.
    """
    layers: dict[str, list[Fire | Charge]] = {op.out: [] for op in program.ops if isinstance(op, (Conv2d, Dense, SumPool2d))}
    for op in program.ops:
        if isinstance(op, (Fire, Charge)) and op.inputs[0] in layers:
            layers[op.inputs[0]].append(op)
    return layers


def layer_of(program: Program, value: str) -> str:
    """The layer that a value belongs to: the sum's name for what is fired from it, its own name for everything else."""
    return next((op.inputs[0] for op in program.ops if op.out == value and isinstance(op, (Fire, Charge))), value)
