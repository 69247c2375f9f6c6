"""A small chip for tests: round numbers, nothing claimed about any circuit."""

from memspike.cell import Device
from memspike.chip import COMPONENTS, Chip, Component, Crossbar, NeuronCircuit, NeuronKind, PartialSums
from memspike.quantity import Quantity


def test_chip(
    rows: int = 8,
    columns: int = 8,
    bits_per_cell: int = 2,
    neuron: NeuronKind = "up_down",
    max_spikes: int = 1,
    partial_sums: PartialSums = "analog",
    *,
    max_stacked_tiles: int = 1000,
    timestep: float = 10e-9,
    window_overhead: float = 20e-9,
    name: str = "test",
) -> Chip:
    """A chip whose every number is assumed; energies 1 pJ, areas 1 um2, leakages 1 uW, cells 1 to 100 uS read at 0.1 V."""
    device = Device("test-cell", _assumed(1e-6, "S"), _assumed(100e-6, "S"), levels=2**bits_per_cell)
    crossbar = Crossbar(rows, columns, device, read_voltage=_assumed(0.1, "V"), wire_resistance=_assumed(1.0, "ohm"))
    components = tuple(
        Component(part, {action: _assumed(1e-12, "J") for action in actions}, _assumed(1e-12, "m2"), _assumed(1e-6, "W"))
        for part, actions in COMPONENTS.items()
    )
    return Chip(
        name=name,
        title="a chip for tests",
        crossbar=crossbar,
        neuron=NeuronCircuit(neuron, max_spikes),
        timestep=_assumed(timestep, "s"),
        window_overhead=_assumed(window_overhead, "s"),
        bits_per_cell=bits_per_cell,
        partial_sums=partial_sums,
        max_stacked_tiles=max_stacked_tiles,
        components=components,
    )


test_chip.__test__ = False  # a builder that pytest would otherwise collect by its name


def _assumed(value: float, unit: str) -> Quantity:
    return Quantity(value, unit, "test", "assumed")
