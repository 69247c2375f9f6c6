"""Estimator: a mapping and what its chip did become time, energy and area, each a sum of rows."""

from memspike.cost import Cost
from memspike.errors import CostError
from memspike.estimator.area import area_rows
from memspike.estimator.energy import action_rows, leak_rows
from memspike.estimator.latency import layer_times, longest_path
from memspike.mapping import Mapping
from memspike.result import Activity

__all__ = ["estimate"]


def estimate(mapping: Mapping, activity: Activity) -> Cost:
    """What one image costs on the chip of `mapping`, from the `activity` of a simulation of that mapping.

    Latency [s] is one image from end to end, throughput [images/s] has the layers pipelined, energy [J] is per image, area [m2] is the chip's.
    Energy and area are sums of rows (layer, component, action, count).

    Raises:
        CostError: the activity is of no image, counts something the chip does not have, or belongs to another program.
    """
    if activity.num_images < 1:
        raise CostError(f"the activity is of {activity.num_images} images; costs are per image", cure="simulate at least one image")
    times = layer_times(mapping, activity)
    throughput = 1 / max(time.time for time in times)
    parts = area_rows(mapping)
    rows = (*action_rows(mapping, activity), *leak_rows(mapping.chip, parts, 1 / throughput), *parts)
    return Cost(longest_path(mapping.program, times), throughput, times, rows)
