"""Hand-made programs for the mapper's and the estimator's tests: one or a few weighted layers of chosen shapes, and activity that goes with them."""

import numpy as np

from memspike.integer import Integers, IntType
from memspike.mapping import Mapping
from memspike.ops import Charge, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, SumPool2d, TensorType
from memspike.program import Program
from memspike.result import Activity

U4, I4 = IntType(4), IntType(4, signed=True)


def weights(seed: int, *shape: int, type: IntType = I4) -> Integers:
    """Random weights that fill the symmetric grid of their type."""
    return np.random.default_rng(seed).integers(-type.max, type.max + 1, size=shape)


def fire(name: str, channels: int, type: IntType = U4) -> Fire:
    return Fire(name, (f"{name}.sum",), np.full(channels, 10), np.zeros(channels, np.int64), 0, type)


def charge(name: str, channels: int) -> Charge:
    return Charge(name, (f"{name}.sum",), np.zeros(channels, np.int64), 0)


def one_dense(num_rows: int, num_channels: int, *, groups: int = 1, type: IntType = I4, weight: Integers | None = None) -> Program:
    """`scores = charge(dense(x))` with the given matrix per group."""
    weight = weights(0, groups * num_channels, num_rows, type=type) if weight is None else weight
    ops: tuple[Op, ...] = (Dense("scores.sum", ("x",), weight, type, groups), charge("scores", groups * num_channels))
    return Program("one", "x", TensorType((groups * num_rows,), U4), ops, "scores")


def one_conv(channels: int, out_channels: int, kernel: int, size: int, *, groups: int = 1, type: IntType = I4) -> Program:
    """A convolution of a `size` x `size` image, fired and flattened into scores."""
    conv = Conv2d("conv.sum", ("x",), weights(0, out_channels, channels // groups, kernel, kernel, type=type), type, groups=groups)
    ops: tuple[Op, ...] = (conv, fire("conv", out_channels), Flatten("flat", ("conv",)))
    return Program("conv", "x", TensorType((channels, size, size), U4), ops, "flat")


def small_network() -> Program:
    """conv 2-3 k3 on 8x8, max pool, average pool, dense 3-4: one of each kind of layer."""
    ops: tuple[Op, ...] = (
        Conv2d("conv.sum", ("x",), weights(1, 3, 2, 3, 3), I4, padding=(1, 1)),
        fire("conv", 3),
        MaxPool2d("max", ("conv",), (2, 2), (2, 2)),
        SumPool2d("average.sum", ("max",), (2, 2), (2, 2)),
        fire("average", 3),
        Flatten("flat", ("average",)),
        Dense("scores.sum", ("flat",), weights(2, 4, 12), I4),
        charge("scores", 4),
    )
    return Program("small", "x", TensorType((2, 8, 8), U4), ops, "scores")


def some_activity(mapping: Mapping) -> Activity:
    """One count of 1000 and a window of 16 timesteps for everything the small network has, over 10 images."""
    counts: dict[tuple[str, str, str], int] = {}
    for op in ("conv.sum", "scores.sum"):
        for component, action in (("cell", "read"), ("cell", "read_levels"), ("row_driver", "spike"), ("encoder", "encode"), ("neuron", "integrate")):
            counts[op, component, action] = 1000
    counts["conv", "neuron", "fire"] = counts["max", "comparator", "compare"] = counts["average.sum", "adder", "add"] = 1000
    assert {op for op, _, _ in counts} <= mapping.program.types.keys()
    return Activity(counts, {"conv.sum": 16, "average.sum": 16, "scores.sum": 16}, num_images=10)
