"""The command line: `memspike run` walks the whole line, each verb takes one step on saved files."""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from memspike.errors import CheckFailed, MemspikeError

if TYPE_CHECKING:
    from memspike.line import Order

app = typer.Typer(
    name="memspike",
    help="Deep networks on spiking memristor hardware: train to spike counts, compile, map, simulate, and cost the chip.",
    epilog="Start with [bold]memspike run[/bold]: digits, a small network, 4 bits, about two minutes on two cores.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class FidelityName(StrEnum):
    """What a simulation computes."""

    ideal = "ideal"
    spike = "spike"


class EncoderName(StrEnum):
    """How counts become spikes."""

    even = "even"
    burst = "burst"
    random = "random"


class NeuronName(StrEnum):
    """The neuron circuits."""

    up_down = "up_down"
    two_phase = "two_phase"
    dual = "dual"
    fire_only = "fire_only"


class MethodName(StrEnum):
    """The recipes."""

    default = "default"
    liu2018 = "liu2018"


class GridName(StrEnum):
    """The weight grids."""

    symmetric = "symmetric"
    liu2018 = "liu2018"


class _Speech:
    """Where words go: results on stdout, progress and logs on stderr; `quiet` keeps progress back."""

    def __init__(self) -> None:
        self.quiet = False
        self.debug = False

    def err(self) -> Console:
        return Console(stderr=True, highlight=False)

    def out(self) -> Console:
        console = Console(highlight=False)
        # What is piped or written to a file is read by programs: never folded to the width of a terminal that is not there.
        return console if console.is_terminal else Console(highlight=False, width=160)


speech = _Speech()


class Listener:
    """Shows a run on stderr: bars with loss, accuracy and time left on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        console = speech.err()
        self.console = console
        self.is_live = console.is_terminal and not speech.quiet
        texts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self.progress = Progress(*texts, TimeRemainingColumn(), TextColumn("left"), console=console, transient=True, disable=not self.is_live)
        self.tasks: dict[str, Any] = {}
        self.accuracy = ""

    def __enter__(self) -> "Listener":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def phase(self, text: str) -> None:
        self._say(f"[bold]{escape(text)}[/bold]")

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        if self.is_live:
            self._advance(stage, f"{stage}, epoch {epoch}/{epochs}", (epoch - 1) * steps + step, epochs * steps, f"loss {loss:.3f} {self.accuracy}")

    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        self.accuracy = f"accuracy {100 * accuracy:.2f} %"
        # Long trainings say every epoch, short ones every tenth: a log should be readable.
        if epoch == epochs or epochs <= 15 or epoch % 10 == 0:
            self._say(f"  {stage:<12} epoch {epoch:>3}/{epochs}  loss {loss:.4f}  {self.accuracy}")

    def images(self, what: str, done: int, total: int) -> None:
        if self.is_live:
            self._advance(what, what, done, total, "images")

    def _advance(self, key: str, text: str, done: int, total: int, note: str) -> None:
        if key not in self.tasks:
            for other in self.tasks.values():
                self.progress.update(other, visible=False)
            self.tasks[key] = self.progress.add_task(text, total=total, note=note)
        self.progress.update(self.tasks[key], completed=done, total=total, description=text, note=note, visible=done < total)

    def _say(self, text: str) -> None:
        if not speech.quiet:
            self.console.print(text, soft_wrap=True)


# -- options that several verbs share

Model = Annotated[
    str,
    typer.Option(
        rich_help_panel="Network and data", help="Reference network (digits_net, lenet, alexnet_cifar, resnet20) or your own as package.module:function."
    ),
]
Data = Annotated[
    str, typer.Option(rich_help_panel="Network and data", help="digits, a hub data set (ylecun/mnist), a folder of parquet files or images, or an .npz file.")
]
Bits = Annotated[int, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of every activation and weight.")]
ActivationBits = Annotated[int | None, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of activations, where they differ from --bits.")]
WeightBits = Annotated[int | None, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of weights, where they differ from --bits.")]
ImageBits = Annotated[int | None, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of the image; as many as an activation unless given.")]
LayerBits = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAYER=A/W", rich_help_panel="Bits", help="Bits of one layer (or pattern), as in --layer-bits 'fc2=8/6' or 'conv*=/3'. May be repeated."
    ),
]
Grid = Annotated[GridName, typer.Option(rich_help_panel="Bits", help="Weight grid: symmetric (up to 2^(N-1)-1) or liu2018 (up to 2^(N-1)).")]
Weights = Annotated[
    Path | None, typer.Option(rich_help_panel="Network and data", help="State dict to start from: .safetensors, or a torch file of tensors only.")
]
Mean = Annotated[
    str | None, typer.Option(metavar="A,B,C", rich_help_panel="Network and data", help="Per channel, if the weights expect (pixel / 255 - mean) / std.")
]
Std = Annotated[str | None, typer.Option(metavar="A,B,C", rich_help_panel="Network and data", help="Per channel, see --mean.")]
Method = Annotated[
    MethodName, typer.Option(rich_help_panel="Training", help="default: learned steps started from the paper's two methods; liu2018: those two alone.")
]
Epochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Epochs in floating point.")]
ConvergenceEpochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Epochs with Neuron Convergence.")]
FinetuneEpochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Epochs in counts.")]
BatchSize = Annotated[int | None, typer.Option(min=1, rich_help_panel="Training", help="Images per training step.")]
LearningRate = Annotated[float | None, typer.Option(min=1e-8, rich_help_panel="Training", help="Highest learning rate in floating point.")]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", rich_help_panel="Training", help="Mirror training images at random.")]
Seed = Annotated[int, typer.Option(min=0, rich_help_panel="Training", help="Same seed, same result.")]
DeviceName = Annotated[str, typer.Option("--device", rich_help_panel="Training", help="cpu or cuda.")]
ChipName = Annotated[str, typer.Option("--chip", help="Chip: predictive, liu2018, or a .toml file (see memspike chips).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def _version(value: bool) -> None:
    if value:
        from importlib import metadata

        print(f"memspike {metadata.version('memspike')}")
        raise typer.Exit


@app.callback()
def _options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    speech.quiet, speech.debug = quiet, debug


def _training_order(
    *, model: Model = "digits_net", data: Data = "digits", bits: Bits = 4, activation_bits: ActivationBits = None, weight_bits: WeightBits = None,
    image_bits: ImageBits = None, layer_bits: LayerBits = None, grid: Grid = GridName.symmetric, weights: Weights = None, mean: Mean = None, std: Std = None,
    method: Method = MethodName.default, epochs: Epochs = None, convergence_epochs: ConvergenceEpochs = None, finetune_epochs: FinetuneEpochs = None,
    batch_size: BatchSize = None, learning_rate: LearningRate = None, flip: Flip = None, seed: Seed = 0, device: DeviceName = "cpu",
) -> "Order":  # fmt: skip
    """The part of an order that `run` and `train` share; its parameters are their options."""
    from memspike.line import Order

    changes = {
        "epochs": epochs, "convergence_epochs": convergence_epochs, "finetune_epochs": finetune_epochs,
        "batch_size": batch_size, "learning_rate": learning_rate, "flip": flip,
    }  # fmt: skip
    return Order(
        model=model, data=data, activation_bits=activation_bits or bits, weight_bits=weight_bits or bits, image_bits=image_bits,
        layer_bits=_layer_bits(layer_bits), grid=grid.value, weights=str(weights) if weights else None, mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"), method=method.value, changes={k: v for k, v in changes.items() if v is not None}, seed=seed, device=device,
    )  # fmt: skip


def _takes_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the parameters of `_training_order` as options, and the order they make as its argument `order`."""
    shared, own = inspect.signature(_training_order).parameters, inspect.signature(command).parameters

    @functools.wraps(command)
    def takes(**options: Any) -> None:
        order = _training_order(**{name: options.pop(name) for name in shared})
        command(order=order, **options)

    both = [*shared.values(), *(p.replace(kind=p.KEYWORD_ONLY) for name, p in own.items() if name != "order")]
    takes.__signature__ = inspect.Signature(both)  # pyright: ignore[reportFunctionMemberAccess]
    takes.__annotations__ = {p.name: p.annotation for p in both}
    return takes


@app.command(
    epilog="Examples:\n\n  memspike run\n\n  memspike run --model lenet --data path/to/mnist --bits 4 --out runs/lenet\n\n"
    "  memspike run --model mypkg.nets:make_net --weights net.safetensors --data images.npz"
)
@_takes_training_options
def run(
    order: "Order",
    chip: ChipName = "predictive",
    also: Annotated[list[str] | None, typer.Option(help="Further chips to cost beside --chip; liu2018 unless given.")] = None,
    encoder: Annotated[EncoderName, typer.Option(help="How counts become spikes.")] = EncoderName.even,
    cost_images: Annotated[int, typer.Option(min=1, help="Images simulated spike by spike for the energy of both designs.")] = 64,
    check_images: Annotated[int | None, typer.Option(min=0, help="Images on which spikes are held against the program; all unless given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything; an interrupted run in it goes on. Default: a new one under runs/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the whole line: train, compile, map, simulate, cost, and report, beside the 8-bit design."""
    from memspike import line
    from memspike.reporter import print_report

    order = replace(order, chip=chip, also=tuple(also) if also else order.also, encoder=encoder.value, cost_images=cost_images, check_images=check_images)
    folder = out or _new_folder(order)
    with Listener() as listener:
        found = line.run(order, folder, listener)
    if as_json:
        print(json.dumps(found.summary, indent=2))
    else:
        print_report(found.report, speech.out())
        speech.out().print(f"\nReport: {folder / 'report.html'}", soft_wrap=True, markup=False)
    if not found.summary["checks"]["spike_equals_program"]:
        raise CheckFailed("spikes and program differ; see checks in result.json", where=str(folder))


@app.command(epilog="Example:\n\n  memspike train --model lenet --data path/to/mnist --bits 4 --out lenet.safetensors")
@_takes_training_options
def train(
    order: "Order",
    out: Annotated[Path, typer.Option(help="File for the network of counts (.safetensors); checkpoints go to OUT.training.")],
    as_json: AsJson = False,
) -> None:
    """Train a network until its activations are spike counts and its weights integers."""
    from memspike import datasets, line, storage

    with Listener() as listener:
        training = line.start_training(order, datasets.load(order.data), Path(f"{out}.training"), listener)
        network = training.freeze(training.counts(training.floating()))
    storage.save(network, out)
    found = {"network": str(out), "accuracy_fp32": training.notes["accuracy_fp32"], "accuracy_training_forward": training.notes["accuracy_training_forward"]}
    _tell(found, as_json, {"accuracy_fp32": "accuracy, floating point", "accuracy_training_forward": "accuracy, counts (training forward)"})


@app.command("compile", epilog="Example:\n\n  memspike compile lenet.safetensors --out lenet-program.safetensors")
def compile_(
    network: Annotated[Path, typer.Argument(help="Network of counts, from memspike train.")],
    out: Annotated[Path, typer.Option(help="File for the program (.safetensors).")],
    chip: Annotated[str | None, typer.Option(help="Compile for this chip's partial sums; analog (exact) unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compile a network of counts into an exact integer program, and print its text."""
    from memspike import storage
    from memspike.compiler import compile as compile_network
    from memspike.line import program_for
    from memspike.network import QuantizedNetwork

    loaded = storage.load(network, QuantizedNetwork)
    program = program_for(loaded, storage.load_chip(chip)) if chip else compile_network(loaded)
    storage.save(program, out)
    if as_json:
        print(json.dumps({"program": str(out), "digest": program.digest(), "ops": len(program.ops), "notes": program.notes.get("compile")}, indent=2))
    else:
        print(program, end="")


@app.command("map", epilog="Example:\n\n  memspike map lenet-program.safetensors --chip predictive --out lenet-mapping.safetensors")
def map_(
    program: Annotated[Path, typer.Argument(help="Program, from memspike compile or run.")],
    out: Annotated[Path, typer.Option(help="File for the mapping (.safetensors).")],
    chip: ChipName = "predictive",
    copies: Annotated[list[str] | None, typer.Option(metavar="OP=N", help="Copies of a busy layer, as in --copies conv1.sum=4. May be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lay a program's weights on a chip's crossbars."""
    from memspike import storage
    from memspike.mapper import map as map_program
    from memspike.program import Program

    wanted = {name: _integer(number, "--copies") for name, _, number in (text.rpartition("=") for text in copies or [])}
    mapping = map_program(storage.load(program, Program), storage.load_chip(chip), copies=wanted or None)
    storage.save(mapping, out)
    found = {"mapping": str(out), "chip": mapping.chip.name, "crossbars": mapping.num_crossbars, "utilization": mapping.utilization}
    _tell(found, as_json, {"chip": "chip", "crossbars": "crossbars", "utilization": "cells that hold a weight"})


@app.command(epilog="Example:\n\n  memspike simulate program.safetensors --data path/to/mnist --fidelity spike --limit 100 --save run.npz")
def simulate(
    program: Annotated[Path, typer.Argument(help="Program or mapping.")],
    data: Data = "digits",
    fidelity: Annotated[FidelityName, typer.Option(help="ideal: the integers; spike: every timestep of every neuron.")] = FidelityName.ideal,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N test images.")] = None,
    save: Annotated[Path | None, typer.Option(help="File (.npz) for images, scores, labels and activity.")] = None,
    chip: ChipName = "predictive",
    encoder: Annotated[EncoderName, typer.Option(help="How counts become spikes.")] = EncoderName.even,
    neuron: Annotated[NeuronName | None, typer.Option(help="Neuron circuit; the chip's unless given.")] = None,
    raster: Annotated[list[str] | None, typer.Option(metavar="OP", help="Keep this layer's spikes of the first image in the .npz. May be repeated.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Run test images through a program: exact integers, or every spike."""
    from memspike import datasets, storage
    from memspike.mapper import map as map_program
    from memspike.mapping import Mapping
    from memspike.program import Program
    from memspike.simulator import simulate as simulate_mapping

    loaded = storage.load(program)
    if not isinstance(loaded, Program | Mapping):
        raise MemspikeError(f"holds a {type(loaded).__name__}; expected a program or a mapping", where=str(program))
    mapping = loaded if isinstance(loaded, Mapping) else map_program(loaded, storage.load_chip(chip))
    test = datasets.load(data).test
    images, labels = test.counts(mapping.program.input_type.type)[:limit], test.labels[:limit]
    with Listener() as listener:
        result = simulate_mapping(
            mapping, images, fidelity=fidelity.value, encoder=encoder.value, neuron=neuron.value if neuron else None, seed=seed, raster=tuple(raster or ()),
            progress=lambda done, total: listener.images(f"simulate, {fidelity.value}", done, total),
        )  # fmt: skip
    if save:
        storage.save_simulation(save, images, result, labels=labels)
    found = {"accuracy": result.accuracy(labels), "num_images": len(images), "fidelity": fidelity.value, "neuron": result.provenance.neuron}
    _tell(found, as_json, {"accuracy": "accuracy", "num_images": "images", "fidelity": "fidelity", "neuron": "neuron"})


@app.command(epilog="Example:\n\n  memspike estimate lenet-mapping.safetensors run.npz --save cost.json")
def estimate(
    mapping: Annotated[Path, typer.Argument(help="Mapping, from memspike map.")],
    simulation: Annotated[Path, typer.Argument(help="Simulation (.npz) of the same program, from memspike simulate --save.")],
    save: Annotated[Path | None, typer.Option(help="File (.json) for the cost and its rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cost a mapped program: latency, throughput, energy and area, by component and layer."""
    from memspike import storage
    from memspike.estimator import estimate as estimate_mapping
    from memspike.mapping import Mapping
    from memspike.result import Result
    from memspike.units import si

    cost = estimate_mapping(storage.load(mapping, Mapping), storage.load(simulation, Result).activity)
    if save:
        storage.save(cost, save)
    found = {"latency_s": cost.latency, "throughput_hz": cost.throughput, "energy_j": cost.energy, "area_m2": cost.area}
    if as_json:
        print(json.dumps({**found, "components": {k: {"energy_j": e, "area_m2": a} for k, (e, a) in cost.by("component").items()}}, indent=2))
        return
    out = speech.out()
    units = {"latency_s": "s", "throughput_hz": "images/s", "energy_j": "J", "area_m2": "m2"}
    labels = {"latency_s": "latency", "throughput_hz": "throughput, layers pipelined", "energy_j": "energy per image", "area_m2": "area"}
    out.print(_two_columns([(labels[key], si(value, units[key])) for key, value in found.items()]))
    table = Table("component", "energy per image", "area", box=None)
    for name, (energy, area) in cost.by("component").items():
        table.add_row(name, si(energy, "J"), si(area, "m2"))
    out.print(table)


@app.command(epilog="Example:\n\n  memspike report runs/lenet --out lenet.html")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="File for the page (.html).")] = None,
) -> None:
    """Print a finished run's report again, and write its page."""
    from memspike.files import read_bytes
    from memspike.reporter import Report, print_report

    page = Report.from_json(read_bytes(folder / "report.json").decode("utf-8", "replace"))
    print_report(page, speech.out())
    if out:
        page.save(out)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="Any file that memspike wrote.")]) -> None:
    """Say what a file holds; a program is printed as text."""
    from memspike import storage
    from memspike.program import Program

    thing = storage.load(file)
    print(thing if isinstance(thing, Program) else repr(thing), end="" if isinstance(thing, Program) else "\n")


@app.command()
def chips() -> None:
    """List the chips that come with memspike, and how far their numbers can be trusted."""
    from collections import Counter

    from memspike import storage

    table = Table("chip", "what it is", "crossbar", "numbers by standing", box=None)
    for name in storage.chip_names():
        chip = storage.load_chip(name)
        standings = Counter(quantity.standing for quantity in chip.quantities().values()).most_common()
        table.add_row(name, chip.title, f"{chip.crossbar.rows} x {chip.crossbar.columns}", ", ".join(f"{n} {standing}" for standing, n in standings))
    speech.out().print(table)


@app.command()
def doctor() -> None:
    """Print versions and what this machine offers, for a bug report."""
    import platform
    from importlib import metadata

    from memspike.trainer import torch_build

    rows = [("memspike", metadata.version("memspike")), ("python", platform.python_version()), ("platform", platform.platform()), *torch_build().items()]
    try:
        rows.append(("datasets", metadata.version("datasets")))
    except metadata.PackageNotFoundError:
        rows.append(("datasets", "not installed; pip install 'memspike[data]' reads hub data sets and parquet"))
    speech.out().print(_two_columns(rows))


def main() -> None:
    """Run the command line; a user's mistake ends in one clear message and an exit code, never in a traceback."""
    # Threads that wait by spinning make a shared machine several times slower; torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(standalone_mode=True)
    except MemspikeError as error:
        if speech.debug:
            raise
        console = speech.err()
        console.print(f"[bold red]error[/bold red] {escape(_clean(str(error)))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        speech.err().print("interrupted; the same command goes on from the last checkpoint")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `memspike show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # a fault of ours: say so, and keep the traceback for those who ask
        if speech.debug:
            raise
        speech.err().print(f"[bold red]internal error[/bold red] {type(error).__name__}: {escape(_clean(str(error)))}", soft_wrap=True)
        speech.err().print(
            "  this is a fault of memspike; `memspike --debug ...` shows where. Please report it with the output of `memspike doctor`", markup=False
        )
        sys.exit(1)


def _clean(text: str) -> str:
    """Text of a file or network without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _tell(found: dict[str, Any], as_json: bool, labels: dict[str, str]) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    shares = ("accuracy", "utilization")
    rows = [(label, f"{100 * found[key]:.2f} %" if key.startswith(shares) else str(found[key])) for key, label in labels.items()]
    speech.out().print(_two_columns(rows))


def _two_columns(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False)
    for label, value in rows:
        table.add_row(escape(label), escape(value))
    return table


def _layer_bits(texts: list[str] | None) -> tuple[tuple[str, int | None, int | None], ...]:
    found: list[tuple[str, int | None, int | None]] = []
    for text in texts or []:
        pattern, equals, both = text.rpartition("=")
        activation, slash, weight = both.partition("/")
        if not equals or not slash:
            raise MemspikeError(f"--layer-bits {text!r}; expected LAYER=ACTIVATION/WEIGHT", cure="as in fc2=8/6, or conv1=/3 for weights alone")
        found.append((pattern, *(_integer(part, "--layer-bits") if part else None for part in (activation, weight))))
    return tuple(found)


def _integer(text: str, option: str) -> int:
    if not text.isdecimal():
        raise MemspikeError(f"{option}: {text!r} is no whole number")
    return int(text)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise MemspikeError(f"{option} {text!r}; expected numbers with commas between", cure="as in 0.49,0.48,0.45") from error


def _new_folder(order: Any) -> Path:
    """The first folder under runs/ that holds no finished run and no other order's: an interrupted run is found again."""
    from memspike import line

    data = Path(order.data).stem or order.data
    base = f"{order.model}-{data}-a{order.activation_bits}w{order.weight_bits}-seed{order.seed}".replace(":", ".").replace("/", "-")
    return next(path for path in _numbered(Path("runs") / base) if line.is_free(order, path))


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}-{number}")
        number += 1
