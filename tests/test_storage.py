"""Storage: what is saved comes back, a damaged or foreign file is refused in words, and a write is whole or not at all."""

import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from chips import test_chip as small_chip
from memspike import files, mapper, storage
from memspike.chip import Chip
from memspike.cost import Cost, CostRow, LayerTime
from memspike.errors import ChipError, FileRefused, MemspikeError
from memspike.files import read_arrays, read_bytes, write_arrays
from memspike.integer import IntType
from memspike.mapping import Mapping
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.program import Program
from memspike.result import Activity, Provenance, Result
from memspike.storage import forms
from random_programs import random_program
from small_programs import one_conv


def a_program(seed: int = 3) -> Program:
    program = random_program(np.random.default_rng(seed), 4)
    return replace(program, notes={"accuracy": 0.9932, "seed": 0, "data": "digits", "histogram": [1, 2.5, None, True]})


def a_network() -> QuantizedNetwork:
    conv = QuantizedLayer(
        "conv",
        "conv2d",
        ("image",),
        IntType(4),
        0.1,
        weight=np.arange(-4, 5).reshape(1, 1, 3, 3),
        weight_type=IntType(4, signed=True),
        weight_scale=1 / 3,
        gain=np.array([0.1]),
        offset=np.array([-1e-9]),
        padding=(1, 1),
    )
    pool = QuantizedLayer("pool", "average_pool", ("conv",), IntType(5), 0.2, kernel=(2, 2), stride=(2, 2))
    dense = QuantizedLayer("fc", "dense", ("pool",), weight=np.array([[-300, 300]]), weight_type=IntType(10, signed=True))
    return QuantizedNetwork("net", (1, 4, 4), IntType(4), 1 / 15, (conv, pool, dense), {"epochs": 3, "accuracy": {"fp32": 0.99}})


def a_mapping() -> Mapping:
    return mapper.map(a_program(), small_chip(rows=8, columns=16, bits_per_cell=2))


def a_result() -> Result:
    activity = Activity({("conv1.sum", "cell", "read"): 2**40, ("conv1", "neuron", "fire"): 7}, {"conv1": 17}, 2)
    provenance = Provenance("0.1.0", "a" * 64, "b" * 64, "spike", "up_down", "even", 5)
    counts = {"conv1": np.arange(6, dtype=np.int16).reshape(2, 3)}
    rasters = {"conv1": np.array([[1, -1, 0]], np.int8)}
    return Result(np.array([[3, -2], [2**40, 1]]), activity, provenance, counts, rasters, ("one note",))


def a_cost() -> Cost:
    return Cost(
        1e-6,
        2.5e5,
        (LayerTime("conv1", 24, 16, 1.8e-7),),
        (CostRow("conv1", "cell", "read", 12.5, energy_each=1e-15), CostRow("chip", "bus", "", 3, area_each=1e-9)),
    )


def layers_equal(one: QuantizedLayer, other: QuantizedLayer) -> bool:
    names = ("weight", "gain", "offset")
    plain = dict.fromkeys(names)
    same = all(np.array_equal(getattr(one, n), getattr(other, n)) if getattr(one, n) is not None else getattr(other, n) is None for n in names)
    return same and repr(replace(one, **plain)) == repr(replace(other, **plain))


# What is saved comes back.


def test_a_program_comes_back_with_its_notes(tmp_path: Path) -> None:
    program = a_program()
    back = storage.load(storage.save(program, tmp_path / "p.safetensors"), Program)
    assert back == program and back.notes == program.notes


def test_a_program_file_is_the_narrowest_safetensors_file(tmp_path: Path) -> None:
    program = a_program()
    path = storage.save(program, tmp_path / "p.safetensors")
    arrays = safetensors.numpy.load_file(path)
    assert arrays.keys() == program.constants().keys()
    for name, array in program.constants().items():
        assert np.array_equal(arrays[name], array)
        bits = IntType.smallest(int(array.min(initial=0)), int(array.max(initial=0))).bits
        assert arrays[name].dtype.itemsize == next(size for size in (1, 2, 4, 8) if bits <= 8 * size)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert metadata["memspike"] == "program" and metadata["version"] == "1"
    assert metadata["text"] == str(program) and json.loads(metadata["notes"]) == program.notes


def test_equal_things_give_equal_files(tmp_path: Path) -> None:
    for number, make in enumerate((a_program, a_network, a_mapping)):
        one, two = (storage.save(make(), tmp_path / f"{number}{name}.safetensors").read_bytes() for name in "ab")
        assert one == two
    one, two = (storage.save(a_result(), tmp_path / f"{name}.npz").read_bytes() for name in "ab")
    assert one == two


def test_a_network_comes_back(tmp_path: Path) -> None:
    network = a_network()
    back = storage.load(storage.save(network, tmp_path / "n.safetensors"), QuantizedNetwork)
    assert all(layers_equal(*pair) for pair in zip(network.layers, back.layers, strict=True))
    assert (back.name, back.input_shape, back.input_type, back.input_scale, back.notes) == ("net", (1, 4, 4), IntType(4), 1 / 15, network.notes)
    assert back.layers[2].weight is not None and not back.layers[2].weight.flags.writeable


def test_a_mapping_comes_back(tmp_path: Path) -> None:
    mapping = a_mapping()
    back = storage.load(storage.save(mapping, tmp_path / "m.safetensors"), Mapping)
    assert back.program == mapping.program and back.chip == mapping.chip and back.layers == mapping.layers
    for one, other in zip(mapping.tiles, back.tiles, strict=True):
        assert one.levels.dtype == other.levels.dtype and np.array_equal(one.levels, other.levels)
        nothing = np.zeros((0, 0), np.uint8)
        assert repr(replace(one, levels=nothing)) == repr(replace(other, levels=nothing))


def test_a_result_comes_back(tmp_path: Path) -> None:
    result = a_result()
    back = storage.load(storage.save(result, tmp_path / "r.npz"), Result)
    assert np.array_equal(back.outputs, result.outputs) and back.outputs.dtype == np.int64
    assert back.activity == result.activity and back.provenance == result.provenance and back.notes == result.notes
    for mine, its in ((result.spike_counts, back.spike_counts), (result.rasters, back.rasters)):
        assert mine.keys() == its.keys()
        assert all(np.array_equal(mine[k], its[k]) and mine[k].dtype == its[k].dtype for k in mine)


def test_a_simulation_holds_images_scores_and_labels(tmp_path: Path) -> None:
    images = np.arange(8).reshape(2, 1, 2, 2)
    path = storage.save_simulation(tmp_path / "s.npz", images, a_result(), labels=np.array([1, 0]))
    with np.load(path) as arrays:
        assert np.array_equal(arrays["images"], images) and np.array_equal(arrays["labels"], [1, 0])
        assert np.array_equal(arrays["scores"], a_result().outputs)
        assert json.loads(str(arrays["provenance"]))["seed"] == 5
    assert np.array_equal(storage.load(path, Result).outputs, a_result().outputs)
    with pytest.raises(FileRefused, match=r"s\.npz: images are int64 \[1, 1, 2, 2\]; expected integers for 2 results"):
        storage.save_simulation(path, images[:1], a_result())


def test_a_cost_and_a_chip_come_back(tmp_path: Path) -> None:
    cost, chip = a_cost(), small_chip()
    assert storage.load(storage.save(cost, tmp_path / "c.json"), Cost) == cost
    assert storage.load(storage.save(chip, tmp_path / "chip.json"), Chip) == chip == storage.load_chip(tmp_path / "chip.json")


# What is damaged is refused.


@pytest.mark.parametrize("make", [a_program, a_network, a_mapping])
def test_a_flipped_byte_anywhere_is_refused(make, tmp_path: Path) -> None:
    path = storage.save(make(), tmp_path / "x.safetensors")
    whole = path.read_bytes()
    head = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    # Every byte of the length, the seal and the header's two ends (its padding among them), and a sample of all others.
    places = {*range(120), *range(head - 16, head), len(whole) - 1, *rng.integers(0, len(whole), 150).tolist()}
    for place in sorted(places):
        for flip in (1 << int(rng.integers(8)), 0x20):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            with pytest.raises(FileRefused) as caught:
                storage.load(path)
            assert caught.value.exit_code == 3 and str(path) in str(caught.value)


def test_a_cut_or_longer_file_is_refused(tmp_path: Path) -> None:
    path = storage.save(a_program(), tmp_path / "x.safetensors")
    whole = path.read_bytes()
    for data in (b"", whole[:7], whole[:60], whole[:200], whole[:-1], whole + b"\0"):
        path.write_bytes(data)
        with pytest.raises(FileRefused):
            storage.load(path)


def test_a_damaged_result_is_refused_or_equal(tmp_path: Path) -> None:
    result = a_result()
    path = storage.save(result, tmp_path / "r.npz")
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x11
        path.write_bytes(damaged)
        try:
            back = storage.load(path, Result)
        except FileRefused:
            refused += 1
        else:
            assert np.array_equal(back.outputs, result.outputs) and back.activity == result.activity and back.provenance == result.provenance
    assert refused > len(whole) / 7 / 2


def test_the_seal_says_what_is_wrong(tmp_path: Path) -> None:
    path = storage.save(a_program(), tmp_path / "x.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileRefused) as caught:
        storage.load(path)
    assert str(caught.value) == f"{path}: is damaged: its SHA-256 is not the one it was written with\n  copy or make the file again"


def test_another_programs_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(FileRefused, match="is no thing that memspike can load"):
        storage.load(path)


def test_a_resealed_file_with_a_wrong_program_names_the_first_wrong_line(tmp_path: Path) -> None:
    program = a_program()
    path = tmp_path / "x.safetensors"
    form = forms._FORMS[Program]
    parts = form.apart(program)
    lines = str(program).split("\n")
    forms._write(form, forms._Parts({**parts.texts, "text": "\n".join([*lines[:3], "what is this", *lines[4:]])}, parts.arrays), path)
    with pytest.raises(FileRefused, match=r"x\.safetensors: line 4: 'what is this'; expected"):
        storage.load(path)
    first = next(iter(parts.arrays))
    forms._write(form, forms._Parts(parts.texts, {name: array for name, array in parts.arrays.items() if name != first}), path)
    with pytest.raises(FileRefused, match=f"constant '{first}' is missing"):
        storage.load(path)
    forms._write(form, forms._Parts({"notes": "{}"}, {}), path)
    with pytest.raises(FileRefused, match=r"x\.safetensors: has no 'text'"):
        storage.load(path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("layer", 99, "tile 0: layer is 99"),
        ("crossbar", -1, "tile 0: crossbar is -1"),
        ("height", 2**40, f"tile 0: height is {2**40}"),
        ("row_offset", 8, "tile 0: reaches past its crossbar"),
        ("width", 0, "levels up to 3 are not those of the table and the device"),
    ],
)
def test_a_resealed_mapping_with_a_wrong_tile_is_refused(column: str, value: int, said: str, tmp_path: Path) -> None:
    form = forms._FORMS[Mapping]
    parts = form.apart(a_mapping())
    table = parts.arrays["tiles.table"].astype(np.int64)
    table[0, forms._TILE_COLUMNS.index(column)] = value
    path = tmp_path / "m.safetensors"
    forms._write(form, forms._Parts(parts.texts, parts.arrays | {"tiles.table": table}), path)
    with pytest.raises(FileRefused) as caught:
        storage.load(path)
    assert said in str(caught.value)


def test_a_level_that_the_device_does_not_have_is_refused(tmp_path: Path) -> None:
    form = forms._FORMS[Mapping]
    parts = form.apart(a_mapping())
    path = tmp_path / "m.safetensors"
    forms._write(form, forms._Parts(parts.texts, parts.arrays | {"tiles.levels": parts.arrays["tiles.levels"] + np.uint8(1)}), path)
    with pytest.raises(FileRefused, match="levels up to 4 are not those of the table and the device"):
        storage.load(path)


def test_a_zip_bomb_and_a_lying_header_are_refused(tmp_path: Path) -> None:
    bomb = write_arrays(tmp_path / "bomb.npz", {"scores": np.zeros(1 << 20, np.int64)})
    with pytest.raises(FileRefused, match="holds 8388736 bytes of arrays; at most 100000 are read"):
        read_arrays(bomb, 100_000)
    lying = write_arrays(tmp_path / "lying.npz", {"scores": np.zeros((2, 3), np.int64)}, compressed=False)
    with zipfile.ZipFile(lying) as archive:
        member = archive.read("scores.npy")
    for header, said in [(b"(9, 9)", r"an array of int64 \[9, 9\] has 48 bytes"), (b"((((((", "an array's header cannot be read")]:
        with zipfile.ZipFile(lying, "w") as archive:
            archive.writestr("scores.npy", member.replace(b"(2, 3)", header))
        with pytest.raises(FileRefused, match=f"is no .npz file, or is damaged: {said}"):
            read_arrays(lying)


def test_an_array_of_objects_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, scores=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileRefused, match="an array holds Python objects"):
        storage.load(path)


# What a file is.


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = storage.save(a_network(), tmp_path / "n.safetensors")
    with pytest.raises(FileRefused) as caught:
        storage.load(path, Program)
    assert str(caught.value) == f"{path}: holds a network, not a program"
    toml = tmp_path / "chip.toml"
    toml.write_text(CHIP)
    with pytest.raises(FileRefused, match="holds a chip, not a program"):
        storage.load(toml, Program)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    for name, data in {"a.txt": b"hello", "b.json": b'{"x": 1}', "c.json": b'{"memspike": "poem"}', "d.bin": bytes(range(256)), "e.json": b"{,"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FileRefused, match="is no thing that memspike can load|is not well formed"):
            storage.load(tmp_path / name)
    np.savez(tmp_path / "f.npz", x=np.zeros(3))
    with pytest.raises(FileRefused, match="is no thing that memspike can load"):
        storage.load(tmp_path / "f.npz")
    with pytest.raises(FileRefused, match="cannot be read: no such file or directory"):
        storage.load(tmp_path / "nothing")
    with pytest.raises(FileRefused, match="cannot be read: is a directory"):
        storage.load(tmp_path)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(storage.save(a_cost(), path).read_text().replace('"version": "1"', '"version": "2"'))
    with pytest.raises(FileRefused, match="has file version 2; this memspike reads version 1\n  use a newer memspike"):
        storage.load(path)


def test_a_strange_cost_names_the_key(tmp_path: Path) -> None:
    path = storage.save(a_cost(), tmp_path / "c.json")
    text = path.read_text()
    for old, new, said in [
        ('"windows": 24', '"windows": 24.5', "times.0.windows: is 24.5; expected a valid integer"),
        ('"windows": 24', '"windoes": 24', "times.0.windoes: is no known key"),
        ('"latency": 1e-06,', "", "latency: is missing"),
    ]:
        path.write_text(text.replace(old, new))
        with pytest.raises(FileRefused) as caught:
            storage.load(path)
        assert said in str(caught.value)


def test_the_wrong_suffix_and_the_wrong_thing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as caught:
        storage.save(a_program(), tmp_path / "p.npz")
    assert str(caught.value) == f"{tmp_path / 'p.npz'}: a program is saved as .safetensors\n  name it p.safetensors"
    with pytest.raises(FileRefused, match="an int is no thing to save"):
        storage.save(3, tmp_path / "x")  # pyright: ignore[reportArgumentType]


# NaN, infinity, and what JSON cannot hold.


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, "notes.a.b.1: nan cannot be written as JSON"),
        ({"a": float("inf")}, "notes.a: inf cannot be written as JSON"),
        ({"a": np.float32("nan")}, "notes.a: nan cannot be written as JSON"),
        ({"a": {1: 2}}, "notes.a: the key 1 cannot be written as JSON"),
        ({"a": {1, 2}}, "notes.a: a set cannot be written as JSON"),
    ],
)
def test_notes_that_json_cannot_hold_are_refused(notes: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as caught:
        storage.save(replace(a_program(), notes=notes), tmp_path / "p.safetensors")
    assert said in str(caught.value) and not list(tmp_path.iterdir())


def test_nan_in_a_network_or_cost_is_refused(tmp_path: Path) -> None:
    network = a_network()
    broken = replace(network, layers=(replace(network.layers[0], gain=np.array([np.nan])), *network.layers[1:]))
    with pytest.raises(FileRefused, match="network net: conv.gain: holds NaN or infinity"):
        storage.save(broken, tmp_path / "n.safetensors")
    with pytest.raises(MemspikeError, match="cost: latency is inf; expected a finite number"):
        replace(a_cost(), latency=float("inf"))


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    network = a_network()
    with pytest.raises(FileRefused, match="has two layers called 'conv'"):
        storage.save(replace(network, layers=(network.layers[0], network.layers[0])), tmp_path / "n.safetensors")


# Chips.

CHIP = """
name = "mine"
title = "a chip of one's own"
timestep = { value = 1.0e-8, unit = "s", source = "assumed", standing = "assumed" }
window_overhead = { value = 2e-8, unit = "s", source = "assumed", standing = "assumed" }
bits_per_cell = 2
partial_sums = "analog"
max_stacked_tiles = 4

[crossbar]
rows = 8
columns = 8
read_voltage = { value = 0.1, unit = "V", source = "assumed", standing = "assumed" }
wire_resistance = { value = 0, unit = "ohm", source = "assumed", standing = "assumed" }

[crossbar.device]
name = "cell"
g_min = { value = 1e-6, unit = "S", source = "assumed", standing = "assumed" }
g_max = { value = 1e-4, unit = "S", source = "assumed", standing = "assumed" }
levels = 4

[neuron]
kind = "up_down"
max_spikes_per_timestep = 1
""" + "".join(
    f"""
[[components]]
name = "{c.name}"
energy = {{ {", ".join(f'{action} = {{ value = 1e-12, unit = "J", source = "assumed", standing = "assumed" }}' for action in c.energy)} }}
area = {{ value = 1e-12, unit = "m2", source = "assumed", standing = "assumed" }}
leakage = {{ value = 1e-6, unit = "W", source = "assumed", standing = "assumed" }}
"""
    for c in small_chip().components
)


def test_a_chip_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(CHIP)
    chip = storage.load_chip(path)
    assert chip == storage.load_chip(str(path)) == storage.load(path, Chip)
    assert chip.name == "mine" and chip.timestep.value == 1e-8 and chip.crossbar.device.levels == 4
    assert chip.component("neuron").energy["fire"].unit == "J"


def test_every_chip_that_comes_along_is_read() -> None:
    assert {"predictive", "liu2018"} <= set(storage.chip_names())
    for name in storage.chip_names():
        assert storage.load_chip(name).name == name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rows = 8\n", "", "crossbar.rows: is missing"),
        ("rows = 8\n", "rows = 8.0\n", "crossbar.rows: is 8.0; expected a valid integer"),
        ("rows = 8\n", "rows = true\n", "crossbar.rows: is True; expected a valid integer"),
        ("rows = 8\n", "rows = 2020-01-01\n", "crossbar.rows: is '2020-01-01'; expected a valid integer"),
        ("rows = 8\n", "rows = 8\ncolumms = 8\n", "crossbar.columms: is no known key\n  did you mean 'columns'?"),
        ('kind = "up_down"', 'kind = "down"', "neuron.kind: is 'down'; expected 'up_down', 'two_phase', 'dual' or 'fire_only'"),
        ('value = 1e-6, unit = "S"', 'value = -1e-6, unit = "S"', "crossbar.device.g_min: -1e-06 S is no hardware number"),
        ('value = 1e-6, unit = "S"', 'value = nan, unit = "S"', "crossbar.device.g_min: nan S is no hardware number"),
        ('value = 1e-6, unit = "S"', 'value = "1e-6", unit = "S"', "crossbar.device.g_min.value: is '1e-6'; expected a valid number"),
        ('value = 1.0e-8, unit = "s"', 'value = 10, unit = "ns"', "timestep: is given in 'ns'; chips are in SI, here in 's'\n  convert the value"),
        ('fire = { value = 1e-12, unit = "J"', 'fire = { value = 1, unit = "pJ"', "components.neuron.energy.fire: is given in 'pJ'"),
        ('name = "adder"', 'name = "addder"', "chip mine: component 'adder' with energies for add is missing"),
        ("levels = 4", "levels = 3", "chip mine: 2 bits per cell need 4 levels, the device has 3"),
        ("[neuron]", "[neuron", "is no TOML: "),
        ("rows = 8\n", f"rows = {'9' * 5000}\n", "is no TOML: "),
        ("rows = 8\n", f"rows = {'[' * 3000}\n", "is no TOML: "),
        ("rows = 8\n", "rows = 2000000\n", "a crossbar has at most 1048576 rows and columns"),
        ('name = "mine"', 'name = "mi\\u001b[2Jne"', "name: 'mi\\x1b[2Jne' holds control characters"),
        ('value = 1.0e-8, unit = "s"', 'value = 1e305, unit = "s"', "timestep: 1e+305 s is no hardware number; expected at most 1e+18"),
        ('area = { value = 1e-12, unit = "m2", source = "assumed", standing = "assumed" }', "", "components.cell.area: is missing"),
    ],
)
def test_a_mistake_in_a_chip_is_named_by_its_key(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in CHIP
    path = tmp_path / "mine.toml"
    path.write_text(CHIP.replace(old, new, 1))
    with pytest.raises(ChipError) as caught:
        storage.load_chip(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_signs_that_papers_have_are_plain_text(tmp_path: Path) -> None:
    """A no-break space, a soft hyphen, a micro sign: nothing that a terminal obeys; and what was saved is read back."""
    text = "p.\u00a012, 40\u202f\u00b5S, mem\u00adristor"
    path = tmp_path / "mine.toml"
    path.write_text(CHIP.replace('source = "assumed"', f'source = "{text}"', 1), encoding="utf-8")
    chip = storage.load_chip(path)
    assert text in {quantity.source for quantity in chip.quantities().values()}
    assert storage.load(storage.save(chip, tmp_path / "mine.json"), Chip) == chip


def test_an_unknown_chip_gets_a_suggestion() -> None:
    with pytest.raises(ChipError) as caught:
        storage.load_chip("predictiv")
    names = ", ".join(storage.chip_names())
    assert str(caught.value) == f"no chip is called 'predictiv'\n  did you mean 'predictive'? chips are: {names}; or give the path of a .toml file"
    with pytest.raises(FileRefused, match="cannot be read: no such file or directory"):
        storage.load_chip("nowhere/x.toml")


# Writing.


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_text(tmp_path / "x.txt", "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileRefused) as caught:
        files.write_text(path, "new")
    assert str(caught.value) == f"{path}: cannot be written: no space left on device\n  make room there, or name a folder on another disk"
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_whole_files_with_the_usual_rights(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "x.txt", "old and long")
    os.link(path, tmp_path / "reader")  # whoever has the old file open keeps all of it
    files.write_bytes(path, b"new")
    (tmp_path / "plain").touch()
    assert (tmp_path / "reader").read_text() == "old and long"
    assert path.read_bytes() == b"new" and path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_folder_and_a_folder_as_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="cannot be written: no such file or directory"):
        files.write_text(tmp_path / "no" / "x.txt", "x")
    with pytest.raises(FileRefused, match="cannot be written: is a directory"):
        files.write_text(tmp_path, "x")


def test_a_file_longer_than_its_limit_is_not_read(tmp_path: Path) -> None:
    path = files.write_bytes(tmp_path / "x", b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(FileRefused, match="is longer than 4 bytes"):
        read_bytes(path, 4)


def test_a_layer_may_be_called_like_the_tables_of_a_mapping(tmp_path: Path) -> None:
    program = one_conv(1, 2, 3, 4)
    ops = tuple(replace(op, out=op.out.replace("conv", "tiles"), inputs=tuple(name.replace("conv", "tiles") for name in op.inputs)) for op in program.ops)
    mapping = mapper.map(replace(program, ops=ops), small_chip(16, 16, bits_per_cell=3))
    found = storage.load(storage.save(mapping, tmp_path / "mapping.safetensors"), Mapping)
    assert str(found.program) == str(mapping.program) and np.array_equal(found.weights("tiles.sum"), mapping.weights("tiles.sum"))


def test_costs_that_no_chip_has_are_refused(tmp_path: Path) -> None:
    path = storage.save(a_cost(), tmp_path / "c.json")
    for old, new, says in (
        ('"latency": 1e-06', '"latency": NaN', "latency is nan"),
        ('"latency": 1e-06', '"latency": -1.0', "latency is -1.0"),
        ('"count": 12.5', '"count": -12.5', "count is -12.5"),
        ('"window": 1.8e-07', '"window": Infinity', "window is inf"),
    ):
        text = path.read_text()
        assert old in text
        (tmp_path / "d.json").write_text(text.replace(old, new))
        with pytest.raises(MemspikeError, match=re.escape(says)):
            storage.load(tmp_path / "d.json")


def test_a_result_has_scores_for_each_of_its_images(tmp_path: Path) -> None:
    path = storage.save(a_result(), tmp_path / "r.npz")
    arrays = dict(np.load(path))
    for scores, says in (
        (arrays["scores"][:1], "scores [1, 2] of 2 images; expected a row for each, and a class"),
        (arrays["scores"][:, :0], "scores [2, 0] of 2 images; expected a row for each, and a class"),
        (np.full((2, 2), 2**63 + 5, np.uint64), "a score is 9223372036854775813, more than int64 holds"),
    ):
        write_arrays(path, arrays | {"scores": scores})
        with pytest.raises(FileRefused, match=re.escape(says)):
            storage.load(path)


def test_a_chip_of_json_is_held_to_what_one_of_toml_is(tmp_path: Path) -> None:
    path = storage.save(storage.load_chip("predictive"), tmp_path / "c.json")
    tree = json.loads(path.read_text())
    for changed, says in (
        ({**tree, "chip": {**tree["chip"], "title": "\x1b[2Jhi"}}, "holds control characters; expected plain text"),
        ({**tree, "chips": 3}, "has an unknown entry 'chips' beside 'chip'"),
        ({**tree, "version": 9}, "has file version 9; this memspike reads version"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(MemspikeError, match=re.escape(says)):
            storage.load_chip(path)


def test_text_that_cannot_be_encoded_is_not_written(tmp_path: Path) -> None:
    program = replace(a_program(), notes={"source": "caf\udce9"})
    with pytest.raises(FileRefused, match=re.escape("notes.source: 'caf\\udce9', which is no text, cannot be written as JSON")):
        storage.save(program, tmp_path / "p.safetensors")


def test_a_link_stays_one_and_a_file_keeps_its_readers(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = storage.save(a_cost(), tmp_path / "real" / "c.json")
    path.chmod(0o600)
    (tmp_path / "link.json").symlink_to(path)
    storage.save(replace(a_cost(), latency=2e-6), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink() and storage.load(path).latency == 2e-6
    assert path.stat().st_mode & 0o777 == 0o600


def test_reading_takes_as_much_memory_as_there_is_to_read(tmp_path: Path) -> None:
    """Batch systems limit what a process may ask for; a file of 1 KB once asked for 2 GiB."""
    (tmp_path / "small").write_bytes(bytes(1000))
    script = (
        "import resource, sys; from memspike.files import read_bytes; resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2); print(len(read_bytes('small')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "1000\n", done.stderr
