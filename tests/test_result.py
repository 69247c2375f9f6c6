"""Result: predictions, and accuracy against labels of every kind that people bring."""

from typing import Any

import numpy as np
import pytest
import torch

from memspike.errors import SimulationError
from memspike.result import Activity, Provenance, Result

SCORES = np.array([[3, -2, 0], [2**40, 1, 2**40], [0, 1, 2], [5, 5, 6]])  # classes 0, 0 (a tie), 2, 2


def result(scores: np.ndarray = SCORES) -> Result:
    return Result(scores, Activity({}, {}, len(scores)), Provenance("0", "p", "c", "ideal", "up_down", "even", 0))


def refused(labels: Any, found: Result | None = None) -> str:
    with pytest.raises(SimulationError) as error:
        (found or result()).accuracy(labels)
    return str(error.value)


@pytest.mark.filterwarnings("error")
def test_labels_may_be_integers_of_every_kind() -> None:
    labels = [0, 1, 2, 0]
    kinds: list[Any] = [labels, tuple(labels), *(np.array(labels, kind) for kind in (np.int64, np.uint8, np.uint64, ">i4")), torch.tensor(labels)]
    assert [result().accuracy(kind) for kind in kinds] == [0.5] * len(kinds)
    assert result(SCORES[:1]).accuracy([0]) == 1.0


def test_labels_that_are_no_integers_one_for_each_image_are_refused() -> None:
    cure = "\n  a label is the number of a class: one-hot rows become numbers by argmax(axis=1), a tensor an array by .cpu().numpy()"
    wanted = "; expected integers [4], one for each image" + cure
    assert refused(np.zeros((4, 1), np.int64)) == "labels are int64 [4, 1]" + wanted
    assert refused(torch.eye(3, dtype=torch.int64)[[0, 1, 2, 0]]) == "labels are int64 [4, 3]" + wanted
    assert refused([0, 1, 2]) == "labels are int64 [3]" + wanted
    assert refused(0) == "labels are int64 []" + wanted
    assert refused([0.0, 1.0, 2.0, 0.0]) == "labels are float64 [4]" + wanted
    assert refused([True] * 4) == "labels are bool [4]" + wanted
    assert refused(["0", "1", "2", "0"]) == "labels are <U1 [4]" + wanted
    assert refused(None) == "labels are object []" + wanted
    for labels in ([[0, 1], [2], [0], [1]], torch.zeros(4, requires_grad=True)):
        said = refused(labels)
        assert said.startswith("labels are no array: ") and said.endswith(cure)


def test_labels_of_no_class_are_refused() -> None:
    """Counted from 1, they would show as a poor accuracy."""
    said = "; the program has 3 classes, 0 to 2\n  count classes from 0, in the order of the program's scores"
    assert refused([1, 2, 3, 1]) == "labels from 1 to 3" + said and refused([0, -1, 0, 0]) == "labels from -1 to 0" + said


def test_a_number_of_a_result_is_one_however_it_is_written() -> None:
    one, other = (Provenance("0", "p", "c", "analog", "up_down", "even", seed, time) for seed, time in ((3, 86400.0), (np.int64(3), 86400)))
    assert one == other and one.digest() == other.digest()


def test_no_images_have_no_accuracy() -> None:
    assert refused([], result(SCORES[:0])) == "an accuracy needs images, and none were simulated"
