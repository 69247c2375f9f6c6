"""Plotly figures: labels are text, numbers survive, matrices are packed, many things are drawn as few."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from memspike.reporter import plots
from reports import HOSTILE


def unpacked(packed: Mapping[str, str]) -> Any:
    kinds = {"i1": "<i1", "u1": "<u1", "u2": "<u2", "f4": "<f4"}
    array = np.frombuffer(base64.b64decode(packed["bdata"]), kinds[packed["dtype"]])
    return array.reshape([int(n) for n in packed["shape"].split(",")])


def test_plain_text_holds_nothing_that_plotly_reads() -> None:
    for text in HOSTILE:
        assert not set(plots.plain(text)) & set("<>\x1b")
    assert plots.plain("&lt;b&gt; a & b") == "&amp;lt;b&amp;gt; a &amp; b"


def test_bars_carry_the_values_in_the_unit_of_the_axis() -> None:
    figure = plots.bars(["a", "b"], [plots.Series("one", [1e-6, 2.5e-6], plots.DESIGN)], "J", title="energy")
    assert figure["data"][0]["x"] == pytest.approx([1.0, 2.5])
    assert figure["layout"]["xaxis"]["title"]["text"] == "energy [µJ]"
    assert figure["data"][0]["customdata"] == ["1.00 µJ", "2.50 µJ"]


@pytest.mark.parametrize(
    ("largest", "unit", "factor", "name"),
    [(3e-6, "m2", 1e-6, "mm²"), (3e-9, "m2", 1e-12, "µm²"), (0.4, "share", 0.01, "%"), (0.0, "J", 1.0, "J"), (1500.0, "s", 1e3, "ks")],
)
def test_scale_of(largest: float, unit: str, factor: float, name: str) -> None:
    assert plots.scale_of(largest, unit) == (pytest.approx(factor), name)


def test_categories_are_never_numbers_or_dates_and_long_ones_stay_apart() -> None:
    labels = ["2020-01-01", "7", "x" * 100, "x" * 99 + "y"]
    axis = plots.bars(labels, [plots.Series("one", [1.0] * 4, plots.DESIGN)], "s", title="time")["layout"]["yaxis"]
    assert axis["type"] == "category"
    assert axis["tickvals"] == labels
    assert all(len(text.replace("<br>", "")) <= 60 for text in axis["ticktext"])


def test_ranges_reach_from_the_lower_to_the_higher_end() -> None:
    trace = plots.ranges(["a", "b"], [0.2, 0.9], [0.6, 0.5], 0.55, 0.3, title="saving")["data"][0]
    assert trace["base"] == pytest.approx([20.0, 50.0])
    assert trace["x"] == pytest.approx([40.0, 40.0])


def test_densities_integrate_to_one() -> None:
    edges, counts = [0.0, 1.0, 3.0, 4.0], [2.0, 4.0, 0.0]
    before = plots.densities((edges, counts), (edges, counts), 3.0)["data"][0]
    heights = [0.0 if h is None else h for h in before["y"][:3]]
    assert sum(h * (b - a) for h, a, b in zip(heights, edges[:-1], edges[1:], strict=True)) == pytest.approx(1.0)
    assert before["y"][2] is None  # a logarithmic axis has no zero


def test_a_histogram_whose_edges_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="3 edges for 3 bins"):
        plots.densities(([0, 1, 2], [1, 1, 1]), ([0, 1], [1]), 1.0)


def test_clusters_stand_at_their_weights() -> None:
    bars = plots.clusters(0.5, [-1.0, 0.0, 1.0], [1, 3], [-1, 0, 1], [1, 2, 1])["data"][0]
    assert bars["x"] == [-0.5, 0.0, 0.5]
    assert bars["y"] == [25.0, 50.0, 25.0]


def test_cells_keep_their_levels_and_empty_ones_stay_empty() -> None:
    levels = np.array([[0, 3], [-1, 7]], np.int32)
    drawn = unpacked(plots.cells(levels, 7)["data"][0]["z"])
    assert np.array_equal(drawn, [[0, 3], [np.nan, 7]], equal_nan=True)


def test_a_raster_keeps_its_signs_and_is_symmetric_about_silence() -> None:
    spikes = np.array([[0, 1, -1], [2, 0, 0]], np.int8)
    trace = plots.raster(spikes)["data"][0]
    assert np.array_equal(unpacked(trace["z"]), spikes)
    assert (trace["zmin"], trace["zmax"]) == (-2, 2)


@pytest.mark.parametrize("num_layers", [1, 2, 8, 9, 40])
def test_a_floorplan_gives_every_layer_its_colour(num_layers: int) -> None:
    layers = [f"layer {i}" for i in range(num_layers)]
    trace = plots.floorplan(np.arange(num_layers, dtype=np.float32).reshape(1, -1), [["x"] * num_layers], layers)["data"][0]
    positions = [at for at, _ in trace["colorscale"]]
    assert positions[0] == 0 and positions[-1] == 1 and positions == sorted(positions)
    assert np.array_equal(unpacked(trace["z"])[0], [-i for i in range(num_layers)])
    assert len(trace["colorbar"]["tickvals"]) == len(trace["colorbar"]["ticktext"]) <= 12
    if num_layers <= 8:  # the colour of the middle of a layer's step
        for i in range(num_layers):
            at = (-i - trace["zmin"]) / (trace["zmax"] - trace["zmin"])
            assert [color for low, color in trace["colorscale"] if low <= at][-1] == plots.CATEGORIES[i]


def test_every_colour_is_one_that_the_page_knows() -> None:
    from importlib import resources

    style = resources.files("memspike.reporter").joinpath("page", "page.css").read_text(encoding="utf-8")
    names = [plots.DESIGN, plots.BASELINE, plots.PAPER, plots.SECOND, plots.PALE, *plots.CATEGORIES, *plots.STANDING_COLORS.values()]
    names += [color for _, color in plots.DEPTH] + [color for _, color in plots.RAMP]
    for name in names:
        assert f"{name.removeprefix('var(').removesuffix(')')}:" in style
