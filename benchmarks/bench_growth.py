"""How cost grows: images per second and peak memory against batch, network width and window, each simulation in a process of its own.

Prints the table, writes the CSV, and draws results/growth.svg.
"""

import argparse
import csv
import json
import subprocess
import sys
from typing import Any

import matplotlib
import torch
from matplotlib import pyplot
from measure import RESULTS, Row, publish, results

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "memspike", "svg.fonttype": "none"}

NAME = "growth"
BATCHES, WIDTHS, BITS = (1, 4, 16, 64, 256, 512), (0.5, 1.0, 2.0, 4.0), (2, 3, 4, 5, 6, 7, 8)
CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "images at once": tuple({"batch": n} for n in BATCHES),
    "width (LeNet = 1)": tuple({"width": n} for n in WIDTHS),
    "timesteps": tuple({"bits": n} for n in BITS),
}
COLORS = {"ideal": "#0072B2", "spike": "#D55E00"}
CHILD = """
import json, resource, sys, time
sys.path.insert(0, {here!r})
import torch
from bench_growth import lenet
from subjects import training, mapped
from memspike.simulator import simulate
import numpy as np
asked = json.loads(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
mapping = mapped(training(lenet(asked["width"]), (1, 28, 28), asked["bits"]))
counts = np.random.default_rng(1).integers(0, 1 << asked["bits"], (asked["images"], 1, 28, 28), dtype=np.uint8)
simulate(mapping, counts[:1], fidelity=asked["fidelity"])
before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for _ in range(asked["rounds"]):
    started = time.perf_counter()
    simulate(mapping, counts, fidelity=asked["fidelity"], batch_size=asked["batch"])
    seconds.append((time.perf_counter() - started) / len(counts))
print(json.dumps({{"seconds": sorted(seconds), "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}}))
"""


def lenet(width: float) -> torch.nn.Module:
    """LeNet with so many times its channels."""
    a, b, c = (max(1, round(width * n)) for n in (20, 50, 500))
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, a, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(a, b, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * b, c), nn.ReLU(), nn.Linear(c, 10),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw the rows that are there")
    asked = parser.parse_args()
    if asked.draw:
        print(_draw())
        return
    torch.set_num_threads(1)  # as in the processes that are measured; rows say so
    rows: list[Row] = []
    for axis, cases in CASES.items():
        for fidelity in ("ideal", "spike"):
            for changes in cases:
                wanted = {"batch": None, "width": 1.0, "bits": 4, "rounds": asked.rounds, "fidelity": fidelity, **changes}
                answer = _child({**wanted, "images": 8192 if fidelity == "ideal" else max(16, 2048 >> wanted["bits"])})
                x = next(iter(changes.values()))
                x = 2**x if "bits" in changes else x
                median = answer["seconds"][len(answer["seconds"]) // 2]
                ratios = [median / median, answer["seconds"][0] / median, answer["seconds"][-1] / median]
                rows.append(Row(NAME, f"{axis}: {x:g}", f"memspike, {fidelity}", 1 / median, "images/s", *ratios))
                rows.append(Row(NAME, f"{axis}: {x:g}", f"memspike, {fidelity}, peak memory", answer["mib"], "MiB", 1, 1, 1))
    publish(rows, [])
    print(f"  drawn in {_draw()}")


def _child(asked: dict[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    code = CHILD.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _draw() -> str:
    """The figure of the rows in the CSV."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    with results(NAME).open(newline="") as file:
        for row in csv.DictReader(file):
            axis, at = row["case"].split(": ")
            _, fidelity, *memory = row["system"].split(", ")
            points = found.setdefault((axis, fidelity), [])
            points[-1].append(float(row["value"])) if memory else points.append([float(at), float(row["value"])])
    figure, panels = pyplot.subplots(2, len(CASES), figsize=(10, 5.6), layout="constrained", sharex="col", sharey="row")
    for (axis, fidelity), points in found.items():
        column = list(CASES).index(axis)
        values = [point[0] for point in points]
        for row, panel in enumerate(panels[:, column]):
            panel.plot(values, [point[1 + row] for point in points], marker="o", markersize=4, color=COLORS[fidelity], label=fidelity)
            panel.set_xscale("log")
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.minorticks_off()
            panel.grid(axis="y", color="0.9")
            panel.spines[["top", "right"]].set_visible(False)
        panels[1, column].set_xlabel(axis)
    panels[0, 0].set_yscale("log")
    panels[1, 0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("images per second")
    panels[1, 0].set_ylabel("peak memory beside\nprogram and images [MiB]")
    panels[0, 0].legend(frameon=False)
    figure.suptitle("LeNet, one thread: how the cost of a simulation grows", x=0.01, ha="left", fontweight="bold")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "growth.svg"
    figure.savefig(path, metadata={"Date": None})
    return str(path)


if __name__ == "__main__":
    main()
