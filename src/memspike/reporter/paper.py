"""The paper that memspike answers to: its published figures, and what differs between it and this report."""

import re
from collections.abc import Mapping
from typing import Any

from memspike.chip import Chip
from memspike.program import Program
from memspike.reporter import plots
from memspike.reporter.evidence import STANDINGS, Ratio, Windows, overhead_for, speedup_of_windows
from memspike.reporter.items import Cell, Column, Figure, Note, Section, Table, shown
from memspike.reporter.report import Design

# Liu & Liu, DAC 2018, arXiv 1805.03054, abstract: "more than 9.8x speedup, 89.1% energy saving, and 30% area saving", accuracy within 0.02 % and 2.3 %.
CITATION = "Liu & Liu, DAC 2018, arXiv 1805.03054, abstract"
RATIO = Ratio(speedup=9.8, throughput=None, energy_saving=0.891, area_saving=0.30)
LOSSES = {"MNIST": 0.0002, "CIFAR-10": 0.023}
FIT = "fitted to the paper's ratios on LeNet, not evidence"
PREDICTED = "predicted from the chip's constants"
NOT_SAID = "The abstract does not say."


def is_fitted(chip: Chip) -> bool:
    """Whether any number of the chip was chosen so that the published ratios come out."""
    return any(q.standing == "fitted" for q in chip.quantities().values())


def standing_line(chip: Chip) -> str:
    """What a ratio computed on this chip is: a prediction, or a fit."""
    return FIT if is_fitted(chip) else PREDICTED


def what_differs(designs: list[tuple[Design, Design]], summary: Mapping[str, Any], data: Mapping[str, Any]) -> Section:
    """Every known difference between the published comparison and this one, in figures of the chip that was used."""
    design, baseline = designs[0]
    rows: list[tuple[Cell, ...]] = [
        ("data set", _data(summary, data), f"{' and '.join(LOSSES)}."),
        ("image", _image(summary, design), "Fixed integer signals between layers, 4-bit data; whether the image is one of them is not said."),
        ("window overhead", _overhead(design, baseline), _overhead_of_paper(design, baseline)),
        ("weights in cells", _slices(design, baseline), f"{NOT_SAID} (How the 8-bit design is mapped decides most of the area saving.)"),
        ("partial sums", _partial_sums(design), NOT_SAID),
        ("neuron", _neuron(design), NOT_SAID),
        ("constants", _constants(design.mapping.chip), "Not given."),
        ("baseline", _baseline(baseline), "8-bit dynamic fixed point; its mapping and activity are not described."),
        ("per network", f"One network: {design.mapping.program.name}.", "Not said: per network, minimum or average."),
    ]
    columns = (Column("what"), Column("in this report"), Column("in the paper's abstract"))
    notes = tuple(Note(_fit_text(d.mapping.chip), "caution") for d, _ in designs if is_fitted(d.mapping.chip))
    return Section("paper", "What differs from the paper", (*notes, Table("differences", f"Against {CITATION}", columns, tuple(rows)), _window_figure(designs)))


def _data(summary: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    name = str(data.get("name", "not named"))
    text = f"{name}, {shown(summary.get('num_test_images'))} test images."
    if name.lower().split("/")[-1].replace("-", "").replace("_", "") not in {paper.lower().replace("-", "") for paper in LOSSES}:
        text += " Its accuracy loss cannot be compared with the published ones."
    if "jpeg" in f"{data.get('source', '')}".lower():
        text += " This copy was stored as JPEG, which loses detail: accuracies lie lower than on the original images."
    return text


def _image(summary: Mapping[str, Any], design: Design) -> str:
    return _image_bits(summary, design) + pixels_said(design.mapping.program)


def pixels_said(program: Program) -> str:
    """How pixels are counted where it is not the plain way: all of them on one line each, rounded half up."""
    code, said = program.pixels, ""
    if code.clips:
        said += f" Pixels up to {code.low} count 0, from {code.high} on most."
    if code.lines > 1:
        said += f" Each pixel lies on {code.lines} lines, which count {code.most(program.input_type.type) + 1} levels together in the same window."
    if code.dither:
        said += f" Dithered over {code.dither} x {code.dither} pixels and all channels."
    return said


def _image_bits(summary: Mapping[str, Any], design: Design) -> str:
    bits = design.mapping.program.input_type.type.bits
    activation = summary.get("bits", {}).get("activation", bits)
    if bits == activation:
        return f"Counted in {bits} bits like every other signal."
    return f"Counted in {bits} bits, the signals in {activation}: the first layer's window has {2**bits} timesteps instead of {2**activation}."


def _windows(design: Design) -> Windows:
    """Of every layer of neurons: how many windows, and how many timesteps its input's counts take."""
    program = design.mapping.program
    read_by = {op.out: program.types[op.inputs[0]].type for op in program.ops}
    return [(time.windows, read_by[time.layer].num_timesteps) for time in design.cost.times]


def overhead_steps(chip: Chip) -> float:
    """How many timesteps the overhead of a window takes."""
    return chip.window_overhead.value / chip.timestep.value


def _overhead(design: Design, baseline: Design) -> str:
    chip, windows = design.mapping.chip, (_windows(design), _windows(baseline))
    steps = overhead_steps(chip)
    speedup, most = speedup_of_windows(*windows, steps), speedup_of_windows(*windows, 0)
    return (
        f"{shown(chip.window_overhead.value, 's')}, that is {steps:.3g} timesteps of {shown(chip.timestep.value, 's')} ({chip.window_overhead.standing}): "
        f"windows alone give {shown(speedup, 'x')}. Without overhead it would be {most:.3g}×."
    )


def _overhead_of_paper(design: Design, baseline: Design) -> str:
    windows = _windows(design), _windows(baseline)
    if speedup_of_windows(*windows, 0) <= RATIO.speedup:
        return f"{NOT_SAID} With these windows no overhead gives {RATIO.speedup}×."
    return f"{NOT_SAID} {RATIO.speedup}× comes out at {overhead_for(RATIO.speedup, *windows):.1f} timesteps."


def _slices(design: Design, baseline: Design) -> str:
    ours, theirs = (max((plan.slices for plan in d.mapping.layers), default=1) for d in (design, baseline))
    text = f"{_cells(ours)} for a magnitude here, {_cells(theirs)} in the baseline ({design.mapping.chip.bits_per_cell} bits per cell)."
    more = " The baseline needs more columns: both energy and area savings grow with that." if theirs > ours else ""
    return text[0].upper() + text[1:] + more


def _cells(slices: int) -> str:
    return "one cell" if slices == 1 else f"{slices} cells"


def _partial_sums(design: Design) -> str:
    chip = design.mapping.chip
    if chip.partial_sums == "analog":
        tallest = max((plan.row_tiles for plan in design.mapping.layers), default=1)
        return f"Up to {tallest} crossbars feed one integrator here; the chip allows {chip.max_stacked_tiles}. The sum is exact."
    split = design.mapping.program.notes.get("compile", {}).get("split", [])
    if not split:
        return "Every crossbar fires into its own counter and the counts would be added; no layer here needs more rows than one has."
    return f"Every crossbar fires into its own counter and the counts are added: up to {max(cut['tiles'] for cut in split)}, each rounded by itself."


def _constants(chip: Chip) -> str:
    quantities = chip.quantities().values()
    standings = [f"{n} {s}" for s in STANDINGS if (n := sum(q.standing == s for q in quantities))]
    nodes = sorted({int(n) for q in quantities for n in re.findall(r"\b(\d{2,3}) ?nm\b", q.source)})
    text = f"{len(quantities)} numbers from {len({q.source for q in quantities})} sources ({', '.join(standings)})."
    if len(nodes) > 1:
        text += f" They mix circuits of {', '.join(map(str, nodes[:-1]))} and {nodes[-1]} nm."
    return text


def _neuron(design: Design) -> str:
    name, most = design.result.provenance.neuron, design.mapping.chip.neuron.max_spikes_per_timestep
    return f"{name}, firing at most {'once' if most == 1 else f'{most} times'} in a timestep."


def _baseline(baseline: Design) -> str:
    images = shown(baseline.result.activity.num_images)
    return f"{baseline.label}, mapped by the same rules onto the same chip; its activity is its own, simulated over {images} images."


def _fit_text(chip: Chip) -> str:
    names = ", ".join(name for name, q in chip.quantities().items() if q.standing == "fitted")
    return f"Chip {chip.name} is a fit: {names} were {FIT}. It shows that the ratios can come out, not that they do."


def _ratio_of(ours: Windows, theirs: Windows) -> str:
    """What the curve of windows is."""
    lengths = [{steps for _, steps in windows} for windows in (theirs, ours)]
    if all(len(each) == 1 for each in lengths):
        return " / ".join(f"({steps} + overhead)" for each in lengths for steps in each)
    return "all windows of the baseline, one after the other, over all of the design's, each with the overhead"


def _window_figure(designs: list[tuple[Design, Design]]) -> Figure:
    ours, theirs = map(_windows, designs[0])
    steps = [0.25 * 1.12**i for i in range(49)]
    curve = {
        "windows alone": (steps, [speedup_of_windows(ours, theirs, s) for s in steps], plots.DESIGN),
        "paper": ([steps[0], steps[-1]], [RATIO.speedup] * 2, plots.PAPER),
    }
    here = {d.mapping.chip.name: (overhead_steps(d.mapping.chip), Ratio.of(d.cost, b.cost).speedup) for d, b in designs}
    curves = plots.lines(curve, x="window overhead [timesteps]", y="speed-up [×]", log_ticks=(0.25, 0.5, 1, 2, 5, 10, 20, 50))
    rows = tuple((name, x, y) for name, (x, y) in here.items())
    points = ", ".join(f"{name}: {y:.1f} at {x:.3g} timesteps" for name, x, y in rows)
    caption = f"Curve: {_ratio_of(ours, theirs)}. Points: the chips of this report, whole networks, drain timesteps included."
    alt = f"Speed-up falls from {speedup_of_windows(ours, theirs, 0):.3g} towards 1 as the overhead of a window grows; {points}."
    columns = (Column("chip"), Column("window overhead [timesteps]"), Column("speed-up", "x"))
    plot = plots.add_points(curves, {name: (max(x, steps[0]), y) for name, (x, y) in here.items()})  # an axis of powers has no place for none
    return Figure("windows", "The window overhead decides the speed-up", caption, alt, plot, columns, rows, size="wide")
