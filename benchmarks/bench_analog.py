"""LeNet on 32 x 32 crossbars with programming noise, read noise and wires: one chip, against fp32 torch and other crossbar simulators.

Goals: at least 10 times faster than aihwkit with read noise, 100 times than CrossSim with read noise, 1000 times than CrossSim with 1 ohm wires, everything
being on in ours. Peers run on fewer images, since some need minutes for a hundred; the table says how many. Every figure
is seconds of processor time, of all threads together: what one core alone would take, whatever else the machine does. CrossSim's checkout
(github.com/sandialabs/cross-sim) is named by MEMSPIKE_CROSSSIM, and the Python that has the packages of both peers by MEMSPIKE_PEERS.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from measure import Row, peer, publish, rounds
from torch import nn

import memspike as ms
from memspike import storage
from memspike.simulator import simulate
from memspike.trainer import Bits, Training

NAME = "analog"
WHOLE = "memspike, programming and read noise, wires"
# What is measured of peers: whose, with which arguments (see peers/), and how many times faster ours is meant to be.
PEERS: dict[str, tuple[str, dict[str, object], str]] = {
    "aihwkit, PCM": ("aihwkit", {"cells": "pcm", "read_noise": 0.0, "ir_drop": 0.0, "images": 1000}, ""),
    "aihwkit, PCM, read noise": ("aihwkit", {"cells": "pcm", "read_noise": 0.0175, "ir_drop": 0.0, "images": 1000}, ">= 10x ours"),
    "aihwkit, HfOx of Wan 2022, read noise 1 %": ("aihwkit", {"cells": "wan2022", "read_noise": 0.01, "ir_drop": 0.0, "images": 1000}, ">= 10x ours"),
    "aihwkit, the same, IR drop": ("aihwkit", {"cells": "wan2022", "read_noise": 0.01, "ir_drop": 1.0, "images": 1000}, ""),
    "CrossSim, programming error": ("CrossSim", {"read_noise": 0, "ohm": 0, "images": 200}, ""),
    "CrossSim, read noise 2 %": ("CrossSim", {"read_noise": 0.02, "ohm": 0, "images": 20}, ">= 100x ours"),
    "CrossSim, wires of 1 ohm": ("CrossSim", {"read_noise": 0, "ohm": 1.0, "images": 4}, ">= 1000x ours"),
}
INSTALL = {
    "aihwkit": "aihwkit is on PyPI; its wheel fails beside torch 2.13, its source builds in 18 minutes with cmake and OpenBLAS",
    "CrossSim": "a checkout of github.com/sandialabs/cross-sim is named by MEMSPIKE_CROSSSIM",
}


def program() -> ms.Program:
    """LeNet rounded to 4 bits without training: speed does not depend on what it has learned."""
    rng = np.random.default_rng(0)
    split = SimpleNamespace(images=rng.integers(0, 256, (64, 1, 28, 28), dtype=np.uint8), labels=np.arange(64) % 10)
    data = SimpleNamespace(name="random", digest="", source="random", train=split, test=split)
    torch.manual_seed(0)
    return ms.compile(Training(ms.load_model("lenet"), data, bits=Bits(4, 4)).rehearsal())  # pyright: ignore[reportArgumentType]


def processor_seconds(run: Callable[[], object]) -> float:
    """Processor time of one call."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lenet = program()
    chip = storage.load_chip("predictive").with_device(storage.load_device("wan2022-hfox"))
    counts = np.random.default_rng(1).integers(0, 16, (asked.images, 1, 28, 28))
    net: nn.Module = ms.load_model("lenet").eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    pixels = torch.from_numpy(counts.astype(np.float32)).to(memory_format=torch.channels_last)
    number = iter(range(10**6))

    @torch.inference_mode()
    def fp32() -> float:
        return processor_seconds(lambda: [net(pixels[start : start + 256]) for start in range(0, len(pixels), 256)])

    def ours(*left_out: str, fidelity: str = "analog") -> float:
        """One new chip each time, so that nothing is remembered: written, solved and run."""
        mapping, seed = ms.map(lenet, chip.without(*left_out)), next(number)
        time = 86400.0 if fidelity == "analog" else 0.0
        return processor_seconds(lambda: simulate(mapping, counts, fidelity=fidelity, seed=seed, time=time))  # pyright: ignore[reportArgumentType]

    def other(script: str, path: str | None, arguments: dict[str, object]) -> float:
        """A peer's seconds for as many images, from those for one chip (CrossSim: none) and those for fewer images: they grow with their number."""
        answer = peer(script, arguments, path)
        assert not isinstance(answer, str), answer
        return answer["seconds_once"] + answer["seconds_per_image"] * len(counts)

    systems = {
        "fp32 torch": fp32,
        "memspike, ideal": lambda: ours(fidelity="ideal"),
        "memspike, programming noise": lambda: ours("read_noise", "wires"),
        "memspike, programming and read noise": lambda: ours("wires"),
        WHOLE: lambda: ours(),
    }
    notes: list[str] = []
    for system, (name, arguments, _) in PEERS.items():
        script, path = f"{name.lower()}_lenet.py", os.environ.get(f"MEMSPIKE_{name.upper()}")
        tried = peer(script, {**arguments, "images": 1}, path)
        if isinstance(tried, str):
            notes.append(f"{system}: {tried} ({INSTALL[name]})")
        else:
            systems[system] = partial(other, script, path, arguments)
    found = rounds(systems, WHOLE, asked.rounds)
    rows: list[Row] = []
    for system, (seconds, *ratios) in found.items():
        _, arguments, goal = PEERS.get(system, ("", {"images": asked.images}, ""))
        rows.append(Row(NAME, f"LeNet, {arguments['images']} images, 32x32, one core", system, len(counts) / seconds, "images/s", *ratios, goal))
    publish(rows, ["Times slower: than memspike with programming noise, read noise and wires, a new chip in every round.", *notes])


if __name__ == "__main__":
    main()
