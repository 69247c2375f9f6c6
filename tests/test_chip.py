"""Chip: what is refused, what is counted, and the chips that come with memspike."""

from dataclasses import replace

import pytest

from chips import test_chip
from devices import device, law, number, stuck
from memspike.cell import Device, Stuck, Verify
from memspike.chip import COMPONENTS, IMPERFECTIONS, Chip, Component, Crossbar, NeuronCircuit
from memspike.errors import ChipError
from memspike.quantity import Quantity
from memspike.storage import chip_names, load_chip

OHM = Quantity(1.0, "ohm", "test", "assumed")
SIEMENS = Quantity(1e-6, "S", "test", "assumed")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_number_is_finite_and_not_negative(value):
    with pytest.raises(ChipError, match=f"{value} S is no hardware number; expected a finite one, zero or more"):
        Quantity(value, "S", "test", "assumed")


def test_a_number_is_one_however_it_is_written():
    assert Quantity(0, "ohm", "test", "assumed") == Quantity(0.0, "ohm", "test", "assumed")
    chip = test_chip()
    whole, real = (replace(chip, crossbar=replace(chip.crossbar, wire_resistance=replace(OHM, value=value))) for value in (2, 2.0))
    assert whole.digest() == real.digest()


def test_a_number_in_another_unit_is_refused_wherever_it_stands():
    """A timestep of 10 ns, given as 10, would be 10 s; whoever builds the chip."""
    chip, cell = test_chip(), device()
    nano = Quantity(10.0, "ns", "test", "assumed")
    for wrong, named in (
        (lambda: replace(chip, timestep=nano), "chip test: timestep is given in 'ns'; chips are in SI, here in 's'"),
        (lambda: replace(chip.crossbar, read_voltage=nano), "crossbar: read_voltage is given in 'ns'"),
        (lambda: replace(cell, g_min=replace(cell.g_min, unit="uS")), "device test-cell: g_min is given in 'uS'"),
        (lambda: replace(chip.neuron, leak=nano), "neuron: leak is given in 'ns'"),
        (lambda: replace(chip.component("bus"), area=nano), "component bus: area is given in 'ns'"),
        (lambda: replace(chip.component("bus"), energy={"bit": nano}), "component bus: energy.bit is given in 'ns'; chips are in SI, here in 'J'"),
        (lambda: Stuck(number(0.1), nano), "stuck: high is given in 'ns'"),
        (lambda: Verify(nano, 3), "verify: tolerance is given in 'ns'"),
    ):
        with pytest.raises(ChipError, match=named):
            wrong()


def test_a_number_has_a_source():
    with pytest.raises(ChipError, match=r"1.0 S has no source\n  name one, or write source = 'assumed'"):
        Quantity(1.0, "S", " ", "primary")


@pytest.mark.parametrize(("g_min", "g_max", "levels"), [(1e-6, 1e-6, 4), (0.0, 1e-6, 4), (1e-6, 1e-5, 1)])
def test_a_device_has_two_levels_at_least(g_min, g_max, levels):
    with pytest.raises(ChipError, match="device d: needs 0 < g_min < g_max and at least 2 levels"):
        Device("d", replace(SIEMENS, value=g_min), replace(SIEMENS, value=g_max), levels)


def test_a_device_given_in_microsiemens_is_refused():
    with pytest.raises(ChipError, match=r"device d: g_max is 40 S; a memristor conducts far less than 1 S"):
        Device("d", replace(SIEMENS, value=1.0), replace(SIEMENS, value=40.0), 4)


def test_measured_conductances_ascend_one_for_each_level_between_g_min_and_g_max():
    plain = Device("d", number(1e-6, "S"), number(4e-6, "S"), 3)
    assert replace(plain, conductances=(1e-6, 3e-6, 4e-6), conductances_source="test").conductances == (1e-6, 3e-6, 4e-6)
    with pytest.raises(ChipError, match="device d: 2 measured conductances for 3 levels; expected one for each, ascending"):
        replace(plain, conductances=(1e-6, 4e-6), conductances_source="test")
    with pytest.raises(ChipError, match="expected one for each, ascending"):
        replace(plain, conductances=(1e-6, 5e-6, 4e-6), conductances_source="test")
    with pytest.raises(ChipError, match="measured from 1e-06 to 5e-06 S, but g_min and g_max are 1e-06 and 4e-06 S"):
        replace(plain, conductances=(1e-6, 3e-6, 5e-6), conductances_source="test")
    with pytest.raises(ChipError, match="the measured conductances have no source"):
        replace(plain, conductances=(1e-6, 3e-6, 4e-6))


def test_numbers_of_imperfections_that_no_device_has():
    with pytest.raises(ChipError, match="0.6 of the cells stuck low and 0.5 stuck high are more than all"):
        Stuck(number(0.6), number(0.5))
    with pytest.raises(ChipError, match="max_pulses is 0"):
        Verify(number(0.01), 0)
    with pytest.raises(ChipError, match="a tolerance of 0 is never met"):
        Verify(number(0.0), 3)
    with pytest.raises(ChipError, match="a tolerance of 2 is more than all of g_max\n  a share: 0.01 is 1 %"):
        Verify(number(2.0), 3)
    with pytest.raises(ChipError, match="read noise of 3 is more than all of g_max"):
        device(read_noise=number(3.0))
    assert device(read_noise=number(1.0)).read_noise
    for low_g, high_g in ((None, 300.0), (40e-6, 1e-6), (1e-6, 1e-6), (50e-6, None), (None, 0.5e-6)):
        with pytest.raises(ChipError, match="cells stuck low at .* S and high at .* S; expected low below high"):
            device(stuck=stuck(0.1, 0.1, low_g, high_g))
    assert device(stuck=stuck(0.1, 0.1, 0.5e-6, 90e-6)).stuck_conductances == (0.5e-6, 90e-6)
    with pytest.raises(ChipError, match="verifies its writes, which have no error"):
        device(verify=Verify(number(0.01), 3))
    for numbers, what in (({"leak": 1.0}, "a leak of 1"), ({"reset_error": 0.5}, "may never end"), ({"saturation": 0.9}, "never fires")):
        with pytest.raises(ChipError, match=what):
            NeuronCircuit("up_down", 1, **{name: number(value) for name, value in numbers.items()})


def test_a_crossbar_holds_a_pair_at_least():
    with pytest.raises(ChipError, match="a crossbar of 4 x 1 holds no differential pair"):
        Crossbar(4, 1, test_chip().crossbar.device, number(0.1, "V"), OHM)


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


def everything_imperfect() -> Chip:
    cell = device(programming=law("wan2022"), verify=Verify(number(0.02), 3), stuck=stuck(0.1, 0.02), read_noise=number(0.01), drift=law("cmo_hfox"))
    uneven = tuple(1e-6 + 39e-6 * (level / 15) ** 2 for level in range(15))
    cell = replace(cell, temperature=law("lammie2021", temperature=350.0), conductances=(*uneven, 40e-6), conductances_source="test")
    plain = test_chip().with_device(cell)
    return replace(plain, neuron=replace(plain.neuron, threshold_mismatch=number(0.03), leak=number(0.001)))


def test_imperfections_are_left_out_one_by_one_or_all_but_some():
    chip = everything_imperfect()
    assert chip.imperfections() == IMPERFECTIONS
    digests = {chip.digest()}
    for name in IMPERFECTIONS:
        others = tuple(other for other in IMPERFECTIONS if other != name)
        assert chip.without(name).imperfections() == others and chip.only(*others) == chip.without(name)
        assert chip.only(name).imperfections() == (name,)
        digests |= {chip.without(name).digest(), chip.only(name).digest()}
        assert chip.without(name).name == chip.name
    assert len(digests) == 1 + 2 * len(IMPERFECTIONS)
    assert chip.without() == chip and chip.only().imperfections() == ()
    assert chip.without("programming").crossbar.device.verify is None
    for name in ("without", "only"):
        with pytest.raises(ChipError, match=r"no imperfection is called 'noise'\n  imperfections: levels, programming, stuck"):
            getattr(chip, name)("noise")


def test_imperfections_of_zero_are_none():
    """Where a sweep begins, the chip is perfect."""
    nothing = device(stuck=stuck(0.0, 0.0), read_noise=number(0.0))
    assert test_chip().with_device(nothing).imperfections() == ("wires",) and nothing.acting == device()
    assert device(stuck=stuck(0.0, 0.1)).acting.stuck and device(read_noise=number(0.1)).acting.read_noise


def test_other_cells_leave_everything_else():
    chip = test_chip()
    other = chip.with_device(device())
    assert other.crossbar.device == device() and other.with_device(chip.crossbar.device) == chip
    with pytest.raises(ChipError, match="2 bits per cell need 4 levels, the device has 2"):
        chip.with_device(replace(device(), levels=2))


def test_the_digest_of_a_perfect_chip_is_the_one_it_had_before_chips_could_be_imperfect():
    assert test_chip().digest() == "e2b6384ec3cb9f622b9a6f873f216cf1e15657ed8b68e77b78417ffef6ef61dc"
    imperfect = everything_imperfect()
    assert imperfect.digest() != replace(imperfect, neuron=replace(imperfect.neuron, leak=number(0.002))).digest()


UNITS = {"area": "m2", "leakage": "W", "timestep": "s", "window_overhead": "s", "read_voltage": "V", "wire_resistance": "ohm", "g_min": "S", "g_max": "S"}


@pytest.mark.parametrize("name", ["predictive", "liu2018"])
def test_a_chip_that_comes_with_memspike(name):
    assert name in chip_names()
    chip = load_chip(name)
    assert isinstance(chip, Chip) and chip.name == name and all(isinstance(part, Component) for part in chip.components)
    assert (chip.crossbar.rows, chip.crossbar.columns, chip.max_stacked_tiles) == (32, 32, 64)
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
