"""What a design spends, as sections: time, energy and area beside the baseline's, what they rest on, every constant."""

from collections.abc import Sequence

from memspike.mapping import Mapping
from memspike.ops import Conv2d, Dense
from memspike.reporter import plots
from memspike.reporter.evidence import AREA, ENERGY, STANDINGS, Amount, Ratio, saving_range, shares
from memspike.reporter.items import Cell, Column, Figure, Item, Note, Section, Table
from memspike.reporter.paper import CITATION, FIT, RATIO, is_fitted, standing_line
from memspike.reporter.report import Design

Pair = tuple[Design, Design]


def ratios(designs: Sequence[Pair]) -> Table:
    """The ratios of every chip beside the paper's."""
    rows: list[tuple[Cell, ...]] = []
    for design, baseline in designs:
        chip, r = design.mapping.chip, Ratio.of(design.cost, baseline.cost)
        rows.append((chip.name, r.speedup, r.throughput, r.energy_saving, r.area_saving, f"{design.label} against {baseline.label}", standing_line(chip)))
    # As texts: the abstract's digits, and no more of them.
    published = (f"> {RATIO.speedup:g}×", None, f"{100 * RATIO.energy_saving:g} %", f"{100 * RATIO.area_saving:g} %")
    rows.append(("paper (abstract)", *published, "4-bit data against 8-bit dynamic fixed point", CITATION))
    savings = (Column("speed-up", "x"), Column("throughput gain", "x"), Column("energy saving", "share"), Column("area saving", "share"))
    columns = (Column("chip"), *savings, Column("designs"), Column("what the numbers are"))
    note = "Speed-up is of the latency of one image; throughput gain is of images per second with all layers busy."
    return Table("ratios", "Beside the paper", columns, tuple(rows), note)


def cost(designs: Sequence[Pair]) -> Section:
    """Time, energy and area of every design on every chip, and where the first pair spends them."""
    design, baseline = designs[0]
    items: list[Item] = [
        _costs(designs),
        Note(f"The figures below are of {design.label} and {baseline.label} on chip {design.mapping.chip.name}."),
        *(_spent(design, baseline, by, amount) for by in ("component", "layer") for amount in (ENERGY, AREA)),
        _times(design, baseline),
        *(_by_component(design, baseline, amount) for amount in (ENERGY, AREA)),
    ]
    return Section("cost", "Speed, energy, area", tuple(items))


def evidence(designs: Sequence[Pair]) -> Section:
    """How much of the cost rests on measured, assumed or fitted constants, and what happens when some are off by two."""
    design, baseline = designs[0]
    return Section(
        "evidence",
        "What the numbers rest on",
        (_standings(design, baseline), *(_sensitivity(design, baseline, amount) for amount in (ENERGY, AREA))),
    )


def constants(designs: Sequence[Pair]) -> Section:
    """Every constant of every chip, with its source and standing: the assumptions table."""
    items: list[Item] = []
    for design, _ in designs:
        chip = design.mapping.chip
        quantities = chip.quantities()
        counts = {s: sum(q.standing == s for q in quantities.values()) for s in STANDINGS}
        note = f"{len(quantities)} numbers: {', '.join(f'{n} {s}' for s, n in counts.items() if n)}."
        if counts["assumed"] or counts["fitted"]:
            note += " Assumed and fitted numbers are nobody's measurement."
        rows = tuple((name, f"{q.value!r} {q.unit}", q.standing, q.source) for name, q in quantities.items())
        columns = (Column("constant", "code"), Column("value", "quantity"), Column("standing", "standing"), Column("source"))
        items.append(Table(f"constants-{chip.name}", f"Chip {chip.name}: {chip.title}", columns, rows, note))
        items += [Note(text) for text in chip.notes]
    return Section("constants", "Assumptions", tuple(items))


def _costs(designs: Sequence[Pair]) -> Table:
    columns = (
        Column("chip"),
        Column("design"),
        Column("latency", "s"),
        Column("images per second"),
        Column("energy per image", "J"),
        Column("mean power", "W"),
        Column("energy per MAC", "J"),
        Column("area", "m2"),
        Column("crossbars"),
    )
    note = (
        "Latency is one image from end to end; images per second are counted with all layers busy at once, and mean power is energy per image times that. "
        "A MAC is one multiplication of a weight by a signal, with its addition; zeros are counted."
    )
    return Table("costs", "Time, energy and area", columns, tuple(_cost_row(d) for pair in designs for d in pair), note)


def _cost_row(design: Design) -> tuple[Cell, ...]:
    c, mapping = design.cost, design.mapping
    per_mac = c.energy / macs if (macs := _macs(mapping)) else None
    return (mapping.chip.name, design.label, c.latency, c.throughput, c.energy, c.energy * c.throughput, per_mac, c.area, mapping.num_crossbars)


def _macs(mapping: Mapping) -> int:
    ops = {op.out: op for op in mapping.program.ops}
    return sum(op.weight.size * plan.positions for plan in mapping.layers if isinstance(op := ops.get(plan.op), Conv2d | Dense))


def _spent(design: Design, baseline: Design, by: str, amount: Amount) -> Figure:
    """Where the energy or the area goes, by component (the baseline's largest first) or by layer (in program order)."""
    sums = [amount.by(d.cost, by) for d in (design, baseline)]
    labels = [label for label in sums[1] | sums[0] if any(s.get(label) for s in sums)]
    if by == "component":
        labels.sort(key=lambda label: -sums[1].get(label, 0.0))
    else:
        order = {name: i for i, name in enumerate(design.mapping.program.types)}
        labels.sort(key=lambda label: order.get(label, len(order)))
    values = [[s.get(label, 0.0) for label in labels] for s in sums]
    series = [plots.Series(d.label, v, color) for d, v, color in zip((design, baseline), values, (plots.DESIGN, plots.BASELINE), strict=True)]
    text = f"No {amount.name} was counted."
    if sum(values[0]):
        largest = max(labels, key=lambda label: sums[0].get(label, 0.0))
        text = f"The largest share of the {amount.name} of {design.label}, {100 * sums[0][largest] / sum(values[0]):.0f} %, goes to {largest}."
    title = f"{amount.name.capitalize()} by {by}"
    columns = (Column(by), *(Column(d.label, amount.unit) for d in (design, baseline)))
    alt = f"{title}, {design.label} beside {baseline.label}. {text}"
    plot = plots.bars(labels, series, amount.unit, title=amount.name)
    return Figure(f"{amount.name}-by-{by}", title, text, alt, plot, columns, tuple(zip(labels, *values, strict=True)))


def _times(design: Design, baseline: Design) -> Figure:
    """Latency per layer: the timesteps themselves, and what windows cost beyond them."""
    layers = list(dict.fromkeys(t.layer for d in (design, baseline) for t in d.cost.times))
    series: list[plots.Series] = []
    overheads: list[str] = []
    for d, colors in ((design, (plots.DESIGN, plots.SECOND)), (baseline, (plots.BASELINE, plots.PALE))):
        times = {t.layer: t for t in d.cost.times}
        counting = [times[i].windows * times[i].num_timesteps * d.mapping.chip.timestep.value if i in times else 0.0 for i in layers]
        beyond = [max(0.0, times[i].time - own) if i in times else 0.0 for i, own in zip(layers, counting, strict=True)]
        series.append(plots.Series(d.label, counting, colors[0], d.label))
        series.append(plots.Series(f"{d.label}, overhead", beyond, colors[1], d.label))
        overheads.append(f"{100 * sum(beyond) / (sum(counting + beyond) or 1):.0f} % of the layers' time in {d.label}")
    text = f"Window overhead is {overheads[0]}, {overheads[1]}."
    columns = (Column("layer"), *(Column(s.name, "s") for s in series))
    rows = tuple((layer, *(s.values[i] for s in series)) for i, layer in enumerate(layers))
    plot = plots.bars(layers, series, "s", title="time", stacked=True)
    return Figure("latency-by-layer", "Latency by layer", text, f"Time of every layer of both designs. {text}", plot, columns, rows, size="wide")


def _by_component(design: Design, baseline: Design, amount: Amount) -> Table:
    ours, theirs = (amount.by(d.cost, "component") for d in (design, baseline))
    labels = sorted((label for label in ours | theirs if ours.get(label) or theirs.get(label)), key=lambda label: -ours.get(label, 0.0))
    values = [(label, ours.get(label, 0.0), theirs.get(label, 0.0)) for label in labels]
    values.append(("all", sum(ours.values()), sum(theirs.values())))
    rows = tuple((label, a, b, 1 - a / b if b else None) for label, a, b in values)
    columns = (Column("component"), Column(design.label, amount.unit), Column(baseline.label, amount.unit), Column("saving", "share"))
    return Table(f"{amount.name}-components", f"{amount.name.capitalize()} by component", columns, rows)


def _standings(design: Design, baseline: Design) -> Figure:
    """How much of each sum is as firm as its source."""
    sums = {f"{amount.name}, {d.label}": shares(d.mapping.chip, d.cost, amount) for amount in (ENERGY, AREA) for d in (design, baseline)}
    series = [plots.Series(s, [by[s] for by in sums.values()], plots.STANDING_COLORS[s]) for s in STANDINGS]
    rows = tuple((label, *(by[s] for s in STANDINGS)) for label, by in sums.items())
    alt = "; ".join(f"{label}: " + ", ".join(f"{100 * v:.0f} % {s}" for s, v in by.items() if v) for label, by in sums.items()) + "."
    caption = (
        "Primary: read in the source itself. Secondary: read in notes on it. Assumed: nobody measured it. "
        "Fitted: chosen so that the published ratios come out. A product is as soft as its softest factor; "
        "that a number of another node or pitch was scaled to this chip's is in its source and does not make it softer here."
    )
    plot = plots.bars(list(sums), series, "share", title="share", stacked=True)
    columns = (Column("sum"), *(Column(s, "share") for s in STANDINGS))
    return Figure("standing", "What energy and area rest on", caption, alt, plot, columns, rows, size="wide")


def _sensitivity(design: Design, baseline: Design, amount: Amount) -> Figure:
    """How far a saving moves when all constants of one component are half or twice what they are taken to be, in both designs."""
    ours, theirs = (amount.by(d.cost, "component") for d in (design, baseline))
    found = {label: saving_range(ours, theirs, label) for label in theirs if theirs[label]}
    found = dict(sorted(found.items(), key=lambda item: -abs(item[1][1] - item[1][0])))
    ratio = Ratio.of(design.cost, baseline.cost)
    here, paper = (ratio.energy_saving, RATIO.energy_saving) if amount is ENERGY else (ratio.area_saving, RATIO.area_saving)
    ends = [here, *(end for pair in found.values() for end in pair)]
    text = f"With the constants of any one component off by two the {amount.name} saving lies between {100 * min(ends):.1f} % and {100 * max(ends):.1f} %."
    if is_fitted(design.mapping.chip):
        text += f" This chip is {FIT}."
    title = f"{amount.name.capitalize()} saving if one component is half or twice as expensive"
    plot = plots.ranges(list(found), [low for low, _ in found.values()], [high for _, high in found.values()], here, paper, title=f"{amount.name} saving")
    columns = (Column("component"), Column("halved", "share"), Column("doubled", "share"))
    return Figure(f"sensitivity-{amount.name}", title, text, text, plot, columns, tuple((label, *pair) for label, pair in found.items()))
