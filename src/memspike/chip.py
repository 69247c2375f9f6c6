"""Chip: the hardware in SI units, every number with its source and standing."""

import hashlib
import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memspike.errors import ChipError, expect

Standing = Literal["primary", "secondary", "assumed", "fitted"]
PartialSums = Literal["analog", "digital"]
NeuronKind = Literal["up_down", "two_phase", "dual", "fire_only"]
IMPERFECTIONS = (
    "levels",
    "programming",
    "stuck",
    "read_noise",
    "drift",
    "temperature",
    "wires",
    "neuron",
)  # what fidelity "analog" simulates and `Chip.without` leaves out

_EVEN = 1e-9  # of a step: less is the rounding of a table, and no imperfection
_LARGEST = 1e18  # of any unit: products of a few such numbers stay finite
_MOST = 1 << 20  # of anything that a description counts
_OF_CELLS = ("programming", "stuck", "read_noise", "drift", "temperature")

# What each number is in, by its name; a law says so for its own, an action's energy is in J.
UNITS = {
    **dict.fromkeys(("g_min", "g_max", "low_g", "high_g"), "S"),
    **dict.fromkeys(("read_noise", "tolerance", "low", "high", "threshold_mismatch", "offset", "leak", "saturation", "reset_error"), "1"),
    **dict.fromkeys(("timestep", "window_overhead"), "s"),
    "read_voltage": "V",
    "wire_resistance": "ohm",
    "area": "m2",
    "leakage": "W",
}


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
        object.__setattr__(self, "value", float(self.value))  # 0 and 0.0 are one number, and have one digest
        if not math.isfinite(self.value) or self.value < 0:
            raise ChipError(f"{self.value} {self.unit} is no hardware number; expected a finite one, zero or more")
        if self.value > _LARGEST:
            raise ChipError(f"{self.value} {self.unit} is no hardware number; expected at most {_LARGEST:g}")
        if not self.source.strip():
            raise ChipError(f"{self.value} {self.unit} has no source", cure="name one, or write source = 'assumed' with standing = 'assumed'")


@dataclass(frozen=True, slots=True)
class Law:
    """A law of nature by its name in `physics.device`, and the numbers that it takes from the device."""

    model: str
    parameters: dict[str, Quantity] = field(default_factory=dict[str, Quantity])


@dataclass(frozen=True, slots=True)
class Verify:
    """Write-verify: a cell is written again until it lies within `tolerance` (a share of g_max) of its target, `max_pulses` times in all."""

    tolerance: Quantity
    max_pulses: int

    def __post_init__(self) -> None:
        _check_units(self, "verify")
        if not 1 <= self.max_pulses <= _MOST:
            raise ChipError(f"max_pulses is {self.max_pulses}; a cell is written at least once, at most {_MOST} times", where="verify")
        _check_share(self.tolerance, "a tolerance", "verify")
        if self.tolerance.value == 0:
            raise ChipError("a tolerance of 0 is never met", where="verify", cure="give a share of g_max, 0.01 say")


@dataclass(frozen=True, slots=True)
class Stuck:
    """The share of cells that are stuck at low and at high conductance, and where [S]; without a conductance, at g_min and g_max."""

    low: Quantity
    high: Quantity
    low_g: Quantity | None = None
    high_g: Quantity | None = None

    def __post_init__(self) -> None:
        _check_units(self, "stuck")
        if self.low.value + self.high.value > 1:
            raise ChipError(f"{self.low.value:.4g} of the cells stuck low and {self.high.value:.4g} stuck high are more than all", where="stuck")


@dataclass(frozen=True, slots=True)
class Device:
    """A memristor cell: `levels` conductances spaced evenly from `g_min` to `g_max` [S], or measured ones; and what is imperfect about it.

    `conductances` [S] are measured levels in ascending order, from `conductances_source`; where their steps are uneven, weights are off by that before any
    error. `programming` is the error of one write, `verify` how it is repeated, `stuck` cells cannot be written, `read_noise` is the standard deviation of
    a cell's conductance from timestep to timestep as a share of g_max, `drift` what time does, `temperature` what heat does while they are read. None is
    perfect. The fidelities ideal and spike know none of them.
    """

    name: str
    g_min: Quantity
    g_max: Quantity
    levels: int
    conductances: tuple[float, ...] | None = None
    conductances_source: str = ""
    programming: Law | None = None
    verify: Verify | None = None
    stuck: Stuck | None = None
    read_noise: Quantity | None = None
    drift: Law | None = None
    temperature: Law | None = None

    def __post_init__(self) -> None:
        where = f"device {self.name}"
        _check_units(self, where)
        if not 0 < self.g_min.value < self.g_max.value or self.levels < 2:
            raise ChipError("needs 0 < g_min < g_max and at least 2 levels", where=where)
        if self.levels > _MOST:
            raise ChipError(f"{self.levels} levels; expected at most {_MOST}", where=where)
        if self.g_max.value >= 1:
            raise ChipError(f"g_max is {self.g_max.value:g} S; a memristor conducts far less than 1 S", where=where, cure="4.0e-5 is 40 uS")
        low, high = self.stuck_conductances
        if not low < high < 1:
            cure = "4.0e-5 is 40 uS; low_g is the lower one, and without them cells are stuck at g_min and g_max"
            raise ChipError(f"cells stuck low at {low:g} S and high at {high:g} S; expected low below high, far less than 1 S", where=where, cure=cure)
        if self.read_noise is not None:
            _check_share(self.read_noise, "read noise", where)
        if self.verify is not None and self.programming is None:
            raise ChipError("verifies its writes, which have no error", where=where, cure="name a law of programming, or leave verify out")
        if self.conductances is None:
            return
        found = self.conductances
        if len(found) != self.levels or any(not 0 <= low < high for low, high in zip(found, found[1:], strict=False)):
            what = f"{len(found)} measured conductances for {self.levels} levels; expected one for each, ascending, none negative"
            raise ChipError(what, where=where, cure="sort them, lowest first, and set levels to their number")
        if (found[0], found[-1]) != (self.g_min.value, self.g_max.value):
            raise ChipError(f"measured from {found[0]} to {found[-1]} S, but g_min and g_max are {self.g_min.value} and {self.g_max.value} S", where=where)
        if not self.conductances_source.strip():
            raise ChipError("the measured conductances have no source", where=where, cure="name one in conductances_source")

    @property
    def stuck_conductances(self) -> tuple[float, float]:
        """Where cells are stuck at low and at high conductance [S]."""
        low, high = (self.stuck.low_g, self.stuck.high_g) if self.stuck else (None, None)
        return (low or self.g_min).value, (high or self.g_max).value

    @property
    def acting(self) -> "Device":
        """The same cells without imperfections of zero, which change nothing."""
        has_stuck, has_noise = self.stuck and self.stuck.low.value + self.stuck.high.value, self.read_noise and self.read_noise.value
        return replace(self, stuck=self.stuck if has_stuck else None, read_noise=self.read_noise if has_noise else None)

    def level_conductances(self, max_level: int) -> NDArray[np.float64]:
        """The conductances [S] that levels 0 to `max_level` aim at: even steps from g_min to g_max; or a measured table itself, if it has as many levels,
        and otherwise its conductances that are nearest to even steps, none twice.

        Raises ChipError when a measured table has too few levels.
        """
        low, high = self.g_min.value, self.g_max.value
        even = low + np.arange(max_level + 1) / max_level * (high - low)
        if self.conductances is None:
            return even
        spare = self.levels - len(even)
        if spare < 0:
            raise ChipError(f"has {self.levels} measured levels; levels 0 to {max_level} are wanted", where=f"device {self.name}", cure="use fewer bits")
        table, order = np.array(self.conductances), np.arange(len(even))
        if spare == 0:
            return table
        nearest = np.abs(table[:, None] - even).argmin(axis=0)
        nearest[-1] = len(table) - 1  # g_max itself, which the last even step may miss by a rounding
        ascending = order + np.maximum.accumulate(nearest - order)  # a level that is taken gives way to the next one,
        return table[np.minimum(ascending, spare + order)]  # and those above leave room for the rest

    def level_errors(self, max_level: int) -> NDArray[np.float64]:
        """By how much each of these conductances lies off even steps, in steps; 0 of g_min and g_max."""
        if self.conductances is None:
            return np.zeros(max_level + 1)
        found = self.level_conductances(max_level)
        error = (found - found[0]) / (found[-1] - found[0]) * max_level - np.arange(max_level + 1)
        return np.where(np.abs(error) < _EVEN, 0.0, error)

    def quantities(self) -> dict[str, Quantity]:
        """Every number of the cells with its source, by its path."""
        return dict(_quantities(self, ""))


@dataclass(frozen=True, slots=True)
class Crossbar:
    """An array of `rows` x `columns` cells, read at `read_voltage` [V]; `wire_resistance` [ohm] per segment."""

    rows: int
    columns: int
    device: Device
    read_voltage: Quantity
    wire_resistance: Quantity

    def __post_init__(self) -> None:
        _check_units(self, "crossbar")
        if self.rows < 1 or self.columns < 2:
            raise ChipError(f"a crossbar of {self.rows} x {self.columns} holds no differential pair; at least 1 x 2 does")
        if max(self.rows, self.columns) > _MOST:
            raise ChipError(f"a crossbar has at most {_MOST} rows and columns")


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
        _check_units(self, "neuron")
        if not 1 <= self.max_spikes_per_timestep <= _MOST:
            raise ChipError(f"max_spikes_per_timestep is {self.max_spikes_per_timestep}; a neuron fires at least once, at most {_MOST} times")
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
        _check_units(self, f"component {self.name}")
        for action, energy in self.energy.items():
            _check_unit(energy, f"energy.{action}", "J", f"component {self.name}")


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
        _check_units(self, where)
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
        return dict(_quantities(self, ""))

    def digest(self) -> str:
        """SHA-256 of the whole description, sources included; what is absent does not count."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(_said(self).encode()).hexdigest()


def _check_units(thing: Any, where: str) -> None:
    """Chips are in SI: a timestep of 10 ns, given as 10, would be read as 10 s."""
    for name, unit in UNITS.items():
        if isinstance(quantity := getattr(thing, name, None), Quantity):
            _check_unit(quantity, name, unit, where)


def _check_unit(quantity: Quantity, name: str, unit: str, where: str) -> None:
    if quantity.unit != unit:
        raise ChipError(f"{name} is given in {quantity.unit!r}; chips are in SI, here in {unit!r}", where=where, cure="convert the value")


def _check_share(share: Quantity, what: str, where: str) -> None:
    if share.value > 1:
        raise ChipError(f"{what} of {share.value:g} is more than all of g_max", where=where, cure="a share: 0.01 is 1 %")


def _said(thing: Any) -> str:
    """`repr` without the fields that are None or empty text, so that a field added for new chips leaves the digests of old ones as they were."""
    if is_dataclass(thing):
        values = ((f.name, getattr(thing, f.name)) for f in fields(thing))
        return f"{type(thing).__name__}({', '.join(f'{name}={_said(value)}' for name, value in values if value is not None and value != '')})"
    if isinstance(thing, dict):
        return f"{{{', '.join(f'{key!r}: {_said(value)}' for key, value in thing.items())}}}"  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(thing, tuple):
        return f"({', '.join(_said(value) for value in thing)}{',' if len(thing) == 1 else ''})"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return repr(thing)


def _quantities(thing: Any, path: str) -> list[tuple[str, Quantity]]:
    if isinstance(thing, Quantity):
        return [(path, thing)]
    if isinstance(thing, Component):
        inner: list[tuple[str, Any]] = [*((f"energy.{k}", v) for k, v in thing.energy.items()), ("area", thing.area), ("leakage", thing.leakage)]
    elif is_dataclass(thing):
        inner = [(f.name, getattr(thing, f.name)) for f in fields(thing)]
    elif isinstance(thing, dict):
        inner = list(thing.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif isinstance(thing, tuple):
        inner = [(c.name, c) for c in thing if isinstance(c, Component)]  # pyright: ignore[reportUnknownVariableType]
    else:
        return []
    return [found for name, value in inner for found in _quantities(value, f"{path}.{name}" if path else name)]
