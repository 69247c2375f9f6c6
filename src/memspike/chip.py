"""Chip: the hardware in SI units, every number with its source and standing."""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from memspike.cell import Device
from memspike.errors import ChipError, expect
from memspike.quantity import MOST, Quantity, check_unit, check_units, quantities, said

PartialSums = Literal["analog", "digital"]
NeuronKind = Literal["up_down", "two_phase", "dual", "fire_only"]
# What fidelity "analog" simulates and `Chip.without` leaves out.
IMPERFECTIONS = ("levels", "programming", "stuck", "read_noise", "drift", "temperature", "wires", "neuron")
_OF_CELLS = ("programming", "stuck", "read_noise", "drift", "temperature")


@dataclass(frozen=True, slots=True)
class Crossbar:
    """An array of `rows` x `columns` cells, read at `read_voltage` [V]; `wire_resistance` [ohm] per segment."""

    rows: int
    columns: int
    device: Device
    read_voltage: Quantity
    wire_resistance: Quantity

    def __post_init__(self) -> None:
        check_units(self, "crossbar")
        if self.rows < 1 or self.columns < 2:
            raise ChipError(f"a crossbar of {self.rows} x {self.columns} holds no differential pair; at least 1 x 2 does")
        if max(self.rows, self.columns) > MOST:
            raise ChipError(f"a crossbar has at most {MOST} rows and columns")


@dataclass(frozen=True, slots=True)
class NeuronCircuit:
    """The integrate-and-fire circuit of a column pair: its kind, how often it can fire in one timestep, and what is imperfect about it.

    `threshold_mismatch`: standard deviation between neurons, relative; `offset`: the same of the starting potential, in thresholds; `leak`: the share of
    the potential that is lost per timestep; `saturation`: the largest potential either way, in thresholds; `reset_error`: standard deviation of what
    one spike takes off, in thresholds. None is perfect.
    """

    kind: NeuronKind
    max_spikes_per_timestep: int
    threshold_mismatch: Quantity | None = None
    offset: Quantity | None = None
    leak: Quantity | None = None
    saturation: Quantity | None = None
    reset_error: Quantity | None = None

    def __post_init__(self) -> None:
        check_units(self, "neuron")
        if not 1 <= self.max_spikes_per_timestep <= MOST:
            raise ChipError(f"max_spikes_per_timestep is {self.max_spikes_per_timestep}; a neuron fires at least once, at most {MOST} times")
        if self.leak is not None and self.leak.value >= 1:
            raise ChipError(f"a leak of {self.leak.value:g} per timestep leaves nothing; expected a share below 1", where="neuron")
        if self.reset_error is not None and self.reset_error.value >= 0.5:
            raise ChipError(f"a reset that misses by {self.reset_error.value:g} thresholds may never end; expected less than 0.5", where="neuron")
        if self.saturation is not None and self.saturation.value < 1:
            raise ChipError(f"a neuron that saturates at {self.saturation.value:g} thresholds never fires; expected 1 or more", where="neuron")

    @property
    def acting(self) -> "NeuronCircuit":
        """The same circuit without imperfections of zero, which change nothing."""
        return replace(self, **{name: None for name in ("threshold_mismatch", "offset", "leak", "reset_error") if (q := getattr(self, name)) and not q.value})


@dataclass(frozen=True, slots=True)
class Component:
    """A kind of circuit: `energy` [J] per action, `area` [m2] and `leakage` [W] per instance."""

    name: str
    energy: dict[str, Quantity]
    area: Quantity
    leakage: Quantity

    def __post_init__(self) -> None:
        check_units(self, f"component {self.name}")
        for action, energy in self.energy.items():
            check_unit(energy, f"energy.{action}", "J", f"component {self.name}")


# What a chip is made of, and what each part does; the simulator counts the actions, the mapper the instances.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "cell": (),  # one memristor; its read energy is V^2 * g * timestep, so it needs no constant
    "row_driver": ("spike",),  # one per crossbar row: drives one spike along its word line
    "encoder": ("encode",),  # one per row of an op's weights: turns a count into spikes, once per window
    "neuron": ("integrate", "fire"),  # one per output channel and group of stacked tiles: a timestep of integration and comparison; a spike and reset
    "counter": ("count",),  # one per neuron: one spike counted up or down
    "adder": ("add",),  # one per output channel of an add, a sum pool or digital partial sums
    "comparator": ("compare",),  # one per channel of a max pool, and per class for the winner-take-all
    "buffer": ("bit",),  # one per bit of a layer's output: written once, read once per window that needs it
    "bus": ("bit",),  # one per crossbar: a bit moved between layers
    "controller": (),  # one per crossbar: clocking and read-out control, static power only
}


@dataclass(frozen=True)
class Chip:
    """A spiking memristor chip: one kind of crossbar, neuron and periphery, repeated.

    `timestep` [s]; `window_overhead` [s] is what a window costs beyond its timesteps (reset, read-out, adders, hop).
    A cell holds `bits_per_cell` bits of a weight's magnitude. `partial_sums`: the tiles of a column feed one integrator
    ("analog", at most `max_stacked_tiles`), or each fires into its own counter ("digital").
    """

    name: str
    title: str
    crossbar: Crossbar
    neuron: NeuronCircuit
    timestep: Quantity
    window_overhead: Quantity
    bits_per_cell: int
    partial_sums: PartialSums
    max_stacked_tiles: int
    components: tuple[Component, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"chip {self.name}"
        check_units(self, where)
        num_levels = self.crossbar.device.levels
        if not 1 <= self.bits_per_cell <= math.log2(num_levels):
            needed = 2**self.bits_per_cell if abs(self.bits_per_cell) < 64 else f"2**{self.bits_per_cell}"
            raise ChipError(f"{self.bits_per_cell} bits per cell need {needed} levels, the device has {num_levels}", where=where)
        if self.max_stacked_tiles < 1 or self.timestep.value <= 0:
            raise ChipError("needs a timestep above zero and at least one stacked tile", where=where)
        named = {c.name: c for c in self.components}
        for name, actions in COMPONENTS.items():
            if name not in named or set(named[name].energy) != set(actions):
                raise ChipError(f"component {name!r} with energies for {', '.join(actions) or 'nothing'} is missing", where=where)
        if len(self.components) != len(COMPONENTS):
            raise ChipError(f"components must be {', '.join(COMPONENTS)}, each once; got {', '.join(c.name for c in self.components)}", where=where)

    def component(self, name: str) -> Component:
        return next(c for c in self.components if c.name == name)

    def with_device(self, device: Device) -> "Chip":
        """This chip with other cells."""
        expect(device, Device, ChipError, "ms.load_device('wan2022-hfox') gives one, by its name or from a file")
        return replace(self, crossbar=replace(self.crossbar, device=device))

    def without(self, *names: str) -> "Chip":
        """This chip with the imperfections `names` (of IMPERFECTIONS) left out."""
        unknown = [name for name in names if name not in IMPERFECTIONS]
        if unknown:
            raise ChipError(f"no imperfection is called {unknown[0]!r}", cure=f"imperfections: {', '.join(IMPERFECTIONS)}")
        crossbar, neuron = self.crossbar, self.neuron
        left_out: dict[str, Any] = {name: None for name in _OF_CELLS if name in names}
        left_out |= {"verify": None} if "programming" in names else {}
        left_out |= {"conductances": None, "conductances_source": ""} if "levels" in names else {}
        device = replace(crossbar.device, **left_out)
        wires = replace(crossbar.wire_resistance, value=0.0, source="left out", standing="assumed") if "wires" in names else crossbar.wire_resistance
        if "neuron" in names:
            neuron = NeuronCircuit(neuron.kind, neuron.max_spikes_per_timestep)
        return replace(self, crossbar=replace(crossbar, device=device, wire_resistance=wires), neuron=neuron)

    def only(self, *names: str) -> "Chip":
        """This chip with all imperfections but `names` left out."""
        self.without(*names)  # refuses unknown names
        return self.without(*(name for name in IMPERFECTIONS if name not in names))

    def imperfections(self, *, has_map: bool = False) -> tuple[str, ...]:
        """Which imperfections the chip has; with a measured map of its stuck cells (`has_map`), "stuck" is one whatever its device says."""
        device, neuron = self.crossbar.device.acting, self.neuron.acting
        found = {name: getattr(device, name) is not None for name in _OF_CELLS}
        found["levels"] = device.conductances is not None  # even ones are not even for weights of other bits than theirs
        found["wires"] = self.crossbar.wire_resistance.value > 0
        found["neuron"] = neuron != NeuronCircuit(neuron.kind, neuron.max_spikes_per_timestep)
        found["stuck"] |= has_map
        return tuple(name for name in IMPERFECTIONS if found[name])

    def quantities(self) -> dict[str, Quantity]:
        """Every number of the chip with its source, by its path (`crossbar.device.g_min`)."""
        return quantities(self)

    def digest(self) -> str:
        """SHA-256 of the whole description, sources included; what is absent does not count."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(said(self).encode()).hexdigest()
