"""Data sets: the embedded digits, real parquet files, .npz files and image folders; every refusal in its exact words."""

import hashlib
import io
import os
import socket
import string
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from memspike import datasets
from memspike.datasets.folders import IMAGE_SUFFIXES, parquet_files
from memspike.datasets.images import decode, labels_of
from memspike.errors import DataError
from memspike.files import write_arrays

DATA = Path(os.environ.get("MEMSPIKE_DATA") or Path(__file__).parents[2] / "shared" / "data")
ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
KINDS = datasets.KINDS


def real(name: str) -> Path:
    """The folder of a real data set, or a skip that says what is missing."""
    if not (DATA / name / "train.parquet").is_file():
        pytest.skip(f"{DATA / name / 'train.parquet'} is missing; set MEMSPIKE_DATA to the folder that holds {name}/train.parquet")
    return DATA / name


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, so that nothing decoded elsewhere is believed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "memspike"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something wanted the network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def png(shape: tuple[int, ...], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, shape).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def save_parquet(
    path: Path, rows: int = 4, *, image: str = "image", label: str = "label", cells: list | None = None, labels: list | np.ndarray | None = None
) -> None:
    """A parquet file in the hub's layout, without the hub's own metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = cells if cells is not None else [{"bytes": png((5, 4)), "path": None} for _ in range(rows)]
    labels = labels if labels is not None else [i % 2 for i in range(rows)]
    pq.write_table(pa.table({image: cells, label: labels}), path)


def npz(tmp_path: Path, **changes: object) -> Path:
    arrays = {
        "train_images": RNG.integers(0, 256, (6, 5, 4)).astype(np.uint8),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": RNG.integers(0, 256, (3, 5, 4)).astype(np.uint8),
        "test_labels": np.array([2, 1, 0]),
    } | changes
    return write_arrays(tmp_path / "mine.npz", {name: np.asarray(array) for name, array in arrays.items() if array is not None})


def save_images(folder: Path, train: dict[str, int], test: dict[str, int], shape: tuple[int, ...] = (5, 4)) -> Path:
    for split, classes in (("train", train), ("test", test)):
        for name, count in classes.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                (folder / split / name / f"{number}.png").write_bytes(png(shape))
    return folder


# The embedded digits


def test_the_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    theirs = load_digits()
    _, test = train_test_split(np.arange(1797), test_size=360, stratify=theirs.target, random_state=0)
    test = np.sort(test)
    train = np.setdiff1d(np.arange(1797), test)
    pixels = np.floor(theirs.images * 255 / 16 + 0.5).astype(np.uint8)
    data = datasets.load("digits")
    assert data.name == "digits" and data.classes == tuple("0123456789")
    for split, rows in ((data.train, train), (data.test, test)):
        assert np.array_equal(split.images[:, 0], pixels[rows]) and np.array_equal(split.labels, theirs.target[rows])
        assert not split.images.flags.writeable and not split.labels.flags.writeable
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert (data.train.images.dtype, data.train.labels.dtype) == (np.uint8, np.int64)
    assert "doi 10.24432/C50P49" in data.source


def test_the_digest_is_of_the_meaning_and_never_changes() -> None:
    data = datasets.load("digits")
    assert data.digest == "10335b048dd7f543e2b496f1a481147bd7ea7612403a9865f2b17761cefcc3fd"
    arrays = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    text = b"".join(f"{a.dtype.str} {list(a.shape)} ".encode() + a.tobytes() for a in arrays)
    assert data.digest == hashlib.sha256(text).hexdigest() != data.limited(500, 360).digest


def test_the_digits_are_small() -> None:
    assert (ROOT / "src" / "memspike" / "digits.npz").stat().st_size < 50_000
    note = (ROOT / "src" / "memspike" / "digits.md").read_text()
    assert "Source." in note and "Licence." in note


# Real data


@pytest.mark.usefixtures("no_network")
def test_mnist_is_the_original_and_is_kept_decoded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = real("mnist")
    data = datasets.load(str(folder))
    assert (data.name, data.classes, data.source) == ("mnist", tuple("0123456789"), str(folder))
    sums = {
        "train": ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
        "test": ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    }
    for split, (images, labels) in ((data.train, sums["train"]), (data.test, sums["test"])):
        n = len(split)
        assert hashlib.md5(struct.pack(">4i", 2051, n, 28, 28) + split.images.tobytes()).hexdigest() == images
        assert hashlib.md5(struct.pack(">2i", 2049, n) + split.labels.astype(np.uint8).tobytes()).hexdigest() == labels
    (kept,) = cache.iterdir()
    monkeypatch.setattr("memspike.datasets.parquet.decode", lambda data, where: pytest.fail("decoded twice"))
    again = datasets.load(folder)
    assert again.digest == data.digest and again.classes == data.classes
    assert list(cache.iterdir()) == [kept]


@pytest.mark.usefixtures("no_network")
def test_cifar10_has_its_shapes_and_classes() -> None:
    data = datasets.load(real("cifar10"), num_train=5000)
    assert data.train.images.shape == (5000, 3, 32, 32) and data.test.images.shape == (10_000, 3, 32, 32)
    assert data.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    # JPEG keeps colours near their own: the mean of the original test set is known to be about (0.494, 0.485, 0.450).
    assert np.allclose(data.test.images.mean(axis=(0, 2, 3)) / 255, (0.494, 0.485, 0.450), atol=0.005)


# Parquet folders


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("below", [".", "data", "plain_text"])
def test_a_parquet_folder_in_any_layout_of_the_hub(below: str, tmp_path: Path, cache: Path) -> None:
    cells = [{"bytes": png((5, 4, 3)), "path": None} for _ in range(6)]
    save_parquet(tmp_path / "mine" / below / "train-00001-of-00002.parquet", image="img", label="fine_label", cells=cells[3:], labels=[1, 2, 0])
    save_parquet(tmp_path / "mine" / below / "train-00000-of-00002.parquet", image="img", label="fine_label", cells=cells[:3], labels=[0, 1, 2])
    save_parquet(tmp_path / "mine" / below / "test-00000-of-00001.parquet", image="img", label="fine_label", cells=cells[:1], labels=[0])
    data = datasets.load(tmp_path / "mine")
    assert data.name == "mine" and data.classes == ("0", "1", "2") and data.train.labels.tolist() == [0, 1, 2, 1, 2, 0]
    expected = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))).transpose(2, 0, 1) for cell in cells]
    assert np.array_equal(data.train.images, expected)
    assert len(list(cache.iterdir())) == 1


@given(rest=st.text(string.ascii_letters + string.digits + "-_. ", max_size=8), split=st.sampled_from(["train", "test"]))
@example(rest="", split="train")
@example(rest="-00000-of-00001", split="train")
@example(rest="_0", split="train")
@example(rest=".00000", split="test")
@example(rest="ing_log", split="train")
@example(rest="s", split="test")
def test_a_split_has_the_parquet_files_whose_name_goes_on_with_no_letter(rest: str, split: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, f"{split}{rest}.parquet")
        file.touch()
        assert parquet_files(Path(name)) == ({} if rest[:1].isalpha() else {split: [file]})


def test_a_log_beside_the_parquet_files_is_no_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("train_0", "train.1", "test/0000", "training_log", "trainable", "tests"):
        save_parquet(tmp_path / "mine" / f"{name}.parquet")
    (tmp_path / "mine" / "test" / "._0000.parquet").touch()  # what macOS leaves on other file systems
    data = datasets.load(tmp_path / "mine")
    assert (len(data.train), len(data.test)) == (8, 4)
    assert len(np.unique(data.train.images, axis=0)) == 8, "each file once"


def test_a_damaged_cache_is_made_again(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet")
    data = datasets.load(tmp_path / "mine")
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    wrong = np.load(kept)
    write_arrays(tmp_path / "wrong.npz", {**wrong, "train_labels": 1 - wrong["train_labels"]})
    for damage in (whole[:-40], b"", whole[:300] + bytes([whole[300] ^ 255]) + whole[301:], (tmp_path / "wrong.npz").read_bytes()):
        kept.write_bytes(damage)
        assert datasets.load(tmp_path / "mine").digest == data.digest
        assert kept.read_bytes() == whole


def test_other_bytes_are_another_cache_and_no_cache_is_no_harm(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [{"bytes": png((5, 4)), "path": None} for _ in range(4)]
    test = tmp_path / "mine" / "test.parquet"
    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet", cells=cells, labels=[0, 1, 0, 1])
    first, size = datasets.load(tmp_path / "mine"), test.stat().st_size
    save_parquet(test, cells=cells, labels=[1, 0, 1, 0])
    assert test.stat().st_size == size
    assert datasets.load(tmp_path / "mine").digest != first.digest and len(list(cache.iterdir())) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert datasets.load(tmp_path / "mine").train.labels.tolist() == [0, 1, 0, 1]


def test_loading_prints_nothing_and_leaves_the_bars_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets as library

    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet")
    before = library.are_progress_bars_disabled()
    datasets.load(tmp_path / "mine")
    assert library.are_progress_bars_disabled() == before
    assert capfd.readouterr() == ("", "")


def test_grey_palette_and_alpha_images_become_one_or_three_channels(tmp_path: Path) -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8))
    for mode, channels in (("1", 1), ("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)):
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, "TIFF")
        assert decode(buffer.getvalue(), "here").shape == (channels, 5, 4), mode


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_an_image_that_could_be_read_in_two_ways_is_refused(kind: str) -> None:
    """Nothing says which of several images is meant, or what a transparent pixel stands before."""
    pictures = [Image.fromarray(RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8)) for _ in range(3)]

    def saved(picture: Image.Image, **how: Any) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **how)
        return buffer.getvalue()

    with pytest.raises(DataError, match="here: holds 3 images\n  keep one of them in a file"):
        decode(saved(pictures[0], save_all=True, append_images=pictures[1:]), "here")
    opaque = Image.merge("RGBA", (*pictures[0].split(), Image.new("L", (4, 5), 255)))
    glass = opaque.copy()
    glass.putpixel((0, 0), (1, 2, 3, 0))
    with pytest.raises(DataError, match="here: has transparent pixels, and nothing says what shines through\n  put it on a background first"):
        decode(saved(glass), "here")
    assert decode(saved(opaque), "here").shape == (3, 5, 4)
    if kind == "PNG":
        with pytest.raises(DataError, match="has transparent pixels"):
            decode(saved(glass.convert("LA")), "here")
        for picture in (pictures[0].convert("L"), pictures[0].convert("P"), pictures[0]):
            seen = picture.getpixel((0, 0))
            with pytest.raises(DataError, match="has transparent pixels"):
                decode(saved(picture, transparency=seen), "here")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            {"image": "picture"},
            "{path}, train: has no column 'image' or 'img'; it has picture, label\n  rename the column",
        ),
        (
            {"label": "class"},
            "{path}, train: has no column 'label' or 'labels' or 'fine_label'; it has image, class\n  rename the column",
        ),
        (
            {"labels": ["a", "b", "a", "b"]},
            "{path}, train: labels are object [4], such as 'a'; expected integers [n]\n  number the classes from 0",
        ),
        (
            {"labels": [0.0, 1.0, 0.5, 1.0]},
            "{path}, train: labels are object [4], such as '0.0'; expected integers [n]\n  number the classes from 0",
        ),
        (
            {"labels": [0, None, 1, 0]},
            "{path}, train: labels are object [4], such as '0'; expected integers [n]\n  number the classes from 0",
        ),
        (
            {"labels": np.array([0, 1, 2**64 - 1, 1], np.uint64)},
            "{path}, train: image 2 has the label 18446744073709551615, more than int64 holds\n  number the classes from 0",
        ),
        (
            {"labels": [1, 2, 1, 2]},
            "{path}: training labels are 1, 2; expected 0 to 1\n  number the classes from 0, leaving none out",
        ),
        (
            {"cells": [{"bytes": b"not an image", "path": None}] * 4},
            "{path}, train, row 0: is no image that can be decoded: cannot identify image file",
        ),
        (
            {"cells": [{"bytes": None, "path": "x.png"}] * 4},
            "{path}, train, row 0: holds no image bytes but NoneType",
        ),
        (
            {"cells": [{"bytes": png((5, 4)), "path": None}] * 3 + [{"bytes": png((5, 4, 3)), "path": None}]},
            "{path}, train, row 3: is [3, 5, 4], the first image is [1, 5, 4] [channels, height, width]\n  bring all images to one size and one mode first",
        ),
    ],
)
def test_a_mistake_in_parquet_is_named(train: dict, said: str, tmp_path: Path, cache: Path) -> None:
    save_parquet(tmp_path / "mine" / "train.parquet", **train)
    save_parquet(tmp_path / "mine" / "test.parquet")
    with pytest.raises(DataError) as caught:
        datasets.load(tmp_path / "mine")
    assert str(caught.value).startswith(said.format(path=tmp_path / "mine"))
    assert not cache.exists()


def test_a_truncated_image_and_a_broken_parquet_file_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = png((50, 40))
    save_parquet(tmp_path / "mine" / "train.parquet", cells=[{"bytes": whole[: len(whole) // 2], "path": None}] * 4)
    save_parquet(tmp_path / "mine" / "test.parquet")
    with pytest.raises(DataError, match="train, row 0: is no image that can be decoded"):
        datasets.load(tmp_path / "mine")
    capfd.readouterr()
    (tmp_path / "mine" / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="mine: cannot be read: .*\n  check that the parquet files are whole and alike"):
        datasets.load(tmp_path / "mine")
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_test_or_with_several_sets_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    save_parquet(folder / "one" / "train.parquet")
    with pytest.raises(DataError) as caught:
        datasets.load(folder)
    assert str(caught.value) == f"{folder}: has no test split; it has train\n  a data set needs 'train' and 'test'"
    save_parquet(folder / "two" / "train.parquet")
    with pytest.raises(DataError) as caught:
        datasets.load(folder)
    assert str(caught.value) == f"{folder}: holds several data sets: one, two\n  name the folder of one of them"


def test_a_folder_with_parquet_files_and_images_is_refused(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "mine", {"cat": 1}, {"cat": 1})
    for split in ("train", "test"):
        save_parquet(folder / f"{split}.parquet")
    with pytest.raises(DataError) as caught:
        datasets.load(folder)
    two = f"{folder}: holds two data sets, parquet files and folders train/<class>"
    assert str(caught.value) == f"{two}\n  move one of them to a folder of its own"


def test_a_parquet_file_that_cannot_be_read_refuses_the_data_set(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet")
    (tmp_path / "mine" / "train-1.parquet").mkdir()
    with pytest.raises(DataError) as caught:
        datasets.load(tmp_path / "mine")
    assert str(caught.value) == f"{tmp_path / 'mine' / 'train-1.parquet'}: cannot be read: is a directory\n  check the path and who may read it"


def test_without_the_library_the_cure_is_an_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in (tmp_path / "mine", "ylecun/mnist"):
        with pytest.raises(DataError) as caught:
            datasets.load(name)
        assert str(caught.value) == "parquet files and hub data sets need the 'datasets' library\n  pip install 'memspike[data]'"


# The hub: the same code, with the library's download replaced


def test_a_hub_name_runs_through_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets as library

    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet")
    local = datasets.load(tmp_path / "mine")
    asked: list[str] = []
    original = library.load_dataset

    def load_dataset(name: str) -> object:  # as the hub answers: every split at once
        asked.append(name)
        files = {split: str(tmp_path / "mine" / f"{split}.parquet") for split in ("train", "test")}
        return original("parquet", data_files=files, cache_dir=str(tmp_path / "library"))

    monkeypatch.setattr(library, "load_dataset", load_dataset)
    data = datasets.load("ylecun/mnist")
    assert asked == ["ylecun/mnist"] and data.name == "mnist" and data.source == "hub data set ylecun/mnist" and data.digest == local.digest


def test_a_hub_that_cannot_be_reached_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets as library

    def offline(name: str) -> None:
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nand many more lines")

    monkeypatch.setattr(library, "load_dataset", offline)
    with pytest.raises(DataError) as caught:
        datasets.load("ylecun/mnist")
    assert str(caught.value) == (
        "ylecun/mnist: there is no such folder, and the hub gave none: Couldn't reach 'ylecun/mnist' on the Hub\n"
        "  check the name and the network; without one, download the parquet files elsewhere and give their folder"
    )


# .npz files


@given(st.sampled_from("bhilqBHILQ"), st.data())
def test_a_label_stays_the_number_it_was_or_is_refused(code: str, data: st.DataObject) -> None:
    kind = np.dtype(code)
    low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    labels = data.draw(st.lists(st.integers(low, high) | st.sampled_from([low, high]), max_size=5))
    try:
        kept = labels_of(np.array(labels, kind), "here").tolist()
    except DataError as error:
        assert max(labels) >= 2**63 and error.what == f"image {labels.index(max(labels))} has the label {max(labels)}, more than int64 holds"
    else:
        assert kept == labels


@pytest.mark.parametrize("layout", ["none", "first", "last"])
def test_an_npz_with_channels_anywhere(layout: str, tmp_path: Path) -> None:
    plain = RNG.integers(0, 256, (6, 3, 5, 4)).astype(np.uint8)
    stored = {"none": plain[:, 0], "first": plain, "last": plain.transpose(0, 2, 3, 1)}[layout]
    data = datasets.load(npz(tmp_path, train_images=stored, test_images=stored[:3], classes=["cat", "dog", "owl"]))
    assert np.array_equal(data.train.images, plain[:, :1] if layout == "none" else plain)
    assert (data.name, data.classes, data.source) == ("mine", ("cat", "dog", "owl"), str(tmp_path / "mine.npz"))
    assert data.test.labels.tolist() == [2, 1, 0]


U8 = np.uint8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"test_labels": None},
            "{path}: has no array 'test_labels'; it has train_images, train_labels, test_images\n"
            "  name the arrays train_images, train_labels, test_images, test_labels",
        ),
        (
            {"train_images": np.full((6, 5, 4), np.nan)},
            "{path}, train_images: images are float64; expected uint8, 0 (black) to 255\n  scale them and use astype('uint8')",
        ),
        (
            {"train_images": np.zeros((6, 20), U8)},
            "{path}, train_images: images have the shape [6, 20]; expected [n, height, width], with channels first or last",
        ),
        (
            {"train_images": np.zeros((6, 5, 4, 2), U8)},
            "{path}, train_images: images [6, 5, 4, 2] have neither 1 nor 3 channels, first or last\n"
            "  save them as [n, height, width], or with 1 or 3 channels",
        ),
        (
            {"train_images": np.zeros((6, 3, 4, 3), U8)},
            "{path}, train_images: images [6, 3, 4, 3] could have channels first or last\n  save them as [n, height, width], or with 1 or 3 channels",
        ),
        (
            {"train_labels": np.array([0, 1, 2, 0, 1, 0.5])},
            "{path}, train_labels: labels are float64 [6], such as '0.0'; expected integers [n]\n  number the classes from 0",
        ),
        (
            {"train_labels": np.zeros((6, 1), int)},
            "{path}, train_labels: labels are int64 [6, 1], such as '0'; expected integers [n]\n  number the classes from 0",
        ),
        (
            {"train_labels": np.array([0, 1, 2, 0, 1, 2**64 - 1], np.uint64)},
            "{path}, train_labels: image 5 has the label 18446744073709551615, more than int64 holds\n  number the classes from 0",
        ),
        (
            {"train_labels": np.array([1, 2, 3, 1, 2, 3])},
            "{path}: training labels are 1, 2, 3; expected 0 to 2\n  number the classes from 0, leaving none out",
        ),
        (
            {"train_labels": np.array([0, 2, 10**9, 0, 2, 2])},
            "{path}: training labels are 0, 2, 1000000000; expected 0 to 2\n  number the classes from 0, leaving none out",
        ),
        (
            {"test_labels": np.array([0, 3, 1])},
            "mine, test: image 1 has the label 3; labels of 3 classes are 0 to 2\n  number the classes from 0",
        ),
        (
            {"test_labels": np.array([0, -1, 1])},
            "mine, test: image 1 has the label -1; labels of 3 classes are 0 to 2\n  number the classes from 0",
        ),
        (
            {"classes": ["a", "b", "c", "d"], "test_labels": np.array([0, 3, 1])},
            "mine: class 'd' is in test but not in train\n  nothing can learn a class that it never sees",
        ),
        (
            {"classes": [b"a", b"b", b"c"]},
            "{path}: classes are |S1 [3]; expected their names in a row\n  save them as a list of names",
        ),
        (
            {"classes": "abc"},
            "{path}: classes are <U3 []; expected their names in a row\n  save them as a list of names",
        ),
        (
            {"train_images": np.zeros((6, 0, 4), U8), "test_images": np.zeros((3, 0, 4), U8)},
            "mine, train: has images of shape [1, 0, 4], without a pixel",
        ),
        (
            {"test_labels": np.array([0, 1])},
            "mine, test: has images [3, 1, 5, 4] and labels [2]; expected [n, channels, height, width] and [n]",
        ),
        (
            {"test_images": np.zeros((0, 5, 4), U8), "test_labels": np.zeros(0, int)},
            "mine, test: holds no images",
        ),
        (
            {"test_images": np.zeros((3, 5, 5), U8)},
            "mine: images are [1, 5, 4] in train and [1, 5, 5] in test; all must have one size\n  resize them first",
        ),
    ],
)
def test_a_mistake_in_an_npz_is_named(changes: dict, said: str, tmp_path: Path) -> None:
    path = npz(tmp_path, **changes)
    with pytest.raises(DataError) as caught:
        datasets.load(path)
    assert str(caught.value) == said.format(path=path)


def test_an_npz_of_python_objects_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, train_images=np.array([{}], dtype=object))
    with pytest.raises(DataError) as caught:
        datasets.load(path)
    assert str(caught.value) == f"{path}: is no .npz file, or is damaged: an array holds Python objects"


# Image folders

SUFFIXES = [*IMAGE_SUFFIXES, ".PNG", ".txt", ".md", ".jfif", ".npy", ""]


@given(
    st.builds(str.__add__, st.text(string.ascii_letters + ".-_ ", min_size=1, max_size=6), st.sampled_from(SUFFIXES)).filter(
        lambda name: name.strip(".") not in ("", "cat")
    )
    | st.sampled_from([".DS_Store", "Thumbs.db", "desktop.ini"]),
    st.sampled_from(["train", "test", "train/cat", "test/cat"]),
    st.sampled_from(["file", "folder", "link to nothing"]),
)
def test_what_lies_in_an_image_folder_is_read_or_refused_or_hidden(name: str, place: str, kind: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = save_images(Path(root, "pets"), {"cat": 1}, {"cat": 1})
        new = folder / place / name
        if kind == "file":
            new.write_bytes(png((5, 4)))
        elif kind == "folder":
            new.mkdir()
        else:
            new.symlink_to("nowhere")
        try:
            data = datasets.load(folder)
        except DataError as error:
            assert error.where == str(new) or (error.where == str(folder) and f"class {name!r} is in test" in error.what)
        else:
            is_passed_over = name.startswith(".") or name in ("Thumbs.db", "desktop.ini")
            assert len(data.train) + len(data.test) == (2 if is_passed_over else 3)


def test_an_image_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "pets", {"dog": 2, "cat": 3}, {"dog": 1})
    (folder / "train" / "cat" / ".DS_Store").touch()
    (folder / "train" / "Thumbs.db").touch()
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    for companion in ("README.md", "LICENSE", "classes.txt"):
        (folder / companion).touch()
    data = datasets.load(folder)
    assert data.name == "pets" and data.classes == ("cat", "dog") and data.train.labels.tolist() == [0, 0, 0, 1, 1] and data.test.labels.tolist() == [1]
    files = [folder / "train" / name for name in ("cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png")]
    assert np.array_equal(data.train.images[:, 0], [np.asarray(Image.open(file)) for file in files])


def test_a_mistake_in_an_image_folder_is_named(tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(DataError) as caught:
            datasets.load(folder)
        return str(caught.value).replace(str(tmp_path), "")

    never = "\n  nothing can learn a class that it never sees"
    assert refused(save_images(tmp_path / "a", {"cat": 1}, {"cat": 1, "dog": 1})) == f"/a: class 'dog' is in test but not in train{never}"
    empty = "is a class without images\n  add its images, or remove the folder"
    assert refused(save_images(tmp_path / "b", {"cat": 1, "dog": 0}, {"cat": 1})) == f"/b/train/dog: {empty}"
    assert refused(save_images(tmp_path / "c", {"cat": 1}, {})) == "/c: has no test split; it has train\n  a data set needs 'train' and 'test'"
    assert refused(save_images(tmp_path / "d", {"cat": 1}, {"cat": 0})) == "d, test: holds no images"
    odd = save_images(tmp_path / "e", {"cat": 2}, {"cat": 1})
    (odd / "train" / "cat" / "1.png").write_bytes(png((6, 4)))
    sizes = "[1, 6, 4], the first image is [1, 5, 4] [channels, height, width]"
    assert refused(odd) == f"/e/train/cat/1.png: is {sizes}\n  bring all images to one size and one mode first"
    deep = save_images(tmp_path / "f", {"cat": 1}, {"cat": 1})
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(deep / "train" / "cat" / "0.png")
    assert refused(deep) == "/f/train/cat/0.png: is an image of mode I;16, with more than 8 bits per pixel\n  convert it to 8 bits"
    (tmp_path / "g").mkdir()
    parquet = "parquet files named train.parquet, train-*.parquet or train/*.parquet"
    assert refused(tmp_path / "g") == f"/g: holds neither {parquet} nor folders train/<class>\n  data sets are: {KINDS}"


def test_what_is_out_of_place_in_an_image_folder_is_counted(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "pets", {"cat": 1}, {"cat": 1})

    def refused() -> str:
        with pytest.raises(DataError) as caught:
            datasets.load(folder)
        return str(caught.value)

    only = "expected only train/<class>/* and test/<class>/* with .png, .jpg, .jpeg, .bmp, .gif, .pgm, .ppm, .tif, .tiff, .webp"
    cure = "move what is no image out of train and test; put images into the folder of their class"
    (folder / "test" / "cat" / "0.jfif").touch()
    assert refused() == f"{folder}/test/cat/0.jfif: is no image by its suffix; {only}; out of place: 1\n  {cure}"
    (folder / "train" / "cat" / "x.png").mkdir()
    assert refused() == f"{folder}/train/cat/x.png: is no file; {only}; out of place: 2\n  {cure}"
    (folder / "train" / "0.png").symlink_to("0.png")
    assert refused() == f"{folder}/train/0.png: is no folder of a class; {only}; out of place: 3\n  {cure}"


# Names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist", f"no data set is called 'mnist'\n  did you mean 'ylecun/mnist'? data sets are: {KINDS}"),
        ("CIFAR-10", f"no data set is called 'CIFAR-10'\n  did you mean 'uoft-cs/cifar10'? data sets are: {KINDS}"),
        ("digit", f"no data set is called 'digit'\n  did you mean 'digits'? data sets are: {KINDS}"),
        ("xyzzy", f"no data set is called 'xyzzy'\n  data sets are: {KINDS}"),
        ("./nowhere", "./nowhere: does not exist\n  check the path"),
        ("nowhere/mine.npz", "nowhere/mine.npz: does not exist\n  check the path"),
        (Path("nowhere"), "nowhere: does not exist\n  check the path"),
        ("", f"no data set is called ''\n  data sets are: {KINDS}"),
        (None, f"a data set has a name or a path, not None\n  data sets are: {KINDS}"),
        (5, f"a data set has a name or a path, not 5\n  data sets are: {KINDS}"),
        (b"digits", f"a data set has a name or a path, not b'digits'\n  data sets are: {KINDS}"),
        ("a/b/c", "a/b/c: does not exist\n  check the path"),
        (str(ROOT / "pyproject.toml"), f"{ROOT / 'pyproject.toml'}: is no data set\n  data sets are: {KINDS}"),
    ],
)
def test_a_wrong_name_is_refused_in_words(name: object, said: str) -> None:
    with pytest.raises(DataError) as caught:
        datasets.load(name)  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == said


# Splits and limits


def test_a_limit_spreads_evenly_and_keeps_the_order() -> None:
    data = datasets.load("digits")
    small = datasets.load("digits", num_train=100, num_test=7)
    assert len(small.train) == 100 and np.array_equal(small.train.images, data.train.images[np.arange(100) * 1437 // 100])
    assert np.array_equal(small.test.labels, data.test.labels[np.arange(7) * 360 // 7])
    assert data.limited() is data and data.limited(10**6, 10**6).digest == data.digest
    assert len(data.limited(num_test=np.int64(5)).test) == 5  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("option", ["num_train", "num_test"])
@pytest.mark.parametrize("limit", [0, -1, True, False, 100.0, float("nan"), float("inf"), "100", b"100", [100]])
def test_a_limit_is_a_whole_number(option: str, limit: object) -> None:
    with pytest.raises(DataError) as caught:
        datasets.load("digits", **{option: limit})  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == f"{option} is {limit!r}; expected a whole number, at least 1"


def test_a_split_takes_no_floats() -> None:
    with pytest.raises(DataError, match="a split has images of uint8 and integer labels, not float64 and int64"):
        datasets.Split(np.zeros((1, 1, 2, 2)), np.zeros(1, np.int64))  # pyright: ignore[reportArgumentType]


def test_a_split_has_one_row_of_labels_that_fit() -> None:
    images = np.zeros((2, 1, 2, 2), np.uint8)
    square = datasets.Split(images, np.zeros((2, 2), np.int64))
    with pytest.raises(DataError, match=r"x, train: has images \[2, 1, 2, 2\] and labels \[2, 2\]"):
        datasets.Dataset("x", ("a",), square, square, "")
    with pytest.raises(DataError, match="image 1 has the label 18446744073709551615, more than int64 holds"):
        datasets.Split(images, np.array([0, 2**64 - 1], np.uint64))  # pyright: ignore[reportArgumentType]


def test_no_image_starts_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand an EPS to Ghostscript, whatever the file is called."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "EPS")
    with pytest.raises(DataError, match="images are PNG, JPEG"):
        decode(file.getvalue(), "train, row 0")


def test_the_files_of_a_folder_are_read_whatever_its_name_matches(tmp_path: Path) -> None:
    """`set[1]` is a pattern for `set1` to whoever takes names for patterns."""
    for name in ("set[1]", "set1"):
        for split in ("train", "test"):
            save_parquet(tmp_path / name / f"{split}.parquet")
    one, other = datasets.load(tmp_path / "set[1]"), datasets.load(tmp_path / "set1")
    assert one.name == "set[1]" and not np.array_equal(one.train.images, other.train.images)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["train-00000-of-00002"], "has 1 of 2 files ...-of-00002: number 00001 is missing"),
        (["train-00000-of-00002-ab", "train-00001-of-00002-ab", "train-00001-of-00002-cd"], "has 3 of 2 files ...-of-00002: some are there twice"),
        (["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"], "has files of two copies, which say different numbers of files"),
        (["train", "train-00000-of-00001"], "holds its train split more than once: train-00000-of-00001.parquet and train.parquet"),
        (["train", "train/a"], "holds its train split more than once: train.parquet and train/a.parquet"),
    ],
)
def test_a_split_that_is_there_in_part_or_twice_is_refused(names: list[str], says: str, tmp_path: Path) -> None:
    for name in [*names, "test"]:
        save_parquet(tmp_path / "mine" / f"{name}.parquet")
    with pytest.raises(DataError) as caught:
        datasets.load(tmp_path / "mine")
    assert str(caught.value).startswith(f"{tmp_path / 'mine'}: {says}\n")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(color: int, channels: int) -> bytes:
    """A PNG of 2 x 2 pixels with 16 bits per channel, which Pillow cannot write."""
    rows = b"".join(b"\0" + bytes(range(4 * channels)) for _ in range(2))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_images_of_more_bits_are_refused_and_not_cut() -> None:
    for data in (deep_png(2, 3), deep_png(4, 2), deep_png(0, 1), b"P6 1 1 65535\n" + bytes(6), b"P5 1 1 4095\n" + bytes(2)):
        with pytest.raises(DataError, match="more than 8 bits per pixel"):
            decode(data, "here")
    assert decode(b"P6 1 1 255\n\1\2\3", "here").ravel().tolist() == [1, 2, 3]


def test_a_photograph_lies_as_its_camera_was_held() -> None:
    image, buffer = Image.new("L", (3, 2)), io.BytesIO()
    image.putpixel((0, 0), 255)
    turned = image.getexif()
    turned[0x0112] = 6  # to be turned clockwise
    image.save(buffer, "PNG", exif=turned)
    found = decode(buffer.getvalue(), "here")
    assert found.shape == (1, 3, 2) and found[0, 0, 1] == 255


def test_names_that_are_no_text_become_text_and_classes_are_told_apart() -> None:
    split = datasets.Split(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]))
    data = datasets.Dataset("caf\udce9", ("a", "b\udce9"), split, split, "/data/caf\udce9")
    assert (data.name, data.classes, data.source) == ("caf\ufffd", ("a", "b\ufffd"), "/data/caf\ufffd")
    with pytest.raises(DataError, match="two classes are called 'a'"):
        datasets.Dataset("d", ("a", "a"), split, split, "here")


def test_who_has_no_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):
        save_parquet(tmp_path / "mine" / f"{split}.parquet")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.chdir(tmp_path)
    assert len(datasets.load(tmp_path / "mine").train) == 4 and not (tmp_path / "relative").exists()
