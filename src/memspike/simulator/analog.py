"""Fidelity "analog": the program on cells, wires and neurons as they are, at the speed of matrix products.

A crossbar whose idle rows are grounded is linear, so a window's charge is one product of the input counts with the crossbar's real matrix (wires solved
once, see `written`). Read noise is independent from cell to cell and timestep to timestep, so a window's noise is one normal variate per neuron,
whose variance is one more product of the counts. A neuron that fires up and down until it is drained counts the floor of its charge, whatever the order
of spikes; only circuits that forget or stumble (see `physics.neuron.is_static`) walk through the timesteps. An output channel has one neuron per group of
stacked tiles, which serves all positions of a convolution, one after the other.

A layer without any imperfection is run in exact integers, and so is a channel that has none, whatever its neighbours have: a perfect chip gives the
program's counts. All other potentials are rounded to float32 once, relative 1e-7, before they are compared with a threshold. Scores that are charge are
rounded to the program's integer units.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.chip import NeuronCircuit, NeuronKind
from memspike.errors import SimulationError
from memspike.mapping import Mapping
from memspike.ops import Charge, Conv2d, Dense, Fire, Op
from memspike.physics.device import cautions
from memspike.physics.neuron import draw_neurons, integrate_and_fire, is_static
from memspike.result import Encoder
from memspike.simulator.encode import Window, check_encoder, check_window, line_keys
from memspike.simulator.kernels import carrier_of, magnitude_of, stored
from memspike.simulator.neuron import Fired
from memspike.simulator.real import Normals, Product, ReadNoise
from memspike.simulator.spike import Spike, reader_of
from memspike.simulator.walk import NOTHING, Ran, Summed, Totals, step, walk
from memspike.simulator.written import Layer, faults_of, write_layer

Floats = NDArray[np.float64]

_NEURONS, _NOISE = 3, 4  # what is drawn for an op, the last part of its seed; 0 to 2 are drawn for crossbars


class Analog:
    """Chip number `seed` of a mapped program, made ready to run; only the ops `layers` are imperfect, if they are given.

    Raises SimulationError when a sum is read by more than one neuron, for copies, for unknown layers, and for the neuron `dual` on a chip that is not
    perfect.
    """

    def __init__(self, mapping: Mapping, encoder: Encoder, neuron: NeuronKind, seed: int, time: float, layers: Sequence[str] | None = None) -> None:
        check_encoder(encoder)
        self.program, self._seed = mapping.program, seed
        self._encoder: Encoder = encoder
        self._numbers = {op.out: number for number, op in enumerate(self.program.ops)}
        self._real: dict[str, _Real] = {}
        self._notes = list(cautions(mapping.chip.crossbar.device, time))
        imperfect, faults = _named(mapping, layers), faults_of(mapping, seed)
        circuit = replace(mapping.chip.neuron.acting, kind=neuron)
        perfect = NeuronCircuit(neuron, circuit.max_spikes_per_timestep)
        is_perfect = True
        for plan in mapping.layers:
            layer = write_layer(mapping, plan, faults, seed, time) if plan.op in imperfect else None
            flawless = layer is None or (layer.is_exact and circuit == perfect)
            is_perfect = is_perfect and flawless
            note = f"{plan.op}: weights off by {float(np.sqrt(np.mean(layer.errors**2))):.3g} levels rms" if layer else f"{plan.op}: perfect"
            if not flawless or neuron not in ("up_down", "two_phase"):
                rng = np.random.default_rng([seed, self._numbers[plan.op], _NEURONS])
                self._real[plan.op] = _Real(mapping, plan.op, layer, circuit if layer else perfect, rng)
                note += ", one product per window" if self._real[plan.op].is_static else ", walked through every timestep"
            self._notes.append(note)
        real = {name for plan in self._real.values() for name in (plan.op.out, plan.reader.out)}
        self._steps: dict[str, Callable[..., Tensor]] = {op.out: step(self.program, op) for op in self.program.ops if op.out not in real}
        self._perfect = Spike(mapping, encoder, neuron, seed) if is_perfect and neuron in ("dual", "fire_only") else None
        if neuron == "dual" and not is_perfect:
            what = "the neuron 'dual' subtracts two counts, each of which holds the cells' conductance at level 0; that circuit is not simulated"
            raise SimulationError(what, where="fidelity 'analog'", cure="use neuron up_down, two_phase or fire_only")

    def run(self, images: Tensor, keep: Set[str], first: int = 0, rasters: Set[str] = frozenset(), summed: Summed = NOTHING) -> Ran:
        """The values named in `keep`, each `[n, ...]`, of images `[n, ...]` that are number `first` and following; and, where all neurons walked through
        timesteps, what they did. Sums are real numbers here, rounded to whole level steps where they are kept."""
        if self._perfect:
            return self._perfect.run(images, keep, first, rasters, summed)
        fired: dict[str, Fired] = {}
        seen = Totals(self.program, summed)

        def compute(op: Op, inputs: list[Tensor]) -> dict[str, Tensor]:
            if op.out not in self._real:
                return {op.out: self._steps[op.out](*inputs)}
            real, counts = self._real[op.out], inputs[0]
            normals = Normals((self._seed, self._numbers[op.out], _NOISE), first)
            if real.is_static:
                sums = real.sums(counts, normals)
                read = real.read(sums)
            else:
                keys = line_keys(self._seed, first, len(counts), 1 + self._numbers.get(op.inputs[0], -1))
                done = real.walk(Window(counts, real.num_timesteps, self._encoder, keys), normals)
                sums, read = done.sums, done.counts
                fired[op.out] = replace(done, sums=None, counts=None)
            return {op.out: sums.round() if op.out in keep else sums, real.reader.out: read}

        values = walk(self.program, images, compute, keep, seen)
        return Ran(values, seen.each, seen.whole, fired if fired and len(fired) == sum(isinstance(real.reader, Fire) for real in self._real.values()) else None)

    def notes(self) -> tuple[str, ...]:
        """Where the cells are taken beyond what was measured; which layers are imperfect, and how far their weights lie from what was intended."""
        return self._perfect.notes() if self._perfect else tuple(self._notes)


class _Real:
    """One op on its crossbars, perfect without a `layer`, and the neurons (or the charge) that read it."""

    def __init__(self, mapping: Mapping, name: str, layer: Layer | None, circuit: NeuronCircuit, rng: np.random.Generator) -> None:
        program, plan = mapping.program, mapping.plan(name)
        self.op, self.reader, self.circuit = _weighted(mapping, name), reader_of(program, name), circuit
        x = program.types[self.op.inputs[0]].type
        self.num_timesteps, self._shape = x.num_timesteps, program.types[name].shape
        self.is_static = isinstance(self.reader, Charge) or is_static(circuit)
        if not self.is_static:
            check_window(self.num_timesteps, f"op {name}")
        magnitude = magnitude_of(x) if self.is_static else 1
        weight = self.op.weight.reshape(plan.num_groups, plan.num_channels, -1).transpose(0, 2, 1)
        matrix = _blocks(weight, layer.groups_per_block) + layer.deviation if layer else weight.astype(np.float64)
        self._product = Product(self.op, matrix, magnitude, len(self.op.weight))
        self._noise = ReadNoise(self.op, layer.variance, magnitude) if layer and layer.variance.any() else None
        self._place_neurons(rng)
        is_flawless = np.ones(len(self.op.weight), np.bool_)
        if layer:
            is_flawless = ~(layer.deviation.any(axis=1) | layer.variance.any(axis=1)).ravel()[: len(is_flawless)]
        is_flawless &= circuit.threshold_mismatch is None and circuit.offset is None
        self._flawless = torch.from_numpy(is_flawless).reshape(self._gain.shape)
        self._exact = step(program, self.reader) if is_flawless.any() else None

    def sums(self, counts: Tensor, normals: Normals) -> Tensor:
        """The charge of a window in level steps `[n, ...]`, read noise included."""
        sums = self._product(counts)
        return sums if self._noise is None else sums.add_(self._noise.of(counts, sums, normals))

    def read(self, sums: Tensor) -> Tensor:
        """What is made of it: the neurons' counts, or the charge of scores in whole units."""
        if isinstance(self.reader, Charge):
            return (sums.to(torch.float64) * self._scale + self._start).round_().to(torch.int64)
        low, high = self.reader.type.min, self.reader.type.max
        # two passes with one broadcast operand each run vectorised; one fused pass would not
        counts = torch.mul(sums, self._gain).add_(self._offset).floor_().clamp_(low, high).to(stored(self.reader.type))
        return counts if self._exact is None else torch.where(self._flawless, self._exact(sums), counts)

    def walk(self, window: Window, normals: Normals) -> Fired:
        """Every timestep of every neuron."""
        assert isinstance(self.reader, Fire)
        total = torch.zeros((len(window.counts), *self._shape), dtype=torch.float64)

        def currents() -> Iterator[Floats]:
            for spikes in window.spikes():
                sums = self.sums(spikes, normals).to(torch.float64)
                total.add_(sums)
                yield (sums * self._scale).numpy()

        start = self._start.expand(total.shape).numpy()
        low, high = self.reader.type.min, self.reader.type.max
        done = integrate_and_fire(self.circuit, start, currents(), self._threshold.numpy(), low, high, lambda: normals.like(total).numpy())
        return Fired(total, torch.from_numpy(done.counts).to(carrier_of(self.reader.type)), done.num_fires, done.num_extra_timesteps)

    def _place_neurons(self, rng: np.random.Generator) -> None:
        """Potentials `sum * scale + start` and thresholds as they are, in float64; and `sum * gain + offset` in thresholds, as fast as sums come."""
        reader = self.reader
        self._scale, charge = float(1 << reader.fraction_bits), reader.charge.astype(np.float64)
        threshold, start = np.ones(len(charge)), charge
        if isinstance(reader, Fire):
            multiple, offset = draw_neurons(self.circuit, len(charge), rng)
            threshold, start = reader.threshold * multiple, charge + offset * reader.threshold
        along = 1, -1, *[1] * (len(self._shape) - 1)
        self._threshold, self._start = torch.from_numpy(threshold).reshape(along), torch.from_numpy(start).reshape(along)
        self._gain, self._offset = ((part / self._threshold).to(self._product.dtype) for part in (torch.tensor(self._scale), self._start))


def _named(mapping: Mapping, layers: Sequence[str] | None) -> frozenset[str]:
    known = [plan.op for plan in mapping.layers]
    for name in layers or ():
        if name not in known:
            raise SimulationError(f"no layer is called {name!r}", cure=f"layers are: {', '.join(known)}")
    return frozenset(known if layers is None else layers)


def _weighted(mapping: Mapping, name: str) -> Conv2d | Dense:
    op = mapping.program.op(name)
    assert isinstance(op, Conv2d | Dense)  # as every op with a plan
    return op


def _blocks(weight: NDArray[np.integer], together: int) -> Floats:
    """Matrices `[groups, rows, channels]` in blocks of so many groups, each block-diagonal: `[blocks, together * rows, together * channels]`."""
    groups, rows, channels = weight.shape
    blocks = -(-groups // together)
    whole = np.zeros((blocks, together, rows, together, channels))
    group = np.arange(groups)
    whole[group // together, group % together, :, group % together] = weight
    return whole.reshape(blocks, together * rows, together * channels)
