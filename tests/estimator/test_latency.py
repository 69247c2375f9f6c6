"""Latency: windows, copies, the longest way through the program, and activity that belongs elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from chips import test_chip
from memspike.errors import CostError
from memspike.estimator import estimate
from memspike.mapper import map
from memspike.ops import Add, Conv2d, Dense, Fire, Flatten, SumPool2d, TensorType
from memspike.program import Program
from memspike.result import Activity, Fidelity
from memspike.simulator import simulate
from small_programs import I4, U4, charge, fire, one_dense, small_network, some_activity, weights

CHIP = test_chip(8, 8, bits_per_cell=3, timestep=10e-9, window_overhead=20e-9)
WINDOW = 16 * 10e-9 + 20e-9


def test_a_layer_takes_a_window_per_position():
    mapping = map(small_network(), CHIP)
    cost = estimate(mapping, some_activity(mapping))
    assert [(time.layer, time.windows, time.num_timesteps) for time in cost.times] == [("conv.sum", 64, 16), ("average.sum", 4, 16), ("scores.sum", 1, 16)]
    assert all(time.window == pytest.approx(WINDOW) for time in cost.times)
    assert cost.latency == pytest.approx((64 + 4 + 1) * WINDOW)
    assert cost.throughput == pytest.approx(1 / (64 * WINDOW))


def test_drain_timesteps_are_time():
    mapping = map(small_network(), CHIP)
    activity = some_activity(mapping)
    longer = replace(activity, num_timesteps={**activity.num_timesteps, "conv.sum": 20})
    assert estimate(mapping, longer).latency - estimate(mapping, activity).latency == pytest.approx(64 * 4 * 10e-9)


@pytest.mark.parametrize(("copies", "windows"), [(1, 64), (2, 32), (5, 13), (64, 1)])
def test_copies_share_the_positions(copies, windows):
    mapping = map(small_network(), CHIP, copies={"conv.sum": copies})
    assert estimate(mapping, some_activity(mapping)).times[0].windows == windows


def test_parallel_branches_take_the_time_of_the_longer_one():
    ops = (
        Conv2d("long.sum", ("x",), weights(0, 1, 1, 1, 1), I4),  # 16 positions
        fire("long", 1),
        Conv2d("short.sum", ("x",), weights(0, 1, 1, 1, 1), I4, stride=(2, 2)),  # 4 positions
        fire("short", 1),
        SumPool2d("pool.sum", ("long",), (2, 2), (2, 2)),  # 4 positions
        fire("pool", 1),
        Add("add", ("pool", "short"), U4),
        Flatten("flat", ("add",)),
    )
    program = Program("branches", "x", TensorType((1, 4, 4), U4), ops, "flat")
    mapping = map(program, CHIP)
    cost = estimate(mapping, Activity({}, {"long.sum": 16, "short.sum": 16, "pool.sum": 16}, 1))
    assert cost.latency == pytest.approx(20 * WINDOW)
    assert cost.throughput == pytest.approx(1 / (16 * WINDOW))


def test_a_fire_behind_digital_partial_sums_takes_no_window():
    ops = (
        Dense("a.sum", ("x",), weights(0, 2, 4), I4),
        fire("a", 2),
        Dense("b.sum", ("x",), weights(1, 2, 4), I4),
        fire("b", 2),
        Add("total", ("a", "b"), U4),
        Fire("y", ("total",), np.full(2, 4), np.zeros(2, np.int64), 0, U4),
        Dense("scores.sum", ("y",), weights(2, 3, 2), I4),
        charge("scores", 3),
    )
    mapping = map(Program("split", "x", TensorType((4,), U4), ops, "scores"), CHIP)
    cost = estimate(mapping, Activity({}, {"a.sum": 16, "b.sum": 16, "scores.sum": 16}, 1))
    assert cost.latency == pytest.approx(2 * WINDOW)


def test_activity_of_another_program_is_refused():
    mapping = map(small_network(), CHIP)
    activity = some_activity(mapping)
    steps = activity.num_timesteps
    with pytest.raises(CostError) as error:
        estimate(mapping, replace(activity, num_timesteps={**steps, "fc9.sum": 16}))
    assert str(error.value) == (
        "program small: the activity times a layer 'fc9.sum', the program has conv.sum, average.sum, scores.sum\n"
        "  estimate with the activity of a simulation of this mapping"
    )
    with pytest.raises(CostError, match="the activity does not time the layer 'average.sum'"):
        estimate(mapping, replace(activity, num_timesteps={k: v for k, v in steps.items() if k != "average.sum"}))
    with pytest.raises(CostError, match="layer conv.sum: a window of 0 timesteps"):
        estimate(mapping, replace(activity, num_timesteps={**steps, "conv.sum": 0}))
    with pytest.raises(CostError, match="the activity is of 0 images"):
        estimate(mapping, replace(activity, num_images=0))


def test_a_simulation_belongs_to_the_mapping_that_is_costed():
    mapping, images = map(small_network(), CHIP), np.ones((2, *small_network().input_type.shape), np.int64)
    spikes = simulate(mapping, images, fidelity="spike")
    assert estimate(mapping, spikes) == estimate(mapping, spikes.activity)
    other = map(small_network(), replace(CHIP, timestep=replace(CHIP.timestep, value=1e-9)))
    with pytest.raises(CostError, match="the simulation is of chip .*, the mapping of chip "):
        estimate(other, spikes)
    with pytest.raises(CostError, match="the simulation is of program .*, the mapping of program "):
        estimate(map(one_dense(10, 3), CHIP), spikes)
    with pytest.raises(CostError, match="is of dual neurons, the mapping's chip has up_down ones\n  simulate with the chip's own neuron, or map"):
        estimate(mapping, simulate(mapping, images, fidelity="spike", neuron="dual"))
    fidelities: tuple[Fidelity, Fidelity] = ("ideal", "analog")
    for fidelity in fidelities:
        with pytest.raises(CostError, match=f"of fidelity {fidelity}, which counts neither .*\n  simulate with fidelity spike"):
            estimate(mapping, simulate(mapping, images, fidelity=fidelity))


def test_integers_alone_bound_what_spikes_cost():
    mapping = map(small_network(), CHIP)
    images = np.random.default_rng(0).integers(0, 16, (4, *small_network().input_type.shape))
    ideal, spikes = (estimate(mapping, simulate(mapping, images, fidelity=fidelity).activity) for fidelity in ("ideal", "spike"))
    assert ideal.latency <= spikes.latency and ideal.energy <= spikes.energy and ideal.area == spikes.area
