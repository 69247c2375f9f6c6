"""Fidelity "spike": every timestep of every neuron, one layer's window after the other's."""

from collections.abc import Callable, Set
from dataclasses import replace

from torch import Tensor

from memspike.errors import SimulationError
from memspike.mapping import Mapping
from memspike.ops import Charge, Conv2d, Dense, Fire, Op
from memspike.program import Program
from memspike.result import Encoder
from memspike.simulator.encode import Window, check_encoder, check_window, line_keys
from memspike.simulator.layer import Layer
from memspike.simulator.neuron import NEURONS, Fired, Neuron, check_neuron
from memspike.simulator.walk import NOTHING, Ran, Summed, Totals, step, unflattened, walk


class Spike:
    """A mapped program made ready to run as spikes.

    A layer is a Conv2d or Dense, whose weights are read back from the cells of its tiles, with the Fire or Charge that alone reads its sum.
    Its input counts are sent as spikes over a window of the input type's `num_timesteps`; every timestep its crossbars add a current to its
    neurons, and these fire. Between layers a count is a number in a counter: pools, Add and Concat are digital and exact.

    Raises SimulationError when a sum is read in any other way, when a window is too long to walk through, or a name is unknown.
    """

    def __init__(self, mapping: Mapping, encoder: Encoder, neuron: str, seed: int, device: str = "cpu") -> None:
        check_encoder(encoder)
        check_neuron(neuron)
        self.program, self._seed = mapping.program, seed
        self._encoder: Encoder = encoder
        self._kind = neuron
        self._value_numbers = {name: number for number, name in enumerate(self.program.types)}
        self._layers: dict[str, tuple[Layer, Fire | Charge]] = {}
        self._neurons: dict[str, Neuron] = {}
        self._sums: dict[str, Callable[[Tensor], Tensor]] = {}
        self._steps: dict[str, Callable[..., Tensor]] = {}
        images = unflattened(self.program)
        for op in self.program.ops:
            if not isinstance(op, Conv2d | Dense):
                if op.inputs[0] not in self._neurons:
                    self._steps[op.out] = step(self.program, op, images, device)
                continue
            reader, types = reader_of(self.program, op.out), self.program.types
            layer = Layer(replace(op, weight=mapping.weights(op.out)), types[op.inputs[0]], types[op.out].shape, images.get(op.inputs[0]), device)
            check_window(layer.num_timesteps, f"op {op.out}")
            self._layers[op.out] = layer, reader
            if isinstance(reader, Fire):
                self._neurons[op.out] = NEURONS[neuron](layer, reader, mapping.chip.neuron.max_spikes_per_timestep)
            if isinstance(reader, Charge):
                self._sums[op.out] = layer.sums_of(layer.op)

    def run(self, images: Tensor, keep: Set[str], first: int = 0, rasters: Set[str] = frozenset(), summed: Summed = NOTHING) -> Ran:
        """The values named in `keep`, each `[n, ...]`, of images `[n, ...]` that are number `first` and following; and what each layer's neurons
        did, by the name of its Conv2d or Dense, with the raster of the first image where it is asked for."""
        fired: dict[str, Fired] = {}
        seen = Totals(self.program, summed)

        def compute(op: Op, inputs: list[Tensor]) -> dict[str, Tensor]:
            if op.out not in self._layers:
                return {op.out: self._steps[op.out](*inputs)}
            layer, reader = self._layers[op.out]
            if op.out in keep and op.out not in self._sums:
                self._sums[op.out] = layer.sums_of(layer.op)
            sums = {op.out: self._sums[op.out](inputs[0])} if op.out in self._sums else {}  # every line has sent its count by the end
            if isinstance(reader, Charge):
                return sums
            keys = line_keys(self._seed, first, len(inputs[0]), self._value_numbers[op.inputs[0]])
            done = self._neurons[op.out].run(Window(inputs[0], layer.num_timesteps, self._encoder, keys), keep_raster=op.out in rasters)
            fired[op.out] = replace(done, counts=None)
            return {**sums, reader.out: done.counts}

        return Ran(walk(self.program, images, compute, keep, seen), seen.each, seen.whole, fired)

    def notes(self) -> tuple[str, ...]:
        """Whether the neurons count what the program means and in which arithmetic, one line per layer of neurons."""
        return tuple(f"{name}: neuron {self._kind}, {'exact' if neuron.is_exact else 'not exact'}, {neuron.note}" for name, neuron in self._neurons.items())


def reader_of(program: Program, name: str) -> Fire | Charge:
    """The one Fire or Charge that reads the sum `name`: a column's charge can be used by one neuron only."""
    users = program.users(name)
    if len(users) == 1 and isinstance(users[0], Fire | Charge) and name != program.output:
        return users[0]
    readers = ", ".join(op.out for op in users) or "nobody"
    raise SimulationError(
        f"its sum is read by {readers}{' and is the output' if name == program.output else ''}; in spikes one fire or charge reads it, alone",
        where=f"op {name}",
        cure="repeat the op for each reader, put a fire behind it, or use fidelity='ideal'",
    )
