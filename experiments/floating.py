"""A network trained in floating point from one seed, and the rows that are made of it; what is half-trained goes on."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import kept
import numpy as np
import pyarrow.parquet as parquet
import torch
from filelock import FileLock
from methods import DATA, Method
from numpy.typing import NDArray
from rows import Row, control

from memspike import datasets, storage
from memspike.chip import Chip
from memspike.compiler import compile as compile_network
from memspike.mapper import map as map_program
from memspike.network import QuantizedNetwork
from memspike.program import Program
from memspike.simulator import simulate
from memspike.trainer import RECIPES, Bits, Recipe, Training, load_model

# Stages that torch.compile is worth its minute for, on a processor. By hand, ms of a step of 128 images, eager and compiled, one thread of a Xeon with AMX:
# ResNet-20 191 and 150 in floating point, 367 and 214 in counts with a teacher; AlexNet 125 and 128, 225 and 178.
COMPILED = {"lenet": (), "alexnet_cifar": ("counts",), "resnet20": ("float", "counts")}
EPOCHS = "epochs.jsonl"  # in the folder of a training, beside its checkpoints
UNKNOWN = {"precision": "unknown", "device": "unknown", "version": "unknown", "seconds": 0.0}  # of epochs that nobody noted


class Floating:
    """One network trained in floating point from one seed, or kept so in the repository (unless it is to be `anew`), and what is made of it; on a processor
    through torch.compile where that pays, unless `compile` is false."""

    def __init__(self, network: str, seed: int, data: datasets.Dataset, runs: Path, device: str, compile: bool = True, anew: bool = False) -> None:
        self.network, self.seed, self.data, self.device = network, seed, data, device
        self.compiled = COMPILED[network] if compile and device == "cpu" else ()
        self.origin = kept.origin(network, seed, data.digest, RECIPES[network])
        state = None if anew else kept.read(self.origin)
        self.is_kept = state is not None
        self.folder = runs / f"{network}-{seed}{'-kept' * self.is_kept}"
        training = self.training(RECIPES[network], Bits(), self.folder / "float", state, "float")
        with self._one_of_many():
            self.net = training.floating()
        self.accuracy = float(training.notes["accuracy_fp32"])
        self.predictions = training.predictions(self.net)
        self.state = self.net.model.state_dict()

    def row(self, table: str, method: Method, bits: int) -> tuple[Row, Program | None]:
        """Train (or round) by a method, compile, and classify all test images with the program, if both halves are quantised."""
        started = time.monotonic()
        training = self.counting(method, bits)
        training.floating()
        chosen = training.bits
        epochs, changed = method.epochs(self.network), ""
        if method.kind == "dynamic_fixed_point":
            frozen, forward = training.baselines(self.net)[1], None
        else:
            net = training.rounded(self.net) if method.kind == "direct" else training.counts(self.net)
            frozen, forward = training.freeze(net) if method.activation and method.weight else None, training.predictions(net)
        program = compile_network(frozen) if frozen is not None else None
        predictions = forward if program is None else self._classify(program)
        assert predictions is not None
        if program is not None and forward is not None:
            changed = str(int((predictions != forward).sum()))
        right, was_right = (found == self.data.test.labels for found in (predictions, self.predictions))
        rounded = {**self._maker(training, is_compiled=False), "seconds": time.monotonic() - started}
        trained = (epochs_in(self.folder / method.folder(bits)) or [UNKNOWN]) if epochs else [rounded]
        seconds = sum(float(epoch["seconds"]) for epoch in trained)
        precision, device, made_by = (" and ".join(dict.fromkeys(str(epoch[name]) for epoch in trained)) for name in ("precision", "device", "version"))
        row = Row(
            table, self.network, self.data.name, str(chosen.activation or "fp32"), str(chosen.weight or "fp32"), _image_bits(frozen, chosen), method.name,
            self.seed, epochs, self.accuracy, self.control(epochs), float(right.mean()), changed, int((right & ~was_right).sum()),
            int((was_right & ~right).sum()), seconds, precision, device, made_by, program.digest() if program else "", self.digest(),
            self.control_said(epochs),
        )  # fmt: skip
        return row, program

    def control(self, epochs: int) -> float:
        """Accuracy in floating point after as many further epochs, at the rates of fine-tuning: of a row that has it, else trained."""
        if epochs == 0:
            return self.accuracy
        if (known := control(self.digest(), self.control_said(epochs))) is not None:
            return known
        recipe = replace(RECIPES[self.network], finetune_epochs=epochs, regularizer="none")
        training = self.training(recipe, Bits(), self.folder / f"control-{epochs}", self.state, "float")
        with self._one_of_many():
            training.control(training.floating())
        return float(training.notes["accuracy_fp32_control"])

    def control_said(self, epochs: int) -> str:
        """How a control is trained: all that it depends on but its network and whoever trains it, his precision and processor."""
        recipe = RECIPES[self.network]
        moved = f"moved by {'a sixteenth' if recipe.shift is None else recipe.shift}{', mirrored' * recipe.flip}"
        return f"{epochs} epochs at {recipe.finetune_learning_rate:g} in batches of {recipe.batch_size}, {moved}" if epochs else ""

    def _one_of_many(self) -> FileLock:
        """What several tables share is trained by whoever comes first; the others wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "shared.lock")

    def _classify(self, program: Program) -> NDArray[np.int64]:
        counts = program.count_pixels(self.data.test.images)
        return simulate(map_program(program, _boundless()), counts).predictions

    def counting(self, method: Method, bits: int) -> Training:
        """The training of a method from this network, where its checkpoints are or go."""
        chosen = method.bits(bits)
        if method.fit and chosen.image_type is not None:
            chosen = replace(chosen, pixels=chosen.pixels.fitted(self.data.train.images, chosen.image_type))
        return self.training(method.recipe(self.network), chosen, self.folder / method.folder(bits), self.state)

    def training(self, recipe: Recipe, bits: Bits, folder: Path, state: dict[str, torch.Tensor] | None, stage: str = "counts") -> Training:
        """This network's training from `state`, or from its first weights, for its "float" or its "counts" stage."""
        channels, classes = self.data.train.images.shape[1], len(self.data.classes)
        model, watcher = load_model(self.network, channels, classes, self.seed), Watcher(folder)
        training = Training(
            model, self.data, name=self.network, bits=bits, recipe=recipe, seed=self.seed, pretrained=state, folder=folder, device=self.device,
            compiled=stage in self.compiled, watcher=watcher,
        )  # fmt: skip
        watcher.maker = self._maker(training, training.compiled)
        return training

    def _maker(self, training: Training, is_compiled: bool) -> dict[str, str]:
        """What computes here and now."""
        precision = f"{training.all_notes()['precision']}{', compiled' * is_compiled}"
        return {"precision": precision, "device": device_name(self.device), "version": build()}

    def digest(self) -> str:
        """Of its weights: rows of one digest started from the same network."""
        return kept.digest(self.state)

    def keep(self) -> Path:
        """Put it into the repository, with what is known of its training."""
        trained = epochs_in(self.folder / "float")
        notes = {name: " and ".join(dict.fromkeys(str(epoch[name]) for epoch in trained)) for name in ("precision", "device", "version")}
        return kept.write(self.state, self.origin, {"data": self.data.name, "accuracy_fp32": self.accuracy, "torch": torch.__version__, **notes})


class Watcher:
    """One line per epoch: on stderr for who waits, and beside the checkpoints, with its `maker`, for the row that comes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.maker = folder, dict[str, str]()
        self._since = time.monotonic()

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        with (self.folder / EPOCHS).open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"stage": stage, "epoch": epoch, "seconds": round(seconds, 1), **self.maker}))
        what = f"{self.folder.parent.name}/{self.folder.name}"
        print(f"{what}: {stage} {epoch}/{epochs}, loss {loss:.4f}, {accuracy:.2%} of the test images, {seconds:.0f} s", file=sys.stderr, flush=True)


def epochs_in(folder: Path) -> list[dict[str, str | float]]:
    """The epochs that were trained in a folder, as its watchers noted them: an epoch that was trained again counts once, and one whose note was cut off was
    trained again."""
    path, found = folder / EPOCHS, dict[tuple[str, int], dict[str, str | float]]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            epoch = json.loads(line)
            found[epoch["stage"], epoch["epoch"]] = epoch
    return list(found.values())


@lru_cache(maxsize=2)
def data_of(network: str, folder: Path) -> datasets.Dataset:
    """What the network is trained on: the copy in `folder`, or the hub's."""
    local, hub = DATA[network]
    return load_data(folder / local, hub)


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


def _image_bits(frozen: QuantizedNetwork | None, bits: Bits) -> str:
    return str(frozen.input_type.bits if frozen is not None else bits.activation or "fp32")


def device_name(device: str) -> str:
    """What computes: a GPU's name, or the processor's and how many threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in known.read_text().splitlines() if line.startswith("model name")] if known.exists() else []
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
