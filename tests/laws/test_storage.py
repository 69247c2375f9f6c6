"""Law: text and file come back. Every program that exists is read from its file as it was, notes included."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from chips import test_chip as small_chip
from memspike import mapper, storage
from memspike.mapping import Mapping
from memspike.program import Program
from random_programs import programs

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
notes = st.dictionaries(st.text(), st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8), max_size=4)


@settings(max_examples=60)
@given(programs(), notes)
def test_a_program_comes_back_from_its_file(program: Program, notes: dict) -> None:
    program = Program(program.name, program.input, program.input_type, program.ops, program.output, notes, program.pixels)
    with tempfile.TemporaryDirectory() as folder:
        path = storage.save(program, Path(folder) / "p.safetensors")
        back = storage.load(path, Program)
        again = storage.save(back, Path(folder) / "again.safetensors")
        assert path.read_bytes() == again.read_bytes()
    assert str(back) == str(program) and back.digest() == program.digest() and back.notes == notes


@settings(max_examples=25)
@given(programs(), st.integers(4, 40), st.integers(1, 4))
def test_a_mapping_comes_back_from_its_file(program: Program, rows: int, bits_per_cell: int) -> None:
    mapping = mapper.map(program, small_chip(rows=rows, columns=32, bits_per_cell=bits_per_cell))
    with tempfile.TemporaryDirectory() as folder:
        path = storage.save(mapping, Path(folder) / "m.safetensors")
        back = storage.load(path, Mapping)
        assert path.read_bytes() == storage.save(back, Path(folder) / "again.safetensors").read_bytes()
    assert (back.program, back.chip, back.layers) == (program, mapping.chip, mapping.layers)
    assert all((one.levels == other.levels).all() for one, other in zip(mapping.tiles, back.tiles, strict=True))
    for op in {plan.op for plan in mapping.layers}:
        assert (back.weights(op) == mapping.weights(op)).all()
