"""Time: how long each layer's windows take, and the longest way through the program."""

import math
from collections.abc import Iterable

from memspike.cost import LayerTime
from memspike.errors import CostError
from memspike.estimator.layers import neuron_layers
from memspike.mapping import Mapping
from memspike.program import Program
from memspike.result import Activity


def layer_times(mapping: Mapping, activity: Activity) -> tuple[LayerTime, ...]:
    """The time of every layer of neurons; one window [s] is `num_timesteps * timestep + window_overhead`.

    A layer with weights needs `ceil(positions / copies)` windows one after the other; an average pool needs one per position. Digital ops
    (max pools, adds, joins, shifts) work within the overhead of the windows around them. Raises CostError when the activity is of another program.
    """
    layers = neuron_layers(mapping.program)
    for name in activity.num_timesteps:
        if name not in layers:
            raise _other_program(mapping, f"times a layer {name!r}", layers)
    missing = [name for name in layers if name not in activity.num_timesteps]
    if missing:
        raise _other_program(mapping, f"does not time the layer {missing[0]!r}", layers)
    return tuple(_layer_time(mapping, name, activity.num_timesteps[name]) for name in layers)


def longest_path(program: Program, times: tuple[LayerTime, ...]) -> float:
    """The time [s] at which the last value is known, when every op starts as soon as its inputs are complete."""
    own = {time.layer: time.time for time in times}
    done = {program.input: own.get(program.input, 0.0)}
    for op in program.ops:
        done[op.out] = max(done[name] for name in op.inputs) + own.get(op.out, 0.0)
    return done[program.output]


def _layer_time(mapping: Mapping, name: str, num_timesteps: int) -> LayerTime:
    if num_timesteps < 1:
        raise CostError(f"a window of {num_timesteps} timesteps; at least one was expected", where=f"layer {name}")
    plan = next((plan for plan in mapping.layers if plan.op == name), None)
    windows = -(-plan.positions // plan.copies) if plan else math.prod(mapping.program.types[name].shape[1:])
    chip = mapping.chip
    return LayerTime(name, windows, num_timesteps, num_timesteps * chip.timestep.value + chip.window_overhead.value)


def _other_program(mapping: Mapping, what: str, layers: Iterable[str]) -> CostError:
    return CostError(
        f"the activity {what}, the program has {', '.join(layers)}",
        where=f"program {mapping.program.name}",
        cure="estimate with the activity of a simulation of this mapping",
    )
