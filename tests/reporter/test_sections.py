"""What the sections say: every number is the input's, every doubt is spoken, what is missing is named."""

import copy
import dataclasses
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memspike.mapping import FaultMap, LayerPlan, Mapping, Tile
from memspike.pixels import PixelCode
from memspike.reporter import Design, Report, report
from memspike.reporter.evidence import AREA, ENERGY, shares
from memspike.reporter.items import Figure, Headline, Item, Note, Section, Table
from memspike.reporter.paper import CITATION, FIT, pixels_said
from memspike.reporter.placement import _levels, placement, spikes
from reports import Case, make_case
from small_programs import one_conv


def table(made: Report, name: str) -> Table:
    return next(item for section in made.sections for item in section.items if isinstance(item, Table) and item.name == name)


def figure(items: tuple[Item, ...], name: str) -> Figure:
    return next(item for item in items if isinstance(item, Figure) and item.name == name)


def notes(section: Section, tone: str) -> str:
    return "\n".join(item.text for item in section.items if isinstance(item, Note) and item.tone == tone)


def test_the_headline_is_the_summary(case: Case, full_report: Report) -> None:
    headline = next(item for item in full_report.section("headline").items if isinstance(item, Headline))
    ratio, accuracy = case.summary["ratio"], case.summary["accuracy"]
    wanted = [accuracy["fp32"] - accuracy["program"], ratio["speedup"], ratio["energy_saving"], ratio["area_saving"]]
    assert [m.value for m in headline.measures] == pytest.approx(wanted)
    assert [m.paper for m in headline.measures] == ["at most 0.02 MNIST, 2.3 CIFAR-10", "> 9.8×", "89.1 %", "30 %"]
    assert headline.measures[0].detail.endswith(": 1 of 10 000 images worse")


def test_pixels_that_are_not_counted_plainly_are_spoken_of() -> None:
    plain = one_conv(4, 3, 3, 6)
    assert pixels_said(plain) == ""
    assert pixels_said(replace(plain, pixels=PixelCode(2, 4, 39, 220))) == (
        " Pixels up to 39 count 0, from 220 on most. Each pixel lies on 4 lines, which count 61 levels together in the same window."
        " Dithered over 2 x 2 pixels and all channels."
    )


def test_a_predicted_headline_says_what_each_ratio_rests_on(case: Case, full_report: Report) -> None:
    headline = next(item for item in full_report.section("headline").items if isinstance(item, Headline))
    design = case.designs[0][0]
    chip = design.mapping.chip
    speed, *savings = (m.caution for m in headline.measures[1:])
    assert f"{chip.window_overhead.value / chip.timestep.value:.3g} timesteps, {chip.window_overhead.standing}" in speed
    for amount, caution in zip((ENERGY, AREA), savings, strict=True):
        share = shares(chip, design.cost, amount)["assumed"]
        assert caution == f"predicted: {100 * share:.1f} % of the {amount.name} rests on assumed constants, scaling to one node not counted"


def test_the_fit_is_called_a_fit_wherever_its_ratios_stand(case: Case) -> None:
    from reports import summary_of

    pair = case.designs[1]
    made = report(case.network, [pair], summary_of(*pair))
    headline = next(item for item in made.section("headline").items if isinstance(item, Headline))
    assert all(m.caution == FIT for m in headline.measures[1:])
    assert table(made, "ratios").rows[0][-1] == FIT
    assert all(FIT in figure(made.section("evidence").items, f"sensitivity-{what}").caption for what in ("energy", "area"))
    assert FIT in notes(made.section("paper"), "caution")


def test_ratios_stand_beside_the_paper(case: Case, full_report: Report) -> None:
    rows = table(full_report, "ratios").rows
    assert [row[0] for row in rows] == ["predictive", "liu2018", "paper (abstract)"]
    for row, (design, baseline) in zip(rows, case.designs, strict=False):
        wanted = (baseline.cost.latency / design.cost.latency, design.cost.throughput / baseline.cost.throughput, 1 - design.cost.energy / baseline.cost.energy)
        assert row[1:4] == pytest.approx(wanted)
        assert row[4] == pytest.approx(1 - design.cost.area / baseline.cost.area)
    assert rows[2][1:5] == ("> 9.8×", None, "89.1 %", "30 %")
    assert rows[2][-1] == CITATION


def test_accuracies_with_their_sampling_errors(case: Case, full_report: Report) -> None:
    rows = {row[0]: row for row in table(full_report, "accuracy").rows}
    for name, accuracy in case.summary["accuracy"].items():
        assert rows[name][1:4] == pytest.approx((accuracy, math.sqrt(accuracy * (1 - accuracy) / 10000), case.summary["accuracy"]["fp32"] - accuracy))


def test_costs_are_those_of_the_designs(case: Case, full_report: Report) -> None:
    rows = table(full_report, "costs").rows
    designs = [d for pair in case.designs for d in pair]
    macs = 24 * 24 * 4 * 25 + 8 * 8 * 8 * 4 * 25 + 32 * 128 + 10 * 32
    for row, d in zip(rows, designs, strict=True):
        c = d.cost
        assert row[2:8] == pytest.approx((c.latency, c.throughput, c.energy, c.energy * c.throughput, c.energy / macs, c.area))
        assert (row[0], row[1], row[8]) == (d.mapping.chip.name, d.label, d.mapping.num_crossbars)


@pytest.mark.parametrize("by", ["component", "layer"])
def test_figures_of_energy_and_area_add_up(case: Case, full_report: Report, by: str) -> None:
    items = full_report.section("cost").items
    for column, design in enumerate(case.designs[0], start=1):
        for what, total in (("energy", design.cost.energy), ("area", design.cost.area)):
            shown = figure(items, f"{what}-by-{by}")
            assert sum(row[column] for row in shown.rows) == pytest.approx(total)  # pyright: ignore[reportArgumentType]
            plotted = sum(shown.plot["data"][column - 1]["x"])
            assert plotted / sum(row[column] for row in shown.rows) == pytest.approx(1e6 if what == "area" else plotted / total)  # pyright: ignore[reportArgumentType, reportOperatorIssue]


def test_component_tables_end_with_the_sum(case: Case, full_report: Report) -> None:
    design, baseline = case.designs[0]
    last = table(full_report, "energy-components").rows[-1]
    assert last[0] == "all"
    assert last[1:] == pytest.approx((design.cost.energy, baseline.cost.energy, 1 - design.cost.energy / baseline.cost.energy))


def test_layer_times_are_split_into_timesteps_and_overhead(case: Case, full_report: Report) -> None:
    rows = {row[0]: row[1:] for row in figure(full_report.section("cost").items, "latency-by-layer").rows}
    for column, design in enumerate(case.designs[0]):
        for time in design.cost.times:
            counting, beyond = rows[time.layer][2 * column : 2 * column + 2]
            assert counting + beyond == pytest.approx(time.time)  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
            assert beyond == pytest.approx(time.windows * design.mapping.chip.window_overhead.value)


def test_every_constant_is_listed_with_its_standing_and_source(case: Case, full_report: Report) -> None:
    for design, _ in case.designs:
        chip = design.mapping.chip
        listed = table(full_report, f"constants-{chip.name}")
        assert listed.rows == tuple((name, f"{q.value!r} {q.unit}", q.standing, q.source) for name, q in chip.quantities().items())
        assert all(text in notes(full_report.section("constants"), "plain") for text in chip.notes)


def test_what_differs_is_computed_from_the_chip(case: Case) -> None:
    def said(case: Case) -> dict[Any, str]:
        return {row[0]: str(row[1]) for row in table(report(case.network, case.designs, case.summary), "differences").rows}

    whole = said(case)
    assert whole["window overhead"].startswith("100 ns, that is 10 timesteps of 10.0 ns (assumed): windows alone give 10.23×.")
    assert whole["weights in cells"].startswith("One cell for a magnitude here, 2 cells in the baseline (4 bits per cell). The baseline needs more columns")
    assert "Counted in 4 bits like every other signal." in whole["image"]
    fitted = Case(case.network, case.designs[1:], case.summary | _costs_of(case, 1))
    assert said(fitted)["weights in cells"] == "One cell for a magnitude here, one cell in the baseline (7 bits per cell)."


@pytest.mark.parametrize(
    ("image_bits", "says", "paper_says", "curve"),
    [
        (4, "windows alone give 10.23×. Without overhead it would be 16×.", "9.8× comes out at 11.3 timesteps.", "(256 + overhead) / (16 + overhead)"),
        # 576 of LeNet's 642 windows read the image: (642 x 266) / (576 x 266 + 66 x 26).
        (8, "windows alone give 1.10×. Without overhead it would be 1.11×.", "With these windows no overhead gives 9.8×.", "all windows of the baseline"),
    ],
)
def test_windows_count_by_their_number_and_length(image_bits: int, says: str, paper_says: str, curve: str) -> None:
    case = make_case((4, 8, 32), ("predictive",), image_bits)
    made = report(case.network, case.designs, case.summary)
    [row] = [row for row in table(made, "differences").rows if row[0] == "window overhead"]
    assert str(row[1]).endswith(says) and str(row[2]).endswith(paper_says)
    assert figure(made.section("paper").items, "windows").caption.startswith(f"Curve: {curve}")


@pytest.mark.parametrize(
    ("name", "source", "says", "not_says"),
    [
        ("mnist", "files", "10 000 test images.", "cannot be compared"),
        ("uoft-cs/cifar10", "a JPEG copy", "JPEG", "cannot be compared"),
        ("CIFAR-10", "files", "10 000 test images.", "JPEG"),
        ("fashion_mnist", "files", "cannot be compared", "JPEG"),
        ("digits", "", "cannot be compared", "JPEG"),
    ],
)
def test_another_data_set_is_not_compared(case: Case, name: str, source: str, says: str, not_says: str) -> None:
    network = dataclasses.replace(case.network, notes={"data": {"name": name, "source": source}})
    text = str(table(report(network, case.designs, case.summary), "differences").rows[0][1])
    assert says in text
    assert not_says not in text


def test_a_failed_check_is_shouted(case: Case) -> None:
    summary = case.summary | {"checks": {"spike_equals_program": False, "images_checked": 7, "differing_counts": {"conv1": 3, "pool1": 0}}}
    made = report(case.network, case.designs, summary)
    assert "did NOT say what the program means on 7 images" in notes(made.section("headline"), "caution")
    assert table(made, "checks").rows == (("spike_equals_program", "NO"), ("images_checked", 7), ("differing_counts", "conv1: 3"))


def test_no_image_checked_is_no_check(case: Case) -> None:
    summary = case.summary | {"checks": {"spike_equals_program": None, "images_checked": 0, "differing_counts": {"conv1": 0}}}
    made = report(case.network, case.designs, summary)
    assert "was not checked in this run" in notes(made.section("headline"), "caution")
    assert table(made, "checks").rows[0] == ("spike_equals_program", "not checked")


def test_bits_are_read_from_the_program_not_from_its_name(case: Case, full_report: Report) -> None:
    assert "The program of 4/4 bits has weights of 4 bits, signals of 4 bits, an image of 4 bits; that of 8-bit" in notes(
        full_report.section("headline"), "plain"
    )


def test_rasters_of_both_designs_are_drawn(case: Case, full_report: Report) -> None:
    items = full_report.section("spikes").items
    for number, design in enumerate(case.designs[0]):
        raster = next(iter(design.result.rasters.values()))
        flat = raster.reshape(len(raster), -1)
        drawn = figure(items, f"raster-{number}")
        assert drawn.plot["data"][0]["z"]["shape"] == f"96, {len(raster)}"
        assert f"{np.count_nonzero(flat.any(axis=0))} of {flat.shape[1]} neurons fire in {len(raster)} timesteps, {np.abs(flat).sum()} spikes" in drawn.caption
        for neuron, up, down in drawn.rows:
            assert [int(t) for t in str(up).split()] == np.flatnonzero(flat[:, int(str(neuron))] > 0).tolist()
            assert [int(t) for t in str(down).split()] == np.flatnonzero(flat[:, int(str(neuron))] < 0).tolist()


def test_a_layer_that_is_silent_is_said_to_be(case: Case) -> None:
    design, baseline = case.designs[0]
    silent = dataclasses.replace(design, result=dataclasses.replace(design.result, rasters={"conv1.sum": np.zeros((16, 4, 2, 2), np.int8)}))
    assert "No neuron of conv1.sum, 4/4 bits, fires for the first image." in notes(spikes(silent, baseline), "plain")


def test_the_floorplan_counts_every_crossbar_once(case: Case, full_report: Report) -> None:
    mapping = case.designs[0][0].mapping
    plan = figure(full_report.section("placement").items, "floorplan")
    assert [row[0] for row in plan.rows] == list(range(mapping.num_crossbars))
    assert np.mean([row[3] for row in plan.rows]) == pytest.approx(mapping.utilization)  # pyright: ignore[reportArgumentType]


def test_cells_are_the_levels_of_the_mapping(case: Case, full_report: Report) -> None:
    mapping = case.designs[0][0].mapping
    shown = figure(full_report.section("placement").items, f"cells-{mapping.layers[0].op}")
    levels = np.array([[-1 if level is None else level for level in row] for row in shown.rows])
    tiles = list(mapping.tiles_of(mapping.layers[0].op))
    assert np.array_equal(levels[: tiles[0].levels.shape[0], : tiles[0].levels.shape[1]], tiles[0].levels)
    assert (levels >= 0).sum() == sum(tile.levels.size for tile in tiles if tile.crossbar == tiles[0].crossbar)


def test_cells_are_drawn_where_they_lie_around_faults(case: Case) -> None:
    design, baseline = case.designs[0]
    mapping = design.mapping
    (tile, *others) = mapping.tiles
    rows, columns = np.arange(mapping.chip.crossbar.rows)[::-1], np.arange(mapping.chip.crossbar.columns).reshape(-1, 2)[:, ::-1].ravel()
    places = rows[: tile.levels.shape[0]], columns[: tile.levels.shape[1]]
    moved = dataclasses.replace(tile, row_places=places[0], column_places=places[1], targets=tile.levels[::-1])
    faults = FaultMap(np.zeros((mapping.num_crossbars, mapping.chip.crossbar.rows, mapping.chip.crossbar.columns), np.uint8), "test")
    around = dataclasses.replace(mapping, tiles=(moved, *others), faults=faults)
    drawn = _levels(around, tile.crossbar)
    held = np.full((mapping.chip.crossbar.rows, mapping.chip.crossbar.columns), -1)
    for each in around.tiles:
        if each.crossbar == tile.crossbar:
            held[np.ix_(*each.places)] = each.written
    assert np.array_equal(drawn, held[: drawn.shape[0], : drawn.shape[1]]) and not np.array_equal(drawn, _levels(mapping, tile.crossbar))
    said = str(placement(dataclasses.replace(design, mapping=around), baseline))
    assert "plus before minus or after it, placed around its stuck cells" in said


def test_a_chip_of_many_crossbars_and_layers_is_drawn_with_few(case: Case) -> None:
    design, baseline = case.designs[0]
    ops, each = [f"layer{i}" for i in range(30)], 400
    level = np.ones((2, 2), np.uint8)
    tiles = tuple(Tile(op, 0, (0, 2), (0, 1), each * i + n, 0, 0, level) for i, op in enumerate(ops) for n in range(each))
    plans = tuple(LayerPlan(op, 1, 2, 1, 1, each, 1, 7, 1, 1) for op in ops)
    big = dataclasses.replace(design, mapping=Mapping(design.mapping.program, design.mapping.chip, plans, tiles))
    section = placement(big, baseline)
    plan = figure(section.items, "floorplan")
    assert len(plan.rows) <= 4096 + len(ops)
    assert "up to 3 crossbars of a layer" in plan.caption and "there are 12000" in plan.caption
    assert sum(int(str(row[1])) - int(str(row[0])) + 1 for row in plan.rows) == len(ops) * each
    assert sum(isinstance(item, Figure) and item.name.startswith("cells-") for item in section.items) == 8
    assert "30 layers have crossbars; one crossbar of 8 of them is drawn" in notes(section, "plain")
    assert len(Report("big", (section,)).to_json()) < 2_000_000


def test_what_is_missing_is_named_and_nothing_else_suffers(bare: Case) -> None:
    made = report(bare.network, bare.designs, bare.summary)
    said = notes(made.section("training"), "missing")
    for key in ("data", "recipe", "curves", "signals", "weights", "conversion"):
        assert f"(`{key}`), so they are not shown" in said
    assert len(made.section("training").items) == 6
    assert "no rasters" in notes(made.section("spikes"), "missing")
    assert "direct, dynamic_fixed_point_8" in notes(made.section("accuracy"), "missing")
    assert "not checked in this run" in notes(made.section("headline"), "caution")
    assert "not named, – test images" in str(table(made, "differences").rows[0][1])


def test_how_images_were_normalised_is_told_first_and_what_it_changes_is_a_caution(case: Case) -> None:
    for said, tone in (
        ("mean and std folded into the first layer", "plain"),
        ("mean and std folded into the first layer; its zero padding is black", "caution"),
    ):
        network = dataclasses.replace(case.network, notes={**case.network.notes, "normalization": said})
        section = report(network, case.designs, case.summary).section("training")
        assert isinstance(section.items[0], Note) and f"Normalised images: {said}." in notes(section, tone)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", "mnist"),
        ("recipe", ["a"]),
        ("curves", [{"stage": "fp32"}]),
        ("curves", 5),
        ("signals", [{"layer": "a", "bound": 1, "before": {"edges": [0, 1], "counts": [1, 2]}, "after": {"edges": [0], "counts": []}}]),
        ("signals", [{"layer": "a", "bound": "x"}]),
        ("weights", [{"layer": "a", "scale": 1, "bits": 4, "edges": [0, float("nan")], "counts": [1], "levels": [0], "level_counts": [1]}]),
        ("weights", [{"layer": "a", "scale": 1, "bits": 4, "edges": [0, 1], "counts": [1], "levels": [0, 1], "level_counts": [1]}]),
        ("conversion", [1]),
    ],
)
def test_notes_that_make_no_sense_are_named(case: Case, key: str, value: Any) -> None:
    network = dataclasses.replace(case.network, notes={**case.network.notes, key: value})
    made = report(network, case.designs, case.summary)
    assert f"(`{key}`) cannot be read and are not shown" in notes(made.section("training"), "missing")
    made.to_json()


def test_a_training_that_diverged_leaves_a_gap(case: Case) -> None:
    curves = [{"stage": "fp32", "epoch": 1, "loss": float("nan"), "accuracy": 0.1}, {"stage": "fp32", "epoch": 2, "loss": 0.5, "accuracy": None}]
    made = report(dataclasses.replace(case.network, notes={"curves": curves}), case.designs, case.summary)
    assert figure(made.section("training").items, "curve-loss").plot["data"][0]["y"] == [None, 0.5]
    assert figure(made.section("training").items, "curve-accuracy").plot["data"][0]["y"] == [10.0, None]


def test_many_layers_of_notes_are_sampled_and_it_is_said(case: Case) -> None:
    many = copy.deepcopy(dict(case.network.notes))
    many["weights"] = [dict(many["weights"][0], layer=f"layer{i}") for i in range(40)]
    section = report(dataclasses.replace(case.network, notes=many), case.designs, case.summary).section("training")
    shown = [item.title for item in section.items if isinstance(item, Figure) and item.name.startswith("weights-")]
    assert len(shown) == 12
    assert (shown[0], shown[-1]) == ("Weights of layer0", "Weights of layer39")
    assert "40 layers have weights in the notes; 12 of them are shown" in notes(section, "plain")


def _costs_of(case: Case, number: int) -> dict[str, Any]:
    from reports import summary_of

    return {key: value for key, value in summary_of(*case.designs[number]).items() if key in ("cost", "baseline", "ratio")}


def test_digital_partial_sums_are_counted_before_they_are_mapped(case: Case) -> None:
    """What the compiler cut lies in pieces that each fill one crossbar."""

    def said(notes: dict[str, Any]) -> str:
        designs = [tuple(_digital(design, notes) for design in pair) for pair in case.designs[:1]]
        return {row[0]: str(row[1]) for row in table(report(case.network, designs, case.summary), "differences").rows}["partial sums"]

    assert said({"split": [{"op": "a", "rows": 99, "tiles": 16}, {"op": "b", "rows": 40, "tiles": 8}]}).endswith("up to 16, each rounded by itself.")
    assert said({}).endswith("no layer here needs more rows than one has.")


def _digital(design: Design, compiled: dict[str, Any]) -> Design:
    mapping = design.mapping
    program = dataclasses.replace(mapping.program, notes={**mapping.program.notes, "compile": compiled})
    return dataclasses.replace(design, mapping=dataclasses.replace(mapping, program=program, chip=dataclasses.replace(mapping.chip, partial_sums="digital")))


def test_a_window_without_overhead_is_said_to_have_none(case: Case) -> None:
    def quick(design: Design) -> Design:
        chip = design.mapping.chip
        free = dataclasses.replace(chip, window_overhead=dataclasses.replace(chip.window_overhead, value=0.0))
        return dataclasses.replace(design, mapping=dataclasses.replace(design.mapping, chip=free))

    made = report(case.network, [tuple(map(quick, pair)) for pair in case.designs[:1]], case.summary)
    drawn = figure(made.section("paper").items, "windows")
    assert drawn.rows[0][1] == 0 and "at 0 timesteps" in drawn.alt
    assert all(x > 0 for trace in drawn.plot["data"] if trace["mode"] == "markers" for x in trace["x"]), "an axis of powers has no place for none"
