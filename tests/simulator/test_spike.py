"""Fidelity spike: the scan over timesteps against the circuits written out, one neuron and one spike at a time."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chips import test_chip
from memspike.errors import MappingError, SimulationError
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.mapping import Mapping
from memspike.ops import Add, Dense, Fire, TensorType
from memspike.program import Program
from memspike.simulator import can_keep_raster, check, scan, simulate
from memspike.simulator.encode import encode
from memspike.simulator.layer import Layer
from small_programs import charge, fire, one_dense, small_network, weights

I4 = IntType(4, signed=True)


class Circuit:
    """The neuron as `docs` and the design describe it: a potential, two comparators, a counter; slow and obvious."""

    def __init__(self, fire: Fire, channel: int, max_spikes: int, *, can_fire_down: bool, charge: int | None = None) -> None:
        self.threshold, self.shift, self.type = int(fire.threshold[channel]), fire.fraction_bits, fire.type
        self.v = int(fire.charge[channel]) if charge is None else charge
        self.count, self.fires = 0, 0
        self.max_spikes, self.can_fire_down = max_spikes, can_fire_down

    def step(self, current: int, *, is_silent: bool = False) -> int:
        self.v += current << self.shift
        spikes = 0
        while not is_silent and abs(spikes) < self.max_spikes:
            if self.v >= self.threshold:
                self.v, spikes = self.v - self.threshold, spikes + 1
            elif self.v < 0 and self.can_fire_down:
                self.v, spikes = self.v + self.threshold, spikes - 1
            else:
                break
        self.count, self.fires = self.count + spikes, self.fires + abs(spikes)
        return spikes

    def is_settled(self) -> bool:
        high, low = self.count >= self.type.max and self.v >= 0, self.count <= self.type.min and self.v < self.threshold
        return high or low or 0 <= self.v < self.threshold

    def drain(self) -> list[int]:
        """One timestep at a time, one spike at a time, so that a counter stops the moment it is settled."""
        spikes = []
        while not self.is_settled():
            spikes.append(0)
            limit, self.max_spikes = self.max_spikes, 1
            for _ in range(limit):
                if not self.is_settled():
                    spikes[-1] += self.step(0)
            self.max_spikes = limit
        return spikes


def run_circuits(program: Program, image: np.ndarray, encoder: str, kind: str, max_spikes: int) -> tuple[list[int], int, list[list[int]]]:
    """Counts, spikes in all and each neuron's spike train, of a program that is one dense layer with its Fire."""
    dense, fire = program.ops
    assert isinstance(dense, Dense) and isinstance(fire, Fire)
    spikes = encode(image[None], program.input_type.type.num_timesteps, encoder)[:, 0].astype(np.int64)
    counts, num_fires, trains = [], 0, []
    for channel, row in enumerate(dense.weight):
        products = spikes * row
        if kind == "dual":
            sides, train = [], np.zeros(100_000, np.int64)
            for sign in (1, -1):
                side = Circuit(fire, channel, max_spikes, can_fire_down=False, charge=max(0, sign * int(fire.charge[channel])))
                side.type = IntType(60)  # a side's counter never saturates
                fired = [side.step(int((sign * product).clip(min=0).sum())) for product in products] + side.drain()
                train[: len(fired)] += sign * np.array(fired)
                sides.append((side, len(fired)))
            length = max(len for _, len in sides)
            counts.append(int(fire.type.clip(sides[0][0].count - sides[1][0].count)))
            num_fires += sum(side.fires for side, _ in sides)
            trains.append(train[:length].tolist())
            continue
        neuron = Circuit(fire, channel, max_spikes, can_fire_down=kind != "fire_only")
        train = [neuron.step(int(product.sum()), is_silent=kind == "two_phase") for product in products]
        if kind != "fire_only":
            train += neuron.drain()
        counts.append(int(fire.type.clip(neuron.count)))
        num_fires += neuron.fires
        trains.append(train)
    return counts, num_fires, trains


def one_layer(seed: int, *, thresholds: tuple[int, int] = (1, 60), charges: int = 80, type: IntType | None = None) -> Program:
    """A dense layer of 3 neurons on 5 inputs, thresholds and charges drawn."""
    rng = np.random.default_rng(seed)
    type = type or IntType(int(rng.integers(2, 6)), signed=bool(rng.integers(2)))
    fraction_bits = int(rng.integers(0, 4))
    threshold = rng.integers(thresholds[0], thresholds[1] + 1, 3) << (fraction_bits if rng.random() < 0.5 else 0)
    ops = (
        Dense("y.sum", ("x",), rng.integers(-7, 8, (3, 5)), I4),
        Fire("y", ("y.sum",), threshold, rng.integers(-charges, charges + 1, 3), fraction_bits, type),
    )
    return Program("one", "x", TensorType((5,), IntType(4)), ops, "y")


@pytest.mark.parametrize("kind", ["up_down", "two_phase", "dual", "fire_only"])
@given(seed=st.integers(0, 2**32 - 1), encoder=st.sampled_from(["even", "burst"]), max_spikes=st.integers(1, 4))
def test_neurons_do_what_their_circuits_do(kind, seed, encoder, max_spikes):
    """Counts, every spike of every timestep, the number of spikes and the length of the window."""
    program = one_layer(seed)
    image = np.random.default_rng(seed + 1).integers(0, 16, 5)
    counts, num_fires, trains = run_circuits(program, image, encoder, kind, max_spikes)
    mapping = map_program(program, test_chip(neuron=kind, max_spikes=max_spikes))
    result = simulate(mapping, image[None], fidelity="spike", encoder=encoder, raster=["y", "x"])
    length = max(len(train) for train in trains)
    assert result.outputs[0].tolist() == counts
    assert result.activity.num_timesteps["y.sum"] == length
    assert result.activity.counts["y.sum", "neuron", "fire"] == num_fires
    assert result.rasters["y"].T.tolist() == [train + [0] * (length - len(train)) for train in trains]
    assert np.array_equal(result.rasters["x"], encode(image[None], 16, encoder)[:, 0])


def test_fire_only_cannot_take_a_spike_back():
    """Spikes +1, +1, then 1 - 2: the sum is 1, but by then the neuron has fired twice."""
    program = _one_neuron([1, -2], threshold=1)
    images = np.array([[3, 1]])
    spikes = encode(images, 4, "even")[:, 0].tolist()
    assert spikes == [[0, 0], [1, 0], [1, 0], [1, 1]]
    assert [_scores(program, images, kind) for kind in ("up_down", "two_phase", "dual", "fire_only")] == [[1], [1], [1], [2]]


def test_dual_rounds_each_side_down():
    """floor((2 - 1) / 2) is 0, but floor(2 / 2) - floor(1 / 2) is 1."""
    program = _one_neuron([1, -1], threshold=2)
    assert [_scores(program, np.array([[2, 1]]), kind) for kind in ("up_down", "two_phase", "dual")] == [[0], [0], [1]]


def test_drain_ends_with_the_slowest_neuron_and_the_rate_limit_shortens_it():
    """7 spikes through weight 7 are worth 49; 8 timesteps fire 8 of them up, and what is left up to the type's maximum of 31 drains."""
    program = _one_neuron([7, 0], threshold=1, type=IntType(5), input_type=IntType(3))
    lengths = {}
    for max_spikes in (1, 2, 10):
        mapping = map_program(program, test_chip(max_spikes=max_spikes))
        result = simulate(mapping, np.array([[7, 0], [1, 0]]), fidelity="spike", encoder="burst")
        assert result.outputs.tolist() == [[31], [7]]
        lengths[max_spikes] = result.activity.num_timesteps["y.sum"]
    assert lengths == {1: 31, 2: 16, 10: 8}


def test_a_neuron_that_can_never_be_emptied_stops_when_its_count_is_safe():
    program = _one_neuron([7, 7], threshold=1, fraction_bits=30, type=IntType(2))
    assert _scores(program, np.array([[3, 3]]), "up_down") == [3]
    assert simulate(map_program(program, test_chip()), np.array([[3, 3]]), fidelity="spike").activity.num_timesteps["y.sum"] == 4


def test_weights_come_from_the_cells():
    """A cell at another level, or a lost tile, is seen."""
    mapping = map_program(one_dense(10, 3), test_chip(rows=4))
    images = np.random.default_rng(0).integers(1, 16, (3, 10))
    first = mapping.tiles[0]
    levels = first.levels.copy()
    levels[0, 0] = (levels[0, 0] + 1) % 4
    wrong = replace(mapping, tiles=(replace(first, levels=levels), *mapping.tiles[1:]))
    assert check(mapping, images)["spike_equals_program"]
    assert check(wrong, images[:0]) == {"spike_equals_program": None, "images_checked": 0, "differing_counts": {"scores.sum": 0, "scores": 0}}
    assert check(wrong, images) == {"spike_equals_program": False, "images_checked": 3, "differing_counts": {"scores.sum": 3, "scores": 3}}
    with pytest.raises(MappingError, match="op scores.sum: the weight of group 0, row 0, channel 0 lies on 0 tiles; expected 1"):
        simulate(replace(mapping, tiles=mapping.tiles[1:]), images, fidelity="spike")
    with pytest.raises(MappingError, match="lies on 2 tiles; expected 1"):
        simulate(replace(mapping, tiles=(first, *mapping.tiles)), images, fidelity="spike")


def test_check_counts_every_difference_of_a_neuron_that_is_not_exact():
    program = _one_neuron([1, -2], threshold=1)
    mapping = map_program(program, test_chip())
    seen = []
    found = check(mapping, np.array([[3, 1]] * 5), neuron="fire_only", batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert found == {"spike_equals_program": False, "images_checked": 5, "differing_counts": {"y.sum": 0, "y": 5}}
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_the_chip_names_the_neuron_and_the_call_may_name_another():
    mapping = map_program(small_network(), test_chip(neuron="two_phase"))
    images = np.random.default_rng(0).integers(0, 16, (2, 2, 8, 8))
    result = simulate(mapping, images, fidelity="spike", encoder="burst", seed=5)
    assert (result.provenance.neuron, result.provenance.encoder, result.provenance.seed) == ("two_phase", "burst", 5)
    assert result.notes == ("conv.sum: neuron two_phase, exact, fired in the kernel of its int8 products",)
    other = simulate(mapping, images, fidelity="spike", neuron="dual")
    assert other.provenance.neuron == "dual" and "not exact" in other.notes[0]


def test_eight_bits_walk_through_256_timesteps():
    program = _one_neuron([1, -1], threshold=3, type=IntType(8, signed=True), input_type=IntType(8))
    mapping = map_program(program, test_chip())
    images = np.random.default_rng(0).integers(0, 256, (20, 2))
    result = simulate(mapping, images, fidelity="spike", raster=["y.sum"])
    assert np.array_equal(result.outputs, program.evaluate(images))
    assert result.rasters["y.sum"].shape[0] >= 256 and result.rasters["y.sum"].sum() == result.outputs[0, 0]


def test_two_phases_drain_down_to_the_most_negative_count():
    """-128 has no opposite in a byte."""
    program = _one_neuron([-7], threshold=1, fraction_bits=1, type=IntType(8, signed=True), input_type=IntType(4))
    result = simulate(map_program(program, test_chip()), np.array([[15]]), fidelity="spike", neuron="two_phase", raster=["y.sum"])
    assert result.outputs.tolist() == [[-128]] and result.rasters["y.sum"].tolist() == [[0]] * 16 + [[-1]] * 128


def test_thresholds_far_beyond_float32_stay_exact():
    rng = np.random.default_rng(0)
    for seed in range(20):
        fraction_bits = int(rng.integers(20, 41))
        threshold, charge = rng.integers(1 << 39, 1 << 41, 3), rng.integers(-(1 << 42), 1 << 42, 3)
        dense = Dense("y.sum", ("x",), rng.integers(-7, 8, (3, 40)), I4)
        program = Program(
            "fine", "x", TensorType((40,), IntType(4)), (dense, Fire("y", ("y.sum",), threshold, charge, fraction_bits, IntType(6, signed=True))), "y"
        )
        images = np.random.default_rng(seed).integers(0, 16, (10, 40))
        assert check(map_program(program, test_chip(16, 16)), images)["spike_equals_program"]


def test_a_window_counts_the_most_negative_count():
    """131 584 weights of 1 times 127 stay below 2**24, times -128 they do not: the charge needs float64."""
    op = Dense("y.sum", ("x",), np.ones((1, 131_584), np.int64), I4)
    assert [Layer(op, TensorType((131_584,), IntType(bits, signed=True)), (1,)).dtype for bits in (7, 8)] == [torch.float32, torch.float64]
    assert Layer(op, TensorType((131_584,), IntType(7)), (1,)).dtype == torch.float32


def test_what_spikes_cannot_run_is_refused():
    mapping = map_program(small_network(), test_chip())
    images = np.zeros((1, 2, 8, 8), np.int64)
    with pytest.raises(SimulationError, match="unknown neuron 'lif'\n  known are: up_down, two_phase, dual, fire_only"):
        simulate(mapping, images, fidelity="spike", neuron="lif")
    with pytest.raises(SimulationError, match="unknown encoder 'poisson'"):
        simulate(mapping, images, fidelity="spike", encoder="poisson")
    with pytest.raises(SimulationError, match="'scores' names no layer that fires\n  layers are: x, conv.sum, conv$"):
        simulate(mapping, images, fidelity="spike", raster=["scores"])
    with pytest.raises(SimulationError, match="a raster holds up to 127 spikes per timestep"):
        simulate(map_program(small_network(), test_chip(max_spikes=128)), images, fidelity="spike", raster=["conv"])
    wide = Program("wide", "x", TensorType((2,), IntType(20)), (Dense("y.sum", ("x",), weights(0, 1, 2), I4), charge("y", 1)), "y")
    with pytest.raises(SimulationError, match="op y.sum: needs a window of 1048576 timesteps; at most 65536 are simulated"):
        simulate(map_program(wide, test_chip()), np.zeros((1, 2), np.int64), fidelity="spike")


def test_a_charge_that_two_would_read_is_refused():
    ops = (Dense("y.sum", ("x",), weights(0, 4, 6), I4), fire("y", 4), Add("both", ("y", "y.sum"), IntType(6, signed=True)))
    program = Program("twice", "x", TensorType((6,), IntType(4)), ops, "both")
    by_hand = Mapping(program, test_chip(), layers=(), tiles=())
    with pytest.raises(SimulationError, match="op y.sum: its sum is read by y, both; in spikes one fire or charge reads it, alone\n  repeat the op"):
        simulate(by_hand, np.zeros((1, 6), np.int64), fidelity="spike")


def _one_neuron(weight: list[int], *, threshold: int, fraction_bits: int = 0, type: IntType = I4, input_type: IntType | None = None) -> Program:
    dense = Dense("y.sum", ("x",), np.array([weight]), I4)
    neuron = Fire("y", ("y.sum",), np.array([threshold]), np.array([0]), fraction_bits, type)
    return Program("one", "x", TensorType((len(weight),), input_type or IntType(2)), (dense, neuron), "y")


def _scores(program: Program, images: np.ndarray, kind: str) -> list[int]:
    return simulate(map_program(program, test_chip(max_spikes=3)), images, fidelity="spike", neuron=kind).outputs[0].tolist()


@pytest.mark.parametrize("encoder", ["even", "burst", "random"])
@pytest.mark.parametrize("neuron", ["up_down", "two_phase", "dual"])
@pytest.mark.parametrize("max_spikes", [1, 2])
def test_no_raster_is_longer_than_the_room_it_was_promised(encoder: Any, neuron: Any, max_spikes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = map_program(small_network(), test_chip(64, 64, bits_per_cell=3, neuron=neuron, max_spikes=max_spikes))
    images = np.random.default_rng(0).integers(0, 16, (40, 2, 8, 8))
    found = [simulate(mapping, images[i : i + 1], fidelity="spike", encoder=encoder, raster=["conv.sum"]).rasters["conv.sum"] for i in range(40)]
    longest = max(map(len, found))
    assert can_keep_raster(mapping, "conv.sum") and longest > 15, "neurons drain"
    monkeypatch.setattr(scan, "MAX_RASTER", longest * found[0][0].size - 1)
    assert not can_keep_raster(mapping, "conv.sum")
    assert not can_keep_raster(mapping, "scores.sum"), "scores have no neurons"
