"""Integer types, rounding and clipping: the rules that everything else agrees on."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memspike.errors import ProgramError
from memspike.integer import IntType, frozen, round_half_up


@pytest.mark.parametrize(
    ("text", "low", "high", "timesteps"),
    [("u1", 0, 1, 2), ("u4", 0, 15, 16), ("i4", -8, 7, 8), ("i1", -1, 0, 1), ("u8", 0, 255, 256), ("i63", -(2**62), 2**62 - 1, 2**62)],
)
def test_a_type_has_a_range_a_window_and_a_name(text: str, low: int, high: int, timesteps: int) -> None:
    type = IntType.parse(text)
    assert (type.min, type.max, type.num_timesteps, str(type)) == (low, high, timesteps, text)


@pytest.mark.parametrize("text", ["", "u", "4", "u0", "i04", "U4", "u4 ", "s4", "u123", "u4\n"])
def test_other_texts_are_no_types(text: str) -> None:
    with pytest.raises(ProgramError) as error:
        IntType.parse(text)
    assert str(error.value) == f"{text!r} is no integer type; expected u1 ... u63 or i1 ... i63"


@pytest.mark.parametrize("bits", [0, -1, 64])
def test_types_have_1_to_63_bits(bits: int) -> None:
    with pytest.raises(ProgramError) as error:
        IntType(bits)
    assert str(error.value) == f"an integer type has 1 to 63 bits, not {bits}"


@given(st.integers(-(2**61), 2**61), st.integers(0, 2**61))
def test_the_smallest_type_holds_the_range_and_one_bit_less_does_not(low: int, size: int) -> None:
    high = low + size
    type = IntType.smallest(low, high)
    assert type.holds(low, high) and type.signed == (low < 0)
    assert type.bits == 1 or not IntType(type.bits - 1, type.signed).holds(low, high)


def test_values_past_63_bits_are_refused() -> None:
    with pytest.raises(ProgramError) as error:
        IntType.smallest(0, 2**63)
    assert str(error.value) == f"values from 0 to {2**63} need 64 bits; int64 arithmetic is exact up to 63"
    assert IntType.smallest(0, 2**63 - 1) == IntType(63)


@given(st.lists(st.integers(-1000, 1000), min_size=1), st.integers(1, 9), st.booleans())
def test_clipping_moves_to_the_nearer_end(values: list[int], bits: int, signed: bool) -> None:
    type = IntType(bits, signed)
    assert type.clip(np.array(values)).tolist() == [min(max(v, type.min), type.max) for v in values]


@given(st.integers(-1000, 1000))
def test_halves_round_up_in_numpy_torch_and_plain_floats(quarters: int) -> None:
    value, wanted = quarters / 4, (Fraction(quarters, 4) + Fraction(1, 2)).__floor__()
    assert round_half_up(value) == wanted
    assert round_half_up(np.array([value])).tolist() == [wanted]
    assert round_half_up(torch.tensor([value])).tolist() == [wanted]


def test_frozen_arrays_are_read_only_copies() -> None:
    source = np.arange(6, dtype=np.int8).reshape(2, 3).T
    array = frozen(source)
    assert array.dtype == np.int64 and array.flags.c_contiguous
    source[0, 0] = 9
    assert array[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
