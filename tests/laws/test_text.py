"""Laws of a program's text: reading undoes writing, names do not matter, and no text is answered with a traceback."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memspike.errors import ProgramError
from memspike.program import Program
from random_programs import images_for, programs


@settings(max_examples=100)
@given(programs(), st.integers(0, 100))
def test_reading_undoes_writing(program: Program, seed: int) -> None:
    again = Program.parse(str(program), program.constants())
    assert str(again) == str(program) and again.digest() == program.digest()
    images = images_for(program, seed, 3)
    np.testing.assert_array_equal(again.evaluate(images), program.evaluate(images))


@settings(max_examples=50)
@given(programs())
def test_names_do_not_change_the_digest(program: Program) -> None:
    name = {old: f"renamed-{i}" for i, old in enumerate(program.types)}
    ops = tuple(replace(op, out=name[op.out], inputs=tuple(name[i] for i in op.inputs)) for op in program.ops)
    other = Program("another", name[program.input], program.input_type, ops, name[program.output], pixels=program.pixels)
    assert other.digest() == program.digest() and str(other) != str(program)


@settings(max_examples=50)
@given(programs(), st.data())
def test_any_other_constant_changes_the_digest(program: Program, data: st.DataObject) -> None:
    op = data.draw(st.sampled_from([op for op in program.ops if op.constants()]))
    name = data.draw(st.sampled_from(sorted(op.constants())))
    array = op.constants()[name].copy()
    index = data.draw(st.integers(0, array.size - 1))
    lowest = 1 if name == "threshold" else 0
    array.flat[index] += -1 if array.flat[index] > lowest else 1  # stays a right weight, threshold or charge
    other = replace(program, ops=tuple(replace(op, **{name: array}) if o is op else o for o in program.ops))
    assert other.digest() != program.digest()


@settings(max_examples=300)
@given(programs(), st.data())
def test_a_changed_text_gives_a_right_program_or_a_program_error(program: Program, data: st.DataObject) -> None:
    text = str(program)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(start + 6, len(text))))
    piece = data.draw(st.text(alphabet="0123456789 ()[],=@ui.-\n\x00abcdef\u0663", max_size=6))
    try:
        other = Program.parse(text[:start] + piece + text[stop:], program.constants())
    except ProgramError:
        return
    assert Program.parse(str(other), other.constants()) == other
