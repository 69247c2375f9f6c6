"""Monte-Carlo: many chips of one design, each written, simulated and remembered; finished ones are never simulated again."""

import csv
import io
import json
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from memspike.chip import Chip, NeuronKind
from memspike.ensemble import Ensemble, LayerStudy, Study
from memspike.errors import FileRefused, MemspikeError, SimulationError
from memspike.files import read_bytes, write_text
from memspike.integer import Integers
from memspike.mapper import map as map_program
from memspike.mapping import FaultMap, LayerPlan
from memspike.mapping import Mapping as ChipMapping
from memspike.program import Program
from memspike.result import Encoder

_COLUMNS = ("case", "chip", "accuracy", "changed", "seconds")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """What chips are made from: a program on a chip, read `time` seconds after writing.

    `faults` is a measured map of one chip. With `around_faults` each chip's weights are mapped around its own stuck cells, `spare_columns` pairs of columns of
    every crossbar being kept free for that. `layers` are the ops whose crossbars and neurons are imperfect; None: all.
    """

    program: Program
    chip: Chip
    time: float = 0.0
    encoder: Encoder = "even"
    neuron: NeuronKind | None = None
    faults: FaultMap | None = None
    around_faults: bool = False
    spare_columns: int = 0
    layers: tuple[str, ...] | None = None

    def mapping(self, number: int) -> ChipMapping:
        """How chip `number` is mapped."""
        from memspike.simulator import faults_of

        plain = map_program(self.program, self.chip, spare_columns=self.spare_columns)
        if self.faults is not None:
            plain = replace(plain, faults=self.faults)
        if not self.around_faults:
            return plain
        return map_program(self.program, self.chip, spare_columns=self.spare_columns, faults=faults_of(plain, number))

    def describe(self) -> dict[str, Any]:
        """Everything that decides what the chips score, in plain values."""
        plain = {"program": self.program.digest(), "chip": self.chip.digest(), "faults": self.faults.digest() if self.faults else None}
        named = {name: getattr(self, name) for name in ("time", "encoder", "neuron", "around_faults", "spare_columns")}
        return {**plain, **named, "layers": list(self.layers) if self.layers is not None else None}


class Lab:
    """Simulates chips on labelled images; what is done is kept in `folder` and not done again.

    Args:
        images, labels: integer counts `[n, channels, height, width]` of the program's input type, and classes `[n]`.
        folder: where `chips.csv` and `config.json` go; None keeps nothing. Raises MemspikeError when it holds chips of other designs or images.
        progress: called with (what, done, total) after each chip.
    """

    def __init__(self, design: Design, images: Integers, labels: Integers, *, folder: Path | None = None, progress: Progress | None = None) -> None:
        from memspike.simulator import simulate

        self.design, self.images, self.labels, self.folder, self.progress = design, images, labels, folder, progress
        self._ideal = simulate(map_program(design.program, design.chip), images).predictions
        self.ideal = float((self._ideal == labels).mean())
        self._rows: dict[tuple[str, int], tuple[float, int, float]] = {}
        if folder is not None:
            self._open(folder)

    def ensemble(self, design: Design, chips: Sequence[int], case: str = "whole") -> Ensemble:
        """The chips with these numbers; `case` names the design among those of this lab."""
        if not chips:
            raise SimulationError("no chip is asked for; expected at least one")
        for done, number in enumerate(chips):
            if (case, number) not in self._rows:
                self._simulate(design, number, case)
            if self.progress:
                self.progress(case, done + 1, len(chips))
        rows = [self._rows[case, number] for number in chips]
        accuracies, changed = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        return Ensemble(self.ideal, len(self.labels), np.array(chips), accuracies, changed)

    def _simulate(self, design: Design, number: int, case: str) -> None:
        from memspike.simulator import simulate

        started = clock.monotonic()
        result = simulate(
            design.mapping(number), self.images, fidelity="analog", seed=number, time=design.time, encoder=design.encoder, neuron=design.neuron,
            layers=design.layers,
        )  # fmt: skip
        found = result.accuracy(self.labels), int((result.predictions != self._ideal).sum()), clock.monotonic() - started
        self._rows[case, number] = found
        if self.folder is not None:
            self._write(self.folder)

    def _open(self, folder: Path) -> None:
        images = {"num_images": len(self.labels), "ideal": self.ideal}
        config = json.dumps({**self.design.describe(), **images}, indent=2) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileRefused(f"this folder cannot be made: {error.strerror}", where=str(folder), cure="name one that you may write to") from error
        if (folder / "config.json").exists() and read_bytes(folder / "config.json").decode() != config:
            raise MemspikeError("holds chips of another design", where=str(folder), cure="name another folder with --out")
        write_text(folder / "config.json", config)
        if not (folder / "chips.csv").exists():
            return
        try:
            for row in csv.DictReader(io.StringIO(read_bytes(folder / "chips.csv").decode())):
                self._rows[row["case"], int(row["chip"])] = float(row["accuracy"]), int(row["changed"]), float(row["seconds"])
        except (KeyError, ValueError, TypeError) as error:
            raise FileRefused(f"is no table of chips: {error}", where=str(folder / "chips.csv"), cure="remove it to begin again") from error

    def _write(self, folder: Path) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for (case, number), (accuracy, changed, seconds) in self._rows.items():
            writer.writerow((case, number, accuracy, changed, f"{seconds:.3f}"))
        write_text(folder / "chips.csv", text.getvalue())


def study(lab: Lab, chips: Sequence[int], *, detail: Sequence[int] = (), times: Sequence[float] = ()) -> Study:
    """All `chips` of the lab's design, and with the chips `detail` what each imperfection, each layer and each of `times` [s] does."""
    design, chip = lab.design, lab.design.chip
    whole = lab.ensemble(design, chips)
    over_time = {time: lab.ensemble(replace(design, time=time), detail, f"{time:g} s") for time in times if detail}
    names = chip.imperfections() if detail else ()
    alone = {name: lab.ensemble(replace(design, chip=chip.only(name)), detail, f"only {name}") for name in names}
    without = {name: lab.ensemble(replace(design, chip=chip.without(name)), detail, f"without {name}") for name in names if len(names) > 1}
    plans = design.mapping(chips[0]).layers
    layers = {plan.op: lab.ensemble(replace(design, layers=(plan.op,)), detail, f"layer {plan.op}") for plan in plans if detail and len(plans) > 1}
    return Study(design.program.name, chip, design.time, whole, over_time, alone, without, layers, chips[0], cells(design, chips[0]))


def cells(design: Design, number: int) -> Mapping[str, LayerStudy]:
    """What the crossbars of chip `number` look like, layer by layer."""
    from memspike.simulator import written

    mapping = design.mapping(number)
    layers = written(mapping, number, design.time)
    return {plan.op: _layer(mapping, plan, layers[plan.op]) for plan in mapping.layers}


def _layer(mapping: ChipMapping, plan: LayerPlan, layer: Any) -> LayerStudy:
    weights = mapping.weights(plan.op).reshape(plan.num_groups, plan.num_channels, -1).transpose(0, 2, 1)
    error = layer.deviation
    if error.shape != weights.shape:  # groups that share a crossbar: their own blocks on the diagonal
        blocks = error.reshape(plan.num_groups, plan.num_rows, plan.num_groups, plan.num_channels)
        error = np.stack([blocks[group, :, group] for group in range(plan.num_groups)])
    found, where = np.unique(weights, return_inverse=True)
    inside = [error.ravel()[where.ravel() == index] for index in range(len(found))]
    driven = np.unique([tile.crossbar for tile in mapping.tiles_of(plan.op)]) - layer.first
    losses = 1 - layer.a[driven].sum(axis=(1, 2)) / layer.g[driven].sum(axis=(1, 2))
    means, stds = np.array([part.mean() for part in inside]), np.array([part.std() for part in inside])
    return LayerStudy(float(np.sqrt(np.mean(error**2))), found, means, stds, np.array([len(part) for part in inside]), losses)
