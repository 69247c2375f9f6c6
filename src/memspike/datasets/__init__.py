"""Data sets: labelled images as uint8, from the embedded digits, the hub, parquet files, .npz files and image folders."""

import difflib
import re
from importlib import resources
from pathlib import Path

import numpy as np

from memspike.datasets.folders import IMAGE_SUFFIXES, from_images, parquet_files
from memspike.datasets.images import labels_of, numbered, pixels_of
from memspike.datasets.parquet import from_hub, from_parquet
from memspike.datasets.split import Dataset, Split
from memspike.errors import DataError, FileRefused, first_line
from memspike.files import read_arrays
from memspike.integer import round_half_up

__all__ = ["Dataset", "Split", "load"]

KNOWN = ("digits", "ylecun/mnist", "uoft-cs/cifar10")
KINDS = "'digits', the name of a hub data set ('ylecun/mnist'), a folder of parquet files or of images (train/<class>/*.png), or an .npz file"


def load(name: str | Path, *, num_train: int | None = None, num_test: int | None = None) -> Dataset:
    """Load a data set, at most `num_train` and `num_test` images of it.

    Args:
        name: `"digits"` (embedded, 8x8); a hub data set such as `"ylecun/mnist"`; a folder of parquet files in the hub's layout
            (`train.parquet`, `train-*.parquet` or `train/*.parquet`, and so for `test`, there or in one folder below; anything but a letter
            may follow the split's name) or of images (`train/<class>/*.png`, `test/<class>/*.png`, and nothing else in `train` and `test`);
            an .npz file with `train_images`, `train_labels`, `test_images`, `test_labels` and, if wanted, `classes`.
        num_train: keep at most so many training images, spread evenly.
        num_test: the same for test images.

    Raises:
        DataError: there is no such data set, or it is incomplete or inconsistent; the message says where.
    """
    try:
        return _load(name).limited(num_train, num_test)
    except FileRefused as error:  # whatever part of a data set cannot be read, it is the data set that is refused
        refused = DataError(error.what, where=error.where, cure=error.cure)
        refused.exit_code = error.exit_code
        raise refused from error
    except (OSError, RuntimeError) as error:  # a RuntimeError for a home that nobody has
        raise DataError(f"cannot be read: {first_line(error)}", where=str(name)) from error


def _load(name: str | Path) -> Dataset:
    try:
        path = Path(name).expanduser()
    except TypeError as error:
        raise DataError(f"a data set has a name or a path, not {name!r:.80}", cure=f"data sets are: {KINDS}") from error
    if name == "digits":
        return _digits()
    if name == "":  # else the current folder
        raise _unknown("")
    if path.suffix == ".npz" and path.is_file():
        return _from_npz(path)
    if path.is_dir():
        return _from_folder(path)
    if path.exists():
        raise DataError("is no data set", where=str(path), cure=f"data sets are: {KINDS}")
    if not isinstance(name, str) or path.suffix == ".npz" or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError("does not exist", where=str(name), cure="check the path")
    if re.fullmatch(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+", name):
        return from_hub(name)
    raise _unknown(name)


def _unknown(name: str) -> DataError:
    short = {known.split("/")[-1]: known for known in KNOWN}
    close = difflib.get_close_matches(name.lower(), [*short, *KNOWN], n=1, cutoff=0.5)
    hint = f"did you mean {short.get(close[0], close[0])!r}? " if close else ""
    return DataError(f"no data set is called {name[:80]!r}", cure=f"{hint}data sets are: {KINDS}")


def _digits() -> Dataset:
    with resources.as_file(resources.files("memspike") / "digits.npz") as path:
        arrays = read_arrays(path)
    images = round_half_up(arrays["images"][:, None] * (255 / 16)).astype(np.uint8)
    is_test = np.zeros(len(images), bool)
    is_test[arrays["test"]] = True
    train, test = (Split(images[rows], arrays["labels"][rows]) for rows in (~is_test, is_test))
    return Dataset("digits", tuple(map(str, range(10))), train, test, "UCI optical digits (test set), doi 10.24432/C50P49, as scikit-learn carries them")


# .npz files


def _from_npz(path: Path) -> Dataset:
    arrays = read_arrays(path)
    wanted = ("train_images", "train_labels", "test_images", "test_labels")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"has no array {missing[0]!r}; it has {', '.join(arrays) or 'none'}", where=str(path), cure=f"name the arrays {', '.join(wanted)}")
    train, test = (
        Split(pixels_of(arrays[f"{name}_images"], f"{path}, {name}_images"), labels_of(arrays[f"{name}_labels"], f"{path}, {name}_labels"))
        for name in ("train", "test")
    )
    names = arrays.get("classes")
    if names is not None and (names.ndim != 1 or names.dtype.kind not in "Uiu"):
        what = f"classes are {names.dtype} {list(names.shape)}; expected their names in a row"
        raise DataError(what, where=str(path), cure="save them as a list of names")
    classes = numbered(train, str(path)) if names is None else tuple(map(str, names.tolist()))
    return Dataset(path.stem, classes, train, test, str(path))


# Folders


def _from_folder(path: Path) -> Dataset:
    files = parquet_files(path)
    if files and any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.glob("train/[!.]*/[!.]*")):
        raise DataError("holds two data sets, parquet files and folders train/<class>", where=str(path), cure="move one of them to a folder of its own")
    if files:
        return from_parquet(path, files)
    if (path / "train").is_dir():
        return from_images(path)
    what = "holds neither parquet files named train.parquet, train-*.parquet or train/*.parquet nor folders train/<class>"
    raise DataError(what, where=str(path), cure=f"data sets are: {KINDS}")
