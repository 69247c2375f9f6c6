"""Chip: what is refused, what is counted, and the chips that come with memspike."""

from dataclasses import replace

import pytest

from chips import test_chip
from memspike.chip import COMPONENTS, Chip, Component, Crossbar, Device, NeuronCircuit, Quantity
from memspike.errors import ChipError
from memspike.storage import chip_names, load_chip

OHM = Quantity(1.0, "ohm", "test", "assumed")
SIEMENS = Quantity(1e-6, "S", "test", "assumed")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_number_is_finite_and_not_negative(value):
    with pytest.raises(ChipError, match=f"{value} S is no hardware number; expected a finite one, zero or more"):
        Quantity(value, "S", "test", "assumed")


def test_a_number_has_a_source():
    with pytest.raises(ChipError, match=r"1.0 S has no source\n  name one, or write source = 'assumed'"):
        Quantity(1.0, "S", " ", "primary")


@pytest.mark.parametrize(("g_min", "g_max", "levels"), [(1e-6, 1e-6, 4), (0.0, 1e-6, 4), (1e-6, 1e-5, 1)])
def test_a_device_has_two_levels_at_least(g_min, g_max, levels):
    with pytest.raises(ChipError, match="device d: needs 0 < g_min < g_max and at least 2 levels"):
        Device("d", replace(SIEMENS, value=g_min), replace(SIEMENS, value=g_max), levels)


def test_a_crossbar_holds_a_pair_at_least():
    with pytest.raises(ChipError, match="a crossbar of 4 x 1 holds no differential pair"):
        Crossbar(4, 1, test_chip().crossbar.device, SIEMENS, OHM)


def test_a_neuron_fires_at_least_once():
    with pytest.raises(ChipError, match="max_spikes_per_timestep is 0"):
        NeuronCircuit("up_down", 0)


def test_a_cell_holds_no_more_bits_than_its_device_has_levels():
    with pytest.raises(ChipError, match="chip test: 3 bits per cell need 8 levels, the device has 4"):
        replace(test_chip(bits_per_cell=2), bits_per_cell=3)


def test_every_component_stands_there_once_with_its_actions():
    chip = test_chip()
    bus = chip.component("bus")
    without = tuple(part for part in chip.components if part.name != "bus")
    with pytest.raises(ChipError, match="component 'bus' with energies for bit is missing"):
        replace(chip, components=without)
    with pytest.raises(ChipError, match="component 'bus' with energies for bit is missing"):
        replace(chip, components=(*without, replace(bus, energy={"byte": bus.energy["bit"]})))
    with pytest.raises(ChipError, match="each once; got .*bus, bus"):
        replace(chip, components=(*without, bus, bus))
    with pytest.raises(ChipError, match="at least one stacked tile"):
        replace(chip, max_stacked_tiles=0)


def test_quantities_are_found_by_their_path():
    quantities = test_chip().quantities()
    expected = {"timestep", "window_overhead", *(f"crossbar.{name}" for name in ("read_voltage", "wire_resistance", "device.g_min", "device.g_max"))}
    for name, actions in COMPONENTS.items():
        expected |= {f"components.{name}.{field}" for field in ("area", "leakage", *(f"energy.{action}" for action in actions))}
    assert set(quantities) == expected
    assert quantities["crossbar.device.g_max"] == test_chip().crossbar.device.g_max


def test_the_digest_knows_every_number_and_every_source():
    chip = test_chip()
    assert test_chip().digest() == chip.digest()
    slower = replace(chip, timestep=replace(chip.timestep, value=2e-8))
    elsewhere = replace(chip, timestep=replace(chip.timestep, source="another paper"))
    assert len({chip.digest(), slower.digest(), elsewhere.digest(), replace(chip, notes=("a note",)).digest()}) == 4


UNITS = {"area": "m2", "leakage": "W", "timestep": "s", "window_overhead": "s", "read_voltage": "V", "wire_resistance": "ohm", "g_min": "S", "g_max": "S"}


@pytest.mark.parametrize("name", ["predictive", "liu2018"])
def test_a_chip_that_comes_with_memspike(name):
    assert name in chip_names()
    chip = load_chip(name)
    assert isinstance(chip, Chip) and chip.name == name and all(isinstance(part, Component) for part in chip.components)
    assert (chip.crossbar.rows, chip.crossbar.columns, chip.max_stacked_tiles) == (32, 32, 32)
    for path, quantity in chip.quantities().items():
        assert quantity.unit == UNITS.get(path.split(".")[-1], "J"), path
        assert (quantity.standing == "assumed") == quantity.source.startswith("assumed: "), path
        assert len(quantity.source) > 20, path


def test_the_fit_says_that_it_is_one_and_the_prediction_has_none():
    fit, predictive = load_chip("liu2018"), load_chip("predictive")
    assert "not evidence" in fit.title and fit.notes[0].startswith("A fit, not evidence.")
    assert {path for path, q in fit.quantities().items() if q.standing == "fitted"} == {
        "window_overhead",
        "components.encoder.area",
        "components.buffer.energy.bit",
    }
    assert not [path for path, q in predictive.quantities().items() if q.standing == "fitted"]
    assert "130 nm" in predictive.notes[0] and "40 nm" in predictive.notes[0]
