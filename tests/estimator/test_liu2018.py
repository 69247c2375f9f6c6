"""The fit is what its experiment computes, gives the published ratios, and differs from `predictive` nowhere else."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from memspike.storage import load_chip


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    path = Path(__file__).parents[2] / "experiments" / "fit_liu2018.py"
    spec = importlib.util.spec_from_file_location("fit_liu2018", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fitted_numbers_are_those_that_the_experiment_computes(experiment):
    quantities = load_chip("liu2018").quantities()
    assert {path: q.value for path, q in quantities.items() if q.standing == "fitted"} == pytest.approx(experiment.fit(), rel=1e-6)


def test_the_published_ratios_come_out(experiment):
    assert experiment.ratios(load_chip("liu2018")) == pytest.approx({"speed-up": 9.8, "energy saving": 0.891, "area saving": 0.30}, rel=1e-6)


def test_only_the_fitted_numbers_differ_from_predictive(experiment):
    fit, base = load_chip("liu2018").quantities(), load_chip("predictive").quantities()
    assert {path for path in fit.keys() | base.keys() if fit.get(path) != base.get(path)} == set(experiment.fit())
    assert all("experiments/fit_liu2018.py" in fit[path].source for path in experiment.fit())


def test_it_starts_from_the_structure_that_it_says(experiment):
    chip, start = load_chip("liu2018"), experiment.structure()
    assert (chip.bits_per_cell, chip.neuron, chip.crossbar) == (start.bits_per_cell, start.neuron, start.crossbar)
    assert (chip.partial_sums, chip.max_stacked_tiles) == (start.partial_sums, start.max_stacked_tiles)


def test_predictive_stays_near_the_literature_model(experiment):
    """A 4-bit over an 8-bit LeNet with literature constants, 8-bit weights in two slices: about 10x, 95 %, 45 %."""
    ratios = experiment.ratios(load_chip("predictive"))
    assert ratios["speed-up"] == pytest.approx(266 / 26)
    assert 0.94 < ratios["energy saving"] < 0.96 and 0.43 < ratios["area saving"] < 0.47
