"""Storage: save any thing, load it again: safetensors, npz, JSON and TOML, never a format that can run code."""

import difflib
import json
import math
import tomllib
from collections.abc import Callable, Generator, Iterator
from collections.abc import Mapping as MappingABC
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from memspike.chip import Chip, Component, Crossbar, Device, Law, NeuronCircuit, Quantity, Stuck, Verify
from memspike.cost import Cost
from memspike.errors import ChipError, FileRefused, MemspikeError
from memspike.files import is_sealed, read_arrays, read_bytes, read_table, read_tensors, write_arrays, write_bytes, write_tensors, write_text
from memspike.integer import Integers, frozen
from memspike.mapping import FaultMap, LayerPlan, Mapping, Tile
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.ops import Conv2d, Dense
from memspike.physics.laws import check_laws
from memspike.program import Program
from memspike.result import Activity, Provenance, Result

__all__ = ["Thing", "chip_names", "device_names", "load", "load_chip", "load_device", "load_faults", "save", "save_simulation", "write_bytes", "write_text"]

Thing = Program | QuantizedNetwork | Mapping | Chip | Result | Cost
T = TypeVar("T")

VERSION = "1"
MAX_DESCRIPTION = 1 << 24  # bytes of a JSON or TOML file
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class _Parts:
    """A thing taken apart: texts (most of them JSON) and arrays, each under its name in the file."""

    texts: dict[str, str]
    arrays: dict[str, NDArray[Any]]

    def text(self, name: str) -> str:
        if name not in self.texts:
            raise FileRefused(f"has no {name!r}")
        return self.texts[name]

    def array(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            raise FileRefused(f"has no array {name!r}")
        return self.arrays[name]


@dataclass(frozen=True, slots=True)
class _Form:
    """How one kind of thing is written: its word and suffix, taken apart and put together."""

    word: str
    suffix: str
    apart: Callable[[Any], _Parts]
    together: Callable[[_Parts], Thing]


def save(thing: Thing, path: str | Path) -> Path:
    """Write a thing to a file, whole or not at all, and return its path.

    Programs, networks and mappings are .safetensors sealed with a SHA-256, results .npz, costs and chips .json.
    Raises FileRefused when the suffix is another one, the folder cannot be written, or a number is NaN or infinite.
    """
    path = Path(path)
    form = _FORMS.get(type(thing))
    if form is None:
        raise FileRefused(f"{_a(type(thing).__name__)} is no thing to save", where=str(path), cure=f"things are: {', '.join(k.__name__ for k in _FORMS)}")
    if path.suffix != form.suffix:
        raise FileRefused(f"{_a(form.word)} is saved as {form.suffix}", where=str(path), cure=f"name it {path.with_suffix(form.suffix).name}")
    with _located(path):
        parts = form.apart(thing)
    return _write(form, parts, path)


def save_simulation(path: str | Path, images: Integers, result: Result, *, labels: Integers | None = None) -> Path:
    """Write a result as .npz together with the `images` [n, ...] that it belongs to and, if known, their `labels` [n].

    The scores [n, classes] stand under `scores`; `load` gives back the Result and leaves images and labels alone.
    Raises FileRefused when there are not as many images, labels and scores.
    """
    path = Path(path)
    form = _FORMS[Result]
    if path.suffix != form.suffix:
        raise FileRefused(f"a simulation is saved as {form.suffix}", where=str(path), cure=f"name it {path.with_suffix(form.suffix).name}")
    with _located(path):
        parts = _result_apart(result)
    beside = {"images": np.asarray(images)} | ({} if labels is None else {"labels": np.asarray(labels)})
    for name, array in beside.items():
        if array.dtype.kind not in "iu" or len(array) != len(result.outputs):
            raise FileRefused(f"{name} are {array.dtype} {list(array.shape)}; expected integers for {len(result.outputs)} results", where=str(path))
    return _write(form, _Parts(parts.texts, parts.arrays | beside), path)


@overload
def load(path: str | Path) -> Thing: ...
@overload
def load(path: str | Path, kind: type[T]) -> T: ...
def load(path: str | Path, kind: type[Any] | None = None) -> Any:
    """Read back what `save` wrote, or a chip's .toml; what a file is, its content says.

    With `kind` (`Program`, say) a file of another kind is refused. Raises FileRefused when the file is missing, damaged, of another kind,
    or breaks a law of the thing it holds; ChipError for a mistake in a chip's .toml.
    """
    path = Path(path)
    if path.suffix == ".toml":
        _is_kind(Chip, kind, path)
        return load_chip(path)
    with _located(path):
        parts = _read(path)
        form = next((form for form in _FORMS.values() if form.word == parts.texts.get("memspike")), None)
        if form is None:
            raise FileRefused("is no file that memspike wrote", cure=f"memspike writes: {', '.join(form.word for form in _FORMS.values())}")
        _is_kind(next(k for k, f in _FORMS.items() if f is form), kind, path)
        if parts.text("version") != VERSION:
            raise FileRefused(f"has file version {parts.text('version')[:20]}; this memspike reads version {VERSION}", cure="use a newer memspike")
        return form.together(parts)


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
        return load(path, Chip)
    if path.suffix != ".toml" and not path.exists():
        close = difflib.get_close_matches(str(name_or_path), chip_names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
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
        close = difflib.get_close_matches(str(name_or_path), device_names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        what = f"no device is called {str(name_or_path)!r}"
        raise ChipError(what, cure=f"{hint}devices are: {', '.join(device_names())}; or give the path of a .toml file")
    return _described(Device, _text(path), str(path), path.parent)


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


def _write(form: _Form, parts: _Parts, path: Path) -> Path:
    texts = {"memspike": form.word, "version": VERSION, **parts.texts}
    if form.suffix == ".safetensors":
        return write_tensors(path, texts, parts.arrays)
    if form.suffix == ".npz":
        return write_arrays(path, {name: np.array(text) for name, text in texts.items()} | parts.arrays)
    tree = {"memspike": form.word, "version": VERSION, **{name: json.loads(text) for name, text in parts.texts.items()}}
    return write_text(path, json.dumps(tree, indent=1) + "\n")


def _read(path: Path) -> _Parts:
    """The parts of a sealed safetensors, .npz or JSON file, whichever its first bytes say."""
    try:
        with path.open("rb") as file:
            beginning = file.read(64)
    except OSError:
        beginning = b""  # read_bytes below tells why
    if is_sealed(beginning):
        return _Parts(*read_tensors(path))
    if beginning.startswith(_ZIP):
        arrays = read_arrays(path)
        texts = {name: str(array) for name, array in arrays.items() if array.dtype.kind == "U" and array.ndim == 0}
        return _Parts(texts, {name: array for name, array in arrays.items() if name not in texts})
    data = read_bytes(path, MAX_DESCRIPTION)
    if not data.lstrip().startswith(b"{"):
        return _Parts({}, {})
    tree = cast(dict[str, Any], json.loads(data))
    return _Parts({name: value if name in ("memspike", "version") else json.dumps(value) for name, value in tree.items()}, {})


@contextmanager
def _located(path: Path) -> Generator[None]:
    """Whatever is wrong inside becomes a FileRefused that begins with the path; a crafted file may break any assumption."""
    try:
        yield
    except MemspikeError as error:
        where = ": ".join(dict.fromkeys(part for part in (str(path), error.where) if part))
        raise FileRefused(error.what, where=where, cure=error.cure) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise FileRefused(f"is not well formed: {error}", where=str(path)) from error


def _is_kind(found: type[Any], wanted: type[Any] | None, path: Path) -> None:
    if wanted is not None and found is not wanted:
        asked = _FORMS[wanted].word if wanted in _FORMS else wanted.__name__
        raise FileRefused(f"holds {_a(_FORMS[found].word)}, not {_a(asked)}", where=str(path))


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiouAEIOU" else f"a {word}"


# Programs: the text says everything but the arrays, and holds a digest of each of these.


def _program_apart(program: Program) -> _Parts:
    return _Parts({"text": str(program), "notes": _json(program.notes, "notes")}, {name: _narrow(array) for name, array in program.constants().items()})


def _program_together(parts: _Parts) -> Program:
    return Program.parse(parts.text("text"), parts.arrays, _from_json(dict[str, Any], parts.text("notes")))


# Networks: one JSON description; each layer's arrays are `<layer>.weight`, `<layer>.gain`, `<layer>.offset`.


def _network_apart(network: QuantizedNetwork) -> _Parts:
    names = [layer.name for layer in network.layers]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FileRefused(f"has two layers called {twice[0]!r}", where=f"network {network.name}", cure="give each layer its own name")
    arrays = {f"{layer.name}.{name}": array for layer in network.layers for name, array in _arrays(layer).items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FileRefused("holds NaN or infinity", where=f"network {network.name}: {name}")
    layers = [{f.name: _plain(getattr(layer, f.name)) for f in fields(layer) if f.name not in _arrays(layer)} for layer in network.layers]
    header = {f.name: _plain(getattr(network, f.name)) for f in fields(network)} | {"layers": layers}
    return _Parts({"network": _json(header, "network")}, {name: _narrow(array) if array.dtype.kind == "i" else array for name, array in arrays.items()})


def _network_together(parts: _Parts) -> QuantizedNetwork:
    network = _from_json(QuantizedNetwork, parts.text("network"))
    layers = tuple(
        replace(layer, **{name: parts.arrays[f"{layer.name}.{name}"] for name in ("weight", "gain", "offset") if f"{layer.name}.{name}" in parts.arrays})
        for layer in network.layers
    )
    known = {f"{layer.name}.{name}" for layer in layers for name in _arrays(layer)}
    unknown = sorted(parts.arrays.keys() - known)
    if unknown:
        raise FileRefused(f"array {unknown[0]!r} belongs to no layer")
    return replace(network, layers=layers)


def _arrays(layer: QuantizedLayer) -> dict[str, NDArray[Any]]:
    return {name: array for name in ("weight", "gain", "offset") if (array := getattr(layer, name)) is not None}


# Mappings: the program's parts, the chip, the plans, and one row of integers per tile; the levels of all tiles one after the other.

_TILE_COLUMNS = ("layer", "group", "row_start", "row_stop", "channel_start", "channel_stop", "crossbar", "row_offset", "column_offset", "height", "width")
_MAX_TILE_NUMBER = 1 << 31  # products of two of them stay below 2**63


def _mapping_apart(mapping: Mapping) -> _Parts:
    program = _program_apart(mapping.program)
    place = {plan.op: number for number, plan in enumerate(mapping.layers)}
    rows = [(place[t.op], t.group, *t.rows, *t.channels, t.crossbar, t.row_offset, t.column_offset, *t.levels.shape) for t in mapping.tiles]
    texts = {"chip": _json(asdict(mapping.chip), "chip"), "layers": _json([asdict(plan) for plan in mapping.layers], "layers")}
    levels = np.concatenate([np.zeros(0, np.uint8), *(tile.levels.ravel() for tile in mapping.tiles)])
    tiles = {"tiles.table": _narrow(np.array(rows, np.int64).reshape(len(rows), len(_TILE_COLUMNS))), "tiles.levels": levels}
    if any(tile.row_places is not None or tile.column_places is not None for tile in mapping.tiles):
        tiles["tiles.places"] = _narrow(np.concatenate([place for tile in mapping.tiles for place in tile.places]))
    if any(tile.targets is not None for tile in mapping.tiles):
        tiles["tiles.targets"] = np.concatenate([tile.written.ravel() for tile in mapping.tiles])
    if mapping.faults is not None:
        texts["faults"] = mapping.faults.source
        tiles["tiles.faults"] = mapping.faults.cells
    return _Parts(program.texts | texts, program.arrays | tiles)


def _mapping_together(parts: _Parts) -> Mapping:
    program = _program_together(_Parts(parts.texts, {name: array for name, array in parts.arrays.items() if not name.startswith("tiles.")}))
    chip = _from_json(Chip, parts.text("chip"))
    layers = _from_json(tuple[LayerPlan, ...], parts.text("layers"))
    weighted = [op.out for op in program.ops if isinstance(op, (Conv2d, Dense))]
    if sorted(plan.op for plan in layers) != sorted(weighted):
        raise FileRefused(f"plans the ops {', '.join(plan.op for plan in layers)}; the ops with weights are {', '.join(weighted)}")
    table, levels = parts.array("tiles.table").astype(np.int64), parts.array("tiles.levels")
    _check_tiles(table, levels, chip, len(layers))
    placed, targets = parts.arrays.get("tiles.places"), parts.arrays.get("tiles.targets")
    if placed is not None and (placed.ndim != 1 or placed.dtype.kind not in "iu" or placed.size != int(table[:, -2:].sum())):
        raise FileRefused(f"places are {placed.dtype} {list(placed.shape)}; the tiles have {int(table[:, -2:].sum())} rows and columns")
    if targets is not None:
        _check_tiles(table, targets, chip, len(layers))
    tiles: list[Tile] = []
    start = place = 0
    for n, group, r0, r1, c0, c1, crossbar, row, column, h, w in cast(list[list[int]], table.tolist()):
        block = slice(start, start + h * w)
        places = (None, None) if placed is None else (placed[place : place + h], placed[place + h : place + h + w])
        _check_places(places, chip, len(tiles))
        written = None if targets is None else targets[block].reshape(h, w)
        tiles.append(Tile(layers[n].op, group, (r0, r1), (c0, c1), crossbar, row, column, levels[block].reshape(h, w), *places, written))
        start, place = start + h * w, place + h + w
    faults = parts.arrays.get("tiles.faults")
    return Mapping(program, chip, layers, tuple(tiles), None if faults is None else FaultMap(faults, parts.text("faults")))


def _check_places(places: tuple[NDArray[Any] | None, NDArray[Any] | None], chip: Chip, tile: int) -> None:
    for found, size in zip(places, (chip.crossbar.rows, chip.crossbar.columns), strict=True):
        if found is not None and found.size and (int(found.min()) < 0 or int(found.max()) >= size):
            raise FileRefused("reaches past its crossbar", where=f"tile {tile}")


def _check_tiles(table: Integers, levels: NDArray[Any], chip: Chip, num_layers: int) -> None:
    """Every tile belongs to a layer and lies within a crossbar, and the levels are those of the device."""
    if table.ndim != 2 or table.shape[1] != len(_TILE_COLUMNS) or levels.dtype.name not in ("uint8", "uint16") or levels.ndim != 1:
        raise FileRefused(f"tiles are a table {list(table.shape)} and levels of {levels.dtype} {list(levels.shape)}")
    limits = {"layer": num_layers - 1, "height": chip.crossbar.rows, "width": chip.crossbar.columns}
    for name, column in zip(_TILE_COLUMNS, table.T, strict=True):
        wrong = np.flatnonzero((column < 0) | (column > min(limits.get(name, _MAX_TILE_NUMBER), _MAX_TILE_NUMBER)))
        if wrong.size:
            raise FileRefused(f"{name} is {column[wrong[0]]}", where=f"tile {wrong[0]}")
    bottom, right = table[:, -4] + table[:, -2], table[:, -3] + table[:, -1]
    wrong = np.flatnonzero((bottom > chip.crossbar.rows) | (right > chip.crossbar.columns))
    if wrong.size:
        raise FileRefused("reaches past its crossbar", where=f"tile {wrong[0]}")
    if int((table[:, -2] * table[:, -1]).sum()) != levels.size or int(levels.max(initial=0)) >= chip.crossbar.device.levels:
        raise FileRefused(f"the tiles' {levels.size} levels up to {levels.max(initial=0)} are not those of the table and the device")


# Results: scores and what else was asked for are arrays; activity, provenance and notes are JSON.


def _result_apart(result: Result) -> _Parts:
    activity = {
        "counts": [[*key, int(count)] for key, count in result.activity.counts.items()],
        "num_timesteps": {op: int(steps) for op, steps in result.activity.num_timesteps.items()},
        "num_images": int(result.activity.num_images),
    }
    texts = {"activity": _json(activity, "activity"), "provenance": _json(asdict(result.provenance), "provenance"), "notes": _json(list(result.notes), "notes")}
    spikes = {f"spike_counts.{name}": array for name, array in result.spike_counts.items()}
    rasters = {f"rasters.{name}": array for name, array in result.rasters.items()}
    return _Parts(texts, {"scores": result.outputs, **spikes, **rasters})


def _result_together(parts: _Parts) -> Result:
    activity = _from_json(_SavedActivity, parts.text("activity"))
    counts = {(op, component, action): count for op, component, action, count in activity.counts}
    scores = parts.array("scores")
    if scores.ndim != 2 or scores.dtype.kind not in "iu":
        raise FileRefused(f"scores are {scores.dtype} {list(scores.shape)}; expected integers [images, classes]")
    return Result(
        scores,
        Activity(counts, activity.num_timesteps, activity.num_images),
        _from_json(Provenance, parts.text("provenance")),
        _under("spike_counts.", parts.arrays),
        _under("rasters.", parts.arrays),
        _from_json(tuple[str, ...], parts.text("notes")),
    )


@dataclass(frozen=True, slots=True)
class _SavedActivity:
    counts: tuple[tuple[str, str, str, int], ...]
    num_timesteps: dict[str, int]
    num_images: int


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): frozen(array, array.dtype) for name, array in arrays.items() if name.startswith(prefix)}


_FORMS: dict[type[Any], _Form] = {
    Program: _Form("program", ".safetensors", _program_apart, _program_together),
    QuantizedNetwork: _Form("network", ".safetensors", _network_apart, _network_together),
    Mapping: _Form("mapping", ".safetensors", _mapping_apart, _mapping_together),
    Result: _Form("result", ".npz", _result_apart, _result_together),
    Cost: _Form("cost", ".json", lambda cost: _Parts({"cost": _json(asdict(cost), "cost")}, {}), lambda parts: _from_json(Cost, parts.text("cost"))),
    Chip: _Form("chip", ".json", lambda chip: _Parts({"chip": _json(asdict(chip), "chip")}, {}), lambda parts: _from_json(Chip, parts.text("chip"))),
}


# JSON and TOML


def _json(value: Any, name: str) -> str:
    """JSON that reads back as it was; FileRefused names the first number or object for which that cannot be."""
    for place, what in _strangers(value, name):
        raise FileRefused(f"{what} cannot be written as JSON", where=place, cure="text, finite numbers, true and false, lists, and dicts with text as keys can")
    return json.dumps(value, default=lambda number: number.item())


def _strangers(value: Any, place: str) -> Iterator[tuple[str, str]]:
    value = cast(Any, value).item() if isinstance(value, np.generic) else value
    if isinstance(value, dict | MappingABC):
        for key, inner in cast(dict[Any, Any], value).items():
            yield from _strangers(inner, f"{place}.{key}") if isinstance(key, str) else [(place, f"the key {key!r}")]
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(cast(list[Any], value)):
            yield from _strangers(inner, f"{place}.{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, str(value)
    elif value is not None and not isinstance(value, str | int | float):
        yield place, _a(type(value).__name__)


def _plain(value: Any) -> Any:
    """A dataclass as a dict; everything else as it is."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _narrow(array: Integers) -> NDArray[Any]:
    """The same integers in the narrowest type that holds them."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    dtypes = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32)
    return array.astype(next((d for d in dtypes if np.iinfo(d).min <= low and high <= np.iinfo(d).max), np.int64))


_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Inside a tuple, since a configuration is refused beside a bare dataclass; it holds for every dataclass within.
    # Arrays are never JSON: `arbitrary_types_allowed` lets their fields stand empty until they are put in.
    wrapped: Any = tuple[kind]  # pyright: ignore[reportInvalidTypeForm, reportUnknownVariableType]
    return TypeAdapter(wrapped, config=ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True))


def _from_json(kind: type[T], text: str) -> T:
    """A value of the type `kind`, strictly; FileRefused names the first key that is unknown, missing or wrong."""
    try:
        return _adapter(kind).validate_json(f"[{text}]")[0]
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = next((e for e in errors if e["type"] in _UNKNOWN), errors[0])  # a misspelt key says more than the one that it leaves missing
        place = _place(first["loc"][1:], None if first["type"] == "json_invalid" else json.loads(text))
        what, cure = _said(first)
        raise FileRefused(what, where=place, cure=cure) from error


def _said(error: Any) -> tuple[str, str]:
    """What and cure of pydantic's error."""
    if error["type"] == "missing":
        return "is missing", ""
    if error["type"] in _UNKNOWN:
        close = difflib.get_close_matches(str(error["loc"][-1]), _KEYS, n=1)
        return "is no known key", f"did you mean {close[0]!r}?" if close else ""
    if error["type"] == "json_invalid":
        return error["msg"], ""
    return f"is {error['input']!r:.60}; expected {error['msg'].removeprefix('Input should be ')}", ""


def _place(keys: tuple[int | str, ...], tree: Any) -> str:
    """The path of a key; an item that has a name is called by it: `components.neuron.area`."""
    words: list[str] = []
    for key in keys:
        try:
            tree = tree[key]
            words.append(str(tree["name"] if isinstance(key, int) else key))
        except (LookupError, TypeError):
            tree = None
            words.append(str(key))
    return ".".join(words)


# Chips and devices: TOML that people write, so every error says where.

_DESCRIBED = (Chip, Crossbar, Device, Law, Verify, Stuck, NeuronCircuit, Component, Quantity)
_KEYS = tuple(dict.fromkeys(f.name for kind in _DESCRIBED for f in fields(kind)))
_UNITS = {
    **dict.fromkeys(("g_min", "g_max", "low_g", "high_g"), "S"),
    **dict.fromkeys(("read_noise", "tolerance", "low", "high", "threshold_mismatch", "offset", "leak", "saturation", "reset_error"), "1"),
    **dict.fromkeys(("timestep", "window_overhead"), "s"),
    "read_voltage": "V",
    "wire_resistance": "ohm",
    "area": "m2",
    "leakage": "W",
}


def _described(kind: type[T], text: str, where: str, folder: Path | None = None) -> T:
    """A chip or a device from TOML; a table that it names lies in `folder`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ChipError(f"is no TOML: {error}", where=where) from error
    try:
        if folder is not None:
            tree = _with_tables(tree, folder)
        for place, quantity in _quantities(tree, ()):
            _check_quantity(place, quantity)
        found = _from_json(kind, json.dumps(tree, default=str))
        check_laws(found.crossbar.device if isinstance(found, Chip) else cast(Device, found))
    except (FileRefused, ChipError) as error:
        raise ChipError(error.what, where=f"{where}: {error.where}" if error.where else where, cure=error.cure) from error
    return found


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


def _quantities(tree: Any, keys: tuple[int | str, ...], root: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table with a value and a unit, with its place."""
    root = tree if root is None else root
    if isinstance(tree, dict) and "value" in tree and "unit" in tree:
        yield _place(keys, root), cast(dict[str, Any], tree)
    elif isinstance(tree, dict | list):
        items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
        for key, inner in items:
            yield from _quantities(inner, (*keys, key), root)


def _check_quantity(place: str, quantity: dict[str, Any]) -> None:
    """Units are SI (a chip in ns would be read as seconds), and a value that no hardware has is named by its place."""
    unit = "J" if ".energy." in place else _UNITS.get(place.split(".")[-1])
    if unit is not None and quantity["unit"] != unit:
        raise ChipError(f"is given in {quantity['unit']!r}; chips are in SI, here in {unit!r}", where=place, cure="convert the value")
    try:
        _from_json(Quantity, json.dumps(quantity, default=str))
    except (FileRefused, ChipError) as error:
        raise ChipError(error.what, where=f"{place}.{error.where}" if error.where else place, cure=error.cure) from error
