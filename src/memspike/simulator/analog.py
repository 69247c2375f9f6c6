"""Fidelity "analog": the program on cells, wires and neurons as they are, at the speed of matrix products.

A crossbar whose idle rows are grounded is linear, so a window's charge is one product of the input counts with the crossbar's real matrix (wires solved
once, see `written`). Read noise is independent from cell to cell and timestep to timestep, so a window's noise is one normal variate per neuron,
whose variance is one more product of the counts. A neuron that fires up and down until it is drained counts the floor of its charge, whatever the order
of spikes; only circuits that forget or stumble (see `physics.neuron.is_static`) walk through the timesteps.

A layer without any imperfection is run in exact integers, so a perfect chip gives the program's counts. Scores that are charge are rounded to whole units.
"""

import math
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from memspike.chip import NeuronCircuit, NeuronKind
from memspike.errors import SimulationError
from memspike.mapping import Mapping
from memspike.ops import Charge, Conv2d, Dense, Fire, Op
from memspike.physics.neuron import draw_neurons, integrate_and_fire, is_static
from memspike.result import Encoder
from memspike.simulator.encode import ENCODERS, SpikeTrain, check_encoder, check_window, line_keys
from memspike.simulator.kernels import carrier_of, step, walk
from memspike.simulator.neuron import Fired
from memspike.simulator.spike import Spike, reader_of
from memspike.simulator.written import Layer, written

_NEURONS, _NOISE = 3, 4  # what is drawn for an op, the last part of its seed; 0 to 2 are drawn for crossbars


class Analog:
    """Chip number `seed` of a mapped program, made ready to run; only the ops `layers` are imperfect, if they are given.

    Raises SimulationError when a sum is read by more than one neuron, for copies, and for the neuron `dual` on a chip that is not perfect.
    """

    def __init__(self, mapping: Mapping, encoder: Encoder, neuron: NeuronKind, seed: int, time: float, layers: Sequence[str] | None = None) -> None:
        check_encoder(encoder)
        self.program, self._encode, self._seed = mapping.program, ENCODERS[encoder], seed
        self.circuit = replace(mapping.chip.neuron, kind=neuron)
        self.layers = written(mapping, seed, time)
        for name in set(layers or ()) - self.layers.keys():
            raise SimulationError(f"no layer is called {name!r}", cure=f"layers are: {', '.join(self.layers)}")
        imperfect = set(self.layers if layers is None else layers)
        self._perfect: Spike | None = None
        self._steps: dict[str, Callable[..., Tensor]] = {}
        self._real: dict[str, _Real] = {}
        is_perfect = self.circuit == NeuronCircuit(self.circuit.kind, self.circuit.max_spikes_per_timestep)
        if is_perfect and all(layer.is_exact or name not in imperfect for name, layer in self.layers.items()) and neuron in ("dual", "fire_only"):
            self._perfect = Spike(mapping, encoder, neuron, seed)
            return
        if neuron == "dual":
            what = "the neuron 'dual' subtracts two counts, each of which holds the cells' conductance at level 0; that circuit is not simulated"
            raise SimulationError(what, where="fidelity 'analog'", cure="use neuron up_down, two_phase or fire_only")
        for number, op in enumerate(self.program.ops):
            if isinstance(op, Conv2d | Dense):
                layer = self.layers[op.out]
                reader = reader_of(self.program, op.out)
                if op.out in imperfect and not (layer.is_exact and is_perfect and neuron != "fire_only"):
                    num_neurons = len(op.weight)
                    drawn = draw_neurons(self.circuit, num_neurons, np.random.default_rng([seed, number, _NEURONS]))
                    self._real[op.out] = _Real(mapping, op, reader, layer, self.circuit, drawn)
                    continue
            self._steps[op.out] = step(self.program, op)
        self._numbers = {op.out: number for number, op in enumerate(self.program.ops)}

    def run(self, images: Tensor, keep: Set[str], first: int = 0, rasters: Set[str] = frozenset()) -> tuple[dict[str, Tensor], dict[str, Fired] | None]:
        """The values named in `keep`, each `[n, ...]`, of images `[n, ...]` that are number `first` and following; and, where neurons walked through
        timesteps, what they did. Sums are real numbers here, rounded to whole level steps where they are kept."""
        if self._perfect:
            return self._perfect.run(images, keep, first)
        fired: dict[str, Fired] = {}

        def compute(op: Op, inputs: list[Tensor]) -> dict[str, Tensor]:
            if op.out not in self._real:
                return {op.out: self._steps[op.out](*inputs)}
            real, counts = self._real[op.out], inputs[0]
            draws = _Draws(self._seed, self._numbers[op.out], first, len(counts))
            if real.is_static:
                sums = real.sums(counts, draws)
                return {op.out: sums.round(), real.reader.out: real.read(sums)}
            keys = line_keys(self._seed, first, len(counts), 1 + self._numbers.get(op.inputs[0], -1))
            done, sums = real.walk(self._encode(counts, real.num_timesteps, keys), len(counts), draws)
            fired[op.out] = replace(done, sums=None, counts=None)
            return {op.out: sums.round(), real.reader.out: done.counts}

        values = walk(self.program, images, compute, keep)
        return values, fired if self._real and len(fired) == len(self._fires()) else None

    def notes(self) -> tuple[str, ...]:
        """Which layers are imperfect, and how far their weights lie from what was intended."""
        if self._perfect:
            return self._perfect.notes()
        return tuple(
            f"{name}: weights off by {float(np.sqrt(np.mean(layer.deviation**2))):.3g} levels rms"
            + ("" if name not in self._real else ", one product per window" if self._real[name].is_static else ", walked through every timestep")
            for name, layer in self.layers.items()
        )

    def _fires(self) -> list[str]:
        return [name for name in self.layers if isinstance(reader_of(self.program, name), Fire)]


class _Draws:
    """Standard normals `[n, ...]` for the neurons of one op, each image from a stream of its own, so that batches change nothing."""

    def __init__(self, seed: int, op: int, first: int, number: int) -> None:
        self._generators = [torch.Generator().manual_seed(key) for key in line_keys(seed, first, number, (_NOISE << 20) + op).tolist()]

    def like(self, values: Tensor) -> Tensor:
        drawn = torch.empty_like(values)
        for image, generator in zip(drawn, self._generators, strict=True):
            image.normal_(generator=generator)
        return drawn


class _Real:
    """One op on its crossbars and the neurons that read it, in single precision; `gain` and `offset` turn a sum into thresholds, or into charge."""

    def __init__(
        self,
        mapping: Mapping,
        op: Conv2d | Dense,
        reader: Fire | Charge,
        layer: Layer,
        circuit: NeuronCircuit,
        drawn: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> None:
        self.op, self.reader, self.circuit, self._layer = op, reader, circuit, layer
        x = mapping.program.types[op.inputs[0]].type
        self.num_timesteps, self._is_signed = x.num_timesteps, x.signed
        self._shape = mapping.program.types[op.out].shape
        self.is_static = isinstance(reader, Charge) or is_static(circuit)
        if not self.is_static:
            check_window(self.num_timesteps, f"op {op.out}")
        is_shared = len(layer.deviation) != op.groups
        self._groups = 1 if is_shared else op.groups
        weight = op.weight.reshape(op.groups, len(op.weight) // op.groups, -1).transpose(0, 2, 1)
        self._weight = self._kernel((_dense(weight) if is_shared else weight) + layer.deviation)
        self._variance = self._kernel(layer.variance) if isinstance(layer.variance, np.ndarray) else None
        self._uniform = 0.0 if isinstance(layer.variance, np.ndarray) else layer.variance
        scale, charge = float(1 << reader.fraction_bits), reader.charge.astype(np.float64)
        threshold = reader.threshold * drawn[0] if isinstance(reader, Fire) else np.ones(len(charge))
        self._gain, self._offset = self._along(scale / threshold), self._along(charge / threshold + (drawn[1] if isinstance(reader, Fire) else 0.0))

    def sums(self, counts: Tensor, draws: _Draws) -> Tensor:
        """The charge of a window in level steps `[n, ...]`, read noise included."""
        x = counts.to(torch.float32)
        sums = self._product(x, self._weight)
        if self._variance is not None or self._uniform:
            sums += self._variances(x.abs() if self._is_signed else x).sqrt_() * draws.like(sums)
        return sums

    def read(self, sums: Tensor) -> Tensor:
        """What the neurons make of it: counts, or the charge of scores in whole units."""
        if isinstance(self.reader, Charge):
            potential = sums.to(torch.float64) * self._gain.to(torch.float64) + self._offset.to(torch.float64)
            return potential.round_().to(torch.int64)
        low, high = self.reader.type.min, self.reader.type.max
        counts = torch.mul(sums, self._gain).add_(self._offset).floor_().clamp_(low, high)
        return counts.to(carrier_of(self.reader.type))

    def walk(self, train: SpikeTrain, number: int, draws: _Draws) -> tuple[Fired, Tensor]:
        """Every timestep of every neuron for `number` images; also the charge of the window."""
        assert isinstance(self.reader, Fire)
        total = torch.zeros((number, *self._shape))

        def currents() -> Iterator[NDArray[np.float64]]:
            for spikes in train:
                sums = self.sums(spikes, draws)
                total.add_(sums)
                yield (sums * self._gain).to(torch.float64).numpy()

        start = self._offset.to(torch.float64).expand(total.shape).numpy()
        done = integrate_and_fire(self.circuit, start, currents(), self.reader.type.min, self.reader.type.max, lambda: draws.like(total).numpy())
        counts = torch.from_numpy(done.counts).to(carrier_of(self.reader.type))
        return Fired(total, counts, done.num_fires, done.num_extra_timesteps), total

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        op = self.op
        if isinstance(op, Conv2d):
            return F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, self._groups)
        if self._groups == 1:
            return F.linear(x, weight)
        grouped = torch.einsum("ngc,gkc->ngk", x.reshape(len(x), self._groups, -1), weight.reshape(self._groups, -1, weight.shape[1]))
        return grouped.reshape(len(x), -1)

    def _variances(self, x: Tensor) -> Tensor:
        """The variance of a window's charge; where all cells fluctuate alike, all channels of a group see the same."""
        if self._variance is not None:
            return self._product(x, self._variance)
        channels = len(self.op.weight) // self._groups
        if isinstance(self.op, Conv2d):
            ones = torch.full((self._groups, *self.op.weight.shape[1:]), self._uniform)
            sums = F.conv2d(x, ones, None, self.op.stride, self.op.padding, self.op.dilation, self._groups)
        else:
            sums = x.reshape(len(x), self._groups, -1).sum(dim=2) * self._uniform
        return sums.repeat_interleave(channels, dim=1)

    def _kernel(self, matrix: NDArray[np.float64]) -> Tensor:
        """A matrix `[groups, rows, channels]` in the shape of torch's weights."""
        groups, rows, channels = matrix.shape
        kernel = self.op.weight.shape[2:]
        shaped = matrix.transpose(0, 2, 1).reshape(groups * channels, rows // math.prod(kernel), *kernel)
        return torch.from_numpy(np.ascontiguousarray(shaped, dtype=np.float32))

    def _along(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).reshape(1, -1, *[1] * (len(self._shape) - 1))


def _dense(weight: NDArray[np.integer]) -> NDArray[np.float64]:
    """Matrices `[groups, rows, channels]` as the one block-diagonal matrix `[1, groups * rows, groups * channels]`."""
    groups, rows, channels = weight.shape
    whole = np.zeros((groups, rows, groups, channels))
    whole[np.arange(groups), :, np.arange(groups)] = weight
    return whole.reshape(1, groups * rows, groups * channels)
