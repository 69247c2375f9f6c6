"""The form of each kind of thing in a file: programs, networks, mappings, results, costs and chips, taken apart and put together."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Chip
from memspike.cost import Cost
from memspike.errors import FileRefused, MemspikeError, an
from memspike.files import check_target, is_sealed, read_arrays, read_bytes, read_tensors, write_arrays, write_tensors, write_text
from memspike.integer import Integers, frozen
from memspike.mapping import FaultMap, LayerPlan, Mapping, Tile
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.ops import Conv2d, Dense
from memspike.program import Program
from memspike.result import Activity, Provenance, Result
from memspike.storage.strict import MAX_DESCRIPTION, from_json, to_json

Thing = Program | QuantizedNetwork | Mapping | Chip | Result | Cost
T = TypeVar("T")

VERSION = "1"
# Written by others of our rooms, and no things to load; by the name of a text in them.
_OTHERS = {
    "memspike report": ("is a report", "memspike report prints it: give its folder"),
    "checkpoint": ("is a checkpoint of a training", "the command that made it goes on from it"),
}
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
    form = _form(type(thing), path)
    with _located(path):
        parts = form.apart(thing)
    return _write(form, parts, path)


def save_simulation(path: str | Path, images: Integers, result: Result, *, labels: Integers | None = None) -> Path:
    """Write a result as .npz together with the `images` [n, ...] that it belongs to and, if known, their `labels` [n].

    The scores [n, classes] stand under `scores`; `load` gives back the Result and leaves images and labels alone.
    Raises FileRefused when there are not as many images, labels and scores.
    """
    path = Path(path)
    form = _form(Result, path)
    with _located(path):
        parts = _result_apart(result)
    beside = {"images": np.asarray(images)} | ({} if labels is None else {"labels": np.asarray(labels)})
    for name, array in beside.items():
        if array.dtype.kind not in "iu" or len(array) != len(result.outputs):
            raise FileRefused(f"{name} are {array.dtype} {list(array.shape)}; expected integers for {len(result.outputs)} results", where=str(path))
    return _write(form, _Parts(parts.texts, parts.arrays | beside), path)


def check_place(kind: type[Any], path: str | Path, *inputs: str | Path | None) -> None:
    """Raises FileRefused, before a thing of this kind is made, when `save` could not write it to `path`, or would replace one of the files `inputs`."""
    _form(kind, Path(path))
    check_target(path, *inputs)


def _form(kind: type[Any], path: Path) -> _Form:
    form = _FORMS.get(kind)
    if form is None:
        raise FileRefused(f"{an(kind.__name__)} is no thing to save", where=str(path), cure=f"things are: {', '.join(k.__name__ for k in _FORMS)}")
    if path.suffix != form.suffix:
        raise FileRefused(f"{an(form.word)} is saved as {form.suffix}", where=str(path), cure=f"name it {path.stem or 'file'}{form.suffix}")
    return form


def load_saved(path: Path, kind: type[Any] | None = None) -> Any:
    """What `save` wrote; FileRefused when it holds another kind than asked for, or breaks a law of the thing."""
    with _located(path):
        parts = _read(path)
        form = next((form for form in _FORMS.values() if form.word == parts.texts.get("memspike")), None)
        if form is None:
            what, cure = next((_OTHERS[name] for name in parts.texts if name in _OTHERS), ("is no thing that memspike can load", ""))
            raise FileRefused(what, cure=cure or f"things are: {', '.join(form.word for form in _FORMS.values())}")
        check_kind(next(k for k, f in _FORMS.items() if f is form), kind, path)
        if parts.text("version") != VERSION:
            raise FileRefused(f"has file version {parts.text('version')[:20]}; this memspike reads version {VERSION}", cure="use a newer memspike")
        strange = sorted(set(parts.texts) - {"memspike", "version", form.word}) if form.suffix == ".json" else []
        if strange:
            raise FileRefused(f"has an unknown entry {strange[0][:40]!r} beside {form.word!r}", cure="take it out")
        return form.together(parts)


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
    return _Parts({name: str(value) if name in ("memspike", "version") else json.dumps(value) for name, value in tree.items()}, {})


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


def check_kind(found: type[Any], wanted: type[Any] | None, path: Path) -> None:
    """Raises FileRefused when a file holds another kind of thing than was asked for, or when no kind of thing was."""
    asked: Any = wanted
    if not isinstance(asked, type | None):
        raise FileRefused(f"the kind {wanted!r} is none", where=str(path), cure=f"kinds are: {', '.join(kind.__name__ for kind in _FORMS)}, as ms.Program")
    if wanted is not None and found is not wanted:
        word = _FORMS[wanted].word if wanted in _FORMS else wanted.__name__
        raise FileRefused(f"holds {an(_FORMS[found].word)}, not {an(word)}", where=str(path))


# Programs: the text says everything but the arrays, and holds a digest of each of these.


def _program_apart(program: Program) -> _Parts:
    return _Parts({"text": str(program), "notes": to_json(program.notes, "notes")}, {name: _narrow(array) for name, array in program.constants().items()})


def _program_together(parts: _Parts) -> Program:
    return Program.parse(parts.text("text"), parts.arrays, from_json(dict[str, Any], parts.text("notes")))


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
    return _Parts({"network": to_json(header, "network")}, {name: _narrow(array) if array.dtype.kind == "i" else array for name, array in arrays.items()})


def _network_together(parts: _Parts) -> QuantizedNetwork:
    network = from_json(QuantizedNetwork, parts.text("network"))
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
_OF_TILES = frozenset(f"tiles.{name}" for name in ("table", "levels", "places", "targets", "faults"))  # no op has a constant of these names
_MAX_TILE_NUMBER = 1 << 31  # products of two of them stay below 2**63


def _mapping_apart(mapping: Mapping) -> _Parts:
    program = _program_apart(mapping.program)
    place = {plan.op: number for number, plan in enumerate(mapping.layers)}
    rows = [(place[t.op], t.group, *t.rows, *t.channels, t.crossbar, t.row_offset, t.column_offset, *t.levels.shape) for t in mapping.tiles]
    texts = {"chip": to_json(asdict(mapping.chip), "chip"), "layers": to_json([asdict(plan) for plan in mapping.layers], "layers")}
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
    program = _program_together(_Parts(parts.texts, {name: array for name, array in parts.arrays.items() if name not in _OF_TILES}))
    chip = from_json(Chip, parts.text("chip"))
    layers = from_json(tuple[LayerPlan, ...], parts.text("layers"))
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
    texts = {
        "activity": to_json(activity, "activity"),
        "provenance": to_json(asdict(result.provenance), "provenance"),
        "notes": to_json(list(result.notes), "notes"),
    }
    spikes = {f"spike_counts.{name}": array for name, array in result.spike_counts.items()}
    rasters = {f"rasters.{name}": array for name, array in result.rasters.items()}
    return _Parts(texts, {"scores": result.outputs, **spikes, **rasters})


def _result_together(parts: _Parts) -> Result:
    activity = from_json(_SavedActivity, parts.text("activity"))
    counts = {(op, component, action): count for op, component, action, count in activity.counts}
    scores = parts.array("scores")
    if scores.ndim != 2 or scores.dtype.kind not in "iu":
        raise FileRefused(f"scores are {scores.dtype} {list(scores.shape)}; expected integers [images, classes]")
    if len(scores) != activity.num_images or not scores.shape[1]:
        raise FileRefused(f"scores {list(scores.shape)} of {activity.num_images} images; expected a row for each, and a class")
    if scores.dtype == np.uint64 and scores.max(initial=0) > np.iinfo(np.int64).max:
        raise FileRefused(f"a score is {scores.max()}, more than int64 holds")
    return Result(
        scores,
        Activity(counts, activity.num_timesteps, activity.num_images),
        from_json(Provenance, parts.text("provenance")),
        _under("spike_counts.", parts.arrays),
        _under("rasters.", parts.arrays),
        from_json(tuple[str, ...], parts.text("notes")),
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
    Cost: _Form("cost", ".json", lambda cost: _Parts({"cost": to_json(asdict(cost), "cost")}, {}), lambda parts: from_json(Cost, parts.text("cost"))),
    Chip: _Form("chip", ".json", lambda chip: _Parts({"chip": to_json(asdict(chip), "chip")}, {}), lambda parts: from_json(Chip, parts.text("chip"))),
}


def _plain(value: Any) -> Any:
    """A dataclass as a dict; everything else as it is."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _narrow(array: Integers) -> NDArray[Any]:
    """The same integers in the narrowest type that holds them."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    dtypes = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32)
    return array.astype(next((d for d in dtypes if np.iinfo(d).min <= low and high <= np.iinfo(d).max), np.int64))
