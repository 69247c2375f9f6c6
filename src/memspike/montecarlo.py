"""Monte-Carlo: many chips of one design, each written, simulated and remembered; finished ones are never simulated again."""

import csv
import hashlib
import io
import json
import math
import os
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from memspike.chip import IMPERFECTIONS, Chip, NeuronKind
from memspike.ensemble import ERROR_QUANTILES, Ensemble, LayerStudy, Study, Way
from memspike.errors import FileRefused, MemspikeError, SimulationError
from memspike.files import read_bytes, write_text
from memspike.integer import Integers, whole
from memspike.mapper import map as map_program
from memspike.mapping import AVOID, Avoid, FaultMap, LayerPlan
from memspike.mapping import Mapping as ChipMapping
from memspike.physics.device import cautions, does_age
from memspike.physics.laws import DAY, HOUR
from memspike.physics.neuron import is_static
from memspike.program import Program
from memspike.result import Encoder

WHOLE = "whole"  # the case in which everything is imperfect
_COLUMNS = ("case", "chip", "accuracy", "changed", "seconds", "design")
_Rows = dict[tuple[str, int], tuple[float, int, float, str]]  # accuracy, changed predictions, seconds and design by case and chip
Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """What chips are made from: a program on a chip, read `time` seconds after writing.

    `faults` is a measured map of one chip. With `around_faults` each chip's weights are mapped around its own stuck cells by the means `avoid`,
    `spare_columns` pairs of columns of every crossbar being kept free for that. `layers` are the ops whose crossbars and neurons are imperfect; None: all.
    """

    program: Program
    chip: Chip
    time: float = 0.0
    encoder: Encoder = "even"
    neuron: NeuronKind | None = None
    faults: FaultMap | None = None
    around_faults: bool = False
    avoid: tuple[Avoid, ...] = AVOID
    spare_columns: int = 0
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", float(self.time))

    def mapping(self, number: int) -> ChipMapping:
        """How chip `number` is mapped."""
        from memspike.simulator import faults_of

        plain = map_program(self.program, self.chip, spare_columns=self.spare_columns)
        if self.faults is not None:
            plain = replace(plain, faults=self.faults)
        if not self.around_faults:
            return plain
        return map_program(self.program, self.chip, faults=faults_of(plain, number), avoid=self.avoid, spare_columns=self.spare_columns)

    def imperfections(self) -> tuple[str, ...]:
        """Which imperfections these chips have."""
        return self.chip.imperfections(has_map=self.faults is not None)

    @property
    def is_alike(self) -> bool:
        """Whether every chip is the same: measured levels, wires and heat do not differ, nor does a measured map of stuck cells, a leak or a saturation,
        unless spikes are drawn at random, by the chip's number, and their order matters."""
        neuron = replace(self.chip.neuron.acting, kind=self.neuron or self.chip.neuron.kind)
        is_drawn = any((neuron.threshold_mismatch, neuron.offset, neuron.reset_error))
        alike = {"levels", "wires", "temperature", *["stuck"] * (self.faults is not None), *["neuron"] * (not is_drawn)}
        has_order = self.encoder == "random" and not (is_static(neuron) and neuron.kind in ("up_down", "two_phase"))
        return alike.issuperset(self.imperfections()) and not has_order

    def without(self, *names: str) -> "Design":
        """The same design with these imperfections left out, a measured map of stuck cells among them."""
        return replace(self, chip=self.chip.without(*names), faults=None if "stuck" in names else self.faults)

    def only(self, *names: str) -> "Design":
        """The same design with all imperfections but these left out."""
        self.chip.only(*names)  # refuses unknown names
        return self.without(*(name for name in IMPERFECTIONS if name not in names))

    def describe(self) -> dict[str, Any]:
        """Everything that decides what the chips score, in plain values."""
        plain = {"program": self.program.digest(), "chip": self.chip.digest(), "faults": self.faults.digest() if self.faults else None}
        named = {name: getattr(self, name) for name in ("time", "encoder", "neuron", "around_faults", "spare_columns")}
        layers = list(self.layers) if self.layers is not None else None
        return {**plain, **named, "avoid": list(self.avoid), "layers": layers, "version": metadata.version("memspike")}


class Lab:
    """Simulates chips on labelled images; what is done is kept in `folder` and not done again.

    Args:
        design: what the chips are made from; parts of it may be left out later.
        images, labels: integer counts `[n, channels, height, width]` of the program's input type, and classes `[n]`.
        folder: where `chips.csv` and `config.json` go; None keeps nothing. Several labs may fill one folder at the same time.
        progress: called with (case, chips done, chips in all, chips per minute) after each chip that is simulated.

    Raises MemspikeError when the folder holds chips of another design or other images, FileRefused when it cannot be written or read.
    """

    def __init__(self, design: Design, images: Integers, labels: Integers, *, folder: str | Path | None = None, progress: Progress | None = None) -> None:
        from memspike.simulator import simulate

        images, labels = np.asarray(images), np.asarray(labels)
        self.design, self.images, self.labels, self.progress = design, images, labels, progress
        self.folder = None if folder is None else Path(folder)
        self._rows: _Rows = {}
        if self.folder is not None:
            self._rows = _opened(self.folder, {**design.describe(), "images": _digest(images, labels), "num_images": len(labels)})
        ideal = simulate(map_program(design.program, design.chip), images)
        self.ideal, self._ideal = ideal.accuracy(labels), ideal.predictions

    def ensemble(self, design: Design, chips: Sequence[int], case: str = WHOLE) -> Ensemble:
        """The chips with these numbers; `case` names the design among those of this lab: the lab's own is WHOLE, any other has a name of its own."""
        if not chips:
            raise SimulationError("no chip is asked for; expected at least one")
        if case == WHOLE and design.describe() != self.design.describe():
            raise SimulationError(f"the case {WHOLE!r} is this lab's own design, and another one is given", cure="name its case, as in case='only drift'")
        for done, number in enumerate(chips, start=1):
            if (case, number) in self._rows:
                if self._rows[case, number][3] not in ("", _made_from(design)):  # older tables do not say
                    what = f"chip {number} of the case {case!r} is there, made from another design"
                    raise SimulationError(what, where=str(self.folder or ""), cure="give this design a case of its own, or a lab with another folder")
                continue
            self._simulate(design, number, case)
            if self.progress:
                self.progress(case, done, len(chips), 60 * done / sum(self._rows[case, each][2] for each in chips[:done]))
        accuracies, changed, *_ = zip(*(self._rows[case, number] for number in chips), strict=True)
        return Ensemble(self.ideal, len(self.labels), np.array(chips), np.array(accuracies), np.array(changed))

    def _simulate(self, design: Design, number: int, case: str) -> None:
        from memspike.simulator import simulate

        started = clock.perf_counter()
        result = simulate(
            design.mapping(number), self.images, fidelity="analog", seed=number, time=design.time, encoder=design.encoder, neuron=design.neuron,
            layers=design.layers,
        )  # fmt: skip
        seconds = max(0.001, round(clock.perf_counter() - started, 3))
        self._rows[case, number] = result.accuracy(self.labels), int((result.predictions != self._ideal).sum()), seconds, _made_from(design)
        if self.folder is not None:
            _append(self.folder / "chips.csv", (case, number, *self._rows[case, number]))


def run(
    design: Design,
    images: Integers,
    labels: Integers,
    *,
    chips: int = 100,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Chips number `seed`, `seed` + 1, ... on labelled images: `run(Design(program, chip, time=86400), images, labels, chips=20).mean`.

    The other arguments, and errors, are those of `Lab`. `simulate(design.mapping(n), images, fidelity="analog", seed=n, time=design.time)` gives chip n alone.
    """
    many, first = whole(chips), whole(seed)
    if many is None or first is None or many < 1 or first < 0:
        raise SimulationError(f"{chips!r} chips from number {seed!r} on; expected whole numbers, at least one, from zero or more on")
    return Lab(design, images, labels, folder=folder, progress=progress).ensemble(design, range(first, first + many))


def study(lab: Lab, chips: Sequence[int], *, detail: Sequence[int] = (), times: Sequence[float] | None = None) -> Study:
    """All `chips` of the lab's design, and with the chips `detail` what each imperfection, each layer, each of `times` [s] and, where weights are mapped
    around stuck cells, each way around them does. Without `times`, cells that change are read at once, after an hour, a day, and the design's own time."""
    design, chip = lab.design, lab.design.chip
    if times is None:
        times = sorted({0.0, HOUR, DAY, design.time}) if does_age(chip.crossbar.device) else ()
    whole, shown = lab.ensemble(design, chips), chips[0]
    over_time, alone, without, layers = dict[float, Ensemble](), dict[str, Ensemble](), dict[str, Ensemble](), dict[str, Ensemble]()
    ways, together = dict[str, Way](), None

    def case(changed: Design, name: str, is_whole: bool = False) -> Ensemble:
        return lab.ensemble(design, detail) if is_whole else lab.ensemble(changed, detail, name)

    if detail:
        together = case(design, WHOLE, True)
        names, ops = design.imperfections(), _imperfect(design, design.mapping(shown))
        over_time = {at: case(replace(design, time=at), f"after {at:.12g} s", at == design.time) for at in times}
        alone = {name: case(design.only(name), f"only {name}", len(names) == 1) for name in names}
        without = {name: case(design.without(name), f"without {name}") for name in names if len(names) > 1}
        layers = {op: case(replace(design, layers=(op,)), f"layer {op}", len(ops) == 1) for op in ops if names}
        ways = {name: Way(case(way, name, way.describe() == design.describe()), _rms(cells(way, shown))) for name, way in _ways(design)}
    return Study(
        design.program.name, chip, design.imperfections(), design.is_alike, design.time, whole, together, over_time, alone, without, layers, ways, shown,
        cells(design, shown),
    )  # fmt: skip


def _ways(design: Design) -> Iterator[tuple[str, Design]]:
    """The ways around stuck cells: none, each of the design's own by itself, all of them, and all of them with the spare columns."""
    if not design.around_faults:
        return
    narrow = replace(design, spare_columns=0)
    yield "not around them", replace(narrow, around_faults=False)
    if len(design.avoid) > 1:
        yield from ((f"by {means}", replace(narrow, avoid=(means,))) for means in design.avoid)
    yield "by all of these" if len(design.avoid) > 1 else f"by {' and '.join(design.avoid)}", narrow
    if design.spare_columns:
        yield f"and {design.spare_columns} spare pair{'s' if design.spare_columns > 1 else ''}", design


def _rms(layers: Mapping[str, LayerStudy]) -> float:
    """The error of all weights of these layers, in levels."""
    squares, numbers = zip(*((layer.rms**2 * layer.numbers.sum(), layer.numbers.sum()) for layer in layers.values()), strict=True)
    return math.sqrt(sum(squares) / sum(numbers))


def summary(found: Study, points: float) -> dict[str, Any]:
    """What `result.json` says of a study: accuracies as fractions, times in seconds, the yield within `points` percentage points."""
    whole = found.whole
    share, low, high = whole.yield_within(points)
    parts: dict[str, Mapping[Any, Ensemble]] = {"after_s": found.over_time, "only": found.alone, "without": found.without, "only_layer": found.layers}
    parts["around"] = {name: way.ensemble for name, way in found.ways.items()}
    detail = {
        part: {name if isinstance(name, str) else f"{name:.12g}": {"mean": one.mean, "std": one.std} for name, one in cases.items()}
        for part, cases in parts.items()
    }
    return {
        "num_chips": len(whole.chips), "first_chip": int(whole.chips[0]), "num_images": whole.num_images, "time_s": found.time,
        "imperfections": list(found.imperfections), "cautions": list(cautions(found.chip.crossbar.device, max([found.time, *found.over_time]))),
        "accuracy_ideal": whole.ideal, "accuracy_mean": whole.mean, "accuracy_std": whole.std,
        "accuracy_min": float(whole.accuracies.min()), "accuracy_max": float(whole.accuracies.max()),
        "quantiles": {f"{q:g}": value for q, value in whole.quantiles.items()},
        "yield": {"within_points": points, "share": share, "interval_95": [low, high]},
        "detail": {"num_chips": len(found.together.chips) if found.together else 0, **detail},
    }  # fmt: skip


def cells(design: Design, number: int) -> Mapping[str, LayerStudy]:
    """What the crossbars of chip `number` look like, layer by layer, of the layers that are imperfect."""
    from memspike.simulator import written

    mapping = design.mapping(number)
    layers = written(mapping, number, design.time)
    plans = {plan.op: plan for plan in mapping.layers}
    return {op: _layer(mapping, plans[op], layers[op]) for op in _imperfect(design, mapping)}


def _imperfect(design: Design, mapping: ChipMapping) -> list[str]:
    """The ops whose crossbars and neurons are imperfect."""
    return [plan.op for plan in mapping.layers if design.layers is None or plan.op in design.layers]


def _layer(mapping: ChipMapping, plan: LayerPlan, layer: Any) -> LayerStudy:
    weights = mapping.weights(plan.op).reshape(plan.num_groups, plan.num_channels, -1).transpose(0, 2, 1)
    error = np.asarray(layer.errors, np.float64)
    found, where = np.unique(weights, return_inverse=True)
    inside = [error.ravel()[where.ravel() == index] for index in range(len(found))]
    driven, flowing = (np.asarray(each, np.float64).sum(axis=(1, 2)) for each in (layer.g, layer.a))
    return LayerStudy(
        float(np.sqrt(np.mean(error**2))),
        found,
        np.array([len(part) for part in inside]),
        np.array([part.mean() for part in inside]),
        np.array([part.std() for part in inside]),
        np.array([np.quantile(part, ERROR_QUANTILES) for part in inside]),
        1 - np.divide(flowing, driven, out=np.ones_like(driven), where=driven > 0),
    )


def _opened(folder: Path, config: dict[str, Any]) -> _Rows:
    """Take `folder` for the chips that `config` describes, and read those that are done."""
    text, kept = json.dumps(config, indent=2) + "\n", folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileRefused(f"this folder cannot be made: {error.strerror}", where=str(folder), cure="name one that you may write to") from error
    foreign = [name for name in ("result.json", "chips.csv", "report.json", "report.html") if not kept.exists() and (folder / name).exists()]
    if foreign:
        raise MemspikeError(f"holds a {foreign[0]} of something else, which the chips would replace", where=str(folder), cure="name another folder with --out")
    if kept.exists() and (others := _difference(read_bytes(kept).decode("utf-8", "replace"), json.loads(text))) is not None:
        raise MemspikeError("holds chips of another design", where=str(folder), cure=f"name another folder with --out{others}")
    write_text(kept, text)
    return _read(folder / "chips.csv")


def _difference(before: str, config: dict[str, Any]) -> str | None:
    """Which entries of a kept config are others, for people; None where it is the same."""
    try:
        kept = dict[str, Any](json.loads(before))
    except (ValueError, TypeError):
        return ""
    others = [name for name in dict.fromkeys([*config, *kept]) if kept.get(name) != config.get(name)]
    return f"; these differ: {', '.join(others)}" if others else None


def _read(path: Path) -> _Rows:
    if not path.exists():
        write_text(path, ",".join(_COLUMNS) + "\n")
        return {}
    text = read_bytes(path).decode("utf-8", "replace")
    older = ",".join(_COLUMNS[:-1]) + "\n"
    if text.startswith(older):  # which did not say what a case was made from
        text = ",".join(_COLUMNS) + "\n" + text.removeprefix(older).replace("\n", ",\n")
        write_text(path, text)
    if not text.startswith(",".join(_COLUMNS) + "\n"):
        raise FileRefused(f"is no table of chips: expected the columns {', '.join(_COLUMNS)}", where=str(path), cure="remove it to begin again")
    if not text.endswith("\n"):  # the last row was being written when the machine stopped
        text = text[: text.rfind("\n") + 1]
        write_text(path, text)
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
        found = {(row["case"], int(row["chip"])): (float(row["accuracy"]), int(row["changed"]), float(row["seconds"]), row["design"]) for row in rows}
        wrong = [key for key, (accuracy, changed, seconds, _) in found.items() if not (0 <= accuracy <= 1 and changed >= 0 and 0 <= seconds < math.inf)]
        if wrong:
            raise ValueError(f"{wrong[0][0]}, chip {wrong[0][1]} holds numbers that no chip gives")
        return found
    except (KeyError, ValueError, TypeError) as error:
        raise FileRefused(f"is no table of chips: {error}", where=str(path), cure="remove it to begin again") from error


def _append(path: Path, row: Sequence[Any]) -> None:
    """Add one row in a single write, so that several processes may fill one table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            _write(handle, text.getvalue().encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise FileRefused(f"cannot be written: {error.strerror}", where=str(path), cure="once it can, the same command goes on") from error


def _write(handle: int, row: bytes) -> None:
    """All of a row, or none: a disk that fills up takes its beginning, on which the next row would go on."""
    written = os.write(handle, row)
    try:
        while written < len(row):
            written += os.write(handle, row[written:])
    except OSError:
        os.ftruncate(handle, os.fstat(handle).st_size - written)
        raise


def _made_from(design: Design) -> str:
    """What tells a case's design from another's in a table of chips."""
    return hashlib.sha256(json.dumps(design.describe(), sort_keys=True).encode()).hexdigest()[:16]


def _digest(images: Integers, labels: Integers) -> str:
    found = hashlib.sha256(repr((tuple(images.shape), tuple(labels.shape))).encode())
    for array in (images, labels):
        found.update(np.ascontiguousarray(array, "<i8").tobytes())
    return found.hexdigest()
