"""Designs to report on: a small network with invented training notes and invented activity, on chips of the package."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from memspike.chip import Chip
from memspike.ensemble import Ensemble, LayerStudy, Study, Way
from memspike.estimator import estimate
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.mapping import Mapping
from memspike.network import QuantizedNetwork
from memspike.ops import Charge, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, TensorType
from memspike.program import Program
from memspike.reporter import Design
from memspike.result import Activity, Provenance, Result
from memspike.storage import load_chip, load_device

HOSTILE = ("<script>alert(1)</script>", "[bold red]loud[/bold red]", "\x1b[31mred\x1b[0m", "<a href='javascript:alert(2)'>x</a>", "&lt;b&gt; %{x} =1+1")


@dataclass(frozen=True)
class Case:
    """What `report` is called with."""

    network: QuantizedNetwork
    designs: list[tuple[Design, Design]]
    summary: dict[str, Any]


def make_case(channels: tuple[int, int, int], chips: tuple[str, ...] = ("predictive", "liu2018"), image_bits: int = 4) -> Case:
    """LeNet with those channels, 4 bits (its image of `image_bits`) and 8 bits, on each of the chips."""
    ours, theirs = (lenet(bits, channels) for bits in (4, 8))
    programs = [dataclasses.replace(ours, input_type=TensorType((1, 28, 28), IntType(image_bits))), theirs]
    designs = [tuple(_design(program, load_chip(name)) for program in programs) for name in chips]
    network = QuantizedNetwork("lenet", (1, 28, 28), IntType(4), 1 / 15, (), notes(programs[0]))
    return Case(network, designs, summary_of(*designs[0]))  # pyright: ignore[reportArgumentType]


def make_study(chips: int = 30, detail: int = 5, layers: tuple[str, ...] = ("conv1.sum", "conv2.sum", "fc1.sum", "fc2.sum"), seed: int = 0) -> Study:
    """An invented study of imperfect chips, every part of it filled; with `detail` 0 only what all chips show."""
    rng = np.random.default_rng(seed)

    def ensemble(loss: float, number: int) -> Ensemble:
        accuracies = 0.9932 - np.round(np.abs(rng.normal(loss, loss / 2 + 1e-3, number)), 4)
        return Ensemble(0.9932, 1000, np.arange(7, 7 + number), accuracies, rng.integers(0, 40, number))

    def layer() -> LayerStudy:
        weights = np.arange(-7, 8)
        errors = np.sort(rng.normal(0, 0.6, (15, 5)), axis=1)
        return LayerStudy(0.6, weights, np.full(15, 30), errors.mean(axis=1), errors.std(axis=1), errors, rng.uniform(0.01, 0.02, 12))

    chip = load_chip("predictive").with_device(load_device("wan2022-hfox"))
    whole = ensemble(0.02, chips)
    if not detail:
        return Study("lenet", chip, chip.imperfections(), False, 86400.0, whole, None, {}, {}, {}, {}, {}, 7, {name: layer() for name in layers})
    names = chip.imperfections()
    alone, without = ({name: ensemble(loss, detail) for name, loss in zip(names, losses, strict=True)} for losses in ((0.02, 0, 0), (0, 0.02, 0.02)))
    over_time = {at: ensemble(0.003 * i, detail) for i, at in enumerate((1.0, 3600.0, 86400.0), start=1)}
    ways = {name: Way(ensemble(loss, detail), loss / 0.02) for name, loss in (("not around them", 0.03), ("by rows", 0.02), ("by all of these", 0.002))}
    return Study(
        "lenet", chip, names, False, 86400.0, whole, ensemble(0.02, detail), over_time, alone, without, {name: ensemble(0.005, detail) for name in layers},
        ways, 7, {name: layer() for name in layers},
    )  # fmt: skip


def lenet(bits: int, channels: tuple[int, int, int], seed: int = 0) -> Program:
    """Random weights that are mostly small, thresholds that let something through."""
    rng = np.random.default_rng(seed)
    first, second, hidden = channels
    count_type, weight_type = IntType(bits), IntType(bits, signed=True)
    ops: list[Op] = []

    def weight(*shape: int) -> Any:
        return np.clip(np.round(rng.laplace(0, weight_type.max / 5, shape)), -weight_type.max, weight_type.max).astype(np.int64)

    def layer(kind: type[Conv2d] | type[Dense], name: str, source: str, *shape: int) -> None:
        ops.append(kind(f"{name}.sum", (source,), weight(*shape), weight_type))
        ops.append(Fire(name, (f"{name}.sum",), np.full(shape[0], 1 << 12), np.full(shape[0], 1 << 11), 8, count_type))

    layer(Conv2d, "conv1", "image", first, 1, 5, 5)
    ops.append(MaxPool2d("pool1", ("conv1",), (2, 2), (2, 2)))
    layer(Conv2d, "conv2", "pool1", second, first, 5, 5)
    ops.append(MaxPool2d("pool2", ("conv2",), (2, 2), (2, 2)))
    ops.append(Flatten("flat", ("pool2",)))
    layer(Dense, "fc1", "flat", hidden, 16 * second)
    ops.append(Dense("fc2.sum", ("fc1",), weight(10, hidden), weight_type))
    ops.append(Charge("scores", ("fc2.sum",), np.zeros(10, np.int64), 8))
    return Program("lenet", "image", TensorType((1, 28, 28), count_type), tuple(ops), "scores")


def notes(program: Program, seed: int = 0) -> dict[str, Any]:
    """Notes of every kind, as training would leave them."""
    rng = np.random.default_rng(seed)
    layers = [op for op in program.ops if isinstance(op, Conv2d | Dense)]
    names = [op.out.removesuffix(".sum") for op in layers]
    signals = [
        {"layer": n, "bound": 4.0, "before": _histogram(rng.exponential(2.0, 4000)), "after": _histogram(rng.exponential(0.9, 4000))} for n in names[:-1]
    ]
    weights = [
        {
            "layer": n,
            "scale": 0.05,
            "bits": 4,
            **_histogram(rng.laplace(0, 0.08, 4000)),
            "levels": list(range(-7, 8)),
            "level_counts": [int((op.weight == k).sum()) for k in range(-7, 8)],
        }
        for n, op in zip(names, layers, strict=True)
    ]
    stages = [("fp32", e, 0.5 / (e + 1), 0.95 + 0.005 * e) for e in range(1, 9)] + [("counts", e, 0.2 / (e + 1), 0.985 + 0.001 * e) for e in range(1, 6)]
    return {
        "data": {"name": "mnist", "num_train": 60000, "num_test": 10000, "source": "ylecun/mnist, revision 77f3279"},
        "recipe": {"epochs": 8, "learning_rate": 0.01, "neuron_convergence": {"alpha": 0.1}},
        "curves": [{"stage": s, "epoch": e, "loss": loss, "accuracy": accuracy} for s, e, loss, accuracy in stages],
        "signals": signals,
        "weights": weights,
        "conversion": [{"layer": n, "was": "Conv2d + ReLU", "became": "conv2d, fire", "note": ""} for n in names],
    }


def summary_of(design: Design, baseline: Design) -> dict[str, Any]:
    """What the line writes as result.json for one pair of designs."""

    def cost(d: Design) -> dict[str, float]:
        return {"latency_s": d.cost.latency, "throughput_hz": d.cost.throughput, "energy_j": d.cost.energy, "area_m2": d.cost.area}

    ratio = {
        "speedup": baseline.cost.latency / design.cost.latency,
        "energy_saving": 1 - design.cost.energy / baseline.cost.energy,
        "area_saving": 1 - design.cost.area / baseline.cost.area,
    }
    return {
        "accuracy": {"fp32": 0.9932, "program": 0.9931, "direct": 0.9871, "dynamic_fixed_point_8": 0.9933},
        "num_test_images": 10000,
        "bits": {"activation": 4, "weight": 4, "image": 4},
        "chip": design.mapping.chip.name,
        "cost": cost(design),
        "baseline": cost(baseline),
        "ratio": ratio,
        "checks": {"spike_equals_program": True, "images_checked": 10000},
        "provenance": {
            "memspike": "0.1.0",
            "seed": 0,
            "program_digest": design.mapping.program.digest(),
            "command": "memspike run lenet --data mnist",
            "python": "3.11",
        },
    }


def _design(program: Program, chip: Chip) -> Design:
    mapping = map_program(program, chip)
    rasters = {mapping.layers[0].op: _raster(program, mapping.layers[0].op)}
    provenance = Provenance("0.1.0", program.digest(), chip.digest(), "spike", chip.neuron.kind, "even", 0)
    bits = next(op.type.bits for op in program.ops if isinstance(op, Fire))
    result = Result(np.zeros((4, 10), np.int64), _activity(mapping), provenance, rasters=rasters)
    return Design("4/4 bits" if bits == 4 else "8-bit dynamic fixed point", mapping, result, estimate(mapping, result.activity))


def _activity(mapping: Mapping, images: int = 4) -> Activity:
    """Activity of a plausible size: a third of all counts travel, windows drain in two timesteps."""
    program = mapping.program
    steps = program.input_type.type.num_timesteps
    counts: dict[tuple[str, str, str], int] = {}
    for plan in mapping.layers:
        windows, neurons = plan.positions * images, plan.num_channels * plan.num_groups
        spikes = windows * plan.num_rows * plan.num_groups * steps // 8
        columns = 2 * plan.slices * plan.num_channels
        counts |= {
            (plan.op, "row_driver", "spike"): spikes * plan.column_tiles,
            (plan.op, "cell", "read"): spikes * columns,
            (plan.op, "cell", "read_levels"): spikes * columns * plan.max_level // 5,
            (plan.op, "encoder", "encode"): windows * plan.num_rows * program.input_type.type.bits,
            (plan.op, "neuron", "integrate"): windows * neurons * (steps + 2),
            (plan.op, "neuron", "fire"): windows * neurons * steps // 4,
            (plan.op, "counter", "count"): windows * neurons * steps // 4,
            (plan.op, "buffer", "bit"): windows * (plan.num_rows + neurons) * program.input_type.type.bits,
            (plan.op, "bus", "bit"): windows * plan.num_rows * program.input_type.type.bits,
        }
    return Activity(counts, {plan.op: steps + 2 for plan in mapping.layers}, images)


def _raster(program: Program, op: str, seed: int = 0) -> Any:
    """Signed spikes with a rate per neuron, most of them silent, as an image of an edge would give."""
    rng = np.random.default_rng(seed)
    shape = program.types[op].shape
    rate = np.clip(rng.normal(-0.2, 0.4, shape), 0, 0.9)
    spikes = rng.random((program.input_type.type.num_timesteps + 2, *shape)) < rate
    return np.where(spikes & (rng.random(spikes.shape) < 0.05), -1, spikes).astype(np.int8)


def _histogram(values: Any) -> dict[str, list[float]]:
    counts, edges = np.histogram(values, bins=40)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def relabelled(design: Design, chip: Chip, label: str) -> Design:
    """The design on another chip, under another name."""
    return dataclasses.replace(design, label=label, mapping=dataclasses.replace(design.mapping, chip=chip))


def named(value: Any, name: str) -> Any:
    """The value with every text in it replaced."""
    if isinstance(value, dict):
        return {key: named(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [named(inner, name) for inner in value]
    return name if isinstance(value, str) else value
