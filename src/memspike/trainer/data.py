"""Data: the labelled images that a training learns from and is measured on."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memspike.errors import DataError, kind_of


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
    """Raises DataError unless both splits are uint8 images of one size and as many integer labels, classes numbered from 0."""
    if not all(hasattr(data, name) for name in ("name", "digest", "source", "train", "test")):
        cure = "ms.datasets.load(...) reads one; of arrays: ms.Dataset(name, classes, ms.datasets.Split(images, labels), ms.datasets.Split(...), source)"
        raise DataError(f"expected a Dataset, got {kind_of(data)}", cure=cure)
    for split, images, labels in (("train", data.train.images, data.train.labels), ("test", data.test.images, data.test.labels)):
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images) or labels.shape != images.shape[:1]:
            what = f"images {images.dtype} {list(images.shape)} and labels {list(labels.shape)}; expected uint8 [n, channels, height, width] and [n], n above 0"
            raise DataError(what, where=f"{data.name}, {split}")
        if labels.dtype.kind not in "iu" or labels.min() < 0:
            lowest = f" from {labels.min()} on" if labels.dtype.kind in "iu" else ""
            raise DataError(f"labels are {labels.dtype}{lowest}; expected integers, 0 or more", where=f"{data.name}, {split}", cure="number the classes from 0")
    sizes = [list(images.shape[1:]) for images in (data.train.images, data.test.images)]
    if sizes[0] != sizes[1]:
        raise DataError(f"images are {sizes[0]} in train and {sizes[1]} in test; all must have one size", where=data.name, cure="resize them first")
