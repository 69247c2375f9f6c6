"""The zoo: trains what is missing of the default recipe's 4-bit networks, seed 0, and writes their programs into the package.

Run: python experiments/zoo.py [--networks lenet] [--runs runs/tables] [--device cuda]
The seed is table 4's first, not the best of several. How a program was trained, and what it scores on all test images, goes into its notes.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from methods import DATA, Method
from rows import Row
from tables import common_options, floating_of

import memspike
from memspike import storage
from memspike.program import Program

ZOO = Path(memspike.__file__).parent / "zoo"
KEPT = ("data", "bits", "recipe", "seed", "device", "precision", "torch", "conversion", "compile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(DATA), choices=list(DATA))
    common_options(parser)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    for network in asked.networks:
        row, program = floating_of(network, 0, asked).row("zoo", Method("default recipe"), 4)
        assert program is not None
        keep(row, program)


def keep(row: Row, program: Program) -> None:
    """Write a program into the package, with what its row says of it."""
    notes = {name: program.notes[name] for name in KEPT if name in program.notes}
    about = {name: value for name, value in asdict(row).items() if name not in ("table", "method", "program_digest", "seconds")}
    name = f"{row.network.removesuffix('_cifar')}-{DATA[row.network][0]}-4"
    path = storage.save(replace(program, name=name, notes={**notes, "zoo": about}), ZOO / f"{name}.safetensors")
    print(f"{path}: {row.accuracy_program:.2%}, fp32 {row.accuracy_fp32:.2%}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
