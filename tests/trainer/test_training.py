"""Training as a whole: the stages and their notes, what it refuses, and models and weights that people bring."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.compiler import compile
from memspike.errors import DataError, FileRefused, MemspikeError, ModelError, TrainingError
from memspike.pixels import PixelCode
from memspike.trainer import MODELS, RECIPES, Bits, Recipe, Training, load_model, load_weights, recipe_for, torch_build, train
from memspike.trainer.loop import Stage, _optimizer
from memspike.trainer.net import Net
from memspike.trainer.recipe import Regularizer
from memspike.trainer.training import Silence
from random_models import Noise, NoiseSplit

SHORT = Recipe(epochs=1, convergence_epochs=1, finetune_epochs=1, batch_size=32)


def model_of(seed: int = 0, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes)
    )  # fmt: skip


def refused(kind: type[MemspikeError] = TrainingError, model: nn.Module | None = None, data: Noise | None = None, **options: Any) -> str:
    with pytest.raises(kind) as error:
        Training(model or model_of(), data or Noise.of(), **{"recipe": SHORT, **options})
    return str(error.value)


def numbers(net: Net) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


# -- the stages


def test_a_training_tells_what_it_did() -> None:
    data = Noise.of()
    training = Training(model_of(), data, name="small", bits=Bits(3, 4, 5, (("0", 4, None),)), recipe=SHORT, seed=4)
    net = training.counts(training.floating())
    network = training.freeze(net)
    notes = json.loads(json.dumps(network.notes, allow_nan=False))
    assert network.name == "small" and notes["data"] == {"name": "noise", "source": "random numbers", "digest": "0", "num_train": 96, "num_test": 32}
    pixels = {"dither": 0, "lines": 1, "low": 0, "high": 255}
    assert notes["bits"] == {"activation": 3, "weight": 4, "image": 5, **pixels, "grid": "symmetric", "overrides": [["0", 4, None]]}
    assert [(row["stage"], row["epoch"]) for row in notes["curves"]] == [("float", 1), ("convergence", 1), ("counts", 1)]
    assert notes["recipe"] == SHORT.describe() and notes["seed"] == 4 and not notes["pretrained"] and len(notes["conversion"]) == 8
    assert [row["layer"] for row in notes["signals"]] == ["0", "5"] and [row["layer"] for row in notes["weights"]] == ["0", "5", "7"]
    assert {str(type) for type in net.types.values()} == {"u5", "u4", "u3", "i4"}
    program = compile(network)
    scores = program.evaluate(program.count_pixels(data.test.images))
    np.testing.assert_array_equal(training.predictions(net), scores.argmax(1))
    assert notes["accuracy_training_forward"] == pytest.approx(float((scores.argmax(1) == data.test.labels).mean()))


def test_notes_name_the_precision_of_who_trained(tmp_path: Path) -> None:
    """Not of who loads what was trained; a training that went on elsewhere names both."""
    started = Training(model_of(), Noise.of(), recipe=SHORT, folder=tmp_path)
    started.net.is_mixed = True
    started.floating()
    later = Training(model_of(), Noise.of(), recipe=SHORT, folder=tmp_path)
    later.net.is_mixed = False
    net = later.floating()
    assert later.all_notes()["precision"] == "bf16"
    later.counts(net)
    assert later.all_notes()["precision"] == "bf16 and fp32"


def test_train_is_the_three_steps() -> None:
    data = Noise.of()
    network = train(model_of(), data, weight_bits=3, activation_bits=5, image_bits=6, recipe=SHORT, seed=2, name="n")
    training = Training(model_of(), data, name="n", bits=Bits(5, 3, 6), recipe=SHORT, seed=2)
    assert compile(network).digest() == compile(training.freeze(training.counts(training.floating()))).digest()


def test_train_takes_bits_of_every_kind_at_once() -> None:
    bits = Bits(4, 4, pixels=PixelCode(lines=2))
    network = train(model_of(), Noise.of(), bits=bits, recipe=SHORT, mean=(0.5, 0.5), std=(0.2, 0.2))
    assert network.pixels == bits.pixels and "normalization" in network.notes
    with pytest.raises(TrainingError, match="given twice"):
        train(model_of(), Noise.of(), weight_bits=3, bits=bits)


@pytest.mark.parametrize("regularizer", get_args(Regularizer))
@pytest.mark.parametrize("clustering", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_each_method_works_alone_and_together(regularizer: Regularizer, clustering: bool, learned: bool) -> None:
    convergence = regularizer != "none"
    recipe = dataclasses.replace(SHORT, regularizer=regularizer, weight_clustering=clustering, learned_steps=learned, distillation=0.0)
    training = Training(model_of(), Noise.of(), bits=Bits(3, 3), recipe=recipe)
    net = training.counts(training.floating())
    stages = [row["stage"] for row in training.progress.curves]
    assert stages == ["float", *["convergence"] * convergence, "counts"] and ("signals" in training.notes) == convergence
    assert len(compile(training.freeze(net)).ops) == 8


def test_steps_and_scales_stay_unless_they_are_learned() -> None:
    found = {}
    for learned in (False, True):
        for epochs in (0, 2):
            recipe = dataclasses.replace(SHORT, learned_steps=learned, finetune_epochs=epochs, regularizer="none")
            training = Training(model_of(), Noise.of(), recipe=recipe)
            net = training.counts(training.floating())
            found[learned, epochs] = numbers(net)
    steps = [name for name in found[False, 0] if name.startswith("log_")]
    assert len(steps) == 5
    assert all(torch.equal(found[False, 0][name], found[False, 2][name]) for name in steps)
    assert not any(torch.equal(found[True, 0][name], found[True, 2][name]) for name in steps)
    assert not torch.equal(found[False, 0]["model.0.weight"], found[False, 2]["model.0.weight"])


def test_learned_steps_start_from_the_signals_that_converged_the_papers_from_the_range_they_converged_to() -> None:
    def steps(learned: bool, epochs: int) -> list[float]:
        recipe = dataclasses.replace(SHORT, learned_steps=learned, convergence=30.0, convergence_epochs=epochs, finetune_epochs=0)
        training = Training(model_of(), Noise.of(), recipe=recipe)
        return [step.item() for step in training.counts(training.floating()).log_steps.values()]

    assert steps(False, 4) == steps(False, 0) == steps(True, 0)
    assert all(learned != papers for learned, papers in zip(steps(True, 4), steps(False, 4), strict=True))


def test_neuron_convergence_draws_signals_into_their_range() -> None:
    beyond = {}
    for strength in (0.0, 30.0):
        recipe = dataclasses.replace(SHORT, convergence=strength, convergence_epochs=6, convergence_learning_rate=5e-3)
        training = Training(model_of(), Noise.of(), recipe=recipe)
        training.counts(training.floating())
        row = training.notes["signals"][1]
        edges = np.array(row["after"]["edges"][1:])
        beyond[strength] = sum(np.array(row["after"]["counts"])[edges > row["bound"]]) / sum(row["after"]["counts"])
    assert beyond[30.0] < 0.5 * beyond[0.0]


@pytest.mark.parametrize("bits", [Bits(4, None), Bits(None, 4)])
def test_half_a_network_of_counts_trains_but_is_no_network_of_counts(bits: Bits) -> None:
    training = Training(model_of(), Noise.of(), bits=bits, recipe=SHORT)
    net = training.counts(training.floating())
    assert 0 <= training.notes["accuracy_training_forward"] <= 1
    assert ("signals" in training.notes) == (bits.activation is not None) and len(training.notes["weights"]) == (0 if bits.weight is None else 3)
    missing = "activations" if bits.activation is None else "weights"
    with pytest.raises(TrainingError, match=f"{missing} are still floating point"):
        training.freeze(net)


def test_zero_epochs_of_everything_round_the_network_as_it_came() -> None:
    recipe = Recipe(epochs=0, convergence_epochs=0, finetune_epochs=0)
    model = model_of()
    training = Training(model, Noise.of(), recipe=recipe)
    net = training.counts(training.floating())
    assert all(torch.equal(value, net.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert training.progress.curves == [] and len(compile(training.freeze(net)).ops) == 8


def test_a_batch_is_at_most_the_data_and_the_last_part_waits() -> None:
    assert Training(model_of(), Noise.of(40), recipe=SHORT).batches.num_steps == 1
    few = Training(model_of(), Noise.of(10), recipe=SHORT)
    assert (few.batches.batch_size, few.batches.num_steps) == (10, 1)
    few.floating()
    assert Training(model_of(), Noise.of(96), recipe=SHORT).batches.num_steps == 3


def test_the_model_is_copied_never_changed() -> None:
    model, other = model_of(0), model_of(1).state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    training = Training(model, Noise.of(), recipe=SHORT, pretrained=other, mean=(0.5, 0.5), std=(0.5, 0.2))
    training.counts(training.floating())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()) and not model.training


def test_pretrained_weights_are_not_trained_in_floating_point() -> None:
    pretrained = {name: value.clone() for name, value in model_of(1).state_dict().items()}
    training = Training(model_of(0), Noise.of(), recipe=SHORT, pretrained=pretrained)
    net = training.floating()
    assert all(torch.equal(value, pretrained[name]) for name, value in net.model.state_dict().items())
    assert training.progress.curves == [] and training.all_notes()["pretrained"]
    training.counts(net)
    assert [row["stage"] for row in training.progress.curves] == ["convergence", "counts"]


def test_a_normalised_network_keeps_its_accuracy() -> None:
    data, mean, std = Noise.of(), (0.3, 0.6), (0.2, 0.4)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    x = torch.from_numpy(data.test.images).float() / 255
    normalised = (x - torch.tensor(mean).reshape(1, 2, 1, 1)) / torch.tensor(std).reshape(1, 2, 1, 1)
    training = Training(model, data, recipe=SHORT, pretrained=model.state_dict(), mean=mean, std=std)
    training.floating()
    with torch.no_grad():
        wanted = float((model(normalised).argmax(1).numpy() == data.test.labels).mean())
    assert training.notes["accuracy_fp32"] == pytest.approx(wanted)
    assert training.all_notes()["normalization"] == "mean and std folded into the first layer"


def test_baselines_come_from_the_floating_network() -> None:
    training = Training(model_of(), Noise.of(), name="small", bits=Bits(3, 4), recipe=SHORT)
    net = training.floating()
    direct, fixed = training.baselines(net)
    assert (direct.name, fixed.name) == ("small-direct", "small-dynamic-fixed-point-8")
    assert [str(direct.input_type), str(fixed.input_type)] == ["u3", "u8"]
    assert compile(direct).types["0"].type.bits == 3 and compile(fixed).types["0"].type.bits == 8


def test_weights_decay_in_floating_point_as_the_recipe_says() -> None:
    def size(decay: float) -> float:
        recipe = dataclasses.replace(SHORT, epochs=3, weight_decay=decay)
        return float(Training(model_of(), Noise.of(), recipe=recipe).floating().model.get_parameter("0.weight").detach().norm())

    assert size(0.0) > 1.5 * size(100.0)


def test_floating_point_may_be_trained_by_stochastic_gradient_descent(tmp_path: Path) -> None:
    """Plain torch's, step by step; what was broken off goes on to the same network; the stages after it are AdamW's as ever."""
    recipe = dataclasses.replace(SHORT, epochs=3, optimizer="sgd", learning_rate=0.05, weight_decay=5e-4)
    whole, other = Training(model_of(), Noise.of(), recipe=recipe), dataclasses.replace(recipe, optimizer="adamw")
    found = whole.floating().state_dict()
    assert any(not torch.equal(found[name], value) for name, value in Training(model_of(), Noise.of(), recipe=other).floating().state_dict().items())

    class Stop(Exception):
        pass

    class Stops(Silence):
        def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
            if epoch == 2:
                raise Stop

    with pytest.raises(Stop):
        Training(model_of(), Noise.of(), recipe=recipe, folder=tmp_path, watcher=Stops()).floating()
    again = Training(model_of(), Noise.of(), recipe=recipe, folder=tmp_path).floating().state_dict()
    assert all(torch.equal(again[name], value) for name, value in found.items())
    weight = nn.Parameter(torch.ones(2, 2))
    first = _optimizer(Plain(weight), Stage("a", 1, 0.1, 0.01, optimizer="sgd"), False)  # pyright: ignore[reportArgumentType]
    weight.grad = torch.full((2, 2), 2.0)
    first.step()
    assert torch.allclose(weight, torch.full((2, 2), 1 - 0.1 * (2.01 + 0.9 * 2.01)), atol=1e-6), "Nesterov's first step, decay in the gradient"


class Plain(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def test_keys_tell_trainings_apart() -> None:
    def key(model: nn.Module | None = None, data: Noise | None = None, **options: Any) -> str:
        return Training(model or model_of(), data or Noise.of(), **{"recipe": SHORT, **options}).folder.key

    weights = model_of(1).state_dict()
    keys = [
        key(),
        key(seed=1),
        key(name="other"),
        key(bits=Bits(3, 4)),
        key(bits=Bits(4, 4, grid="liu2018")),
        *(key(bits=Bits(pixels=code)) for code in (PixelCode(2), PixelCode(lines=2), PixelCode(low=9), PixelCode(high=99))),
        *(key(recipe=dataclasses.replace(SHORT, **change)) for change in ({"epochs": 2}, {"weight_decay": 0.2}, {"optimizer": "sgd"})),
        key(data=Noise.of(digest="1")),
        key(model_of(classes=4)),
        key(mean=(0.5, 0.5), std=(0.5, 0.5)),
        key(mean=(0.5, 0.4), std=(0.5, 0.5)),
        key(pretrained=model_of(0).state_dict()),
        key(pretrained=weights),
        key(nn.Sequential(*model_of()[:2], nn.Identity(), *model_of()[3:])),
        key(model_of(7)),
        *(key(prepared(change)) for change in PREPARED),
        *(key(prepared(change), pretrained=weights) for change in PREPARED),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == key() and key(pretrained=weights) == key(model_of(7), pretrained=weights)


def prepared(change: Callable[[nn.Sequential], Any]) -> nn.Sequential:
    model = model_of()
    change(model)
    return model


PREPARED: list[Callable[[nn.Sequential], Any]] = [
    lambda m: setattr(m[1], "eps", 1e-3),
    lambda m: setattr(m[1], "momentum", None),
    lambda m: m[0].weight.requires_grad_(False),
    lambda m: m[0].bias.requires_grad_(False),
    lambda m: m[4].register_buffer("mean", torch.tensor([1.0]), persistent=False),
    lambda m: m[4].register_buffer("mean", torch.tensor([2.0]), persistent=False),
]


def test_checkpoints_of_other_first_weights_are_refused(tmp_path: Path) -> None:
    train(model_of(0), Noise.of(), recipe=SHORT, folder=tmp_path)
    with pytest.raises(TrainingError, match="belongs to another training"):
        train(model_of(1), Noise.of(), recipe=SHORT, folder=tmp_path)


def test_a_reference_network_as_the_seed_makes_it_keeps_the_key_of_older_checkpoints() -> None:
    def key(model: nn.Module) -> str:
        return Training(model, Noise.of(shape=(1, 8, 8), classes=10), recipe=SHORT, seed=5).folder.key

    assert key(load_model("digits_net", seed=5)) == "129d4959c11e70a54aa4de9d13e5ced307238143258828cc5f3f5365001db626"
    other = load_model("digits_net", seed=5)
    with torch.no_grad():
        other.fc.bias[0] += 1e-3
    assert len({key(load_model("digits_net", seed=5)), key(load_model("digits_net", seed=6)), key(other)}) == 3


def test_a_folder_may_be_text(tmp_path: Path) -> None:
    train(model_of(), Noise.of(), recipe=SHORT, folder=str(tmp_path / "text"))
    assert (tmp_path / "text" / "counts.safetensors").exists()


class Named(nn.Module):
    """A network whose layers have the names that are given."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.names = names
        for name in names:
            setattr(self, name, nn.Conv2d(2, 2, 3, padding=1))
        self.fc = nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = F.relu(getattr(self, name)(x))
        return self.fc(x.flatten(1))


def test_every_name_that_torch_allows_a_layer_is_a_layers_name() -> None:
    names = sorted(set(dir(nn.ParameterDict())) - set(dir(nn.Module()))) + ["graph", "code", "Größe", "a b", "a/b", "x" * 300, "x" * 299 + "y"]
    assert {"values", "keys", "items", "get", "pop", "update", "copy", "clear", "_keys"} <= set(names)
    data = Noise.of()
    model = Named(*names)
    model.a = nn.Sequential()
    model.a.b = nn.Conv2d(2, 2, 1)  # beside a/b
    model.names = (*names, "a")
    training = Training(model, data, recipe=SHORT)
    net = training.counts(training.floating())
    assert len(net.log_scales) == len(names) + 2
    program = compile(training.freeze(net))
    np.testing.assert_array_equal(training.predictions(net), program.evaluate(program.count_pixels(data.test.images)).argmax(1))


def test_ordinary_names_stay_what_they_are_in_checkpoints() -> None:
    net = Training(load_model("resnet20", 3), Noise.of(shape=(3, 32, 32), classes=10), recipe=SHORT).net
    net.set_bits(Bits(4, 4))
    assert {"log_steps.conv", "log_steps.pool", "log_scales.conv", "log_scales.blocks/3/skip/0", "log_scales.fc"} <= set(net.state_dict())


# -- what is refused


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    absent = "torch finds no CUDA device here\n  use --device cpu; `memspike doctor` shows what torch can use"
    assert refused(device="cuda") == refused(device="cuda:1") == absent
    assert refused(device="tpu") == "no device 'tpu'\n  devices: cpu, cuda"
    assert refused(device="cuda:x") == "no device 'cuda:x'\n  devices: cpu, cuda"


def test_wrong_data_are_refused() -> None:
    data = Noise.of()
    broken = dataclasses.replace(data, test=NoiseSplit(data.test.images[:0], data.test.labels[:0]))
    wanted = "expected uint8 [n, channels, height, width] and [n], n above 0"
    assert refused(DataError, data=broken) == f"noise, test: images uint8 [0, 2, 8, 8] and labels [0]; {wanted}"
    broken = dataclasses.replace(data, train=NoiseSplit(data.train.images / 255, data.train.labels))
    assert refused(DataError, data=broken) == f"noise, train: images float64 [96, 2, 8, 8] and labels [96]; {wanted}"
    broken = dataclasses.replace(data, test=NoiseSplit(data.test.images[..., 1:], data.test.labels))
    assert refused(DataError, data=broken) == "noise: images are [2, 8, 8] in train and [2, 8, 7] in test; all must have one size\n  resize them first"
    cure = "\n  number the classes from 0"
    for labels, said in ((data.train.labels.astype(float), "float64"), (data.train.labels - 1, "int64 from -1 on")):
        broken = dataclasses.replace(data, train=NoiseSplit(data.train.images, labels))
        assert refused(DataError, data=broken) == f"noise, train: labels are {said}; expected integers, 0 or more{cure}"
    assert refused(ModelError, model_of(classes=2)) == "the network gives 2 scores, noise has 3 classes\n  match the last layer to the data"
    broken = dataclasses.replace(data, test=NoiseSplit(data.test.images, data.test.labels + 1))
    assert refused(ModelError, data=broken) == "the network gives 3 scores, noise has 4 classes\n  match the last layer to the data"


def test_a_thing_of_another_kind_is_refused_at_the_door() -> None:
    """What people bring first: a loader, a pair of tensors, a name, a class, a path."""
    data, model = Noise.of(), model_of()
    for wrong in (torch.utils.data.DataLoader([(1, 2)]), "digits", (data.train.images, data.train.labels)):
        said = refused(DataError, data=wrong)
        assert said.startswith("expected a Dataset, got ") and "ms.datasets.Split(images, labels)" in said
    assert refused(ModelError, model="lenet").startswith("expected a Module, got 'lenet'\n  an instance, not its class")
    assert refused(ModelError, model=nn.Linear).startswith("expected a Module, got the class Linear")
    assert refused(ModelError, pretrained="x.pt").startswith("expected a Mapping, got 'x.pt'\n  bring a state dict")
    assert refused(ModelError, pretrained=model).startswith("expected a Mapping, got a Sequential")
    assert refused(TrainingError, recipe={"epochs": 1}) == "expected a Recipe, got a dict\n  ms.Recipe(epochs=10)"
    assert refused(TrainingError, bits=4).startswith("expected a Bits, got an int")
    training = Training(model, data, recipe=SHORT)
    for step in (training.counts, training.control, training.freeze):
        with pytest.raises(TrainingError, match=r"expected a Net, got a Sequential(.|\n)*floating\(\)"):
            step(model)  # pyright: ignore[reportArgumentType]


def test_labels_are_numbers_of_any_width() -> None:
    data = Noise.of()
    narrow = dataclasses.replace(data, train=NoiseSplit(data.train.images, data.train.labels.astype(np.int32)))
    found = [Training(model_of(), each, recipe=SHORT).floating().state_dict() for each in (data, narrow)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


class Twice(nn.Module):
    """One convolution, run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(128, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv(torch.relu(self.conv(x)))).flatten(1))


def test_a_module_that_runs_twice_has_the_same_bits_each_time() -> None:
    for one, bits in (("conv", "8 and 4"), ("conv_2", "4 and 8")):
        message = refused(model=Twice(), bits=Bits(4, 4, overrides=((one, None, 8),)))
        assert message.startswith(f"conv and conv_2 are one module, but would have weights of {bits} bits\n"), message
    training = Training(Twice(), Noise.of(), bits=Bits(4, 4, overrides=(("conv*", None, 8),)), recipe=SHORT)
    assert {layer.name: training.bits.weight_of(layer.name) for layer in training.net.layers if layer.module} == {"conv": 8, "conv_2": 8, "fc": 4}


def test_wrong_options_are_refused_before_anything_is_trained() -> None:
    assert refused(mean=(0.5, 0.5)) == refused(std=(0.5, 0.5)) == "mean and std belong together, got one of them\n  give both --mean and --std, or neither"
    assert refused(bits=Bits(4, 4, overrides=(("conv", 4, None),))) == "no layer with activation bits is called 'conv'\n  layers: 0, 5"


def test_names_that_no_program_can_have_are_refused_before_anything_is_trained() -> None:
    cure = "\n  pass another as name=; from the command line it is the module and function that --model names"
    rule = " is no name; letters, digits, '_', '.' and '-' are, up to 200"
    for name in ("my net", "größe", "a:b", "x" * 201):
        assert refused(name=name) == repr(name) + rule + cure
    assert refused(name="x" * 190) == repr("x" * 190 + "-dynamic-fixed-point-8") + rule + cure
    assert refused(model=type("Größe", (nn.Sequential,), {})(*model_of())) == "'größe'" + rule + cure
    training = Training(model_of(), Noise.of(), name="x" * 178, recipe=SHORT)
    for network in training.baselines(training.net):
        compile(network)


def test_seeds_that_are_none_are_refused() -> None:
    for seed in (1.5, True, "1", None, np.float64(2), np.array([1, 2])):
        assert refused(seed=seed) == f"seed must be a whole number, got {seed!r}"
    for seed in (-1, 2**63):
        assert refused(seed=seed) == f"seed must lie between 0 and 2**63 - 1, got {seed}"
    keys = [Training(model_of(), Noise.of(), recipe=SHORT, seed=seed).folder.key for seed in (3, np.int64(3), torch.tensor(3))]
    assert len(set(keys)) == 1
    Training(model_of(), Noise.of(), recipe=SHORT, seed=2**63 - 1).floating()


def test_weights_may_be_numpy_arrays() -> None:
    weights = model_of(1).state_dict()
    arrays = {name: value.numpy() for name, value in weights.items()}
    for array in arrays.values():
        array.flags.writeable = False
    keys = [Training(model_of(), Noise.of(), recipe=SHORT, pretrained=pretrained).folder.key for pretrained in (weights, arrays)]
    assert keys[0] == keys[1]
    cure = "\n  bring a state dict: names to tensors, or to numpy arrays"
    assert refused(ModelError, pretrained={**arrays, "0.bias": "none"}) == "the weights '0.bias' are str, no tensor" + cure
    assert refused(ModelError, pretrained={**arrays, "0.bias": None}) == "the weights '0.bias' are NoneType, no tensor" + cure
    assert refused(ModelError, pretrained={**arrays, "0.bias": np.full(4, 1e300)}).startswith("the weights '0.bias' are not all finite numbers")


def test_weights_that_do_not_fit_are_refused() -> None:
    said = refused(ModelError, pretrained=model_of(classes=4).state_dict())
    assert said.startswith("the weights do not fit Sequential: ") and "size mismatch for 7.weight" in said
    assert said.endswith("\n  bring the state dict of this very model")
    wrapped = {f"module.{name}": value for name, value in model_of().state_dict().items()}
    assert refused(ModelError, pretrained=wrapped).endswith(
        "\n  they are a wrapper's: bring model.module.state_dict(), or cut 'module.' and '_orig_mod.' off their names"
    )
    broken = {**model_of().state_dict(), "5.weight": torch.full((8, 64), float("nan"))}
    cure = "\n  train again with a smaller learning rate, or take an earlier checkpoint"
    assert refused(ModelError, pretrained=broken) == "the weights '5.weight' are not all finite numbers" + cure


def test_a_model_that_cannot_be_copied_or_gives_no_numbers_is_refused() -> None:
    model = model_of()
    model.lock = __import__("threading").Lock()
    assert refused(ModelError, model).startswith("Sequential cannot be copied: ")
    model = model_of()
    nn.init.constant_(model[7].weight, float("inf"))
    assert refused(ModelError, model) == "Sequential gives scores that are not finite numbers\n  initialise it with smaller weights"


class Counting(nn.Module):
    """Gives something else each time it is called, which no graph shows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = model_of(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.relu(self.inner(x)) if self.calls == 1 else self.inner(x)


def test_a_model_that_does_what_no_graph_shows_is_refused() -> None:
    said = refused(ModelError, Counting())
    assert said.startswith("Counting computes something else than the layers torch.fx has seen: ")
    assert said.endswith("\n  write its forward with modules and calls that change nothing outside their result")


class Fixed(nn.Module):
    """Takes two images at a time, and no other number."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.fc = nn.Linear(128, 3)
        self.wide = wide

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(2, self.wide)) if self.wide > 0 else self.fc(x.flatten(1)).view(2, -1)


def test_a_model_for_batches_of_one_size_is_refused() -> None:
    cure = "\n  take the number of images from the batch, as x.flatten(1) and x.view(x.size(0), -1) do"
    said = "Fixed gives scores for two images at once, but not for 4: shape '[2, 128]' is invalid for input of size 512"
    assert refused(ModelError, Fixed(128)) == said + cure
    assert refused(ModelError, Fixed(-1)) == "Fixed gives scores [2, 6] for 4 images" + cure


# -- models and weights by name


def test_reference_networks_come_by_name_and_seed() -> None:
    for name in MODELS:
        assert type(load_model(name, 3, 10)) is MODELS[name] and recipe_for(load_model(name, 3, 10)) is RECIPES[name]
    a, b, c = (load_model("lenet", 1, 10, seed).state_dict()["fc1.weight"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and recipe_for(nn.Identity()) == Recipe()


MODULE = """
from torch import nn
net = nn.Linear(2, 2)
class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
def make():
    return nn.Linear(3, 3)
def number():
    return 7
def needs(size):
    return nn.Linear(size, 2)
def ends():
    raise SystemExit("enough")
"""


def test_a_model_of_your_own_comes_by_module_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets_of_a_test.py").write_text(MODULE)
    (tmp_path / "broken_of_a_test.py").write_text("1 / 0")
    (tmp_path / "ending_of_a_test.py").write_text("import sys; sys.exit()")
    monkeypatch.chdir(tmp_path)

    def said(name: str) -> str:
        with pytest.raises(ModelError) as error:
            load_model(name)
        return str(error.value)

    path = list(sys.path)
    shapes = [load_model(f"nets_of_a_test:{name}").weight.shape[0] for name in ("net", "make", "Net")]
    assert shapes == [2, 3, 4]
    assert torch.equal(load_model("nets_of_a_test:make", seed=3).weight, load_model("nets_of_a_test:make", seed=3).weight)
    (tmp_path / "drawing_of_a_test.py").write_text("import torch\nprint('hello')\ndrawn = torch.rand(3)\nmake = lambda: torch.nn.Linear(2, 3)")
    first, second = (load_model("drawing_of_a_test:make", seed=3).weight for _ in range(2))
    assert torch.equal(first, second), "what is drawn while importing is drawn once, the weights each time"
    assert capsys.readouterr().out == "", "what it prints is no answer of a command"
    import_cure = "\n  the module must be importable from here; the part behind ':' names a function or class"
    call_cure = "\n  it is called without arguments and returns an nn.Module"
    known = "\n  reference networks: digits_net, lenet, alexnet_cifar, resnet20; your own: package.module:function"
    assert said("lenett") == "no model 'lenett'" + known
    assert said("nowhere:make") == "cannot import 'nowhere:make': ModuleNotFoundError: No module named 'nowhere'" + import_cure
    assert said(":make") == "cannot import ':make': ValueError: Empty module name" + import_cure
    assert said("broken_of_a_test:make") == "cannot import 'broken_of_a_test:make': ZeroDivisionError: division by zero" + import_cure
    missing = "AttributeError: module 'nets_of_a_test' has no attribute 'other'"
    assert said("nets_of_a_test:other") == f"cannot import 'nets_of_a_test:other': {missing}{import_cure}"
    assert said("nets_of_a_test:number") == "'nets_of_a_test:number' gives int, expected an nn.Module"
    assert said("ending_of_a_test:make") == "cannot import 'ending_of_a_test:make': SystemExit" + import_cure
    assert said("nets_of_a_test:ends") == "'nets_of_a_test:ends' raised SystemExit: enough" + call_cure
    assert sys.path == path
    needs = "TypeError: needs() missing 1 required positional argument: 'size'"
    assert said("nets_of_a_test:needs") == f"'nets_of_a_test:needs' raised {needs}{call_cure}"


def test_weights_come_from_safetensors_and_torch_files(tmp_path: Path) -> None:
    state = model_of().state_dict()
    save_file(state, tmp_path / "net.safetensors")
    torch.save(state, tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        loaded = load_weights(tmp_path / name)
        assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    cure = "\n  save model.state_dict() with safetensors.torch.save_file, or with torch.save"

    def said(name: str) -> str:
        with pytest.raises(FileRefused) as error:
            load_weights(tmp_path / name)
        assert error.value.where == str(tmp_path / name)
        return str(error.value).removeprefix(f"{tmp_path / name}: ")

    class Evil:
        def __reduce__(self) -> Any:
            return pathlib.Path.touch, (tmp_path / "executed",)

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    torch.save(model_of(), tmp_path / "model.pt")
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "epoch.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "text.safetensors").write_text("weights")
    objects = "is no torch file, or holds more than tensors: Python objects could run code" + cure
    assert said("missing.pt") == "no such file"
    assert said("evil.pt") == said("model.pt") == said("text.pt") == objects and not (tmp_path / "executed").exists()
    assert said("list.pt") == "holds no state dict (names to tensors)" + cure
    assert said("epoch.pt") == "holds a whole checkpoint\n  save the weights in it alone: torch.save(checkpoint['state_dict'], path)"
    assert said("text.safetensors").startswith("no state dict can be read: ")
    (tmp_path / "folder.pt").mkdir()
    assert said("folder.pt").startswith("no state dict can be read: ")


def test_the_torch_build_is_told() -> None:
    assert torch_build()["torch"] == torch.__version__ and set(torch_build()) == {"torch", "cores", "instructions", "cuda"}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_whatever_the_precision_of_training_compiling_changes_no_prediction(precision: str) -> None:
    data = Noise.of()
    training = Training(model_of(), data, bits=Bits(4, 4), recipe=dataclasses.replace(SHORT, precision=precision))
    net = training.counts(training.floating())
    program = compile(training.freeze(net))
    found = program.evaluate(program.count_pixels(data.test.images)).argmax(axis=1)
    assert (found == training.predictions(net)).all()
    assert training.all_notes()["precision"] == precision


def test_the_control_gets_the_epochs_of_the_counts_in_floating_point() -> None:
    training = Training(model_of(), Noise.of(), bits=Bits(4, 4), recipe=SHORT)
    floating = training.floating()
    control = training.control(floating)
    stages = [row["stage"] for row in training.progress.curves]
    assert stages.count("control") == SHORT.convergence_epochs + SHORT.finetune_epochs
    assert control.bits.activation is None and 0 <= training.notes["accuracy_fp32_control"] <= 1
