"""Split and Dataset: labelled images as uint8, and what must hold of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from memspike.errors import DataError, expect, first_line
from memspike.integer import Integers, frozen, whole
from memspike.words import clean


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """`images` uint8 `[n, channels, height, width]` and their `labels` int64 `[n]`, in the order of the files; both read-only."""

    images: NDArray[np.uint8]
    labels: Integers

    def __post_init__(self) -> None:
        try:
            images, labels = np.asarray(self.images), np.asarray(self.labels)
        except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths, a tensor on a GPU or with gradients
            raise DataError(f"a split has images and labels that are no arrays: {first_line(error)}", cure="a tensor becomes one by .cpu().numpy()") from error
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            cure = "pixels are 0 (black) to 255: scale them and use astype('uint8'); number the classes from 0"
            raise DataError(f"a split has images of uint8 and integer labels, not {images.dtype} and {labels.dtype}", cure=cure)
        fits_int64(labels)
        object.__setattr__(self, "images", frozen(images, np.uint8))
        object.__setattr__(self, "labels", frozen(labels))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images to train with and images to test with, of the same shape and classes.

    `source` says where they are from; `digest` is the SHA-256 of the four arrays. Raises DataError when a split is empty, shapes or
    labels disagree, or the test set holds a class that the training set lacks.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        classes: Any = self.classes
        if not isinstance(classes, tuple | list) or not all(isinstance(each, str) for each in cast(Sequence[Any], classes)):
            raise DataError(f"classes are {self.classes!r}; expected their names, in the order of the labels", where=self.name, cure="as ('cat', 'dog')")
        names = tuple(clean(each) for each in cast(Sequence[str], classes))  # names of files are bytes, some of which are no text
        twice = [each for number, each in enumerate(names) if names.index(each) < number]
        if twice:
            raise DataError(f"two classes are called {twice[0]!r}", where=self.name, cure="give each its own name")
        for field_name, said in (("name", clean(self.name)), ("source", clean(self.source)), ("classes", names)):
            object.__setattr__(self, field_name, said)
        for name, split in (("train", self.train), ("test", self.test)):
            expect(split, Split, DataError, "ms.datasets.Split(images, labels)")
            _check_split(split, len(self.classes), f"{self.name}, {name}")
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            shapes = f"{list(self.train.images.shape[1:])} in train and {list(self.test.images.shape[1:])} in test"
            raise DataError(f"images are {shapes}; all must have one size", where=self.name, cure="resize them first")
        present = {split: [self.classes[int(label)] for label in np.unique(split.labels)] for split in (self.test, self.train)}
        no_new_classes(present[self.test], present[self.train], self.name)
        object.__setattr__(self, "digest", _digest(self.train, self.test))

    def limited(self, num_train: int | None = None, num_test: int | None = None) -> "Dataset":
        """At most so many images of each split, spread evenly over it so that files sorted by class keep all their classes."""
        if num_train is None and num_test is None:
            return self
        return replace(self, train=_spread(self.train, num_train, "num_train"), test=_spread(self.test, num_test, "num_test"))


def needs_splits(found: Mapping[str, Any], where: str) -> None:
    """DataError unless `found` has both splits."""
    for name in ("train", "test"):
        if name not in found:
            raise DataError(f"has no {name} split; it has {', '.join(sorted(found)) or 'none'}", where=where, cure="a data set needs 'train' and 'test'")


def no_new_classes(test: Sequence[str], train: Sequence[str], where: str) -> None:
    """DataError when a class is tested that is not trained."""
    new = sorted(set(test) - set(train))
    if new:
        raise DataError(f"class {new[0]!r} is in test but not in train", where=where, cure="nothing can learn a class that it never sees")


def fits_int64(labels: NDArray[Any], where: str = "") -> None:
    """DataError when a label would become another number as int64."""
    if labels.dtype.kind == "u" and labels.size and labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"image {labels.argmax()} has the label {labels.max()}, more than int64 holds", where=where, cure="number the classes from 0")


def _check_split(split: Split, num_classes: int, where: str) -> None:
    if split.images.ndim != 4 or split.labels.shape != split.images.shape[:1]:
        shapes = f"images {list(split.images.shape)} and labels {list(split.labels.shape)}"
        raise DataError(f"has {shapes}; expected [n, channels, height, width] and [n]", where=where)
    if not len(split):
        raise DataError("holds no images", where=where)
    if not split.images.size:
        raise DataError(f"has images of shape {list(split.images.shape[1:])}, without a pixel", where=where)
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= num_classes))
    if wrong.size:
        what = f"image {wrong[0]} has the label {split.labels[wrong[0]]}; labels of {num_classes} classes are 0 to {num_classes - 1}"
        raise DataError(what, where=where, cure="number the classes from 0")


def _spread(split: Split, limit: int | None, option: str) -> Split:
    if limit is None:
        return split
    count = whole(limit)
    if count is None or count < 1:
        raise DataError(f"{option} is {limit!r:.40}; expected a whole number, at least 1")
    if count >= len(split):
        return split
    rows = np.arange(count) * len(split) // count
    return Split(split.images[rows], split.labels[rows])


def _digest(*splits: Split) -> str:
    digest = hashlib.sha256()
    for array in (array for split in splits for array in (split.images, split.labels)):
        digest.update(f"{array.dtype.str} {list(array.shape)} ".encode())
        digest.update(array.data)
    return digest.hexdigest()
