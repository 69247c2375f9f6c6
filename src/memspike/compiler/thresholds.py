"""Where reals end: the integer thresholds and charges with which a neuron counts exactly as its real-number layer does."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np

from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import MAX_FRACTION_BITS

MAX_COUNT_BITS = 16
_POTENTIAL_BITS = 61  # an int64 potential, less its sign and one bit for the sum of two terms, less one for safety at both ends


@dataclass(frozen=True, slots=True)
class RealLayer:
    """What a layer computes from its integer sums, in exact rationals: `unit[k] * acc + offset[k]` for channel k, `unit[k] >= 0`.

    `low[k] .. high[k]` are the sums that channel k can reach; `sum_type` holds those of all channels.
    """

    unit: Sequence[Fraction]
    offset: Sequence[Fraction]
    low: Integers
    high: Integers
    sum_type: IntType


@dataclass(frozen=True, slots=True)
class Neurons:
    """Thresholds and charges `[channels]` of a layer's neurons (thresholds are 1 where scores are read), and how exact they are.

    `num_breakpoints` were compared with the real layer's, `num_moved` of them differ, by at most `largest_move` steps of the sum.
    """

    threshold: Integers
    charge: Integers
    fraction_bits: int
    num_breakpoints: int
    num_moved: int = 0
    largest_move: int = 0


def fire(layer: RealLayer, step: Fraction, type: IntType) -> Neurons:
    """Neurons that count `clip(floor((unit * acc + offset) / step + 1/2))`, with the fewest fraction bits that make every count exact.

    With `period = step / unit` and `start = (offset + step / 2) / unit` a channel counts n or more from the breakpoint
    `ceil(n * period - start)` on. Integers do the same when `2**f * (breakpoint - 1) < n * threshold - charge <= 2**f * breakpoint` for
    every n whose breakpoint can be reached. For each f and each of the two thresholds next to `2**f * period` the charges that fulfil this
    form an interval; the first f with an interval that is not empty is taken, and in it the charge nearest to `2**f * start`. Rounding both
    numbers alone would not do: a sum that lies exactly on a breakpoint, the usual case with scales that are powers of two, would fall to
    either side. Where no f does it, the nearest integers are taken at the largest f and the moved breakpoints are counted.

    Raises ProgramError when the counts are longer than 16 bits, or when potentials overflow even without fraction bits.
    """
    if type.bits > MAX_COUNT_BITS:
        raise ProgramError(f"counts of type {type} need windows of {type.num_timesteps} timesteps; at most {MAX_COUNT_BITS} bits are compiled")
    limit = _largest_fraction_bits(type.bits + layer.sum_type.bits)
    period = [step / unit if unit else Fraction(0) for unit in layer.unit]
    start = [(offset + step / 2) / unit if unit else Fraction(0) for unit, offset in zip(layer.unit, layer.offset, strict=True)]
    wanted = _breakpoints(layer, period, start, step, type)
    threshold, charge = _at_most_one_breakpoint(layer, wanted, type)
    bits = np.zeros(len(wanted), np.int64)
    for f in range(limit + 1):
        todo = np.flatnonzero(threshold == 0)
        if not todo.size:
            break
        threshold[todo], charge[todo] = _exact(layer, wanted, type, todo, _rounded(period, todo, f), _floor(period, todo, f), _rounded(start, todo, f), f)
        bits[todo] = f
    lost = np.flatnonzero(threshold == 0)
    threshold[lost], charge[lost] = np.maximum(1, _rounded(period, lost, limit)), _rounded(start, lost, limit)
    most = int(bits.max())
    threshold, charge = threshold << (most - bits), charge << (most - bits)
    moves = np.abs(_integer_breakpoints(layer, threshold, charge, most, type) - wanted)
    return Neurons(threshold, charge, most, wanted.size, int(np.count_nonzero(moves)), int(moves.max()))


def scores(layer: RealLayer) -> Neurons:
    """Charges that order the scores `acc + offset / unit` as real numbers do, ties included, with the fewest fraction bits.

    All channels have the same `unit`. Two scores compare as their whole parts do, then as the fractions of `offset / unit` do; so the order
    is exact when rounding keeps every whole part, and keeps different fractions different. Breakpoints are the channels' neighbours in
    that order. Raises ProgramError when charges overflow even without fraction bits.
    """
    start = [offset / unit for unit, offset in zip(layer.unit, layer.offset, strict=True)]
    every = np.arange(len(start))
    bits = max(layer.sum_type.bits, *(abs(s.__floor__()).bit_length() + 1 for s in start))
    if bits > _POTENTIAL_BITS:
        what = f"scores need {bits} bits, so small is all that weights add beside the biases; potentials are exact up to {_POTENTIAL_BITS}"
        raise ProgramError(what, cure="give the last layer weights of its biases' size")
    limit, whole = _largest_fraction_bits(bits), _floor(start, every, 0)
    order = sorted(every.tolist(), key=lambda k: start[k] % 1)
    neighbours = [(a, b) for a, b in zip(order, order[1:], strict=False) if start[a] % 1 != start[b] % 1]
    f, charge, lost = 0, whole, len(start)
    for f in range(limit + 1):
        charge = _rounded(start, every, f)
        fractions = charge - (charge >> f << f)
        lost = int(np.count_nonzero(charge >> f != whole)) + sum(int(fractions[a] == fractions[b]) for a, b in neighbours)
        if not lost:
            break
    return Neurons(np.ones_like(charge), charge, f, len(start), lost, min(lost, 1))


def reach(weight: Integers, counted: IntType) -> tuple[Integers, Integers]:
    """Lowest and highest sum of each channel `[channels]`, over all inputs of the type; `weight` is `[channels, ...]`."""
    rows = weight.reshape(len(weight), -1)
    positive, negative = rows.clip(min=0).sum(axis=1), rows.clip(max=0).sum(axis=1)
    return positive * counted.min + negative * counted.max, positive * counted.max + negative * counted.min


def _largest_fraction_bits(bits: int) -> int:
    if bits > _POTENTIAL_BITS:
        raise ProgramError(
            f"sums and counts need {bits} bits together; potentials are exact up to {_POTENTIAL_BITS}", cure="use fewer weight or activation bits"
        )
    return min(MAX_FRACTION_BITS - 1, _POTENTIAL_BITS - bits)


def _breakpoints(layer: RealLayer, period: Sequence[Fraction], start: Sequence[Fraction], step: Fraction, type: IntType) -> Integers:
    """The smallest sum at which each channel counts n or more, `[channels, n = type.min + 1 .. type.max]`.

    Breakpoints that cannot be reached stand as `low` (always counted) or `high + 1` (never).
    """
    rows: list[list[int]] = []
    for k, (low, high) in enumerate(zip(layer.low.tolist(), layer.high.tolist(), strict=True)):
        if not layer.unit[k]:
            constant = (layer.offset[k] / step + Fraction(1, 2)).__floor__()
            rows.append([low if constant >= n else high + 1 for n in range(type.min + 1, type.max + 1)])
            continue
        whole = lcm(period[k].denominator, start[k].denominator)
        p, s = int(period[k] * whole), int(start[k] * whole)
        rows.append([min(max(-((s - n * p) // whole), low), high + 1) for n in range(type.min + 1, type.max + 1)])
    return np.array(rows, np.int64)


def _at_most_one_breakpoint(layer: RealLayer, wanted: Integers, type: IntType) -> tuple[Integers, Integers]:
    """Exact thresholds and charges of the channels whose count changes at one reachable sum at most; threshold 0 for the others.

    Their period plays no role, so it is the number of sums they can reach. Constant and nearly dead channels would otherwise overflow.
    """
    counted = (wanted <= layer.low[:, None]).sum(axis=1)
    reached = (wanted <= layer.high[:, None]).sum(axis=1) - counted
    first = np.where(wanted > layer.low[:, None], wanted, layer.high[:, None] + 1).min(axis=1)
    threshold = layer.high - layer.low + 1
    charge = (type.min + counted + 1) * threshold - first
    return np.where(reached <= 1, threshold, 0), np.where(reached <= 1, charge, 0)


def _exact(
    layer: RealLayer, wanted: Integers, type: IntType, channels: Integers, nearest: Integers, below: Integers, start: Integers, f: int
) -> tuple[Integers, Integers]:
    """Thresholds and charges with f fraction bits that put every reachable breakpoint where it is wanted; threshold 0 where there are none."""
    n = np.arange(type.min + 1, type.max + 1)
    b, low, high = wanted[channels], layer.low[channels, None], layer.high[channels, None]
    # Beyond the first count that is always and the first that is never reached, products could overflow, and say nothing new.
    must_count = (b <= high) & (n >= type.min + (b <= low).sum(axis=1, keepdims=True))
    must_wait = (b > low) & (n <= type.min + (b <= high).sum(axis=1, keepdims=True) + 1)
    threshold, charge = np.zeros_like(start), np.zeros_like(start)
    for candidate in (2 * below + 1 - nearest, nearest):
        due = n * candidate[:, None] - (b << f)
        least = np.where(must_count, due, np.iinfo(np.int64).min).max(axis=1)
        most = np.where(must_wait, due + (1 << f) - 1, np.iinfo(np.int64).max).min(axis=1)
        works = (least <= most) & (candidate >= 1)
        threshold = np.where(works, candidate, threshold)
        charge = np.where(works, np.clip(start, least, most), charge)
    return threshold, charge


def _integer_breakpoints(layer: RealLayer, threshold: Integers, charge: Integers, f: int, type: IntType) -> Integers:
    n = np.arange(type.min + 1, type.max + 1)
    found = -((charge[:, None] - n * threshold[:, None]) >> f)
    return np.clip(found, layer.low[:, None], layer.high[:, None] + 1)


def _floor(values: Sequence[Fraction], channels: Integers, f: int) -> Integers:
    """`floor(2**f * value)` of the chosen channels."""
    return np.array([(v.numerator << f) // v.denominator for v in (values[int(k)] for k in channels)], np.int64)


def _rounded(values: Sequence[Fraction], channels: Integers, f: int) -> Integers:
    """`floor(2**f * value + 1/2)` of the chosen channels."""
    return np.array([((v.numerator << (f + 1)) + v.denominator) // (2 * v.denominator) for v in (values[int(k)] for k in channels)], np.int64)
