"""Training: from a model and data to a network of counts, stage by stage."""

import copy
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memspike.errors import ModelError, TrainingError, expect
from memspike.network import QuantizedNetwork
from memspike.pixels import PixelCode
from memspike.trainer import origin, signals, weights
from memspike.trainer.baselines import direct, dynamic_fixed_point, rounded
from memspike.trainer.bits import Bits
from memspike.trainer.checkpoint import Folder, Progress, digest
from memspike.trainer.data import Data, check_data
from memspike.trainer.freeze import freeze
from memspike.trainer.loop import Batches, Pull, Stage, Watcher, evaluate, fit, predict
from memspike.trainer.memory import keep_freed_memory
from memspike.trainer.net import Net
from memspike.trainer.noise import DeviceNoise, Hardening
from memspike.trainer.normalize import normalize
from memspike.trainer.recipe import WEIGHT_DECAY, Recipe, whole
from memspike.trainer.refusals import check_device, check_name, check_same, check_scores, check_seed
from memspike.trainer.trace import trace

_CALIBRATION_IMAGES = 1024


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
        mean, std: per channel, if the model was trained on `(pixel / 255 - mean) / std`. They are folded into the first layer; where that pads with zeros,
            these then mean black pixels instead of mean ones, and the notes say so (`normalization`).
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
        expect(model, nn.Module, ModelError, "an instance, not its class; ms.load_model('lenet') makes a reference network")
        expect(bits, (Bits, type(None)), TrainingError, "ms.Bits(activation=4, weight=4)")
        expect(recipe, (Recipe, type(None)), TrainingError, "ms.Recipe(epochs=10)")
        self.name = name or type(model).__name__.lower()
        self.bits, self.recipe, self.seed = bits or Bits(), recipe or Recipe(), whole("seed", seed)
        self.data, self.device, self.compiled, self.watcher = data, str(device), compiled, watcher or Silence()
        check_name(self.name)
        check_seed(self.seed)
        check_device(self.device)
        check_data(data)
        self.pretrained = pretrained is not None
        self.progress = Progress()
        self.notes: dict[str, Any] = {}
        shape = data.train.images.shape[1:]
        traced = trace(model, shape)
        model = origin.copied(model)
        is_from_seed = pretrained is None and origin.is_from_seed(model, traced, self.seed)
        if pretrained is not None:
            origin.fill(model, pretrained)
        self.net = Net(model, traced)
        check_same(self.net, model, traced)
        if (mean is None) != (std is None):
            raise TrainingError("mean and std belong together, got one of them", cure="give both --mean and --std, or neither")
        if mean is not None and std is not None:
            model, self.notes["normalization"] = normalize(model, traced, mean, std)
            self.net = Net(model, traced)
        keep_freed_memory()
        self.net.is_mixed = _is_mixed(self.recipe.precision, self.device)
        self.net.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        check_scores(self.net, data)
        self.net.set_bits(self.bits)  # wrong overrides are refused before hours of training
        self.net.set_bits(Bits(None, None))
        self.batches = self._batches(shape)
        self.folder = Folder(folder, self._key(model, is_from_seed, mean, std))

    def floating(self) -> Net:
        """The network in floating point, trained (or as brought along)."""
        recipe = self.recipe
        stage = Stage("float", 0 if self.pretrained else recipe.epochs, recipe.learning_rate, recipe.weight_decay, optimizer=recipe.optimizer)
        self._fit(self.net, stage)
        self.notes["accuracy_fp32"] = evaluate(self.net, self.batches.test_images, self.batches.test_labels)
        return self.net

    def control(self, net: Net) -> Net:
        """The network in floating point after as many further epochs as `counts` takes, at its rates: what those epochs alone are worth."""
        _of_training(net)
        student, recipe = copy.deepcopy(net), self.recipe
        epochs = recipe.finetune_epochs + (recipe.convergence_epochs if recipe.regularizer != "none" else 0)
        self._fit(student, Stage("control", epochs, recipe.finetune_learning_rate, weight_decay=0.0, start=digest(net)))
        self.notes["accuracy_fp32_control"] = evaluate(student, self.batches.test_images, self.batches.test_labels)
        return student

    def counts(self, net: Net) -> Net:
        """The network in counts: Neuron Convergence, Weight Clustering, then fine-tuning, as the recipe says."""
        _of_training(net)
        recipe = self.recipe
        teacher, start = net.teacher(), digest(net)
        images = self._calibration_images()
        student = copy.deepcopy(net)
        before = signals.observe(student, images)
        student.set_bits(self.bits)
        steps = signals.best_steps(student, before) if self.bits.activation else {}
        limits = signals.bounds(student, steps) if self.bits.activation else {}
        student.set_bits(Bits(None, None))
        if recipe.regularizer != "none" and limits:
            pull = Pull(recipe.regularizer, recipe.convergence, limits)
            convergence = Stage("convergence", recipe.convergence_epochs, recipe.convergence_learning_rate, pull=pull, start=start)
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
        rate, followed = recipe.finetune_learning_rate, recipe.distillation
        counts = Stage("counts", recipe.finetune_epochs, rate, weight_decay=0.0, teacher=teacher, distillation=followed, start=start)
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
        teacher = floating.teacher()
        name = f"hardening-{hashlib.sha256(repr(hardening).encode()).hexdigest()[:8]}"
        rate, followed, start = hardening.learning_rate, self.recipe.distillation, digest(net, floating)
        stage = Stage(name, hardening.epochs, rate, weight_decay=0.0, teacher=teacher, distillation=followed, start=start)
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
        _of_training(net)
        return freeze(net, self.name, self.all_notes())

    def predictions(self, net: Net) -> NDArray[np.int64]:
        """The winning class of each test image by the training's own forward pass."""
        return predict(net, self.batches.test_images).cpu().numpy()

    def baselines(self, net: Net) -> tuple[QuantizedNetwork, QuantizedNetwork]:
        """The floating-point `net` rounded directly to the same bits, and in 8-bit dynamic fixed point."""
        return self._baselines(net, self._calibration_images(), f"{self.name}-direct")

    def _baselines(self, net: Net, images: Tensor, name: str) -> tuple[QuantizedNetwork, QuantizedNetwork]:
        return direct(net, images, self.bits, name), dynamic_fixed_point(net, images, f"{self.name}-dynamic-fixed-point-8")

    def rounded(self, net: Net) -> Net:
        """The floating-point `net` rounded directly to the same bits; a half without bits stays as it is."""
        return rounded(net, self._calibration_images(), self.bits)

    def rehearsal(self) -> tuple[QuantizedNetwork, QuantizedNetwork]:
        """`baselines` of the network as it stands: of no use but their shapes and types, which training does not change."""
        return self._baselines(self.net, self._calibration_images()[:8], self.name)

    def all_notes(self) -> dict[str, Any]:
        about: dict[str, Any] = {"name": self.data.name, "source": self.data.source, "digest": self.data.digest}
        about |= {"classes": list(named)} if (named := getattr(self.data, "classes", None)) else {}
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
        # Of the epochs there were, whoever loads them now; older checkpoints do not say.
        precisions = [str(epoch.get("precision", self.net.precision)) for epoch in self.progress.curves]
        own["precision"] = " and ".join(dict.fromkeys(precisions or [self.net.precision]))
        # On another number of threads sums are rounded in another order, and the network is another one.
        if threads := list(dict.fromkeys(str(epoch["threads"]) for epoch in self.progress.curves if "threads" in epoch)):
            own["threads"] = " and ".join(threads)
        return {**own, "conversion": list(self.net.conversion), "pretrained": self.pretrained, "torch": torch.__version__, **self.notes}

    def _fit(self, net: Net, stage: Stage) -> None:
        fit(net, stage, self.batches, self.folder, self.progress, self.watcher, compiled=self.compiled)

    def _key(self, model: nn.Module, is_from_seed: bool, *normalization: tuple[float, ...] | None) -> str:
        shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
        about = (self.name, shapes, self.net.layers, self.data.digest, self.bits, self.recipe, self.seed, self.pretrained, normalization)
        # What came later counts only where it is used, so that older folders still go on.
        pixels, decay, optimizer = self.bits.pixels, self.recipe.weight_decay, self.recipe.optimizer
        later = (*["compiled"] * self.compiled, *[pixels] * (pixels != PixelCode()), *[("weight_decay", decay)] * (decay != WEIGHT_DECAY))
        later += tuple([("optimizer", optimizer)] * (optimizer != "adamw"))
        return origin.key(model, (*about, *later), has_seeded_weights=is_from_seed)

    def _batches(self, shape: tuple[int, ...]) -> Batches:
        shift = self.recipe.shift if self.recipe.shift is not None else -(-shape[-1] // 16)
        train, test = self.data.train, self.data.test
        train_images, test_images = (torch.from_numpy(np.array(split.images)).to(self.device) for split in (train, test))
        train_labels, test_labels = (torch.from_numpy(np.array(split.labels, np.int64)).to(self.device) for split in (train, test))
        batch_size = min(self.recipe.batch_size, len(train_images))
        return Batches(train_images, train_labels, test_images, test_labels, batch_size, shift, self.recipe.flip, self.seed)

    def _calibration_images(self) -> Tensor:
        chosen = np.random.default_rng([self.seed, 1]).permutation(len(self.data.train.labels))[:_CALIBRATION_IMAGES]
        return self.batches.train_images[torch.from_numpy(np.sort(chosen)).to(self.device)]


def _of_training(net: Any) -> None:
    expect(net, Net, TrainingError, "one that this training gave: floating(), counts(floating), ...")


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
        mean, std: per channel, if the model was trained on `(pixel / 255 - mean) / std`; see `Training`.
        folder: where checkpoints go, from which the same call goes on, if its model has the same first weights; None keeps none.
        device: "cpu" or "cuda".

    `Training` takes the steps one by one, and says of every error when it is raised.
    """
    if bits is not None and (weight_bits, activation_bits, image_bits) != (4, 4, None):
        raise TrainingError("bits are given twice", cure="give bits=Bits(...) alone, or weight_bits, activation_bits and image_bits")
    training = Training(
        model, data, name=name, bits=bits or Bits(activation_bits, weight_bits, image_bits), recipe=recipe or origin.recipe_for(model), seed=seed,
        pretrained=pretrained, mean=mean, std=std, folder=folder, device=device, watcher=watcher,
    )  # fmt: skip
    return training.freeze(training.counts(training.floating()))


def _is_mixed(precision: str, device: str) -> bool:
    """Whether products are taken in bfloat16 while training."""
    if precision == "auto":
        return torch.cuda.is_bf16_supported() if device.startswith("cuda") else torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    return precision == "bf16"
