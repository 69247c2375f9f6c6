"""The op table: each op against torch on random cases and against closed forms, its types, and every refusal."""

import inspect
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from memspike import ops
from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import OPS, Add, Charge, Concat, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, Slice, SumPool2d, TensorType

U4, I4 = IntType(4), IntType(4, signed=True)
seeds = st.integers(0, 2**32 - 1)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.tuples(st.integers(0, 2), st.integers(0, 2))


def counts(seed: int, shape: tuple[int, ...], type: IntType = I4) -> Integers:
    return np.random.default_rng(seed).integers(type.min, type.max + 1, (3, *shape))


def real(integers: Integers) -> torch.Tensor:
    return torch.tensor(integers, dtype=torch.float64)


def agrees(op: Op, x: Integers, type: IntType, expected: torch.Tensor) -> None:
    """The op gives what torch gives, in the shape and within the type that it infers."""
    y, inferred = op.evaluate(x), op.infer(TensorType(x.shape[1:], type))
    np.testing.assert_array_equal(y, expected.numpy())
    assert y.dtype == np.int64 and y.shape[1:] == inferred.shape
    assert inferred.type.holds(int(y.min()), int(y.max()))


@settings(max_examples=60)
@given(seeds, st.sampled_from([1, 2, 3]), pairs, pairs, paddings, pairs, st.booleans())
def test_conv2d_is_torchs(seed: int, groups: int, kernel: Any, stride: Any, padding: Any, dilation: Any, signed: bool) -> None:
    type = IntType(4, signed)
    weight = np.random.default_rng(seed).integers(-8, 8, (2 * groups, 2, *kernel))
    x = counts(seed, (2 * groups, 7, 8), type)
    op = Conv2d("y", ("x",), weight, I4, stride, padding, dilation, groups)
    agrees(op, x, type, F.conv2d(real(x), real(weight), None, stride, padding, dilation, groups))


@settings(max_examples=30)
@given(seeds, st.sampled_from([1, 2, 3]))
def test_dense_is_a_matrix_product_in_each_group(seed: int, groups: int) -> None:
    weight = np.random.default_rng(seed).integers(-8, 8, (2 * groups, 5))
    x = counts(seed, (5 * groups,))
    blocks = torch.block_diag(*real(weight).split(2))
    agrees(Dense("y", ("x",), weight, I4, groups), x, I4, real(x) @ blocks.T)


@settings(max_examples=30)
@given(seeds, pairs, pairs, paddings)
def test_sum_pool2d_is_torchs_average_times_the_area(seed: int, kernel: Any, stride: Any, padding: Any) -> None:
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    x = counts(seed, (2, 7, 8))
    agrees(SumPool2d("y", ("x",), kernel, stride, padding), x, I4, F.avg_pool2d(real(x), kernel, stride, padding, divisor_override=1))


@settings(max_examples=30)
@given(seeds, pairs, pairs, paddings)
def test_max_pool2d_is_torchs(seed: int, kernel: Any, stride: Any, padding: Any) -> None:
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    x = counts(seed, (2, 7, 8), IntType(4, signed=True))
    agrees(MaxPool2d("y", ("x",), kernel, stride, padding), x, I4, F.max_pool2d(real(x), kernel, stride, padding))


def test_padding_never_wins_a_maximum() -> None:
    assert MaxPool2d("y", ("x",), (3, 3), (1, 1), (1, 1)).evaluate(np.full((1, 1, 1, 1), -8)).tolist() == [[[[-8]]]]


@settings(max_examples=100)
@given(st.integers(-(10**9), 10**9), st.integers(-(2**40), 2**40), st.integers(1, 2**40), st.integers(0, 20), st.integers(1, 9), st.booleans())
def test_fire_floors_towards_minus_infinity_then_clips(acc: int, charge: int, threshold: int, f: int, bits: int, signed: bool) -> None:
    type = IntType(bits, signed)
    wanted = (Fraction(acc * 2**f + charge, threshold)).__floor__()
    op = Fire("y", ("x",), np.array([threshold]), np.array([charge]), f, type)
    assert op.evaluate(np.array([[acc]])).tolist() == [[min(max(wanted, type.min), type.max)]]
    assert op.infer(TensorType((1,), IntType(31, signed=True))) == TensorType((1,), type)


def test_fire_and_charge_have_one_number_for_each_channel() -> None:
    x = np.arange(2 * 2 * 3).reshape(1, 2, 2, 3)
    fire = Fire("y", ("x",), np.array([1, 3]), np.array([0, 1]), 1, IntType(8))
    np.testing.assert_array_equal(fire.evaluate(x), np.stack([x[:, 0] * 2, (x[:, 1] * 2 + 1) // 3], axis=1))
    charge = Charge("y", ("x",), np.array([-5, 7]), 3)
    np.testing.assert_array_equal(charge.evaluate(x), np.stack([x[:, 0] * 8 - 5, x[:, 1] * 8 + 7], axis=1))


def test_the_type_of_a_charge_reaches_from_the_lowest_to_the_highest_potential() -> None:
    assert Charge("y", ("x",), np.array([-5, 7]), 3).infer(TensorType((2,), U4)) == TensorType((2,), IntType.smallest(-5, 15 * 8 + 7))


@settings(max_examples=30)
@given(st.lists(seeds, min_size=1, max_size=4), st.booleans())
def test_add_clips_the_sum(seeds: list[int], signed: bool) -> None:
    inputs = [counts(seed, (2, 3, 3)) for seed in seeds]
    type = IntType(4, signed)
    op = Add("y", tuple(map(str, seeds)), type)
    np.testing.assert_array_equal(op.evaluate(*inputs), np.clip(np.sum(inputs, axis=0), type.min, type.max))
    assert op.infer(*[TensorType((2, 3, 3), I4)] * len(inputs)) == TensorType((2, 3, 3), type)


def test_flatten_concat_and_slice_move_numbers() -> None:
    a, b = counts(1, (2, 3, 4)), counts(2, (1, 3, 4))
    np.testing.assert_array_equal(Flatten("y", ("x",)).evaluate(a), torch.flatten(real(a), 1).numpy())
    assert Flatten("y", ("x",)).infer(TensorType((2, 3, 4), U4)) == TensorType((24,), U4)
    joined = Concat("y", ("a", "b")).evaluate(a, b)
    np.testing.assert_array_equal(joined, torch.cat([real(a), real(b)], 1).numpy())
    assert Concat("y", ("a", "b")).infer(TensorType((2, 3, 4), U4), TensorType((1, 3, 4), IntType(3, signed=True))) == TensorType(
        (3, 3, 4), IntType(5, signed=True)
    )
    np.testing.assert_array_equal(Slice("y", ("x",), 2, 3).evaluate(joined), b)
    np.testing.assert_array_equal(Slice("y", ("x",), 0, 2).evaluate(joined), a)
    assert Slice("y", ("x",), 1, 3).infer(TensorType((3, 3, 4), U4)) == TensorType((2, 3, 4), U4)


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(-8, 7), min_size=2, max_size=2), min_size=1, max_size=3), st.integers(1, 3), st.booleans())
def test_the_type_of_a_sum_is_the_smallest_for_all_inputs(weight: list[list[int]], bits: int, signed: bool) -> None:
    type = IntType(bits, signed)
    inferred = Dense("y", ("x",), np.array(weight), I4).infer(TensorType((2,), type)).type
    sums = [w[0] * a + w[1] * b for w in weight for a in range(type.min, type.max + 1) for b in range(type.min, type.max + 1)]
    assert inferred == IntType.smallest(min(sums), max(sums))


def test_pools_of_signed_counts_have_signed_sums() -> None:
    assert SumPool2d("y", ("x",), (2, 3), (1, 1)).infer(TensorType((1, 4, 4), I4)) == TensorType((1, 3, 2), IntType.smallest(-48, 42))


def test_constants_and_numbers_are_the_fields() -> None:
    op = Fire("y", ("x",), [2, 3], [0, 1], 4, U4)  # pyright: ignore[reportArgumentType]
    assert list(op.constants()) == ["threshold", "charge"] and op.numbers() == {"fraction_bits": 4, "type": U4}
    assert not op.threshold.flags.writeable and op.threshold.dtype == np.int64


def test_every_op_is_in_the_table_under_its_word() -> None:
    defined = [kind for kind in vars(ops).values() if inspect.isclass(kind) and issubclass(kind, Op) and kind is not Op]
    assert list(OPS.values()) == defined
    assert all(op.word == word and op.__doc__ for word, op in OPS.items())


IMAGE, VECTOR = TensorType((2, 4, 4), U4), TensorType((6,), U4)
ONES = np.ones((2, 2, 3, 3))
REFUSED: list[tuple[Op, tuple[TensorType, ...], str]] = [
    (Conv2d("y", ("x",), ONES, I4), (VECTOR,), "conv2d takes [channels, height, width], got u4[6]"),
    (Conv2d("y", ("x",), ONES[0], I4), (IMAGE,), "conv2d takes weights with 4 axes, got shape [2, 3, 3]"),
    (Conv2d("y", ("x",), np.ones((0, 2, 3, 3)), I4), (IMAGE,), "conv2d takes weights with 4 axes, got shape [0, 2, 3, 3]"),
    (Conv2d("y", ("x",), 8 * ONES, I4), (IMAGE,), "weights from 8 to 8 do not fit i4"),
    (Conv2d("y", ("x",), ONES, U4), (IMAGE,), "weights from 1 to 1 do not fit u4"),
    (Conv2d("y", ("x",), ONES, I4, groups=2), (IMAGE,), "weights for 4 input and 2 output channels in 2 groups, got 2 channels"),
    (Conv2d("y", ("x",), ONES, I4, groups=0), (IMAGE,), "weights for 0 input and 2 output channels in 0 groups, got 2 channels"),
    (Conv2d("y", ("x",), np.ones((3, 1, 1, 1)), I4, groups=2), (IMAGE,), "weights for 2 input and 3 output channels in 2 groups, got 2 channels"),
    (Conv2d("y", ("x",), ONES, I4, dilation=(2, 1)), (IMAGE,), "kernel (3, 3) is larger than its padded input (4, 4)"),
    (
        Conv2d("y", ("x",), ONES, I4, stride=(0, 1)),
        (IMAGE,),
        "kernel (3, 3), stride (0, 1) and dilation (1, 1) start at 1, padding (0, 0) at 0",
    ),
    (
        Conv2d("y", ("x",), ONES, I4, padding=(0, -1)),
        (IMAGE,),
        "kernel (3, 3), stride (1, 1) and dilation (1, 1) start at 1, padding (0, -1) at 0",
    ),
    (Dense("y", ("x",), np.ones((2, 32)), I4), (IMAGE,), "takes a vector, got u4[2, 4, 4]\n  put a flatten before it"),
    (Dense("y", ("x",), np.ones((2, 5)), I4), (VECTOR,), "weights for 5 input and 2 output channels in 1 groups, got 6 channels"),
    (Dense("y", ("x",), np.ones((2, 6)), I4), (VECTOR, VECTOR), "dense takes 1 input, got 2"),
    (Fire("y", ("x",), np.ones(3), np.ones(2), 0, U4), (IMAGE,), "threshold needs one integer for each of 2 channels, got shape [3]"),
    (Fire("y", ("x",), np.ones(2), np.ones((2, 1)), 0, U4), (IMAGE,), "charge needs one integer for each of 2 channels, got shape [2, 1]"),
    (Fire("y", ("x",), np.array([1, 0]), np.ones(2), 0, U4), (IMAGE,), "threshold of channel 1 is 0; a neuron needs at least 1"),
    (Fire("y", ("x",), np.ones(2), np.ones(2), 48, U4), (IMAGE,), "fraction_bits lies between 0 and 47, got 48"),
    (Charge("y", ("x",), np.ones(6), -1), (VECTOR,), "fraction_bits lies between 0 and 47, got -1"),
    (
        Charge("y", ("x",), np.full(6, 2**62 - 1), 0),
        (VECTOR,),
        f"the potential reaches from {2**62 - 1} to {2**62 + 14}, past int64\n  use fewer fraction bits",
    ),
    (Add("y", (), U4), (), "adds nothing"),
    (Add("y", ("a", "b"), U4), (IMAGE, VECTOR), "adds tensors of different shapes: u4[2, 4, 4], u4[6]"),
    (SumPool2d("y", ("x",), (5, 1), (1, 1)), (IMAGE,), "kernel (5, 1) is larger than its padded input (4, 4)"),
    (MaxPool2d("y", ("x",), (2, 3), (1, 1), (1, 2)), (IMAGE,), "padding (1, 2) is more than half of kernel (2, 3)"),
    (Concat("y", ("a", "b")), (IMAGE, TensorType((2, 4, 3), U4)), "joins tensors that differ beyond their channels: u4[2, 4, 4], u4[2, 4, 3]"),
    (Concat("y", ()), (), "joins tensors that differ beyond their channels: "),
    (Slice("y", ("x",), 1, 1), (IMAGE,), "takes channels 1 to 1 of u4[2, 4, 4]"),
    (Slice("y", ("x",), 0, 3), (IMAGE,), "takes channels 0 to 3 of u4[2, 4, 4]"),
    (Slice("y", ("x",), -1, 1), (IMAGE,), "takes channels -1 to 1 of u4[2, 4, 4]"),
]


@pytest.mark.parametrize(("op", "inputs", "message"), REFUSED, ids=[message[:50] for _, _, message in REFUSED])
def test_refusals(op: Op, inputs: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(ProgramError) as error:
        op.infer(*inputs)
    assert str(error.value) == f"op y: {message}"


def test_sums_past_63_bits_are_refused() -> None:
    with pytest.raises(ProgramError, match="int64 arithmetic is exact up to 63"):
        Dense("y", ("x",), np.full((1, 6), 2**60), IntType(62, signed=True)).infer(VECTOR)
    with pytest.raises(ProgramError, match="int64 arithmetic is exact up to 63"):
        Add("y", ("a", "a"), U4).infer(*[TensorType((1,), IntType(63))] * 2)
