"""The simulator: a mapped program and images in, scores and the chip's activity out, in exact integers."""

import math
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from importlib.metadata import version
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.chip import NeuronKind
from memspike.errors import SimulationError, expect
from memspike.integer import Integers, IntType, whole
from memspike.mapping import Mapping
from memspike.ops import Add, Charge, Conv2d, Dense, Fire
from memspike.program import Program, fired_by
from memspike.result import Encoder, Fidelity, Provenance, Result
from memspike.simulator.activity import Tally
from memspike.simulator.analog import Analog
from memspike.simulator.chunks import chunk_size, in_chunks, one_thread_per_op
from memspike.simulator.encode import check_encoder, encode
from memspike.simulator.ideal import Ideal, ready
from memspike.simulator.kernels import exact_arithmetic, to_numpy
from memspike.simulator.layer import Layer
from memspike.simulator.neuron import check_neuron, rule_of
from memspike.simulator.scan import has_room_for_raster
from memspike.simulator.spike import Spike
from memspike.simulator.walk import Ran
from memspike.simulator.written import checked, faults_of, written

__all__ = ["can_keep_raster", "check", "check_device", "faults_of", "simulate", "written"]

MAX_RASTER_SPIKES = 127  # what int8 holds
_VERSION = version("memspike")  # looked up once: that takes as long as 80 images
_LARGEST = {"ideal": 6 << 20, "spike": 1 << 20, "analog": 1 << 20}  # value of one chunk, so that it stays in the cache: in bytes, spikes in elements
Progress = Callable[[int, int], None]


def simulate(
    mapping: Mapping,
    images: Integers,
    *,
    fidelity: Fidelity = "ideal",
    encoder: Encoder = "even",
    neuron: NeuronKind | None = None,
    seed: int = 0,
    time: float = 0.0,
    layers: Sequence[str] | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    record: Sequence[str] = (),
    raster: Sequence[str] = (),
    progress: Progress | None = None,
) -> Result:
    """Run images through a mapped program.

    Args:
        mapping: the program on its chip.
        images: integer counts `[n, channels, height, width]` of the program's input type.
        fidelity: "ideal" computes the integers, "spike" every timestep of every neuron, "analog" the cells, wires and neurons of chip number `seed`.
        encoder: how counts become spikes: "even", "burst" or "random" (drawn from `seed`); not in fidelity "ideal", which has no spikes.
        neuron: the kind of neuron; None takes the chip's. "up_down" and "two_phase" give the program's counts, "dual" and "fire_only" do not. Not in "ideal".
        seed: decides every random spike, image by image, whatever `batch_size` and the number of threads; in fidelity "analog" also the chip.
        time: seconds between writing and reading the chip, in fidelity "analog".
        layers: the ops (Conv2d, Dense) whose crossbars and neurons are imperfect, in fidelity "analog"; None: all.
        batch_size: images computed at once; None chooses so that all chunks at work, on `torch.get_num_threads()` threads, stay within 1 GiB beside the
            images and the result (or one image at a time, where it alone takes more); what is kept of as many chunks again may wait beside them. It never
            changes a result.
        device: "cpu", or "cuda" for fidelities "ideal" and "spike". It never changes a result.
        record: names of values whose counts `[n, ...]` to keep in `Result.spike_counts`.
        raster: names of layers (sum or Fire), or the program's input, whose spikes of the first image to keep in `Result.rasters`.
        progress: called with (images done, images in all) after each chunk.

    Raises:
        ProgramError: the images do not fit the program.
        SimulationError: an unknown name, an option that says nothing in this fidelity, or a program that cannot run as spikes.
    """
    expect(mapping, Mapping, SimulationError, "ms.map(program, chip) puts a program on a chip")
    program, kind = mapping.program, neuron or mapping.chip.neuron.kind
    _check_images(program, images)
    if not isinstance(time, Real) or not math.isfinite(time):
        raise SimulationError(f"time is {time!r}; expected a number of seconds", cure="a day is 86400.0")
    seed, batch_size = _check_options(fidelity, encoder, kind, seed, batch_size)
    _check_meant(fidelity, {"time": time != 0, "layers": layers is not None}, {"encoder": encoder != "even", "neuron": neuron is not None})
    check_device(device, fidelity)
    drawn = _raster_layers(mapping, fidelity, raster, len(images))
    tally, kept = Tally(mapping), _names(program, [*record, program.output])
    counts = {name: np.empty((len(images), *program.types[name].shape), width) for name, width in _widths(program, kept, fidelity).items()}
    rasters: dict[str, NDArray[np.int8]] = {}
    with exact_arithmetic():
        with one_thread_per_op():
            machine = _machine(mapping, fidelity, encoder, kind, seed, time, layers, kept, device)
        largest = machine.largest if isinstance(machine, Ideal) else None
        size = batch_size or chunk_size(program, _LARGEST[fidelity], len(images), device, largest)
        summed = tally.summed(spikes=fidelity == "spike")

        def run(chunk: Tensor, start: int) -> Ran:
            return machine.run(chunk, kept, start, frozenset(drawn.values()) if start == 0 else frozenset(), summed)

        for start, stop, ran in in_chunks(run, program, images, size, device):
            tally.add(stop - start, ran)
            for name, array in counts.items():
                array[start:stop] = to_numpy(ran.values[name])
            if start == 0 and ran.fired is not None:
                rasters = {name: _raster(ran.fired[layer].raster) for name, layer in drawn.items() if layer in ran.fired}
            if progress:
                progress(stop, len(images))
    if program.input in raster:
        rasters[program.input] = encode(images[:1], program.input_type.type.num_timesteps, encoder, seed)[:, 0]
    outputs = counts[program.output].astype(np.int64)
    if program.output not in record:
        del counts[program.output]
    provenance = Provenance(_VERSION, program.digest(), mapping.chip.digest(), fidelity, kind, encoder, seed, loads=mapping.loads)
    if fidelity == "analog":
        imperfect = None if layers is None else tuple(layers)
        provenance = replace(provenance, time=time, faults=faults_of(mapping, seed).digest(), layers=imperfect)
    return Result(outputs, tally.activity(), provenance, counts, rasters, machine.notes())


def check(
    mapping: Mapping,
    images: Integers,
    *,
    encoder: Encoder = "even",
    neuron: NeuronKind | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run spikes and program side by side and compare every value of every layer.

    Arguments and errors are those of `simulate`. Returns `spike_equals_program`, None for no image; `images_checked`; and `differing_counts`, how many
    elements of each op's value differ, by op. A neuron that is not exact changes what it feeds, so the ops after it differ too.
    """
    program, kind = mapping.program, neuron or mapping.chip.neuron.kind
    _check_images(program, images)
    seed, batch_size = _check_options("spike", encoder, kind, seed, batch_size)
    check_device(device, "spike")
    names = frozenset(op.out for op in program.ops)
    differing = Counter({op.out: 0 for op in program.ops})
    with exact_arithmetic():
        with one_thread_per_op():
            ideal, spike = Ideal(program, names, device), Spike(mapping, encoder, kind, seed, device)

        def differences(chunk: Tensor, start: int) -> dict[str, int]:
            meant, said = ideal.run(chunk, names).values, spike.run(chunk, names, start).values
            return {name: int((meant[name] != said[name]).sum()) for name in names}

        size = batch_size or chunk_size(program, _LARGEST["spike"], len(images), device)
        for _, stop, found in in_chunks(differences, program, images, size, device):
            differing.update(found)
            if progress:
                progress(stop, len(images))
    held = not any(differing.values()) if len(images) else None
    return {"spike_equals_program": held, "images_checked": len(images), "differing_counts": dict(differing)}


def can_keep_raster(mapping: Mapping, layer: str) -> bool:
    """Whether `simulate` can keep the spikes that one image makes the layer fire, named by its sum: it has neurons, and they are not too many for that."""
    program, circuit = mapping.program, mapping.chip.neuron
    op, fire = program.op(layer), fired_by(program, layer)
    if fire is None or not isinstance(op, Conv2d | Dense) or circuit.max_spikes_per_timestep > MAX_RASTER_SPIKES:
        return False
    driven = Layer(op, program.types[op.inputs[0]], program.types[layer].shape)
    return has_room_for_raster(rule_of(circuit.kind, driven, fire, circuit.max_spikes_per_timestep), driven.num_timesteps, math.prod(driven.out))


def _machine(
    mapping: Mapping,
    fidelity: Fidelity,
    encoder: Encoder,
    neuron: NeuronKind,
    seed: int,
    time: float,
    layers: Sequence[str] | None,
    kept: Set[str],
    device: str,
) -> Ideal | Spike | Analog:
    match fidelity:
        case "ideal":
            return ready(mapping.program, kept, device)
        case "spike":
            return Spike(mapping, encoder, neuron, seed, device)
        case "analog":
            return Analog(mapping, encoder, neuron, seed, time, layers)


def check_device(device: str, fidelity: str) -> None:
    """Raises SimulationError for a device that is unknown, not there, or unable to run the fidelity."""
    if device not in ("cpu", "cuda"):
        raise SimulationError(f"unknown device {device!r}", cure="known are: cpu, cuda")
    if device == "cuda" and fidelity == "analog":
        raise SimulationError("fidelity 'analog' runs on the processor only", cure="leave the device out")
    if device == "cuda" and not torch.cuda.is_available():
        raise SimulationError("no CUDA device is available", cure="install a CUDA build of torch on a machine with a GPU, or use device 'cpu'")


def _check_options(fidelity: str, encoder: str, neuron: str, seed: Any, batch_size: Any) -> tuple[int, int | None]:
    """The seed and the batch size as whole numbers; raises SimulationError for what is none, and for unknown names."""
    if fidelity not in _LARGEST:
        raise SimulationError(f"unknown fidelity {fidelity!r}", cure=f"known are: {', '.join(_LARGEST)}")
    check_encoder(encoder)
    check_neuron(neuron)
    at_once = None if batch_size is None else whole(batch_size)
    if batch_size is not None and (at_once is None or at_once < 1):
        raise SimulationError(f"batch_size is {batch_size!r}; expected a whole number: at least one image is computed at once")
    return checked(seed), at_once


def _check_meant(fidelity: str, of_chips: dict[str, bool], of_spikes: dict[str, bool]) -> None:
    """Refuse what would be said and not simulated, by whether it is given: a chip's age where no cells are, spikes where only integers are."""
    if fidelity != "analog" and (name := next((name for name, is_given in of_chips.items() if is_given), None)):
        raise SimulationError(f"{name} says something about real chips, and fidelity {fidelity!r} knows none", cure="give fidelity='analog'")
    if fidelity == "ideal" and (name := next((name for name, is_given in of_spikes.items() if is_given), None)):
        raise SimulationError(f"{name} says something about spikes, and fidelity 'ideal' computes integers", cure="give fidelity='spike', or 'analog'")


def _check_images(program: Program, images: Integers) -> None:
    """Refuse before the first image is run."""
    images = np.asarray(images)
    if images.ndim != len(program.input_type.shape) + 1:
        wanted = ", ".join(map(str, ("n", *program.input_type.shape)))
        raise SimulationError(f"images are [{wanted}], got {list(images.shape)}", where=f"program {program.name}")
    program.check_images(images[:0])
    if images.size and np.issubdtype(images.dtype, np.integer):
        highest = int(images.max())
        holds = highest <= program.input_type.type.max and np.issubdtype(images.dtype, np.unsignedinteger)  # every type has 0: no second pass over all images
        lowest = 0 if holds else int(images.min())
        program.check_images(np.broadcast_to(np.array([lowest, highest]).reshape(2, *[1] * (images.ndim - 1)), (2, *images.shape[1:])))


def _names(program: Program, names: Sequence[str]) -> frozenset[str]:
    for name in names:
        if name not in program.types:
            raise SimulationError(f"no value is called {name!r}", where=f"program {program.name}", cure=f"values are: {', '.join(program.types)}")
    return frozenset(names)


def _raster_layers(mapping: Mapping, fidelity: Fidelity, raster: Sequence[str], num_images: int) -> dict[str, str]:
    """For each layer whose raster is asked for, by sum or by Fire, the name of its sum."""
    program, layers = mapping.program, {}
    if raster and (fidelity != "spike" or num_images == 0):
        raise SimulationError(f"a raster of {raster[0]!r} without spikes", cure="use fidelity='spike' and at least one image")
    if raster and mapping.chip.neuron.max_spikes_per_timestep > MAX_RASTER_SPIKES:
        raise SimulationError(f"a raster holds up to {MAX_RASTER_SPIKES} spikes per timestep", where=f"chip {mapping.chip.name}", cure="ask for none")
    for op in program.ops:
        fire = fired_by(program, op.out) if isinstance(op, Conv2d | Dense) else None
        if fire:
            layers |= {op.out: op.out, fire.out: op.out}
    for name in raster:
        if name not in layers and name != program.input:
            raise SimulationError(f"{name!r} names no layer that fires", cure=f"layers are: {', '.join([program.input, *layers])}")
    return {name: layers[name] for name in raster if name != program.input}


def _raster(spikes: list[Tensor]) -> NDArray[np.int8]:
    return torch.stack(spikes).to("cpu", torch.int8).numpy()


def _widths(program: Program, names: Set[str], fidelity: Fidelity) -> dict[str, np.dtype[np.signedinteger]]:
    """The narrowest numpy integer that holds each value; in fidelity "analog" no type bounds a charge, and what is made of it without a neuron."""
    charges: set[str] = set()
    for op in program.ops if fidelity == "analog" else ():
        if isinstance(op, Conv2d | Dense | Charge) or (charges.intersection(op.inputs) and not isinstance(op, Fire | Add)):
            charges.add(op.out)
    return {name: np.dtype(np.int64) if name in charges else _smallest(program.types[name].type) for name in names}


def _smallest(type: IntType) -> np.dtype[np.signedinteger]:
    """The narrowest numpy integer that holds a type."""
    return next(np.dtype(d) for d in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(d).max >= type.max and np.iinfo(d).min <= type.min)
