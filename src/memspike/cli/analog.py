"""Options of fidelity "analog": which cells, which imperfections, which chips."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from memspike.errors import MemspikeError

_PANEL = "Real chips (--fidelity analog)"
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "y": 365.25 * 86400.0}

Cells = Annotated[
    str | None, typer.Option(metavar="DEVICE", rich_help_panel=_PANEL, help="Memristor cells, by name (memspike chips lists them) or from a .toml file.")
]
Time = Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="Read so long after writing, as 1d (s, min, h, d, y); at once unless given.")]
Times = Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="Times for a figure of accuracy over time, with commas, as 1s,1h,1d.")]
Only = Annotated[list[str] | None, typer.Option(metavar="WHAT", rich_help_panel=_PANEL, help="Only this imperfection. May be repeated.")]
Without = Annotated[
    list[str] | None,
    typer.Option(metavar="WHAT", rich_help_panel=_PANEL, help="Not this one: programming, stuck, read_noise, drift, wires, neuron. May be repeated."),
]
ReadNoise = Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="Standard deviation of a cell per timestep, of g_max, as 1%.")]
StuckLow = Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="Share of cells stuck at low conductance, as 9.04%.")]
StuckHigh = Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="Share of cells stuck at high conductance, as 1.75%.")]
WireResistance = Annotated[float | None, typer.Option(min=0, rich_help_panel=_PANEL, help="Ohm per segment of wire.")]
Faults = Annotated[
    Path | None, typer.Option(rich_help_panel=_PANEL, help="Measured fault map (.npz with `cells` [crossbars, rows, columns]: 0 healthy, 1 low, 2 high).")
]
AroundFaults = Annotated[bool, typer.Option("--around-faults", rich_help_panel=_PANEL, help="Map each chip's weights around its own stuck cells.")]
SpareColumns = Annotated[int, typer.Option(min=0, rich_help_panel=_PANEL, help="Pairs of columns per crossbar kept free for that.")]
Chips = Annotated[int | None, typer.Option(min=1, rich_help_panel=_PANEL, help="Simulate so many chips, numbered from --seed on; needs --out.")]
Within = Annotated[float, typer.Option(min=0, rich_help_panel=_PANEL, help="Yield: chips at most so many points below the ideal program.")]
Detail = Annotated[int, typer.Option(min=0, rich_help_panel=_PANEL, help="Chips behind each figure on single imperfections, layers and times.")]
Out = Annotated[Path | None, typer.Option(rich_help_panel=_PANEL, help="Folder for many chips: chips.csv, result.json, report.html. Goes on where it stopped.")]


def seconds(text: str | None) -> float:
    """A time as `1d` in seconds; none is 0."""
    if text is None:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*(s|min|h|d|y)", text.strip())
    if not found:
        raise MemspikeError(f"the time {text!r} cannot be read", cure="a number and its unit, as in 30s, 10min, 1h, 1d, 10y")
    return float(found[1]) * _SECONDS[found[2]]


def share(text: str, option: str) -> float:
    """A share as `1%` or `0.01`."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if number != text.strip() else 1)
    except ValueError as error:
        raise MemspikeError(f"{option} {text!r} is no share", cure="as in 1% or 0.01") from error
    if not 0 <= value <= 1:
        raise MemspikeError(f"{option} {text!r} is no share of the whole", cure="from 0% to 100%")
    return value


def imperfect(
    chip: Any,
    cells: str | None,
    only: list[str] | None,
    without: list[str] | None,
    read_noise: str | None,
    stuck: tuple[str | None, str | None],
    wire_resistance: float | None,
) -> Any:
    """The chip with other cells, other numbers, and what is left out."""
    from memspike.chip import Quantity, Stuck
    from memspike.storage import load_device

    def given(value: float, unit: str) -> Quantity:
        return Quantity(value, unit, "given on the command line", "assumed")

    device = load_device(cells) if cells else chip.crossbar.device
    if read_noise is not None:
        device = replace(device, read_noise=given(share(read_noise, "--read-noise"), "1"))
    if any(stuck):
        rates = (given(share(rate or "0", option), "1") for rate, option in zip(stuck, ("--stuck-low", "--stuck-high"), strict=True))
        before = device.stuck
        device = replace(device, stuck=Stuck(*rates, *((before.low_g, before.high_g) if before else ())))
    chip = chip.with_device(device)
    if wire_resistance is not None:
        chip = replace(chip, crossbar=replace(chip.crossbar, wire_resistance=given(wire_resistance, "ohm")))
    return chip.only(*only) if only else chip.without(*(without or ()))
