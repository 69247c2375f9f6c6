"""The training loop: epochs over whole batches, resumable at any step, the same seed giving the same network."""

import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memspike.errors import TrainingError, first_line
from memspike.trainer.checkpoint import Folder, Progress
from memspike.trainer.cuda import Recorded, Step, is_recordable, own_precision
from memspike.trainer.net import Net
from memspike.trainer.recipe import WEIGHT_DECAY, Optimizer
from memspike.trainer.signals import REGULARIZERS

_SECONDS_BETWEEN_CHECKPOINTS = 30.0
STEPS_OF_STATISTICS = 100  # batches over which a batch norm's statistics are taken at the end of a stage
Forward = Callable[[Tensor], Tensor]  # a Net, or what a compiler made of it
Pulled = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # the same with what a regulariser adds to the loss


@dataclass(frozen=True, slots=True)
class Pull:
    """A regulariser of signals by name, its `weight` in the loss, and by layer the real value of the largest count."""

    regularizer: str
    weight: float
    bounds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg of a training: `epochs` of the `optimizer`, whose rate warms up to `learning_rate` and falls to zero along a cosine.

    `pull` draws signals into their range; `teacher` scores are followed with weight `distillation` (0..1). `start` is a digest of what it starts from,
    where that is not the model as it was given.
    """

    name: str
    epochs: int
    learning_rate: float
    weight_decay: float = WEIGHT_DECAY
    warmup: float = 0.1
    pull: Pull | None = None
    teacher: Forward | None = None
    distillation: float = 0.0
    temperature: float = 4.0
    optimizer: Optimizer = "adamw"
    start: str = ""


class Watcher(Protocol):
    """Who is told how a training goes: after each step, and after each epoch."""

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None: ...
    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Batches:
    """Training and test images (uint8) and labels on one device, and how they are drawn: `shift` pixels at random, mirrored if `flip`."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    batch_size: int
    shift: int
    flip: bool
    seed: int

    @property
    def num_steps(self) -> int:
        return max(1, len(self.train_images) // self.batch_size)

    def epoch(self, stage: str, epoch: int, start: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(step, images, labels) from step `start` on; what comes depends on seed, stage, epoch and step alone."""
        order = torch.from_numpy(_generator(self.seed, stage, epoch).permutation(len(self.train_images)))
        for step in range(start, self.num_steps):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size].to(self.train_images.device)
            yield step, self._augment(self.train_images[chosen], _generator(self.seed, stage, epoch, step + 1)), self.train_labels[chosen]

    def _augment(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        if self.shift:
            images = _shifted(images, self.shift, rng)
        if self.flip:
            mirrored = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
            images = torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(3), images)
        return images


def _generator(seed: int, stage: str, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([seed, *stage.encode(), *numbers])


def _shifted(images: Tensor, shift: int, rng: np.random.Generator) -> Tensor:
    """Each image moved by up to `shift` pixels both ways, black moving in."""
    n, channels, height, width = images.shape
    offsets = torch.from_numpy(rng.integers(0, 2 * shift + 1, (2, n))).to(images.device)
    padded = F.pad(images, (shift, shift, shift, shift))
    rows = (offsets[0][:, None] + torch.arange(height, device=images.device)).reshape(n, 1, height, 1)
    columns = (offsets[1][:, None] + torch.arange(width, device=images.device)).reshape(n, 1, 1, width)
    image, channel = torch.arange(n, device=images.device).reshape(n, 1, 1, 1), torch.arange(channels, device=images.device).reshape(1, channels, 1, 1)
    return padded[image, channel, rows, columns]


def fit(net: Net, stage: Stage, batches: Batches, folder: Folder, progress: Progress, watcher: Watcher, *, compiled: bool = False) -> None:
    """Train `net` through `stage`, from the folder's checkpoint of this stage if there is one; `progress` is changed in place.

    An epoch is `batches.num_steps` whole batches; images left over wait for another epoch's order. Raises TrainingError when nothing can be trained, when
    the step cannot be `compiled`, or while another training runs in the folder; FileRefused when checkpoints cannot be written.
    """
    _check(net, stage, batches)
    reached = folder.load(stage.name, net, start=stage.start)
    if reached is not None and reached.epoch >= stage.epochs:
        _go_on(progress, stage, reached)  # nothing is written: many may read a finished stage at once
        return
    with own_precision(batches.train_images.device), folder.alone(), _patient(folder.path is not None) as is_interrupted:
        _fit(net, stage, batches, folder, progress, watcher, compiled, is_interrupted)


@contextmanager
def _patient(is_kept: bool) -> Generator[Callable[[], bool]]:
    """While it is open Ctrl-C waits for the end of a step, where a checkpoint can be written, and whoever trains asks whether there was one; a second one
    does not wait. Where no checkpoint is kept, or somebody else minds signals, Ctrl-C is what it was."""
    before, asked = signal.getsignal(signal.SIGINT), list[int]()

    def ask(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if not is_kept or before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _fit(
    net: Net, stage: Stage, batches: Batches, folder: Folder, progress: Progress, watcher: Watcher, compiled: bool, is_interrupted: Callable[[], bool]
) -> None:
    device = batches.train_images.device
    is_recorded = device.type == "cuda" and not compiled and is_recordable(net) and stage.optimizer == "adamw"
    optimizer = _optimizer(net, stage, is_recorded)
    _go_on(progress, stage, folder.load(stage.name, net, optimizer, stage.start) or Progress(curves=progress.curves))
    saved = time.monotonic()
    rate = _rate(stage, stage.epochs * batches.num_steps)
    take = _step(net, stage, optimizer, compiled)
    if is_recorded:
        take = Recorded(take)
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros((), device=device)
    while progress.epoch < stage.epochs:
        net.train()
        for step, images, labels in batches.epoch(stage.name, progress.epoch, progress.step):
            _set_rate(optimizer, rate(progress.epoch * batches.num_steps + step))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(_generator(batches.seed, stage.name, progress.epoch, step, 7).integers(2**62)))
                value = take(images, labels).item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss became {value} in stage {stage.name}, epoch {progress.epoch + 1}", cure="try a smaller learning rate")
            progress.loss_sum += value
            progress.step = step + 1
            watcher.step(stage.name, progress.epoch + 1, stage.epochs, progress.step, batches.num_steps, progress.loss_sum / progress.step)
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or is_interrupted():
                folder.save(stage.name, net, optimizer, progress, stage.start)
                saved = time.monotonic()
            if is_interrupted():
                raise KeyboardInterrupt
        if progress.epoch + 1 == stage.epochs:
            settle(net, stage, batches)
        with torch.random.fork_rng(devices=[]):  # a net with noise draws while it is evaluated
            torch.manual_seed(batches.seed)
            accuracy = evaluate(net, batches.test_images, batches.test_labels)
        loss_mean = progress.loss_sum / batches.num_steps
        about = {"stage": stage.name, "epoch": progress.epoch + 1, "loss": loss_mean, "accuracy": accuracy, "precision": net.precision}
        about |= {} if device.type == "cuda" else {"threads": torch.get_num_threads()}
        progress.curves.append(about)
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        folder.save(stage.name, net, optimizer, progress, stage.start)
        saved = time.monotonic()
        watcher.epoch(stage.name, progress.epoch, stage.epochs, loss_mean, accuracy)
    if stage.epochs == 0:
        folder.save(stage.name, net, None, progress, stage.start)


@torch.no_grad()
def settle(net: Net, stage: Stage, batches: Batches) -> None:
    """Take the running statistics of batch norms anew, as means over batches with the weights as they are at the end of a stage.

    While training they follow the last few batches alone, and are as uncertain as those.
    """
    norms: list[Any] = [net.model.get_submodule(layer.norm) for layer in net.layers if layer.norm]
    before = [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms]
    net.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(batches.seed)
        for step, images, _ in batches.epoch(f"{stage.name}, statistics", 0, 0) if norms else ():
            net(images)
            if step + 1 == STEPS_OF_STATISTICS:
                break
    for norm, (momentum, number) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked.fill_(number)


def _go_on(progress: Progress, stage: Stage, reached: Progress) -> None:
    progress.stage, progress.epoch, progress.step = stage.name, reached.epoch, reached.step
    progress.loss_sum, progress.curves = reached.loss_sum, reached.curves


def _step(net: Net, stage: Stage, optimizer: torch.optim.Optimizer, compiled: bool) -> Step:
    forward = pulled(net, stage.pull)
    if compiled:
        torch.compiler.reset()  # torch compiles one piece of code eight times, and runs it eagerly from then on: every stage has its own eight
        forward = torch.compile(forward)
        stage = stage if stage.teacher is None else replace(stage, teacher=torch.compile(stage.teacher))

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = (_compiled_loss if compiled else _loss)(forward, stage, images, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _check(net: Net, stage: Stage, batches: Batches) -> None:
    if stage.epochs and not any(parameter.requires_grad for parameter in net.parameters()):
        cure = "set requires_grad on some, or train for 0 epochs"
        raise TrainingError(f"no parameter can be trained in stage {stage.name}: requires_grad is False for all", cure=cure)
    single = [layer.name for layer in net.layers if layer.norm and math.prod(layer.shape[1:]) == 1]
    if stage.epochs and batches.batch_size == 1 and single:
        raise TrainingError(f"batches of one image have no statistics for the batch norm of {single[0]}", cure="use a batch size of at least 2")


def _optimizer(net: Net, stage: Stage, is_recorded: bool) -> torch.optim.Optimizer:
    groups = _parameter_groups(net, stage)
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=stage.learning_rate, fused=True, capturable=is_recorded)


def _parameter_groups(net: Net, stage: Stage) -> list[dict[str, object]]:
    """Weights decay; steps, scales, biases and batch norms do not."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rate(stage: Stage, num_steps: int) -> Callable[[int], float]:
    warm = max(1, int(stage.warmup * num_steps))

    def rate(step: int) -> float:
        if step < warm:
            return stage.learning_rate * (step + 1) / warm
        return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))

    return rate


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # a recorded step reads it where it lies
        else:
            group["lr"] = rate


def pulled(net: Net, pull: Pull | None) -> Pulled:
    """Scores of images and the regulariser of their signals: in one piece, so that a compiler takes both in the same passes."""

    def forward(images: Tensor) -> tuple[Tensor, Tensor | None]:
        if pull is None:
            return net(images), None
        signals: dict[str, Tensor] = {}
        scores = net(images, keep=signals)
        return scores, pull.weight * REGULARIZERS[pull.regularizer](signals, pull.bounds) if signals else None

    return forward


def _loss(forward: Pulled, stage: Stage, images: Tensor, labels: Tensor) -> Tensor:
    scores, pull = forward(images)
    loss = F.cross_entropy(scores, labels)
    if stage.teacher is not None and stage.distillation:
        with torch.no_grad():
            taught = F.log_softmax(stage.teacher(images) / stage.temperature, dim=1)
        followed = F.log_softmax(scores / stage.temperature, dim=1)
        loss = (1 - stage.distillation) * loss + stage.distillation * stage.temperature**2 * F.kl_div(followed, taught, reduction="batchmean", log_target=True)
    return loss if pull is None else loss + pull


def _compiled_loss(forward: Pulled, stage: Stage, images: Tensor, labels: Tensor) -> Tensor:
    """The loss, where the first call compiles. Raises TrainingError when the compiler cannot."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second to load

    try:
        return _loss(forward, stage, images, labels)
    except TorchDynamoException as error:
        what = f"torch cannot compile the training step: {first_line(error)}"
        raise TrainingError(what, cure="install a C++ compiler (g++), or train without --compile") from error


@torch.no_grad()
def evaluate(net: Net, images: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """Share of images that the forward pass classifies rightly."""
    return int((predict(net, images, batch_size) == labels).sum()) / len(labels)


@torch.no_grad()
def predict(net: Net, images: Tensor, batch_size: int = 500) -> Tensor:
    """The winning class of each image."""
    was_training = net.training
    net.eval()
    with own_precision(images.device):
        winners = torch.cat([net(images[i : i + batch_size]).argmax(1) for i in range(0, len(images), batch_size)])
    net.train(was_training)
    return winners
