"""LeNet on 32 x 32 crossbars with programming noise, read noise and wires: one chip, against fp32 torch and other crossbar simulators.

Goals: at least 10 times faster than aihwkit with read noise, 100 times than CrossSim with read noise, 1000 times than CrossSim with 1 ohm wires.
Peers run on fewer images, since they need minutes for a hundred; the table says how many. Every figure is for one thread.
"""

import argparse
import os
from types import SimpleNamespace

import numpy as np
import torch
from measure import Row, peer, publish, rounds, seconds_of
from torch import nn

import memspike as ms
from memspike import storage
from memspike.simulator import simulate
from memspike.trainer import Bits, Training

NAME = "analog"


def program() -> ms.Program:
    """LeNet rounded to 4 bits without training: speed does not depend on what it has learned."""
    rng = np.random.default_rng(0)
    split = SimpleNamespace(images=rng.integers(0, 256, (64, 1, 28, 28), dtype=np.uint8), labels=np.arange(64) % 10)
    data = SimpleNamespace(name="random", digest="", source="random", train=split, test=split)
    torch.manual_seed(0)
    return ms.compile(Training(ms.load_model("lenet"), data, bits=Bits(4, 4)).rehearsal())  # pyright: ignore[reportArgumentType]


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
        return seconds_of(lambda: [net(pixels[start : start + 256]) for start in range(0, len(pixels), 256)])

    def ours(*left_out: str, fidelity: str = "analog") -> float:
        """One new chip each time, so that nothing is remembered: written, solved and run."""
        mapping, seed = ms.map(lenet, chip.without(*left_out)), next(number)
        return seconds_of(lambda: simulate(mapping, counts, fidelity=fidelity, seed=seed, time=86400.0))  # pyright: ignore[reportArgumentType]

    systems = {
        "fp32 torch": fp32,
        "memspike, ideal": lambda: ours(fidelity="ideal"),
        "memspike, programming noise": lambda: ours("read_noise", "wires"),
        "memspike, programming and read noise": lambda: ours("wires"),
        "memspike, programming and read noise, wires": lambda: ours(),
    }
    found = rounds(systems, "fp32 torch", asked.rounds)
    case = f"LeNet, {asked.images} images, 32x32, 1 thread"
    rows = [Row(NAME, case, name, len(counts) / seconds, "images/s", *ratios) for name, (seconds, *ratios) in found.items()]
    reference = found["fp32 torch"][0] / len(counts)
    whole = found["memspike, programming and read noise, wires"][0] / len(counts)
    notes = []
    for system, arguments, goal in (
        ("CrossSim, programming error", {"read_noise": 0, "ohm": 0, "images": 200}, ""),
        ("CrossSim, read noise 2 %", {"read_noise": 0.02, "ohm": 0, "images": 20}, "ours >= 100x faster"),
        ("CrossSim, wires 1 ohm", {"read_noise": 0, "ohm": 1.0, "images": 4}, "ours >= 1000x faster"),
    ):
        answer = peer("crosssim_lenet.py", arguments, os.environ.get("MEMSPIKE_CROSSSIM"))
        if isinstance(answer, str):
            notes.append(f"{system} {answer} (a checkout of github.com/sandialabs/cross-sim is named by MEMSPIKE_CROSSSIM)")
            continue
        seconds = answer["seconds_per_image"]
        few, ratio = f"LeNet, {arguments['images']} images, 32x32, 1 thread", seconds / reference
        rows.append(Row(NAME, few, system, 1 / seconds, "images/s", ratio, ratio, ratio, goal))
        notes.append(f"{system}: memspike with everything on is {seconds / whole:.0f} times faster")
    publish(rows, notes)


if __name__ == "__main__":
    main()
