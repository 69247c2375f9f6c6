"""What an image costs on a chip: few bits on one line, more bits in a longer window, or more lines in the same window.

Run: python experiments/lines_on_chip.py [--data ../shared/data] [--images 16]
LeNet on MNIST, trained in floating point (or taken from the tables' checkpoints) and rounded directly: accuracies are in the tables, this is about time,
energy and area, beside the same network in 8-bit dynamic fixed point on the same chip. Spikes are those of the first test images. Rows go to
results/lines_on_chip.csv.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from floating import Floating, build
from rich.console import Console
from rich.table import Table
from tables import common_options, floating_of

import memspike as ms
from memspike.cost import Cost
from memspike.files import write_text
from memspike.network import QuantizedNetwork
from memspike.pixels import PixelCode
from memspike.trainer import RECIPES, Bits, Training, load_model

RESULTS = Path(__file__).parent / "results" / "lines_on_chip.csv"
COLUMNS = ("bits", "image_bits", "lines", "levels", "latency_us", "speedup", "energy_nj", "energy_saving", "area_mm2", "area_saving")
MADE = ("seed", "num_images", "chip", "chip_digest", "program_digest", "baseline_digest", "fp32_digest", "version")  # what a row was made of
# bits of signals and weights, bits of one line of the image, lines
CASES = ((4, 4, 1), (4, 8, 1), (4, 4, 3), (4, 4, 17), (2, 2, 1), (2, 4, 1), (2, 8, 1), (2, 2, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_options(parser)
    parser.add_argument("--images", type=int, default=16)
    asked = parser.parse_args()
    rows = list(measure(floating_of("lenet", 0, asked), asked.images))
    text, table = io.StringIO(), Table(*(name.replace("_", " ") for name in COLUMNS))
    writer = csv.writer(text, lineterminator="\n")
    for row in ((*COLUMNS, *MADE), *rows):
        writer.writerow(row)
    for row in rows:
        table.add_row(*map(str, row[: len(COLUMNS)]))
    write_text(RESULTS, text.getvalue())
    Console(width=120).print(table)


def measure(floating: Floating, num_images: int) -> Iterator[tuple[object, ...]]:
    chip, pixels = ms.load_chip("predictive"), floating.data.test.images[:num_images]

    def cost(network: QuantizedNetwork) -> tuple[Cost, str]:
        program = ms.compile(network)
        mapping = ms.map(program, chip)
        return ms.estimate(mapping, ms.simulate(mapping, program.count_pixels(pixels), fidelity="spike")), program.digest()

    def training(bits: Bits) -> Training:
        return Training(load_model("lenet", 1, 10, 0), floating.data, name="lenet", bits=bits, recipe=RECIPES["lenet"], pretrained=floating.state)

    theirs, baseline = cost(training(Bits()).baselines(floating.net)[1])
    for bits, image_bits, lines in CASES:
        chosen = Bits(bits, bits, image_bits, pixels=PixelCode(lines=lines))
        network = training(chosen).baselines(floating.net)[0]
        ours, digest = cost(network)
        levels = network.pixels.most(network.input_type) + 1
        yield (
            bits, image_bits, lines, levels, f"{ours.latency * 1e6:.1f}", f"{theirs.latency / ours.latency:.2f}", f"{ours.energy * 1e9:.0f}",
            f"{1 - ours.energy / theirs.energy:.3f}", f"{ours.area * 1e6:.3f}", f"{1 - ours.area / theirs.area:.3f}",
            floating.seed, num_images, chip.name, chip.digest(), digest, baseline, floating.digest(), build(),
        )  # fmt: skip


if __name__ == "__main__":
    main()
