"""Monte-Carlo: chips are remembered, repeated alone, and their statistics are right."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devices import chip, law, number, stuck
from memspike.cell import Law
from memspike.cli import app
from memspike.ensemble import Ensemble
from memspike.errors import FileRefused, MemspikeError, SimulationError
from memspike.mapper import map as map_program
from memspike.mapping import AVOID, FaultMap
from memspike.montecarlo import Design, Lab, run, study, summary
from memspike.reporter import report_chips
from memspike.simulator import faults_of, simulate, written
from memspike.storage import load_chip, save
from small_programs import one_conv, small_network

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 16, (40, 2, 8, 8)), RNG.integers(0, 4, 40)
SICK = chip(programming=law("wan2022"), stuck=stuck(0.05, 0.02), read_noise=number(0.02), wires=5.0)
DESIGN = Design(small_network(), SICK, time=3600.0)


def test_every_chip_is_repeated_alone_by_its_number():
    found = Lab(DESIGN, IMAGES, LABELS).ensemble(DESIGN, range(3, 6))
    for number_, accuracy, changed in zip(found.chips, found.accuracies, found.changed, strict=True):
        alone = simulate(map_program(DESIGN.program, SICK), IMAGES, fidelity="analog", seed=int(number_), time=3600.0)
        assert alone.accuracy(LABELS) == accuracy
        assert changed == (alone.predictions != simulate(map_program(DESIGN.program, SICK), IMAGES).predictions).sum()


def test_a_lab_goes_on_where_it_stopped(tmp_path, monkeypatch):
    first = Lab(DESIGN, IMAGES, LABELS, folder=tmp_path).ensemble(DESIGN, range(3))
    again = Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)
    simulated = []
    monkeypatch.setattr(again, "_simulate", lambda design, chip, case: simulated.append(chip) or Lab._simulate(again, design, chip, case))
    more = again.ensemble(DESIGN, range(5))
    assert simulated == [3, 4] and np.array_equal(more.accuracies[:3], first.accuracies)
    with (tmp_path / "chips.csv").open() as file:
        assert [row["chip"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4"]
    with pytest.raises(MemspikeError, match="holds chips of another design\n  name another folder"):
        Lab(Design(small_network(), SICK), IMAGES, LABELS, folder=tmp_path)


def test_a_run_is_its_chips_whatever_was_done_before(tmp_path):
    whole = run(DESIGN, IMAGES, LABELS, chips=4, seed=2)
    run(DESIGN, IMAGES, LABELS, chips=1, seed=4, folder=tmp_path)
    pieces = run(DESIGN, IMAGES, LABELS, chips=4, seed=2, folder=tmp_path)
    assert np.array_equal(whole.chips, [2, 3, 4, 5]) and np.array_equal(pieces.accuracies, whole.accuracies)
    assert np.array_equal(pieces.changed, whole.changed)
    with pytest.raises(SimulationError, match="0 chips from number 0 on; expected whole numbers, at least one"):
        run(DESIGN, IMAGES, LABELS, chips=0)
    for wrong in ({"chips": 2.5}, {"chips": True}, {"seed": -1}, {"seed": 1.5}):
        with pytest.raises(SimulationError, match="expected whole numbers"):
            run(DESIGN, IMAGES, LABELS, **{"chips": 1, **wrong})


def test_a_folder_is_of_its_design_however_its_numbers_are_written(tmp_path):
    """A day is 86400 and 86400.0, labels are a list, an array or a tensor's, a folder is a text or a path."""
    whole = run(replace(DESIGN, time=3600), IMAGES, LABELS.tolist(), chips=2, folder=str(tmp_path))
    again = Lab(replace(DESIGN, time=3600.0), torch.from_numpy(IMAGES), torch.from_numpy(LABELS), folder=str(tmp_path))
    again._simulate = lambda *given: pytest.fail("what is done is not done again")
    assert np.array_equal(again.ensemble(DESIGN, range(2)).accuracies, whole.accuracies)
    with pytest.raises(MemspikeError, match="these differ: time"):
        Lab(replace(DESIGN, time=7200), IMAGES, LABELS, folder=tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**kept, "voltage": 3}))
    with pytest.raises(MemspikeError, match="these differ: voltage"):
        Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)


def test_a_study_of_some_layers_shows_those(tmp_path):
    found = study(Lab(replace(DESIGN, layers=("scores.sum",)), IMAGES, LABELS), range(2), detail=range(2), times=[])
    assert set(found.layers) == set(found.cells) == {"scores.sum"}
    assert np.array_equal(found.layers["scores.sum"].accuracies, found.whole.accuracies)


def test_measured_levels_are_an_imperfection_that_can_be_left_out():
    """Written without any error, weights are off by how uneven the levels are; what others cost is told apart from it."""
    table = tuple(1e-6 * 40 ** (level / 15) for level in range(15))
    cell = replace(SICK.crossbar.device, programming=None, stuck=None, read_noise=None, conductances=(*table, 40e-6), conductances_source="test")
    uneven = replace(chip(), crossbar=replace(chip().crossbar, device=cell))
    design = Design(small_network(), uneven)
    assert design.imperfections() == ("levels",) and design.is_alike
    found = study(Lab(design, IMAGES, LABELS), range(2), detail=range(2), times=[])
    assert found.cells["conv.sum"].rms > 0.4 and found.alone["levels"].accuracies[0] == found.whole.mean
    assert "measured levels" in report_chips(found, 0.5).to_json()
    perfect = study(Lab(design.without("levels"), IMAGES, LABELS), range(1), detail=range(1))
    assert perfect.whole.mean == perfect.whole.ideal and perfect.cells["conv.sum"].rms == 0
    noisy = replace(cell, programming=Law("measured", {f"std_{level}": number(1e-7, "S") for level in range(16)}))
    only = Design(small_network(), uneven.with_device(noisy)).only("programming")
    assert only.imperfections() == ("programming",) and 0 < study(Lab(only, IMAGES, LABELS), range(1)).cells["conv.sum"].rms < 0.2


def test_progress_is_told_of_what_is_simulated_and_how_fast(tmp_path):
    told = []
    for _ in range(2):
        run(DESIGN, IMAGES, LABELS, chips=2, folder=tmp_path, progress=lambda *words: told.append(words))
    assert [words[:3] for words in told] == [("whole", 1, 2), ("whole", 2, 2)]
    with (tmp_path / "chips.csv").open() as file:
        assert told[1][3] == pytest.approx(120 / sum(float(row["seconds"]) for row in csv.DictReader(file)))


def test_a_row_that_was_cut_off_is_simulated_again(tmp_path):
    whole = run(DESIGN, IMAGES, LABELS, chips=3, folder=tmp_path)
    table = tmp_path / "chips.csv"
    full = table.read_text()
    table.write_text(full[: full.rindex("0.") + 3])  # in the middle of the last row
    assert np.array_equal(run(DESIGN, IMAGES, LABELS, chips=3, folder=tmp_path).accuracies, whole.accuracies)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["chip"] for row in rows] == ["0", "1", "2"]


def test_two_runs_may_fill_one_folder_at_the_same_time(tmp_path):
    first, second = Lab(DESIGN, IMAGES, LABELS, folder=tmp_path), Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)
    first.ensemble(DESIGN, [0])
    second.ensemble(DESIGN, [1])
    first.ensemble(DESIGN, [2])
    rows = csv.DictReader((tmp_path / "chips.csv").read_text().splitlines())
    assert [row["chip"] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("design", "images", "differ"),
    [
        (replace(DESIGN, time=60.0), IMAGES, "time"),
        (replace(DESIGN, chip=SICK.without("wires")), IMAGES, "chip"),
        (replace(DESIGN, around_faults=True), IMAGES, "around_faults"),
        (replace(DESIGN, avoid=("rows",)), IMAGES, "avoid"),
        (DESIGN, 15 - IMAGES, "images"),
    ],
)
def test_a_folder_of_another_order_is_refused_and_says_why(tmp_path, design, images, differ):
    run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path)
    with pytest.raises(MemspikeError, match=f"holds chips of another design\n.*these differ: {differ}$"):
        run(design, images, LABELS, chips=1, folder=tmp_path)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefused, match="this folder cannot be made"):
        run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path / "file" / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text("{}")
    with pytest.raises(MemspikeError, match="of something else, which the chips would replace"):
        run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path / "other")
    foreign = "name,dose\nanna,3"  # its last line has no end, as a row that was being written
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "chips.csv").write_text(foreign)
    with pytest.raises(MemspikeError, match="of something else, which the chips would replace"):
        run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path / "theirs")
    assert (tmp_path / "theirs" / "chips.csv").read_text() == foreign
    run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path / "damaged")
    (tmp_path / "damaged" / "chips.csv").write_text(foreign)
    with pytest.raises(FileRefused, match="is no table of chips: expected the columns case, chip"):
        run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path / "damaged")
    assert (tmp_path / "damaged" / "chips.csv").read_text() == foreign
    (tmp_path / "damaged" / "chips.csv").write_text("case,chip,accuracy,changed,seconds\nwhole,0,good,0,1\n")
    with pytest.raises(FileRefused, match="is no table of chips(.|\n)*remove it to begin again"):
        run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path / "damaged")


def test_mapping_around_faults_uses_the_faults_of_each_chip():
    around = Design(small_network(), SICK, around_faults=True)
    mapping = around.mapping(7)
    assert np.array_equal(mapping.faults.cells, faults_of(map_program(small_network(), SICK), 7).cells)
    assert any(tile.targets is not None for tile in mapping.tiles)


def test_a_study_takes_the_imperfections_apart_and_becomes_a_page():
    found = study(Lab(DESIGN, IMAGES, LABELS), range(4), detail=range(2), times=[1.0, 86400.0])
    assert set(found.alone) == set(found.without) == {"programming", "stuck", "read_noise", "wires"}
    assert set(found.over_time) == {1.0, 86400.0} and set(found.layers) == set(found.cells) == {"conv.sum", "scores.sum"}
    assert all(layer.rms > 0 and (layer.losses > 0).all() and layer.numbers.sum() > 0 for layer in found.cells.values())
    perfect = study(Lab(Design(small_network(), chip()), IMAGES, LABELS), range(2), detail=range(2))
    assert perfect.whole.std == 0 and perfect.whole.mean == perfect.whole.ideal and not perfect.alone
    assert all(layer.rms == 0 for layer in perfect.cells.values())
    for each in (found, perfect):
        page = report_chips(each, 0.5)
        assert [s.name for s in page.sections][:1] == ["chips"] and type(page).from_json(page.to_json()) == page
        assert "<html" in page.html()
        assert json.loads(json.dumps(summary(each, 0.5), allow_nan=False))["accuracy_mean"] == each.whole.mean


def test_ways_around_stuck_cells_are_shown_singly_and_together():
    """What is studied is what designs of each way give by themselves, and the weights lie closest where all ways are taken."""
    design = Design(small_network(), chip(stuck=stuck(0.1, 0.05)), around_faults=True, spare_columns=2)
    lab = Lab(design, IMAGES, LABELS)
    found = study(lab, range(3), detail=range(2))
    singly = [f"by {way}" for way in AVOID]
    together, spare = "by all of these", "and 2 spare pairs"
    assert list(found.ways) == ["not around them", *singly, together, spare]
    for name, way in (("not around them", replace(design, around_faults=False)), ("by sides", replace(design, avoid=("sides",)))):
        alone = Lab(replace(way, spare_columns=0), IMAGES, LABELS).ensemble(replace(way, spare_columns=0), range(2))
        assert np.array_equal(found.ways[name].ensemble.accuracies, alone.accuracies)
    assert np.array_equal(found.ways[spare].ensemble.accuracies, found.whole.accuracies[:2])
    rms = {name: way.rms for name, way in found.ways.items()}
    least, most = rms[together] - 1e-9, rms["not around them"]
    assert least < 0.5 * most and all(least <= rms[name] < most for name in singly)
    held = np.concatenate([layer.errors.ravel() for layer in written(replace(design, spare_columns=0).mapping(0), 0).values()])
    assert rms[together] == pytest.approx(np.sqrt(np.mean(held**2)))
    page = report_chips(found, 0.5)
    assert "ways" in [section.name for section in page.sections] and set(summary(found, 0.5)["detail"]["around"]) == set(rms)
    one = study(Lab(replace(design, avoid=("rows",)), IMAGES, LABELS), [0], detail=[0])
    assert list(one.ways) == ["not around them", "by rows", spare]
    assert not study(Lab(DESIGN, IMAGES, LABELS), [0], detail=[0], times=[]).ways


def test_cells_that_change_are_read_at_several_times_and_others_are_not():
    assert list(study(Lab(DESIGN, IMAGES, LABELS), [0], detail=[0]).over_time) == [0, 3600, 86400]
    still = Design(small_network(), chip(programming=law("constant", std=0.05)), time=60.0)
    assert not study(Lab(still, IMAGES, LABELS), [0], detail=[0]).over_time


def test_what_is_known_already_is_not_simulated_again(tmp_path):
    """The time of the design itself, and the only imperfection of a chip, are the whole."""
    one = Design(small_network(), chip(programming=law("wan2022")), time=3600.0)
    found = study(Lab(one, IMAGES, LABELS, folder=tmp_path), range(2), detail=range(2), times=[3600.0])
    assert np.array_equal(found.alone["programming"].accuracies, found.whole.accuracies) and not found.without
    assert np.array_equal(found.over_time[3600.0].accuracies, found.whole.accuracies)
    cases = {row["case"] for row in csv.DictReader((tmp_path / "chips.csv").read_text().splitlines())}
    assert cases == {"whole", "layer conv.sum", "layer scores.sum"}


def test_errors_of_weights_are_those_of_the_cells():
    """With all cells stuck at low conductance every weight is held as 0, so it is off by itself."""
    design = Design(small_network(), chip(stuck=stuck(1.0, 0.0)))
    layer = study(Lab(design, IMAGES, LABELS), [0]).cells["conv.sum"]
    assert layer.means == pytest.approx(-layer.weights) and layer.quantiles == pytest.approx(-np.tile(layer.weights[:, None], 5))
    assert not layer.losses.any() and layer.numbers.sum() == design.program.op("conv.sum").weight.size


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 10))
def test_the_yield_lies_within_its_interval(accuracies, ideal, points):
    found = Ensemble(ideal, 100, np.arange(len(accuracies)), np.array(accuracies), np.zeros(len(accuracies)))
    share, low, high = found.yield_within(points)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    assert share == pytest.approx(np.mean([a >= ideal - points / 100 - 1e-12 for a in accuracies]))


def test_wilsons_interval_is_the_textbooks():
    found = Ensemble(1.0, 100, np.arange(100), np.where(np.arange(100) < 90, 1.0, 0.0), np.zeros(100))
    assert found.yield_within(0.5) == pytest.approx((0.9, 0.8256, 0.9448), abs=1e-4)  # Wilson 1927, 90 of 100
    with pytest.raises(SimulationError, match="at least one chip"):
        Ensemble(1.0, 1, np.array([]), np.array([]), np.array([]))


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.safetensors"
    save(one_conv(1, 4, 3, 5), path)
    images = tmp_path / "data.npz"
    pixels = RNG.integers(0, 256, (20, 1, 5, 5), dtype=np.uint8)
    labels = np.arange(20) % 4
    np.savez(images, train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    return [str(path), "--data", str(images)]


def test_the_command_line_simulates_one_chip_and_many(program, tmp_path):
    options = [*program, "--fidelity", "analog", "--cells", "wan2022-hfox", "--time", "1d", "--stuck-low", "5%", "--json"]
    one = CliRunner().invoke(app, ["simulate", *options, "--seed", "2"])
    many = CliRunner().invoke(app, ["simulate", *options, "--chips", "3", "--detail", "0", "--out", str(tmp_path / "out")])
    assert one.exit_code == 0 and many.exit_code == 0, many.output
    with (tmp_path / "out" / "chips.csv").open() as file:
        assert float(list(csv.DictReader(file))[2]["accuracy"]) == json.loads(one.stdout)["accuracy"]
    assert json.loads(many.stdout)["num_chips"] == 3 and (tmp_path / "out" / "report.html").exists()
    assert json.loads(one.stdout)["imperfections"] == ["programming", "stuck", "read_noise", "wires"]


def test_a_measured_fault_map_is_an_imperfection_like_any_other(program, tmp_path):
    """What leaves stuck cells out leaves the map out, on the command line and in a study; what is left then is what cells without the map give."""
    number_of = map_program(one_conv(1, 4, 3, 5), SICK).num_crossbars
    cells = np.random.default_rng(0).choice(3, (number_of, SICK.crossbar.rows, SICK.crossbar.columns), p=(0.5, 0.3, 0.2)).astype(np.uint8)
    healthy = chip(programming=law("wan2022"), wires=5.0)
    mapped = Design(one_conv(1, 4, 3, 5), healthy, faults=FaultMap(cells, "measured"))
    assert mapped.imperfections() == ("programming", "stuck", "wires")
    assert mapped.without("stuck").faults is None and mapped.only("programming").faults is None and mapped.only("stuck").faults is mapped.faults
    images, labels = RNG.integers(0, 16, (40, 1, 5, 5)), RNG.integers(0, 4, 40)
    found, plain = (study(Lab(each, images, labels), [0], detail=[0], times=[]) for each in (mapped, replace(mapped, faults=None)))
    assert list(found.alone) == ["programming", "stuck", "wires"] and list(plain.alone) == ["programming", "wires"]
    assert all(np.array_equal(found.alone[name].accuracies, plain.alone[name].accuracies) for name in plain.alone)
    assert np.array_equal(found.without["stuck"].accuracies, plain.whole.accuracies)
    assert summary(found, 0.5)["imperfections"] == ["programming", "stuck", "wires"]
    assert "stuck cells" in report_chips(found, 0.5).to_json()

    alike = study(Lab(mapped.only("stuck", "wires"), images, labels), range(3))
    assert alike.is_alike and len(set(alike.whole.accuracies)) == 1 and not found.is_alike and not mapped.only("programming").is_alike
    assert "Nothing about this design differs" in report_chips(alike, 0.5).to_json()
    hot = chip(temperature=law("lammie2021", temperature=350.0))
    for leak, offset, said in ((0.1, None, True), (None, 0.1, False)):
        neuron = replace(hot.neuron, **{name: number(value) for name, value in (("leak", leak), ("offset", offset)) if value})
        assert Design(one_conv(1, 4, 3, 5), replace(hot, neuron=neuron)).is_alike == said
        assert not Design(one_conv(1, 4, 3, 5), replace(hot, neuron=neuron), encoder="random").is_alike, "the chip's number draws the spikes"
    assert Design(one_conv(1, 4, 3, 5), hot, encoder="random").is_alike, "the count does not depend on their order"
    assert not Design(one_conv(1, 4, 3, 5), hot, encoder="random", neuron="fire_only").is_alike
    drawn = Design(one_conv(1, 4, 3, 5), SICK).only("stuck", "wires")
    assert not drawn.is_alike and len({faults_of(drawn.mapping(n), n).cells.tobytes() for n in range(3)}) == 3

    size = map_program(one_conv(1, 4, 3, 5), load_chip("predictive"))
    path, shape = tmp_path / "faults.npz", (size.num_crossbars, size.chip.crossbar.rows, size.chip.crossbar.columns)
    np.savez(path, cells=np.random.default_rng(0).choice(3, shape, p=(0.5, 0.3, 0.2)).astype(np.uint8))

    def told(*options: str) -> dict:
        done = CliRunner().invoke(app, ["-q", "simulate", *program, "--fidelity", "analog", "--cells", "wan2022-hfox", "--json", *options])
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout)

    with_map = ["--faults", str(path)]
    assert told(*with_map)["imperfections"] == ["programming", "stuck", "read_noise", "wires"]
    assert told(*with_map, "--only", "stuck")["imperfections"] == ["stuck"]
    for options in (["--only", "programming"], ["--without", "stuck"]):
        assert told(*with_map, *options) == told(*options)
    refused = CliRunner().invoke(app, ["simulate", *program, "--fidelity", "analog", *with_map, "--stuck-high", "5%"])
    assert "--stuck-high draws stuck cells, and a measured map says which are stuck (--faults)" in str(refused.exception)
    around = str(tmp_path / "around.safetensors")
    assert CliRunner().invoke(app, ["map", program[0], *with_map, "--out", around]).exit_code == 0
    asked = ["-q", "simulate", around, *program[1:], "--fidelity", "analog", "--json"]
    plain = ["-q", "simulate", *program, "--json"]
    perfect, meant = (json.loads(CliRunner().invoke(app, words).stdout) for words in ([*asked, "--without", "stuck", "--without", "wires"], plain))
    assert perfect["imperfections"] == [] and perfect["accuracy"] == meant["accuracy"]
    refused = CliRunner().invoke(app, [*asked, "--stuck-low", "5%"])
    assert "a measured map says which are stuck (the mapping)" in str(refused.exception)


def test_a_single_chip_says_where_its_laws_are_taken_further_than_measured(program):
    asked = ["-q", "simulate", *program, "--fidelity", "analog", "--cells", "wan2022-hfox"]
    beyond = CliRunner().invoke(app, [*asked, "--time", "30d"])
    assert "caution: Cells wan2022-hfox: the law wan2022 was measured for 2 days; its last value is held at 30 days." in beyond.stdout
    assert "caution" not in CliRunner().invoke(app, [*asked, "--time", "1d"]).stdout
    assert json.loads(CliRunner().invoke(app, [*asked, "--time", "30d", "--json"]).stdout)["cautions"]


def test_one_chip_has_no_spread():
    found = study(Lab(DESIGN, IMAGES, LABELS), [0], detail=[0], times=[])
    table = next(item for section in report_chips(found, 0.5).sections for item in section.items if getattr(item, "name", "") == "causes")
    assert all(row[2] is None for row in table.rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--for-cells", "wan2022"], "no device is called 'wan2022'"),
        (["--for-time", "1d"], "a time after writing is given, and no cells to train for"),
    ],
)
def test_a_training_for_a_device_is_refused_before_it_begins(options, said, tmp_path):
    result = CliRunner().invoke(app, ["-q", "train", *options, "--out", str(tmp_path / "net.safetensors")])
    assert isinstance(result.exception, MemspikeError) and said in str(result.exception)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--time", "1d"], "--time says something about real chips, and fidelity ideal knows none"),
        (["--fidelity", "analog", "--time", "soon"], "the time 'soon' cannot be read"),
        (["--fidelity", "analog", "--temperature", "warm"], "the temperature 'warm' cannot be read"),
        (["--fidelity", "analog", "--temperature", "-300C"], "the temperature '-300C' lies below absolute zero"),
        (["--fidelity", "analog", "--wire-resistance", "inf"], "--wire-resistance inf is no resistance"),
        (["--fidelity", "analog", "--chips", "3", "--out", "x", "--times", "1s,,2d"], "the time '' cannot be read"),
        (["--fidelity", "analog", "--temperature", "300C"], "the law 'lammie2021' was measured from 213 to 413 K; got 573.15 K"),
        (["--fidelity", "analog", "--only", "luck"], "no imperfection is called 'luck'"),
        (["--fidelity", "analog", "--only", "wires", "--without", "stuck"], "--only and --without cannot both be given"),
        (["--fidelity", "analog", "--read-noise", "much"], "--read-noise 'much' is no share"),
        (["--fidelity", "analog", "--stuck-low", "101%"], "--stuck-low '101%' is no share of the whole"),
        (["--fidelity", "analog", "--chips", "3"], "--chips is given without --out"),
        (["--fidelity", "spike", "--wire-resistance", "0"], "--wire-resistance says something about real chips, and fidelity spike knows none"),
        (["--fidelity", "analog", "--within", "1"], "--within says something about many chips, and one is simulated"),
        (["--fidelity", "analog", "--chips", "3", "--out", "x", "--save", "y.npz"], "--save keeps one simulation, and many chips are simulated"),
        (["--fidelity", "analog", "--chips", "3", "--out", "x", "--times", "1s,later"], "the time 'later' cannot be read"),
        (["--fidelity", "analog", "--chips", "3", "--out", "x", "--times", "1s", "--detail", "0"], "--times draws chips over time, and --detail 0"),
        (["--fidelity", "analog", "--only", "drift"], "--only drift: this chip with cells mnsim-rram has no such imperfection"),
        (["--fidelity", "analog", "--spare-columns", "2"], "--spare-columns says how weights are mapped around stuck cells"),
        (["--fidelity", "analog", "--avoid", "rows"], "--avoid says how weights are mapped around stuck cells"),
        (["--fidelity", "analog", "--around-faults"], "--around-faults maps around stuck cells, and none of mnsim-rram is"),
        (["--fidelity", "analog", "--around-faults", "--avoid", "rows,luck"], "--avoid 'luck': no such way around stuck cells"),
        (["--fidelity", "analog", "--time", "9e999d"], "the time '9e999d' cannot be read"),
        (["--fidelity", "analog", "--cells", "wan"], "no device is called 'wan'"),
    ],
)
def test_a_wrong_option_is_named(program, options, said):
    result = CliRunner().invoke(app, ["simulate", *program, *options])
    assert isinstance(result.exception, MemspikeError) and said in str(result.exception)


def test_an_override_is_a_number_from_the_command_line_and_leaves_the_others():
    from memspike.cli.analog import RealChips

    real = RealChips(cells="chen2017-stuck", stuck_low="1%", read_noise="0.02", wire_resistance=0.0)
    found = real.on(load_chip("predictive"))
    device = found.crossbar.device
    assert device.stuck is not None and (device.stuck.low.value, device.stuck.high.value) == (0.01, 0.0175)
    assert (device.stuck.low.source, device.stuck.low.standing) == ("command line", "assumed") and "DATE 2017" in device.stuck.high.source
    assert found.imperfections() == ("stuck", "read_noise")
    assert real.words() == ["--cells", "chen2017-stuck", "--read-noise", "0.02", "--stuck-low", "1%", "--wire-resistance", "0.0"]


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10min", 600), ("1h", 3600), ("1.5d", 129600), ("10 y", 315576000)])
def test_times_as_people_write_them(text, seconds):
    from memspike.cli import analog

    assert analog.seconds(text) == seconds and analog.times(f"{text},1s,{text}") == [1, seconds]


def test_the_command_in_the_report_gives_the_report_again(program, tmp_path):
    options = ["--fidelity", "analog", "--cells", "wan2022-hfox", "--only", "programming", "--only", "wires", "--chips", "2", "--detail", "1", "--times", "1h"]
    first = CliRunner().invoke(app, ["-q", "simulate", *program, *options, "--out", str(tmp_path / "out"), "--json"])
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    before = (tmp_path / "out" / "report.html").read_bytes()
    again = CliRunner().invoke(app, told["provenance"]["command"].split()[1:])
    assert again.exit_code == 0 and (tmp_path / "out" / "report.html").read_bytes() == before
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == told
    assert "Yield" in again.stdout and "Accuracy lost to each imperfection" in again.stdout


def test_a_mapping_is_simulated_as_it_is(program, tmp_path):
    path = str(tmp_path / "mapping.safetensors")
    assert CliRunner().invoke(app, ["map", program[0], "--cells", "wan2022-hfox", "--out", path]).exit_code == 0
    options = ["--fidelity", "analog", "--seed", "3", "--json"]
    mapped = CliRunner().invoke(app, ["-q", "simulate", path, *program[1:], *options])
    made = CliRunner().invoke(app, ["-q", "simulate", *program, "--cells", "wan2022-hfox", *options])
    assert mapped.exit_code == 0 and mapped.stdout == made.stdout
    refused = CliRunner().invoke(app, ["-q", "simulate", path, *program[1:], "--fidelity", "analog", "--chips", "2", "--out", str(tmp_path / "x")])
    assert "--chips makes mappings of its own" in str(refused.exception) and not Path(tmp_path / "x").exists()


def test_one_case_of_a_lab_is_one_design():
    lab = Lab(DESIGN, IMAGES, LABELS)
    lab.ensemble(replace(DESIGN), [0])
    with pytest.raises(MemspikeError, match="'whole' is this lab's own design, and another one is given\n  name its case"):
        lab.ensemble(DESIGN.without("programming"), [0])
    assert lab.ensemble(DESIGN.without("programming"), [0], "without programming").chips.tolist() == [0]


def test_a_case_is_of_one_design(tmp_path):
    """In one lab and in its folder, which older tables without designs still are."""
    aged, other = replace(DESIGN, time=0.0), DESIGN.without("programming")
    lab = Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)
    found = lab.ensemble(aged, [0], "mine")
    for each in (lab, Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)):
        assert np.array_equal(each.ensemble(aged, [0], "mine").accuracies, found.accuracies)
        with pytest.raises(SimulationError, match="chip 0 of the case 'mine' is there, made from another design"):
            each.ensemble(other, [0], "mine")
    table = tmp_path / "chips.csv"
    table.write_text("".join(line.rpartition(",")[0] + "\n" for line in table.read_text().splitlines()))
    older = Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)
    assert np.array_equal(older.ensemble(aged, [0], "mine").accuracies, found.accuracies)
    older.ensemble(aged, [1], "mine")
    assert [row["chip"] for row in csv.DictReader(table.read_text().splitlines())] == ["0", "1"]


def test_a_row_that_finds_no_room_leaves_nothing(tmp_path):
    """A disk that fills up takes the beginning of a row; the next one would go on in its middle."""
    run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path)
    table, script = tmp_path / "chips.csv", "import resource, sys; from pathlib import Path; from memspike.montecarlo import _append\n"
    before = table.read_text()
    script += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 9},) * 2)\n_append(Path(sys.argv[1]), ('whole', 1, 0.5, 3, 0.1, 'x'))"
    done = subprocess.run([sys.executable, "-c", script, str(table)], capture_output=True, text=True, check=False)
    assert "cannot be written: File too large" in done.stderr and table.read_text() == before


@pytest.mark.parametrize("row", ["whole,0,nan,1,0.1,x", "whole,0,7.0,1,0.1,x", "whole,0,0.5,-1,0.1,x", "whole,0,0.5,1,inf,x"])
def test_a_table_of_numbers_that_no_chip_gives_is_refused(row, tmp_path):
    run(DESIGN, IMAGES, LABELS, chips=1, folder=tmp_path)
    table = tmp_path / "chips.csv"
    table.write_text(table.read_text().splitlines()[0] + f"\n{row}\n")
    with pytest.raises(FileRefused, match="whole, chip 0 holds numbers that no chip gives"):
        Lab(DESIGN, IMAGES, LABELS, folder=tmp_path)


def test_what_time_adds_to_the_error_of_a_write_is_named():
    """Cells of wan2022 relax by their law of programming: the bar of that is not the writing's alone, unless they are read at once."""
    for time, named in ((3600.0, "programming noise and relaxation"), (0.0, "programming noise")):
        design = Design(small_network(), chip(programming=law("wan2022"), read_noise=number(0.02)), time=time)
        page = report_chips(study(Lab(design, IMAGES, LABELS), range(2), detail=range(1), times=()), 0.5)
        assert f'"{named}"' in page.to_json()
        assert f"Imperfections: {named}, read noise." in page.to_json()
