"""Laws of cost: it is the sum of its rows, additive in activity, and never falls when more happens."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chips import test_chip
from memspike.chip import COMPONENTS
from memspike.cost import Cost
from memspike.estimator import estimate
from memspike.estimator.layers import neuron_layers
from memspike.mapper import map
from memspike.mapping import Mapping
from memspike.result import Activity
from random_programs import programs

chips = st.builds(test_chip, rows=st.integers(1, 12), columns=st.integers(16, 40), bits_per_cell=st.integers(1, 8))


def _activity(mapping: Mapping, seed: int) -> Activity:
    """Random counts of every action of every value, over a few images."""
    rng = np.random.default_rng(seed)
    keys = [(op, part, action) for op in mapping.program.types for part, actions in COMPONENTS.items() for action in actions]
    keys += [(plan.op, "cell", action) for plan in mapping.layers for action in ("read", "read_levels")]
    counts = {key: int(rng.integers(0, 10**6)) for key in keys}
    return Activity(counts, {layer: int(rng.integers(1, 300)) for layer in neuron_layers(mapping.program)}, int(rng.integers(1, 5)))


@given(programs(), chips, st.integers(0, 2**32 - 1))
def test_cost_is_the_sum_of_its_rows(program, chip, seed):
    mapping = map(program, chip)
    cost = estimate(mapping, _activity(mapping, seed))
    assert cost.energy == pytest.approx(math.fsum(row.count * row.energy_each for row in cost.rows))
    assert cost.area == pytest.approx(math.fsum(row.count * row.area_each for row in cost.rows))
    for field in ("component", "layer"):
        assert math.fsum(energy for energy, _ in cost.by(field).values()) == pytest.approx(cost.energy)
        assert math.fsum(area for _, area in cost.by(field).values()) == pytest.approx(cost.area)
    assert all(row.layer in program.types and row.component in COMPONENTS and row.count >= 0 for row in cost.rows)


@given(programs(), chips, st.integers(0, 2**32 - 1))
def test_latency_lies_between_the_slowest_layer_and_the_sum_of_all(program, chip, seed):
    mapping = map(program, chip)
    cost = estimate(mapping, _activity(mapping, seed))
    slowest = max(time.time for time in cost.times)
    assert cost.throughput == pytest.approx(1 / slowest)
    assert slowest <= cost.latency * (1 + 1e-12)
    assert cost.latency <= math.fsum(time.time for time in cost.times) * (1 + 1e-12)


@given(programs(), chips, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_energy_of_two_runs_is_the_energy_of_both_together(program, chip, first, second):
    mapping = map(program, chip)
    a, b = _activity(mapping, first), _activity(mapping, second)
    b = Activity(b.counts, a.num_timesteps, b.num_images)
    together = _dynamic(estimate(mapping, a + b)) * (a.num_images + b.num_images)
    assert together == pytest.approx(_dynamic(estimate(mapping, a)) * a.num_images + _dynamic(estimate(mapping, b)) * b.num_images)


@given(programs(), chips, st.integers(2, 50), st.integers(0, 2**32 - 1))
def test_copies_buy_time_with_area(program, chip, copies, seed):
    one, many = map(program, chip), map(program, chip, copies=copies)
    activity = _activity(one, seed)
    before, after = estimate(one, activity), estimate(many, activity)
    assert after.latency <= before.latency and after.throughput >= before.throughput
    assert after.area >= before.area
    assert _dynamic(after) == pytest.approx(_dynamic(before))


def _dynamic(cost: Cost) -> float:
    return math.fsum(row.energy for row in cost.rows if row.action != "leak")
