"""The laws of fidelity "analog": what has no flaw counts what spikes count, on every value of every program; and a chip is the same however computed."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chips import test_chip
from devices import law, number, stuck
from memspike.chip import Chip, NeuronCircuit
from memspike.mapper import map as map_program
from memspike.mapping import FaultMap
from memspike.ops import Conv2d, Dense, Fire
from memspike.program import fired_by
from memspike.simulator import simulate, written
from random_programs import images_for, programs

chips = st.builds(
    test_chip,
    rows=st.integers(1, 12),
    columns=st.integers(16, 40),
    bits_per_cell=st.integers(1, 4),
    neuron=st.sampled_from(["up_down", "two_phase", "dual", "fire_only"]),
    max_spikes=st.integers(1, 3),
)


@settings(max_examples=40)
@given(programs(), chips, st.sampled_from(["even", "burst", "random"]), st.integers(0, 2**32 - 1), st.floats(0, 1e9))
def test_a_perfect_chip_counts_what_spikes_count(program, chip, encoder, seed, time):
    mapping, images = map_program(program, chip.only()), images_for(program, seed, 4)
    counted, spiked = (
        simulate(mapping, images, fidelity=fidelity, encoder=encoder, seed=seed, time=after, record=list(program.types))
        for fidelity, after in (("analog", time), ("spike", 0.0))
    )
    for name, values in spiked.spike_counts.items():
        assert np.array_equal(counted.spike_counts[name], values), name
    assert np.array_equal(counted.outputs, spiked.outputs)


@settings(max_examples=40)
@given(programs(), chips, st.integers(0, 2**32 - 1))
def test_a_channel_without_flaws_is_exact_whatever_its_neighbours_are(program, chip, seed):
    """A cell in a hundred is stuck. On the counts that it gets, a neuron whose own cells are healthy counts what the program means."""
    mapping = map_program(program, _with(chip, stuck=stuck(0.005, 0.005)))
    mapping = replace(mapping, chip=replace(mapping.chip, neuron=NeuronCircuit("up_down", 1)))
    images = images_for(program, seed, 4)
    found = simulate(mapping, images, fidelity="analog", seed=seed % 1000, record=list(program.types)).spike_counts
    for name, layer in written(mapping, seed % 1000).items():
        op, fire = program.op(name), fired_by(program, name)
        if fire is not None:
            flawless = ~layer.deviation.any(axis=1).ravel()[: found[name].shape[1]]
            meant = fire.evaluate(op.evaluate(found[op.inputs[0]].astype(np.int64)))
            assert np.array_equal(found[fire.out][:, flawless], meant[:, flawless]), name


flaws = st.fixed_dictionaries(
    {
        "programming": st.sampled_from([None, law("wan2022")]),
        "read_noise": st.sampled_from([None, number(0.05)]),
        "stuck": st.sampled_from([None, stuck(0.1, 0.1)]),
    }
)
circuits = st.builds(
    NeuronCircuit,
    st.sampled_from(["up_down", "two_phase", "fire_only"]),
    st.integers(1, 3),
    *(st.sampled_from([None, number(value)]) for value in (0.1, 0.1, 0.05, 3.0, 0.3)),
)


@settings(max_examples=12)
@given(programs(), chips, flaws, circuits, st.sampled_from([0.0, 20.0]), st.integers(0, 1000))
def test_same_chip_same_result_for_any_batch_and_any_threads(program, chip, flaws, circuit, wires, seed):
    chip = replace(_with(chip, **flaws), neuron=circuit)
    chip = replace(chip, crossbar=replace(chip.crossbar, wire_resistance=number(wires, "ohm")))
    mapping, images = map_program(program, chip), images_for(program, seed, 5)

    def run(batch_size: int, threads: int):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return simulate(mapping, images, fidelity="analog", encoder="random", seed=seed, time=3600.0, batch_size=batch_size, record=list(program.types))
        finally:
            torch.set_num_threads(before)

    whole = run(5, 1)
    for other in (run(1, 1), run(3, 2)):
        for name, values in whole.spike_counts.items():
            assert np.array_equal(other.spike_counts[name], values), name
        assert other.activity == whole.activity and other.provenance == whole.provenance and other.notes == whole.notes
    for op in program.ops:
        if isinstance(op, Fire):
            assert whole.spike_counts[op.out].min() >= op.type.min and whole.spike_counts[op.out].max() <= op.type.max


@settings(max_examples=15)
@given(programs(), chips, st.integers(0, 2**32 - 1))
def test_a_cell_written_to_nothing_else_than_meant_is_no_flaw(program, chip, seed):
    """A fault map whose stuck cells were meant to be where they are stuck leaves the program's counts."""
    perfect = map_program(program, chip.only())
    weighted = [plan.op for plan in perfect.layers]
    cells = np.concatenate([np.where(layer.levels == 0, 1, 0) for layer in (written(perfect, 0)[name] for name in weighted)]).astype(np.uint8)
    mapping = replace(perfect, faults=FaultMap(cells, "all of level 0"))
    images = images_for(program, seed, 3)
    kind = chip.neuron.kind
    assert np.array_equal(simulate(mapping, images, fidelity="analog", neuron=kind).outputs, simulate(mapping, images, fidelity="spike", neuron=kind).outputs)
    assert {op.out for op in program.ops if isinstance(op, Conv2d | Dense)} == set(weighted)


def _with(chip: Chip, **imperfections: object) -> Chip:
    return chip.only().with_device(replace(chip.only().crossbar.device, **imperfections))
