"""The whole line: what a run leaves behind, and that it is what the parts say."""

import json
import re
import shlex
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from memspike import datasets, line, storage
from memspike.compiler import compile as compile_network
from memspike.errors import ChipError, MappingError, MemspikeError
from memspike.integer import IntType
from memspike.mapping import Mapping
from memspike.network import QuantizedNetwork
from memspike.pixels import PixelCode
from memspike.program import Program


class Silence:
    def phase(self, text: str) -> None: ...
    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...
    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None: ...
    def images(self, what: str, done: int, total: int) -> None: ...


SHORT = {"epochs": 3, "convergence_epochs": 1, "finetune_epochs": 2}
EVERYTHING = line.Order(model="networks:Everything", activation_bits=4, weight_bits=3, changes=SHORT, cost_images=4, seed=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, line.Run]:
    """A run of the network that has every supported layer."""
    out = tmp_path_factory.mktemp("runs") / "everything"
    return out, line.run(EVERYTHING, out, Silence())


def test_what_normalised_images_change_is_told_before_anything_is_trained() -> None:
    """A padded first layer then pads with black; one without padding loses nothing."""
    told = []

    class Told(Silence):
        def phase(self, text: str) -> None:
            told.append(text)

    for model, count in (("digits_net", 1), ("lenet", 0)):
        told.clear()
        data = datasets.load("digits")
        if model == "lenet":
            wide = [datasets.Split(np.pad(split.images, ((0, 0), (0, 0), (10, 10), (10, 10))), split.labels) for split in (data.train, data.test)]
            data = datasets.Dataset("wide", data.classes, *wide, "test")
        training = line.start_training(line.Order(model=model, mean=(0.5,), std=(0.25,)), data, None, Told())
        assert [text.startswith("caution: mean and std folded into the first layer; its zero padding") for text in told] == [True] * count
        assert training.all_notes()["normalization"].startswith("mean and std folded into the first layer")


def test_a_network_with_every_layer_walks_the_line_bit_exact(finished: tuple[Path, line.Run]) -> None:
    _, run = finished
    checks = run.summary["checks"]
    assert checks["spike_equals_program"]
    assert checks["images_checked"] == 360
    assert checks["predictions_changed_by_compiling"] == 0
    assert set(checks["differing_counts"].values()) == {0}
    words = {op.word for op in run.program.ops}
    assert words == {"conv2d", "dense", "fire", "charge", "add", "sum_pool2d", "max_pool2d", "flatten", "concat"}
    assert any(getattr(op, "groups", 1) > 1 for op in run.program.ops)


def test_result_json_has_the_promised_keys_and_they_agree(finished: tuple[Path, line.Run]) -> None:
    out, run = finished
    summary = json.loads((out / "result.json").read_text())
    assert summary == json.loads(json.dumps(run.summary))
    assert set(summary["accuracy"]) == {"fp32", "program", "direct", "dynamic_fixed_point_8"}
    assert summary["bits"] == {"activation": 4, "weight": 3, "image": 4, "dither": 0, "lines": 1, "low": 0, "high": 255}
    assert summary["num_test_images"] == 360
    for name in ("cost", "baseline"):
        assert set(summary[name]) == {"latency_s", "throughput_hz", "energy_j", "area_m2"}
        assert all(value > 0 for value in summary[name].values())
    ratio, cost, baseline = summary["ratio"], summary["cost"], summary["baseline"]
    assert ratio["speedup"] == pytest.approx(baseline["latency_s"] / cost["latency_s"])
    assert ratio["energy_saving"] == pytest.approx(1 - cost["energy_j"] / baseline["energy_j"])
    assert ratio["area_saving"] == pytest.approx(1 - cost["area_m2"] / baseline["area_m2"])
    assert summary["chips"]["predictive"]["ratio"] == ratio
    assert set(summary["chips"]) == {"predictive", "liu2018"}
    assert {"program_digest", "chip_digest", "seed", "data", "memspike", "torch"} <= set(summary["provenance"])


def test_the_accuracy_printed_is_the_programs(finished: tuple[Path, line.Run]) -> None:
    out, run = finished
    program = storage.load(out / "program.safetensors", Program)
    test = datasets.load("digits").test
    predictions = program.evaluate(program.count_pixels(test.images)).argmax(axis=1)
    assert run.summary["accuracy"]["program"] == np.mean(predictions == test.labels)


def test_the_saved_things_belong_together(finished: tuple[Path, line.Run]) -> None:
    out, run = finished
    program = storage.load(out / "program.safetensors", Program)
    assert compile_network(storage.load(out / "network.safetensors", QuantizedNetwork)) == program
    assert storage.load(out / "mapping.safetensors", Mapping).program == program
    assert run.summary["provenance"]["program_digest"] == program.digest()


def test_a_finished_run_is_not_overwritten(finished: tuple[Path, line.Run]) -> None:
    out, _ = finished
    with pytest.raises(MemspikeError, match="holds a finished run"):
        line.run(EVERYTHING, out, Silence())


def test_a_chip_that_is_too_small_is_refused_before_the_training(tmp_path: Path) -> None:
    text = (resources.files("memspike") / "chips" / "predictive.toml").read_text()
    (tmp_path / "small.toml").write_text(text.replace("max_stacked_tiles = 64", "max_stacked_tiles = 2").replace('name = "predictive"', 'name = "small"'))
    with pytest.raises(MappingError, match="conv2.sum"):
        line.run(line.Order(also=(str(tmp_path / "small.toml"),)), tmp_path / "run", Silence())
    assert not (tmp_path / "run" / "training").exists()


def test_a_chip_that_is_too_small_for_the_8_bit_design_is_refused_before_the_training(tmp_path: Path) -> None:
    text = (resources.files("memspike") / "chips" / "predictive.toml").read_text()
    (tmp_path / "small.toml").write_text(re.sub("columns = 32", "columns = 8", text.replace("bits_per_cell = 4", "bits_per_cell = 1")))
    with pytest.raises(MappingError, match="the 8-bit design, which every run is set beside, does not fit: .*\n  take a chip with more columns"):
        line.run(line.Order(chip=str(tmp_path / "small.toml")), tmp_path / "run", Silence())
    assert not (tmp_path / "run" / "training").exists()


def test_a_chip_whose_spikes_no_raster_can_hold_walks_the_line_without_one(tmp_path: Path) -> None:
    text = (resources.files("memspike") / "chips" / "predictive.toml").read_text()
    (tmp_path / "fast.toml").write_text(text.replace("max_spikes_per_timestep = 1", "max_spikes_per_timestep = 128"))
    order = line.Order(chip=str(tmp_path / "fast.toml"), also=(), changes=SHORT, cost_images=2, check_images=5)
    run = line.run(order, tmp_path / "run", Silence())
    assert run.summary["checks"]["spike_equals_program"] and "carries no rasters" in run.report.to_json()


def test_chips_that_the_report_cannot_tell_apart_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    text = (resources.files("memspike") / "chips" / "predictive.toml").read_text()
    (tmp_path / "twin.toml").write_text(text.replace("rows = 32", "rows = 16"))
    with pytest.raises(ChipError, match="two chips are called predictive\n  give each its own name"):
        line.run(line.Order(also=(str(tmp_path / "twin.toml"),)), tmp_path / "run", Silence())
    assert not (tmp_path / "run").exists()


def test_a_chip_with_nothing_to_compare_is_refused_before_the_training(tmp_path: Path) -> None:
    text = (resources.files("memspike") / "chips" / "predictive.toml").read_text().replace('name = "predictive"', 'name = "bare"')
    nowhere = re.sub(r"area = \{ value = [^,]+", "area = { value = 0.0", text)
    free = re.sub(r"(?m)^(spike|encode|integrate|fire|count|add|compare|bit|leakage) = \{ value = [^,]+", r"\1 = { value = 0.0", text)
    for bare, says in ((nowhere, "no component has an area"), (free.replace("value = 0.15", "value = 0.0"), "nothing takes energy")):
        (tmp_path / "bare.toml").write_text(bare)
        with pytest.raises(ChipError, match=f"chip bare: {says}"):
            line.run(line.Order(chip=str(tmp_path / "bare.toml")), tmp_path / "run", Silence())
        assert not (tmp_path / "run").exists()
    assert storage.load_chip(tmp_path / "bare.toml").name == "bare", "who only simulates may have it"


def test_files_of_somebody_else_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").write_bytes(b"mine")
    with pytest.raises(MemspikeError, match="holds a network.safetensors of something else"):
        line.claim(line.Order(), tmp_path)
    assert not line.is_free(line.Order(), tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe of something else")
    with pytest.raises(MemspikeError, match="with other options"):
        line.claim(line.Order(), tmp_path)
    assert (tmp_path / "network.safetensors").read_bytes() == b"mine"


def test_digital_partial_sums_walk_the_line_bit_exact(tmp_path: Path) -> None:
    run = line.run(line.Order(changes=SHORT, partial_sums="digital", also=(), cost_images=2, check_images=40), tmp_path / "run", Silence())
    assert {op.word for op in run.program.ops} >= {"slice", "add"}
    assert run.summary["checks"]["spike_equals_program"]
    assert list(run.summary["chips"]) == ["predictive-digital"]


def test_an_unfinished_run_takes_its_own_order_only(tmp_path: Path) -> None:
    line.claim(EVERYTHING, tmp_path / "run")
    line.claim(EVERYTHING, tmp_path / "run")
    with pytest.raises(MemspikeError, match="unfinished run with other options"):
        line.claim(line.Order(seed=4), tmp_path / "run")


def test_a_range_is_fitted_to_the_training_images_at_the_bits_of_the_image() -> None:
    digits = datasets.load("digits")
    order = line.Order(image_bits=2, dither=2, image_range=None)
    pixels = line.start_training(order, digits, None, Silence()).bits.pixels
    assert pixels == PixelCode(2).fitted(digits.train.images, IntType(2)) != PixelCode(2).fitted(digits.train.images, IntType(4))
    assert line.order_as_command(order) == "memspike run --image-bits 2 --dither 2 --image-range fit"


@pytest.mark.parametrize(
    "order",
    [
        line.Order(
            model="lenet", data="images.npz", activation_bits=3, image_bits=3, dither=4, image_lines=5, image_range=(39, 220),
            layer_bits=(("fc*", 5, None), ("conv1", None, 2)), grid="liu2018",
            mean=(0.5,), std=(0.25,), method="liu2018", changes={"epochs": 2, "learning_rate": 0.01},
            chip="liu2018", also=("predictive",), partial_sums="digital", encoder="random", cost_images=3,
            check_images=9, seed=7,
        ),
        line.Order(weights="my net's.safetensors", changes={"flip": False}, cells="wan2022-hfox", time=1.23456789e7 / 3, hardening_epochs=2, compiled=True),
        line.Order(changes={"flip": True}, image_range=None, cells="my cells.toml", time=3e22, also=("a b.toml", "$HOME.toml")),
    ],
)  # fmt: skip
def test_the_command_in_the_provenance_gives_the_order_again(order: line.Order) -> None:
    from typer.testing import CliRunner

    from memspike import cli

    seen: list[line.Order] = []

    def catch(order: line.Order, *_: object) -> None:
        seen.append(order)
        raise MemspikeError("caught")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "run", catch)
        CliRunner().invoke(cli.app, shlex.split(line.order_as_command(order))[1:])
    assert seen == [order]


def test_an_older_run_goes_on_and_another_ones_options_are_named(tmp_path: Path) -> None:
    line.claim(line.Order(seed=4), tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    older = {name: value for name, value in json.loads(config.read_text()).items() if name != "compiled"}
    config.write_text(json.dumps(older))
    line.claim(line.Order(seed=4), tmp_path / "run")
    with pytest.raises(MemspikeError, match="these differ: weight_bits, seed"):
        line.claim(line.Order(weight_bits=3), tmp_path / "run")


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    """The second is refused at once; it would train in the folder of the first, and end it."""

    class Twin(Silence):
        said = ""

        def phase(self, text: str) -> None:
            if text.startswith("data"):
                with pytest.raises(MemspikeError) as error:
                    line.run(order, tmp_path / "run", Silence())
                self.said = str(error.value)
                raise InterruptedError

    twin, order = Twin(), line.Order(changes=SHORT, also=(), cost_images=2)
    with pytest.raises(InterruptedError):
        line.run(order, tmp_path / "run", twin)
    assert "another run is at work in this folder" in twin.said
