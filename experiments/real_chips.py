"""Real chips: what trained networks score on memristors that exist, before and after training for them and mapping around stuck cells.

Run: python experiments/real_chips.py lenet --data ../shared/data/mnist --training runs/lenet.safetensors.training
     python experiments/real_chips.py alexnet --data ../shared/data/cifar10 --training runs/alexnet.safetensors.training
The training folder is what `memspike train --model lenet --bits 4 --out runs/lenet.safetensors` leaves; what is missing there is trained first.
Every chip is a row of results/real_chips_<network>.csv. Rows that are there are not simulated again, so the same command goes on where it stopped,
and several may run at the same time, each with some of the --cases. The tables are printed from the rows. With --perfect, chips without any imperfection
are compared with spikes and with the program instead, every value of every layer of every test image; the answer goes to results/perfect_chips.csv.
"""

import argparse
import csv
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rows import alone

import memspike as ms
from memspike.chip import Chip
from memspike.compiler import Repeat
from memspike.ensemble import Ensemble
from memspike.files import write_text
from memspike.mapping import AVOID
from memspike.montecarlo import Design
from memspike.program import Program
from memspike.simulator import simulate
from memspike.storage import load_chip, load_device
from memspike.trainer import Bits, Hardening, Training, load_model, recipe_for

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("case", "network", "chip", "accuracy", "ideal", "changed", "images", "seconds", "program", "design")
DAY = 86400.0
HFOX, STUCK = "wan2022-hfox", "chen2017-stuck"


@dataclass(frozen=True, slots=True)
class Case:
    """`chips` chips of one design; `design` makes it from a program and the plain chip, `network` names the training it takes; `before` names the case whose
    loss it is to recover."""

    name: str
    network: str
    design: Callable[[Program, Chip], Design]
    chips: int
    before: str = ""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A network on its data set: `model` by its name, the side of its square crossbars, and for how many epochs it is trained for a device."""

    model: str
    size: int
    hardening_epochs: int
    cases: tuple[Case, ...]


def hfox(program: Program, chip: Chip) -> Design:
    """Wan et al. 2022 after one day, 1 % read noise, and the chip's 2.82 ohm wires."""
    return Design(program, chip.with_device(load_device(HFOX)), time=DAY)


def stuck(program: Program, chip: Chip) -> Design:
    """The same with 9.04 % of the cells stuck at low and 1.75 % at high conductance (Chen et al., DATE 2017)."""
    return Design(program, chip.with_device(replace(load_device(HFOX), stuck=load_device(STUCK).stuck)), time=DAY)


def only_stuck(program: Program, chip: Chip) -> Design:
    """Nothing but those stuck cells."""
    design = stuck(program, chip)
    return replace(design, chip=design.chip.only("stuck"), time=0.0)


def around(design: Callable[[Program, Chip], Design], *avoid: str, spare: int = 0) -> Callable[[Program, Chip], Design]:
    """The same design mapped around its stuck cells, in these ways or in all."""
    ways = tuple(way for way in AVOID if not avoid or way in avoid)
    return lambda program, chip: replace(design(program, chip), around_faults=True, avoid=ways, spare_columns=spare)


def repeated(design: Callable[[Program, Chip], Design], times: int) -> Callable[[Program, Chip], Design]:
    """The same design with the first layer, on which all others rest, written so many times."""
    return lambda program, chip: design(Repeat(program.ops[0].out, times).apply(program), chip)


def with_first_layer_repeated(many: int) -> tuple[Case, ...]:
    """Chips whose first layer is written eight times (1 % more cells in AlexNet), and so errs by about a third."""
    both = repeated(around(stuck), 8)
    return (
        Case("HfOx, first layer 8 times", "trained", repeated(hfox, 8), many, "HfOx"),
        Case("HfOx, first layer 8 times, trained for it", "for HfOx", repeated(hfox, 8), many, "HfOx"),
        Case("HfOx and stuck cells, around them, first layer 8 times, trained for HfOx", "for HfOx", both, many, "HfOx and stuck cells"),
    )


def cases(many: int, some: int) -> tuple[Case, ...]:
    """What the tables show, `many` chips for the main rows and `some` for each way around stuck cells by itself."""
    singly = [Case(f"stuck cells alone, around by {way}", "trained", around(only_stuck, way), some, "stuck cells alone") for way in AVOID]
    return (
        Case("HfOx", "trained", hfox, many),
        Case("HfOx, trained for it", "for HfOx", hfox, many, "HfOx"),
        Case("HfOx and stuck cells", "trained", stuck, many),
        Case("HfOx and stuck cells, around them", "trained", around(stuck), many, "HfOx and stuck cells"),
        Case("HfOx and stuck cells, trained for HfOx", "for HfOx", stuck, some, "HfOx and stuck cells"),
        Case("HfOx and stuck cells, around them and trained for HfOx", "for HfOx", around(stuck), many, "HfOx and stuck cells"),
        Case("stuck cells alone", "trained", only_stuck, some),
        *singly,
        Case("stuck cells alone, around by all four", "trained", around(only_stuck), some, "stuck cells alone"),
        Case("stuck cells alone, around by all four, 2 spare pairs", "trained", around(only_stuck, spare=2), some, "stuck cells alone"),
    )


EXPERIMENTS = {
    "lenet": Experiment("lenet", 32, 3, cases(100, 10)),
    # 2048 rows of its first dense layer need 64 crossbars of 32 rows on one integrator; with 64 rows they need 32, the most that the chip has.
    "alexnet": Experiment("alexnet_cifar", 64, 3, cases(10, 3) + with_first_layer_repeated(10)),
}


class Bench:
    """The networks of one experiment, trained when they are first asked for, and the test images."""

    def __init__(self, experiment: Experiment, data: str, folder: Path, changes: dict[str, int], images: int | None = None) -> None:
        self.experiment, self.folder, self.data, self.changes, self.images = experiment, folder, ms.datasets.load(data), changes, images
        self.chip = load_chip("predictive")
        size = experiment.size
        self.chip = replace(self.chip, crossbar=replace(self.chip.crossbar, rows=size, columns=size))
        self._programs: dict[str, Program] = {}

    @cached_property
    def training(self) -> Training:
        model = load_model(self.experiment.model, self.data.train.images.shape[1], len(self.data.classes), 0)
        recipe = replace(recipe_for(model), **self.changes)
        name, bits = self.experiment.model, Bits(4, 4)
        return Training(model, self.data, name=name, bits=bits, recipe=recipe, seed=0, folder=self.folder, watcher=Watcher())

    def program(self, network: str) -> Program:
        """The program of "trained", or of "for HfOx"."""
        if network not in self._programs:
            floating = self.training.floating()
            net = self.training.counts(floating)
            if network == "for HfOx":
                epochs = self.experiment.hardening_epochs
                net = self.training.harden(net, floating, Hardening(load_device(HFOX), DAY, self.chip.bits_per_cell, epochs))
            self._programs[network] = ms.compile(self.training.freeze(net))
        return self._programs[network]


class Watcher:
    """Says each epoch on standard error."""

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        print(f"{stage} {epoch}/{epochs}: loss {loss:.4f}, accuracy {100 * accuracy:.2f} %", file=sys.stderr, flush=True)


def measure(bench: Bench, chosen: Sequence[Case], path: Path, command: str) -> None:
    """Simulate every chip of these cases whose row is not there yet."""
    images: np.ndarray | None = None
    for case in chosen:
        missing = [number for number in range(case.chips) if (case.name, number) not in {(row["case"], int(row["chip"])) for row in rows_of(path)}]
        if not missing:
            continue
        program = bench.program(case.network)
        images = program.count_pixels(bench.data.test.images)[: bench.images] if images is None else images
        labels, design = bench.data.test.labels[: bench.images], case.design(program, bench.chip)
        made = program.digest()[:16], design.chip.digest()[:16], str(len(labels))
        for row in rows_of(path):
            if row["case"] == case.name and (row["program"], row["design"], row["images"]) != made:
                sys.exit(f"{path}: the rows of {case.name!r} are of another network, chip or number of images; move the file away to begin anew")
        ideal = simulate(ms.map(program, bench.chip), images)
        for number in missing:
            started = time.perf_counter()
            found = simulate(design.mapping(number), images, fidelity="analog", seed=number, time=design.time)
            seconds = time.perf_counter() - started
            changed = int((found.predictions != ideal.predictions).sum())
            row = (case.name, case.network, number, found.accuracy(labels), ideal.accuracy(labels), changed, len(labels), f"{seconds:.2f}")
            append(path, (*row, *made[:2]), command)
            print(f"{case.name}: chip {number}, {100 * found.accuracy(labels):.2f} % of {100 * ideal.accuracy(labels):.2f} %", file=sys.stderr, flush=True)


def compare(bench: Bench, network: str, path: Path, command: str) -> None:
    """A perfect chip in fidelity "analog" against spikes and against the program's own interpreter: values that differ, in the whole test set."""
    program, chip = bench.program("trained"), bench.chip.with_device(load_device(HFOX)).only()
    images, labels = program.count_pixels(bench.data.test.images), bench.data.test.labels
    mapping, names = ms.map(program, chip), [op.out for op in program.ops]
    compared = spiked = meant = right = 0
    for start in range(0, len(images), 500):
        part = images[start : start + 500]
        analog, spike = (simulate(mapping, part, fidelity=fidelity, record=names) for fidelity in ("analog", "spike"))
        truth = program.evaluate_all(part)
        for name in names:
            compared += truth[name].size
            spiked += int((analog.spike_counts[name] != spike.spike_counts[name]).sum())
            meant += int((analog.spike_counts[name] != truth[name]).sum())
        right += int((analog.predictions == labels[start : start + 500]).sum())
        print(f"perfect {network}: {start + len(part)} images, {spiked} and {meant} values differ", file=sys.stderr, flush=True)
    if not path.exists():
        path.write_text("command,network,images,values,differ_from_spikes,differ_from_program,accuracy,program\n")
    with path.open("a") as file:
        file.write(f"{command},{network},{len(images)},{compared},{spiked},{meant},{right / len(images)},{program.digest()[:16]}\n")
    print(path.read_text(), end="")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#"))) if path.exists() else []


def append(path: Path, row: Sequence[object], command: str) -> None:
    """One more row; several processes may fill a table, and a chip that two of them simulated is there once."""
    with alone(path):
        if (row[0], str(row[2])) in {(known["case"], known["chip"]) for known in rows_of(path)}:
            return
        before = path.read_text() if path.exists() else f"# {command}\n{','.join(COLUMNS)}\n"
        write_text(path, before + ",".join(f'"{value}"' if "," in str(value) else str(value) for value in row) + "\n")


def check_alike(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Leave with a message where chips that are set beside each other are of different designs, networks or numbers of images."""
    for what, column in (("case", "design"), ("network", "program"), ("network", "images")):
        for name in dict.fromkeys(row[what] for row in rows):
            if len({row[column] for row in rows if row[what] == name}) > 1:
                sys.exit(f"{path}: the rows of {what} {name!r} are not of one {column}; move the file away to begin anew")


def ensemble_of(rows: Sequence[dict[str, str]]) -> Ensemble:
    chips, changed = (np.array([int(row[name]) for row in rows]) for name in ("chip", "changed"))
    return Ensemble(float(rows[0]["ideal"]), int(rows[0]["images"]), chips, np.array([float(row["accuracy"]) for row in rows]), changed)


def recovery(now: Ensemble, before: Ensemble) -> str:
    """What the mean of the same chips gained, as a share of what they had lost, and its standard error (the jackknife's, over chips)."""
    if before.loss <= 0:
        return "no loss"
    gained, lost = now.accuracies[np.isin(now.chips, before.chips)] - before.accuracies, before.ideal - before.accuracies
    share, n = gained.mean() / lost.mean(), len(lost)
    if n == 1:
        return f"{100 * share:.1f} %"
    without = (gained.sum() - gained) / (lost.sum() - lost)
    return f"{100 * share:.1f} ± {100 * np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()):.1f} %"


def show(experiment: Experiment, path: Path, console: Console) -> None:
    """The table: every case that has rows."""
    rows = rows_of(path)
    check_alike(rows, path)
    by_case = {case.name: [row for row in rows if row["case"] == case.name] for case in experiment.cases}
    found = {name: ensemble_of(own) for name, own in by_case.items() if own}
    table = Table("case", "chips", "ideal", "mean", "std", "5 % to 95 %", "loss", "yield 0.3", "yield 0.5", "recovered", box=None, title=path.name)
    for case in experiment.cases:
        if (one := found.get(case.name)) is None:
            continue
        low, high = one.quantiles[0.05], one.quantiles[0.95]
        shares = (f"{100 * one.yield_within(points)[0]:.0f} %" for points in (0.3, 0.5))
        recovered, chips = "-", {row["chip"] for row in by_case[case.name]}
        if alike := [row for row in by_case.get(case.before, []) if row["chip"] in chips]:
            recovered = recovery(one, ensemble_of(alike))
        numbers = (f"{100 * value:.2f}" for value in (one.ideal, one.mean, one.std))
        table.add_row(case.name, str(len(one.chips)), *numbers, f"{100 * low:.2f} to {100 * high:.2f}", f"{100 * one.loss:.2f}", *shares, recovered)
    console.print(table)
    console.print("Accuracies in per cent, losses in points below the exact program of the same row.")
    console.print("Recovered: what the mean gained on the same chips before, as a share of what those had lost against their own exact program.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=EXPERIMENTS)
    parser.add_argument("--data", help="folder of the data set, as for memspike train")
    parser.add_argument("--training", type=Path, help="folder of the training's checkpoints")
    parser.add_argument("--cases", nargs="*", metavar="TEXT", help="only the cases whose name is one of these")
    parser.add_argument("--chips", type=int, default=10**6, help="at most so many chips of each case for now")
    parser.add_argument("--recipe", nargs="*", default=[], metavar="NAME=N", help="what the training's recipe has changed, as finetune_epochs=9")
    parser.add_argument("--images", type=int, help="only the first test images")
    parser.add_argument("--perfect", action="store_true", help="compare perfect chips with spikes and program")
    parser.add_argument("--show", action="store_true", help="only print the table of what is there")
    asked = parser.parse_args()
    experiment, path = EXPERIMENTS[asked.network], RESULTS / f"real_chips_{asked.network}.csv"
    if asked.show:
        show(experiment, path, Console(width=200))
        return
    if asked.data is None or asked.training is None:
        parser.error("--data and --training are needed to simulate; --show prints the rows that are there without them")
    said = ["python", "experiments/real_chips.py", asked.network, "--data", asked.data, "--training", str(asked.training)]
    command = shlex.join([*said, *["--recipe"] * bool(asked.recipe), *asked.recipe])
    changes = {name: int(number) for name, number in (text.split("=") for text in asked.recipe)}
    if asked.perfect:
        compare(Bench(experiment, asked.data, asked.training, changes), asked.network, RESULTS / "perfect_chips.csv", f"{command} --perfect")
        return
    chosen = [case for case in experiment.cases if not asked.cases or case.name in asked.cases]
    chosen = [replace(case, chips=min(case.chips, asked.chips)) for case in chosen]
    measure(Bench(experiment, asked.data, asked.training, changes, asked.images), chosen, path, command + (f" --images {asked.images}" if asked.images else ""))
    show(experiment, path, Console(width=200))


if __name__ == "__main__":
    main()
