"""What a network of few bits costs on a chip, beside itself in 8-bit dynamic fixed point on the same chip: the paper's three ratios, seed by seed.

Run: python experiments/on_chip.py [--networks lenet alexnet_cifar resnet20] [--seeds 5] [--bits 4] [--method "default recipe"] [--images 64]
Networks are table 4's, by its default recipe at 4 bits unless asked otherwise (trained here if the checkpoints of that table are not there); both designs
take real spikes of the first test images. A finished row is known by network, seed, method, bits, chip (its digest) and number of images, and skipped. Rows
go to results/on_chip.csv; means over seeds are printed beside the paper's figures.
"""

import argparse
import csv
import io
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Mapped
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floating import Floating, build
from methods import DATA, SEEDS, TITLES, Method
from printed import spread
from rich.console import Console
from rich.table import Table
from rows import alone
from table4_recipe import BENCH
from tables import common_options, floating_of

import memspike as ms
from memspike.cost import Cost
from memspike.files import write_text
from memspike.mapping import Mapping
from memspike.program import Program
from memspike.reporter.evidence import Ratio
from memspike.reporter.paper import CITATION, RATIO

RESULTS = Path(__file__).parent / "results" / "on_chip.csv"
CHIPS = ("predictive", "liu2018")
METHODS = {method.name: method for method in BENCH.methods}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["lenet"], choices=list(DATA))
    parser.add_argument("--seeds", type=int, help="how many, from 0 on (default: 5 on MNIST, 3 on CIFAR-10)")
    parser.add_argument("--bits", type=int, default=4, choices=sorted(BENCH.bits), help="of activations and weights")
    parser.add_argument("--method", default="default recipe", choices=list(METHODS), help="a row of table 4")
    common_options(parser)
    parser.add_argument("--images", type=int, default=64)
    asked = parser.parse_args()
    for network in asked.networks:
        for seed in range(asked.seeds or SEEDS[network]):
            done = {_key(row) for row in read()}
            wanted = (network, str(seed), asked.method, str(asked.bits))
            missing = [chip for chip in map(ms.load_chip, CHIPS) if (*wanted, chip.digest(), str(asked.images)) not in done]
            if missing:
                version = build()
                floating = floating_of(network, seed, asked)
                add(measure(floating, METHODS[asked.method], asked.bits, missing, asked.images, version))
    show([row for row in read() if row["num_images"] == str(asked.images)])


def _key(row: Mapped[str, str]) -> tuple[str, ...]:
    """What a finished row is known by."""
    return row["network"], row["seed"], row["method"], row["bits"], row["chip_digest"], row["num_images"]


def programs(floating: Floating, method: Method, bits: int) -> tuple[Program, Program]:
    """The network in counts, and in 8-bit dynamic fixed point, both from the same floating-point weights."""
    training = floating.counting(method, bits)
    ours = training.freeze(training.counts(training.floating()))
    return ms.compile(ours), ms.compile(training.baselines(floating.net)[1])


def measure(floating: Floating, method: Method, bits: int, chips: Sequence[ms.Chip], num_images: int, version: str) -> Iterator[dict[str, Any]]:
    """A row for each chip."""
    ours, theirs = programs(floating, method, bits)
    for chip in chips:
        (our_mapping, our_cost), (their_mapping, their_cost) = (_cost(floating, program, chip, num_images) for program in (ours, theirs))
        yield {
            "network": floating.network, "data": floating.data.name, "seed": floating.seed, "method": method.name, "bits": bits,
            "chip": chip.name, "num_images": num_images,
            **{name: f"{value:.4f}" for name, value in asdict(Ratio.of(our_cost, their_cost)).items()},
            **_figures("", our_mapping, our_cost), **_figures("baseline_", their_mapping, their_cost),
            "program_digest": ours.digest(), "baseline_digest": theirs.digest(), "chip_digest": chip.digest(), "version": version,
        }  # fmt: skip


def _cost(floating: Floating, program: Program, chip: ms.Chip, num_images: int) -> tuple[Mapping, Cost]:
    mapping = ms.map(program, chip)
    return mapping, ms.estimate(mapping, ms.simulate(mapping, program.count_pixels(floating.data.test.images[:num_images]), fidelity="spike"))


def _figures(of: str, mapping: Mapping, cost: Cost) -> dict[str, str]:
    return {**{f"{of}{name}": f"{value:.6g}" for name, value in cost.figures.items()}, f"{of}crossbars": str(mapping.num_crossbars)}


def read() -> list[dict[str, str]]:
    """The finished rows."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def add(rows: Iterator[dict[str, Any]]) -> None:
    """Write more rows, in place of those of their keys and in an order that does not depend on when they were finished; whole or not at all."""
    made = [{name: str(value) for name, value in row.items()} for row in rows]
    with alone(RESULTS):
        kept = [row for row in read() if _key(row) not in {_key(new) for new in made}]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(made[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *made], key=lambda row: (row["network"], row["method"], row["bits"], row["chip"], row["seed"], _key(row))))
        write_text(RESULTS, text.getvalue())


def show(rows: list[dict[str, str]]) -> None:
    """Means over seeds, beside the paper's, of each way to few bits; of each chip as it is now."""
    digests = {name: ms.load_chip(name).digest() for name in CHIPS}
    rows = [row for row in rows if row["chip_digest"] == digests[row["chip"]]]
    table = Table("network", "data", "method", "bits", "chip", "seeds", "speed-up", "throughput gain", "energy saving", "area saving", box=None)
    for place in dict.fromkeys(map(_place, rows)):
        found = [row for row in rows if _place(row) == place]
        factors = [f"{spread([float(row[name]) for row in found])}x" for name in ("speedup", "throughput")]
        shares = [f"{spread([100 * float(row[name]) for row in found])} %" for name in ("energy_saving", "area_saving")]
        table.add_row(TITLES[place[0]].split(" on ")[0], *place[1:], str(len(found)), *factors, *shares)
    paper = (f"> {RATIO.speedup}x", "-", f"{100 * RATIO.energy_saving:g} %", f"{100 * RATIO.area_saving:g} %")
    table.add_row("paper", "", "", "4", "", "", *paper)
    Console(width=160).print(table)
    Console(width=140).print(f"Paper: {CITATION}.", highlight=False)


def _place(row: Mapped[str, str]) -> tuple[str, ...]:
    return row["network"], row["data"], row["method"], row["bits"], row["chip"]


if __name__ == "__main__":
    main()
