"""Chips, devices and fault maps as people write and measure them: TOML, CSV and .npz, so every error says where."""

import difflib
import json
import tomllib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

from memspike.cell import Device
from memspike.chip import Chip
from memspike.errors import ChipError, FileRefused
from memspike.files import read_arrays, read_bytes, read_table
from memspike.mapping import FaultMap
from memspike.physics.laws import check_laws
from memspike.quantity import UNITS, Quantity
from memspike.storage.forms import load_saved
from memspike.storage.strict import MAX_DESCRIPTION, from_json, place_of
from memspike.words import clean

T = TypeVar("T")


def chip_names() -> tuple[str, ...]:
    """The chips that come with memspike, for `load_chip`."""
    folder = resources.files("memspike") / "chips"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))) if folder.is_dir() else ()


def load_chip(name_or_path: str | Path) -> Chip:
    """A chip by its name (`"predictive"`, see `chip_names`), or from a .toml or .json file.

    A .toml file has the layout of the class: `name`, `title`, `timestep`, ..., the tables `[crossbar]`, `[crossbar.device]`, `[neuron]`, and one
    `[[components]]` for each component. A quantity is `{ value = 1.0e-8, unit = "s", source = "...", standing = "assumed" }`, in SI.
    Raises ChipError naming the key that is missing, unknown or wrong; FileRefused when the file cannot be read.
    """
    if isinstance(name_or_path, str) and name_or_path in chip_names():
        text = (resources.files("memspike") / "chips" / f"{name_or_path}.toml").read_text(encoding="utf-8")
        return _described(Chip, text, f"chip {name_or_path}")
    path = Path(name_or_path)
    if path.suffix == ".json":
        chip: Chip = load_saved(path, Chip)
        with _within(str(path)):
            _check_texts(json.loads(json.dumps(asdict(chip))), ())
            check_laws(chip.crossbar.device)
        return chip
    if path.suffix != ".toml" and not path.exists():
        hint = "that is a device, which a chip has for its cells; " if str(name_or_path) in device_names() else _close(str(name_or_path), chip_names())
        raise ChipError(f"no chip is called {str(name_or_path)!r}", cure=f"{hint}chips are: {', '.join(chip_names())}; or give the path of a .toml file")
    return _described(Chip, _text(path), str(path), path.parent)


def device_names() -> tuple[str, ...]:
    """The memristor devices that come with memspike, for `load_device`."""
    folder = resources.files("memspike") / "chips" / "devices"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_device(name_or_path: str | Path) -> Device:
    """A device by its name (see `device_names`), or from a .toml file with the layout of the class.

    `conductances = "levels.csv"` names a table beside the file: a header with `g_siemens`, and maybe `level` and `std_siemens` (the error of a write), then
    one row per level, lowest first. g_min, g_max, levels and the law `measured` then come from the table. Raises as `load_chip` does.
    """
    if isinstance(name_or_path, str) and name_or_path in device_names():
        text = (resources.files("memspike") / "chips" / "devices" / f"{name_or_path}.toml").read_text(encoding="utf-8")
        return _described(Device, text, f"device {name_or_path}")
    path = Path(name_or_path)
    if path.suffix != ".toml":
        hint = "that is a chip, whose cells are a device; " if str(name_or_path) in chip_names() else _close(str(name_or_path), device_names())
        what = f"no device is called {str(name_or_path)!r}"
        raise ChipError(what, cure=f"{hint}devices are: {', '.join(device_names())}; or give the path of a .toml file")
    return _described(Device, _text(path), str(path), path.parent)


def _close(name: str, names: tuple[str, ...]) -> str:
    """The name that was meant, as a question; nothing where none is close."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def load_faults(path: str | Path) -> FaultMap:
    """A measured fault map: an .npz file whose array `cells` is `[crossbars, rows, columns]` of 0 (healthy), 1 (stuck low) and 2 (stuck high)."""
    arrays = read_arrays(path)
    if "cells" not in arrays:
        raise FileRefused(f"holds {', '.join(arrays) or 'nothing'}", where=str(path), cure="expected an array called cells")
    return FaultMap(arrays["cells"], str(path))


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MAX_DESCRIPTION).decode()
    except UnicodeDecodeError as error:
        raise ChipError("is no UTF-8 text", where=str(path)) from error


def _described(kind: type[T], text: str, where: str, folder: Path | None = None) -> T:
    """A chip or a device from TOML; a table that it names lies in `folder`."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beside TOMLDecodeError: a number of thousands of digits, brackets in brackets
        raise ChipError(f"is no TOML: {error}", where=where) from error
    with _within(where):
        if folder is not None:
            tree = _with_tables(tree, folder)
        _check_texts(tree, ())
        for place, quantity in _quantities(tree, ()):
            _check_quantity(place, quantity)
        found = from_json(kind, json.dumps(tree, default=str))
        check_laws(found.crossbar.device if isinstance(found, Chip) else cast(Device, found))
    return found


@contextmanager
def _within(where: str) -> Generator[None]:
    """What is wrong inside says which description it is in."""
    try:
        yield
    except (FileRefused, ChipError) as error:
        raise ChipError(error.what, where=f"{where}: {error.where}" if error.where else where, cure=error.cure) from error


def _with_tables(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The description of a device, or of a chip with one, with its measured table read in."""
    if isinstance(tree.get("conductances"), str):
        return _with_table(tree, folder / tree["conductances"])
    return {key: _with_tables(cast(dict[str, Any], value), folder) if isinstance(value, dict) else value for key, value in tree.items()}


def _with_table(device: dict[str, Any], path: Path) -> dict[str, Any]:
    """A device's description with g_min, g_max, levels, conductances and maybe its law of programming from a measured table."""
    rows = _measured_levels(path)
    values, stds = [row["g_siemens"] for row in rows], [row["std_siemens"] for row in rows if "std_siemens" in row]
    source = device.get("conductances_source", path.name)

    def measured(value: float) -> dict[str, Any]:
        return {"value": value, "unit": "S", "source": source, "standing": "primary"}

    found: dict[str, Any] = {"levels": len(values), "g_min": measured(values[0]), "g_max": measured(values[-1])}
    if stds:
        found["programming"] = {"model": "measured", "parameters": {f"std_{level}": measured(std) for level, std in enumerate(stds)}}
    twice = [key for key in found if key in device]
    if twice:
        raise ChipError(f"is given here and comes from {path.name}", where=twice[0], cure="leave it out here")
    return device | found | {"conductances": values, "conductances_source": source}


def _measured_levels(path: Path) -> list[dict[str, float]]:
    """A table of measured levels, one row for each, lowest conductance first."""
    rows: list[dict[str, float]] = []
    for line, row in read_table(path, ("g_siemens",), ("level", "std_siemens"), MAX_DESCRIPTION):
        lowest = rows[-1]["g_siemens"] if rows else 0.0
        wrong = ""
        if not lowest < row["g_siemens"] < 1:  # 1 S and more was meant in uS
            wrong = f"g_siemens is {row['g_siemens']:g}; expected more than {lowest:g} and less than 1"
        elif not 0 <= row.get("std_siemens", 0.0) < 1:
            wrong = f"std_siemens is {row['std_siemens']:g}; expected zero or more and less than 1"
        elif row.get("level", len(rows)) != len(rows):
            wrong = f"level is {row['level']:g}; expected {len(rows)}"
        if wrong:
            raise ChipError(wrong, where=f"{path}: line {line}", cure="one row per level, lowest conductance first, in siemens")
        rows.append(row)
    if len(rows) < 2:
        raise ChipError(f"holds {len(rows)} levels; a cell has at least 2", where=str(path))
    return rows


def _check_texts(tree: Any, keys: tuple[int | str, ...], root: Any = None) -> None:
    """Refuse control characters in what people read on a terminal, which would obey them."""
    root = tree if root is None else root
    if isinstance(tree, dict | list):
        items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
        for key, inner in items:
            _check_texts(inner, (*keys, key), root)
    elif isinstance(tree, str) and clean(tree) != tree:
        raise ChipError(f"{tree[:40]!r} holds control characters; expected plain text", where=place_of(keys, root))


def _quantities(tree: Any, keys: tuple[int | str, ...], root: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table with a value and a unit, with its place."""
    root = tree if root is None else root
    if isinstance(tree, dict) and "value" in tree and "unit" in tree:
        yield place_of(keys, root), cast(dict[str, Any], tree)
    elif isinstance(tree, dict | list):
        items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
        for key, inner in items:
            yield from _quantities(inner, (*keys, key), root)


def _check_quantity(place: str, quantity: dict[str, Any]) -> None:
    """Units are SI (a chip in ns would be read as seconds), and a value that no hardware has is named by its place."""
    unit = "J" if ".energy." in place else UNITS.get(place.split(".")[-1])
    if unit is not None and quantity["unit"] != unit:
        raise ChipError(f"is given in {quantity['unit']!r}; chips are in SI, here in {unit!r}", where=place, cure="convert the value")
    try:
        from_json(Quantity, json.dumps(quantity, default=str))
    except (FileRefused, ChipError) as error:
        raise ChipError(error.what, where=f"{place}.{error.where}" if error.where else place, cure=error.cure) from error
