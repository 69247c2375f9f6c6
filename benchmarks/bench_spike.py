"""Every timestep of every neuron, 16 timesteps, exact: against one fp32 pass, against sixteen, and against spiking frameworks.

Goals: LeNet at most 4 times slower than one fp32 pass, and at least 5 times faster than the best peer. How long spikes take depends on how many there are:
the goal is for the trained program that comes along, on test images; beside it stands the worst that a network can do, random images through random
weights. A peer, whose time does not depend on that, runs in its own process, beside an fp32 LeNet of its own whose passes it is a ratio to;
`make bench-peers` installs them.
"""

import argparse

import numpy as np
import torch
from measure import Row, peer, publish, rounds, seconds_of
from numpy.typing import NDArray
from subjects import TITLES, TRAINED, images, infer, mapping, module, trained
from torch import Tensor

import memspike as ms
from memspike.simulator import simulate

NAME = "spike"
NUMBER = {"lenet": 4_000, "resnet20": 256}
GOALS = {"lenet": "ratio <= 4", "resnet20": ""}
TIMESTEPS = 16
PEERS = ("norse", "SpikingJelly, single step", "SpikingJelly, multi step", "snnTorch", "sinabs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-images", type=int, default=512)
    asked = parser.parse_args()
    rows, notes = list[Row](), list[str]()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ours = list[Row]()
        for name in NUMBER:
            subject = trained(name, NUMBER[name])
            if isinstance(subject, str):
                notes.append(f"{TITLES[name]}, trained: not measured: {subject}")
            else:
                ours += measure(name, f"{TITLES[name]} on {TRAINED[name][1]}", *subject, threads, asked.rounds, GOALS[name])
            ours += measure(name, f"{TITLES[name]}, random", mapping(name), *images(name, NUMBER[name]), threads, asked.rounds)
        rows += ours
        best = 0.0
        for system in PEERS:
            wanted = {"system": system, "timesteps": TIMESTEPS, "images": asked.peer_images, "batch": 256, "rounds": min(3, asked.rounds)}
            answer = peer("spiking_lenet.py", wanted, None)
            if isinstance(answer, str):
                notes.append(f"{system} {answer} (make bench-peers)")
                continue
            rows.append(Row(NAME, _case("LeNet", threads), system, 1 / answer["seconds_per_image"], "images/s", answer["ratio"], answer["low"], answer["high"]))
            best = min(best or answer["ratio"], answer["ratio"])
        if best:
            for row in ours:
                if row.case.startswith("LeNet") and row.system.endswith("up_down"):
                    notes.append(f"{row.case}: memspike is {best / row.ratio:.1f} times faster than the best peer (goal: at least 5)")
    publish(rows, notes)


def measure(name: str, title: str, mapped: ms.Mapping, counts: NDArray[np.uint8], pixels: Tensor, threads: int, number: int, goal: str = "") -> list[Row]:
    """One program on some images, all kinds of neurons."""
    net = module(name)
    systems = {"fp32 torch, one pass": lambda: seconds_of(lambda: infer(net, pixels))}
    for neuron in ("up_down", "two_phase", "fire_only", "dual"):
        systems[f"memspike, neuron {neuron}"] = lambda neuron=neuron: seconds_of(lambda: simulate(mapped, counts, fidelity="spike", neuron=neuron))
    found = rounds(systems, "fp32 torch, one pass", number)
    return [
        Row(NAME, _case(title, threads), system, len(counts) / seconds, "images/s", *ratios, goal if system.endswith("up_down") else "")
        for system, (seconds, *ratios) in found.items()
    ]


def _case(title: str, threads: int) -> str:
    return f"{title}, {TIMESTEPS} timesteps, {threads} thread{'s' * (threads > 1)}"


if __name__ == "__main__":
    main()
