"""The report on many chips of one design: how well they do, and which imperfection, layer and time does what."""

from collections.abc import Mapping, Sequence

from memspike.chip import Chip
from memspike.ensemble import QUANTILES, Ensemble, Study
from memspike.reporter import plots
from memspike.reporter.items import Cell, Column, Figure, Headline, Item, Measure, Note, Section, Table
from memspike.reporter.report import Report
from memspike.units import percent

_WORDS = {
    "programming": "programming noise",
    "stuck": "stuck cells",
    "read_noise": "read noise",
    "drift": "drift",
    "wires": "wire resistance",
    "neuron": "neuron circuits",
}
_UNITS = ((365.25 * 86400, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MOST_LAYERS = 12  # drawn one by one


def report_chips(study: Study, within: float, *, title: str | None = None) -> Report:
    """What a study found, with the yield within `within` points of the ideal program."""
    sections = (_accuracy(study, within), _causes(study), _time(study), _layers(study), _cells(study), _device(study))
    return Report(title or f"{study.name}: {_number(len(study.whole.chips))} on {study.chip.name}", tuple(s for s in sections if s.items))


def duration(seconds: float) -> str:
    """A time as people say it: `duration(86400)` is `1 d`."""
    value, unit = next(((seconds / size, unit) for size, unit in _UNITS if seconds >= size), (seconds, "s"))
    return f"{value:.3g} {unit}"


def _accuracy(study: Study, within: float) -> Section:
    whole = study.whole
    share, low, high = whole.yield_within(within)
    good = f"95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    measures = (
        Measure("Mean accuracy", whole.mean, "%", f"standard deviation {percent(whole.std)} between {_number(len(whole.chips))}", ""),
        Measure("Ideal program", whole.ideal, "%", f"the same {whole.num_images} images, exact integers", ""),
        Measure("Yield", share, "share", f"within {within:g} points of the ideal program; {good}", ""),
    )
    rows: list[tuple[Cell, ...]] = [(f"{100 * q:g} %", whole.quantiles[q]) for q in QUANTILES]
    rows = [("lowest", float(whole.accuracies.min())), *rows, ("highest", float(whole.accuracies.max()))]
    values = tuple((int(chip), float(a), int(c)) for chip, a, c in zip(whole.chips, whole.accuracies, whole.changed, strict=True))
    figure = Figure(
        "chips",
        "Accuracy of every chip",
        "The box spans the middle half of the chips; the dashed line is the ideal program.",
        f"Box plot of {len(values)} accuracies, mean {percent(whole.mean)}, ideal {percent(whole.ideal)}.",
        plots.boxes({"all imperfections": whole.accuracies.tolist()}, title="test accuracy", line=whole.ideal),
        (Column("chip"), Column("accuracy", "%"), Column("predictions changed")),
        values,
        "wide",
    )
    names = ", ".join(_WORDS[name] for name in study.chip.imperfections()) or "none: every chip is perfect"
    text = f"Imperfections: {names}. Chips are read {_when(study.time)}. Chip n is simulated alone by --seed n."
    quantiles = Table("quantiles", "Over the chips", (Column("quantile"), Column("accuracy", "%")), tuple(rows))
    return Section("chips", "Accuracy", (Headline(measures), Note(text), figure, quantiles))


def _causes(study: Study) -> Section:
    if not study.alone:
        return Section("causes", "Which imperfection hurts", ())
    losses = {name: (study.alone[name], study.without.get(name)) for name in study.alone}
    order = sorted(losses, key=lambda name: losses[name][0].mean)
    labels = [_WORDS[name] for name in order]
    together = _of(study, next(iter(study.alone.values())))
    series = [plots.Series("alone", [max(0.0, _loss(losses[name][0])) for name in order], plots.DESIGN)]
    if study.without:
        spared = [max(0.0, together - _loss(other)) if (other := losses[name][1]) is not None else 0.0 for name in order]
        series.append(plots.Series("saved when only this one is left out", spared, plots.BASELINE))
    rows = tuple((_WORDS[name], _loss(alone), alone.std, None if other is None else _loss(other)) for name, (alone, other) in losses.items())
    number = len(next(iter(study.alone.values())).chips)
    figure = Figure(
        "tornado",
        "Accuracy lost to each imperfection",
        f"Mean over {_number(number)}; losses below zero are drawn as zero and stand in the table.",
        "; ".join(f"{label}: {100 * _loss(losses[name][0]):.2f} points alone" for label, name in zip(labels, order, strict=True)),
        plots.bars(labels, series, "share", title="accuracy lost"),
        (Column("imperfection"), Column("loss alone", "points"), Column("spread alone", "points"), Column("loss of all the others", "points")),
        rows,
        "wide",
    )
    return Section("causes", "Which imperfection hurts", (figure,))


def _time(study: Study) -> Section:
    if not study.over_time:
        return Section("time", "Over time", ())
    groups = {duration(time): ensemble.accuracies.tolist() for time, ensemble in study.over_time.items()}
    number = len(next(iter(study.over_time.values())).chips)
    figure = Figure(
        "time",
        "Accuracy over time",
        f"{_number(number)}, the same ones at every time after writing; the dashed line is the ideal program.",
        "; ".join(f"after {duration(time)}: {percent(ensemble.mean)}" for time, ensemble in study.over_time.items()),
        plots.boxes(groups, title="test accuracy", line=study.whole.ideal),
        (Column("after", "s"), Column("mean accuracy", "%"), Column("spread", "points")),
        tuple((time, ensemble.mean, ensemble.std) for time, ensemble in study.over_time.items()),
        "wide",
    )
    return Section("time", "Over time", (figure,))


def _layers(study: Study) -> Section:
    if not study.layers:
        return Section("layers", "Which layer is sensitive", ())
    number = len(next(iter(study.layers.values())).chips)
    losses = [_loss(ensemble) for ensemble in study.layers.values()]
    figure = Figure(
        "layers",
        "Accuracy lost when one layer alone is imperfect",
        f"Mean over {_number(number)}; all other layers are exact. Losses below zero are drawn as zero and stand in the table.",
        "; ".join(f"{name}: {100 * loss:.2f} points" for name, loss in zip(study.layers, losses, strict=True)),
        plots.bars(list(study.layers), [plots.Series("alone", [max(0.0, loss) for loss in losses], plots.DESIGN)], "share", title="accuracy lost"),
        (Column("layer"), Column("loss", "points"), Column("spread", "points")),
        tuple((name, _loss(ensemble), ensemble.std) for name, ensemble in study.layers.items()),
        "wide",
    )
    return Section("layers", "Which layer is sensitive", (figure,))


def _cells(study: Study) -> Section:
    rows = tuple(
        (name, layer.rms, len(layer.losses), float(layer.losses.mean()), float(layer.losses.max()), int(layer.numbers.sum()))
        for name, layer in study.cells.items()
    )
    columns = (
        Column("layer"), Column("rms error [levels]"), Column("crossbars"), Column("current lost to wires", "share"), Column("in the worst crossbar", "share"),
        Column("weights"),
    )  # fmt: skip
    items: list[Item] = [Table("layers-written", f"Chip {study.shown}, layer by layer", columns, rows)]
    for name, layer in list(study.cells.items())[:_MOST_LAYERS]:
        weights, means, stds = layer.weights.tolist(), layer.means.tolist(), layer.stds.tolist()
        items.append(
            Figure(
                f"written-{name}",
                f"{name}: weights as held against intended",
                "Mean and standard deviation over the layer's weights, pair differences with wires, in units of one level.",
                f"Errors of {int(layer.numbers.sum())} weights, {layer.rms:.3g} levels rms.",
                plots.errors_by_level(weights, means, stds),
                (Column("intended weight"), Column("mean error"), Column("standard deviation"), Column("weights")),
                tuple(zip(weights, means, stds, layer.numbers.tolist(), strict=True)),
            )
        )
    if any(layer.losses.any() for layer in study.cells.values()):
        groups: Mapping[str, Sequence[float]] = {name: layer.losses.tolist() for name, layer in study.cells.items()}
        items.append(
            Figure(
                "wires",
                "Current lost to wire resistance, crossbar by crossbar",
                "All rows driven: one minus the sum of effective over the sum of written conductances. Each point is a crossbar.",
                "; ".join(f"{name}: {100 * max(values):.2f} % at most" for name, values in groups.items()),
                plots.boxes(groups, title="current lost"),
                (Column("layer"), Column("crossbar"), Column("lost", "share")),
                tuple((name, index, value) for name, values in groups.items() for index, value in enumerate(values)),
                "wide",
            )
        )
    if len(study.cells) > _MOST_LAYERS:
        items.append(Note(f"{len(study.cells)} layers hold weights; the first {_MOST_LAYERS} are drawn, all are in the table."))
    return Section("cells", "What is on the crossbars", tuple(items))


def _device(study: Study) -> Section:
    chip: Chip = study.chip
    device, neuron = chip.crossbar.device, chip.neuron
    laws = {"programming": device.programming, "drift": device.drift}
    text = f"Device {device.name}, {device.levels} levels"
    text += "".join(f"; {what} by the law {law.model!r}" for what, law in laws.items() if law)
    if device.verify:
        text += f"; written with up to {device.verify.max_pulses} pulses"
    text += f". Neuron {neuron.kind}, at most {neuron.max_spikes_per_timestep} per timestep. A law's equation, range and source stand in physics/device.py."
    quantities = {name: q for name, q in chip.quantities().items() if name.startswith(("crossbar", "neuron"))}
    columns = (Column("constant", "code"), Column("value", "quantity"), Column("standing", "standing"), Column("source"))
    rows = tuple((name, f"{q.value!r} {q.unit}", q.standing, q.source) for name, q in quantities.items())
    return Section("device", "What this rests on", (Note(text), Table("device", f"Cells and neurons of chip {chip.name}", columns, rows)))


def _loss(ensemble: Ensemble) -> float:
    return ensemble.ideal - ensemble.mean


def _of(study: Study, like: Ensemble) -> float:
    """The mean loss of the chips that `like` has, with everything imperfect."""
    chosen = [index for index, chip in enumerate(study.whole.chips) if chip in like.chips]
    return study.whole.ideal - float(study.whole.accuracies[chosen].mean())


def _number(chips: int) -> str:
    return f"{chips} chip{'s' if chips != 1 else ''}"


def _when(time: float) -> str:
    return f"{duration(time)} after writing" if time else "right after writing"
