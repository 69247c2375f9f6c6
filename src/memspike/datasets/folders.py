"""Folders: which parquet files a folder holds, or its images, a folder for each class."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from memspike.datasets.images import decode, stacked
from memspike.datasets.split import Dataset, Split, needs_splits, no_new_classes
from memspike.errors import DataError
from memspike.files import read_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_SHARD = re.compile(r"-([0-9]{1,9})-of-([0-9]{1,9})(?![0-9])")  # one of so many files, as the hub names them
CLUTTER = ("thumbs.db", "desktop.ini")  # what Windows leaves in a folder that somebody looked at


def from_images(path: Path) -> Dataset:
    """A data set of images, `train/<class>/*` and `test/<class>/*`; what else lies in these folders is refused, since it may be an image passed over."""
    needs_splits({entry.name: entry for entry in path.iterdir() if entry.is_dir()}, str(path))
    strays = [stray for name in ("train", "test") for stray in _strays(path / name)]
    if strays:
        place, why = strays[0]
        what = f"{why}; expected only train/<class>/* and test/<class>/* with {', '.join(IMAGE_SUFFIXES)}; out of place: {len(strays)}"
        raise DataError(what, where=str(place), cure="move what is no image out of train and test; put images into the folder of their class")
    classes = {name: [folder.name for folder in _visible(path / name)] for name in ("train", "test")}
    no_new_classes(classes["test"], classes["train"], str(path))
    empty = [label for label in classes["train"] if not _visible(path / "train" / label)]
    if empty:
        raise DataError("is a class without images", where=str(path / "train" / empty[0]), cure="add its images, or remove the folder")
    splits: dict[str, Split] = {}
    for name, found in classes.items():
        files = [(file, classes["train"].index(label)) for label in found for file in _visible(path / name / label)]
        images = stacked((str(file), decode(read_bytes(file), str(file))) for file, _ in files)
        splits[name] = Split(images, np.array([label for _, label in files], np.int64))
    return Dataset(path.resolve().name, tuple(classes["train"]), splits["train"], splits["test"], str(path))


def _strays(split: Path) -> Iterator[tuple[Path, str]]:
    """What is out of place in a split's folder, and why."""
    for entry in _visible(split):
        if not entry.is_dir():
            yield entry, "is no folder of a class"
            continue
        for file in _visible(entry):
            if not file.is_file():  # a folder, a link to nothing, a pipe
                yield file, "is no file"
            elif file.suffix.lower() not in IMAGE_SUFFIXES:
                yield file, "is no image by its suffix"


def parquet_files(path: Path) -> dict[str, list[Path]]:
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
    """As on the hub, a split's name is followed by no letter: `train-0.parquet` and `train_a.parquet` are of train, `training.parquet` is not."""
    found: dict[str, list[Path]] = {}
    for name in ("train", "test"):
        beside = [file for pattern in (".parquet", "[!A-Za-z]*.parquet") for file in folder.glob(f"{name}{pattern}")]
        shards, others = ([file for file in beside if bool(_SHARD.search(file.name)) == is_shard] for is_shard in (True, False))
        layouts = [sorted(files) for files in (shards, others, folder.glob(f"{name}/[!.]*.parquet"))]
        layouts = [files for files in layouts if files]
        if len(layouts) > 1:
            both = " and ".join(str(files[0].relative_to(folder)) for files in layouts)
            raise DataError(f"holds its {name} split more than once: {both}", where=str(folder), cure="move one away, so that no image counts twice")
        if layouts:
            found[name] = layouts[0]
            _check_shards(layouts[0])
    return found


def _check_shards(files: list[Path]) -> None:
    """Files that say which of how many they are must all be there, once: a download may have been cut short."""
    shards = [(int(said[1]), int(said[2])) for file in files if (said := _SHARD.search(file.name))]
    for total in sorted({total for _, total in shards}):
        there = sorted(number for number, of in shards if of == total)
        if there != list(range(total)):
            missing = sorted(set(range(total)) - set(there))
            what = f"has {len(there)} of {total} files ...-of-{total:05d}: " + (f"number {missing[0]:05d} is missing" if missing else "some are there twice")
            raise DataError(what, where=str(files[0].parent), cure="download them all, each once")
    if len({total for _, total in shards}) > 1:
        raise DataError("has files of two copies, which say different numbers of files", where=str(files[0].parent), cure="keep the files of one copy")


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files and clutter."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER)
