"""Fit the chip `liu2018`: the constants at which our cost model gives the ratios of Liu & Liu, DAC 2018, on LeNet from its shapes alone.

Run: python experiments/fit_liu2018.py. It prints every fitted number of src/memspike/chips/liu2018.toml, then the ratios that come out.
A fit, not evidence: three published ratios, three numbers chosen to meet them, everything else as in `predictive`.
"""

from dataclasses import replace

import numpy as np

from memspike.chip import Chip
from memspike.cost import Cost
from memspike.estimator import estimate
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.mapping import Mapping
from memspike.ops import Charge, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, TensorType
from memspike.program import Program, fired_by
from memspike.result import Activity
from memspike.storage import load_chip

SPEEDUP, ENERGY_SAVING, AREA_SAVING = 9.8, 0.891, 0.30  # Liu & Liu, DAC 2018, abstract (arXiv 1805.03054)
SHORT, LONG = 4, 8  # bits of the two designs, weights and activations alike

# What the fit assumes about a run: no images are simulated.
IMAGE_DENSITY = 0.13  # mean MNIST pixel, as a share of the largest count
LAYER_DENSITY = 0.15  # mean count of a hidden layer, as a share of the largest; up and down it fires twice that (of three spikes up one is taken back)


def lenet(bits: int) -> Program:
    """LeNet (20-50-500-10) with `bits`-bit weights and activations; the weights are drawn, only their spread matters here."""
    rng, top = np.random.default_rng(0), 2 ** (bits - 1) - 1
    count, weight = IntType(bits), IntType(bits, signed=True)
    ops: list[Op] = []

    def weights(*shape: int) -> np.ndarray:
        return np.clip(np.rint(rng.normal(0, top / 3, shape)), -top, top).astype(np.int64)

    def neurons(name: str, channels: int) -> Fire:
        return Fire(name, (f"{name}.sum",), np.full(channels, 100), np.zeros(channels, np.int64), 0, count)

    ops += [Conv2d("conv1.sum", ("image",), weights(20, 1, 5, 5), weight), neurons("conv1", 20), MaxPool2d("pool1", ("conv1",), (2, 2), (2, 2))]
    ops += [Conv2d("conv2.sum", ("pool1",), weights(50, 20, 5, 5), weight), neurons("conv2", 50), MaxPool2d("pool2", ("conv2",), (2, 2), (2, 2))]
    ops += [Flatten("flat", ("pool2",)), Dense("fc1.sum", ("flat",), weights(500, 800), weight), neurons("fc1", 500)]
    ops += [Dense("fc2.sum", ("fc1",), weights(10, 500), weight), Charge("scores", ("fc2.sum",), np.zeros(10, np.int64), 0)]
    return Program("lenet", "image", TensorType((1, 28, 28), count), tuple(ops), "scores")


def expected_activity(mapping: Mapping) -> Activity:
    """What one average image would do, from shapes and densities, by the rules of memspike/simulator/activity.py: no image is needed."""
    counts: dict[tuple[str, str, str], int] = {}
    program = mapping.program
    bits = program.input_type.type.bits
    for plan in mapping.layers:
        op, largest = plan.op, 2**bits - 1
        density = IMAGE_DENSITY if program.input in program.op(op).inputs else LAYER_DENSITY
        reads, neurons = plan.positions * plan.num_rows, plan.positions * plan.num_channels
        spikes, fires = reads * density * largest, 2 * neurons * LAYER_DENSITY * largest
        levels = sum(int(tile.levels.sum()) for tile in mapping.tiles_of(op)) / plan.num_rows
        counts[op, "row_driver", "spike"] = round(spikes * plan.column_tiles)
        counts[op, "encoder", "encode"] = reads * bits
        counts[op, "cell", "read"] = round(spikes * plan.num_channels * 2 * plan.slices)
        counts[op, "cell", "read_levels"] = round(spikes * levels)
        counts[op, "neuron", "integrate"] = neurons * 2**bits
        counts[op, "buffer", "bit"] = reads * bits
        if fired_by(program, op):
            counts[op, "neuron", "fire"] = round(fires)
            counts[op, "counter", "count"] = round(fires * bits)
            counts[op, "bus", "bit"] = neurons * bits
            counts[op, "buffer", "bit"] += neurons * bits
    for pool, outputs in (("pool1", 20 * 12 * 12), ("pool2", 50 * 4 * 4)):
        counts[pool, "comparator", "compare"] = 3 * outputs * bits
    counts["scores", "comparator", "compare"] = 9 * program.types["scores"].type.bits
    return Activity(counts, {plan.op: 2**bits for plan in mapping.layers}, num_images=1)


def structure() -> Chip:
    """`predictive` with what the fit assumes beforehand: an 8-bit weight fits one cell pair, and no window ever needs a drain timestep."""
    chip = load_chip("predictive")
    device = replace(chip.crossbar.device, levels=128)
    return replace(chip, bits_per_cell=7, crossbar=replace(chip.crossbar, device=device), neuron=replace(chip.neuron, max_spikes_per_timestep=64))


def fit() -> dict[str, float]:
    """The fitted numbers by their path in the chip: one per published ratio, each the solution of a linear equation.

    Time: (2^8 t + w) / (2^4 t + w) = 9.8 for the overhead w of a window, t the timestep; all layers have equal windows, so latency and throughput agree.
    Area and energy: (short + n_short * x) / (long + n_long * x) = 1 - saving, x the one fitted constant, n how often it is paid.
    """
    chip = structure()
    overhead = (2**LONG - SPEEDUP * 2**SHORT) / (SPEEDUP - 1) * chip.timestep.value
    chip = replace(chip, window_overhead=replace(chip.window_overhead, value=overhead))
    short, long = cost_on(chip, SHORT), cost_on(chip, LONG)
    area = _solve([(cost.area, _paid(cost, "encoder", "instance"), chip.component("encoder").area.value) for cost in (short, long)], 1 - AREA_SAVING)
    energy = _solve([(cost.energy, _paid(cost, "buffer", "bit"), chip.component("buffer").energy["bit"].value) for cost in (short, long)], 1 - ENERGY_SAVING)
    return {"window_overhead": overhead, "components.encoder.area": area, "components.buffer.energy.bit": energy}


def ratios(chip: Chip) -> dict[str, float]:
    """Speed-up, energy saving and area saving of the short design over the long one on `chip`."""
    short, long = cost_on(chip, SHORT), cost_on(chip, LONG)
    return {"speed-up": long.latency / short.latency, "energy saving": 1 - short.energy / long.energy, "area saving": 1 - short.area / long.area}


def cost_on(chip: Chip, bits: int) -> Cost:
    mapping = map_program(lenet(bits), chip)
    return estimate(mapping, expected_activity(mapping))


def _paid(cost: Cost, component: str, action: str) -> float:
    return sum(row.count for row in cost.rows if (row.component, row.action) == (component, action))


def _solve(terms: list[tuple[float, float, float]], ratio: float) -> float:
    (short, n_short, now), (long, n_long, _) = terms
    return (ratio * (long - n_long * now) - (short - n_short * now)) / (n_short - ratio * n_long)


if __name__ == "__main__":
    for path, value in fit().items():
        print(f"{path} = {value:.7g}")
    for name in ("liu2018", "predictive"):
        print(f"{name}, LeNet {SHORT}/{SHORT} against {LONG}/{LONG}: " + ", ".join(f"{key} {value:.4f}" for key, value in ratios(load_chip(name)).items()))
