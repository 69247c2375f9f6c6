"""Program: what it means, how it is written, read and identified, and every refusal with its exact message."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import Add, Charge, Concat, Conv2d, Dense, Fire, Flatten, Op, Slice, TensorType
from memspike.pixels import DITHERS, PixelCode
from memspike.program import MAX_ELEMENTS, Program, fired_by

U4, I4 = IntType(4), IntType(4, signed=True)
OPS: tuple[Op, ...] = (
    Conv2d("conv.sum", ("image",), np.arange(-8, 8).reshape(2, 2, 2, 2), I4, padding=(1, 0)),
    Fire("conv", ("conv.sum",), np.array([5, 6]), np.array([2, -3]), 2, U4),
    Flatten("flat", ("conv",)),
    Dense("scores.sum", ("flat",), np.tile([[1], [-1]], 16), I4),
    Charge("scores", ("scores.sum",), np.array([7, 0]), 1),
)
PROGRAM = Program("small", "image", TensorType((2, 3, 3), U4), OPS, "scores", {"seed": 1})
TEXT = """memspike program 1
name small
image: u4[2, 3, 3] = input
conv.sum: i11[2, 4, 2] = conv2d(image) weight=[2, 2, 2, 2]@c0 weight_type=i4 stride=(1, 1) padding=(1, 0) dilation=(1, 1) groups=1
conv: u4[2, 4, 2] = fire(conv.sum) threshold=[2]@c1 charge=[2]@c2 fraction_bits=2 type=u4
flat: u4[16] = flatten(conv)
scores.sum: i9[2] = dense(flat) weight=[2, 16]@c3 weight_type=i4 groups=1
scores: i11[2] = charge(scores.sum) charge=[2]@c4 fraction_bits=1
return scores
"""


def test_the_text_is_one_line_for_each_op() -> None:
    found = re.findall(r"@[0-9a-f]{16}", str(PROGRAM))
    text = str(PROGRAM)
    for i, digest in enumerate(found):
        text = text.replace(digest, f"@c{i}")
    assert text == TEXT


def test_evaluating_gives_every_value_and_the_scores() -> None:
    images = np.random.default_rng(0).integers(0, 16, (5, 2, 3, 3))
    values = PROGRAM.evaluate_all(images)
    assert list(values) == ["image", "conv.sum", "conv", "flat", "scores.sum", "scores"]
    np.testing.assert_array_equal(values["scores"], PROGRAM.evaluate(images))
    np.testing.assert_array_equal(values["scores"], np.stack([values["flat"].sum(1) * 2 + 7, -values["flat"].sum(1) * 2], axis=1))
    np.testing.assert_array_equal(PROGRAM.evaluate(images.astype(np.uint8)), PROGRAM.evaluate(images))
    assert PROGRAM.evaluate(images[:0]).shape == (0, 2)


def test_types_names_and_users() -> None:
    assert {name: str(type) for name, type in PROGRAM.types.items()} == dict(re.findall(r"^(\S+): (.*?) =", TEXT, re.MULTILINE))
    assert PROGRAM.op("flat") is OPS[2] and PROGRAM.users("conv") == (OPS[2],)
    assert fired_by(PROGRAM, "conv.sum") is OPS[1] and fired_by(PROGRAM, "scores.sum") is None
    assert list(PROGRAM.constants()) == ["conv.sum.weight", "conv.threshold", "conv.charge", "scores.sum.weight", "scores.charge"]
    assert repr(PROGRAM) == f"<Program small: 5 ops, u4[2, 3, 3] -> i11[2], digest {PROGRAM.digest()[:16]}>"


def test_the_digest_is_the_same_in_every_release() -> None:
    assert PROGRAM.digest() == "d2115c080182f1897519a5c1a56f561e287c7683618dddd0bc7b2b13c5dcbe27"


def renamed(op: Op) -> Op:
    return replace(op, out=f"x.{op.out}", inputs=tuple(name if name == "image" else f"x.{name}" for name in op.inputs))


def test_names_and_notes_do_not_change_the_digest() -> None:
    other = Program("other", "image", PROGRAM.input_type, tuple(map(renamed, OPS)), "x.scores")
    assert other.digest() == PROGRAM.digest() and other != PROGRAM
    assert replace(PROGRAM, notes={}) == PROGRAM and hash(replace(PROGRAM, notes={})) == hash(PROGRAM)
    assert PROGRAM != "small"


def changed(array: Integers, by: int = 1) -> Integers:
    copy = array.copy()
    copy.flat[0] += by
    return copy


CHANGES: list[tuple[int, dict[str, Any]]] = [
    (0, {"weight": changed(OPS[0].constants()["weight"])}),
    (0, {"weight_type": IntType(5, signed=True)}),
    (0, {"padding": (0, 0), "weight": np.ones((2, 2, 1, 2))}),
    (1, {"threshold": np.array([5, 7])}),
    (1, {"threshold": np.array([6, 5])}),
    (1, {"charge": np.array([2, -4])}),
    (1, {"fraction_bits": 3}),
    (1, {"type": IntType(5)}),
    (3, {"weight": changed(OPS[3].constants()["weight"])}),
    (4, {"charge": np.array([7, 1])}),
    (4, {"fraction_bits": 0}),
]


@pytest.mark.parametrize(("index", "change"), CHANGES)
def test_any_other_number_changes_the_digest(index: int, change: dict[str, Any]) -> None:
    head = OPS[3] if "padding" not in change else replace(OPS[3], weight=np.tile([[1], [-1]], 12))  # pyright: ignore[reportCallIssue]
    ops = tuple(replace(op, **change) if i == index else head if i == 3 else op for i, op in enumerate(OPS))
    assert replace(PROGRAM, ops=ops).digest() != PROGRAM.digest()


def test_another_input_or_output_changes_the_digest() -> None:
    assert replace(PROGRAM, input_type=TensorType((2, 3, 3), IntType(3))).digest() != PROGRAM.digest()
    codes = [PixelCode(dither, lines, low, high) for dither in DITHERS for lines in (1, 2) for low in (0, 9) for high in (99, 255)]
    assert len({replace(PROGRAM, pixels=code).digest() for code in codes}) == len(codes)
    ops = (Add("a", ("image",), U4), Add("b", ("image",), U4), Add("c", ("a", "b"), U4))
    two = Program("two", "image", TensorType((2,), U4), ops, "c")
    swapped = replace(two, ops=(*ops[:2], Add("c", ("a", "a"), U4), Add("d", ("b", "c"), U4)), output="d")
    assert two.digest() != swapped.digest()


def test_reading_the_text_gives_the_program() -> None:
    again = Program.parse(str(PROGRAM), PROGRAM.constants(), PROGRAM.notes)
    assert again == PROGRAM and str(again) == str(PROGRAM) and again.notes == {"seed": 1}


def simple(*ops: Op, output: str = "y", type: TensorType | None = None, name: str = "p") -> Program:
    return Program(name, "x", type or TensorType((2,), U4), ops, output)


REFUSED = {
    "program a b: 'a b' is no name; letters, digits, '_', '.' and '-' are, up to 200": lambda: simple(Add("y", ("x",), U4), name="a b"),
    "program p: 'y\\n' is no name; letters, digits, '_', '.' and '-' are, up to 200": lambda: simple(Add("y\n", ("x",), U4)),
    "program p: takes unsigned counts of a shape without empty axes, not i4[2]": lambda: simple(Add("y", ("x",), U4), type=TensorType((2,), I4)),
    "program p: takes unsigned counts of a shape without empty axes, not u4[0]": lambda: simple(Add("y", ("x",), U4), type=TensorType((0,), U4)),
    "program p: takes unsigned counts of a shape without empty axes, not u4[]": lambda: simple(Add("y", ("x",), U4), type=TensorType((), U4)),
    "program p: defines 'x' twice": lambda: simple(Add("x", ("x",), U4)),
    "program p: defines 'y' twice": lambda: simple(Add("y", ("x",), U4), Add("y", ("x",), U4)),
    "program p: op y reads 'z', which no earlier op defines": lambda: simple(Add("y", ("z",), U4), Add("z", ("x",), U4)),
    "program p: returns 'z'; expected the name of a vector of scores": lambda: simple(Add("y", ("x",), U4), output="z"),
    "program p: returns 'y'; expected the name of a vector of scores": lambda: simple(Add("y", ("x",), U4), type=TensorType((1, 2, 2), U4)),
    "program p: value 'z' is never used": lambda: simple(Add("y", ("x",), U4), Slice("z", ("x",), 0, 1)),
    "op y: takes channels 0 to 3 of u4[2]": lambda: simple(Slice("y", ("x",), 0, 3)),
    f"program p: value 'y' has more than {MAX_ELEMENTS} elements": lambda: simple(Concat("y", ("x",) * 3), type=TensorType((2**30,), U4)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(message: str) -> None:
    with pytest.raises(ProgramError) as error:
        REFUSED[message]()
    assert str(error.value) == message


def test_asking_for_an_op_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ProgramError) as error:
        PROGRAM.op("fc")
    assert str(error.value) == "program small: no op defines 'fc'\n  ops are: conv.sum, conv, flat, scores.sum, scores"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 2, 3, 4), np.int64), "program small: takes images u4[2, 3, 3], got int64 [2, 3, 4]"),
        (np.zeros((2, 3, 3), np.int64), "program small: takes images u4[2, 3, 3], got int64 [3, 3]"),
        (np.zeros((1, 2, 3, 3)), "program small: takes images u4[2, 3, 3], got float64 [2, 3, 3]"),
        (np.full((1, 2, 3, 3), 16), "program small: takes counts from 0 to 15, got 16 to 16"),
        (np.full((1, 2, 3, 3), -1), "program small: takes counts from 0 to 15, got -1 to -1"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Any, message: str) -> None:
    with pytest.raises(ProgramError) as error:
        PROGRAM.evaluate(images)
    assert str(error.value) == message


def test_images_are_not_changed() -> None:
    images = np.full((1, 2, 3, 3), 3)
    values = PROGRAM.evaluate_all(images)
    values["image"][0] = 0
    assert images.min() == 3


LINE5 = "line 5: 'conv: u4[2, 4, 2] = fire(conv.sum) threshold=[2]@"
BROKEN = [
    ("memspike program 1", "memspike program 2", "line 1: begins with 'memspike program 2'; expected 'memspike program 1'"),
    ("name small", "nom small", "line 2: 'nom small'; expected 'name ...'"),
    ("= input", "= output", "line 3: 'image: u4[2, 3, 3] = output'; expected '<name>: <type>[<shape>] = input'"),
    ("= input", "= input dither=x", "line 3: ' dither=x' says nothing of pixels; expected ' range=<low>-<high>', ' dither=<number>'"),
    ("= input", "= input range=9-9", "line 3: a range of pixels from 9 to 9\n  a range lies within 0 to 255, its low end first"),
    ("= input", "= input dither=3", "line 3: unknown dither 3\n  known are: 0, 1, 2, 4 (0 for none)"),
    ("= input", "= input lines=3", "program small: images of shape [2, 3, 3] cannot be counted with lines=3"),
    ("= input", "= input lines=18", "program small: 18 lines of 4 bits count 271 levels, a pixel has 256\n  lines of 4 bits are of use up to 17"),
    ("u4[2, 3, 3]", "u0[2, 3, 3]", "line 3: 'u0[2, 3, 3]' is no type"),
    ("u4[2, 3, 3]", "u4[2 3, 3]", "line 3: 'u4[2 3, 3]' is no type"),
    ("flatten(conv)", "flatten(conv) start=1", "line 6: flatten needs the fields , each once"),
    ("flat: u4[16]", "flat: u4[17]", "line 6: flat is written as u4[17], but its op gives u4[16]"),
    ("= flatten(", "= unfold(", f"line 6: unknown op 'unfold'; known are {', '.join(['conv2d', 'dense', 'fire', 'charge', 'add'])}"),
    ("flatten(conv)", "flatten conv", "line 6: 'flat: u4[16] = flatten conv'; expected '<name>: <type> = <op>(<inputs>) <field>=<number> ...'"),
    ("stride=(1, 1)", "stride=1", "line 4: stride=1 is no value for the stride of a conv2d"),
    ("stride=(1, 1)", "stride=(1, 1, 1)", "line 4: stride=(1, 1, 1) is no value for the stride of a conv2d"),
    ("stride=(1, 1)", "stride=(1 1)", "line 4: '(1 1)' is neither a number, a pair nor a type"),
    (" groups=1", "", "line 4: conv2d needs the fields weight, weight_type, stride, padding, dilation, groups, each once"),
    (" groups=1", " groups=1 groups=1", "line 4: conv2d needs the fields weight, weight_type, stride, padding, dilation, groups, each once"),
    (" groups=1", " groups=u4", "line 4: groups=u4 is no value for the groups of a conv2d"),
    ("weight_type=i4", "weight_type=u99", "line 4: 'u99' is neither a number, a pair nor a type"),
    (" groups=1", f" groups={'9' * 5000}", f"line 4: '{'9' * 40}' is neither a number, a pair nor a type"),
    ("threshold=[2]", "threshold=[3]", "line 5: constant 'conv.threshold' is not the one the text speaks of (shape, SHA-256 or kind of number differs)"),
    ("conv: u4", "cove: u4", "line 5: constant 'cove.threshold' is missing"),
    ("fraction_bits=2", "fraction_bits=48", "op conv: fraction_bits lies between 0 and 47, got 48"),
    ("return scores", "return", "line 9: 'return'; expected 'return ...'"),
    ("return scores", "return flat", "program small: value 'scores' is never used"),
    ("padding=(1, 0)", "padding=(1, 99999999999)", "program small: value 'conv.sum' has more than 2147483648 elements"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=[new[:40] for _, new, _ in BROKEN])
def test_broken_texts_are_refused(old: str, new: str, message: str) -> None:
    assert old in str(PROGRAM)
    with pytest.raises(ProgramError) as error:
        Program.parse(str(PROGRAM).replace(old, new, 1), PROGRAM.constants())
    assert str(error.value).startswith(message)


def test_constants_that_differ_or_belong_to_nothing_are_refused() -> None:
    constants = PROGRAM.constants()
    for wrong in (changed(constants["conv.charge"]), constants["conv.charge"] + 0.5, constants["conv.charge"][None]):
        with pytest.raises(ProgramError, match=r"line 5: constant 'conv.charge' is not the one the text speaks of"):
            Program.parse(str(PROGRAM), {**constants, "conv.charge": wrong})
    with pytest.raises(ProgramError) as error:
        Program.parse(str(PROGRAM), {**constants, "extra": np.zeros(1, np.int64)})
    assert str(error.value) == "constant 'extra' belongs to no op"


def test_a_text_without_lines_is_refused() -> None:
    for text in ("", "\n", "memspike program 1\nname x\n", "\x00"):
        with pytest.raises(ProgramError, match="line 1"):
            Program.parse(text, {})
