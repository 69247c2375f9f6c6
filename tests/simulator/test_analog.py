"""Fidelity "analog": each imperfection does what it should, fast routes equal slow ones, and a chip is the same however it is computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chips import test_chip
from crossbars import exact, solved
from devices import chip, device, law, number, stuck
from memspike.chip import NeuronCircuit
from memspike.errors import MappingError, SimulationError
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.mapping import FaultMap, from_levels
from memspike.ops import Dense, TensorType
from memspike.physics import effective_conductance
from memspike.program import Program
from memspike.simulator import faults_of, simulate, written
from memspike.simulator.encode import encode
from small_programs import I4, charge, one_conv, one_dense, small_network

IMAGES = np.random.default_rng(0).integers(0, 16, (12, 2, 8, 8))


def outputs(mapping, images=IMAGES, **options):
    return simulate(mapping, images, fidelity="analog", **options).outputs


@pytest.mark.parametrize(
    "imperfect",
    [
        chip(programming=law("constant", std=0.05)),
        chip(stuck=stuck(0.1, 0.1)),
        chip(read_noise=number(0.2)),
        chip(wires=50.0),
        chip(drift=law("power_law", nu=0.1, t0=1.0)),
        chip(temperature=law("lammie2021", temperature=360.0)),
        replace(chip(), neuron=NeuronCircuit("up_down", 1, threshold_mismatch=number(0.2))),
        replace(chip(), neuron=NeuronCircuit("up_down", 1, leak=number(0.2))),
    ],
    ids=["programming", "stuck", "read_noise", "wires", "drift", "temperature", "mismatch", "leak"],
)
def test_each_imperfection_alone_changes_scores_and_can_be_left_out(imperfect):
    mapping = map_program(small_network(), imperfect)
    meant = simulate(mapping, IMAGES).outputs
    found = outputs(mapping, seed=3, time=1000.0)
    assert not np.array_equal(found, meant)
    assert np.array_equal(outputs(mapping, seed=3, time=1000.0), found), "a chip is the same every time"
    (name,) = imperfect.imperfections()
    for perfect in (imperfect.without(name), imperfect.only()):
        assert np.array_equal(outputs(map_program(small_network(), perfect), seed=3, time=1000.0), meant)


def test_what_says_nothing_in_a_fidelity_is_refused_there():
    """An accuracy after a day would be the perfect one, were the fidelity forgotten."""
    mapping = map_program(small_network(), chip())
    for wrong in ({"time": 86400.0}, {"layers": ["scores.sum"]}):
        for fidelity in ("ideal", "spike"):
            with pytest.raises(SimulationError, match="says something about real chips(.|\n)*give fidelity='analog'"):
                simulate(mapping, IMAGES, fidelity=fidelity, **wrong)
    for wrong in ({"encoder": "random"}, {"neuron": "up_down"}):
        with pytest.raises(SimulationError, match="says something about spikes, and fidelity 'ideal' computes integers"):
            simulate(mapping, IMAGES, **wrong)
    for fidelity in ("ideal", "spike", "analog"):
        for seed in (1.5, "a", True, -7):
            with pytest.raises(SimulationError, match="a seed of .*; expected a whole number, zero or more"):
                simulate(mapping, IMAGES, fidelity=fidelity, seed=seed)
        with pytest.raises(SimulationError, match="batch_size is 2.5; expected a whole number"):
            simulate(mapping, IMAGES, fidelity=fidelity, batch_size=2.5)
        found = simulate(mapping, IMAGES, fidelity=fidelity, seed=np.int64(3)).provenance
        assert type(found.seed) is int and found.digest() == simulate(mapping, IMAGES, fidelity=fidelity, seed=3).provenance.digest()


def test_another_seed_is_another_chip():
    mapping = map_program(small_network(), chip(programming=law("wan2022")))
    assert not np.array_equal(outputs(mapping, seed=1), outputs(mapping, seed=2))


@pytest.mark.parametrize(
    "neuron", [NeuronCircuit("up_down", 1), NeuronCircuit("up_down", 2, leak=number(0.05), reset_error=number(0.05))], ids=["window", "walk"]
)
def test_batches_and_threads_change_nothing(neuron):
    imperfect = replace(chip(programming=law("wan2022"), read_noise=number(0.05), stuck=stuck(0.05, 0.05), wires=10.0), neuron=neuron)
    mapping = map_program(small_network(), imperfect)
    whole = simulate(mapping, IMAGES, fidelity="analog", encoder="random", seed=5, record=["conv"])
    before = torch.get_num_threads()
    try:
        for batch_size, threads in ((1, 1), (5, 2)):
            torch.set_num_threads(threads)
            other = simulate(mapping, IMAGES, fidelity="analog", encoder="random", seed=5, record=["conv"], batch_size=batch_size)
            assert np.array_equal(other.spike_counts["conv"], whole.spike_counts["conv"]) and np.array_equal(other.outputs, whole.outputs)
            assert other.provenance == whole.provenance and other.activity.counts == whole.activity.counts
    finally:
        torch.set_num_threads(before)


def test_wires_give_what_every_timestep_of_every_input_solved_by_itself_gives():
    """One matrix per tile against the brute force: a nodal solution of every crossbar for the spikes of every timestep, all rows driven together."""
    program = one_dense(50, 6, weight=np.random.default_rng(1).integers(-7, 8, (6, 50)))
    mapping = map_program(program, chip(32, 32, wires=40.0, programming=law("wan2022"), stuck=stuck(0.05, 0.05)))
    counts = np.random.default_rng(2).integers(0, 16, (3, 50))
    (layer,) = written(mapping, seed=4, time=3600.0).values()
    assert mapping.num_crossbars == 2, "stacked on one integrator"
    sums = np.zeros((3, 6))
    for image, trains in enumerate(encode(counts, 16).transpose(1, 0, 2)):
        for spikes in trains:
            for crossbar, rows in ((0, slice(0, 32)), (1, slice(32, 50))):
                driven = np.zeros(32)
                driven[: len(spikes[rows])] = spikes[rows]
                currents = solved(layer.g[crossbar], 40.0, 40.0, driven)
                sums[image] += (currents[0:12:2] - currents[1:12:2]) / (39e-6 / 7)
    assert np.array_equal(outputs(mapping, counts, seed=4, time=3600.0), np.round(sums).astype(int))
    perfect = [sum((layer.g[k, :32, 0:12:2] - layer.g[k, :32, 1:12:2])[: len(part)].T @ part for k, part in enumerate((c[:32], c[32:]))) for c in counts]
    assert np.abs(sums - np.array(perfect) / (39e-6 / 7)).max() > 3, "or nothing was tested"


def test_wires_give_what_every_row_solved_in_fractions_gives():
    """The matrix route against the circuit: Kirchhoff's law in fractions for the written cells, one tile and one row at a time."""
    program = one_dense(4, 2, weight=np.random.default_rng(1).integers(-7, 8, (2, 4)))
    imperfect = chip(5, 6, wires=400.0, programming=law("constant", std=0.05))
    mapping = map_program(program, imperfect)
    counts = np.random.default_rng(2).integers(0, 16, (20, 4))
    (layer,) = written(mapping, seed=4).values()
    currents = counts @ exact(layer.g[0], 400.0, 400.0)[:4]
    step = 39e-6 / 7
    by_hand = (currents[:, 0:4:2] - currents[:, 1:4:2]) / step
    assert np.array_equal(outputs(mapping, counts, seed=4), np.round(by_hand).astype(int))
    assert np.abs(by_hand - counts @ program.op("scores.sum").weight.T).max() > 1, "or nothing was tested"


@pytest.mark.parametrize("wires", [0.0, 50.0])
def test_read_noise_is_every_cell_in_every_timestep(wires):
    """One normal variate per window against the brute force: a new crossbar in each of 16 timesteps, solved with its wires."""
    program = one_dense(8, 2, weight=np.random.default_rng(3).integers(-7, 8, (2, 8)))
    noise, windows = 0.03, 2000
    imperfect = chip(8, 8, wires=wires, read_noise=number(noise), g_min=number(10e-6, "S"))  # so that no cell's noise reaches zero conductance
    mapping = map_program(program, imperfect)
    counts = np.array([15, 3, 0, 8, 15, 1, 7, 12])
    found = simulate(mapping, np.tile(counts, (20_000, 1)), fidelity="analog", seed=1).outputs
    (layer,) = written(mapping, seed=1).values()
    rng, step = np.random.default_rng(0), 30e-6 / 7
    sums = np.zeros((windows, 2))
    for t in range(16):
        spikes = (counts > t).astype(float)
        g = layer.g + noise * 40e-6 * rng.standard_normal((windows, 8, 8))
        a = effective_conductance(g, wires, wires) if wires else g
        sums += np.einsum("r,wrc->wc", spikes, a[:, :, 0:4:2] - a[:, :, 1:4:2]) / step
    assert found.mean(axis=0) == pytest.approx(sums.mean(axis=0), abs=4 * sums.std() / np.sqrt(windows) + 0.05)
    assert found.std(axis=0) == pytest.approx(sums.std(axis=0), rel=4 / np.sqrt(2 * windows))


def test_wires_weaken_a_cells_noise_as_they_weaken_its_sensitivity():
    """Against the derivative of every column pair's current by every cell, many rows driven together: too much noise, by less than 0.8 of what wires cost."""
    rng, size = np.random.default_rng(5), 12
    program = one_dense(size, 3, weight=rng.integers(-7, 8, (3, size)))
    for wires in (25.0, 75.0):
        mapping = map_program(program, chip(size, size, wires=wires, programming=law("constant", std=0.08), read_noise=number(0.01)))
        (layer,) = written(mapping, seed=2).values()
        cost = 1 - layer.a.sum() / layer.g.sum()
        bump = 1e-9
        each = layer.g + bump * np.eye(size * size).reshape(size * size, size, size)
        by_cell = (effective_conductance(each, wires, wires) - layer.a) / bump  # [cells, rows, columns]
        for counts in (np.full(size, 15), rng.integers(0, 16, size)):
            pairs = np.einsum("r,krc->kc", counts > 0, by_cell)[:, :6]
            true = ((pairs[:, 0::2] - pairs[:, 1::2]) ** 2).sum(axis=0)
            ours = (counts > 0) @ layer.variance[0] / (0.01 * 40 / (39 / 7)) ** 2
            assert (np.abs(np.sqrt(ours / true) - 1) < 0.8 * cost).all() and 0.02 < cost < 0.08


def test_a_score_beyond_its_type_is_kept_whole():
    """One stuck cell makes 15 spikes worth 213, more than the 8 bits that the program's own scores need."""
    mapping = map_program(one_dense(1, 1, weight=np.array([[7]])), chip(4, 4, stuck=stuck(0.0, 0.1, high_g=80e-6)))
    cells = np.zeros((1, 4, 4), np.uint8)
    cells[0, 0, 0] = 2
    result = simulate(replace(mapping, faults=FaultMap(cells, "test")), np.array([[15]]), fidelity="analog", record=["scores.sum"])
    assert result.outputs.tolist() == result.spike_counts["scores.sum"].tolist() == [[213]]


def test_only_the_named_layers_are_imperfect():
    mapping = map_program(small_network(), chip(stuck=stuck(0.2, 0.2)))
    meant = simulate(mapping, IMAGES, record=["conv"])
    found = simulate(mapping, IMAGES, fidelity="analog", layers=["scores.sum"], record=["conv"])
    assert np.array_equal(found.spike_counts["conv"], meant.spike_counts["conv"]) and not np.array_equal(found.outputs, meant.outputs)
    assert np.array_equal(outputs(mapping, layers=[]), meant.outputs)
    assert found.notes[0] == "conv.sum: perfect" and found.provenance.layers == ("scores.sum",)
    fire_only = simulate(mapping, IMAGES, fidelity="spike", neuron="fire_only", record=["conv"])
    other = simulate(mapping, IMAGES, fidelity="analog", layers=["scores.sum"], neuron="fire_only", record=["conv"])
    assert np.array_equal(other.spike_counts["conv"], fire_only.spike_counts["conv"]), "a perfect layer has the neurons that it has"
    with pytest.raises(SimulationError, match="no layer is called 'conv9'(.|\n)*layers are: conv.sum, scores.sum"):
        outputs(mapping, layers=["conv9"])


def test_walking_and_multiplying_agree_where_no_circuit_forgets():
    """A leak of next to nothing takes the slow route through every timestep, and counts the same."""
    imperfect = chip(programming=law("wan2022"), wires=5.0)
    walked = replace(imperfect, neuron=NeuronCircuit("up_down", 1, leak=number(1e-12)))
    found = [simulate(map_program(small_network(), each), IMAGES, fidelity="analog", seed=2, record=["conv"]) for each in (imperfect, walked)]
    assert np.mean(found[0].spike_counts["conv"] != found[1].spike_counts["conv"]) < 1e-3
    assert "one product per window" in found[0].notes[0] and "walked through every timestep" in found[1].notes[0]


def test_groups_on_one_crossbar_are_read_together():
    """Depthwise channels share a crossbar; wires couple their columns, so that the neighbour's rows are felt."""
    program = one_conv(4, 4, 2, 4, groups=4)
    mapping = map_program(program, chip(wires=100.0))
    (layer,) = written(mapping, seed=0).values()
    assert layer.deviation.shape == (1, 16, 4)
    own = np.kron(np.eye(4), np.ones((4, 1)))[None].astype(bool)
    assert layer.deviation[own].any() and layer.deviation[~own].any()
    assert np.array_equal(layer.errors, np.stack([layer.deviation[0, 4 * group : 4 * group + 4, group : group + 1] for group in range(4)]))
    images = np.random.default_rng(0).integers(0, 16, (5, 4, 4, 4))
    assert np.array_equal(outputs(map_program(program, chip()), images), simulate(mapping, images).outputs)


def test_crossbars_that_share_nothing_are_blocks_of_their_own():
    """Seven depthwise channels, three to a crossbar: three blocks, the last with room for two more."""
    program = one_conv(7, 7, 2, 3, groups=7)
    (layer,) = written(map_program(program, chip(12, 12, programming=law("constant", std=0.05))), seed=0).values()
    assert layer.deviation.shape == (3, 12, 3) and layer.errors.shape == (7, 4, 1)
    assert not layer.deviation[2, 4:].any() and not layer.deviation[2, :, 1:].any()


def test_bit_slices_weigh_as_much_as_their_place():
    """8-bit weights in two slices of 4 bits: an error of the upper slice counts 16 times as much."""
    i8 = IntType(8, signed=True)
    program = Program("one", "x", TensorType((30,), IntType(4)), (Dense("s.sum", ("x",), np.full((4, 30), 100), i8), charge("s", 4)), "s")
    mapping = map_program(program, chip(programming=law("constant", std=0.02)))
    (layer,) = written(mapping, seed=0).values()
    g_error = (layer.g - layer.targets)[0, :30] / (39e-6 / 15)
    pairs = g_error[:, :16].reshape(30, 4, 2, 2)
    by_hand = (pairs[..., 0] - pairs[..., 1]) @ [1, 16]
    assert layer.deviation[0] == pytest.approx(by_hand)
    assert np.array_equal(from_levels(layer.levels[0, :30, :16].astype(np.uint8), 2, 4), np.full((30, 4), 100))


def test_the_faults_of_a_chip_are_its_seeds_or_the_mappings():
    mapping = map_program(small_network(), chip(stuck=stuck(0.1, 0.1)))
    drawn = faults_of(mapping, 3)
    assert np.array_equal(drawn.cells, faults_of(mapping, 3).cells) and not np.array_equal(drawn.cells, faults_of(mapping, 4).cells)
    known = replace(mapping, faults=drawn)
    assert np.array_equal(outputs(known, seed=3), outputs(mapping, seed=3))
    assert simulate(known, IMAGES, fidelity="analog", seed=9).provenance.faults == drawn.digest()


def test_what_is_not_simulated_is_refused():
    mapping = map_program(small_network(), chip(read_noise=number(0.01)))
    with pytest.raises(SimulationError, match="the neuron 'dual' subtracts two counts(.|\n)*use neuron up_down"):
        outputs(mapping, neuron="dual")
    with pytest.raises(SimulationError, match="op conv.sum: is held in 4 copies(.|\n)*map it without copies"):
        outputs(map_program(small_network(), chip(), copies={"conv.sum": 4}))
    with pytest.raises(SimulationError, match="a seed of -1; expected a whole number, zero or more"):
        outputs(mapping, seed=-1)


def test_weights_of_a_perfect_device_are_exact_whatever_its_range():
    for g_min, g_max in ((1e-6, 1e-4), (3.3e-7, 7.7e-5)):
        perfect = test_chip(16, 16, bits_per_cell=4).with_device(device(g_min=number(g_min, "S"), g_max=number(g_max, "S")))
        layers = written(map_program(one_dense(40, 9, weight=None), perfect.without("wires")), seed=0)
        assert all(layer.is_exact for layer in layers.values())
    assert I4.bits == 4


@pytest.mark.parametrize("zero", ["threshold_mismatch", "offset", "leak", "reset_error"])
def test_an_imperfection_of_zero_is_none(zero):
    """A sweep that begins at nothing begins at the program, whatever float32 makes of thresholds."""
    plain = chip()
    nothing = replace(plain, neuron=replace(plain.neuron, **{zero: number(0.0)}))
    assert nothing.imperfections() == plain.imperfections() == ()
    mapping, names = map_program(small_network(), nothing), ["conv", "average"]
    meant, found = (simulate(mapping, IMAGES, fidelity=fidelity, record=names) for fidelity in ("spike", "analog"))
    assert all(np.array_equal(meant.spike_counts[name], found.spike_counts[name]) for name in names) and np.array_equal(meant.outputs, found.outputs)
    assert found.notes == simulate(map_program(small_network(), plain), IMAGES, fidelity="analog").notes


def test_a_mapping_around_faults_is_the_program_where_no_cell_is_stuck():
    """Cells that made up for stuck neighbours are written to their own levels again; such a mapping without faults is refused."""
    around = chip(stuck=stuck(0.2, 0.1))
    plain = map_program(small_network(), around)
    mapping = map_program(small_network(), around, faults=faults_of(plain, 0), avoid=("rows", "compensate"))
    assert any(tile.targets is not None for tile in mapping.tiles)
    freed = replace(mapping.without_faults(), chip=around.without("stuck"))
    assert np.array_equal(outputs(freed), simulate(plain, IMAGES).outputs)
    assert any((one.places[0] != other.places[0]).any() for one, other in zip(freed.tiles, plain.tiles, strict=True)), "rows stay where they were put"
    with pytest.raises(MappingError, match="make up for faults, and no faults are named"):
        replace(mapping, faults=None)
