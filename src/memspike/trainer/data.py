"""Data: the labelled images that a training learns from and is measured on."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memspike.errors import DataError


class Split(Protocol):
    """Images uint8 `[n, channels, height, width]` and labels int64 `[n]`."""

    @property
    def images(self) -> NDArray[np.uint8]: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...


class Data(Protocol):
    """What is trained on: `train` and `test`, and `digest`, which tells one data set from another."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def train(self) -> Split: ...
    @property
    def test(self) -> Split: ...


def check_data(data: Data) -> None:
    """Raises DataError unless both splits are uint8 images and as many labels."""
    for split, images, labels in (("train", data.train.images, data.train.labels), ("test", data.test.images, data.test.labels)):
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images) or labels.shape != images.shape[:1]:
            what = f"images {images.dtype} {list(images.shape)} and labels {list(labels.shape)}; expected uint8 [n, channels, height, width] and [n], n above 0"
            raise DataError(what, where=f"{data.name}, {split}")
