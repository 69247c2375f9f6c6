"""Laws of the compiler: a program counts exactly what the network's real numbers, rounded half up and clipped, say."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspike.compiler import compile
from memspike.compiler.thresholds import RealLayer, fire, scores
from memspike.errors import ProgramError
from memspike.integer import IntType
from memspike.ops import Fire
from random_networks import random_network, real_counts

seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("kind", ["any", "powers"])
@settings(max_examples=15)
@given(seed=seeds)
def test_a_program_counts_what_the_real_network_computes(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kind)
    program = compile(network)
    most = network.pixels.most(network.input_type)
    images = rng.integers(0, most + 1, (4, *network.input_shape))
    images[0], images[1] = 0, most
    expected, values = real_counts(network, images), program.evaluate_all(network.pixels.on_lines(images))
    for layer in network.layers[:-1]:
        np.testing.assert_array_equal(values[layer.name], expected[layer.name], err_msg=layer.name)
    _same_order(values["scores"], expected["last"])
    assert all(note["moved"] == 0 for note in program.notes["compile"]["layers"])


def _same_order(charges: np.ndarray, reals: np.ndarray) -> None:
    """Any two classes compare alike, ties included."""
    for charge, real in zip(charges, reals, strict=True):
        for a in range(len(charge)):
            for b in range(len(charge)):
                assert (charge[a] < charge[b]) == (real[a] < real[b])


# A real number as training leaves it: anything, a power of two, thirds and tenths that lie within a rounding error of a tie, zero.
_reals = st.one_of(st.floats(-8, 8), st.integers(-4, 4).map(lambda e: 2.0**e), st.sampled_from([0.0, 0.1, 0.3, 1 / 3, 2 / 3, 0.6, 1e-12, -1e9, 1e300]))


@settings(max_examples=300)
@given(gain=_reals, offset=_reals, step=_reals, low=st.integers(-200, 0), size=st.integers(0, 400), bits=st.integers(1, 8), signed=st.booleans())
def test_neurons_count_every_reachable_sum_as_the_reals_do(gain, offset, step, low, size, bits, signed) -> None:
    step, unit, type = Fraction(abs(step) or 1.0), Fraction(abs(gain)), IntType(bits, signed)
    acc = np.arange(low, low + size + 1)
    neurons = fire(_channel(unit, offset, low, low + size), step, type)
    op = Fire("y", ("x",), neurons.threshold, neurons.charge, neurons.fraction_bits, type)
    counts = op.evaluate(acc[:, None])[:, 0]
    wanted = [min(max(((unit * int(a) + Fraction(offset)) / step + Fraction(1, 2)).__floor__(), type.min), type.max) for a in acc]
    if neurons.num_moved:  # only where int64 has no room for more fraction bits: then by one step of the sum, and the note says so
        assert neurons.fraction_bits == min(47, 61 - bits - IntType.smallest(low, low + size).bits)
        assert neurons.largest_move == 1
        assert np.count_nonzero(counts != wanted) <= neurons.num_moved
    else:
        assert counts.tolist() == wanted


@settings(max_examples=30)
@given(seeds, st.integers(1, 6), st.booleans())
def test_with_small_fractions_no_breakpoint_moves(seed: int, bits: int, signed: bool) -> None:
    """Sums lie exactly on breakpoints all the time, and channels of one layer need different fraction bits."""
    rng, size, type = np.random.default_rng(seed), 100, IntType(bits, signed)
    unit = [Fraction(int(a), int(b)) for a, b in rng.integers(1, 30, (size, 2))]
    offset = [Fraction(int(a), int(b)) for a, b in zip(rng.integers(-300, 300, size), rng.integers(1, 9, size), strict=True)]
    low, high, step = -rng.integers(0, 20, size), rng.integers(1, 20, size), Fraction(int(rng.integers(1, 60)), int(rng.integers(1, 12)))
    neurons = fire(RealLayer(unit, offset, low, high, IntType.smallest(int(low.min()), int(high.max()))), step, type)
    assert neurons.num_moved == 0
    acc = np.arange(low.min(), high.max() + 1)[:, None] + np.zeros((1, size), np.int64)
    counts = Fire("y", ("x",), neurons.threshold, neurons.charge, neurons.fraction_bits, type).evaluate(acc)
    for k in range(size):
        for a, count in zip(acc[:, k].tolist(), counts[:, k].tolist(), strict=True):
            if low[k] <= a <= high[k]:
                assert count == min(max(((unit[k] * a + offset[k]) / step + Fraction(1, 2)).__floor__(), type.min), type.max)


@settings(max_examples=200)
@given(unit=_reals, offsets=st.lists(_reals.filter(lambda x: abs(x) < 1e6), min_size=1, max_size=6))
def test_charges_order_scores_as_the_reals_do(unit: float, offsets: list[float]) -> None:
    unit = abs(unit) if 1e-3 < abs(unit) < 1e3 else 1.0
    size = len(offsets)
    layer = RealLayer([Fraction(unit)] * size, [Fraction(o) for o in offsets], np.full(size, -9), np.full(size, 9), IntType(5, signed=True))
    numbers = scores(layer)
    if numbers.num_moved:
        return
    for a in range(size):
        for b in range(size):
            for difference in range(-18, 19):
                real = Fraction(unit) * difference + Fraction(offsets[a]) - Fraction(offsets[b])
                integer = (difference << numbers.fraction_bits) + int(numbers.charge[a]) - int(numbers.charge[b])
                assert np.sign(integer) == np.sign(real)


def test_scores_beside_which_weights_are_nothing_are_refused() -> None:
    layer = RealLayer([Fraction(1, 10**22)] * 2, [Fraction(0), Fraction(9)], np.full(2, -9), np.full(2, 9), IntType(5, signed=True))
    with pytest.raises(ProgramError, match="scores need .* bits, so small is all that weights add beside the biases"):
        scores(layer)


def _channel(unit: Fraction, offset: float, low: int, high: int) -> RealLayer:
    return RealLayer([unit], [Fraction(offset)], np.array([low]), np.array([high]), IntType.smallest(low, high))
