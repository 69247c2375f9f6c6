"""Chip: the hardware in SI units, every number with its source and standing."""

import hashlib
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from memspike.errors import ChipError

Standing = Literal["primary", "secondary", "assumed", "fitted"]
PartialSums = Literal["analog", "digital"]
NeuronKind = Literal["up_down", "two_phase", "dual", "fire_only"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One hardware number in SI: value, unit, where it is from, and how far to trust it.

    Standing: `primary` read in the source itself; `secondary` read in notes on the source; `assumed`; `fitted` to published ratios.
    """

    value: float
    unit: str
    source: str
    standing: Standing

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value < 0:
            raise ChipError(f"{self.value} {self.unit} is no hardware number; expected a finite one, zero or more")
        if not self.source.strip():
            raise ChipError(f"{self.value} {self.unit} has no source", cure="name one, or write source = 'assumed' with standing = 'assumed'")


@dataclass(frozen=True, slots=True)
class Device:
    """A memristor cell: `levels` conductances spaced evenly from `g_min` to `g_max` [S]."""

    name: str
    g_min: Quantity
    g_max: Quantity
    levels: int

    def __post_init__(self) -> None:
        if not 0 < self.g_min.value < self.g_max.value or self.levels < 2:
            raise ChipError("needs 0 < g_min < g_max and at least 2 levels", where=f"device {self.name}")


@dataclass(frozen=True, slots=True)
class Crossbar:
    """An array of `rows` x `columns` cells, read at `read_voltage` [V]; `wire_resistance` [ohm] per segment."""

    rows: int
    columns: int
    device: Device
    read_voltage: Quantity
    wire_resistance: Quantity

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 2:
            raise ChipError(f"a crossbar of {self.rows} x {self.columns} holds no differential pair; at least 1 x 2 does")


@dataclass(frozen=True, slots=True)
class NeuronCircuit:
    """The integrate-and-fire circuit of a column pair: its kind, and how often it can fire in one timestep."""

    kind: NeuronKind
    max_spikes_per_timestep: int

    def __post_init__(self) -> None:
        if self.max_spikes_per_timestep < 1:
            raise ChipError(f"max_spikes_per_timestep is {self.max_spikes_per_timestep}; a neuron fires at least once")


@dataclass(frozen=True, slots=True)
class Component:
    """A kind of circuit: `energy` [J] per action, `area` [m2] and `leakage` [W] per instance."""

    name: str
    energy: dict[str, Quantity]
    area: Quantity
    leakage: Quantity


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


@dataclass(frozen=True, slots=True)
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
        if self.bits_per_cell < 1 or 2**self.bits_per_cell > self.crossbar.device.levels:
            needed = f"{self.bits_per_cell} bits per cell need {2**self.bits_per_cell} levels"
            raise ChipError(f"{needed}, the device has {self.crossbar.device.levels}", where=where)
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

    def quantities(self) -> dict[str, Quantity]:
        """Every number of the chip with its source, by its path (`crossbar.device.g_min`)."""
        return dict(_quantities(self, ""))

    def digest(self) -> str:
        """SHA-256 of the whole description, sources included."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def _quantities(thing: Any, path: str) -> list[tuple[str, Quantity]]:
    if isinstance(thing, Quantity):
        return [(path, thing)]
    if isinstance(thing, Component):
        inner: list[tuple[str, Any]] = [*((f"energy.{k}", v) for k, v in thing.energy.items()), ("area", thing.area), ("leakage", thing.leakage)]
    elif is_dataclass(thing):
        inner = [(f.name, getattr(thing, f.name)) for f in fields(thing)]
    elif isinstance(thing, tuple):
        inner = [(c.name, c) for c in thing if isinstance(c, Component)]  # pyright: ignore[reportUnknownVariableType]
    else:
        return []
    return [found for name, value in inner for found in _quantities(value, f"{path}.{name}" if path else name)]
