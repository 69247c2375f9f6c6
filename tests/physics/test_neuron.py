"""Neuron circuits: what each flaw does, and that none of them leaves the program's count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import number
from memspike.chip import NeuronCircuit
from memspike.physics.neuron import draw_neurons, integrate_and_fire, is_static


def run(currents, start=0.0, low=-100, high=100, **flaws):
    """The window of one neuron."""
    kind, most = flaws.pop("kind", "up_down"), flaws.pop("max_spikes", 1)
    circuit = NeuronCircuit(kind, most, **{name: number(value) for name, value in flaws.items()})
    rng = np.random.default_rng(0)
    return integrate_and_fire(circuit, np.array([start]), [np.array([x]) for x in currents], np.ones(1), low, high, lambda: rng.standard_normal(1))


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=16), st.integers(1, 3), st.sampled_from(["up_down", "two_phase"]))
def test_a_perfect_neuron_counts_the_floor_of_its_charge(eighths, max_spikes, kind):
    """In eighths of a threshold, which floats add exactly."""
    window = run([x / 8 for x in eighths], max_spikes=max_spikes, kind=kind)
    assert window.counts == [sum(eighths) // 8]


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=16))
def test_fire_only_never_fires_down(eighths):
    window = run([x / 8 for x in eighths], kind="fire_only")
    assert window.counts[0] >= 0 and window.num_extra_timesteps == 0


def test_a_leak_forgets_what_came_early():
    assert run([0.9, 0.0, 0.0, 0.2]).counts == [1]
    assert run([0.9, 0.0, 0.0, 0.2], leak=0.1).counts == [0]


def test_a_saturated_neuron_loses_charge():
    assert run([5.0, 0.0]).counts == [5]
    assert run([5.0, 0.0], saturation=2.0).counts == [2]


def test_resets_that_miss_spread_the_count():
    counts = set()
    rng = np.random.default_rng(1)
    circuit = NeuronCircuit("up_down", 1, reset_error=number(0.2))
    window = integrate_and_fire(circuit, np.full(2000, 0.5), [np.full(2000, 0.75)] * 16, np.ones(1), 0, 15, lambda: rng.standard_normal(2000))
    counts = np.unique(window.counts)
    assert len(counts) > 1 and abs(window.counts.mean() - 12.0) < 0.3


def test_neurons_differ_as_much_as_their_circuit_says():
    threshold, offset = draw_neurons(NeuronCircuit("up_down", 1, threshold_mismatch=number(0.05), offset=number(0.1)), 20_000, np.random.default_rng(0))
    assert np.std(threshold) == pytest.approx(0.05, rel=0.03) and np.mean(threshold) == pytest.approx(1, abs=0.002)
    assert np.std(offset) == pytest.approx(0.1, rel=0.03)
    threshold, offset = draw_neurons(NeuronCircuit("up_down", 1), 10, np.random.default_rng(0))
    assert (threshold == 1).all() and (offset == 0).all()


def test_only_what_forgets_or_stumbles_needs_its_timesteps():
    assert is_static(NeuronCircuit("up_down", 1, threshold_mismatch=number(0.05), offset=number(0.1)))
    assert not is_static(NeuronCircuit("fire_only", 1))
    for flaw in ("leak", "reset_error"):
        assert not is_static(NeuronCircuit("up_down", 1, **{flaw: number(0.1)}))
    assert not is_static(NeuronCircuit("up_down", 1, saturation=number(4.0)))
