"""The whole line: a model and data walk through every worker and come out as a report beside the 8-bit design."""

import json
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from memspike import datasets, storage
from memspike.chip import Chip, PartialSums
from memspike.compiler import compile as compile_network
from memspike.cost import Cost
from memspike.errors import ChipError, FileRefused, MemspikeError, TrainingError
from memspike.estimator import estimate
from memspike.files import alone, read_bytes, write_text
from memspike.integer import Integers, IntType
from memspike.mapper import map as map_program
from memspike.network import Grid, QuantizedNetwork
from memspike.pixels import PixelCode
from memspike.program import Program
from memspike.reporter import Design, Report, report
from memspike.reporter.evidence import Ratio
from memspike.result import Encoder

_WRITTEN = ("network.safetensors", "program.safetensors", "baseline.safetensors", "mapping.safetensors", "report.json", "report.html")


class Listener(Protocol):
    """Who is told how a run goes: phases, training steps and epochs, images simulated."""

    def phase(self, text: str) -> None: ...
    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...
    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None: ...
    def images(self, what: str, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked for; the same order gives the same result.

    `layer_bits` are (layer pattern, activation bits or None, weight bits or None). `image_range` are the pixels that count 0 and most; None fits
    them to the training images. `also` are further chips, costed beside `chip`;
    `partial_sums` replaces what the chips do. With `cells` the network is trained for that device, read `time` seconds after writing, for
    `hardening_epochs`. `changes` replace fields of the model's recipe. `cost_images` are simulated spike by spike for
    the energy of both designs, `check_images` (None: all) for the law that spikes say what the program means.
    """

    model: str = "digits_net"
    data: str = "digits"
    activation_bits: int = 4
    weight_bits: int = 4
    image_bits: int | None = None
    layer_bits: tuple[tuple[str, int | None, int | None], ...] = ()
    grid: Grid = "symmetric"
    dither: int = 0
    image_lines: int = 1
    image_range: tuple[int, int] | None = (0, 255)
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    method: str = "default"
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    cells: str | None = None
    time: float = 0.0
    hardening_epochs: int = 3
    chip: str = "predictive"
    also: tuple[str, ...] = ("liu2018",)
    partial_sums: PartialSums | None = None
    encoder: Encoder = "even"
    cost_images: int = 64
    check_images: int | None = None
    seed: int = 0
    device: str = "cpu"
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found: `summary` is result.json, `report` the page."""

    summary: dict[str, Any]
    report: Report
    network: QuantizedNetwork
    program: Program


@dataclass(frozen=True, slots=True)
class _Trained:
    network: QuantizedNetwork
    direct: QuantizedNetwork
    baseline: QuantizedNetwork
    accuracy_fp32: float
    predictions: Integers


def run(order: Order, out: Path, listener: Listener) -> Run:
    """Train, compile, map, simulate and cost as `order` says; write everything to the folder `out`.

    A run that was interrupted goes on where it stopped when it is given the same order and folder.
    Raises MemspikeError when the folder holds a finished run, another order's or somebody else's files.
    """
    chips = _chips(order)
    claim(order, out)
    busy = MemspikeError("another run is at work in this folder", where=str(out), cure="wait for it, or name another folder with --out")
    with alone(out, busy):
        return _run(order, out, chips, listener)


def _run(order: Order, out: Path, chips: Sequence[Chip], listener: Listener) -> Run:
    started = time.time()
    listener.phase(f"data {order.data}")
    data = datasets.load(order.data)
    training = start_training(order, data, out / "training", listener)
    _rehearse(training, chips)
    trained = _train(order, training, listener)
    listener.phase("compile")
    programs = {name: program_for(getattr(trained, name), chips[0]) for name in ("network", "direct", "baseline")}
    storage.save(trained.network, out / "network.safetensors")
    storage.save(programs["network"], out / "program.safetensors")
    storage.save(programs["baseline"], out / "baseline.safetensors")
    walker = _Walker(order, data, listener)
    walker.measure(chips[0], programs)
    pairs = [walker.pair(chip, trained) for chip in chips]
    storage.save(pairs[0][0].mapping, out / "mapping.safetensors")
    summary = _summary(order, data, trained, programs, pairs, walker, time.time() - started)
    page = report(trained.network, pairs, summary)
    write_text(out / "report.json", page.to_json())
    write_text(out / "report.html", page.html())
    write_text(out / "result.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return Run(summary, page, trained.network, programs["network"])


def _rehearse(training: Any, chips: Sequence[Chip]) -> None:
    """Refuse a chip that one of the two networks does not fit before hours of training."""
    ours, theirs = training.rehearsal()
    for chip in chips:
        map_program(program_for(ours, chip), chip)
        try:
            map_program(program_for(theirs, chip), chip)
        except MemspikeError as error:
            what = f"the 8-bit design, which every run is set beside, does not fit: {error.what}"
            raise type(error)(what, where=error.where, cure="take a chip with more columns or more bits per cell") from error


def _chips(order: Order) -> list[Chip]:
    """The chips of the order; the report tells them apart by name, and compares their energies and areas."""
    chips = [chip_for(order, name) for name in dict.fromkeys((order.chip, *order.also))]
    names = [chip.name for chip in chips]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ChipError(f"two chips are called {twice[0]}", cure="give each its own name, in its file")
    for chip in chips:
        parts = chip.components
        if not any(part.area.value for part in parts):
            raise ChipError("no component has an area, and there is none to compare", where=f"chip {chip.name}", cure="give areas, assumed ones if need be")
        if not chip.crossbar.read_voltage.value and not any(number.value for part in parts for number in (part.leakage, *part.energy.values())):
            raise ChipError("nothing takes energy, and there is none to compare", where=f"chip {chip.name}", cure="give energies, assumed ones if need be")
    return chips


def chip_for(order: Order, name: str) -> Chip:
    """The chip of that name, with the partial sums that the order wants; another way to add makes it another chip, by name too."""
    chip = storage.load_chip(name)
    if order.partial_sums in (None, chip.partial_sums):
        return chip
    return replace(chip, name=f"{chip.name}-{order.partial_sums}", partial_sums=order.partial_sums)


def program_for(network: QuantizedNetwork, chip: Chip, repeat: Mapping[str, int] | None = None) -> Program:
    """The network's program, with the partial sums that the chip can form, the ops named in `repeat` written so many times."""
    return compile_network(network, partial_sums=chip.partial_sums, rows=chip.crossbar.rows, repeat=repeat)


def claim(order: Order, out: Path) -> None:
    """Take `out` for this order: a new folder, or the unfinished run of the same order."""
    if (out / "result.json").exists():
        raise MemspikeError("holds a finished run", where=str(out), cure="name another folder with --out")
    if foreign := _foreign(out):
        raise MemspikeError(f"holds a {foreign[0]} of something else, which a run would replace", where=str(out), cure="name another folder with --out")
    if others := _others(order, out):
        cure = f"repeat its options (config.json there) to go on, or name another folder with --out; these differ: {', '.join(others)}"
        raise MemspikeError("holds an unfinished run with other options", where=str(out), cure=cure)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileRefused(f"this folder cannot be made: {error.strerror}", where=str(out), cure="name one that you may write to") from error
    write_text(out / "config.json", _config(order))


def is_free(order: Order, out: Path) -> bool:
    """Whether `out` can take this order: it holds nothing of a run, or the unfinished run of the same order."""
    return not (out / "result.json").exists() and not _foreign(out) and not _others(order, out)


def _others(order: Order, out: Path) -> list[str]:
    """The options of the run in `out` that are others; one that an older memspike did not know is what it is by default."""
    if not (out / "config.json").exists():
        return []
    asked = json.loads(_config(order))
    try:
        kept = {**json.loads(_config(Order())), **dict[str, Any](json.loads(read_bytes(out / "config.json")))}
    except (ValueError, TypeError):
        return ["config.json, which cannot be read"]
    return [name for name in dict.fromkeys([*asked, *kept]) if asked.get(name) != kept.get(name)]


def _foreign(out: Path) -> list[str]:
    """Files that a run would replace, in a folder that is no run's."""
    return [] if (out / "config.json").exists() else [name for name in _WRITTEN if (out / name).exists()]


def _config(order: Order) -> str:
    return json.dumps(asdict(order), indent=2) + "\n"


def _train(order: Order, training: Any, listener: Listener) -> _Trained:
    """The network in counts, the directly rounded one and the 8-bit one, from one floating-point training."""
    listener.phase(f"train {order.model}: floating point")
    floating = training.floating()
    listener.phase("train: into counts")
    counts = into_counts(order, training, floating, listener)
    direct, baseline = training.baselines(floating)
    return _Trained(training.freeze(counts), direct, baseline, training.notes["accuracy_fp32"], training.predictions(counts))


def into_counts(order: Order, training: Any, floating: Any, listener: Listener) -> Any:
    """The network in counts, trained for a device where the order names one."""
    counts = training.counts(floating)
    if order.cells is None:
        return counts
    from memspike.trainer import Hardening

    listener.phase(f"train: for {order.cells}")
    bits_per_cell = storage.load_chip(order.chip).bits_per_cell
    return training.harden(counts, floating, Hardening(storage.load_device(order.cells), order.time, bits_per_cell, order.hardening_epochs))


def start_training(order: Order, data: datasets.Dataset, folder: Path | None, listener: Listener) -> Any:
    """The Training that `order` describes, its model traced and its options checked."""
    from memspike import trainer  # torch takes seconds to load: not before the options have been read

    if order.cells is not None:
        storage.load_device(order.cells)  # a name that nobody knows is refused before hours of training
    elif order.time:
        raise TrainingError("a time after writing is given, and no cells to train for", cure="name them with --for-cells, or leave --for-time out")
    model = trainer.load_model(order.model, data.train.images.shape[1], len(data.classes), order.seed)
    recipe = trainer.recipe_for(model) if order.method == "default" else trainer.Recipe.liu2018()
    bits = trainer.Bits(order.activation_bits, order.weight_bits, order.image_bits, order.layer_bits, order.grid)
    bits = replace(bits, pixels=_pixel_code(order, data, bits.image_type))
    pretrained = trainer.load_weights(Path(order.weights)) if order.weights else None
    training = trainer.Training(
        model, data, name=order.model.replace(":", "."), bits=bits, recipe=replace(recipe, **order.changes), seed=order.seed,
        pretrained=pretrained, mean=order.mean, std=order.std, folder=folder, device=order.device, compiled=order.compiled, watcher=listener,
    )  # fmt: skip
    if trainer.PADDED in (said := training.notes.get("normalization", "")):
        listener.phase(f"caution: {said}")
    return training


def _pixel_code(order: Order, data: datasets.Dataset, line: IntType | None) -> PixelCode:
    code = PixelCode(order.dither, order.image_lines, *(order.image_range or ()))
    return code.fitted(data.train.images, line) if order.image_range is None and line is not None else code


class _Walker:
    """Maps, simulates and costs designs on one data set; remembers what was checked."""

    def __init__(self, order: Order, data: datasets.Dataset, listener: Listener) -> None:
        self.order, self.data, self.listener = order, data, listener
        self.accuracy: dict[str, float] = {}
        self.checks: dict[str, Any] = {}
        self.scores: dict[str, Integers] = {}

    def pair(self, chip: Chip, trained: _Trained) -> tuple[Design, Design]:
        """The design in counts and the 8-bit one on one chip."""
        ours, theirs = program_for(trained.network, chip), program_for(trained.baseline, chip)
        bits = f"{self.order.activation_bits}/{self.order.weight_bits} bits"
        return self._design(bits, ours, chip), self._design("8-bit dynamic fixed point", theirs, chip)

    def measure(self, chip: Chip, programs: dict[str, Program]) -> None:
        """Accuracies on all test images, and the law that spikes say what the program means."""
        from memspike.simulator import check, simulate

        ours = programs["network"]
        for name, program in (("program", ours), ("direct", programs["direct"]), ("dynamic_fixed_point_8", programs["baseline"])):
            self.listener.phase(f"classify {len(self.data.test.labels)} test images: {name}")
            result = simulate(map_program(program, chip), program.count_pixels(self.data.test.images), progress=self._progress(f"ideal, {name}"))
            self.accuracy[name] = result.accuracy(self.data.test.labels)
            self.scores[name] = result.outputs
        wanted = self.order.check_images
        checked = self.data.limited(num_test=wanted).test.images if wanted != 0 else self.data.test.images[:0]
        self.listener.phase(f"check spikes against the program on {len(checked)} images")
        images = ours.count_pixels(checked)
        progress = self._progress("spikes against program")
        self.checks = check(map_program(ours, chip), images, encoder=self.order.encoder, seed=self.order.seed, progress=progress)

    def _design(self, label: str, program: Program, chip: Chip) -> Design:
        """The program on the chip, its real activity spike by spike, and what that costs."""
        from memspike.simulator import can_keep_raster, simulate

        self.listener.phase(f"cost on chip {chip.name}: {label}")
        mapping = map_program(program, chip)
        images = program.count_pixels(self.data.limited(num_test=self.order.cost_images).test.images)
        shown = tuple(plan.op for plan in mapping.layers if can_keep_raster(mapping, plan.op))[:1]
        progress = self._progress(f"spike, {label}")
        result = simulate(mapping, images, fidelity="spike", encoder=self.order.encoder, seed=self.order.seed, raster=shown, progress=progress)
        return Design(label, mapping, result, estimate(mapping, result))

    def _progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.listener.images(what, done, total)


def _summary(
    order: Order, data: datasets.Dataset, trained: _Trained, programs: dict[str, Program], pairs: list[tuple[Design, Design]], walker: _Walker, seconds: float
) -> dict[str, Any]:
    chips = {ours.mapping.chip.name: _comparison(ours.cost, theirs.cost) for ours, theirs in pairs}
    first = chips[pairs[0][0].mapping.chip.name]
    program = programs["network"]
    changed = int(np.sum(walker.scores["program"].argmax(1) != trained.predictions))
    return {
        "accuracy": {"fp32": trained.accuracy_fp32, **walker.accuracy},
        "num_test_images": len(data.test.labels),
        "bits": {"activation": order.activation_bits, "weight": order.weight_bits, "image": program.input_type.type.bits, **asdict(program.pixels)},
        "chip": pairs[0][0].mapping.chip.name,
        **first,
        "checks": {**walker.checks, "predictions_changed_by_compiling": changed},
        "chips": chips,
        "provenance": {
            **_versions(), "command": order_as_command(order), "seed": order.seed, "seconds": round(seconds, 1),
            "data": data.source, "data_digest": data.digest, "program_digest": program.digest(),
            "baseline_digest": programs["baseline"].digest(), "chip_digest": pairs[0][0].mapping.chip.digest(),
        },
    }  # fmt: skip


def _comparison(ours: Cost, theirs: Cost) -> dict[str, dict[str, float]]:
    """The costs of two designs, and what the first saves against the second."""
    return {"cost": ours.figures, "baseline": theirs.figures, "ratio": asdict(Ratio.of(ours, theirs))}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in ("memspike", "numpy", "torch")}}


def order_as_command(order: Order) -> str:
    """The command line that gives this order, as a shell reads it."""
    words = ["memspike", "run"]
    for name, value in asdict(order).items():
        if value == getattr(Order(), name):
            continue
        if name == "layer_bits":
            words += [word for pattern, a, w in value for word in ("--layer-bits", f"{pattern}={a or ''}/{w or ''}")]
        elif name == "changes":
            words += [word for key, change in value.items() for word in _option(key, change)]
        elif name == "cells":
            words += ["--for-cells", value]
        elif name == "time":
            words += ["--for-time", f"{value:.17g}s"]
        elif name == "also":
            words += [word for chip in value for word in ("--also", chip)]
        elif name == "image_range":
            words += ["--image-range", "fit" if value is None else "-".join(map(str, value))]
        elif name in ("mean", "std"):
            words += [f"--{name}", ",".join(map(str, value))]
        elif name == "compiled":
            words.append("--compile")
        else:
            words += _option(name, value)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """An option's words; that of a boolean has a name for each answer."""
    option = name.replace("_", "-")
    return [f"--{'' if value else 'no-'}{option}"] if isinstance(value, bool) else [f"--{option}", str(value)]
