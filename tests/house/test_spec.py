"""The spec is complete: the interpreter printed on its page, which knows nothing but the page, computes what `Program.evaluate` does."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from memspike.compiler import SplitPartialSums
from memspike.integer import Integers, IntType
from memspike.ops import OPS
from memspike.pixels import DITHERS
from memspike.program import Program
from memspike.storage import save
from pixel_codes import pixel_codes
from random_programs import images_for, programs

PAGE = (Path(__file__).parents[2] / "docs" / "spec" / "program.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
Run = Callable[[str, dict[str, Integers], Integers], Integers]


def _interpreter() -> Run:
    names: dict[str, Any] = {}
    exec(compile(CODE, "docs/spec/program.md", "exec"), names)  # noqa: S102  the page's own code, run to prove that it is right
    return names["run"]


RUN = _interpreter()


def test_the_interpreter_is_short_and_independent() -> None:
    lines = [line for line in CODE.splitlines() if line.strip()]
    assert len(lines) <= 60
    assert set(re.findall(r"^(?:import|from) (\w+)", CODE, re.MULTILINE)) == {"re", "numpy"}


@settings(max_examples=150)
@given(programs(), st.integers(0, 1000))
def test_the_interpreter_computes_what_the_program_means(program: Program, seed: int) -> None:
    images = images_for(program, seed, 4)
    np.testing.assert_array_equal(RUN(str(program), program.constants(), images), program.evaluate(images))


@settings(max_examples=20)
@given(programs(), st.integers(0, 1000))
def test_split_programs_too(program: Program, seed: int) -> None:
    split = SplitPartialSums(rows=10).apply(program)
    images = images_for(program, seed, 3)
    np.testing.assert_array_equal(RUN(str(split), split.constants(), images), split.evaluate(images))


@settings(max_examples=5)
@given(program=programs())
def test_a_saved_file_is_laid_out_as_the_page_says(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = save(program, tmp_path_factory.mktemp("spec") / "random.safetensors")
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert sorted(metadata) == ["memspike", "notes", "sha256", "text", "version"]
    assert (metadata["memspike"], metadata["version"]) == ("program", "1")
    images = images_for(program, 0, 3)
    np.testing.assert_array_equal(RUN(metadata["text"], safetensors.numpy.load_file(path), images), program.evaluate(images))
    assert path.read_bytes()[35:99].decode() == metadata["sha256"]


@given(st.integers(1, 6), st.sampled_from(DITHERS[1:]), st.integers(1, 5), st.data())
def test_pixels_are_counted_as_the_page_says(bits: int, p: int, num_channels: int, data: st.DataObject) -> None:
    bayer = {int(size): np.array(eval(matrix)) for size, matrix in re.findall(r"`bayer\[(\d)\] = (\[[\d, \[\]]*\])`", PAGE)}  # noqa: S307  the page's own numbers
    rank, whole, dithered, line = (re.search(rf"^    {name} = (?:floor.* = )?(.*)$", PAGE, re.MULTILINE)[1] for name in ("rank", "n", "n ", "count"))  # type: ignore[index]
    code = data.draw(pixel_codes(bits))
    low, high, lines = code.low, code.high, code.lines
    pixels = np.random.default_rng(low).integers(0, 256, (3, num_channels, 9, 6), dtype=np.uint8)
    c, i, j = np.indices(pixels.shape[1:])
    names = {"C": num_channels, "p": p, "P": num_channels * p * p, "c": c, "i": i, "j": j, "L": lines}
    names |= {"pixel": pixels.astype(int), "max": 2**bits - 1, "low": low, "high": high}
    ranks = eval(rank.replace("bayer[p][i % p][j % p]", "bayer"), {**names, "bayer": bayer[p][i % p, j % p]})  # noqa: S307
    for dither, formula in ((0, whole), (p, dithered)):
        n = eval(formula, {**names, "rank": ranks}).clip(0, lines * (2**bits - 1))  # noqa: S307
        wanted = np.stack([eval(line, {"n": n, "l": l, "L": lines}) for l in range(lines)], axis=2).reshape(3, -1, 9, 6)  # noqa: S307, E741
        np.testing.assert_array_equal(replace(code, dither=dither).counts(pixels, IntType(bits)), wanted)


def test_every_op_and_number_stands_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE[PAGE.index("## Ops") :], re.MULTILINE))
    for word, op in OPS.items():
        numbers = [field.name for field in fields(op)][2:]  # after out and inputs
        assert re.findall(r"`(\w+)`", rows[word]) == numbers


@settings(max_examples=30)
@given(programs())
def test_digests_are_computed_as_the_page_says(program: Program) -> None:
    digests = {}
    for name, array in program.constants().items():
        little = b"".join(int(v).to_bytes(8, "little", signed=True) for v in array.ravel())
        digests[name] = hashlib.sha256(str(list(array.shape)).encode() + little).hexdigest()
    version, _, *lines, last = str(program).splitlines()
    short = {line.split(":")[0]: f"v{i}" for i, line in enumerate(lines)}
    renamed = [version]
    for line in lines:
        out, type, op, inputs, rest = re.fullmatch(r"(\S+): (.*?) = (\w+)\(?(.*?)\)?((?: \w+=.*)?)", line).groups()  # pyright: ignore[reportOptionalMemberAccess]
        rest = re.sub(r"(\w+)=(\[.*?\])@(\w+)", lambda found: f"{found[1]}={found[2]}@{digests[f'{out}.{found[1]}']}", rest)  # noqa: B023
        arguments = f"({', '.join(short[name] for name in inputs.split(', '))})" if op != "input" else ""
        renamed.append(f"{short[out]}: {type} = {op}{arguments}{rest}")
    renamed.append(f"return {short[last.split()[1]]}")
    assert hashlib.sha256("\n".join(renamed).encode()).hexdigest() == program.digest()
