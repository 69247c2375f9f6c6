"""Data sets: labelled images as uint8, from the embedded digits, the hub, parquet files, .npz files and image folders."""

import contextlib
import difflib
import hashlib
import importlib
import io
import logging
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from memspike.errors import DataError, FileRefused
from memspike.files import read_arrays, read_bytes, write_arrays
from memspike.integer import Integers, IntType, frozen, round_half_up, to_counts

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
KNOWN = ("digits", "ylecun/mnist", "uoft-cs/cifar10")
KINDS = "'digits', the name of a hub data set ('ylecun/mnist'), a folder of parquet files or of images (train/<class>/*.png), or an .npz file"
_CACHE_VERSION = 1  # a new number leaves behind every array that an older memspike decoded


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """`images` uint8 `[n, channels, height, width]` and their `labels` int64 `[n]`, in the order of the files; both read-only."""

    images: NDArray[np.uint8]
    labels: Integers

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.labels.dtype.kind not in "iu":
            raise DataError(f"a split has images of uint8 and integer labels, not {self.images.dtype} and {self.labels.dtype}")
        object.__setattr__(self, "images", frozen(self.images, np.uint8))
        object.__setattr__(self, "labels", frozen(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self, image_type: IntType) -> Integers:
        """The images as spike counts of `image_type`, int64 `[n, channels, height, width]`."""
        return to_counts(self.images, image_type)


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
        for name, split in (("train", self.train), ("test", self.test)):
            _check_split(split, len(self.classes), f"{self.name}, {name}")
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            shapes = f"{list(self.train.images.shape[1:])} in train and {list(self.test.images.shape[1:])} in test"
            raise DataError(f"images are {shapes}; all must have one size", where=self.name, cure="resize them first")
        present = {split: [self.classes[int(label)] for label in np.unique(split.labels)] for split in (self.test, self.train)}
        _no_new_classes(present[self.test], present[self.train], self.name)
        object.__setattr__(self, "digest", _digest(self.train, self.test))

    def limited(self, num_train: int | None = None, num_test: int | None = None) -> "Dataset":
        """At most so many images of each split, spread evenly over it so that files sorted by class keep all their classes."""
        if num_train is None and num_test is None:
            return self
        return replace(self, train=_spread(self.train, num_train, "num_train"), test=_spread(self.test, num_test, "num_test"))


def load(name: str | Path, *, num_train: int | None = None, num_test: int | None = None) -> Dataset:
    """Load a data set, at most `num_train` and `num_test` images of it.

    Args:
        name: `"digits"` (embedded, 8x8); a hub data set such as `"ylecun/mnist"`; a folder of parquet files in the hub's layout
            (`train*.parquet`, `test*.parquet`, there or in one folder below) or of images (`train/<class>/*.png`, `test/<class>/*.png`);
            an .npz file with `train_images`, `train_labels`, `test_images`, `test_labels` and, if wanted, `classes`.
        num_train: keep at most so many training images, spread evenly.
        num_test: the same for test images.

    Raises:
        DataError: there is no such data set, or it is incomplete or inconsistent; the message says where.
    """
    try:
        return _load(name).limited(num_train, num_test)
    except OSError as error:
        raise DataError(f"cannot be read: {_first_line(error)}", where=str(name)) from error


def _load(name: str | Path) -> Dataset:
    path = Path(name).expanduser()
    if name == "digits":
        return _digits()
    if path.suffix == ".npz" and path.is_file():
        return _from_npz(path)
    if path.is_dir():
        return _from_folder(path)
    if path.exists():
        raise DataError("is no data set", where=str(path), cure=f"data sets are: {KINDS}")
    if isinstance(name, Path) or path.suffix == ".npz" or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError("does not exist", where=str(name), cure="check the path")
    if re.fullmatch(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+", name):
        return _from_hub(name)
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
    try:
        arrays = read_arrays(path)
    except FileRefused as error:
        raise DataError(error.what, where=error.where, cure=error.cure) from error
    wanted = ("train_images", "train_labels", "test_images", "test_labels")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"has no array {missing[0]!r}; it has {', '.join(arrays) or 'none'}", where=str(path), cure=f"name the arrays {', '.join(wanted)}")
    train, test = (
        Split(_pixels(arrays[f"{name}_images"], f"{path}, {name}_images"), _labels(arrays[f"{name}_labels"], f"{path}, {name}_labels"))
        for name in ("train", "test")
    )
    classes = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else _numbered(train, str(path))
    return Dataset(path.stem, classes, train, test, str(path))


def _pixels(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Images as `[n, channels, height, width]`; the channels may come last, or not at all."""
    if array.dtype != np.uint8:
        raise DataError(f"images are {array.dtype}; expected uint8, 0 (black) to 255", where=where, cure="scale them and use astype('uint8')")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise DataError(f"images have the shape {list(array.shape)}; expected [n, height, width], with channels first or last", where=where)
    first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    if first == last:
        what = "could have channels first or last" if first else "have neither 1 nor 3 channels, first or last"
        raise DataError(f"images {list(array.shape)} {what}", where=where, cure="save them as [n, height, width], or with 1 or 3 channels")
    return array if first else array.transpose(0, 3, 1, 2)


# Folders


def _from_folder(path: Path) -> Dataset:
    files = _parquet_files(path)
    if files:
        return _from_parquet(path, files)
    if (path / "train").is_dir():
        return _from_images(path)
    raise DataError("holds neither train*.parquet files nor folders train/<class>", where=str(path), cure=f"data sets are: {KINDS}")


def _from_images(path: Path) -> Dataset:
    _needs_splits({entry.name: entry for entry in path.iterdir() if entry.is_dir()}, str(path))
    classes = {name: [folder.name for folder in _visible(path / name) if folder.is_dir()] for name in ("train", "test")}
    _no_new_classes(classes["test"], classes["train"], str(path))
    splits: dict[str, Split] = {}
    for name, found in classes.items():
        files = [(file, classes["train"].index(label)) for label in found for file in _visible(path / name / label) if file.suffix.lower() in IMAGE_SUFFIXES]
        images = _stacked((str(file), _decode(read_bytes(file), str(file))) for file, _ in files)
        splits[name] = Split(images, np.array([label for _, label in files], np.int64))
    return Dataset(path.resolve().name, tuple(classes["train"]), splits["train"], splits["test"], str(path))


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _parquet_files(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each split, in `path` itself, its `data`, or its only other folder that has some."""
    below = [folder for folder in _visible(path) if folder.is_dir() and folder.name not in ("data", "train", "test")]
    found = {folder: files for folder in (path, path / "data", *below) if (files := _splits_in(folder))}
    for folder in (path, path / "data"):
        if folder in found:
            return found[folder]
    if len(found) > 1:
        raise DataError(f"holds several data sets: {', '.join(folder.name for folder in found)}", where=str(path), cure="name the folder of one of them")
    return next(iter(found.values())) if found else {}


def _splits_in(folder: Path) -> dict[str, list[Path]]:
    found = {name: sorted([*folder.glob(f"{name}*.parquet"), *folder.glob(f"{name}/*.parquet")]) for name in ("train", "test")}
    return {name: files for name, files in found.items() if files}


# Parquet and the hub, both through the `datasets` library


def _from_parquet(path: Path, files: dict[str, list[Path]]) -> Dataset:
    """Decoded once; kept under the digest of the files' bytes, since decoding takes seconds and reading arrays does not."""
    _needs_splits(files, str(path))
    kept = _cache_folder() / f"{_files_digest(files)}.npz"
    with contextlib.suppress(DataError, FileRefused, KeyError):  # missing or damaged: decode again
        arrays = read_arrays(kept)
        train, test = (Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "test"))
        data = Dataset(path.resolve().name, tuple(map(str, arrays["classes"].tolist())), train, test, str(path))
        if data.digest == str(arrays["digest"]):
            return data
    library = _library()
    with tempfile.TemporaryDirectory() as folder, _quiet(library):
        try:
            # One by one: together, a column that only one split lacks would be an error of the library's and not of ours.
            tables = {
                split: library.load_dataset("parquet", data_files=list(map(str, found)), split="train", cache_dir=folder) for split, found in files.items()
            }
        except Exception as error:  # the library passes on the errors of all that it is built on
            said = _first_line(error.__cause__ or error)
            raise DataError(f"cannot be read: {said}", where=str(path), cure="check that the parquet files are whole and alike") from error
        data = _from_tables(library, tables, path.resolve().name, str(path))
    arrays = {f"{name}_{what}": getattr(getattr(data, name), what) for name in ("train", "test") for what in ("images", "labels")}
    with contextlib.suppress(FileRefused, OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(kept, arrays | {"classes": np.array(data.classes), "digest": np.array(data.digest)}, compressed=False)
    return data


def _from_hub(name: str) -> Dataset:
    library = _library()
    with _quiet(library):
        try:
            tables = library.load_dataset(name)
        except Exception as error:  # not found, no network, offline on purpose, a full disk: each is another library's class
            cure = "check the name and the network; without one, download the parquet files elsewhere and give their folder"
            raise DataError(f"there is no such folder, and the hub gave none: {_first_line(error)}", where=name, cure=cure) from error
        return _from_tables(library, tables, name.split("/")[-1], f"hub data set {name}")


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise DataError("parquet files and hub data sets need the 'datasets' library", cure="pip install 'memspike[data]'") from error


@contextlib.contextmanager
def _quiet(library: Any) -> Generator[None]:
    """Without the library's progress bars and log: what went wrong is said by the error."""
    logs = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels, disabled = [log.level for log in logs], library.are_progress_bars_disabled()
    for log in logs:
        log.setLevel(logging.CRITICAL)
    if not disabled:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        if not disabled:
            library.enable_progress_bars()


def _from_tables(library: Any, tables: Mapping[str, Any], name: str, source: str) -> Dataset:
    """A data set of the library's tables, which have one column of encoded images and one of labels."""
    _needs_splits(tables, source)
    splits: dict[str, Split] = {}
    for split in ("train", "test"):
        where = f"{source}, {split}"
        table = tables[split]
        image, label = (_column(table.column_names, names, where) for names in (IMAGE_COLUMNS, LABEL_COLUMNS))
        if isinstance(table.features[image], library.Image):
            table = table.cast_column(image, library.Image(decode=False))
        table = table.select_columns([image, label])
        labels: list[Any] = []
        images = _stacked(_decoded_rows(table, image, label, labels, where))
        splits[split] = Split(images, _labels(np.array(labels, np.int64 if all(isinstance(label, int) for label in labels) else object), where))
    names = getattr(tables["train"].features[_column(tables["train"].column_names, LABEL_COLUMNS, source)], "names", None)
    return Dataset(name, tuple(names) if names else _numbered(splits["train"], source), splits["train"], splits["test"], source)


def _decoded_rows(table: Any, image: str, label: str, labels: list[Any], where: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(place, image) of each row; its label is appended to `labels` on the way."""
    for batch in table.iter(batch_size=1000):
        for cell, its_label in zip(batch[image], batch[label], strict=True):
            place = f"{where}, row {len(labels)}"
            labels.append(its_label)
            yield place, _decode(cell.get("bytes") if isinstance(cell, dict) else cell, place)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _column(found: Sequence[str], wanted: Sequence[str], where: str) -> str:
    for name in wanted:
        if name in found:
            return name
    raise DataError(f"has no column {' or '.join(map(repr, wanted))}; it has {', '.join(found)}", where=where, cure="rename the column")


def _files_digest(files: dict[str, list[Path]]) -> str:
    # The decoder is part of the key: two releases of a JPEG decoder may differ by a grey level.
    digest = hashlib.sha256(f"{_CACHE_VERSION} {PIL.__version__}".encode())
    for split, found in files.items():
        for file in found:
            digest.update(f" {split} ".encode() + hashlib.sha256(read_bytes(file)).digest())
    return digest.hexdigest()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memspike"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# Images and labels


def _decode(data: Any, where: str) -> NDArray[np.uint8]:
    """One encoded image as uint8 `[channels, height, width]`: grey has one channel, all else becomes RGB."""
    if not isinstance(data, bytes):
        raise DataError(f"holds no image bytes but {type(data).__name__}", where=where)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"is an image of mode {image.mode}, with more than 8 bits per pixel", where=where, cure="convert it to 8 bits")
            grey = image.mode in ("L", "1", "LA", "La")
            wanted = "L" if grey else "RGB"
            pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(f"is no image that can be decoded: {_first_line(error)}", where=where) from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _stacked(images: Iterable[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Images `[n, channels, height, width]`, if all are of one shape."""
    stack: list[NDArray[np.uint8]] = []
    for place, image in images:
        if stack and image.shape != stack[0].shape:
            sizes = f"{list(image.shape)}, the first image is {list(stack[0].shape)}"
            raise DataError(f"is {sizes} [channels, height, width]", where=place, cure="bring all images to one size and one mode first")
        stack.append(image)
    return np.stack(stack) if stack else np.zeros((0, 1, 1, 1), np.uint8)


def _labels(array: NDArray[Any], where: str) -> NDArray[Any]:
    if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
        shown = f"{array.dtype} {list(array.shape)}, such as {str(array.flat[0])[:40]!r}"
        raise DataError(f"labels are {shown}; expected integers [n]", where=where, cure="number the classes from 0")
    return array.astype(np.int64)


def _numbered(train: Split, where: str) -> tuple[str, ...]:
    """Classes by number, for labels without names: they must be 0 to k - 1, each of them there."""
    found = np.unique(train.labels).tolist()
    if found != list(range(len(found))):
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise DataError(f"training labels are {shown}; expected 0 to {len(found) - 1}", where=where, cure="number the classes from 0, leaving none out")
    return tuple(map(str, found))


def _needs_splits(found: Mapping[str, Any], where: str) -> None:
    for name in ("train", "test"):
        if name not in found:
            raise DataError(f"has no {name} split; it has {', '.join(sorted(found)) or 'none'}", where=where, cure="a data set needs 'train' and 'test'")


def _no_new_classes(test: Sequence[str], train: Sequence[str], where: str) -> None:
    new = sorted(set(test) - set(train))
    if new:
        raise DataError(f"class {new[0]!r} is in test but not in train", where=where, cure="nothing can learn a class that it never sees")


def _check_split(split: Split, num_classes: int, where: str) -> None:
    if not len(split.images):
        raise DataError("holds no images", where=where)
    if split.images.ndim != 4 or len(split.images) != len(split.labels):
        shapes = f"images {list(split.images.shape)} and labels {list(split.labels.shape)}"
        raise DataError(f"has {shapes}; expected [n, channels, height, width] and [n]", where=where)
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= num_classes))
    if wrong.size:
        what = f"image {wrong[0]} has the label {split.labels[wrong[0]]}; labels of {num_classes} classes are 0 to {num_classes - 1}"
        raise DataError(what, where=where, cure="number the classes from 0")


def _spread(split: Split, limit: int | None, option: str) -> Split:
    if limit is None or limit >= len(split):
        return split
    if limit < 1:
        raise DataError(f"{option} is {limit}; expected at least 1")
    rows = np.arange(limit) * len(split) // limit
    return Split(split.images[rows], split.labels[rows])


def _digest(*splits: Split) -> str:
    digest = hashlib.sha256()
    for array in (array for split in splits for array in (split.images, split.labels)):
        digest.update(f"{array.dtype.str} {list(array.shape)} ".encode())
        digest.update(array.data)
    return digest.hexdigest()
