"""The first law: spikes say exactly what the program means, for every program, encoder, exact neuron, rate limit and cut into tiles."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chips import test_chip
from memspike.mapper import map as map_program
from memspike.ops import Conv2d, Dense
from memspike.simulator import check, int8, simulate
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


@pytest.fixture(params=["int8 where proven", "floats"])
def route(request):
    """With this processor's integer units, and as on one without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "floats":
            patch.setattr(int8, "is_available", lambda: False)
        yield request.param


def kept(program, choice):
    """All values; or all but the sums, so that these need not be made; or none."""
    sums = {op.out for op in program.ops if isinstance(op, Conv2d | Dense)}
    return [name for name in program.types if choice == "all" or (choice == "counts" and name not in sums)]


routes = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
choices = st.sampled_from(["all", "counts", "none"])


@routes
@given(program=programs(), chip=chips, encoder=encoders, choice=choices, seed=st.integers(0, 2**32 - 1))
def test_spikes_say_what_the_program_means(route, program, chip, encoder, choice, seed):
    """On every value of every layer, against the plain meaning in int64."""
    images = images_for(program, seed, 4)
    result = simulate(map_program(program, chip), images, fidelity="spike", encoder=encoder, seed=seed, record=kept(program, choice))
    meant = program.evaluate_all(images)
    for name, found in result.spike_counts.items():
        assert np.array_equal(found, meant[name]), name
    assert np.array_equal(result.outputs, meant[program.output])


@routes
@given(program=programs(), choice=choices, seed=st.integers(0, 2**32 - 1))
def test_ideal_equals_the_meaning_on_every_value(route, program, choice, seed):
    images = images_for(program, seed, 6)
    result = simulate(map_program(program, test_chip(16, 32)), images, record=kept(program, choice))
    meant = program.evaluate_all(images)
    for name, found in result.spike_counts.items():
        assert np.array_equal(found, meant[name]), name
    assert np.array_equal(result.outputs, meant[program.output])


@settings(max_examples=25)
@given(
    programs(), chips, encoders, st.sampled_from(["ideal", "spike"]), st.sampled_from(["up_down", "two_phase", "dual", "fire_only"]), st.integers(0, 2**32 - 1)
)
def test_the_route_changes_nothing_but_the_notes(program, chip, encoder, fidelity, neuron, seed):
    """Counts of neurons that are not exact, activity and every timestep are the same with and without integer units."""
    mapping, images = map_program(program, chip), images_for(program, seed, 5)
    found = []
    for is_available in (int8.is_available, lambda: False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(int8, "is_available", is_available)
            spikes = {"encoder": encoder, "neuron": neuron} if fidelity == "spike" else {}
            found.append(simulate(mapping, images, fidelity=fidelity, seed=seed, record=list(program.types), **spikes))
    one, other = found
    assert one.activity == other.activity and one.provenance == other.provenance
    assert all(np.array_equal(one.spike_counts[name], other.spike_counts[name]) for name in program.types)


@settings(max_examples=15)
@given(programs(), chips, encoders, st.integers(0, 2**32 - 1))
def test_check_finds_no_difference(program, chip, encoder, seed):
    found = check(map_program(program, chip), images_for(program, seed, 3), encoder=encoder, seed=seed)
    assert found["spike_equals_program"] and set(found["differing_counts"]) == {op.out for op in program.ops}


@pytest.mark.parametrize("fidelity", ["ideal", "spike"])
@settings(max_examples=15)
@given(program=programs(), chip=chips, neuron=st.sampled_from(["up_down", "dual", "fire_only"]), seed=st.integers(0, 2**32 - 1))
def test_same_seed_same_result_for_any_batch_and_any_threads(fidelity, program, chip, neuron, seed):
    """Scores, activity and provenance, with random spikes and neurons that depend on their order."""
    mapping, images = map_program(program, chip), images_for(program, seed, 5)

    def run(batch_size: int, threads: int):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            spikes = {"encoder": "random", "neuron": neuron} if fidelity == "spike" else {}
            result = simulate(mapping, images, fidelity=fidelity, seed=seed, batch_size=batch_size, **spikes)
            assert torch.get_num_threads() == threads, "the caller's threads are given back"
            return result
        finally:
            torch.set_num_threads(before)

    whole = run(5, 1)
    for other in (run(1, 1), run(3, 2)):
        assert np.array_equal(other.outputs, whole.outputs)
        assert other.activity == whole.activity and other.provenance == whole.provenance and other.notes == whole.notes
