"""Rows of the tables: one finished training each, kept in a CSV file; what is there is skipped, what is half-done goes on."""

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as parquet
import torch
from filelock import FileLock
from numpy.typing import NDArray

from memspike import datasets, storage
from memspike.chip import Chip
from memspike.compiler import compile as compile_network
from memspike.files import write_text
from memspike.mapper import map as map_program
from memspike.network import QuantizedNetwork
from memspike.pixels import PixelCode
from memspike.program import Program
from memspike.simulator import simulate
from memspike.trainer import RECIPES, Bits, Recipe, Training, load_model

RESULTS = Path(__file__).parent / "results"
DATA = {"lenet": ("mnist", "ylecun/mnist"), "alexnet_cifar": ("cifar10", "uoft-cs/cifar10"), "resnet20": ("cifar10", "uoft-cs/cifar10")}
SEEDS = {"lenet": 5, "alexnet_cifar": 3, "resnet20": 3}
# Tables that set ways beside each other fine-tune for fewer epochs than the recipe, the same for every way: seeds tell more there than epochs.
BRIEF = {"lenet": 3, "alexnet_cifar": 5, "resnet20": 6}
# Stages that torch.compile is worth its minute for, on a processor. By hand, ms of a step of 128 images, eager and compiled, one thread of a Xeon with AMX:
# ResNet-20 191 and 150 in floating point, 367 and 214 in counts with a teacher; AlexNet 125 and 128, 225 and 178.
COMPILED = {"lenet": (), "alexnet_cifar": ("counts",), "resnet20": ("float", "counts")}
TITLES = {"lenet": "LeNet on MNIST", "alexnet_cifar": "AlexNet on CIFAR-10", "resnet20": "ResNet-20 on CIFAR-10"}


@dataclass(frozen=True)
class Method:
    """A way from the floating-point network to few bits: a training of `changes` to the network's recipe, or none (`kind` direct, dynamic_fixed_point).

    `activation` and `weight` say which halves are quantised; a half that is not stays in floating point, and there is no program then. `image` are bits of
    the image's own, its `pixels` counted so, with `fit` in the range that suits the training images. A `brief` one fine-tunes for BRIEF epochs instead of
    the recipe's. It is tried on its `networks`, at `only` these bits if any are named.
    """

    name: str
    kind: str = "trained"
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    activation: bool = True
    weight: bool = True
    image: int | None = None
    pixels: PixelCode = PixelCode()
    fit: bool = False
    brief: bool = False
    networks: tuple[str, ...] = tuple(DATA)
    only: tuple[int, ...] = ()

    def folder(self, bits: int) -> str:
        """Where its checkpoints go, beside those of other methods and bits."""
        half = "" if self.activation and self.weight else "-activations" if self.activation else "-weights"
        return f"{self.name}-{bits}{half}{'-brief' * self.brief}".replace(" ", "-").replace(",", "")

    def recipe(self, network: str) -> Recipe:
        """The network's recipe with this method's changes. Without a regulariser the epochs of its stage are fine-tuning too: all ways take equally many."""
        recipe = RECIPES[network]
        recipe = replace(recipe, finetune_epochs=BRIEF[network] if self.brief else recipe.finetune_epochs, **self.changes)
        return replace(recipe, finetune_epochs=recipe.finetune_epochs + recipe.convergence_epochs) if recipe.regularizer == "none" else recipe

    def epochs(self, network: str) -> int:
        """How many epochs after the floating-point training, and as many as the control is given."""
        recipe = self.recipe(network)
        pulled = recipe.convergence_epochs if recipe.regularizer != "none" and self.activation else 0
        return recipe.finetune_epochs + pulled if self.kind == "trained" else 0

    def bits(self, number: int) -> Bits:
        return Bits(number if self.activation else None, number if self.weight else None, self.image, pixels=self.pixels)


@dataclass(frozen=True)
class Row:
    """One finished training. Accuracies are shares of all test images; `won` and `lost` are images classified rightly only by the quantised network, and
    only by the floating-point one of the same seed; `epochs` are those after the floating-point training, which the control had too."""

    table: str
    network: str
    data: str
    activation_bits: str
    weight_bits: str
    image_bits: str
    method: str
    seed: int
    epochs: int
    accuracy_fp32: float
    accuracy_fp32_control: float
    accuracy_program: float
    changed_predictions: str
    won: int
    lost: int
    seconds: float
    precision: str
    device: str
    version: str
    program_digest: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.network, self.activation_bits, self.weight_bits, self.method, str(self.seed))


def read(table: str) -> list[Row]:
    """The finished rows of a table."""
    path = RESULTS / f"{table}.csv"
    if not path.exists():
        return []
    kinds = {item.name: cast(Callable[[str], Any], item.type) for item in fields(Row)}
    with path.open(newline="") as file:
        return [Row(**{name: kinds[name](value) for name, value in line.items()}) for line in csv.DictReader(file)]


def write(table: str, rows: Iterable[Row]) -> None:
    """All rows of a table, in an order that does not depend on when they were finished; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([item.name for item in fields(Row)])
    for row in sorted(rows, key=lambda row: row.key):
        writer.writerow([f"{value:.4f}" if item.type is float else value for item in fields(Row) for value in (getattr(row, item.name),)])
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / f"{table}.csv", text.getvalue())


def add(row: Row, runs: Path) -> None:
    """Write one more row, in place of the one of its key; trainings that end at the same moment wait for each other."""
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / f"{row.table}.lock"):
        write(row.table, [*(known for known in read(row.table) if known.key != row.key), row])


@dataclass(frozen=True)
class Aims:
    """What a table is held against: `paper` and `goals` are losses in points by network and bits, the paper's as it has them, the goals for means over seeds;
    `plain_goals` are those against fp32 without further epochs.

    `subject` is the method that a table is about; it should be ahead of the methods in `beats`. `tried` says what was done about goals that are missed.
    """

    paper: dict[str, str] = field(default_factory=dict[str, str])
    goals: dict[str, float] = field(default_factory=dict[str, float])
    plain_goals: dict[str, float] = field(default_factory=dict[str, float])
    subject: str = ""
    beats: tuple[str, ...] = ()
    tried: str = ""


class Bench:
    """Trains what a table lacks. Floating-point networks and their controls lie in `runs` and serve every table.

    A `brief` table fine-tunes for BRIEF epochs.
    """

    def __init__(self, table: str, title: str, methods: Sequence[Method], bits: Sequence[int], aims: Aims | None = None, brief: bool = False) -> None:
        self.table, self.title, self.bits, self.aims = table, title, tuple(bits), aims or Aims()
        self.methods = tuple(replace(method, brief=brief) for method in methods)

    def ways(self, network: str) -> list[tuple[Method, int]]:
        """The rows that a seed of the network has: method and bits."""
        tried = (method for method in self.methods if network in method.networks)
        return [(method, bits) for method in tried for bits in self.bits if not method.only or bits in method.only]

    def main(self) -> None:
        """The command line of a table."""
        parser = argparse.ArgumentParser(description=f"{self.title}. Finished rows are skipped; half-trained ones go on.")
        parser.add_argument("--networks", nargs="+", default=list(DATA), choices=list(DATA))
        parser.add_argument("--seeds", type=int, help="how many, from 0 on (default: 5 on MNIST, 3 on CIFAR-10)")
        parser.add_argument("--bits", nargs="+", type=int, default=self.bits, choices=self.bits, help="only these for now")
        common_options(parser)
        parser.add_argument("--device", default="cpu")
        parser.add_argument("--jobs", type=_number, default=1, help="so many trainings at once, each a process with its share of the processor's threads")
        parser.add_argument("--print", action="store_true", help="train nothing: print the rows that are there")
        asked = parser.parse_args()
        if not asked.print:
            done = {row.key for row in read(self.table)}
            wanted: Wanted = {}
            for network in asked.networks:
                for seed in range(asked.seeds or SEEDS[network]):
                    ways = [way for way in self.ways(network) if way[1] in asked.bits and _key(network, *way, seed) not in done]
                    if ways:
                        wanted[network, seed] = ways
            in_turn(self.table, wanted, asked) if asked.jobs == 1 else at_once(self.table, wanted, asked)
        print(f"# {self.title}\n")
        for line in table_lines(read(self.table), self.aims):
            print(line)


def common_options(parser: argparse.ArgumentParser) -> None:
    """What every command here asks: where the data lie, where checkpoints go, and whether what is trained on a processor goes through torch.compile."""
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEMSPIKE_DATA", "../shared/data")), help="folder with mnist/ and cifar10/")
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="where checkpoints go, those of table 4 for all commands")
    without = "train without torch.compile, which takes a C++ compiler; also to use checkpoints that were made so, as on CUDA"
    parser.add_argument("--no-compile", dest="compile", action="store_false", help=without)


Wanted = dict[tuple[str, int], list[tuple[Method, int]]]  # rows that a table lacks, method and bits, by network and seed


def in_turn(table: str, wanted: Wanted, asked: argparse.Namespace) -> None:
    """One training after the other."""
    for (network, seed), ways in wanted.items():
        floating = _floating(network, seed, asked)
        for method, bits in ways:
            add(floating.row(table, method, bits)[0], asked.runs)


def at_once(table: str, wanted: Wanted, asked: argparse.Namespace) -> None:
    """`asked.jobs` processes: first what the rows of a seed share, its floating-point network and controls, then the rows."""
    threads = max(1, (os.cpu_count() or 1) // asked.jobs)
    with ProcessPoolExecutor(asked.jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        shared = {
            pool.submit(_share, network, seed, {method.epochs(network) for method, _ in ways}, asked): (network, seed)
            for (network, seed), ways in wanted.items()
        }
        rows: list[Future[None]] = []
        for ready in as_completed(shared):
            ready.result()
            network, seed = shared[ready]
            rows += [pool.submit(_row, table, network, seed, method, bits, asked) for method, bits in wanted[network, seed]]
        for row in as_completed(rows):
            row.result()


def _share(network: str, seed: int, epochs: set[int], asked: argparse.Namespace) -> None:
    floating = _floating(network, seed, asked)
    for number in sorted(epochs):
        floating.control(number)


def _row(table: str, network: str, seed: int, method: Method, bits: int, asked: argparse.Namespace) -> None:
    add(_floating(network, seed, asked).row(table, method, bits)[0], asked.runs)


def _floating(network: str, seed: int, asked: argparse.Namespace) -> "Floating":
    return Floating(network, seed, data_of(network, asked.data), asked.runs, asked.device, asked.compile)


@lru_cache(maxsize=2)
def data_of(network: str, folder: Path) -> datasets.Dataset:
    """What the network is trained on: the copy in `folder`, or the hub's."""
    local, hub = DATA[network]
    return load_data(folder / local, hub)


class Floating:
    """One network trained in floating point from one seed, and what is made of it; on a processor through torch.compile where that pays, unless `compile` is
    false."""

    def __init__(self, network: str, seed: int, data: datasets.Dataset, runs: Path, device: str, compile: bool = True) -> None:
        self.network, self.seed, self.data, self.device = network, seed, data, device
        self.compiled = COMPILED[network] if compile and device == "cpu" else ()
        self.folder = runs / f"{network}-{seed}"
        training = self.training(RECIPES[network], Bits(), self.folder / "float", None, "float")
        with self._one_of_many():
            self.net = training.floating()
        self.accuracy = float(training.notes["accuracy_fp32"])
        self.predictions = training.predictions(self.net)
        self.state = self.net.model.state_dict()

    def row(self, table: str, method: Method, bits: int) -> tuple[Row, Program | None]:
        """Train (or round) by a method, compile, and classify all test images with the program, if both halves are quantised."""
        started, version_now = time.monotonic(), build()
        recipe, chosen = method.recipe(self.network), method.bits(bits)
        if method.fit and chosen.image_type is not None:
            chosen = replace(chosen, pixels=chosen.pixels.fitted(self.data.train.images, chosen.image_type))
        folder = self.folder / method.folder(bits)
        training = self.training(recipe, chosen, folder, self.state)
        training.floating()
        epochs, changed = method.epochs(self.network), ""
        if method.kind == "dynamic_fixed_point":
            frozen, forward = training.baselines(self.net)[1], None
        else:
            net = training.counts(self.net) if method.kind == "trained" else training.rounded(self.net)
            frozen, forward = training.freeze(net) if method.activation and method.weight else None, training.predictions(net)
        program = compile_network(frozen) if frozen is not None else None
        precision = f"{training.all_notes()['precision']}{', compiled' * (training.compiled and method.kind == 'trained')}"
        predictions = forward if program is None else self._classify(program)
        assert predictions is not None
        if program is not None and forward is not None:
            changed = str(int((predictions != forward).sum()))
        right, was_right = (found == self.data.test.labels for found in (predictions, self.predictions))
        row = Row(
            table, self.network, self.data.name, str(chosen.activation or "fp32"), str(chosen.weight or "fp32"), _image_bits(frozen, chosen), method.name,
            self.seed, epochs, self.accuracy, self.control(epochs), float(right.mean()), changed, int((right & ~was_right).sum()),
            int((was_right & ~right).sum()), time.monotonic() - started, precision, _device(self.device), version_now,
            program.digest() if program else "",
        )  # fmt: skip
        return row, program

    def control(self, epochs: int) -> float:
        """Accuracy in floating point after as many further epochs, at the rates of fine-tuning."""
        if epochs == 0:
            return self.accuracy
        recipe = replace(RECIPES[self.network], finetune_epochs=epochs, regularizer="none")
        training = self.training(recipe, Bits(), self.folder / f"control-{epochs}", self.state, "float")
        with self._one_of_many():
            training.control(training.floating())
        return float(training.notes["accuracy_fp32_control"])

    def _one_of_many(self) -> FileLock:
        """What several tables share is trained by whoever comes first; the others wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "shared.lock")

    def _classify(self, program: Program) -> NDArray[np.int64]:
        counts = program.count_pixels(self.data.test.images)
        return simulate(map_program(program, _boundless()), counts).predictions

    def training(self, recipe: Recipe, bits: Bits, folder: Path, state: dict[str, torch.Tensor] | None, stage: str = "counts") -> Training:
        """This network's training from `state`, or from its first weights, for its "float" or its "counts" stage."""
        channels, classes = self.data.train.images.shape[1], len(self.data.classes)
        model = load_model(self.network, channels, classes, self.seed)
        return Training(
            model, self.data, name=self.network, bits=bits, recipe=recipe, seed=self.seed, pretrained=state, folder=folder, device=self.device,
            compiled=stage in self.compiled, watcher=Watcher(f"{folder.parent.name}/{folder.name}"),
        )  # fmt: skip


class Watcher:
    """One line per epoch, on stderr."""

    def __init__(self, what: str) -> None:
        self.what, self._started = what, time.monotonic()

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        seconds = time.monotonic() - self._started
        print(f"{self.what}: {stage} {epoch}/{epochs}, loss {loss:.4f}, {accuracy:.2%} of the test images, {seconds:.0f} s", file=sys.stderr, flush=True)


def table_lines(rows: Sequence[Row], aims: Aims) -> list[str]:
    """A Markdown table: a line per network, bits and method, means and standard deviations over seeds, losses in points.

    Where the aims have a subject, every other method's line says by how much that method is ahead of it, over the seeds that both have.
    """
    heads = ("network, data", "activation / weight bits", "method", "seeds", "fp32", "fp32, same further epochs", "program", "loss, points")
    heads += (*["goal"] * bool(aims.goals), "against plain fp32", "won : lost", "predictions that compiling changed")
    heads += (*["paper's loss"] * bool(aims.paper), *[f"{aims.subject} minus this, points"] * bool(aims.subject))
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key[:-1], []).append(row)
    for members in groups.values():
        first = members[0]
        place = f"{first.network} {first.activation_bits}"
        losses = [100 * (row.accuracy_fp32_control - row.accuracy_program) for row in members]
        plain = [100 * (row.accuracy_fp32 - row.accuracy_program) for row in members]
        changed = sum(int(row.changed_predictions or 0) for row in members) if first.changed_predictions else "-"
        cells = [
            f"{TITLES[first.network].split(' on ')[0]}, {first.data}",
            f"{first.activation_bits} / {first.weight_bits}",
            first.method,
            len(members),
            *(spread([100 * getattr(row, name) for row in members]) for name in ("accuracy_fp32", "accuracy_fp32_control", "accuracy_program")),
            spread(losses),
            *[_goal(losses, aims.goals.get(place))] * bool(aims.goals),
            spread(plain) + (f" (goal {_goal(plain, aims.plain_goals[place])})" if place in aims.plain_goals else ""),
            f"{sum(row.won for row in members)} : {sum(row.lost for row in members)}",
            changed,
            *[aims.paper.get(place, "-")] * bool(aims.paper),
            *[_ahead(rows, members, aims)] * bool(aims.subject),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _number(said: str) -> int:
    if not said.isdecimal() or int(said) < 1:
        raise argparse.ArgumentTypeError(f"{said!r} is no number of trainings, 1 or more")
    return int(said)


def _goal(losses: Sequence[float], goal: float | None) -> str:
    """A goal, and whether the mean misses it; images are whole, so a ten thousandth of a point is none."""
    return "-" if goal is None else f"{goal}{', missed' * (statistics.mean(losses) > goal + 1e-4)}"


def _ahead(rows: Sequence[Row], theirs: Sequence[Row], aims: Aims) -> str:
    """How many points more the subject of a table has than these rows of another method, seed by seed."""
    if theirs[0].method == aims.subject:
        return "-"
    before = {row.seed: row.accuracy_program for row in theirs}
    ours = [row for row in rows if row.key[:3] == theirs[0].key[:3] and row.method == aims.subject and row.seed in before]
    points = [100 * (row.accuracy_program - before[row.seed]) for row in ours]
    missed = theirs[0].method in aims.beats and bool(points) and statistics.mean(points) < -1e-4
    fewer = f" ({len(points)} seed{'s' * (len(points) > 1)})" if len(points) < len(theirs) else ""
    return f"{spread(points)}{fewer}{', behind' * missed}" if points else "-"


def spread(values: Sequence[float]) -> str:
    mean = round(statistics.mean(values), 2) + 0.0  # no minus before nothing
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def load_data(folder: Path, hub: str) -> datasets.Dataset:
    """The local copy if there is one, else the hub's; a copy recompressed as JPEG carries that in its name."""
    if not folder.is_dir():
        return datasets.load(hub)
    data = datasets.load(folder)
    path = next(folder.glob("**/test*.parquet"))
    image = next(parquet.ParquetFile(path).iter_batches(1)).to_pylist()[0]
    is_jpeg = next(value for value in image.values() if isinstance(value, dict))["bytes"].startswith(b"\xff\xd8")
    name = {"mnist": "MNIST", "cifar10": "CIFAR-10"}[folder.name]
    return replace(data, name=f"{name} (JPEG)" if is_jpeg else name)


def _key(network: str, method: Method, bits: int, seed: int) -> tuple[str, ...]:
    chosen = method.bits(bits)
    return (network, str(chosen.activation or "fp32"), str(chosen.weight or "fp32"), method.name, str(seed))


def _image_bits(frozen: QuantizedNetwork | None, bits: Bits) -> str:
    return str(frozen.input_type.bits if frozen is not None else bits.activation or "fp32")


def _device(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"


@lru_cache(maxsize=1)
def build() -> str:
    """The version of memspike, and in a repository the last commit that changed the package, with a mark where it was changed since."""
    package = Path(__file__).parents[1] / "src"
    try:
        commit, changed = (
            subprocess.run(["git", "-C", str(package), *words, "--", "."], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("log", "-1", "--format=%h"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        commit = changed = ""
    return version("memspike") + f"+g{commit}" * bool(commit) + ".changed" * bool(changed)


def _boundless() -> Chip:
    """A chip on which any network fits: only the integers are wanted here."""
    chip = storage.load_chip("predictive")
    return replace(chip, name="boundless", crossbar=replace(chip.crossbar, rows=4096, columns=4096))
