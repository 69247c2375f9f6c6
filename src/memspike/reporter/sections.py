"""The report's sections in reading order: what came out, how accurate, what it costs, what that rests on, how to repeat it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from memspike.errors import MemspikeError
from memspike.network import QuantizedNetwork
from memspike.ops import Conv2d, Dense
from memspike.reporter import placement, plots, spending
from memspike.reporter.evidence import AREA, ENERGY, Ratio, shares
from memspike.reporter.items import Cell, Column, Figure, Headline, Item, Measure, Note, Section, Table, shown
from memspike.reporter.paper import FIT, LOSSES, RATIO, is_fitted, overhead_steps, pixels_said, what_differs
from memspike.reporter.report import Design
from memspike.reporter.training import training

Pair = tuple[Design, Design]
_ACCURACIES = {
    "fp32": "the network before quantisation",
    "program": "the integer program: what the chip computes",
    "direct": "the fp32 network rounded directly to the same bits",
    "dynamic_fixed_point_8": "the 8-bit dynamic fixed-point baseline",
}


def sections(network: QuantizedNetwork, designs: Sequence[Pair], summary: Mapping[str, Any]) -> tuple[Section, ...]:
    """All sections; raises MemspikeError when the summary lacks an accuracy or contradicts the designs."""
    check_summary(designs, summary)
    design, baseline = designs[0]
    data = network.notes.get("data")
    return (
        _headline(designs, summary),
        _accuracy(summary),
        spending.cost(designs),
        spending.evidence(designs),
        what_differs(list(designs), summary, data if isinstance(data, Mapping) else {}),  # pyright: ignore[reportUnknownArgumentType]
        placement.placement(design, baseline),
        placement.spikes(design, baseline),
        training(network),
        spending.constants(designs),
        _provenance(designs, summary),
    )


def check_summary(designs: Sequence[Pair], summary: Mapping[str, Any]) -> None:
    """The summary and the designs are two roads to the same numbers; a report is made only where they meet. What only designs say is theirs."""
    design, baseline = designs[0]
    for name in ("fp32", "program"):
        value = summary.get("accuracy", {}).get(name)
        if not isinstance(value, float | int) or not 0 <= value <= 1:
            raise MemspikeError(f"accuracy of {name} is {value!r}; expected a fraction from 0 to 1", where=f"summary accuracy.{name}")
    ratio = Ratio.of(design.cost, baseline.cost)
    wanted = {(part, key): value for part, of in (("cost", design), ("baseline", baseline)) for key, value in of.cost.figures.items()}
    wanted |= {("ratio", "speedup"): ratio.speedup, ("ratio", "energy_saving"): ratio.energy_saving, ("ratio", "area_saving"): ratio.area_saving}
    for (part, key), value in wanted.items():
        said = cast(Mapping[str, Any], summary.get(part) or {}).get(key, value)
        if not isinstance(said, float | int) or not math.isclose(said, value, rel_tol=1e-6, abs_tol=1e-12 * abs(value) if value else 1e-12):
            raise MemspikeError(f"is {said!r}, but the first pair of designs gives {value!r}", where=f"summary {part}.{key}")


def _headline(designs: Sequence[Pair], summary: Mapping[str, Any]) -> Section:
    design, baseline = designs[0]
    chip, ratio = design.mapping.chip, Ratio.of(design.cost, baseline.cost)
    published = {"Speed-up": f"> {RATIO.speedup:g}×", "Energy saving": f"{100 * RATIO.energy_saving:g} %", "Area saving": f"{100 * RATIO.area_saving:g} %"}
    found = (
        ("Speed-up", ratio.speedup, "x", f"{_against(design.cost.latency, baseline.cost.latency, 's')} per image"),
        ("Energy saving", ratio.energy_saving, "share", f"{_against(design.cost.energy, baseline.cost.energy, 'J')} per image"),
        ("Area saving", ratio.area_saving, "share", _against(design.cost.area, baseline.cost.area, "m2")),
    )
    cautions = dict.fromkeys(published, FIT) if is_fitted(chip) else _cautions(design)
    measures = (_loss(summary), *(Measure(label, value, unit, detail, published[label], cautions[label]) for label, value, unit, detail in found))
    text = (
        f"{design.label} against {baseline.label}, both on chip {chip.name} ({chip.title}). The program of {design.label} has {_bits(design)}; "
        f"that of {baseline.label} has {_bits(baseline)}."
    )
    if pixels := pixels_said(design.mapping.program):
        text += f" {design.label}:{pixels}"
    return Section("headline", "In short", (Headline(measures), Note(text), _check_note(summary), spending.ratios(designs)))


def _bits(design: Design) -> str:
    """The bits of signals and weights as they stand in the program, whatever the design is called."""
    program = design.mapping.program
    weighted = [op for op in program.ops if isinstance(op, Conv2d | Dense)]
    signals = {program.types[op.inputs[0]].type.bits for op in weighted if op.inputs[0] != program.input}
    parts = (("weights", {op.weight_type.bits for op in weighted}), ("signals", signals), ("an image", {program.input_type.type.bits}))
    return ", ".join(f"{name} of {min(bits)}{f' to {max(bits)}' if len(bits) > 1 else ''} bits" for name, bits in parts if bits)


def _against(ours: float, theirs: float, unit: str) -> str:
    return f"{shown(ours, unit)} against {shown(theirs, unit)}"


def _loss(summary: Mapping[str, Any]) -> Measure:
    fp32, program, n = float(summary["accuracy"]["fp32"]), float(summary["accuracy"]["program"]), summary.get("num_test_images")
    detail = f"{shown(fp32, '%')} fp32, {shown(program, '%')} on the chip"
    if isinstance(n, int):
        images = round((fp32 - program) * n)
        detail += f": {abs(images)} of {shown(n)} images {'worse' if images > 0 else 'better' if images else 'apart'}"
    paper = ", ".join(f"{100 * loss:g} {name}" for name, loss in LOSSES.items())
    return Measure(
        "Accuracy loss", fp32 - program, "points", detail, f"at most {paper}", "one network, one seed, fp32 without further epochs; sampling errors below"
    )


def _cautions(design: Design) -> dict[str, str]:
    """What each ratio rests on. Both designs have the same timestep, so speed is a matter of windows, their overhead and drain alone."""
    chip = design.mapping.chip
    overhead = f"a window overhead of {overhead_steps(chip):.3g} timesteps, {chip.window_overhead.standing}"
    rests = {amount.name: 100 * shares(chip, design.cost, amount)["assumed"] for amount in (ENERGY, AREA)}
    savings = {
        f"{name.capitalize()} saving": f"predicted: {share:.1f} % of the {name} rests on assumed constants, scaling to one node not counted"
        for name, share in rests.items()
    }
    return {"Speed-up": f"predicted: rests on {overhead}"} | savings


def _check_note(summary: Mapping[str, Any]) -> Note:
    checks = summary.get("checks", {})
    held, images = checks.get("spike_equals_program"), checks.get("images_checked")
    if held is None:
        return Note("Whether the spikes say what the program means was not checked in this run.", "caution")
    if not held:
        return Note(f"The spikes did NOT say what the program means on {shown(images)} images: accuracy and cost belong to different machines.", "caution")
    return Note(f"Checked: timestep by timestep, every neuron of the spiking chip counted exactly what the integer program says, on {shown(images)} images.")


def _accuracy(summary: Mapping[str, Any]) -> Section:
    accuracy, n = summary["accuracy"], summary.get("num_test_images")
    known = [(name, what, float(accuracy[name])) for name, what in _ACCURACIES.items() if isinstance(accuracy.get(name), float | int)]
    errors = [math.sqrt(p * (1 - p) / n) if isinstance(n, int) and n > 0 else 0.0 for _, _, p in known]
    fp32 = float(accuracy["fp32"])
    rows = tuple((name, p, e, fp32 - p, what) for (name, what, p), e in zip(known, errors, strict=True))
    columns = (Column("network", "code"), Column("accuracy", "%"), Column("sampling error", "%"), Column("loss against fp32", "points"), Column("what it is"))
    note = (
        "Sampling error: one standard deviation of counting that many test images. "
        "The networks share their images, so differences between them are surer than the errors suggest."
    )
    labels = [name.replace("_", " ") for name, _, _ in known]
    colors = [plots.DESIGN if name == "program" else plots.BASELINE for name, _, _ in known]
    alt = "; ".join(f"{label}: {shown(p, '%')}" for label, (_, _, p) in zip(labels, known, strict=True)) + "."
    plot = plots.dots(labels, [p for _, _, p in known], errors, colors)
    caption = "Bars are one sampling error to either side. The axis does not begin at zero."
    figure = Figure("accuracies", "Test accuracy", caption, alt, plot, columns, rows, size="wide")
    items: list[Item] = [Table("accuracy", "Accuracy", columns, rows, note), figure]
    missing = [name for name in _ACCURACIES if name not in {known_name for known_name, _, _ in known}]
    if missing:
        items.append(Note(f"Not measured in this run: {', '.join(missing)}.", "missing"))
    return Section("accuracy", "Accuracy", tuple(items))


def _provenance(designs: Sequence[Pair], summary: Mapping[str, Any]) -> Section:
    checks = tuple((str(name), "not checked" if value is None else _text(value)) for name, value in summary.get("checks", {}).items())
    run = tuple((str(name), _text(value)) for name, value in summary.get("provenance", {}).items())
    rows: list[tuple[Cell, ...]] = []
    for design in (d for pair in designs for d in pair):
        p = design.result.provenance
        rows.append((design.label, design.mapping.chip.name, p.fidelity, p.neuron, p.encoder, p.seed, p.program, p.chip, p.version))
    words, digests = ("design", "chip", "fidelity", "neuron", "encoder", "seed"), ("program", "chip digest", "version")
    simulated = (*map(Column, words), *(Column(name, "code") for name in digests))
    return Section(
        "provenance",
        "Checks, and how to repeat this",
        (
            Table("checks", "Checks", (Column("check"), Column("outcome")), checks),
            Table("run", "This run", (Column("what"), Column("value", "code")), run),
            Table("simulations", "Simulations", simulated, tuple(rows), "Digests are SHA-256 of the meaning: equal programs have equal digests."),
        ),
    )


def _text(value: Any) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {inner}" for name, inner in cast(Mapping[Any, Any], value).items() if inner) or "none"
    return value if isinstance(value, int | str) or value is None else str(value)
