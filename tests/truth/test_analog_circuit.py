"""Fidelity "analog" agrees with its chip played through circuit by circuit: every timestep, position, crossbar and neuron, one after the other."""

import math
from dataclasses import replace

import numpy as np
import pytest

from devices import chip, law, number, stuck
from memspike.chip import NeuronCircuit
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.mapping import Mapping
from memspike.ops import Conv2d, Dense, Fire, Flatten, TensorType
from memspike.physics import effective_conductance
from memspike.physics.neuron import draw_neurons
from memspike.program import Program
from memspike.simulator import simulate, written
from memspike.simulator.encode import encode

SEED, TIME = 6, 3600.0
I8 = IntType(8, signed=True)
RNG = np.random.default_rng(8)


def program(op: Conv2d | Dense, *shape: int) -> Program:
    """One layer of neurons whose thresholds lie where counts vary."""
    channels = len(op.weight)
    fire = Fire("y", ("y.sum",), RNG.integers(4000, 9000, channels), RNG.integers(-3000, 3000, channels), 3, IntType(5, signed=True))
    return Program("one", "x", TensorType(shape, IntType(4)), (op, fire, Flatten("scores", ("y",))), "scores")


CONV = program(Conv2d("y.sum", ("x",), RNG.integers(-127, 128, (10, 2, 2, 2)), I8, stride=(2, 1), padding=(1, 0), groups=5), 10, 3, 4)
DENSE = program(Dense("y.sum", ("x",), RNG.integers(-127, 128, (9, 50)), I8), 50)


def play(mapping: Mapping, image: np.ndarray) -> np.ndarray:
    """Net counts `[channels, ...]` of the first layer of one image. A timestep's row voltages are the spikes under the kernel; column currents are summed with
    the slices' places over the stacked crossbars; each neuron is a potential that is compared and reset one spike at a time."""
    op, fire, _ = mapping.program.ops
    assert isinstance(op, Conv2d | Dense) and isinstance(fire, Fire)
    (layer,) = written(mapping, SEED, TIME).values()
    crossbar, circuit, plan = mapping.chip.crossbar, mapping.chip.neuron, mapping.layers[0]
    wires, device = crossbar.wire_resistance.value, crossbar.device
    volt_to_level = plan.max_level / (device.g_max.value - device.g_min.value)
    conducts = [effective_conductance(g, wires, wires) for g in layer.g]
    thresholds, offsets = draw_neurons(circuit, len(op.weight), np.random.default_rng([SEED, 0, 3]))
    leak, rail = (quantity.value if quantity else none for quantity, none in ((circuit.leak, 0.0), (circuit.saturation, math.inf)))
    trains = encode(image[None], 16)[:, 0]
    counts = np.zeros(mapping.program.types["y"].shape)
    for place in np.ndindex(counts.shape[1:]):
        v = fire.charge + offsets * fire.threshold
        threshold = fire.threshold * thresholds
        for t in range(16):
            sums = np.zeros(len(op.weight))
            for crossbar_number, a in enumerate(conducts, start=layer.first):
                tiles = [tile for tile in mapping.tiles if tile.crossbar == crossbar_number]
                voltages = np.zeros(crossbar.rows)
                for tile in tiles:
                    voltages[tile.places[0]] = under_kernel(op, trains[t], place)[tile.group][slice(*tile.rows)]
                currents = voltages @ a
                for tile in tiles:
                    pairs = currents[tile.places[1]].reshape(-1, plan.slices, 2)
                    worth = (pairs[..., 0] - pairs[..., 1]) @ (1 << mapping.chip.bits_per_cell * np.arange(plan.slices))
                    start = tile.group * plan.num_channels
                    sums[start + tile.channels[0] : start + tile.channels[1]] += worth * volt_to_level
            v = np.clip(v * (1 - leak) + sums * 2**fire.fraction_bits, -rail * threshold, rail * threshold)
            for channel, _ in enumerate(v):
                fired = one_timestep(v, threshold, channel, circuit.max_spikes_per_timestep)
                counts[(channel, *place)] += fired
        for channel, _ in enumerate(v):  # drained without new charge
            while not 0 <= v[channel] < threshold[channel]:
                v[channel] *= 1 - leak
                counts[(channel, *place)] += one_timestep(v, threshold, channel, circuit.max_spikes_per_timestep)
    return fire.type.clip(counts)


def one_timestep(v: np.ndarray, threshold: np.ndarray, channel: int, most: int) -> int:
    fired = 0
    while v[channel] >= threshold[channel] and fired < most:
        v[channel], fired = v[channel] - threshold[channel], fired + 1
    while v[channel] < 0 and fired > -most:
        v[channel], fired = v[channel] + threshold[channel], fired - 1
    return fired


def under_kernel(op: Conv2d | Dense, spikes: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    """Spikes `[groups, rows]` that a position's window sees, rows by channel, then kernel row, then kernel column."""
    if isinstance(op, Dense):
        return spikes.reshape(op.groups, -1)
    (ph, pw), (sh, sw) = op.padding, op.stride
    padded = np.pad(spikes, ((0, 0), (ph, ph), (pw, pw)))
    top, left = place[0] * sh, place[1] * sw
    return padded[:, top : top + op.weight.shape[2], left : left + op.weight.shape[3]].reshape(op.groups, -1)


@pytest.mark.parametrize("circuit", [{}, {"threshold_mismatch": number(0.1), "offset": number(0.2)}, {"leak": number(0.03), "saturation": number(3.0)}])
@pytest.mark.parametrize("meant", [CONV, DENSE], ids=["conv", "dense"])
def test_every_neuron_of_every_position_counts_the_same(meant, circuit):
    """Two bit slices, groups that share a crossbar, or stacked crossbars; written, aged, stuck, wired and real neurons. A tie is missed at most."""
    imperfect = chip(20, 24, wires=30.0, programming=law("wan2022"), drift=law("power_law", nu=0.02, t0=1.0), stuck=stuck(0.03, 0.03))
    mapping = map_program(meant, replace(imperfect, neuron=NeuronCircuit("up_down", 2, **circuit)))
    assert mapping.layers[0].slices == 2 and mapping.num_crossbars > 1
    images = RNG.integers(0, 16, (3, *meant.input_type.shape))
    found = simulate(mapping, images, fidelity="analog", seed=SEED, time=TIME).outputs
    played = np.stack([play(mapping, image).ravel() for image in images])
    assert np.mean(found != played) < 0.005 and np.abs(found - played).max() <= 1
    assert np.mean(found != meant.evaluate(images)) > 0.2, "or nothing was tested"
