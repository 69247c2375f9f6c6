"""What training left in the network's notes, as sections: data, curves, signals, weights, conversions, recipe."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memspike.network import QuantizedNetwork
from memspike.reporter import plots
from memspike.reporter.items import Cell, Column, Figure, Item, Note, Section, Table

_MOST_LAYERS = 12


def training(network: QuantizedNetwork) -> Section:
    """All that the notes say about training; a part that is missing or malformed is named, never a reason to fail."""
    parts: list[tuple[str, str, Callable[[Any], list[Item]]]] = [
        ("data", "the data set", _data),
        ("recipe", "how it was trained", _recipe),
        ("curves", "loss and accuracy over time", _curves),
        ("signals", "signals before and after Neuron Convergence", _signals),
        ("weights", "weights before and after Weight Clustering", _weights),
        ("conversion", "what was converted", _conversion),
    ]
    items = [item for key, what, build in parts for item in _part(network.notes, key, what, build)]
    if said := network.notes.get("normalization"):
        items.insert(0, Note(f"Normalised images: {said}.", "caution" if "; " in str(said) else "plain"))
    return Section("training", "Training", tuple(items))


def _part(notes: Mapping[str, Any], key: str, what: str, build: Callable[[Any], list[Item]]) -> list[Item]:
    if not notes.get(key):
        return [Note(f"The network carries no notes on {what} (`{key}`), so they are not shown.", "missing")]
    try:
        return build(notes[key])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError, OverflowError) as error:
        return [Note(f"The network's notes on {what} (`{key}`) cannot be read and are not shown: {type(error).__name__}: {error}", "missing")]


def _data(data: Mapping[str, Any]) -> list[Item]:
    row = (_cell(data["name"]), _cell(data.get("num_train")), _cell(data.get("num_test")), _cell(data.get("source")))
    return [Table("data", "Data", (Column("name"), Column("training images"), Column("test images"), Column("source")), (row,))]


def _recipe(recipe: Mapping[str, Any]) -> list[Item]:
    rows = tuple((str(name), _cell(value)) for name, value in recipe.items())
    return [Table("recipe", "Recipe", (Column("setting"), Column("value", "code")), rows)]


def _curves(curves: Sequence[Mapping[str, Any]]) -> list[Item]:
    steps = [(str(c["stage"]), int(c["epoch"]), _number(c.get("loss")), _number(c.get("accuracy"))) for c in curves]
    rows = tuple((i, *step) for i, step in enumerate(steps, start=1))
    losses, accuracies = [step[2] for step in steps], [None if step[3] is None else 100 * step[3] for step in steps]
    stages = [step[0] for step in steps]
    return [_curve("Loss", "loss", stages, losses, rows), _curve("Accuracy", "accuracy [%]", stages, accuracies, rows)]


def _curve(title: str, y: str, stages: list[str], values: list[float | None], rows: tuple[tuple[Cell, ...], ...]) -> Figure:
    """One value over all epochs, a line per stage, stages one after the other."""
    columns = (Column("step"), Column("stage"), Column("epoch"), Column("loss"), Column("accuracy", "%"))
    series: dict[str, tuple[list[float], list[float | None], str]] = {}
    for step, (stage, value) in enumerate(zip(stages, values, strict=True), start=1):
        xs, ys, _ = series.setdefault(stage, ([], [], plots.CATEGORIES[len(series) % len(plots.CATEGORIES)]))
        xs.append(step)
        ys.append(value)
    known = [value for value in values if value is not None]
    ends = f"from {known[0]:.4g} to {known[-1]:.4g}" if known else "none recorded"
    alt = f"{y} over {len(values)} epochs in {len(series)} stages, {ends}."
    plot = plots.lines(series, x="epoch, stages one after the other", y=y)
    return Figure(f"curve-{title.lower()}", f"{title} while training", f"Stages: {', '.join(series)}.", alt, plot, columns, rows)


def _signals(signals: Sequence[Mapping[str, Any]]) -> list[Item]:
    items: list[Item] = [_sampled("signals", len(signals))] if len(signals) > _MOST_LAYERS else []
    for number, s in enumerate(_some(signals)):
        layer, bound = str(s["layer"]), float(s["bound"])
        sides = {side: (_floats(s[side]["edges"]), _floats(s[side]["counts"])) for side in ("before", "after")}
        beyond = {side: _share_beyond(*sides[side], bound) for side in sides}
        text = f"Beyond the bound: {100 * beyond['before']:.2f} % of the signals before, {100 * beyond['after']:.2f} % after."
        rows = tuple((side, a, b, n) for side, (edges, counts) in sides.items() for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True))
        columns = (Column("when"), Column("from"), Column("to"), Column("signals"))
        plot = plots.densities(sides["before"], sides["after"], bound)
        items.append(
            Figure(f"signals-{number}", f"Signals of {layer}", text, f"Histograms of the signals of {layer}. {text}", plot, columns, rows, size="small")
        )
    return items


def _weights(weights: Sequence[Mapping[str, Any]]) -> list[Item]:
    items: list[Item] = [_sampled("weights", len(weights))] if len(weights) > _MOST_LAYERS else []
    for number, w in enumerate(_some(weights)):
        layer, scale, bits = str(w["layer"]), float(w["scale"]), int(w["bits"])
        levels, counts = [int(v) for v in w["levels"]], _floats(w["level_counts"])
        zero = sum(n for level, n in zip(levels, counts, strict=True) if level == 0) / (sum(counts) or 1)
        text = f"{bits} bits, {sum(n > 0 for n in counts)} levels in use, one step is {scale:.3g}; {100 * zero:.1f} % of the weights are zero."
        rows = tuple((level, level * scale, n) for level, n in zip(levels, counts, strict=True))
        plot = plots.clusters(scale, _floats(w["edges"]), _floats(w["counts"]), levels, counts)
        columns = (Column("level"), Column("weight"), Column("weights at this level"))
        items.append(
            Figure(f"weights-{number}", f"Weights of {layer}", text, f"Histogram of the weights of {layer}. {text}", plot, columns, rows, size="small")
        )
    return items


def _conversion(conversion: Sequence[Mapping[str, Any]]) -> list[Item]:
    rows = tuple(tuple(_cell(c.get(key)) for key in ("layer", "was", "became", "note")) for c in conversion)
    columns = (Column("layer"), Column("was", "code"), Column("became", "code"), Column("note"))
    return [Table("conversion", "What each layer became", columns, rows)]


def _some(things: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most `_MOST_LAYERS` of them, first and last included, evenly spaced."""
    n = len(things)
    return list(things) if n <= _MOST_LAYERS else [things[i * (n - 1) // (_MOST_LAYERS - 1)] for i in range(_MOST_LAYERS)]


def _sampled(what: str, n: int) -> Note:
    return Note(f"{n} layers have {what} in the notes; {_MOST_LAYERS} of them are shown, evenly spaced, the first and the last included.")


def _share_beyond(edges: Sequence[float], counts: Sequence[float], bound: float) -> float:
    """Share of the counts in bins that begin at the bound or beyond it."""
    return sum(n for left, n in zip(edges[:-1], counts, strict=True) if left >= bound) / (sum(counts) or 1)


def _floats(values: Sequence[Any]) -> list[float]:
    numbers = [float(v) for v in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers


def _number(value: Any) -> float | None:
    """The number, or None where training recorded none or diverged."""
    return None if value is None or not math.isfinite(float(value)) else float(value)


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return value if math.isfinite(value) else str(value)
