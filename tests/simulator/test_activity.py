"""Activity: every rule of the table, counted again by walking through positions, cells and bits one at a time."""

import numpy as np
import pytest

from chips import test_chip
from memspike.integer import IntType, exact_sum
from memspike.mapper import map as map_program
from memspike.mapping import Mapping
from memspike.ops import Add, Concat, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, Slice, SumPool2d, TensorType
from memspike.program import Program
from memspike.result import Activity
from memspike.simulator import simulate
from small_programs import charge, fire, weights

U3, U4, I4, I5 = IntType(3), IntType(4), IntType(4, signed=True), IntType(5, signed=True)


def everything() -> Program:
    """Every op once or more: a grouped, strided, dilated, padded convolution into a signed type, pools, an addition, slices, two dense layers."""
    ops: tuple[Op, ...] = (
        Conv2d("a.sum", ("x",), weights(0, 6, 2, 3, 2), I4, stride=(2, 1), padding=(1, 1), dilation=(1, 2), groups=2),
        fire("a", 6, I5),
        MaxPool2d("max", ("a",), (2, 3), (1, 2), (1, 1)),
        SumPool2d("average.sum", ("max",), (2, 2), (2, 2)),
        fire("average", 6, U3),
        Slice("front", ("average",), 0, 3),
        Slice("back", ("average",), 3, 6),
        Add("add", ("front", "back", "front"), U4),
        Concat("joined", ("add", "average")),
        Flatten("flat", ("joined",)),
        Dense("b.sum", ("flat",), weights(1, 4, 18), I4),
        fire("b", 4),
        Dense("scores.sum", ("b",), weights(2, 3, 4), I4),
        charge("scores", 3),
    )
    return Program("everything", "x", TensorType((4, 7, 6), U4), ops, "scores")


@pytest.fixture(scope="module")
def mapping() -> Mapping:
    return map_program(everything(), test_chip(rows=5, columns=10, max_spikes=2))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 16, (5, 4, 7, 6))


def windows_of(op: Conv2d | Dense, counts: np.ndarray) -> np.ndarray:
    """What each row of the weight matrices sees, `[images, positions, groups, rows]`: the convolution with one 1 in its kernel, for every place."""
    rows = op.weight[0].size
    kernels = np.tile(np.eye(rows, dtype=np.int64).reshape(rows, *op.weight.shape[1:]), (op.groups, *[1] * (op.weight.ndim - 1)))
    seen = (
        Conv2d("w", ("x",), kernels, I4, op.stride, op.padding, op.dilation, op.groups).evaluate(counts)
        if isinstance(op, Conv2d)
        else Dense("w", ("x",), kernels, I4, op.groups).evaluate(counts)
    )
    return seen.reshape(len(counts), op.groups, rows, -1).transpose(0, 3, 1, 2)


def counted(mapping: Mapping, images: np.ndarray) -> Activity:
    """The rules, obvious and slow."""
    program = mapping.program
    values = program.evaluate_all(images)
    n, counts, steps = len(images), {}, {}
    for op in program.ops:
        shape, bits = program.types[op.out].shape, program.types[op.out].type.bits
        size, source = int(np.prod(shape)), program.types[op.inputs[0]].type
        if isinstance(op, Conv2d | Dense):
            windows = windows_of(op, np.abs(values[op.inputs[0]]))
            positions, key, steps[op.out] = windows.shape[1], op.out, source.num_timesteps
            tiles = list(mapping.tiles_of(op.out))
            reads = levels = drives = 0
            for tile in tiles:
                spikes = windows[:, :, tile.group, slice(*tile.rows)].sum(axis=(0, 1))
                reads += int((spikes[:, None] * np.ones_like(tile.levels, np.int64)).sum())
                levels += int((spikes[:, None] * tile.levels.astype(np.int64)).sum())
                drives += int(spikes.sum())
            counts[key, "row_driver", "spike"] = drives
            counts[key, "cell", "read"], counts[key, "cell", "read_levels"] = reads, levels
            counts[key, "encoder", "encode"] = n * positions * op.groups * op.weight[0].size * source.bits
            counts[key, "neuron", "integrate"] = n * size * source.num_timesteps
            counts[key, "neuron", "fire"] = counts[key, "counter", "count"] = counts[key, "bus", "bit"] = 0
            counts[key, "buffer", "bit"] = counts[key, "encoder", "encode"]
        elif isinstance(op, Fire):
            layer = program.op(op.inputs[0])
            if isinstance(layer, SumPool2d):
                steps[layer.out] = program.types[layer.inputs[0]].type.num_timesteps
                counts[layer.out, "adder", "add"] += n * steps[layer.out] * size * source.bits
            else:
                fires = int(np.abs(values[op.out]).sum())
                counts[layer.out, "neuron", "fire"], counts[layer.out, "counter", "count"] = fires, fires * bits
            for part in ("buffer", "bus"):
                counts[layer.out, part, "bit"] = counts.get((layer.out, part, "bit"), 0) + n * size * bits
        elif isinstance(op, SumPool2d | MaxPool2d):
            action = ("adder", "add") if isinstance(op, SumPool2d) else ("comparator", "compare")
            counts[op.out, *action] = n * (op.kernel[0] * op.kernel[1] - 1) * size * bits
        elif isinstance(op, Add):
            counts[op.out, "adder", "add"] = n * (len(op.inputs) - 1) * size * bits
    scores = program.types[program.output]
    counts[program.output, "comparator", "compare"] = n * (scores.shape[0] - 1) * scores.type.bits
    return Activity(counts, steps, n)


def test_ideal_counts_what_the_rules_say(mapping, images):
    assert simulate(mapping, images).activity == counted(mapping, images)


def test_column_tiles_share_no_row_driver(mapping):
    """The product spikes times column tiles equals one drive per tile only if every row lies on all its column tiles."""
    assert mapping.plan("a.sum").column_tiles > 1 and mapping.plan("b.sum").row_tiles > 1 and mapping.plan("a.sum").num_groups == 2


@pytest.mark.parametrize("encoder", ["even", "burst", "random"])
def test_spikes_read_the_same_cells_and_fire_at_least_as_often(mapping, images, encoder):
    ideal, spike = simulate(mapping, images).activity, simulate(mapping, images, fidelity="spike", encoder=encoder).activity
    assert ideal.counts.keys() == spike.counts.keys() and ideal.num_timesteps.keys() == spike.num_timesteps.keys()
    own = {(op, component) for op in ("a.sum", "b.sum", "scores.sum") for component in ("neuron", "counter")}
    assert {key for key in ideal.counts if ideal.counts[key] != spike.counts[key]} <= {key for key in ideal.counts if key[:2] in own}
    for op, fired, bits, size in (("a.sum", 16, 5, 6 * 4 * 6), ("b.sum", 16, 4, 4), ("scores.sum", 16, 0, 3)):
        assert spike.num_timesteps[op] >= ideal.num_timesteps[op] == fired
        assert spike.counts[op, "neuron", "integrate"] == 5 * size * spike.num_timesteps[op]
        assert spike.counts[op, "neuron", "fire"] >= ideal.counts[op, "neuron", "fire"]
        assert spike.counts[op, "counter", "count"] == spike.counts[op, "neuron", "fire"] * bits


@pytest.mark.parametrize("fidelity", ["ideal", "spike"])
def test_activity_adds_up_however_images_are_cut(mapping, images, fidelity):
    whole = simulate(mapping, images, fidelity=fidelity).activity
    assert simulate(mapping, images, fidelity=fidelity, batch_size=2).activity == whole
    parts = simulate(mapping, images[:2], fidelity=fidelity).activity + simulate(mapping, images[2:], fidelity=fidelity).activity
    assert parts.num_timesteps == whole.num_timesteps and parts.num_images == 5
    if fidelity == "ideal":  # in spikes the window is as long as the slowest image needs, and every image integrates that long
        assert parts == whole


def test_counts_are_python_integers(mapping, images):
    activity = simulate(mapping, images, fidelity="spike").activity
    assert {type(count) for count in activity.counts.values()} == {int} == {type(steps) for steps in activity.num_timesteps.values()}


@pytest.mark.parametrize(("thresholds", "subtracts"), [((3, 2), True), ((4, 2), False), ((1, 1), False)])
def test_a_fire_on_counts_divides_by_subtraction_unless_it_can_shift(thresholds, subtracts):
    neurons = Fire("y", ("x",), np.array(thresholds * 3), np.zeros(6, np.int64), 0, U3)
    program = Program("fire", "x", TensorType((6,), U4), (neurons, *_dense_scores("y", 6)), "scores")
    activity = simulate(map_program(program, test_chip()), np.full((2, 6), 9), fidelity="spike").activity
    assert {key: count for key, count in activity.counts.items() if key[0] == "y"} == {
        ("y", "adder", "add"): 2 * 16 * 6 * 4 * subtracts,
        ("y", "buffer", "bit"): 2 * 6 * 3,
        ("y", "bus", "bit"): 2 * 6 * 3,
    }


def _dense_scores(source: str, channels: int) -> tuple[Op, ...]:
    return Dense("scores.sum", (source,), weights(5, 2, channels), I4), charge("scores", 2)


def test_sums_of_products_pass_int64() -> None:
    """A chip driven by very many images counts on; and what fits stays in int64."""
    most = np.array([2**62, 3, 0])
    assert exact_sum(most) == 2**62 + 3
    assert exact_sum(most, np.array([4, 5, 6])) == 2**64 + 15
    assert exact_sum(np.zeros(0, np.int64)) == 0
