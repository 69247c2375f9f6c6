"""Bits: what they allow, and which layer an override reaches."""

from typing import Any

import numpy as np
import pytest

from memspike.errors import TrainingError
from memspike.integer import IntType
from memspike.pixels import PixelCode
from memspike.trainer.bits import Bits


def test_the_default_is_four_bits_for_everything() -> None:
    bits = Bits()
    assert (bits.activation_of("a"), bits.weight_of("a"), bits.image_type) == (4, 4, IntType(4))
    assert bits.largest_weight("a") == 7


@pytest.mark.parametrize("bits", range(2, 9))
def test_grids_reach_as_far_as_they_say(bits: int) -> None:
    assert Bits(4, bits).largest_weight("a") == 2 ** (bits - 1) - 1
    assert Bits(4, bits, grid="liu2018").largest_weight("a") == 2 ** (bits - 1)


def test_the_image_may_have_bits_of_its_own() -> None:
    assert Bits(4, 4, 8).image_type == IntType(8) and Bits(None, 4).image_type is None


def test_the_last_matching_override_wins_and_none_keeps_the_default() -> None:
    bits = Bits(4, 3, overrides=(("block*", 5, 8), ("block2", None, 6), ("block3", 7, None)))
    assert [(bits.activation_of(name), bits.weight_of(name)) for name in ("stem", "block1", "block2", "block3")] == [(4, 3), (5, 8), (5, 6), (7, 8)]


EACH = "\n  expected (layer or pattern, activation bits or None, weight bits or None) for each layer, in a tuple: overrides=(('fc1', 8, 6),)"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"activation": 1}, "activation bits must lie between 2 and 8, got 1"),
    ({"weight": 9}, "weight bits must lie between 2 and 8, got 9"),
    ({"image": 0}, "image bits must lie between 2 and 8, got 0"),
    ({"overrides": (("fc", 1, None),)}, "fc (activation) bits must lie between 2 and 8, got 1"),
    ({"overrides": (("fc", None, 16),)}, "fc (weight) bits must lie between 2 and 8, got 16"),
    ({"activation": 4.5}, "activation bits must be a whole number, got 4.5"),
    ({"weight": 4.0}, "weight bits must be a whole number, got 4.0"),
    ({"image": "4"}, "image bits must be a whole number, got '4'"),
    ({"overrides": (("fc", 8),)}, "the override ('fc', 8) is none" + EACH),
    ({"overrides": ("fc", 8, 6)}, "the override 'fc' is none" + EACH),
    ({"overrides": ("fc1", 8, 6)}, "the override 'fc1' is none" + EACH),
    ({"overrides": ((1, 8, 6),)}, "the override (1, 8, 6) is none" + EACH),
    ({"overrides": {"fc1": (8, 6)}}, "overrides are {'fc1': (8, 6)}" + EACH),
    ({"overrides": (("fc", 2.5, None),)}, "fc (activation) bits must be a whole number, got 2.5"),
    ({"overrides": (("fc", None, True),)}, "fc (weight) bits must be a whole number, got True"),
    ({"pixels": PixelCode(lines=18)}, "18 lines of 4 bits count 271 levels, a pixel has 256\n  lines of 4 bits are of use up to 17"),
    ({"grid": "log"}, "unknown weight grid 'log'\n  grids: symmetric, liu2018"),
    (
        {"activation": None, "overrides": (("fc", 4, None),)},
        "fc has activation bits, all other activations are floating point\n  give the others activation bits too",
    ),
    ({"weight": None, "overrides": (("fc", None, 4),)}, "fc has weight bits, all other weights are floating point\n  give the others weight bits too"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        Bits(**options)
    assert str(error.value) == message


def test_numpys_whole_numbers_are_as_good_as_pythons() -> None:
    three = np.int64(3)
    assert repr(Bits(three, three, three, (("fc", three, None),))) == repr(Bits(3, 3, 3, (("fc", 3, None),)))


def test_an_override_that_no_layer_answers_to_is_refused() -> None:
    def said(*override: Any) -> str:
        with pytest.raises(TrainingError) as error:
            Bits(overrides=(override,)).check_overrides(["conv1", "add", "fc"], ["conv1", "fc"])
        return str(error.value)

    assert said("conv2", 4, None) == "no layer with activation bits is called 'conv2'\n  layers: conv1, add, fc"
    assert said("add", None, 4) == "no layer with weight bits is called 'add'\n  layers: conv1, fc"
    Bits(overrides=(("add", 5, None), ("conv*", 5, 5))).check_overrides(["conv1", "add"], ["conv1"])
