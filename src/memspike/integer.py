"""Integer types, the one rounding rule and the one clipping rule, and sums that never overflow."""

import math
import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspike.errors import ProgramError

Integers = NDArray[np.int64]
MAX_BITS = 63


@dataclass(frozen=True, slots=True)
class IntType:
    """An integer of `bits` bits, two's complement when `signed`; prints as `u4` or `i8`."""

    bits: int
    signed: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS:
            raise ProgramError(f"an integer type has 1 to {MAX_BITS} bits, not {self.bits}")

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def num_timesteps(self) -> int:
        """Length of the window in which a count of this type travels: `2**M`, the sign apart."""
        return 1 << (self.bits - 1 if self.signed else self.bits)

    def clip(self, values: Any) -> Any:
        return np.clip(values, self.min, self.max)

    def holds(self, low: int, high: int) -> bool:
        return self.min <= low and high <= self.max

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"

    @classmethod
    def parse(cls, text: str) -> "IntType":
        """Read `u4` or `i8`; raises ProgramError for anything else."""
        match = re.fullmatch(r"([ui])([1-9][0-9]?)", text)
        if not match:
            raise ProgramError(f"{text!r} is no integer type; expected u1 ... u{MAX_BITS} or i1 ... i{MAX_BITS}")
        return cls(int(match[2]), match[1] == "i")

    @classmethod
    def smallest(cls, low: int, high: int) -> "IntType":
        """The smallest type that holds every integer from `low` to `high`; raises ProgramError past 63 bits."""
        bits = max(1, high.bit_length()) if low >= 0 else 1 + max((-low - 1).bit_length(), max(high, 0).bit_length())
        if bits > MAX_BITS:
            raise ProgramError(f"values from {low} to {high} need {bits} bits; int64 arithmetic is exact up to {MAX_BITS}")
        return cls(bits, low < 0)


def whole(value: Any) -> int | None:
    """The whole number that a value is, numpy's kinds of it too; None for anything else, a bool among it."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def round_half_up(values: Any) -> Any:
    """`floor(x + 1/2)`: the only rounding in memspike. Works on floats, numpy arrays and torch tensors."""
    return (values + 0.5).floor() if hasattr(values, "floor") else np.floor(values + 0.5)


def frozen(array: Any, dtype: Any = np.int64) -> NDArray[Any]:
    """A read-only, contiguous copy of an array, as every thing holds it."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.flags.writeable = False
    return copy


def exact_sum(*factors: Integers) -> int:
    """The sum of the elementwise product, in Python's unbounded integers where int64 could overflow."""
    bound = math.prod(int(factor.max(initial=0)) for factor in factors) * factors[0].size  # no factor is negative
    kind = np.int64 if bound < 1 << 63 else object
    product = factors[0].astype(kind, copy=False)
    for factor in factors[1:]:
        product = product * factor
    return int(product.sum())
