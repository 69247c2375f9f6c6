"""The law of fidelity "analog": a chip without imperfections counts what spikes count, on every value of every program."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chips import test_chip
from memspike.mapper import map as map_program
from memspike.simulator import simulate
from random_programs import images_for, programs

chips = st.builds(
    test_chip,
    rows=st.integers(1, 12),
    columns=st.integers(16, 40),
    bits_per_cell=st.integers(1, 4),
    neuron=st.sampled_from(["up_down", "two_phase", "dual", "fire_only"]),
    max_spikes=st.integers(1, 3),
)


@settings(max_examples=40, deadline=None)
@given(programs(), chips, st.sampled_from(["even", "burst", "random"]), st.integers(0, 2**32 - 1), st.floats(0, 1e9))
def test_a_perfect_chip_counts_what_spikes_count(program, chip, encoder, seed, time):
    mapping, images = map_program(program, chip.only()), images_for(program, seed, 4)
    counted, spiked = (
        simulate(mapping, images, fidelity=fidelity, encoder=encoder, seed=seed, time=time, record=list(program.types)) for fidelity in ("analog", "spike")
    )
    for name, values in spiked.spike_counts.items():
        assert np.array_equal(counted.spike_counts[name], values), name
    assert np.array_equal(counted.outputs, spiked.outputs)
