"""Estimator: a mapping and what its chip did become time, energy and area, each a sum of rows."""

from memspike.cost import Cost
from memspike.errors import CostError, expect
from memspike.estimator.area import area_rows
from memspike.estimator.energy import action_rows, leak_rows
from memspike.estimator.latency import layer_times, longest_path
from memspike.mapping import Mapping
from memspike.result import Activity, Result

__all__ = ["estimate"]

_CURE = "simulate the mapping that is to be costed; in Python the activity alone, `result.activity`, is taken as it is, for a chip with other constants say"


def estimate(mapping: Mapping, simulated: Result | Activity) -> Cost:
    """What one image costs on the chip of `mapping`, from a simulation of that mapping in spikes.

    Latency [s] is one image from end to end, throughput [images/s] has the layers pipelined, energy [J] is per image, area [m2] is the chip's.
    Energy and area are sums of rows (layer, component, action, count). An Activity without its Result is taken as it is: in the integers of fidelity
    "ideal" nothing drains and no spike is taken back, so time and energy are lower bounds.

    Raises:
        CostError: the simulation is of no image, of another program, chip or mapping, or not in spikes; or it counts something the chip does not have.
    """
    expect(mapping, Mapping, CostError, "ms.map(program, chip) puts a program on a chip; then comes what was simulated on it")
    expect(simulated, (Result, Activity), CostError, "ms.simulate(mapping, images, fidelity='spike') gives one")
    activity = _activity(mapping, simulated) if isinstance(simulated, Result) else simulated
    if activity.num_images < 1:
        raise CostError(f"the activity is of {activity.num_images} images; costs are per image", cure="simulate at least one image")
    times = layer_times(mapping, activity)
    throughput = 1 / max(time.time for time in times)
    parts = area_rows(mapping)
    rows = (*action_rows(mapping, activity), *leak_rows(mapping.chip, parts, 1 / throughput), *parts)
    return Cost(longest_path(mapping.program, times), throughput, times, rows)


def _activity(mapping: Mapping, result: Result) -> Activity:
    """What the chip did; CostError unless it is this mapping's program, chip and loads, spike by spike."""
    made = result.provenance
    for what, found, wanted in (("program", made.program, mapping.program.digest()), ("chip", made.chip, mapping.chip.digest())):
        if found != wanted:
            raise CostError(f"the simulation is of {what} {found[:16]}, the mapping of {what} {wanted[:16]}", cure=_CURE)
    if made.neuron != mapping.chip.neuron.kind:
        cure = f"simulate with the chip's own neuron, or map to a chip whose neuron is {made.neuron}"
        raise CostError(f"the simulation is of {made.neuron} neurons, the mapping's chip has {mapping.chip.neuron.kind} ones", cure=cure)
    if made.fidelity != "spike":
        what = f"the simulation is of fidelity {made.fidelity}, which counts neither the timesteps of a drain nor spikes that are taken back"
        raise CostError(what, cure="simulate with fidelity spike")
    if made.loads != mapping.loads:
        what = "the simulation is of another mapping of the same program: there a spike drives other crossbars, or reads cells of other levels"
        raise CostError(what, cure=_CURE)
    return result.activity
