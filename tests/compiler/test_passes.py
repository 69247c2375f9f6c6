"""Digital partial sums: the text of a split layer, its exact equations, its error bound, and every refusal."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspike.compiler import Repeat, SplitPartialSums
from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import Add, Charge, Conv2d, Dense, Fire, Flatten, Op, TensorType
from memspike.program import Program
from random_programs import images_for, programs

U4, I4 = IntType(4), IntType(4, signed=True)


def wide(rng: np.random.Generator, *, charge: int = 0, groups: int = 1) -> Program:
    """A dense layer of 40 rows per group and neurons, then scores of 3 rows."""
    sizes = rng.integers(20, 60, 3)
    ops = (
        Dense("fc.sum", ("image",), rng.integers(-7, 8, (3, 40)), I4, groups),
        Fire("fc", ("fc.sum",), sizes, sizes // 2 + charge, 0, U4),
        Dense("scores.sum", ("fc",), rng.integers(-7, 8, (2, 3)), I4),
        Charge("scores", ("scores.sum",), np.array([1, -1]), 3),
    )
    return Program("wide", "image", TensorType((40 * groups,), U4), ops, "scores")


def test_a_wide_layer_becomes_tiles_that_are_added_and_divided() -> None:
    split = SplitPartialSums(rows=16, extra_bits=2).apply(wide(np.random.default_rng(0)))
    assert [(op.word, op.out, op.inputs) for op in split.ops] == [
        ("slice", "fc.tile0.in", ("image",)),
        ("dense", "fc.tile0.sum", ("fc.tile0.in",)),
        ("fire", "fc.tile0", ("fc.tile0.sum",)),
        ("slice", "fc.tile1.in", ("image",)),
        ("dense", "fc.tile1.sum", ("fc.tile1.in",)),
        ("fire", "fc.tile1", ("fc.tile1.sum",)),
        ("slice", "fc.tile2.in", ("image",)),
        ("dense", "fc.tile2.sum", ("fc.tile2.in",)),
        ("fire", "fc.tile2", ("fc.tile2.sum",)),
        ("add", "fc.total", ("fc.tile0", "fc.tile1", "fc.tile2")),
        ("fire", "fc", ("fc.total",)),
        ("dense", "scores.sum", ("fc",)),
        ("charge", "scores", ("scores.sum",)),
    ]
    assert [split.types[f"fc.tile{i}.in"].shape for i in range(3)] == [(16,), (16,), (8,)]
    assert split.notes["compile"]["split"] == [{"op": "fc.sum", "rows": 40, "tiles": 3}]


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(-50, 50))
def test_tiles_round_to_nearest_and_the_charge_goes_once(seed: int, extra_bits: int, charge: int) -> None:
    rng = np.random.default_rng(seed)
    program = wide(rng, charge=charge)
    images = rng.integers(0, 16, (20, 40))
    values = SplitPartialSums(16, extra_bits).apply(program).evaluate_all(images)
    sums, fire = program.op("fc.sum"), program.op("fc")
    assert isinstance(sums, Dense) and isinstance(fire, Fire)
    total = np.zeros((20, 3), np.int64)
    for tile, (start, stop) in enumerate([(0, 16), (16, 32), (32, 40)]):
        acc = images[:, start:stop] @ sums.weight[:, start:stop].T
        # in reals: acc / (threshold / 2**extra_bits), rounded half up
        counts = np.floor((acc + (fire.charge if tile == 0 else 0)) * 2.0**extra_bits / fire.threshold + 0.5).astype(np.int64)
        np.testing.assert_array_equal(values[f"fc.tile{tile}"], counts)
        total += counts
    np.testing.assert_array_equal(values["fc"], np.clip(total // 2**extra_bits, 0, 15))


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_a_count_is_off_by_no_more_than_half_a_tile_step_for_each_tile(seed: int, extra_bits: int) -> None:
    rng = np.random.default_rng(seed)
    program = wide(rng)
    images = rng.integers(0, 16, (50, 40))
    exact, split = program.evaluate(images), SplitPartialSums(16, extra_bits).apply(program)
    error = np.abs(split.evaluate_all(images)["fc"] - program.evaluate_all(images)["fc"])
    assert error.max() <= 1 + 3 / 2 ** (extra_bits + 1)
    assert exact.shape == split.evaluate(images).shape


def test_fine_enough_tiles_are_exact() -> None:
    program = wide(np.random.default_rng(1))
    fire = program.op("fc")
    assert isinstance(fire, Fire)
    powers = replace(fire, threshold=np.full(3, 32), charge=np.full(3, 16))
    program = replace(program, ops=(program.ops[0], powers, *program.ops[2:]))
    images = np.random.default_rng(2).integers(0, 16, (200, 40))
    np.testing.assert_array_equal(SplitPartialSums(16, extra_bits=5).apply(program).evaluate(images), program.evaluate(images))


@settings(max_examples=60)
@given(programs(), st.integers(9, 40), st.integers(0, 4), st.integers(0, 1000))
def test_a_split_program_is_right_fits_the_rows_and_never_clips_a_tile(program: Program, rows: int, extra_bits: int, seed: int) -> None:
    split = SplitPartialSums(rows, extra_bits).apply(program)
    values = split.evaluate_all(images_for(program, seed, 4))
    for op in split.ops:
        if isinstance(op, Conv2d | Dense):
            assert op.weight[0].size <= rows
        if isinstance(op, Fire | Add) and ".t" in op.out:  # tiles and totals
            unclipped = replace(op, type=IntType(62, signed=True)).evaluate(*(values[name] for name in op.inputs))
            np.testing.assert_array_equal(values[op.out], unclipped)
    assert split.input_type == program.input_type
    assert split.types[split.output].shape == program.types[program.output].shape


def test_a_program_that_fits_keeps_its_digest() -> None:
    program = wide(np.random.default_rng(0))
    assert SplitPartialSums(rows=40).apply(program).digest() == program.digest()


def test_grouped_layers_are_cut_in_every_group() -> None:
    rng = np.random.default_rng(3)
    program = wide(rng, groups=3)
    fire = program.op("fc")
    assert isinstance(fire, Fire)
    program = replace(
        program, ops=(program.ops[0], replace(fire, threshold=np.full(3, 1), charge=np.full(3, 0), type=IntType(12, signed=True)), *program.ops[2:])
    )
    split = SplitPartialSums(16, extra_bits=0).apply(program)
    assert split.op("fc.tile0.in").inputs == ("fc.tile0.in0", "fc.tile0.in1", "fc.tile0.in2")
    images = rng.integers(0, 16, (30, 120))
    np.testing.assert_array_equal(split.evaluate(images), program.evaluate(images))  # threshold 1: tiles have nothing to round


def test_convolutions_are_cut_between_whole_input_channels() -> None:
    rng = np.random.default_rng(4)
    ops = (
        Conv2d("conv.sum", ("image",), rng.integers(-7, 8, (2, 5, 3, 3)), I4, (2, 1), (1, 0), (1, 2)),
        Fire("conv", ("conv.sum",), np.ones(2), np.zeros(2), 0, IntType(14, signed=True)),
        *_head(rng, "conv", 2 * 4 * 3),
    )
    program = Program("conv", "image", TensorType((5, 7, 7), U4), ops, "scores")
    split = SplitPartialSums(rows=20, extra_bits=0).apply(program)
    assert [split.types[f"conv.tile{i}.in"].shape[0] for i in range(3)] == [2, 2, 1]
    images = images_for(program, 0, 10)
    np.testing.assert_array_equal(split.evaluate_all(images)["conv"], program.evaluate_all(images)["conv"])


def _head(rng: np.random.Generator, read: str, rows: int) -> tuple[Op, ...]:
    dense = Dense("scores.sum", ("flat",), rng.integers(-1, 2, (2, rows)), I4)
    return (Flatten("flat", (read,)), dense, Charge("scores", ("scores.sum",), np.zeros(2), 0))


def test_scores_become_added_counts_of_one_step() -> None:
    rng = np.random.default_rng(5)
    weight = rng.integers(-7, 8, (3, 40))
    ops = (Dense("scores.sum", ("image",), weight, I4), Charge("scores", ("scores.sum",), np.array([100, -40, 0]), 2))
    program = Program("wide", "image", TensorType((40,), U4), ops, "scores")
    split = SplitPartialSums(16, extra_bits=2).apply(program)
    assert split.op("scores").word == "add"
    first = split.op("scores.tile0")
    assert isinstance(first, Fire)
    (step,) = set(first.threshold.tolist())
    tiles = [weight[:, a:b] for a, b in ((0, 16), (16, 32), (32, 40))]
    largest = max(int(np.abs(tile.clip(min=0).sum(1)).max()) for tile in [*tiles, *(-t for t in tiles)]) * 15 << 2
    assert step == -(-largest // (15 << 2))
    images = rng.integers(0, 16, (50, 40))
    error = split.evaluate(images) - program.evaluate(images) / step
    assert np.abs(error).max() <= 3 / 2


def _sums_read_twice() -> Program:
    ops = (
        Dense("fc.sum", ("image",), np.ones((2, 9)), I4),
        Fire("fc", ("fc.sum",), np.ones(2), np.zeros(2), 0, U4),
        Add("relu", ("fc.sum",), U4),
        Add("scores", ("fc", "relu"), U4),
    )
    return Program("twice", "image", TensorType((9,), U4), ops, "scores")


def _kernel() -> Program:
    rng = np.random.default_rng(0)
    ops = (Conv2d("conv.sum", ("image",), np.ones((1, 1, 3, 3)), I4), Fire("conv", ("conv.sum",), np.ones(1), np.zeros(1), 0, U4), *_head(rng, "conv", 4))
    return Program("kernel", "image", TensorType((1, 4, 4), U4), ops, "scores")


def _overflow() -> Program:
    large: Integers = np.array([2**60 + 1])
    ops = (Dense("fc.sum", ("image",), np.ones((1, 9)), I4), Fire("fc", ("fc.sum",), large, large, 0, U4))
    return Program("overflow", "image", TensorType((9,), U4), ops, "fc")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (_sums_read_twice(), "op fc.sum: is read by fc, relu; a sum is cut only in front of one fire or charge"),
        (_kernel(), "op conv.sum: one input channel needs 9 rows, a tile has 8\n  use a smaller kernel or a crossbar with more rows"),
        (_overflow(), "op fc: 4 extra bits overflow int64\n  use fewer extra bits"),
    ],
)
def test_refusals(program: Program, message: str) -> None:
    with pytest.raises(ProgramError) as error:
        SplitPartialSums(rows=8, extra_bits=4).apply(program)
    assert str(error.value) == message


def test_rows_and_extra_bits_have_limits() -> None:
    with pytest.raises(ProgramError) as error:
        SplitPartialSums(rows=0)
    assert str(error.value) == "SplitPartialSums: needs at least 1 row and 0 to 16 extra bits, got 0 rows and 2 extra bits"


def test_a_repeated_layer_reads_its_input_so_many_times() -> None:
    program = Repeat("fc.sum", 3).apply(wide(np.random.default_rng(0)))
    assert [(op.word, op.out, op.inputs) for op in program.ops[:3]] == [
        ("concat", "fc.sum.in", ("image",) * 3),
        ("dense", "fc.sum", ("fc.sum.in",)),
        ("fire", "fc", ("fc.sum",)),
    ]
    assert program.types["fc.sum.in"].shape == (120,) and program.notes["compile"]["repeat"] == [{"op": "fc.sum", "times": 3}]


@settings(max_examples=60)
@given(programs(), st.data(), st.integers(1, 5), st.integers(0, 1000))
def test_a_repeated_layer_changes_no_count(program: Program, data: st.DataObject, times: int, seed: int) -> None:
    """Sums grow; every other value of every program is what it was."""
    fired = [op for op in program.ops if isinstance(op, Conv2d | Dense) and op.groups == 1 and isinstance(program.users(op.out)[0], Fire)]
    if not fired:
        return
    op = data.draw(st.sampled_from(fired))
    images = images_for(program, seed, 4)
    before, after = program.evaluate_all(images), Repeat(op.out, times).apply(program).evaluate_all(images)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values * (times if name == op.out else 1))


def test_what_cannot_be_repeated_says_why() -> None:
    program = wide(np.random.default_rng(0))
    for op, times, message in (
        ("fc.sum", 0, "written 0 times"),
        ("fc.sum", 10**9, "has 120 weights; 1000000000 times as many are more than 134217728"),
        ("fc.summ", 2, "no op defines 'fc.summ'"),
        ("fc", 2, "is a fire; only a conv2d or dense"),
        ("scores.sum", 2, "scores have no threshold"),
    ):
        with pytest.raises(ProgramError, match=message):
            Repeat(op, times).apply(program)
    with pytest.raises(ProgramError, match="dense of 3 groups"):
        Repeat("fc.sum", 2).apply(wide(np.random.default_rng(0), groups=3))
