"""Training: from a model and data to a network of counts, stage by stage."""

import copy
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.errors import DataError, ModelError, ProgramError, TrainingError, first_line
from memspike.integer import IntType
from memspike.network import QuantizedNetwork
from memspike.ops import TensorType
from memspike.pixels import PixelCode
from memspike.program import Program
from memspike.trainer import signals, weights
from memspike.trainer.baselines import direct, dynamic_fixed_point, rounded
from memspike.trainer.bits import Bits
from memspike.trainer.checkpoint import Folder, Progress
from memspike.trainer.freeze import freeze
from memspike.trainer.layers import Trace
from memspike.trainer.loading import load_model
from memspike.trainer.loop import Batches, Pull, Stage, Watcher, evaluate, fit, predict
from memspike.trainer.memory import keep_freed_memory
from memspike.trainer.models import MODELS
from memspike.trainer.net import Net
from memspike.trainer.noise import DeviceNoise, Hardening
from memspike.trainer.normalize import normalize
from memspike.trainer.recipe import RECIPES, Recipe, whole
from memspike.trainer.trace import trace

_CALIBRATION_IMAGES = 1024


class Split(Protocol):
    """Images uint8 `[n, channels, height, width]` and labels int64 `[n]`."""

    @property
    def images(self) -> NDArray[np.uint8]: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...


class Data(Protocol):
    """What is trained on: `train` and `test`, and `digest`, which tells one data set from another."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def train(self) -> Split: ...
    @property
    def test(self) -> Split: ...


class Silence:
    """A watcher that says nothing."""

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...
    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None: ...


class Training:
    """One training from a model to networks of counts: `floating()` once, then `counts()`; both resume from `folder`.

    Args:
        model: any feed-forward nn.Module that torch.fx can trace (ModelError otherwise); it is copied, never changed.
        data: see `Data`.
        bits, recipe, seed: what to train for, and how; the same three on the same data give the same network.
        pretrained: state dict to start from; the floating-point stage is then skipped.
        mean, std: per channel, if the model was trained on `(pixel / 255 - mean) / std`.
        folder: where checkpoints go, for a model of the same first weights; None keeps none. device: "cpu" or "cuda".
        compiled: train through torch.compile, which needs a C++ compiler and a minute or more; sums are then rounded in another order.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        *,
        name: str | None = None,
        bits: Bits | None = None,
        recipe: Recipe | None = None,
        seed: int = 0,
        pretrained: Mapping[str, Tensor | NDArray[Any]] | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        folder: str | Path | None = None,
        device: str = "cpu",
        compiled: bool = False,
        watcher: Watcher | None = None,
    ) -> None:
        self.name = name or type(model).__name__.lower()
        self.bits, self.recipe, self.seed = bits or Bits(), recipe or Recipe(), whole("seed", seed)
        self.data, self.device, self.compiled, self.watcher = data, device, compiled, watcher or Silence()
        _check_name(self.name)
        _check_seed(self.seed)
        _check_device(device)
        _check_data(data)
        self.pretrained = pretrained is not None
        self.progress = Progress()
        self.notes: dict[str, Any] = {}
        shape = data.train.images.shape[1:]
        traced = trace(model, shape)
        model = _copy(model)
        is_from_seed = pretrained is None and _is_from_seed(model, traced, self.seed)
        if pretrained is not None:
            _fill(model, pretrained)
        self.net = Net(model, traced)
        _check_same(self.net, model, traced)
        if (mean is None) != (std is None):
            raise TrainingError("mean and std belong together, got one of them", cure="give both --mean and --std, or neither")
        if mean is not None and std is not None:
            model, self.notes["normalization"] = normalize(model, traced, mean, std)
            self.net = Net(model, traced)
        keep_freed_memory()
        self.net.is_mixed = _is_mixed(self.recipe.precision, device)
        self.net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        _check_scores(self.net, data)
        self.net.set_bits(self.bits)  # wrong overrides are refused before hours of training
        self.net.set_bits(Bits(None, None))
        self.batches = self._batches(shape)
        self.folder = Folder(folder, self._key(model, is_from_seed, mean, std))

    def floating(self) -> Net:
        """The network in floating point, trained (or as brought along)."""
        stage = Stage("float", 0 if self.pretrained else self.recipe.epochs, self.recipe.learning_rate)
        self._fit(self.net, stage)
        self.notes["accuracy_fp32"] = evaluate(self.net, self.batches.test_images, self.batches.test_labels)
        return self.net

    def control(self, net: Net) -> Net:
        """The network in floating point after as many further epochs as `counts` takes, at its rates: what those epochs alone are worth."""
        student, recipe = copy.deepcopy(net), self.recipe
        epochs = recipe.finetune_epochs + (recipe.convergence_epochs if recipe.regularizer != "none" else 0)
        self._fit(student, Stage("control", epochs, recipe.finetune_learning_rate, weight_decay=0.0))
        self.notes["accuracy_fp32_control"] = evaluate(student, self.batches.test_images, self.batches.test_labels)
        return student

    def counts(self, net: Net) -> Net:
        """The network in counts: Neuron Convergence, Weight Clustering, then fine-tuning, as the recipe says."""
        recipe = self.recipe
        teacher = copy.deepcopy(net).eval().requires_grad_(False)
        images = self._calibration_images()
        student = copy.deepcopy(net)
        before = signals.observe(student, images)
        student.set_bits(self.bits)
        steps = signals.best_steps(student, before) if self.bits.activation else {}
        limits = signals.bounds(student, steps) if self.bits.activation else {}
        student.set_bits(Bits(None, None))
        if recipe.regularizer != "none" and limits:
            pull = Pull(recipe.regularizer, recipe.convergence, limits)
            convergence = Stage("convergence", recipe.convergence_epochs, recipe.convergence_learning_rate, pull=pull)
            self._fit(student, convergence)
            after = signals.observe(student, images)
            self.notes["signals"] = signals.histograms(before, after, limits)
            # The 2018 paper rounds to the range it converged to; learned steps start where the squared error is least.
            student.set_bits(self.bits)
            steps = signals.best_steps(student, after) if recipe.learned_steps else steps
        student.set_bits(self.bits)
        for group, step in steps.items():
            student.set_step(group, step)
        weights.set_scales(student, clustering=recipe.weight_clustering)
        for parameter in (*student.log_steps.values(), *student.log_scales.values()):
            parameter.requires_grad_(recipe.learned_steps)
        counts = Stage("counts", recipe.finetune_epochs, recipe.finetune_learning_rate, weight_decay=0.0, teacher=teacher, distillation=recipe.distillation)
        self._fit(student, counts)
        self.notes["weights"] = weights.histograms(student)
        self.notes["accuracy_training_forward"] = evaluate(student, self.batches.test_images, self.batches.test_labels)
        return student

    def harden(self, net: Net, floating: Net, hardening: Hardening) -> Net:
        """The network in counts fine-tuned for a device: every step sees the weights and sums of a chip that was just written.

        The notes say for which device, and how accurate the network is on its chips by the training's own forward pass before and after.
        """
        student = copy.deepcopy(net)
        bank = functools.cache(lambda largest: DeviceNoise(hardening.device, hardening.time, hardening.bits_per_cell, largest, self.seed))
        student.noise = bank
        before = self._accuracy(student)
        teacher = copy.deepcopy(floating).eval().requires_grad_(False)
        name = f"hardening-{hashlib.sha256(repr(hardening).encode()).hexdigest()[:8]}"
        stage = Stage(name, hardening.epochs, hardening.learning_rate, weight_decay=0.0, teacher=teacher, distillation=self.recipe.distillation)
        self._fit(student, stage)
        about = {"device": hardening.device.name, "time_s": hardening.time, "epochs": hardening.epochs, "learning_rate": hardening.learning_rate}
        self.notes["hardening"] = {**about, "accuracy_before": before, "accuracy_after": self._accuracy(student)}
        student.noise = None
        self.notes["accuracy_training_forward"] = evaluate(student, self.batches.test_images, self.batches.test_labels)
        return student

    def _accuracy(self, net: Net) -> float:
        """Test accuracy of a noisy net, another chip for every batch; the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return evaluate(net, self.batches.test_images, self.batches.test_labels)

    def freeze(self, net: Net) -> QuantizedNetwork:
        """The trained net of counts as a thing, with everything the training knows in its notes."""
        return freeze(net, self.name, self.all_notes())

    def predictions(self, net: Net) -> NDArray[np.int64]:
        """The winning class of each test image by the training's own forward pass."""
        return predict(net, self.batches.test_images).cpu().numpy()

    def baselines(self, net: Net) -> tuple[QuantizedNetwork, QuantizedNetwork]:
        """The floating-point `net` rounded directly to the same bits, and in 8-bit dynamic fixed point."""
        images = self._calibration_images()
        return direct(net, images, self.bits, f"{self.name}-direct"), dynamic_fixed_point(net, images, f"{self.name}-dynamic-fixed-point-8")

    def rounded(self, net: Net) -> Net:
        """The floating-point `net` rounded directly to the same bits; a half without bits stays as it is."""
        return rounded(net, self._calibration_images(), self.bits)

    def rehearsal(self) -> QuantizedNetwork:
        """The network as it stands, rounded directly: of no use but its shapes and types, which training does not change."""
        return direct(self.net, self._calibration_images()[:8], self.bits, self.name)

    def all_notes(self) -> dict[str, Any]:
        about = {"name": self.data.name, "source": self.data.source, "digest": self.data.digest}
        about |= {"num_train": len(self.data.train.labels), "num_test": len(self.data.test.labels)}
        bits: dict[str, Any] = {
            "activation": self.bits.activation,
            "weight": self.bits.weight,
            "image": self.bits.image or self.bits.activation,
            **asdict(self.bits.pixels),
            "grid": self.bits.grid,
        }
        bits["overrides"] = [list(o) for o in self.bits.overrides]
        own = {
            "data": about,
            "bits": bits,
            "recipe": self.recipe.describe(),
            "seed": self.seed,
            "curves": self.progress.curves,
            "device": self.device,
            "compiled": self.compiled,
        }
        own["precision"] = "bf16" if self.net.is_mixed else "fp32"
        return {**own, "conversion": list(self.net.conversion), "pretrained": self.pretrained, "torch": torch.__version__, **self.notes}

    def _fit(self, net: Net, stage: Stage) -> None:
        fit(net, stage, self.batches, self.folder, self.progress, self.watcher, compiled=self.compiled)

    def _batches(self, shape: tuple[int, ...]) -> Batches:
        shift = self.recipe.shift if self.recipe.shift is not None else -(-shape[-1] // 16)
        arrays = (self.data.train.images, self.data.train.labels, self.data.test.images, self.data.test.labels)
        train_images, train_labels, test_images, test_labels = (torch.from_numpy(np.array(array)).to(self.device) for array in arrays)
        batch_size = min(self.recipe.batch_size, len(train_images))
        return Batches(train_images, train_labels, test_images, test_labels, batch_size, shift, self.recipe.flip, self.seed)

    def _calibration_images(self) -> Tensor:
        chosen = np.random.default_rng([self.seed, 1]).permutation(len(self.data.train.labels))[:_CALIBRATION_IMAGES]
        return self.batches.train_images[torch.from_numpy(np.sort(chosen)).to(self.device)]

    def _key(self, model: nn.Module, is_from_seed: bool, *normalization: tuple[float, ...] | None) -> str:
        state, prepared = model.state_dict(), _prepared(model)
        shapes = [(name, tuple(value.shape)) for name, value in state.items()]
        about = (
            self.name,
            shapes,
            self.net.layers,
            self.data.digest,
            self.bits,
            self.recipe,
            self.seed,
            self.pretrained,
            normalization,
            *["compiled"] * self.compiled,
            *[self.bits.pixels] * (self.bits.pixels != PixelCode()),
            *[prepared] * bool(prepared),
        )
        digest = hashlib.sha256(repr(about).encode())
        if not is_from_seed:
            for value in (*state.values(), *(buffer for name, buffer in model.named_buffers() if name not in state)):
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def train(
    model: nn.Module,
    data: Data,
    *,
    weight_bits: int = 4,
    activation_bits: int = 4,
    image_bits: int | None = None,
    bits: Bits | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    name: str | None = None,
    pretrained: Mapping[str, Tensor | NDArray[Any]] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    watcher: Watcher | None = None,
) -> QuantizedNetwork:
    """Train `model` on `data` until its activations are counts of `activation_bits` and its weights integers of `weight_bits`, 2 to 8 each.

    Args:
        model: any feed-forward nn.Module that torch.fx can trace (ModelError otherwise); it is copied, never changed.
        data: labelled images, as `memspike.datasets.load` gives them.
        image_bits: of a pixel; None: as many as an activation.
        bits: instead of the three numbers before: also bits layer by layer, and how pixels are counted.
        recipe: None takes the one measured for a reference network, or the default one.
        pretrained: state dict to start from; the floating-point stage is then skipped.
        mean, std: per channel, if the model was trained on `(pixel / 255 - mean) / std`.
        folder: where checkpoints go, from which the same call goes on, if its model has the same first weights; None keeps none.
        device: "cpu" or "cuda".

    `Training` takes the steps one by one, and says of every error when it is raised.
    """
    if bits is not None and (weight_bits, activation_bits, image_bits) != (4, 4, None):
        raise TrainingError("bits are given twice", cure="give bits=Bits(...) alone, or weight_bits, activation_bits and image_bits")
    training = Training(
        model, data, name=name, bits=bits or Bits(activation_bits, weight_bits, image_bits), recipe=recipe or recipe_for(model), seed=seed,
        pretrained=pretrained, mean=mean, std=std, folder=folder, device=device, watcher=watcher,
    )  # fmt: skip
    return training.freeze(training.counts(training.floating()))


def recipe_for(model: nn.Module) -> Recipe:
    """The recipe measured for a reference network, or the default one."""
    return RECIPES.get(_reference(model), Recipe())


def _reference(model: nn.Module) -> str:
    return next((name for name, kind in MODELS.items() if type(model) is kind), "")


def _is_from_seed(model: nn.Module, traced: Trace, seed: int) -> bool:
    """Whether it is a reference network as `load_model` makes it from the seed: the seed then stands for the weights, in older checkpoints too."""
    if not (name := _reference(model)):
        return False
    state = model.state_dict()
    own = load_model(name, traced.input_shape[0], traced.layers[-1].shape[0], seed).state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own)


def _prepared(model: nn.Module) -> list[Any]:
    """What the state dict does not say of how the model will be trained, where it is not torch's default."""
    norms = [(name, norm.eps, norm.momentum) for name, norm in model.named_modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)]
    own = [norm for norm in norms if norm[1:] != (1e-5, 0.1)]
    return own + [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).float().cpu()
    except Exception as error:  # whatever a user's own attributes raise
        raise ModelError(f"{type(model).__name__} cannot be copied: {error}", cure="keep only modules, parameters and plain values in it") from error


def _fill(model: nn.Module, state: Mapping[str, Tensor | NDArray[Any]]) -> None:
    tensors = {name: _tensor(name, value) for name, value in state.items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise ModelError(f"the weights {name!r} are not all finite numbers", cure="train again with a smaller learning rate, or take an earlier checkpoint")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"the weights do not fit {type(model).__name__}: {error}", cure="bring the state dict of this very model") from error


def _tensor(name: str, value: Tensor | NDArray[Any]) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        what, cure = f"the weights {name!r} are {type(value).__name__}, no tensor", "bring a state dict: names to tensors, or to numpy arrays"
        raise ModelError(what, cure=cure) from error


@torch.no_grad()
def _check_same(net: Net, model: nn.Module, traced: Trace) -> None:
    """The layers that were read must compute what the model does: the last defence against what torch.fx does not see."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, *traced.input_shape), dtype=np.uint8))
    found = net.eval()(images)
    if traced.final:
        found = getattr(F, traced.final)(found, 1)
    cure = "take the number of images from the batch, as x.flatten(1) and x.view(x.size(0), -1) do"
    try:
        wanted = model.eval()(images.float() / 255)
    except (Exception, SystemExit) as error:  # whatever a user's own forward raises
        what = f"{type(model).__name__} gives scores for two images at once, but not for {len(images)}: {first_line(error)}"
        raise ModelError(what, cure=cure) from error
    if wanted.shape != found.shape:
        raise ModelError(f"{type(model).__name__} gives scores {list(wanted.shape)} for {len(images)} images", cure=cure)
    if not wanted.isfinite().all():
        raise ModelError(f"{type(model).__name__} gives scores that are not finite numbers", cure="initialise it with smaller weights")
    if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        what = f"{type(model).__name__} computes something else than the layers torch.fx has seen: {found[0, 0]:.4g} where it gives {wanted[0, 0]:.4g}"
        raise ModelError(what, cure="write its forward with modules and calls that change nothing outside their result")


def _check_name(name: str) -> None:
    """Whether programs may be called so, that of the longest-named baseline too: they alone say what is a name."""
    try:
        for each in (name, f"{name}-dynamic-fixed-point-8"):
            Program(each, "image", TensorType((1,), IntType(1)), (), "image")
    except ProgramError as error:
        cure = "pass another as name=; from the command line it is the module and function that --model names"
        raise TrainingError(error.what, cure=cure) from error


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise TrainingError(f"seed must lie between 0 and 2**63 - 1, got {seed}")


def _check_device(device: str) -> None:
    kind, _, index = device.partition(":")
    if not re.fullmatch(r"(cpu|cuda)(:[0-9]{1,3})?", device):
        raise TrainingError(f"no device {device!r}", cure="devices: cpu, cuda")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise TrainingError("torch finds no CUDA device here", cure="use --device cpu; `memspike doctor` shows what torch can use")


def _is_mixed(precision: str, device: str) -> bool:
    """Whether products are taken in bfloat16 while training."""
    if precision == "auto":
        return torch.cuda.is_bf16_supported() if device.startswith("cuda") else torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    return precision == "bf16"


def _check_data(data: Data) -> None:
    for split, images, labels in (("train", data.train.images, data.train.labels), ("test", data.test.images, data.test.labels)):
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images) or labels.shape != images.shape[:1]:
            what = f"images {images.dtype} {list(images.shape)} and labels {list(labels.shape)}; expected uint8 [n, channels, height, width] and [n], n above 0"
            raise DataError(what, where=f"{data.name}, {split}")


def _check_scores(net: Net, data: Data) -> None:
    classes = int(data.train.labels.max()) + 1
    scores = net.layers[-1].shape[0]
    if scores < classes:
        raise ModelError(f"the network gives {scores} scores, {data.name} has {classes} classes", cure="match the last layer to the data")
