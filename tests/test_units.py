"""SI numbers for people: prefixes, areas, digits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspike.units import percent, si

SIZES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4.2e-9, "J", "4.20 nJ"),
        (1.0, "s", "1.00 s"),
        (999.9, "Hz", "1.00 kHz"),
        (999.4, "Hz", "999 Hz"),
        (9.999e-9, "J", "10.0 nJ"),
        (0.00025, "S", "250 uS"),
        (-3e-3, "V", "-3.00 mV"),
        (0.0, "J", "0 J"),
        (math.inf, "J", "inf J"),
        (3.1e-7, "m2", "0.310 mm2"),
        (40e-12, "m2", "40.0 um2"),
        (2.5e-6, "m2", "2.50 mm2"),
        (4e-18, "m2", "4.00 nm2"),
    ],
)
def test_values_are_written_with_a_prefix(value: float, unit: str, text: str) -> None:
    assert si(value, unit) == text


def test_digits_are_significant_ones() -> None:
    assert [si(1.23456e-6, "s", digits) for digits in (1, 2, 4)] == ["1 us", "1.2 us", "1.235 us"]


@given(st.floats(1e-17, 1e14))
def test_what_is_written_is_the_value_to_three_digits(value: float) -> None:
    number, unit = si(value, "J").split(" ")
    assert float(number) * SIZES[unit.removesuffix("J")] == pytest.approx(value, rel=0.006)
    assert value > 1e15 or 0.9 <= float(number) < 1000


def test_percentages() -> None:
    assert (percent(0.9932), percent(0.5, 0), percent(-0.0002)) == ("99.32 %", "50 %", "-0.02 %")
