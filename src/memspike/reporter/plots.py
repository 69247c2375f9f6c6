"""Plotly figures as plain dictionaries: colours are CSS variables, labels are made harmless, numbers come in one unit."""

import base64
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspike.reporter.items import pretty, shown
from memspike.units import si
from memspike.words import clean

Plot = dict[str, Any]
DESIGN, BASELINE, PAPER, SECOND, PALE = "var(--design)", "var(--baseline)", "var(--paper)", "var(--second)", "var(--pale)"
CATEGORIES = tuple(f"var(--category-{i})" for i in range(1, 9))
STANDING_COLORS = {"primary": "var(--primary)", "secondary": "var(--secondary)", "assumed": "var(--assumed)", "fitted": "var(--fitted)"}
DEPTH: list[tuple[float, str]] = [
    (i / 4, f"var(--depth-{i})") for i in range(5)
]  # from the first layer to the last, where there are more layers than categories
RAMP = [[0, "var(--ramp-0)"], [0.5, "var(--ramp-1)"], [1, "var(--ramp-2)"]]
_LABEL = 18  # characters of a label on one line


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one colour, one per label of the plot; in a stacked plot, series of one `group` share a bar. `errors` reach to either side."""

    name: str
    values: Sequence[float]
    color: str
    group: str = ""
    errors: Sequence[float] = ()


def plain(text: str) -> str:
    """Text that plotly shows as it is: plotly reads tags and entities in every label."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def bars(labels: Sequence[str], series: Sequence[Series], unit: str, *, title: str, stacked: bool = False) -> Plot:
    """Horizontal bars, the first label on top; `unit` is an SI unit, or "share" or "points" when the values are fractions."""
    largest = max((sum(values) if stacked else max(values) for values in zip(*(s.values for s in series), strict=True)), default=0.0)
    factor, unit_shown = scale_of(largest, unit)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": plain(s.name),
            "y": _categories(labels),
            "x": [value / factor for value in s.values],
            "customdata": [shown(value, unit) for value in s.values],
            "hovertemplate": "%{y}<br>%{fullData.name}: %{customdata}<extra></extra>",
            "marker": {"color": s.color},
            "offsetgroup": plain(s.group or s.name if not stacked else s.group),
            **({"error_x": _whiskers([error / factor for error in s.errors])} if s.errors else {}),
        }
        for s in series
    ]
    thick = max(15 * len({s.group if stacked else s.name for s in series}) + 10, *(15 * _wrapped(label).count("<br>") + 23 for label in labels), 0)
    figure = _figure(traces, height=110 + thick * len(labels), legend=len(series) > 1, x=f"{title} [{unit_shown}]")
    figure["layout"] |= {"barmode": "stack" if stacked else "group", "bargap": 0.3}
    figure["layout"]["xaxis"] |= {"rangemode": "tozero"}
    figure["layout"]["yaxis"] |= _category_axis(labels) | {"autorange": "reversed"}
    return figure


def dots(labels: Sequence[str], values: Sequence[float], errors: Sequence[float], colors: Sequence[str]) -> Plot:
    """Accuracies as points with error bars; the axis need not begin at zero, as no length is compared."""
    trace = {
        "type": "scatter",
        "mode": "markers",
        "y": _categories(labels),
        "x": [100 * value for value in values],
        "error_x": _whiskers([100 * error for error in errors]),
        "marker": {"color": list(colors), "size": 12},
        "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
    }
    figure = _figure([trace], height=100 + 34 * len(labels), legend=False, x="test accuracy [%]")
    figure["layout"]["yaxis"] |= _category_axis(labels) | {"autorange": "reversed"}
    return figure


def boxes(groups: Mapping[str, Sequence[float]], *, title: str, line: tuple[float, str] | None = None) -> Plot:
    """A horizontal box of fractions, in percent, for each label, every value a point on it; `line`: a value that is marked across them all, and its name."""
    traces = [
        {
            "type": "box",
            "orientation": "h",
            "name": plain(label),
            "x": [[100 * value for value in values]],
            "y": [plain(label)],
            # As the tables beside it have them; plotly's own quartiles of few values are others.
            **{name: [100 * float(np.quantile(values, q))] for name, q in (("q1", 0.25), ("median", 0.5), ("q3", 0.75), ("lowerfence", 0), ("upperfence", 1))},
            "boxpoints": "all",
            "jitter": 0.7,
            "pointpos": 0,
            "marker": {"color": SECOND, "size": 5, "opacity": 0.6},
            "line": {"color": DESIGN, "width": 1.4},
            "fillcolor": "rgba(0,0,0,0)",
            "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
        }
        for label, values in groups.items()
    ]
    figure = _figure(traces, height=110 + 44 * len(groups), legend=False, x=f"{title} [%]")
    figure["layout"]["yaxis"] |= _category_axis(list(groups)) | {"autorange": "reversed"}
    if line is not None:
        at, name = 100 * line[0], f"{plain(line[1])} {100 * line[0]:.2f}"
        figure["layout"] |= {"shapes": [_line_at(at, PAPER, "dash")], "annotations": [_label_at(at, name, PAPER, 0)]}
        figure["layout"]["margin"] |= {"t": 30}
        values = [at, *(100 * value for group in groups.values() for value in group)]
        margin = 0.05 * (max(values) - min(values)) or 1.0
        figure["layout"]["xaxis"] |= {"range": [min(values) - margin, max(values) + margin]}  # a line widens no axis by itself
    return figure


def errors_by_level(weights: Sequence[int], quantiles: Sequence[Sequence[float]]) -> Plot:
    """How far weights lie from what was intended, in levels: for each intended weight five quantiles: the outer ones a thin line, the inner ones a thick
    one, a point at the middle."""
    lowest, low, middle, high, highest = (list(values) for values in zip(*quantiles, strict=True))

    def trace(below: Sequence[float], above: Sequence[float], color: str, thickness: float) -> Plot:
        up, down = ([end - at for end, at in zip(ends, middle, strict=True)] for ends in (above, below))
        whiskers = _whiskers(up) | {"symmetric": False, "arrayminus": [-value for value in down], "color": color, "thickness": thickness, "width": 0}
        spans = [f"{a:.3g} to {b:.3g}" for a, b in zip(below, above, strict=True)]
        return {
            "type": "scatter",
            "mode": "markers",
            "x": list(weights),
            "y": middle,
            "error_y": whiskers,
            "customdata": spans,
            "marker": {"color": DESIGN, "size": 8 if thickness > 2 else 1, "line": {"color": "var(--surface)", "width": 1.5 if thickness > 2 else 0}},
            "hovertemplate": "intended %{x}: median %{y:.3f}, %{customdata} levels<extra></extra>",
        }

    return _figure([trace(lowest, highest, SECOND, 1.3), trace(low, high, DESIGN, 4.5)], height=260, legend=False, x="intended weight", y="error [levels]")


def ranges(labels: Sequence[str], lows: Sequence[float], highs: Sequence[float], middle: float, paper: float, *, title: str) -> Plot:
    """For each label a bar from `low` to `high` (fractions), a line at `middle`, a dashed one at the paper's figure."""
    hover = [f"{100 * low:.1f} % when halved, {100 * high:.1f} % when doubled" for low, high in zip(lows, highs, strict=True)]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": _categories(labels),
        "base": [100 * min(pair) for pair in zip(lows, highs, strict=True)],
        "x": [100 * abs(high - low) for low, high in zip(lows, highs, strict=True)],
        "customdata": hover,
        "hovertemplate": "%{y}: %{customdata}<extra></extra>",
        "marker": {"color": DESIGN},
    }
    figure = _figure([trace], height=130 + 26 * len(labels), legend=False, x=f"{title} [%]")
    figure["layout"] |= {"bargap": 0.45, "shapes": [_line_at(100 * middle, DESIGN, "solid"), _line_at(100 * paper, PAPER, "dash")]}
    figure["layout"]["annotations"] = [
        _label_at(100 * middle, f"here {100 * middle:.1f}", DESIGN, 0),
        _label_at(100 * paper, f"paper {100 * paper:.1f}", PAPER, 1),
    ]
    figure["layout"]["margin"] |= {"t": 44}
    figure["layout"]["yaxis"] |= _category_axis(labels) | {"autorange": "reversed"}
    return figure


def lines(series: Mapping[str, tuple[Sequence[float], Sequence[float | None], str]], *, x: str, y: str, log_ticks: Sequence[float] = ()) -> Plot:
    """Curves by name: x values, y values (None leaves a gap), colour. With `log_ticks` the x axis is logarithmic and curves have no markers."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines" if log_ticks else "lines+markers",
            "name": plain(name),
            "x": list(xs),
            "y": list(ys),
            "line": {"color": color, "width": 2},
            "marker": {"size": 6},
            "hovertemplate": "%{fullData.name}<br>%{x:.4~g}: %{y:.4~g}<extra></extra>",
        }
        for name, (xs, ys, color) in series.items()
    ]
    figure = _figure(traces, height=320, legend=len(series) > 1, x=x, y=y)
    if log_ticks:
        figure["layout"]["xaxis"] |= {"type": "log", "tickvals": list(log_ticks), "ticktext": [f"{at:g}" for at in log_ticks]}
    return figure


def add_points(figure: Plot, points: Mapping[str, tuple[float, float]]) -> Plot:
    """The figure with named points on top of its curves, each with a colour and a shape of its own."""
    shapes = ("circle", "diamond", "square", "triangle-up")
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(shorten(name)),
            "x": [x],
            "y": [y],
            "marker": {
                "color": CATEGORIES[(i + 1) % len(CATEGORIES)],
                "symbol": shapes[i % len(shapes)],
                "size": 12,
                "line": {"color": "var(--ink)", "width": 1},
            },
            "hovertemplate": "%{fullData.name}<br>%{x:.4~g}: %{y:.4~g}<extra></extra>",
        }
        for i, (name, (x, y)) in enumerate(points.items())
    ]
    return {"data": [*figure["data"], *traces], "layout": figure["layout"]}


def densities(before: tuple[Sequence[float], Sequence[float]], after: tuple[Sequence[float], Sequence[float]], bound: float) -> Plot:
    """Two histograms (edges, counts) as densities on a logarithmic axis, with a dashed line where the counts end."""
    traces = [_steps(name, edges, _density(edges, counts), color) for name, (edges, counts), color in (("before", before, BASELINE), ("after", after, DESIGN))]
    figure = _figure(traces, height=250, legend=True, x="signal", y="density")
    figure["layout"] |= {
        "shapes": [_line_at(bound, PAPER, "dash")],
        "annotations": [_label_at(bound, f"bound {bound:.3g}", PAPER, 0) | {"xanchor": "left", "yanchor": "top", "xshift": 4}],
    }
    figure["layout"]["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 2}
    return figure


def clusters(scale: float, edges: Sequence[float], counts: Sequence[float], levels: Sequence[int], level_counts: Sequence[float]) -> Plot:
    """The float weights as a line, the levels they became as bars; both in per cent of the weights per level step."""
    total = sum(level_counts) or 1
    integer = {
        "type": "bar",
        "name": "integers",
        "x": [level * scale for level in levels],
        "y": [100 * count / total for count in level_counts],
        "width": 0.72 * scale,
        "customdata": list(levels),
        "marker": {"color": DESIGN},
        "hovertemplate": "level %{customdata} = %{x:.3~g}: %{y:.2~f} %<extra></extra>",
    }
    per_level = [100 * scale * d if d is not None else None for d in _density(edges, counts)]
    return _figure([integer, _steps("floats", edges, per_level, SECOND)], height=250, legend=True, x="weight", y="share per level [%]")


def floorplan(values: NDArray[np.float32], hover: Sequence[Sequence[str]], layers: Sequence[str] | None) -> Plot:
    """Squares on a grid: numbers of `layers` as flat colours, or without layers percentages from light to dark; NaN stays empty."""
    figure = _matrix(values, gap=1)
    trace = figure["data"][0]
    trace |= {"text": [[plain(text) for text in row] for row in hover], "hovertemplate": "%{text}<extra></extra>", "showscale": True}
    trace["colorbar"] = {"thickness": 10, "outlinewidth": 0, "len": 1, "tickfont": {"size": 11}}
    if layers is None:
        trace |= {"zmin": 0, "zmax": 100, "colorscale": RAMP}
        trace["colorbar"] |= {"ticksuffix": " %"}
    else:
        scale = _flat_scale(CATEGORIES[: len(layers)]) if len(layers) <= len(CATEGORIES) else DEPTH
        trace |= {"z": _packed(-values), "zmin": 0.5 - len(layers), "zmax": 0.5, "colorscale": [[1 - at, color] for at, color in reversed(scale)]}
        named = range(0, len(layers), -(-len(layers) // 12))
        trace["colorbar"] |= {"tickvals": [-i for i in named], "ticktext": [plain(shorten(layers[i], 12)) for i in named]}
    figure["layout"]["xaxis"] |= {"showticklabels": False}
    figure["layout"]["yaxis"] |= {"showticklabels": False, "scaleanchor": "x", "constrain": "domain"}
    return figure


def cells(levels: NDArray[np.int32], max_level: int) -> Plot:
    """The cells of one crossbar, coloured by level; cells without a weight (-1) stay empty."""
    figure = _matrix(np.where(levels < 0, np.nan, levels).astype(np.float32), gap=0)
    hover = "row %{y}, column %{x}: level %{z}<extra></extra>"
    figure["data"][0] |= {"zmin": 0, "zmax": max_level, "colorscale": RAMP, "showscale": False, "hovertemplate": hover}
    figure["layout"]["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
    figure["layout"] |= {"height": 260}
    return figure


def raster(spikes: NDArray[np.int8]) -> Plot:
    """Spikes `[neurons, timesteps]`: up in one colour, down in another."""
    most = max(1, int(np.abs(spikes.astype(np.int16)).max(initial=0)))
    figure = _matrix(spikes, gap=0, x="timestep", y="neuron")
    scale = [[0, SECOND], [0.5, "var(--surface)"], [1, DESIGN]]
    figure["data"][0] |= {"zmin": -most, "zmax": most, "colorscale": scale, "showscale": False, "hovertemplate": "timestep %{x}: %{z}<extra></extra>"}
    figure["layout"]["yaxis"] |= {"showticklabels": False}
    return figure


def scale_of(largest: float, unit: str) -> tuple[float, str]:
    """The factor and the name of the prefixed unit in which a plot that reaches `largest` reads well."""
    if unit in ("share", "points"):
        return 0.01, "%" if unit == "share" else unit
    if not largest or not math.isfinite(largest):
        return 1.0, unit
    number, _, prefixed = pretty(si(largest, unit, digits=6)).partition(" ")
    return 10.0 ** round(math.log10(largest / float(number))), prefixed


def shorten(text: str, length: int = _LABEL) -> str:
    """The text, its middle left out where it is longer than `length` characters."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}"


def _figure(traces: list[Plot], *, height: int, legend: bool, x: str = "", y: str = "") -> Plot:
    layout = {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 30 if legend else 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "var(--sans)", "size": 12.5, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--surface)", "bordercolor": "var(--grid)", "font": {"family": "var(--sans)", "color": "var(--ink)"}, "align": "left"},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        "xaxis": _axis(x),
        "yaxis": _axis(y),
    }
    return {"data": traces, "layout": layout}


def _whiskers(errors: Sequence[float]) -> Plot:
    return {"type": "data", "array": list(errors), "color": "var(--muted)", "thickness": 1.2, "width": 4}


def _axis(title: str) -> Plot:
    lines = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor"), "var(--grid)")
    return lines | {"automargin": True, "ticks": "", "title": {"text": title, "standoff": 8, "font": {"size": 12.5}}}


def _matrix(values: NDArray[Any], *, gap: int, x: str = "", y: str = "") -> Plot:
    trace: Plot = {"type": "heatmap", "z": _packed(values), "hoverongaps": False, "xgap": gap, "ygap": gap}
    figure = _figure([trace], height=300, legend=False, x=x, y=y)
    bare = {"showgrid": False, "zeroline": False, "showline": False, "constrain": "domain"}
    figure["layout"]["xaxis"] |= bare
    figure["layout"]["yaxis"] |= bare | {"autorange": "reversed"}
    return figure


def _flat_scale(colors: Sequence[str]) -> list[tuple[float, str]]:
    """One flat step of colour for each of 0 ... n - 1, for values from -0.5 to n - 0.5."""
    return [(at / len(colors), color) for i, color in enumerate(colors) for at in (i, i + 1)]


def _categories(labels: Sequence[str]) -> list[str]:
    return [plain(label) for label in labels]


def _category_axis(labels: Sequence[str]) -> Plot:
    """Categories by their full names, so that equal beginnings stay apart; shown shortened. Plotly must not take them for numbers or dates."""
    return {"type": "category", "tickmode": "array", "tickvals": _categories(labels), "ticktext": [_wrapped(label) for label in labels], "showgrid": False}


def _wrapped(label: str) -> str:
    """A label on at most three lines that leave room for the plot on a telephone."""
    return "<br>".join(plain(line) for line in textwrap.wrap(clean(label), _LABEL, max_lines=3, placeholder="…"))


def _line_at(x: float, color: str, dash: str) -> Plot:
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": color, "width": 1.6, "dash": dash}}


def _label_at(x: float, text: str, color: str, row: int) -> Plot:
    return {"x": x, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 15 * row, "text": text, "showarrow": False, "font": {"color": color, "size": 11.5}}


def _density(edges: Sequence[float], counts: Sequence[float]) -> list[float | None]:
    """Share per unit of x in each bin; empty bins are None, as a logarithm has no zero."""
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(edges)} edges for {len(counts)} bins")
    total = float(sum(counts))
    return [count / total / (right - left) if count > 0 else None for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)]


def _steps(name: str, edges: Sequence[float], heights: Sequence[float | None], color: str) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(edges),
        "y": [*heights, heights[-1] if heights else None],
        "line": {"shape": "hv", "color": color, "width": 1.8},
        "hovertemplate": "%{fullData.name}<br>from %{x:.3~g}: %{y:.3~g}<extra></extra>",
    }


def _packed(values: NDArray[Any]) -> Plot:
    """A matrix in plotly's own compact form, base64 of its bytes."""
    kinds = {"int8": "i1", "uint8": "u1", "uint16": "u2", "float32": "f4"}
    array = np.ascontiguousarray(values)
    shape = ", ".join(map(str, array.shape))
    return {"dtype": kinds[array.dtype.name], "bdata": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode(), "shape": shape}
