"""The first law: spikes say exactly what the program means, for every program, encoder, exact neuron, rate limit and cut into tiles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chips import test_chip
from memspike.mapper import map as map_program
from memspike.simulator import check, simulate
from random_programs import images_for, programs

chips = st.builds(
    test_chip,
    rows=st.integers(1, 12),
    columns=st.integers(16, 40),
    bits_per_cell=st.integers(1, 4),
    neuron=st.sampled_from(["up_down", "two_phase"]),
    max_spikes=st.integers(1, 3),
)
encoders = st.sampled_from(["even", "burst", "random"])


@settings(max_examples=60, deadline=None)
@given(programs(), chips, encoders, st.integers(0, 2**32 - 1))
def test_spikes_say_what_the_program_means(program, chip, encoder, seed):
    """On every value of every layer, against the plain meaning in int64."""
    images = images_for(program, seed, 4)
    result = simulate(map_program(program, chip), images, fidelity="spike", encoder=encoder, seed=seed, record=list(program.types))
    for name, meant in program.evaluate_all(images).items():
        assert np.array_equal(result.spike_counts[name], meant), name


@settings(max_examples=100, deadline=None)
@given(programs(), st.integers(0, 2**32 - 1))
def test_ideal_equals_the_meaning_on_every_value(program, seed):
    images = images_for(program, seed, 6)
    result = simulate(map_program(program, test_chip(16, 32)), images, record=list(program.types))
    for name, meant in program.evaluate_all(images).items():
        assert np.array_equal(result.spike_counts[name], meant), name
    assert np.array_equal(result.outputs, program.evaluate(images))


@settings(max_examples=15, deadline=None)
@given(programs(), chips, encoders, st.integers(0, 2**32 - 1))
def test_check_finds_no_difference(program, chip, encoder, seed):
    found = check(map_program(program, chip), images_for(program, seed, 3), encoder=encoder, seed=seed)
    assert found["spike_equals_program"] and set(found["differing_counts"]) == {op.out for op in program.ops}


@pytest.mark.parametrize("fidelity", ["ideal", "spike"])
@settings(max_examples=15, deadline=None)
@given(program=programs(), chip=chips, neuron=st.sampled_from(["up_down", "dual", "fire_only"]), seed=st.integers(0, 2**32 - 1))
def test_same_seed_same_result_for_any_batch_and_any_threads(fidelity, program, chip, neuron, seed):
    """Scores, activity and provenance, with random spikes and neurons that depend on their order."""
    mapping, images = map_program(program, chip), images_for(program, seed, 5)

    def run(batch_size: int, threads: int):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            result = simulate(mapping, images, fidelity=fidelity, encoder="random", neuron=neuron, seed=seed, batch_size=batch_size)
            assert torch.get_num_threads() == threads, "the caller's threads are given back"
            return result
        finally:
            torch.set_num_threads(before)

    whole = run(5, 1)
    for other in (run(1, 1), run(3, 2)):
        assert np.array_equal(other.outputs, whole.outputs)
        assert other.activity == whole.activity and other.provenance == whole.provenance and other.notes == whole.notes
