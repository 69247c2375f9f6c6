"""Integers against fp32 torch: images per second of whole simulations, activity counted, on one thread and on two.

Goals: LeNet at least 5 times, ResNet-20 at least 3.5 times faster than fp32 torch eager. A program's layers are proven in its first simulation, which is
the round that is thrown away; how long that takes is printed. Where there are pools, bytes are pooled and summed in compiled loops once a process has
run so many images that loading them pays (`memspike.simulator.reductions`); the time until then has rows of its own. The roofline rows say what a
program's products alone take, and how fast the processor multiplies bytes when nothing else is to be done.
"""

import argparse

import numpy as np
import torch
from measure import Row, publish, rounds, seconds_of
from subjects import TITLES, images, infer, mapping, module

import memspike as ms
from memspike.ops import Conv2d, Dense, MaxPool2d
from memspike.program import fired_by
from memspike.simulator import int8, reductions, simulate
from memspike.simulator.ideal import Ideal
from memspike.simulator.kernels import channels_first, exact_arithmetic
from memspike.simulator.onednn import Banded
from memspike.simulator.walk import pooled_by, unflattened

NAME = "ideal"
NUMBER = {"lenet": 10_000, "resnet20": 2_000, "alexnet_cifar": 2_000}
GOALS = {"lenet": "ratio <= 0.2 (5x)", "resnet20": "ratio <= 0.286 (3.5x)", "alexnet_cifar": ""}

FIRST = "memspike, ideal, before its loops are loaded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="*", default=list(NUMBER))
    asked = parser.parse_args()
    rows = [row for name in asked.networks for threads in (1, 2) for row in measure(name, threads, asked.rounds)]
    torch.set_num_threads(1)
    proofs = [f"{TITLES[name]}: layers proven in {1000 * _proof(name):.0f} ms, once in a process" for name in asked.networks]
    publish(rows, [*proofs, f"bytes multiplied and added at {_peak() / 1e9:.0f} G/s in one product of 1024 x 1024 x 1024 with its neurons, one thread"])


def measure(name: str, threads: int, number: int) -> list[Row]:
    """One network on so many threads."""
    torch.set_num_threads(threads)
    mapped, net = mapping(name), module(name)
    counts, pixels = images(name, NUMBER[name])
    systems = {
        "fp32 torch": lambda: seconds_of(lambda: infer(net, pixels)),
        "memspike, ideal": lambda: _with_loops_after(0, mapped, counts),
        "memspike, ideal without int8": lambda: _without_int8(mapped, counts),
    }
    if any(isinstance(op, MaxPool2d) for op in mapped.program.ops):  # else they are never loaded
        systems[FIRST] = lambda: _with_loops_after(1 << 62, mapped, counts)
    if threads == 1:
        systems["roofline: its int8 products alone"] = lambda: _products(mapped.program, len(counts))
    case = f"{TITLES[name]}, {len(counts)} images, {threads} thread{'s' * (threads > 1)}"
    found = rounds(systems, "fp32 torch", number, twice=True)
    return [
        Row(NAME, case, system, len(counts) / seconds, "images/s", *ratios, GOALS[name] if system in ("memspike, ideal", FIRST) else "")
        for system, (seconds, *ratios) in found.items()
    ]


def _proof(name: str) -> float:
    """Seconds until a program is ready to run."""
    program = mapping(name).program
    with exact_arithmetic():
        return seconds_of(lambda: Ideal(program, frozenset({program.output})))


def _with_loops_after(num_bytes: int, mapped: ms.Mapping, counts: np.ndarray) -> float:
    pays, reductions.PAYS = reductions.PAYS, num_bytes
    try:
        return seconds_of(lambda: simulate(mapped, counts))
    finally:
        reductions.PAYS = pays


def _without_int8(mapped: ms.Mapping, counts: np.ndarray) -> float:
    has = int8.is_available
    int8.is_available = lambda: False
    try:
        return seconds_of(lambda: simulate(mapped, counts))
    finally:
        int8.is_available = has


@torch.inference_mode()
def _products(program: ms.Program, number: int) -> float:
    """Seconds that the program's int8 products alone would take for so many images, from batches of 256 of the right shapes."""
    seconds, before = 0.0, unflattened(program)
    for op in program.ops:
        if not isinstance(op, Conv2d | Dense):
            continue
        x, fire = program.types[op.inputs[0]], fired_by(program, op.out)
        image = before.get(op.inputs[0])
        pool = pooled_by(program, fire.out) if fire else None
        windows = pool.kernel if pool else (1, 1)
        product = int8.counts(op, x, fire, fire.type.min, fire.type.max, image, windows) if fire else int8.sums(op, x, image)
        assert product is not None
        shape = image or x.shape
        given = torch.zeros((256, *shape[1:], shape[0]) if len(shape) == 3 else (256, *shape), dtype=torch.uint8)
        given = channels_first(given)
        run = product.all if isinstance(product, Banded) else product  # no pool
        run(given)
        seconds += seconds_of(lambda run=run, given=given: run(given)) * number / 256
    return seconds


@torch.inference_mode()
def _peak() -> float:
    """Products of bytes per second."""
    from memspike.integer import IntType
    from memspike.ops import Fire, TensorType

    type = IntType(4, signed=True)
    weight = np.random.default_rng(0).integers(-7, 8, (1024, 1024))
    op, fire = Dense("y.sum", ("x",), weight, type), Fire("y", ("y.sum",), np.full(1024, 100), np.zeros(1024, np.int64), 0, IntType(4))
    product = int8.counts(op, TensorType((1024,), IntType(4)), fire, 0, 15)
    assert product is not None
    given = torch.randint(0, 16, (1024, 1024), dtype=torch.uint8)
    return 1024**3 / min(seconds_of(lambda: product(given)) for _ in range(20))


if __name__ == "__main__":
    main()
