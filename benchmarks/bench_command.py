"""`memspike simulate` from start to finish: 10 000 MNIST images, process start, imports, data, proofs and all.

Goals: at most 5 s for fidelity ideal, 10 s for spike. The first run decodes the images and is thrown away; later ones find them in the cache.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from measure import Row, publish, rounds, seconds_of
from subjects import DATA, SHAPES, training

import memspike as ms

NAME = "command"
GOALS = {"ideal": "<= 5 s", "spike": "<= 10 s"}
MNIST = DATA / "mnist"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if not MNIST.is_dir():
        print(f"{NAME}: not measured: no mnist in {DATA}; MEMSPIKE_DATA names the folder above it")
        return
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "lenet.safetensors"
        ms.save(ms.compile(training("lenet", SHAPES["lenet"]).rehearsal()), program)

        def run(*options: str) -> float:
            command = [sys.executable, "-m", "memspike", "--quiet", "simulate", str(program), "--data", str(MNIST), *options]
            return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))

        systems = {"python -c 'import torch'": lambda: seconds_of(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True))}
        systems |= {f"memspike simulate, {fidelity}": lambda fidelity=fidelity: run("--fidelity", fidelity) for fidelity in GOALS}
        found = rounds(systems, "python -c 'import torch'", asked.rounds)
    case = f"LeNet, 10000 MNIST images, {torch.get_num_threads()} threads"
    publish([Row(NAME, case, name, seconds, "s", *ratios, GOALS.get(name.split()[-1], "")) for name, (seconds, *ratios) in found.items()], [])


if __name__ == "__main__":
    main()
