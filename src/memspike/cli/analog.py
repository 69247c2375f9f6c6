"""Options of fidelity "analog": which cells, which imperfections, how long after writing, and how many chips."""

import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from memspike.cell import Device, Law, Stuck
from memspike.chip import IMPERFECTIONS, Chip
from memspike.errors import ChipError, MemspikeError
from memspike.mapping import AVOID, Avoid
from memspike.physics.laws import check_laws
from memspike.quantity import Quantity

if TYPE_CHECKING:
    from memspike.montecarlo import Design
    from memspike.program import Program

_CHIP, _MANY = "Real chips (--fidelity analog)", "Many chips (--fidelity analog)"
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "y": 365.25 * 86400.0}
_SOURCE = "command line"


def _option(text: str, metavar: str | None = None, panel: str = _CHIP, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, show_default=False, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealChips:
    """What the command line says about real chips; each field is an option, and None where nothing is said."""

    cells: Annotated[str | None, _option("Memristor cells, by name (memspike chips lists them) or from a .toml file.", "DEVICE")] = None
    time: Annotated[str | None, _option("Read so long after writing, as 1d (s, min, h, d, y); at once unless given.", "TIME")] = None
    temperature: Annotated[str | None, _option("Read so hot, as 85C or 358K, by the cells' own law or else lammie2021.", "TEMP")] = None
    only: Annotated[list[str] | None, _option(f"Only this imperfection: {', '.join(IMPERFECTIONS)}. May be repeated.", "WHAT")] = None
    without: Annotated[list[str] | None, _option("All imperfections but this one. May be repeated.", "WHAT")] = None
    read_noise: Annotated[str | None, _option("Standard deviation of a cell per timestep, of g_max, as 1%.", "SHARE")] = None
    stuck_low: Annotated[str | None, _option("Share of cells stuck at low conductance, as 9.04%.", "SHARE")] = None
    stuck_high: Annotated[str | None, _option("Share of cells stuck at high conductance, as 1.75%.", "SHARE")] = None
    wire_resistance: Annotated[float | None, _option("Ohm per segment of wire; 0 is ideal.", "OHM", min=0)] = None
    faults: Annotated[Path | None, _option("Measured fault map: .npz with `cells`, crossbars x rows x columns of 0 healthy, 1 low, 2 high.", "FILE")] = None
    around_faults: Annotated[bool, _option("Map each chip's weights around its own stuck cells.", None, _CHIP, "--around-faults")] = False
    avoid: Annotated[str | None, _option(f"Only these ways around them, with commas: {', '.join(AVOID)}.", "WAYS")] = None
    spare_columns: Annotated[int | None, _option("Pairs of columns that every crossbar keeps free for that.", "N", min=0)] = None
    chips: Annotated[int | None, _option("Simulate N chips, numbered from --seed on; needs --out.", "N", _MANY, min=1)] = None
    out: Annotated[Path | None, _option("Folder for chips.csv, result.json and report.html; the same command goes on in it.", "FOLDER", _MANY)] = None
    within: Annotated[float | None, _option("Yield: chips at most so many points below the program; 0.5 unless given.", "POINTS", _MANY, min=0, max=100)] = None
    detail: Annotated[int | None, _option("Chips behind each figure on one imperfection, layer or time; 5 unless given.", "N", _MANY, min=0)] = None
    times: Annotated[str | None, _option("Accuracy at these times too, as 1s,30d; 0s, 1h and 1d unless given, where cells change.", "TIMES", _MANY)] = None

    def check(self, fidelity: str, is_mapped: bool, elsewhere: dict[str, Any]) -> None:
        """Refuse options that say nothing here: with another fidelity, of many chips without chips; for a mapping, what makes a new one.

        `elsewhere` are options of one simulation that many chips cannot honour, by name.
        """
        given = self.given()
        kelvin(self.temperature)  # what cannot be read is refused before anything takes time
        seconds(self.time)
        times(self.times)
        if self.wire_resistance is not None and not math.isfinite(self.wire_resistance):
            what = f"--wire-resistance {self.wire_resistance} is no resistance"
            raise MemspikeError(what, cure="a finite number of ohm per segment of wire, 0 for ideal")
        if given and fidelity != "analog":
            what = f"{next(iter(given))} says something about real chips, and fidelity {fidelity} knows none"
            raise MemspikeError(what, cure="add --fidelity analog")
        if self.only and self.without:
            raise MemspikeError("--only and --without cannot both be given", cure="name what stays, or what goes")
        if (self.chips is None) != (self.out is None):
            here, missing = ("--chips", "--out") if self.out is None else ("--out", "--chips")
            raise MemspikeError(f"{here} is given without {missing}", cure="many chips are kept in a folder: give both")
        many = [option for option in ("--within", "--detail", "--times") if option in given]
        if many and self.chips is None:
            raise MemspikeError(f"{many[0]} says something about many chips, and one is simulated", cure="add --chips and --out")
        lost = [option for option, value in elsewhere.items() if value]
        if lost and self.chips is not None:
            raise MemspikeError(f"{lost[0]} keeps one simulation, and many chips are simulated", cure="simulate one chip by its number: --seed N")
        if self.detail == 0 and self.times:
            raise MemspikeError("--times draws chips over time, and --detail 0 simulates none of them", cure="give --detail 1 or more")
        remade = [option for option in ("--faults", "--around-faults", "--avoid", "--spare-columns", "--chips") if option in given]
        if remade and is_mapped:
            raise MemspikeError(f"{remade[0]} makes mappings of its own", cure="give the program's file, not the mapping's")
        for option in ("--avoid", "--spare-columns"):
            if option in given and not self.around_faults:
                raise MemspikeError(f"{option} says how weights are mapped around stuck cells", cure="add --around-faults")
        ways(self.avoid)

    def given(self) -> dict[str, Any]:
        """The options that were given, by name, in the order of the help."""
        named = {f"--{f.name.replace('_', '-')}": getattr(self, f.name) for f in fields(self)}
        return {option: value for option, value in named.items() if value is not None and value is not False}

    def words(self) -> list[str]:
        """The options as a command line has them."""
        found: list[str] = []
        for option, value in self.given().items():
            values = cast(list[Any], value) if isinstance(value, list) else [value]
            found += [option] if value is True else [word for each in values for word in (option, str(each))]
        return found

    def leaves_out(self, imperfection: str) -> bool:
        """Whether --only or --without leaves it out."""
        return imperfection in (self.without or ()) or (bool(self.only) and imperfection not in (self.only or ()))

    def on(self, chip: Chip, has_map: bool = False) -> Chip:
        """The chip with these cells and numbers, and without what is left out; `has_map`: a measured map says which of its cells are stuck."""
        from memspike.storage import load_device

        rates = [option for option in ("--stuck-low", "--stuck-high") if option in self.given()]
        if rates and (has_map or self.faults is not None):
            where = "--faults" if self.faults is not None else "the mapping"
            what = f"{rates[0]} draws stuck cells, and a measured map says which are stuck ({where})"
            raise MemspikeError(what, cure=f"leave {rates[0]} out, or the map")
        chip = chip.with_device(self._device(load_device(self.cells) if self.cells else chip.crossbar.device))
        if self.wire_resistance is not None:
            chip = replace(chip, crossbar=replace(chip.crossbar, wire_resistance=Quantity(self.wire_resistance, "ohm", _SOURCE, "assumed")))
        if not self.only:
            return chip.without(*(self.without or ()))
        found, kept = chip.imperfections(has_map=has_map or self.faults is not None), chip.only(*self.only)
        missing = [name for name in self.only if name not in found]
        if missing:
            what = f"--only {missing[0]}: this chip with cells {chip.crossbar.device.name} has no such imperfection"
            raise ChipError(what, where=f"chip {chip.name}", cure=f"it has {', '.join(found) or 'none'}; name other cells with --cells, or give numbers")
        return kept

    def design(self, program: "Program", chip: Chip, encoder: Any, neuron: Any) -> "Design":
        """What these chips are made from; `chip` is what `on` made."""
        from memspike.montecarlo import Design
        from memspike.storage import load_faults

        faults = load_faults(self.faults) if self.faults else None
        faults = None if self.leaves_out("stuck") else faults
        if self.around_faults and faults is None and not self.leaves_out("stuck") and "stuck" not in chip.imperfections():
            what = f"--around-faults maps around stuck cells, and none of {chip.crossbar.device.name} is"
            raise MemspikeError(what, cure="name cells that have some with --cells, give their share with --stuck-low, or a measured map with --faults")
        return Design(program, chip, seconds(self.time), encoder, neuron, faults, self.around_faults, ways(self.avoid), self.spare_columns or 0)

    def _device(self, device: Device) -> Device:
        if self.read_noise is not None:
            device = replace(device, read_noise=_share(self.read_noise, "--read-noise"))
        if (hot := kelvin(self.temperature)) is not None:
            law = device.temperature or Law("lammie2021")
            device = replace(device, temperature=replace(law, parameters={**law.parameters, "temperature": Quantity(hot, "K", _SOURCE, "assumed")}))
            check_laws(device)
        if self.stuck_low is None and self.stuck_high is None:
            return device
        before = device.stuck or Stuck(*[Quantity(0.0, "1", f"{_SOURCE}: not given", "assumed")] * 2)
        low = before.low if self.stuck_low is None else _share(self.stuck_low, "--stuck-low")
        high = before.high if self.stuck_high is None else _share(self.stuck_high, "--stuck-high")
        return replace(device, stuck=replace(before, low=low, high=high))


def seconds(text: str | None) -> float:
    """A time as `1d` in seconds; none is 0."""
    if text is None:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(s|min|h|d|y)", text.strip())
    value = float(found[1]) * _SECONDS[found[2]] if found else math.inf
    if math.isinf(value):
        raise MemspikeError(f"the time {text!r} cannot be read", cure="a number and its unit, as in 30s, 10min, 1h, 1d, 10y")
    return value


def kelvin(text: str | None) -> float | None:
    """A temperature as `85C` or `358K` in kelvin."""
    if text is None:
        return None
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([CK])", text.strip())
    if not found:
        raise MemspikeError(f"the temperature {text!r} cannot be read", cure="a number and its unit, as in 85C or 358K")
    value = float(found[1]) + (273.15 if found[2] == "C" else 0.0)
    if value < 0:
        raise MemspikeError(f"the temperature {text!r} lies below absolute zero", cure="as in 85C or 358K")
    return value


def times(text: str | None) -> list[float] | None:
    """Times as `1s,1h,1d` in seconds, each once, in ascending order; none is None."""
    return None if text is None else sorted({seconds(part) for part in text.split(",")})


def ways(text: str | None) -> tuple[Avoid, ...]:
    """Ways around stuck cells as `rows,sides`, in the order of AVOID; all where none are named. Raises MemspikeError for one that is unknown."""
    named = AVOID if text is None else [part.strip() for part in text.split(",")]
    if unknown := set(named).difference(AVOID):
        raise MemspikeError(f"--avoid {min(unknown)!r}: no such way around stuck cells", cure=f"ways: {', '.join(AVOID)}")
    return tuple(way for way in AVOID if way in named)


def _share(text: str, option: str) -> Quantity:
    """A share as `1%` or `0.01`."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError as error:
        raise MemspikeError(f"{option} {text!r} is no share", cure="as in 1% or 0.01") from error
    if not 0 <= value <= 1:
        raise MemspikeError(f"{option} {text!r} is no share of the whole", cure="from 0% to 100%")
    return Quantity(value, "1", _SOURCE, "assumed")
