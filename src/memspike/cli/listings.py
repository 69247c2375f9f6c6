"""What there is: a file, the chips and cells, the zoo's programs, this machine."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from memspike.cell import Device
from memspike.chip import Chip
from memspike.cli.speech import speech, two_columns
from memspike.errors import MemspikeError
from memspike.quantity import Quantity
from memspike.units import si
from memspike.words import clean


def show(
    file: Annotated[
        str,
        typer.Argument(
            help="Network, program, mapping, result or cost in a file; a chip, cells or a program of the zoo, by name; or a chip's or cells' .toml."
        ),
    ],
    notes: Annotated[bool, typer.Option("--notes", help="What a network's or program's file notes of how it was made, as JSON.")] = False,
) -> None:
    """Say what a file holds: a program as text, a chip or memristor cells number by number, each with where it is from."""
    import json

    from memspike import storage, zoo
    from memspike.network import QuantizedNetwork
    from memspike.program import Program

    if not file or not (Path(file).suffix or Path(file).exists() or file in _names()):
        close = difflib.get_close_matches(file, _names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise MemspikeError(f"nothing is called {file!r}", cure=f"{hint}memspike chips and memspike zoo list the names; or give the path of a file")
    thing = zoo.load_program(file) if file in zoo.program_names() else _described(file) or storage.load(file)
    if notes:
        if not isinstance(thing, Program | QuantizedNetwork):
            raise MemspikeError("--notes: only networks and programs have notes", where=file, cure="leave --notes out")
        print(json.dumps(dict(thing.notes), indent=2, default=str))
    elif isinstance(thing, Chip | Device):
        _show_numbers(thing)
    else:
        print(thing if isinstance(thing, Program) else clean(repr(thing)), end="" if isinstance(thing, Program) else "\n")


def _names() -> tuple[str, ...]:
    """What has a name: chips, cells and programs of the zoo."""
    from memspike import storage, zoo

    return (*storage.chip_names(), *storage.device_names(), *zoo.program_names())


def _show_numbers(thing: Chip | Device) -> None:
    """How it is built, each number with its source, the laws that its cells follow, and what else its file says."""
    from memspike.physics.laws import laws_of

    is_chip = isinstance(thing, Chip)
    device = thing.crossbar.device if is_chip else thing
    speech.out().print(f"{thing.name}: {thing.title}" if is_chip else f"{thing.name}: memristor cells of {thing.levels} levels", markup=False, soft_wrap=True)
    table = Table("number", "value", "standing", "source", box=None)
    for name, value in _choices(thing):
        table.add_row(name, value, "", "")
    if device.conductances:
        table.add_row("conductances", f"{len(device.conductances)} levels", "measured", device.conductances_source)
    for name, quantity in thing.quantities().items():
        value = f"{quantity.value:g}" if quantity.unit == "1" else si(quantity.value, quantity.unit)
        table.add_row(name, value, quantity.standing, quantity.source)
    for what, (model, about) in laws_of(device).items():
        table.add_row(what, model, "law", about)
    speech.out().print(table)
    for note in thing.notes if is_chip else ():
        speech.out().print(f"\n{note}", markup=False, soft_wrap=True)


def _choices(thing: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """How it is built, by path: the whole numbers and words that are chosen, and so have neither a unit nor a source."""
    for each in fields(thing):
        value = getattr(thing, each.name)
        if isinstance(value, int | str) and each.name not in ("name", "title", "model", "conductances_source"):
            yield path + each.name, str(value)
        elif is_dataclass(value) and not isinstance(value, Quantity):
            yield from _choices(value, f"{path}{each.name}.")


def _described(name: str) -> Chip | Device | None:
    """A chip or cells by name or .toml file; None for anything else."""
    from memspike import storage

    if name in storage.device_names():
        return storage.load_device(name)
    if name in storage.chip_names():
        return storage.load_chip(name)
    if not name.endswith(".toml"):
        return None
    path = Path(name)
    is_cells = path.is_file() and not re.search(r"^\[?crossbar\b", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return storage.load_device(name) if is_cells else storage.load_chip(name)


def chips() -> None:
    """List the chips and memristor cells that come with memspike.

    One of your own is a .toml file. Measured cells name a table in it, conductances = "levels.csv": a column g_siemens, and maybe level and
    std_siemens (the error of a write), one row per level, lowest first.
    """
    from collections import Counter

    from memspike import storage

    table = Table("chip", "what it is", "crossbar", "numbers by standing", box=None)
    for name in storage.chip_names():
        chip = storage.load_chip(name)
        standings = Counter(quantity.standing for quantity in chip.quantities().values()).most_common()
        table.add_row(name, chip.title, f"{chip.crossbar.rows} x {chip.crossbar.columns}", ", ".join(f"{n} {standing}" for standing, n in standings))
    speech.out().print(table)
    cells = Table("cells", "range", "levels", "imperfections", box=None)
    for name in storage.device_names():
        device = storage.load_device(name)
        laws = [
            f"{what}: {law.model}" for what, law in (("programming", device.programming), ("drift", device.drift), ("temperature", device.temperature)) if law
        ]
        laws += [f"stuck: {100 * device.stuck.low.value:.3g} % low, {100 * device.stuck.high.value:.3g} % high"] if device.stuck else []
        laws += [f"read noise: {100 * device.read_noise.value:.3g} %"] if device.read_noise else []
        cells.add_row(name, f"{si(device.g_min.value, 'S')} to {si(device.g_max.value, 'S')}", str(device.levels), ", ".join(laws) or "none")
    speech.out().print()
    speech.out().print(cells)


def zoo_() -> None:
    """List the trained programs that come with memspike, for simulate, map and show."""
    from memspike import zoo

    table = Table("program", "data", "bits", "seed", "fp32", "fp32, same further epochs", "program, all test images", "digest", box=None)
    for name in zoo.program_names():
        program = zoo.load_program(name)
        about = program.notes["zoo"]
        bits = f"{about['activation_bits']} / {about['weight_bits']}"
        accuracies = (f"{about[key]:.2%}" for key in ("accuracy_fp32", "accuracy_fp32_control", "accuracy_program"))
        table.add_row(name, about["data"], bits, str(about["seed"]), *accuracies, program.digest()[:16])
    speech.out().print(table)
    speech.out().print("Trained by the default recipe from the first seed, none chosen by its result; recipe, data and torch are in the notes of each.")


def doctor() -> None:
    """Print versions and what this machine offers, for a bug report."""
    import platform
    from importlib import metadata

    from memspike.trainer import torch_build

    rows = [("memspike", metadata.version("memspike")), ("python", platform.python_version()), ("platform", platform.platform()), *torch_build().items()]
    try:
        rows.append(("datasets", metadata.version("datasets")))
    except metadata.PackageNotFoundError:
        rows.append(("datasets", "not installed; pip install 'memspike[data]' reads hub data sets and parquet"))
    speech.out().print(two_columns(rows))
