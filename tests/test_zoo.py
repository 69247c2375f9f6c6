"""Programs that come along: found by name, with their provenance, and as accurate as they say."""

import os
from pathlib import Path

import numpy as np
import pytest

from memspike import datasets, zoo
from memspike.errors import FileRefused
from memspike.mapper import map as map_program
from memspike.simulator import simulate
from memspike.storage import chip_names, load_chip, save

DATA = Path(os.environ.get("MEMSPIKE_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.mark.parametrize("name", zoo.program_names())
def test_a_program_says_where_it_comes_from(name: str) -> None:
    program = zoo.load_program(name)
    assert program.name == name
    assert {"data", "bits", "recipe", "seed", "torch", "compile", "zoo"} <= set(program.notes)
    about = program.notes["zoo"]
    assert about["activation_bits"] == about["weight_bits"] == about["image_bits"] == "4"
    assert 0.8 < about["accuracy_program"] <= 1 and about["changed_predictions"] == "0"


@pytest.mark.parametrize("chip", chip_names())
def test_what_comes_along_fits_together(chip: str) -> None:
    assert all(map_program(zoo.load_program(name), load_chip(chip)).num_crossbars for name in zoo.program_names())


@pytest.mark.parametrize("name", zoo.program_names())
def test_engines_equal_the_program(name: str) -> None:
    program = zoo.load_program(name)
    images = np.random.default_rng(0).integers(0, 16, (4, *program.input_type.shape))
    meant = program.evaluate(images)
    for fidelity in ("ideal", "spike"):
        np.testing.assert_array_equal(simulate(map_program(program, load_chip("predictive")), images, fidelity=fidelity).outputs, meant)


@pytest.mark.parametrize("name", zoo.program_names())
def test_a_program_is_as_accurate_as_it_says(name: str) -> None:
    """On all test images of the data that its notes name, by digest; in spikes LeNet on all of them too, larger networks on some."""
    folder = DATA / name.split("-")[1]
    if not (folder / "train.parquet").is_file():
        pytest.skip(f"{folder / 'train.parquet'} is missing; set MEMSPIKE_DATA to the folder that holds {folder.name}/train.parquet")
    program, data = zoo.load_program(name), datasets.load(folder)
    if data.digest != program.notes["data"]["digest"]:
        pytest.skip(f"{folder} holds other images than {name} was trained on")
    images = program.count_pixels(data.test.images)
    mapping = map_program(program, load_chip("predictive"))
    found = simulate(mapping, images)
    assert found.accuracy(data.test.labels) == pytest.approx(program.notes["zoo"]["accuracy_program"], abs=1e-9)
    some = images if name.startswith("lenet") else images[:200]
    np.testing.assert_array_equal(simulate(mapping, some, fidelity="spike").outputs, found.outputs[: len(some)])


def test_a_name_that_is_none_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="no program is called 'lenet-mnist-5'") as caught:
        zoo.load_program("lenet-mnist-5")
    assert "did you mean 'lenet-mnist-4'?" in str(caught.value.cure)
    program = zoo.load_program("lenet-mnist-4")
    assert zoo.load_program(save(program, tmp_path / "program.safetensors")).digest() == program.digest()
    mapping = save(map_program(program, load_chip("predictive")), tmp_path / "mapping.safetensors")
    with pytest.raises(FileRefused, match="holds a Mapping"):
        zoo.load_program(mapping)
