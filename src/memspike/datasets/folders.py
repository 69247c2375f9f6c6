"""Folders: which parquet files a folder holds, or its images, a folder for each class."""

from pathlib import Path

import numpy as np

from memspike.datasets.images import decode, stacked
from memspike.datasets.split import Dataset, Split, needs_splits, no_new_classes
from memspike.errors import DataError
from memspike.files import read_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def from_images(path: Path) -> Dataset:
    """A data set of images, `train/<class>/*` and `test/<class>/*`."""
    needs_splits({entry.name: entry for entry in path.iterdir() if entry.is_dir()}, str(path))
    classes = {name: [folder.name for folder in _visible(path / name) if folder.is_dir()] for name in ("train", "test")}
    no_new_classes(classes["test"], classes["train"], str(path))
    splits: dict[str, Split] = {}
    for name, found in classes.items():
        files = [(file, classes["train"].index(label)) for label in found for file in _visible(path / name / label) if file.suffix.lower() in IMAGE_SUFFIXES]
        images = stacked((str(file), decode(read_bytes(file), str(file))) for file, _ in files)
        splits[name] = Split(images, np.array([label for _, label in files], np.int64))
    return Dataset(path.resolve().name, tuple(classes["train"]), splits["train"], splits["test"], str(path))


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
    found = {name: sorted([*folder.glob(f"{name}*.parquet"), *folder.glob(f"{name}/*.parquet")]) for name in ("train", "test")}
    return {name: files for name, files in found.items() if files}


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
