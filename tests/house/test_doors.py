"""Doors: a thing of another kind is refused with where one comes from, never by a traceback."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import memspike as ms
from chips import test_chip
from memspike.errors import ChipError, CostError, DataError, FileRefused, MappingError, MemspikeError, ModelError, ProgramError, SimulationError
from memspike.mapping import FaultMap
from small_programs import small_network, some_activity

PROGRAM, CHIP = small_network(), test_chip()
MAPPING = ms.map(PROGRAM, CHIP)
IMAGES = np.zeros((2, *PROGRAM.input_type.shape), np.int64)
RESULT = ms.simulate(MAPPING, IMAGES)
PIXELS, LABELS = np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 0, 1])
SPLIT = ms.datasets.Split(PIXELS, LABELS)
REFUSED: list[tuple[Callable[[], Any], type[MemspikeError], str]] = [
    (lambda: ms.compile(torch.nn.Linear(2, 2)), ModelError, "expected a QuantizedNetwork, got a Linear"),
    (lambda: ms.compile(PROGRAM), ModelError, "expected a QuantizedNetwork, got a Program"),
    (lambda: ms.map(PROGRAM, "predictive"), MappingError, "expected a Chip, got 'predictive'\n  ms.load_chip('predictive')"),
    (lambda: ms.map(MAPPING, CHIP), MappingError, "expected a Program, got a Mapping"),
    (lambda: ms.map(PROGRAM, CHIP, faults=np.zeros((5, 8, 8))), MappingError, "expected a FaultMap, got a ndarray"),
    (
        lambda: ms.map(PROGRAM, CHIP, avoid=("rows",)),
        MappingError,
        "program small: avoid says how weights are mapped around stuck cells, and no faults are given",
    ),
    (lambda: ms.simulate(PROGRAM, IMAGES), SimulationError, "expected a Mapping, got a Program\n  ms.map(program, chip)"),
    (lambda: ms.simulate(MAPPING, IMAGES, fidelity="analog", time="1d"), SimulationError, "time is '1d'; expected a number of seconds\n  a day is 86400.0"),
    (lambda: ms.estimate(RESULT, MAPPING), CostError, "expected a Mapping, got a Result"),
    (lambda: ms.estimate(MAPPING, MAPPING), CostError, "expected a Result or an Activity, got a Mapping"),
    (lambda: ms.report(PROGRAM, [(MAPPING, MAPPING)], {}), MemspikeError, "expected a QuantizedNetwork, got a Program"),
    (lambda: CHIP.with_device("wan2022-hfox"), ChipError, "expected a Device, got 'wan2022-hfox'\n  ms.load_device('wan2022-hfox')"),
    (lambda: PROGRAM.count_pixels(np.zeros((2, 5, 8, 8), np.uint8)), ProgramError, "program small: takes images [n, 2, 8, 8], got [2, 5, 8, 8]"),
    (lambda: PROGRAM.count_pixels(np.zeros((2, 8, 8), np.uint8)), ProgramError, "program small: takes images [n, 2, 8, 8], got [2, 8, 8]"),
    (lambda: ms.Dataset("d", 3, SPLIT, SPLIT, "here"), DataError, "d: classes are 3; expected their names, in the order of the labels"),
    (lambda: ms.Dataset("d", "ab", SPLIT, SPLIT, "here"), DataError, "d: classes are 'ab'; expected their names"),
    (lambda: ms.Dataset("d", ("a", "b"), (PIXELS, LABELS), SPLIT, "here"), DataError, "expected a Split, got a tuple"),
    (lambda: ms.datasets.Split([[1], [2, 3]], LABELS), DataError, "a split has images and labels that are no arrays"),
    (lambda: ms.datasets.Split(PIXELS / 255, LABELS), DataError, "a split has images of uint8 and integer labels, not float64 and int64\n  pixels are 0"),
]


@pytest.mark.parametrize(("enter", "error", "said"), REFUSED, ids=range(len(REFUSED)))
def test_another_kind_of_thing_is_refused(enter: Callable[[], Any], error: type[MemspikeError], said: str) -> None:
    with pytest.raises(error) as caught:
        enter()
    assert str(caught.value).startswith(said)


def test_what_they_take_they_take() -> None:
    assert ms.map(
        PROGRAM, CHIP, avoid=("rows",), faults=FaultMap(np.zeros((MAPPING.num_crossbars, CHIP.crossbar.rows, CHIP.crossbar.columns), np.uint8), "test")
    )
    assert ms.estimate(MAPPING, some_activity(MAPPING)).energy > 0
    split = ms.datasets.Split(torch.from_numpy(PIXELS), LABELS.tolist())  # pyright: ignore[reportArgumentType]
    assert np.array_equal(split.images, PIXELS) and np.array_equal(split.labels, LABELS) and split.images.dtype == np.uint8
    pixels = torch.full((2, *PROGRAM.input_type.shape), 255, dtype=torch.uint8)
    assert (PROGRAM.count_pixels(pixels) == PROGRAM.input_type.type.max).all()  # pyright: ignore[reportArgumentType]


def test_a_kind_is_a_class(tmp_path: Any) -> None:
    path = ms.save(PROGRAM, tmp_path / "program.safetensors")
    with pytest.raises(FileRefused, match=r"the kind 'Program' is none\n  kinds are: Program, QuantizedNetwork"):
        ms.load(path, "Program")  # pyright: ignore[reportCallIssue, reportArgumentType]
