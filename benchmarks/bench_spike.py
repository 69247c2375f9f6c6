"""Every timestep of every neuron, 16 timesteps, exact: against one fp32 pass, against sixteen, and against spiking frameworks.

Goals: LeNet at most 4 times slower than one fp32 pass, and at least 5 times faster than the best peer. A peer runs in its own process, beside an fp32 LeNet
of its own whose passes it is a ratio to; `make bench-peers` installs them.
"""

import argparse

import torch
from measure import Row, peer, publish, rounds, seconds_of
from subjects import TITLES, images, infer, mapping, module

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
        ours = measure("lenet", threads, asked.rounds)
        rows += ours
        best = 0.0
        for system in PEERS:
            wanted = {"system": system, "timesteps": TIMESTEPS, "images": asked.peer_images, "batch": 256, "rounds": min(3, asked.rounds)}
            answer = peer("spiking_lenet.py", wanted, None)
            if isinstance(answer, str):
                notes.append(f"{system} {answer} (make bench-peers)")
                continue
            rows.append(Row(NAME, _case("lenet", threads), system, 1 / answer["seconds_per_image"], "images/s", answer["ratio"], answer["low"], answer["high"]))
            best = min(best or answer["ratio"], answer["ratio"])
        if best:
            faster = best / next(row.ratio for row in ours if row.system.endswith("up_down"))
            notes.append(f"{threads} thread{'s' * (threads > 1)}: memspike is {faster:.1f} times faster than the best peer (goal: at least 5)")
        rows += measure("resnet20", threads, asked.rounds)
    publish(rows, notes)


def measure(name: str, threads: int, number: int) -> list[Row]:
    """One network, all kinds of neurons."""
    mapped, net = mapping(name), module(name)
    counts, pixels = images(name, NUMBER[name])
    systems = {"fp32 torch, one pass": lambda: seconds_of(lambda: infer(net, pixels))}
    for neuron in ("up_down", "two_phase", "fire_only", "dual"):
        systems[f"memspike, neuron {neuron}"] = lambda neuron=neuron: seconds_of(lambda: simulate(mapped, counts, fidelity="spike", neuron=neuron))
    found = rounds(systems, "fp32 torch, one pass", number)
    return [
        Row(NAME, _case(name, threads), system, len(counts) / seconds, "images/s", *ratios, GOALS[name] if system.endswith("up_down") else "")
        for system, (seconds, *ratios) in found.items()
    ]


def _case(name: str, threads: int) -> str:
    return f"{TITLES[name]}, {TIMESTEPS} timesteps, {threads} thread{'s' * (threads > 1)}"


if __name__ == "__main__":
    main()
