"""Parquet folders and hub data sets, both through the `datasets` library; what was decoded is kept."""

import contextlib
import hashlib
import importlib
import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from memspike.datasets.images import decode, labels_of, numbered, stacked
from memspike.datasets.split import Dataset, Split, needs_splits
from memspike.errors import DataError, FileRefused, first_line
from memspike.files import read_arrays, read_bytes, write_arrays

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
_CACHE_VERSION = 2  # a new number leaves behind every array that an older memspike decoded


def from_parquet(path: Path, files: dict[str, list[Path]]) -> Dataset:
    """Decoded once; kept under the digest of the files' bytes, since decoding takes seconds and reading arrays does not."""
    needs_splits(files, str(path))
    folder = _cache_folder()
    kept = folder / f"{_files_digest(files)}.npz" if folder else None
    with contextlib.suppress(DataError, FileRefused, KeyError):  # missing or damaged: decode again
        arrays = read_arrays(kept) if kept else {}
        train, test = (Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "test"))
        data = Dataset(path.resolve().name, tuple(map(str, arrays["classes"].tolist())), train, test, str(path))
        if data.digest == str(arrays["digest"]):
            return data
    library = _library()
    arrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))  # what the library stands on
    with _quiet(library):
        try:
            # Each file by itself: the library's own reader takes names for patterns, and `set[1]` would be `set1`.
            tables = {split: library.Dataset(arrow.concat_tables([parquet.ParquetFile(file).read() for file in found])) for split, found in files.items()}
        except Exception as error:  # the library passes on the errors of all that it is built on
            said = first_line(error.__cause__ or error)
            raise DataError(f"cannot be read: {said}", where=str(path), cure="check that the parquet files are whole and alike") from error
        data = _from_tables(library, tables, path.resolve().name, str(path))
    arrays = {f"{name}_{what}": getattr(getattr(data, name), what) for name in ("train", "test") for what in ("images", "labels")}
    if kept is None:
        return data
    with contextlib.suppress(FileRefused, OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(kept, arrays | {"classes": np.array(data.classes), "digest": np.array(data.digest)}, compressed=False)
    return data


def from_hub(name: str) -> Dataset:
    """A data set of the hub, by its name."""
    library = _library()
    with _quiet(library):
        try:
            tables = library.load_dataset(name)
        except Exception as error:  # not found, no network, offline on purpose, a full disk: each is another library's class
            cure = "check the name and the network; without one, download the parquet files elsewhere and give their folder"
            raise DataError(f"there is no such folder, and the hub gave none: {first_line(error)}", where=name, cure=cure) from error
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
    needs_splits(tables, source)
    splits: dict[str, Split] = {}
    for split in ("train", "test"):
        where = f"{source}, {split}"
        table = tables[split]
        image, label = (_column(table.column_names, names, where) for names in (IMAGE_COLUMNS, LABEL_COLUMNS))
        if isinstance(table.features[image], library.Image):
            table = table.cast_column(image, library.Image(decode=False))
        table = table.select_columns([image, label])
        labels: list[Any] = []
        images = stacked(_decoded_rows(table, image, label, labels, where))
        try:
            array = np.array(labels, np.int64 if all(isinstance(label, int) for label in labels) else object)
        except OverflowError:  # a column of uint64; labels_of says which label it was
            array = np.array(labels, np.uint64)
        splits[split] = Split(images, labels_of(array, where))
    names = getattr(tables["train"].features[_column(tables["train"].column_names, LABEL_COLUMNS, source)], "names", None)
    return Dataset(name, tuple(names) if names else numbered(splits["train"], source), splits["train"], splits["test"], source)


def _decoded_rows(table: Any, image: str, label: str, labels: list[Any], where: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(place, image) of each row; its label is appended to `labels` on the way."""
    for batch in table.iter(batch_size=1000):
        for cell, its_label in zip(batch[image], batch[label], strict=True):
            place = f"{where}, row {len(labels)}"
            labels.append(its_label)
            yield place, decode(cell.get("bytes") if isinstance(cell, dict) else cell, place)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


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


def _cache_folder() -> Path | None:
    """Where decoded arrays are kept; None for who has no home. A relative XDG_CACHE_HOME does not count, as its specification says."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "memspike"
    except RuntimeError:
        return None
