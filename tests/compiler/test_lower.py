"""Lowering: closed forms of thresholds and charges, names and types of the ops, and every refusal."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memspike.compiler import compile
from memspike.errors import ModelError, ProgramError
from memspike.integer import IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.ops import Charge, Conv2d, Dense, Fire, SumPool2d
from memspike.pixels import PixelCode

U4, I4 = IntType(4), IntType(4, signed=True)


def network(*layers: QuantizedLayer, shape: tuple[int, ...] = (3,), input_scale: float = 1.0) -> QuantizedNetwork:
    return QuantizedNetwork("net", shape, U4, input_scale, layers, {"seed": 7})


def dense(name: str = "fc", read: str = "image", weight: Any = ((1, 2, 3), (-1, 0, 7)), **changes: Any) -> QuantizedLayer:
    return replace(QuantizedLayer(name, "dense", (read,), U4, 1.0, np.array(weight), I4), **changes)


def head(read: str = "fc", **changes: Any) -> QuantizedLayer:
    return replace(dense("head", read, ((1, -1), (2, 1)), activation_type=None), **changes)


def numbers(layer: QuantizedLayer, **options: Any) -> tuple[list[int], list[int], int]:
    fire = compile(network(layer, head(), **options)).op("fc")
    assert isinstance(fire, Fire)
    return fire.threshold.tolist(), fire.charge.tolist(), fire.fraction_bits


def test_a_layer_becomes_a_sum_and_neurons_and_the_last_one_a_charge() -> None:
    program = compile(network(dense(), head()))
    assert [(op.word, op.out, op.inputs) for op in program.ops] == [
        ("dense", "fc.sum", ("image",)),
        ("fire", "fc", ("fc.sum",)),
        ("dense", "head.sum", ("fc",)),
        ("charge", "scores", ("head.sum",)),
    ]
    assert program.output == "scores" and program.name == "net" and program.input == "image"
    assert program.notes["seed"] == 7
    assert program.notes["compile"]["layers"] == [
        {"layer": "fc", "fraction_bits": 0, "sum_bits": 8, "breakpoints": 30, "moved": 0, "largest_move": 0},
        {"layer": "head", "fraction_bits": 0, "sum_bits": 7, "breakpoints": 2, "moved": 0, "largest_move": 0},
    ]


def test_equal_steps_need_no_fraction() -> None:
    assert numbers(dense()) == ([1, 1], [0, 0], 0)


def test_half_a_threshold_is_charged_so_that_counts_round_half_up() -> None:
    assert numbers(dense(activation_scale=2.0)) == ([2, 2], [1, 1], 0)
    assert numbers(dense(activation_scale=8.0)) == ([8, 8], [4, 4], 0)


def test_gain_and_scales_set_the_threshold() -> None:
    # one unit of the sum is 0.5 * 0.25 * gain real units, so a step of 1 takes 8 / gain of them
    layer = dense(weight_scale=0.25, gain=np.array([1.0, 4.0]), offset=np.array([0.0, 1.5]))
    threshold, charge, fraction_bits = numbers(layer, input_scale=0.5)
    assert (np.array(threshold) / 2**fraction_bits).tolist() == [8.0, 2.0]
    assert (np.array(charge) / 2**fraction_bits).tolist() == [4.0, 4.0]


def test_thirds_get_just_the_fraction_bits_that_keep_every_count() -> None:
    # A count takes 10 / 3 sums: breakpoints 5 / 3, 5 and 25 / 3, so 2, 5 and 9. No whole threshold has them, and with one fraction bit only
    # (acc * 2 + 4) / 7 does; rounding 20 / 3 and 10 / 3 alone would give (acc * 2 + 3) / 7 and count two from 6 on.
    layer = dense(weight_scale=3.0, activation_scale=10.0, activation_type=IntType(2))
    assert numbers(layer) == ([7, 7], [4, 4], 1)


def test_a_negative_gain_turns_the_weights() -> None:
    program = compile(network(dense(gain=np.array([1.0, -1.0])), head()))
    op = program.op("fc.sum")
    assert isinstance(op, Dense)
    assert op.weight.tolist() == [[1, 2, 3], [1, 0, -7]]
    assert numbers(dense(gain=np.array([1.0, -1.0]))) == ([1, 1], [0, 0], 0)


def test_a_gain_of_zero_makes_a_constant() -> None:
    program = compile(network(dense(gain=np.array([0.0, 1.0]), offset=np.array([2.5, 0.0])), head()))
    op = program.op("fc.sum")
    assert isinstance(op, Dense)
    assert op.weight.tolist() == [[0, 0, 0], [-1, 0, 7]]
    counts = program.evaluate_all(np.random.default_rng(0).integers(0, 16, (20, 3)))["fc"]
    assert set(counts[:, 0].tolist()) == {3}


def test_a_nearly_dead_channel_does_not_overflow() -> None:
    program = compile(network(dense(gain=np.array([1e-300, 1.0]), offset=np.array([1e9, -1e9])), head()))
    counts = program.evaluate_all(np.random.default_rng(0).integers(0, 16, (20, 3)))["fc"]
    assert counts.tolist() == [[15, 0]] * 20


def test_a_pooled_average_divides_by_its_area_and_changes_the_step() -> None:
    pool = QuantizedLayer("pool", "average_pool", ("image",), U4, 1.0, kernel=(2, 2), stride=(2, 2))
    flat = QuantizedLayer("flat", "flatten", ("pool",))
    program = compile(network(pool, flat, head("flat"), shape=(2, 2, 2)))
    total, fire = program.op("pool.sum"), program.op("pool")
    assert isinstance(total, SumPool2d) and isinstance(fire, Fire)
    assert (fire.threshold.tolist(), fire.charge.tolist(), fire.fraction_bits) == ([4, 4], [2, 2], 0)
    finer = compile(network(replace(pool, activation_scale=0.25), flat, head("flat"), shape=(2, 2, 2))).op("pool")
    assert isinstance(finer, Fire)
    assert (finer.threshold.tolist(), finer.charge.tolist(), finer.fraction_bits) == ([1, 1], [0, 0], 0)


def test_offsets_of_scores_keep_only_the_fraction_bits_that_decide() -> None:
    program = compile(network(dense("head", offset=np.array([0.25, 3.0]), activation_type=None)))
    scores = program.op("scores")
    assert isinstance(scores, Charge)
    assert (scores.charge.tolist(), scores.fraction_bits) == ([1, 6], 1)


def test_scores_may_be_counts() -> None:
    program = compile(network(dense(activation_type=IntType(6, signed=True))))
    assert program.output == "fc" and str(program.types["fc"]) == "i6[2]"


def test_strides_padding_dilation_and_groups_are_the_layers() -> None:
    layer = QuantizedLayer("conv", "conv2d", ("image",), U4, 1.0, np.ones((4, 1, 2, 3)), I4, stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2)
    flat = QuantizedLayer("flat", "flatten", ("conv",))
    program = compile(network(layer, flat, head("flat", weight=np.ones((2, 64))), shape=(2, 7, 2)))
    op = program.op("conv.sum")
    assert isinstance(op, Conv2d)
    assert (op.stride, op.padding, op.dilation, op.groups) == ((2, 1), (1, 2), (2, 1), 2)


def test_weights_are_repeated_for_every_line_behind_what_only_rearranges_an_image() -> None:
    rng, lines = np.random.default_rng(0), PixelCode(lines=3)
    layers = (
        QuantizedLayer("pool", "max_pool", ("image",), kernel=(2, 2), stride=(2, 2)),
        QuantizedLayer("twice", "concat", ("pool", "pool")),
        QuantizedLayer("flat", "flatten", ("twice",)),
        head("flat", weight=rng.integers(-7, 8, (2, 16))),
    )
    program = compile(replace(network(*layers, shape=(2, 4, 4)), pixels=lines))
    whole = rng.integers(0, 46, (5, 2, 4, 4))
    pooled = whole.reshape(5, 2, 2, 2, 2, 2).max(axis=(3, 5))
    wanted = np.concatenate([pooled, pooled], axis=1).reshape(5, -1) @ np.asarray(layers[-1].weight).T
    assert program.input_type.shape == (6, 4, 4) and program.pixels == lines
    assert (program.evaluate_all(lines.on_lines(whole))["head.sum"] == wanted).all()


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (QuantizedLayer("y", "average_pool", ("image",), U4, kernel=(2, 2), stride=(2, 2)), "layer y: no average_pool can read pixels on 3 lines"),
        (QuantizedLayer("y", "add", ("image", "image"), U4), "layer y: no add can read pixels on 3 lines"),
        (dense("y", "flat", ((1,),) * 32, groups=32), "layer y: reads parts of images on 3 lines"),
    ],
)
def test_what_cannot_read_an_image_line_by_line_is_refused(layer: QuantizedLayer, says: str) -> None:
    flat = (QuantizedLayer("flat", "flatten", ("image",)),) if "flat" in layer.inputs else ()
    with pytest.raises(ModelError) as caught:
        compile(replace(network(*flat, layer, shape=(2, 4, 4)), pixels=PixelCode(lines=3)))
    assert str(caught.value).startswith(says)


def test_breakpoints_that_int64_cannot_place_are_reported() -> None:
    # 16-bit counts of sums of 34 bits leave 11 fraction bits: a threshold is then off by up to 2**-12, and 65535 thresholds by up to 16 sums.
    layer = dense(weight=((2**30, 1, 0), (2**30, 0, 1)), weight_type=IntType(32, signed=True), activation_type=IntType(16), activation_scale=2**18 / 3)
    note = compile(network(layer, head())).notes["compile"]["layers"][0]
    assert note["fraction_bits"] == 61 - 16 - note["sum_bits"]
    assert 0 < note["moved"] < note["breakpoints"] and 1 <= note["largest_move"] <= 16


SKIP = QuantizedLayer("skip", "add", ("image", "fc"), U4)
REFUSED = {
    "layer fc: kind 'lstm' is unknown; known are conv2d, dense, average_pool, max_pool, add, concat, flatten": [dense(kind="lstm")],
    "layer fc: reads 'img', which is neither 'image' nor the counts of an earlier layer": [dense(read="img")],
    "layer head: reads 'fc', which is neither 'image' nor the counts of an earlier layer": [dense(activation_type=None), head()],
    "layer fc: a dense reads one value, got 2": [dense(inputs=("image", "image"))],
    "layer fc: a dense needs weight and weight_type": [dense(weight_type=None)],
    "layer fc: gain needs one finite number for each of 2 channels, got shape [3]": [dense(gain=np.ones(3)), head()],
    "layer fc: offset needs one finite number for each of 2 channels, got shape [2]": [dense(offset=np.array([0, np.nan])), head()],
    "layer fc: weight_scale is 0.0; expected a finite number above zero": [dense(weight_scale=0.0), head()],
    "layer fc: activation_scale is inf; expected a finite number above zero": [dense(activation_scale=float("inf")), head()],
    "layer fc: weights from -7 to 8, the signs of the gains applied, do not fit i4\n  use weights whose negatives fit too: -7 to 7 in i4": [
        dense(weight=((1, 2, -8), (-7, 0, 0)), gain=np.array([-1.0, 1.0])),
        head(),
    ],
    "layer head: scores need one positive gain for all classes\n  fold the gains into the weights before they are quantised": [
        dense(),
        head(gain=np.array([1.0, 2.0])),
    ],
    "layer skip: joins counts of different steps: image counts in 1.0, fc in 2.0\n"
    "  train with one activation_scale for everything that meets in an add or a concat": [
        dense(activation_scale=2.0),
        SKIP,
        head("skip"),
    ],
    "layer skip: says activation_scale 3.0, but its inputs count in 1.0": [dense(), replace(SKIP, activation_scale=3.0), head("skip")],
    "layer skip: an add needs an activation_type to clip to": [dense(), replace(SKIP, activation_type=None), head("skip")],
    "layer flat: says activation_type i4, but a flatten gives u4": [QuantizedLayer("flat", "flatten", ("image",), I4), head("flat")],
    "layer pool: an average_pool needs an activation_type": [QuantizedLayer("pool", "average_pool", ("image",))],
    "network net: has no layers": [],
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(message: str) -> None:
    with pytest.raises(ModelError) as error:
        compile(network(*REFUSED[message]))
    assert str(error.value) == message


def test_negative_scores_gain_and_input_scale_are_refused() -> None:
    with pytest.raises(ModelError, match="scores need one positive gain"):
        compile(network(dense(), head(gain=np.array([-1.0, -1.0]))))
    with pytest.raises(ModelError, match="network net: input_scale is nan; expected a finite number above zero"):
        compile(network(dense(), head(), input_scale=float("nan")))


def test_windows_and_sums_that_are_too_long_are_refused() -> None:
    with pytest.raises(ProgramError, match="counts of type u17 need windows of 131072 timesteps; at most 16 bits are compiled"):
        compile(network(dense(activation_type=IntType(17)), head()))
    huge = dense(weight=((2**50, 0, 0), (0, 0, 1)), weight_type=IntType(60, signed=True))
    with pytest.raises(ProgramError, match="sums and counts need 70 bits together; potentials are exact up to 61"):
        compile(network(replace(huge, activation_type=IntType(16)), head()))


def test_partial_sums_are_named_and_digital_ones_need_the_rows() -> None:
    with pytest.raises(ProgramError) as error:
        compile(network(dense(), head()), partial_sums="mixed")  # pyright: ignore[reportArgumentType]
    assert str(error.value) == "compile: partial_sums is 'mixed'; expected 'analog' or 'digital'"
    with pytest.raises(ProgramError) as error:
        compile(network(dense(), head()), partial_sums="digital")
    assert str(error.value) == "compile: digital partial sums depend on the crossbar\n  pass rows=chip.crossbar.rows"
