"""Pixels become counts: each exactly, black and white at the ends, a dither's errors cancelling."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspike.integer import IntType
from memspike.pixels import DITHERS, rounding, to_counts

EVERY = np.arange(256, dtype=np.uint8)


def of_every_pixel(image_type: IntType, dither: int, channels: int, size: int) -> np.ndarray:
    """Counts `[256, channels, size, size]` of evenly coloured images."""
    return to_counts(np.broadcast_to(EVERY[:, None, None, None], (256, channels, size, size)), image_type, dither)


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_pixel_is_counted_exactly(bits: int) -> None:
    type = IntType(bits)
    wanted = [(Fraction(pixel, 255) * type.max + Fraction(1, 2)).__floor__() for pixel in range(256)]
    assert to_counts(EVERY, type).tolist() == wanted


@given(st.integers(1, 8), st.sampled_from(DITHERS), st.integers(1, 7))
def test_a_dither_never_leaves_the_type_nor_the_two_nearest_counts(bits: int, dither: int, channels: int) -> None:
    type = IntType(bits)
    counts = of_every_pixel(type, dither, channels, 4)
    exact = EVERY.reshape(-1, 1, 1, 1) / 255 * type.max
    assert not counts[0].any() and (counts[255] == type.max).all()
    assert (np.abs(counts - exact) < 1).all() and (np.diff(counts, axis=0) >= 0).all()


@given(st.integers(1, 8), st.sampled_from(DITHERS[1:]), st.integers(1, 7))
def test_what_neighbours_count_together_is_as_exact_as_their_number_allows(bits: int, dither: int, channels: int) -> None:
    """p x p pixels of all channels, in one light, sum up as if counted with so many times more levels, rounded half up: what a dither is for."""
    type, places = IntType(bits), channels * dither**2
    sums = of_every_pixel(type, dither, channels, dither).sum(axis=(1, 2, 3))
    assert sums.tolist() == [(Fraction(int(pixel), 255) * type.max * places + Fraction(1, 2)).__floor__() for pixel in EVERY]


@given(st.sampled_from(DITHERS[1:]), st.integers(1, 7))
def test_every_rounding_of_a_pattern_is_another(dither: int, channels: int) -> None:
    _, addend, divisor = rounding((channels, 2 * dither, 3 * dither), IntType(2), dither)
    assert sorted(addend[:, :dither, :dither].ravel().tolist()) == list(range(255, divisor, 510))
    assert np.array_equal(addend, np.tile(addend[:, :dither, :dither], (1, 2, 3)))


def test_a_pattern_by_hand() -> None:
    """Three channels, two by two pixels: twelfths, and one after the other in a pixel 1/3 apart."""
    _, addend, divisor = rounding((3, 2, 2), IntType(2), 2)
    assert divisor == 510 * 12
    assert ((addend // 255 - 1) // 2).tolist() == [[[0, 6], [9, 3]], [[4, 10], [1, 7]], [[8, 2], [5, 11]]]


def test_one_channel_staggered_alone_is_no_dither() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 6, 6), dtype=np.uint8)
    assert np.array_equal(to_counts(pixels, IntType(3), 1), to_counts(pixels, IntType(3)))
