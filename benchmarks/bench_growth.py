"""How cost grows: images per second and peak memory against batch, network width and window, each simulation in a process of its own.

Prints the table, writes the CSV, and draws results/growth.html.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

import plotly.graph_objects as go
import torch
from measure import RESULTS, Row, publish
from plotly.subplots import make_subplots

NAME = "growth"
BATCHES, WIDTHS, BITS = (1, 4, 16, 64, 256), (0.5, 1.0, 2.0, 4.0), (2, 3, 4, 5, 6, 7, 8)
CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "images at once": tuple({"batch": n} for n in BATCHES),
    "width (LeNet = 1)": tuple({"width": n} for n in WIDTHS),
    "timesteps": tuple({"bits": n} for n in BITS),
}
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
    asked = parser.parse_args()
    rows: list[Row] = []
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for axis, cases in CASES.items():
        for fidelity in ("ideal", "spike"):
            for changes in cases:
                wanted = {"batch": None, "width": 1.0, "bits": 4, "rounds": asked.rounds, "fidelity": fidelity, **changes}
                answer = _child({**wanted, "images": 1024 if fidelity == "ideal" else max(16, 2048 >> wanted["bits"])})
                x = next(iter(changes.values()))
                x = 2**x if "bits" in changes else x
                median = answer["seconds"][len(answer["seconds"]) // 2]
                ratios = [median / median, answer["seconds"][0] / median, answer["seconds"][-1] / median]
                rows.append(Row(NAME, f"{axis}: {x:g}", f"memspike, {fidelity}", 1 / median, "images/s", *ratios))
                rows.append(Row(NAME, f"{axis}: {x:g}", f"memspike, {fidelity}, peak memory", answer["mib"], "MiB", 1, 1, 1))
                found.setdefault((axis, fidelity), []).append((x, 1 / median, answer["mib"]))
    torch.set_num_threads(1)
    publish(rows, [f"drawn in {_draw(found)}"])


def _child(asked: dict[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    code = CHILD.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _draw(found: dict[tuple[str, str], list[tuple[float, float, float]]]) -> str:
    titles = [f"{what} against {axis}" for what in ("Images per second", "Peak memory (MiB)") for axis in CASES]
    figure = make_subplots(rows=2, cols=len(CASES), subplot_titles=titles, vertical_spacing=0.16, horizontal_spacing=0.07)
    colors = {"ideal": "#2a6f97", "spike": "#c8553d"}
    for (axis, fidelity), points in found.items():
        column = list(CASES).index(axis) + 1
        for row in (1, 2):
            more = {"name": fidelity, "legendgroup": fidelity, "showlegend": row == column == 1, "line": {"color": colors[fidelity]}}
            figure.add_scatter(x=[p[0] for p in points], y=[p[row] for p in points], mode="lines+markers", row=row, col=column, **more)
    figure.update_xaxes(type="log", dtick="D2", tickfont={"size": 10})
    for column, axis in enumerate(CASES, start=1):
        ticks = sorted({point[0] for point in found[axis, "ideal"]})
        figure.update_xaxes(title=axis, tickmode="array", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], col=column)
    figure.update_yaxes(type="log", row=1)
    figure.update_yaxes(rangemode="tozero", row=2)
    figure.update_layout(template="plotly_white", width=1250, height=760, title="LeNet, one thread: how the cost of a simulation grows", margin={"t": 90})
    path = RESULTS / "growth.html"
    RESULTS.mkdir(exist_ok=True)
    go.Figure(figure).write_html(path, include_plotlyjs=True)
    return str(path)


if __name__ == "__main__":
    main()
