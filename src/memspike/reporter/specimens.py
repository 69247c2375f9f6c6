"""The report on many chips of one design: how well they do, and which imperfection, layer and time does what."""

from collections.abc import Mapping, Sequence

from memspike.ensemble import ERROR_QUANTILES, QUANTILES, Ensemble, Study
from memspike.physics.device import cautions, relaxes
from memspike.reporter import plots
from memspike.reporter.items import Cell, Column, Figure, Headline, Item, Measure, Note, Section, Table
from memspike.reporter.report import Report
from memspike.units import percent

_WORDS = {
    "levels": "measured levels",
    "programming": "programming noise",
    "stuck": "stuck cells",
    "read_noise": "read noise",
    "drift": "drift",
    "temperature": "temperature",
    "wires": "wire resistance",
    "neuron": "neuron circuits",
}
_UNITS = ((365.25 * 86400, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MOST_LAYERS = 12  # drawn one by one
_ERROR = "standard error over chips"
_LOSS = (Column("mean loss", "points"), Column(_ERROR, "points"), Column("std between chips", "points"))


def report_chips(study: Study, within: float, run: Mapping[str, str] | None = None, *, title: str | None = None) -> Report:
    """What a study found, with the yield within `within` points of the ideal program; `run` is how to repeat it: command, data, digests."""
    sections = (_accuracy(study, within), _causes(study), _ways(study), _time(study), _layers(study), _cells(study), _device(study), _run(run or {}))
    return Report(title or f"{study.name}: {_number(study.whole)} on {study.chip.name}", tuple(s for s in sections if s.items))


def duration(seconds: float) -> str:
    """A time as people say it: `duration(86400)` is `1 d`."""
    value, unit = next(((seconds / size, unit) for size, unit in _UNITS if seconds >= size), (seconds, "s"))
    return f"{value:.3g} {unit}"


def _said(study: Study, name: str) -> str:
    """An imperfection for people; what time adds to the error of a write is part of that."""
    return f"{_WORDS[name]}{' and relaxation' * (name == 'programming' and study.time > 0 and relaxes(study.chip.crossbar.device))}"


def _std(ensemble: Ensemble) -> float | None:
    """The standard deviation between chips, which one chip alone does not have."""
    return ensemble.std if len(ensemble.chips) > 1 else None


def _error(ensemble: Ensemble) -> float | None:
    return ensemble.error if len(ensemble.chips) > 1 else None


def _accuracy(study: Study, within: float) -> Section:
    whole = study.whole
    share, low, high = whole.yield_within(within)
    measures = (
        Measure("Mean accuracy", whole.mean, "%", f"standard deviation between {_number(whole)}: {100 * whole.std:.2f} points", ""),
        Measure(
            "Ideal program", whole.ideal, "%", f"exact integers on the same {whole.num_images} images; one image is {100 / whole.num_images:.2g} points", ""
        ),
        Measure("Yield", share, "share", f"within {within:g} points of the ideal program; 95 % interval {100 * low:.0f} to {100 * high:.0f} %", ""),
    )
    rows: list[tuple[Cell, ...]] = [("lowest", float(whole.accuracies.min()))]
    rows += [("median" if q == 0.5 else f"{100 * q:g} %", whole.quantiles[q]) for q in QUANTILES]
    rows += [("highest", float(whole.accuracies.max())), ("mean", whole.mean)]
    values = tuple((int(chip), float(a), int(c)) for chip, a, c in zip(whole.chips, whole.accuracies, whole.changed, strict=True))
    figure = Figure(
        "chips",
        "Accuracy of every chip",
        "Each point is a chip. The box spans the middle half of them; the dashed line is the ideal program. The axis does not begin at zero.",
        f"Box plot of {len(values)} accuracies, mean {percent(whole.mean)}, ideal {percent(whole.ideal)}.",
        plots.boxes({_number(whole): whole.accuracies.tolist()}, title="test accuracy", line=(whole.ideal, "ideal")),
        (Column("chip"), Column("accuracy", "%"), Column("predictions changed")),
        values,
        "wide",
    )
    found = study.imperfections
    names = ", ".join(_said(study, name) for name in found) or "none, every chip is perfect"
    when = f"{duration(study.time)} after writing" if study.time else "right after writing"
    items: list[Item] = [Headline(measures), Note(f"Imperfections: {names}. Chips are read {when}. Chip n alone is what --seed n simulates.")]
    if study.is_alike and len(values) > 1:
        items.append(Note("Nothing about this design differs from chip to chip, so that all chips score the same. --cells names cells that do.", "caution"))
    return Section("chips", "Accuracy", (*items, figure, Table("quantiles", "Over the chips", (Column("quantile"), Column("accuracy", "%")), tuple(rows))))


def _causes(study: Study) -> Section:
    title, together = "Which imperfection hurts", study.together
    if together is None or not study.alone:
        return Section("causes", title, ())
    order = sorted(study.alone, key=lambda name: -study.alone[name].loss)
    labels = ["all together", *(_said(study, name) for name in order)]
    alone = [together, *(study.alone[name] for name in order)]
    series = [plots.Series("alone", [one.loss for one in alone], plots.DESIGN, errors=[one.error for one in alone])]
    rows: list[tuple[Cell, ...]] = [("all together", together.loss, _error(together), None, None)]
    if study.without:
        others = [study.without[name] for name in order]
        series.append(plots.Series("all but this one", [0.0, *(one.loss for one in others)], plots.BASELINE, errors=[0.0, *(one.error for one in others)]))
    for name in order:
        other = study.without.get(name)
        rest = (other.loss, _error(other)) if other is not None else (None, None)
        rows.append((_said(study, name), study.alone[name].loss, _error(study.alone[name]), *rest))
    columns = (
        Column("imperfection"), Column("loss alone", "points"), Column(_ERROR, "points"), Column("loss of all but this one", "points"),
        Column("its standard error", "points"),
    )  # fmt: skip
    told = f"Mean over {_number(together)}, the first ones; whiskers are one standard error of it."
    alt = "; ".join(f"{label}: {100 * one.loss:.2f} points alone" for label, one in zip(labels, alone, strict=True)) + "."
    plot = plots.bars(labels, series, "points", title="accuracy lost against the ideal program")
    for trace in plot["data"][1:]:
        trace["x"][0] = None  # all together has no rest
    one_image = f"One image is {100 / together.num_images:.2g} points, and a loss below zero a gain."
    note = f"{told} It is that between chips; other images would give other losses. {one_image}"
    figure = Figure("tornado", "Accuracy lost to each imperfection", told, alt, plot, columns, tuple(rows), "wide")
    return Section("causes", title, (figure, Table("causes", "Accuracy lost to each imperfection", columns, tuple(rows), note)))


def _ways(study: Study) -> Section:
    title = "Around stuck cells"
    if not study.ways:
        return Section("ways", title, ())
    found = {name: way.ensemble for name, way in study.ways.items()}
    told = f"Mean over {_number(next(iter(found.values())))}, the first ones; whiskers are one standard error of it. Each way by itself, then together."
    columns = (Column("way around"), Column("rms error [levels]"), *_LOSS)
    rows = tuple((name, way.rms, way.ensemble.loss, _error(way.ensemble), _std(way.ensemble)) for name, way in study.ways.items())
    series = plots.Series("loss", [one.loss for one in found.values()], plots.DESIGN, errors=[one.error for one in found.values()])
    figure = Figure(
        "ways",
        "Accuracy lost with each way around stuck cells",
        told,
        "; ".join(f"{name}: {100 * one.loss:.2f} points" for name, one in found.items()) + ".",
        plots.bars(list(found), [series], "points", title="accuracy lost against the ideal program"),
        columns,
        rows,
        "wide",
    )
    note = f"The error is that of all weights of chip {study.shown}, with everything else that is imperfect about it."
    return Section("ways", title, (figure, Table("ways", "What each way around stuck cells brings", columns, rows, note)))


def _time(study: Study) -> Section:
    if not study.over_time:
        return Section("time", "Over time", ())
    groups = {duration(time): ensemble.accuracies.tolist() for time, ensemble in study.over_time.items()}
    columns = (Column("after"), Column("mean accuracy", "%"), *_LOSS)
    rows = tuple((duration(time), one.mean, one.loss, _error(one), _std(one)) for time, one in study.over_time.items())
    told = f"{_number(next(iter(study.over_time.values())))}, the same ones at every time after writing; the dashed line is the ideal program."
    alt = "; ".join(f"after {duration(time)}: {percent(ensemble.mean)}" for time, ensemble in study.over_time.items()) + "."
    plot = plots.boxes(groups, title="test accuracy", line=(study.whole.ideal, "ideal"))
    figure = Figure("time", "Accuracy over time", told, alt, plot, columns, rows, "wide")
    return Section("time", "Over time", (figure, Table("over-time", "Accuracy over time", columns, rows)))


def _layers(study: Study) -> Section:
    if not study.layers:
        return Section("layers", "Which layer is sensitive", ())
    losses = [ensemble.loss for ensemble in study.layers.values()]
    figure = Figure(
        "layers",
        "Accuracy lost when one layer alone is imperfect",
        f"Mean over {_number(next(iter(study.layers.values())))}, all other layers exact; whiskers are one standard error.",
        "; ".join(f"{name}: {100 * loss:.2f} points" for name, loss in zip(study.layers, losses, strict=True)) + ".",
        plots.bars(
            list(study.layers),
            [plots.Series("alone", losses, plots.DESIGN, errors=[ensemble.error for ensemble in study.layers.values()])],
            "points",
            title="accuracy lost against the ideal program",
        ),
        (Column("layer"), *_LOSS),
        tuple((name, ensemble.loss, _error(ensemble), _std(ensemble)) for name, ensemble in study.layers.items()),
        "wide",
    )
    return Section("layers", "Which layer is sensitive", (figure,))


def _cells(study: Study) -> Section:
    rows = tuple(
        (name, int(layer.numbers.sum()), layer.rms, len(layer.losses), float(layer.losses.mean()), float(layer.losses.max()))
        for name, layer in study.cells.items()
    )
    columns = (
        Column("layer"), Column("weights"), Column("rms error [levels]"), Column("crossbars"), Column("current lost to wires", "share"),
        Column("in the worst crossbar", "share"),
    )  # fmt: skip
    items: list[Item] = [Table("layers-written", f"Chip {study.shown}, layer by layer", columns, rows)]
    outer, inner = (f"{100 * ERROR_QUANTILES[i]:g} to {100 * ERROR_QUANTILES[-1 - i]:g} %" for i in (0, 1))
    quantile_columns = (Column(f"{100 * q:g} %") for q in ERROR_QUANTILES)
    error_columns = (Column("intended weight"), Column("weights"), Column("mean error"), Column("standard deviation"), *quantile_columns)
    for name, layer in list(study.cells.items())[:_MOST_LAYERS]:
        weights, quantiles = layer.weights.tolist(), layer.quantiles.tolist()
        items.append(
            Figure(
                f"written-{name}",
                f"{name}: weights as held against intended",
                f"Differences of cell pairs, wires included, in units of one level: median, {inner} (thick) and {outer} (thin) of the weights.",
                f"Errors of {int(layer.numbers.sum())} weights, {layer.rms:.3g} levels rms.",
                plots.errors_by_level(weights, quantiles),
                error_columns,
                tuple((*row[:-1], *row[-1]) for row in zip(weights, layer.numbers.tolist(), layer.means.tolist(), layer.stds.tolist(), quantiles, strict=True)),
            )
        )
    if len(study.cells) > _MOST_LAYERS:
        items.append(Note(f"{len(study.cells)} layers hold weights; the first {_MOST_LAYERS} are drawn, all are in the table."))
    if any(layer.losses.any() for layer in study.cells.values()):
        groups: Mapping[str, Sequence[float]] = {name: layer.losses.tolist() for name, layer in study.cells.items()}
        items.append(
            Figure(
                "wires",
                "Current lost to wire resistance, crossbar by crossbar",
                "Each point is a crossbar with all rows driven: what reaches its neurons falls short of what ideal wires would bring by this share.",
                "; ".join(f"{name}: {100 * max(values):.2f} % at most" for name, values in groups.items()) + ".",
                plots.boxes(groups, title="current lost"),
                (Column("layer"), Column("crossbar"), Column("lost", "share")),
                tuple((name, index, value) for name, values in groups.items() for index, value in enumerate(values)),
                "wide",
            )
        )
    return Section("cells", f"What is on the crossbars of chip {study.shown}", tuple(items))


def _device(study: Study) -> Section:
    chip = study.chip
    device, neuron = chip.crossbar.device, chip.neuron
    laws = {"programming": device.programming, "drift": device.drift, "temperature": device.temperature}
    text = f"Device {device.name}, {device.levels} levels"
    text += "".join(f"; {what} by the law {law.model!r}" for what, law in laws.items() if law)
    if device.conductances_source:
        text += f"; conductances measured: {device.conductances_source}"
    if device.verify:
        text += f"; written with up to {device.verify.max_pulses} pulses"
    text += f". Neuron {neuron.kind}, at most {neuron.max_spikes_per_timestep} spikes per timestep. "
    text += "A law's equation, valid range and source stand beside its name in memspike.physics."
    quantities = {name: q for name, q in chip.quantities().items() if name.startswith(("crossbar", "neuron"))}
    columns = (Column("constant", "code"), Column("value", "quantity"), Column("standing", "standing"), Column("source"))
    rows = tuple((name, f"{q.value!r} {q.unit}", q.standing, q.source) for name, q in quantities.items())
    beyond = tuple(Note(caution, "caution") for caution in cautions(device, max([study.time, *study.over_time])))
    return Section("device", "What this rests on", (Note(text), *beyond, Table("device", f"Cells, wires and neurons of chip {chip.name}", columns, rows)))


def _run(run: Mapping[str, str]) -> Section:
    note = "Digests are SHA-256 of the meaning: equal programs have equal digests. chips.csv beside this page holds every simulation."
    table = Table("run", "This run", (Column("what"), Column("value", "code")), tuple(run.items()), note)
    return Section("provenance", "How to repeat this", (table,) if run else ())


def _number(ensemble: Ensemble) -> str:
    chips = len(ensemble.chips)
    return f"{chips} chip{'s' if chips != 1 else ''}"
