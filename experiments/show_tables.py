"""Every table that has rows, as docs/tables.md, with a figure per network: what the experiments gave so far, beside the paper's figures. Trains nothing.

Run: python experiments/show_tables.py
"""

import re
import statistics
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import matplotlib
import numpy as np
import versus_brevitas
from methods import SEEDS, TITLES, Method
from printed import Aims, table_lines
from rows import Row, read
from tables import Bench

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "memspike", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
from matplotlib import pyplot  # noqa: E402  (the backend first)

TABLES = (
    "table1_neuron_convergence",
    "table2_weight_clustering",
    "table3_both",
    "table4_recipe",
    "table5_fixed_point",
    "table6_ablation",
    "table7_image",
    "table8_lines",
)
DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "tables.md"
HEAD = """# Tables

Written by `python experiments/show_tables.py` from [its rows](../experiments/results). Each table is filled by a command of its own, which skips the rows
that are there; with `--jobs 2` two trainings run at once.

**What is measured.** Accuracies are per cent of all 10 000 test images, mean and standard deviation over seeds; a program's is that of the compiled
integers, image, first and last layer included. Where one half stays in fp32 there is no program: the accuracy is the training's own forward pass. The epoch
is always the last. Tables that set ways beside each other take fewer epochs after the floating-point ones than the default recipe, all ways equally many:
{brief}.

**Columns.** Bits are of activations / weights; the image has as many as activations unless its method says so. "Plain fp32" is the network before any
further epoch, "same epochs" the control: that network in floating point after as many further epochs as the quantised network took. The control follows no
teacher, and where a network drops out (AlexNet) it goes on to; signals in counts do not. The loss, in points, is the control minus the quantised network,
and beside it plain fp32 minus the quantised one. Won and lost are images that only the quantised, or only the fp32 network it started from classifies
correctly, all seeds together: a difference is uncertain by about the root of their sum. The last column says by how many points the bold method, a table's
subject, is ahead of another; "behind" where it is not, "missed" where a mean misses its goal.

**From where.** The rows are of several builds; each names those of its epochs (older ones that which finished it), and the digest of its program. Rows of
one seed that were trained at different times may start from floating-point networks that are not the same (`fp32_digest`, in older rows `accuracy_fp32`):
differences are taken between rows of one network only. Networks that take an hour to train [lie here](../experiments/networks), and rows start from them
([why](decisions/0023-networks-that-are-kept.md))."""
# What a figure shows: table, method, label, colour; the colours of Okabe and Ito, which the colour-blind can tell apart.
LINES = (
    ("table4_recipe", "default recipe", "default recipe", "#0072B2"),
    ("table4_recipe", "image dithered, range fitted", "the same, image dithered in a fitted range", "#CC79A7"),
    ("table4_recipe", "image on 5 lines", "the same, image on 5 lines", "#56B4E9"),
    ("table3_both", "Neuron Convergence and Weight Clustering", "both methods of Liu 2018", "#009E73"),
    ("versus_brevitas", versus_brevitas.THEIRS, "Brevitas, learned scales", "#E69F00"),
    ("table3_both", "rounded, least squared error", "untrained, least squared error", "#000000"),
    ("table3_both", "direct rounding", "untrained, direct rounding", "#D55E00"),
)
_UNBROKEN = re.compile(" ([±:/]) (?=[0-9f])")  # what a narrow column must not break at
UNTRAINED = {label: colour for _, _, label, colour in LINES if label.startswith("untrained")}


def main() -> None:
    figures = [path for network in TITLES if (path := draw(network))]
    PAGE.write_text(page(figures), encoding="utf-8")
    print(PAGE)


def page(figures: Sequence[Path]) -> str:
    """The page's text, with these figures."""
    parts = [HEAD.format(brief=_brief()), *(f"![{TITLES[path.stem]}: accuracy against bits]({path.relative_to(DOCS)})" for path in figures)]
    if figures:
        parts.append(
            "Means over seeds, bars from the worst seed to the best; epochs differ (legend).\n"
            "The axis is stretched towards 100 %, and points of the same bits stand side by side; arrows name what lies below it."
        )
    for name in TABLES:
        bench: Bench = import_module(name).BENCH
        wanted = {network: len(bench.ways(network)) * seeds for network, seeds in SEEDS.items()}
        parts += _part(name, bench.title, wanted, bench.aims)
    wanted = {network: 2 * 3 * SEEDS[network] for network in versus_brevitas.NETWORKS}
    parts += _part(versus_brevitas.TABLE, versus_brevitas.TITLE, wanted, versus_brevitas.AIMS)
    return "\n\n".join(parts) + "\n"


def _brief() -> str:
    short, whole = Method("", brief=True), Method("")
    return ", ".join(f"{short.epochs(network)} for {title.split(' on ')[0]} instead of {whole.epochs(network)}" for network, title in TITLES.items())


def _part(name: str, title: str, wanted: dict[str, int], aims: Aims) -> list[str]:
    rows = read(name)
    have = ", ".join(f"{TITLES[network]} {sum(row.network == network for row in rows)} of {number}" for network, number in wanted.items())
    part = [f"## {title}", f"`python experiments/{name}.py`; rows so far: {have}."]
    lines = [_UNBROKEN.sub("\u00a0\\1\u00a0", line) if line.startswith("|") else line for line in table_lines(rows, aims)]
    return [*part, *["\n".join(lines)] * bool(rows), *[aims.tried] * bool(aims.tried)]


def draw(network: str) -> Path | None:
    """Accuracy against bits, as docs/figures/<network>.svg; None where a network has too few rows for a line."""
    rows = {label: [row for row in read(table) if row.network == network and row.method == method] for table, method, label, _ in LINES}
    found = {label: _points(members) for label, members in rows.items()}
    if len(found["default recipe"]) < 2:
        return None
    figure, axes = pyplot.subplots(figsize=(7.2, 5.4), layout="constrained")
    for number, (_, _, label, colour) in enumerate(LINES):
        if points := found[label]:
            bits, means = list(points), [statistics.mean(values) for values in points.values()]
            below, above = ([abs(edge(values) - mean) for values, mean in zip(points.values(), means, strict=True)] for edge in (min, max))
            seeds = {len(values) for values in points.values()}
            many = f"{min(seeds)} to {max(seeds)} seeds" if len(seeds) > 1 else f"{max(seeds)} seed{'s' * (max(seeds) > 1)}"
            epochs = max(row.epochs for row in rows[label])
            what = f"{label}, {epochs} epochs" if epochs else label
            beside = [bit + 0.06 * (number - 2) for bit in bits]  # so that no bar hides another
            axes.errorbar(beside, means, (below, above), marker="o", capsize=3, color=colour, label=f"{what} ({many})")
    controls = {
        label: (colour, 100 * statistics.mean(row.accuracy_fp32_control for row in rows[label]))
        for table, _, label, colour in LINES
        if table == "table4_recipe" and rows[label]
    }
    for label, (colour, control) in controls.items():
        of = f" ({label})" if len(controls) > 1 else ""
        axes.axhline(control, color=colour, linestyle="--", linewidth=1, label=f"fp32 with as many further epochs{of}")
    # What is lost is spread out: a tenth of the errors is as far as ten times as many.
    axes.set_yscale("function", functions=(lambda y: -np.log(np.clip(100 - y, 1e-3, None)), lambda y: 100 - np.exp(-y)))
    # What is only rounded may lie far below all else, and would press it together: it is named under the axis.
    every = [value for label, points in found.items() if label not in UNTRAINED for values in points.values() for value in values]
    bottom, top = (100 - share * (100 - edge) for share, edge in ((1.12, min(every)), (0.8, max(*every, *(control for _, control in controls.values())))))
    fine, coarse = (99.9, 99.8, 99.7, 99.6, 99.5, 99.4, 99.3, 99.2, 99, 98, 95), (99.9, 99.8, 99.5, 99, 98, 95, 90, 80, 60, 30, 10)
    middle = (98, 97, 96, 95, 94, 92, 90, 88, 86, 84, 82, 80, 75, 70, 60, 30, 10)
    ticks = [tick for tick in (fine if bottom > 98 else middle if top < 98 else coarse) if bottom <= tick <= top]
    below = {label: {bit: mean for bit, values in found[label].items() if (mean := statistics.mean(values)) < bottom} for label in UNTRAINED}
    for place, label in enumerate(label for label, means in below.items() if means):
        for bit, mean in below[label].items():
            text, under = f"\u2193 {mean:.1f} %", (0, -4 - 12 * place)
            axes.annotate(text, (bit, bottom), under, textcoords="offset points", ha="center", va="top", color=UNTRAINED[label], annotation_clip=False)
    axes.tick_params(axis="x", length=0, pad=6 + 12 * sum(map(bool, below.values())))
    axes.set_yticks(ticks, [f"{tick:g} %" for tick in ticks], minor=False)
    axes.set_ylim(bottom, top)
    bits = sorted({bits for points in found.values() for bits in points})
    axes.set_xticks(bits)
    axes.set_xlim(bits[0] - 0.4, bits[-1] + 0.4)
    axes.set_xlabel("bits of activations, weights and image")
    axes.set_ylabel("accuracy, 10 000 test images")
    data = sorted({row.data for members in rows.values() for row in members})
    axes.set_title(f"{TITLES[network].split(' on ')[0]} on {', '.join(data)}", loc="left", fontweight="bold")
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower left")
    path = DOCS / "figures" / f"{network}.svg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _points(rows: Sequence[Row]) -> dict[int, list[float]]:
    """Accuracies in per cent of all seeds, by bits."""
    points: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: int(row.activation_bits)):
        points.setdefault(int(row.activation_bits), []).append(100 * row.accuracy_program)
    return points


if __name__ == "__main__":
    main()
