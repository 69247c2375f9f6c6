"""Pixels become counts: each exactly, black and white at the ends, a dither's errors cancelling, lines carrying one count together."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspike.errors import ProgramError
from memspike.integer import IntType
from memspike.pixels import DITHERS, PixelCode
from pixel_codes import pixel_codes

EVERY = np.arange(256, dtype=np.uint8)


def of_every_pixel(line: IntType, code: PixelCode, channels: int, size: int) -> np.ndarray:
    """Counts `[256, channels * lines, size, size]` of evenly coloured images."""
    return code.counts(np.broadcast_to(EVERY[:, None, None, None], (256, channels, size, size)), line)


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_pixel_is_counted_exactly(bits: int) -> None:
    type = IntType(bits)
    wanted = [(Fraction(pixel, 255) * type.max + Fraction(1, 2)).__floor__() for pixel in range(256)]
    assert PixelCode().counts(EVERY, type).tolist() == wanted


@given(st.integers(1, 8), st.integers(1, 7), st.data())
def test_no_line_leaves_its_type_nor_the_two_nearest_counts(bits: int, channels: int, data: st.DataObject) -> None:
    line, code = IntType(bits), data.draw(pixel_codes(bits))
    counts = of_every_pixel(line, code, channels, 4)
    exact = ((EVERY.reshape(-1, 1, 1, 1) - float(code.low)) / (code.high - code.low)).clip(0, 1) * line.max
    assert not counts[: code.low + 1].any() and (counts[code.high :] == line.max).all()
    assert (np.abs(counts - exact) < 1).all() and (np.diff(counts, axis=0) >= 0).all()


@given(st.integers(1, 7), st.sampled_from(DITHERS), st.integers(1, 5), st.data())
def test_lines_carry_together_what_one_finer_count_would(bits: int, dither: int, channels: int, data: st.DataObject) -> None:
    """Hermite's identity; and they carry nearly alike, so that no window is longer than one of them needs."""
    line, code = IntType(bits), replace(data.draw(pixel_codes(bits)), dither=dither)
    pixels = np.random.default_rng(bits).integers(0, 256, (3, channels, 5, 6), dtype=np.uint8)
    carried = code.counts(pixels, line).reshape(3, channels, code.lines, 5, 6)
    factor, addend, divisor = code.rounding((channels, 5, 6), line)
    assert np.array_equal(carried.sum(axis=2), ((pixels.astype(int) * factor + addend) // divisor).clip(0, code.most(line)))
    assert int(np.ptp(carried, axis=2).max()) <= 1


@given(st.integers(1, 7), st.sampled_from(DITHERS[1:]), st.integers(1, 7), st.integers(1, 2))
def test_what_neighbours_count_together_is_as_exact_as_their_number_allows(bits: int, dither: int, channels: int, lines: int) -> None:
    """p x p pixels of all channels, in one light, sum up as if counted with so many times more levels, rounded half up: what a dither is for."""
    line, places = IntType(bits), channels * dither**2
    sums = of_every_pixel(line, PixelCode(dither, lines), channels, dither).sum(axis=(1, 2, 3))
    assert sums.tolist() == [(Fraction(int(pixel), 255) * lines * line.max * places + Fraction(1, 2)).__floor__() for pixel in EVERY]


@given(st.sampled_from(DITHERS[1:]), st.integers(1, 7))
def test_every_rounding_of_a_pattern_is_another(dither: int, channels: int) -> None:
    _, addend, divisor = PixelCode(dither).rounding((channels, 2 * dither, 3 * dither), IntType(2))
    places = channels * dither**2
    assert sorted((addend[:, :dither, :dither] * 2 * places // divisor).ravel().tolist()) == list(range(1, 2 * places, 2))
    assert np.array_equal(addend, np.tile(addend[:, :dither, :dither], (1, 2, 3)))


def test_a_pattern_by_hand() -> None:
    """Three channels, two by two pixels: twelfths, and one after the other in a pixel 1/3 apart."""
    _, addend, divisor = PixelCode(2).rounding((3, 2, 2), IntType(2))
    assert (addend * 12 // divisor).tolist() == [[[0, 6], [9, 3]], [[4, 10], [1, 7]], [[8, 2], [5, 11]]]


def test_lines_by_hand() -> None:
    """Two bits on three lines: 0 to 9; a pixel of 100 is 3.53 of them, so 4: 1 + 1 + 2."""
    assert PixelCode(lines=3).counts(np.array([[[[100, 255]]]], np.uint8), IntType(2)).tolist() == [[[[1, 3]], [[1, 3]], [[2, 3]]]]


def test_one_channel_staggered_alone_is_no_dither() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 6, 6), dtype=np.uint8)
    assert np.array_equal(PixelCode(1).counts(pixels, IntType(3)), PixelCode().counts(pixels, IntType(3)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PixelCode(3), "unknown dither 3\n  known are: 0, 1, 2, 4 (0 for none)"),
        (lambda: PixelCode(lines=0), "an image has 1 line for a pixel or more, not 0"),
        (lambda: PixelCode(lines=2).most(IntType(8)), "2 lines of 8 bits count 511 levels, a pixel has 256\n  lines of 8 bits are of use up to 1"),
        (
            lambda: PixelCode.parse(" lines=2 dither=1"),
            "' lines=2 dither=1' says nothing of pixels; expected ' range=<low>-<high>', ' dither=<number>', ' lines=<number>', each or none, in this order",
        ),
        (lambda: PixelCode(2).check(IntType(4), (7,)), "images of shape [7] cannot be counted with dither=2"),
        (lambda: PixelCode(lines=2).check(IntType(4), (3, 5, 5)), "images of shape [3, 5, 5] cannot be counted with lines=2"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ProgramError) as caught:
        make()
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_fitted_range_is_where_counts_err_least(bits: int) -> None:
    """Pixels about one grey want a narrow range, black and white ones the whole; and no other range of the search does better."""
    rng, line = np.random.default_rng(0), IntType(bits)
    grey = rng.normal(120, 25, (40, 1, 20, 20)).clip(0, 255).astype(np.uint8)
    fitted = PixelCode(2, 1).fitted(grey, line)

    def error(code: PixelCode) -> float:
        plain = replace(code, dither=0)
        return float(((plain.low + plain.counts(grey, line) / line.max * (plain.high - plain.low) - grey) ** 2).mean())

    assert fitted.dither == 2 and fitted.low + 5 * bits >= 40 and fitted.high <= 200 + 7 * bits
    assert all(error(fitted) <= error(PixelCode(low=low, high=high)) + 1e-9 for low, high in rng.integers((0, 128), (128, 256), (50, 2)).tolist())
    ends = rng.choice(np.array([0, 255], np.uint8), (5, 1, 9, 9))
    assert error(PixelCode()) >= 0 and PixelCode().fitted(ends, line) == PixelCode()


@given(st.integers(2, 8), st.data())
def test_reading_undoes_writing(bits: int, data: st.DataObject) -> None:
    code = data.draw(pixel_codes(bits))
    assert PixelCode.parse(str(code)) == code


def test_pixels_that_are_not_bytes_are_refused() -> None:
    """Images from 0 to 1 would all count as black."""
    with pytest.raises(ProgramError, match="pixels are float64; expected uint8"):
        PixelCode().counts(np.zeros((1, 1, 2, 2)), IntType(4))  # pyright: ignore[reportArgumentType]
