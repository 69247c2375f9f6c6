"""Signed integers as cells: one matrix per group, differential pairs, bit slices, and the way back."""

import numpy as np
from numpy.typing import NDArray

from memspike.errors import MappingError
from memspike.integer import Integers
from memspike.ops import Conv2d, Dense

MAX_DIGIT_BITS = 16  # a tile keeps its levels as uint16 at most

Levels = NDArray[np.unsignedinteger]


def matrices(op: Conv2d | Dense) -> Integers:
    """The op's weights as one matrix per group, `[groups, num_rows, num_channels]`; rows in order (channel, kernel row, kernel column)."""
    return op.weight.reshape(op.groups, len(op.weight) // op.groups, -1).transpose(0, 2, 1)


def magnitude_bits(op: Conv2d | Dense) -> int:
    """Bits of the magnitudes that the op's cells must hold: those of the symmetric grid of its type, `bits - 1`.

    A grid that also reaches the type's most negative value (-8 in i4), whose magnitude has one bit more, gets that bit.
    """
    largest = max(int(op.weight.max()), -int(op.weight.min()))
    return max(1, op.weight_type.bits - 1, largest.bit_length())


def slice_bits(op: Conv2d | Dense, bits_per_cell: int) -> tuple[int, int]:
    """(slices, digit bits): into how many digits a magnitude is cut, and how many bits the largest digit has.

    Raises MappingError when a digit has more than 16 bits.
    """
    bits = magnitude_bits(op)
    digit = min(bits, bits_per_cell)
    if digit > MAX_DIGIT_BITS:
        raise MappingError(
            f"needs cells of {digit} bits; a cell's level is kept in {MAX_DIGIT_BITS}", cure="use fewer bits_per_cell: weights are cut into slices"
        )
    return -(-bits // bits_per_cell), digit


def to_levels(weights: Integers, slices: int, bits_per_cell: int) -> Levels:
    """Cell levels `[..., channels * slices * 2]` of integer weights `[..., channels]`.

    For each channel come its slices, the lowest bits first, and for each slice the plus cell, then the minus cell: one of the two is at level 0.
    """
    sides = np.stack([weights.clip(min=0), (-weights).clip(min=0)], axis=-1)
    shifts = bits_per_cell * np.arange(slices)
    digits = (sides[..., None, :] >> shifts[:, None]) & ((1 << bits_per_cell) - 1)
    return digits.reshape(*weights.shape[:-1], -1).astype(np.uint16)
