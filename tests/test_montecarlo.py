"""Monte-Carlo: chips are remembered, repeated alone, and their statistics are right."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devices import chip, law, number, stuck
from memspike.cli import app
from memspike.ensemble import Ensemble
from memspike.errors import MemspikeError, SimulationError
from memspike.mapper import map as map_program
from memspike.montecarlo import Design, Lab, study
from memspike.reporter import report_chips
from memspike.simulator import faults_of, simulate
from memspike.storage import save
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--time", "1d"], "--time says something about real chips, and fidelity ideal knows none"),
        (["--fidelity", "analog", "--time", "soon"], "the time 'soon' cannot be read"),
        (["--fidelity", "analog", "--only", "luck"], "no imperfection is called 'luck'"),
        (["--fidelity", "analog", "--only", "wires", "--without", "stuck"], "--only and --without cannot both be given"),
        (["--fidelity", "analog", "--read-noise", "much"], "--read-noise 'much' is no share"),
        (["--fidelity", "analog", "--stuck-low", "101%"], "--stuck-low '101%' is no share of the whole"),
        (["--fidelity", "analog", "--chips", "3"], "--chips is given without --out"),
        (["--fidelity", "analog", "--cells", "wan"], "no device is called 'wan'"),
    ],
)
def test_a_wrong_option_is_named(program, options, said):
    result = CliRunner().invoke(app, ["simulate", *program, *options])
    assert isinstance(result.exception, MemspikeError) and said in str(result.exception)
