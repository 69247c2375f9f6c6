"""Program: a straight list of typed integer ops; its text, its parser, its meaning, its digest."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import OPS, Fire, Op, Pair, TensorType
from memspike.pixels import PixelCode

VERSION = 1
MAX_OPS = 100_000
MAX_ELEMENTS = 2**31  # of one value of one image: a file cannot ask for more memory than that
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
_LINE = re.compile(r"(?P<out>\S+): (?P<type>[ui]\d+\[[\d, ]*\]) = (?P<word>\w+)\((?P<inputs>[^()]*)\)(?P<numbers>.*)")
_NUMBER = re.compile(r" (\w+)=(\[[\d, ]*\]@[0-9a-f]{16}|\([\d, ]*\)|[ui]\d+|\d+)")


@dataclass(frozen=True, eq=False)
class Program:
    """An exact integer network: `input`, then `ops` in order, and the value named `output` as the scores.

    A program that exists is right: names, shapes, types and the absence of overflow are checked when it is
    made (ProgramError names the first thing wrong). `notes` (how it was trained, say) do not change its meaning. `pixels` says how
    those of an image become the counts of the input.
    """

    name: str
    input: str
    input_type: TensorType
    ops: tuple[Op, ...]
    output: str
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pixels: PixelCode = PixelCode()
    types: Mapping[str, TensorType] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", _infer_types(self))

    def op(self, name: str) -> Op:
        """The op that defines the value `name`; raises ProgramError when there is none."""
        for op in self.ops:
            if op.out == name:
                return op
        raise ProgramError(f"no op defines {name!r}", where=f"program {self.name}", cure=f"ops are: {', '.join(o.out for o in self.ops)}")

    def users(self, name: str) -> tuple[Op, ...]:
        """The ops that read the value `name`."""
        return tuple(op for op in self.ops if name in op.inputs)

    def evaluate(self, images: Integers) -> Integers:
        """Scores `[n, classes]` of integer images `[n, ...]`: the meaning, in plain int64 numpy."""
        return self.evaluate_all(images)[self.output]

    def evaluate_all(self, images: Integers) -> dict[str, Integers]:
        """Every value of the program by name, each `[n, ...]`; raises ProgramError when the images do not fit."""
        values = {self.input: self.check_images(images)}
        for op in self.ops:
            values[op.out] = op.evaluate(*(values[name] for name in op.inputs))
        return values

    def count_pixels(self, images: NDArray[np.uint8]) -> Integers:
        """The images that the program takes, int64 `[n, ...]`, of pixels 0..255 `[n, channels, rows, columns]`; ProgramError for images of another shape."""
        images = np.asarray(images)
        channels, *size = self.input_type.shape
        wanted = [channels // self.pixels.lines, *size]
        if list(images.shape[1:]) != wanted:
            what = f"takes images [n, {', '.join(map(str, wanted))}], got {list(images.shape)}"
            raise ProgramError(what, where=f"program {self.name}", cure="one image is images[:1]")
        return self.pixels.counts(images, self.input_type.type)

    def check_images(self, images: Integers) -> Integers:
        """The images as int64 `[n, ...]`, if they are integers of the input's shape and range."""
        images = np.asarray(images)
        wanted = self.input_type
        if not np.issubdtype(images.dtype, np.integer) or images.shape[1:] != wanted.shape:
            raise ProgramError(f"takes images {wanted}, got {images.dtype} {list(images.shape[1:])}", where=f"program {self.name}")
        if images.size and not wanted.type.holds(int(images.min()), int(images.max())):
            raise ProgramError(f"takes counts from 0 to {wanted.type.max}, got {images.min()} to {images.max()}", where=f"program {self.name}")
        return images.astype(np.int64)

    def constants(self) -> dict[str, Integers]:
        """Every integer array of the program, named `<op>.<field>`."""
        return {f"{op.out}.{name}": array for op in self.ops for name, array in op.constants().items()}

    def digest(self) -> str:
        """SHA-256 of the meaning: equal programs have equal digests, whatever their values are called."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        alias = {name: f"v{i}" for i, name in enumerate(self.types)}
        lines = [f"memspike program {VERSION}", f"v0: {self.input_type} = input{self.pixels}"]
        lines += [_line(op, self.types[op.out], alias, digits=64) for op in self.ops]
        return hashlib.sha256("\n".join([*lines, f"return {alias[self.output]}"]).encode()).hexdigest()

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        same = {name: name for name in self.types}
        lines = [f"memspike program {VERSION}", f"name {self.name}", f"{self.input}: {self.input_type} = input{self.pixels}"]
        lines += [_line(op, self.types[op.out], same, digits=16) for op in self.ops]
        return "\n".join([*lines, f"return {self.output}"]) + "\n"

    def __repr__(self) -> str:
        return f"<Program {self.name}: {len(self.ops)} ops, {self.input_type} -> {self.types[self.output]}, digest {self.digest()[:16]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and str(self) == str(other) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @classmethod
    def parse(cls, text: str, constants: Mapping[str, Integers], notes: Mapping[str, Any] | None = None) -> "Program":
        """The program that `text` describes, its arrays taken from `constants`; the inverse of `str(program)`.

        Raises ProgramError naming the first line that is wrong.
        """
        lines = text.rstrip("\n").split("\n")
        if len(lines) < 4 or lines[0] != f"memspike program {VERSION}":
            raise ProgramError(f"begins with {lines[0][:60]!r}; expected 'memspike program {VERSION}'", where="line 1")
        if len(lines) > MAX_OPS:
            raise ProgramError(f"has {len(lines)} lines; at most {MAX_OPS} are read")
        name = _after("name ", lines[1], 2)
        head = re.fullmatch(r"(\S+): (\S+\[[\d, ]*\]) = input( .*)?", lines[2])
        if not head:
            raise ProgramError(f"{lines[2][:60]!r}; expected '<name>: <type>[<shape>] = input'", where="line 3")
        ops: list[Op] = []
        written = {head[1]: _tensor_type(head[2], 3)}
        for number, line in enumerate(lines[3:-1], start=4):
            op, type = _parse_line(line, number, constants)
            ops.append(op)
            written[op.out] = type
        program = cls(name, head[1], written[head[1]], tuple(ops), _after("return ", lines[-1], len(lines)), dict(notes or {}), _pixel_code(head[3] or ""))
        for number, (value, type) in enumerate(written.items(), start=3):
            if program.types[value] != type:
                raise ProgramError(f"{value} is written as {type}, but its op gives {program.types[value]}", where=f"line {number}")
        unused = sorted(constants.keys() - program.constants().keys())
        if unused:
            raise ProgramError(f"constant {unused[0]!r} belongs to no op")
        return program


def fired_by(program: Program, name: str) -> Fire | None:
    """The Fire that alone reads the sum `name`, if there is one: sum and Fire are one layer of neurons."""
    users = program.users(name)
    return users[0] if len(users) == 1 and isinstance(users[0], Fire) else None


def _infer_types(program: Program) -> dict[str, TensorType]:
    where = f"program {program.name}"
    for name in (program.name, program.input, *(op.out for op in program.ops)):
        if not _NAME.fullmatch(name):
            raise ProgramError(f"{name!r} is no name; letters, digits, '_', '.' and '-' are, up to 200", where=where)
    if program.input_type.type.signed or not program.input_type.shape or min(program.input_type.shape) < 1:
        raise ProgramError(f"takes unsigned counts of a shape without empty axes, not {program.input_type}", where=where)
    try:
        program.pixels.check(program.input_type.type, program.input_type.shape)
    except ProgramError as error:
        raise ProgramError(error.what, where=where, cure=error.cure) from error
    types = {program.input: program.input_type}
    for op in program.ops:
        if op.out in types:
            raise ProgramError(f"defines {op.out!r} twice", where=where)
        missing = [name for name in op.inputs if name not in types]
        if missing:
            raise ProgramError(f"op {op.out} reads {missing[0]!r}, which no earlier op defines", where=where)
        types[op.out] = op.infer(*(types[name] for name in op.inputs))
        if math.prod(types[op.out].shape) > MAX_ELEMENTS:
            raise ProgramError(f"value {op.out!r} has more than {MAX_ELEMENTS} elements", where=where)
    if program.output not in types or len(types[program.output].shape) != 1:
        raise ProgramError(f"returns {program.output!r}; expected the name of a vector of scores", where=where)
    read = {name for op in program.ops for name in op.inputs} | {program.output}
    dead = [name for name in types if name not in read]
    if dead:
        raise ProgramError(f"value {dead[0]!r} is never used", where=where)
    return types


def _line(op: Op, type: TensorType, names: Mapping[str, str], digits: int) -> str:
    arrays = [f" {k}=[{', '.join(map(str, a.shape))}]@{_array_digest(a)[:digits]}" for k, a in op.constants().items()]
    numbers = [f" {k}={_literal(v)}" for k, v in op.numbers().items()]
    return f"{names[op.out]}: {type} = {op.word}({', '.join(names[i] for i in op.inputs)}){''.join(arrays + numbers)}"


def _pixel_code(text: str) -> PixelCode:
    try:
        return PixelCode.parse(text)
    except ProgramError as error:
        raise ProgramError(error.what, where="line 3", cure=error.cure) from error


def _literal(value: Any) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _array_digest(array: Integers) -> str:
    return hashlib.sha256(f"{list(array.shape)}".encode() + array.astype("<i8").tobytes()).hexdigest()


def _after(word: str, line: str, number: int) -> str:
    if not line.startswith(word):
        raise ProgramError(f"{line[:60]!r}; expected '{word}...'", where=f"line {number}")
    return line[len(word) :]


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _tensor_type(text: str, number: int) -> TensorType:
    type, _, shape = text.rstrip("]").partition("[")
    try:
        return TensorType(_integers(shape), IntType.parse(type))
    except (ProgramError, ValueError) as error:
        raise ProgramError(f"{text[:60]!r} is no type", where=f"line {number}") from error


def _parse_line(line: str, number: int, constants: Mapping[str, Integers]) -> tuple[Op, TensorType]:
    where = f"line {number}"
    match = _LINE.fullmatch(line)
    if not match or _NUMBER.sub("", match["numbers"]):
        raise ProgramError(f"{line[:80]!r}; expected '<name>: <type> = <op>(<inputs>) <field>=<number> ...'", where=where)
    if match["word"] not in OPS:
        raise ProgramError(f"unknown op {match['word']!r}; known are {', '.join(OPS)}", where=where)
    wanted = {f.name: f.type for f in fields(OPS[match["word"]])[2:]}  # after out and inputs
    numbers = _NUMBER.findall(match["numbers"])
    if sorted(key for key, _ in numbers) != sorted(wanted):
        raise ProgramError(f"{match['word']} needs the fields {', '.join(wanted)}, each once", where=where)
    values: dict[str, Any] = {}
    for key, text in numbers:
        value = _constant(f"{match['out']}.{key}", text, constants, where) if text.startswith("[") else _parse_literal(text, where)
        if not _is_of(value, wanted[key]):
            raise ProgramError(f"{key}={text[:40]} is no value for the {key} of a {match['word']}", where=where)
        values[key] = value
    inputs = tuple(part.strip() for part in match["inputs"].split(",") if part.strip())
    return OPS[match["word"]](match["out"], inputs, **values), _tensor_type(match["type"], number)


def _parse_literal(text: str, where: str) -> int | tuple[int, ...] | IntType:
    try:
        if text.startswith("("):
            return _integers(text.strip("()"))
        return int(text) if text.isdecimal() else IntType.parse(text)
    except (ProgramError, ValueError) as error:
        raise ProgramError(f"{text[:40]!r} is neither a number, a pair nor a type", where=where) from error


def _is_of(value: Any, kind: Any) -> bool:
    if kind == Pair:
        return isinstance(value, tuple) and len(value) == 2  # pyright: ignore[reportUnknownArgumentType]
    return isinstance(value, np.ndarray if kind == Integers else kind)


def _constant(name: str, text: str, constants: Mapping[str, Integers], where: str) -> Integers:
    shape, _, digest = text.partition("@")
    if name not in constants:
        raise ProgramError(f"constant {name!r} is missing", where=where)
    array = np.asarray(constants[name])
    if not np.issubdtype(array.dtype, np.integer) or str(list(array.shape)) != shape or _array_digest(array)[:16] != digest:
        raise ProgramError(f"constant {name!r} is not the one the text speaks of (shape, SHA-256 or kind of number differs)", where=where)
    return array
