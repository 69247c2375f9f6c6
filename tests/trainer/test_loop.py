"""The training loop: what a batch is, how the rate falls, what the loss is made of, and when it refuses."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from memspike.errors import TrainingError
from memspike.trainer import loop
from memspike.trainer.bits import Bits
from memspike.trainer.checkpoint import Folder, Progress
from memspike.trainer.loop import Batches, Pull, Stage, _loss, _parameter_groups, _rate, _shifted, evaluate, fit, predict, pulled
from memspike.trainer.net import Net
from memspike.trainer.signals import convergence
from memspike.trainer.trace import trace
from memspike.trainer.training import Silence
from random_models import Noise, counted, pixels, random_model


def batches(num_train: int = 10, batch_size: int = 4, shift: int = 0, flip: bool = False, seed: int = 0) -> Batches:
    data = Noise.of(num_train, 6)
    arrays = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    return Batches(*(torch.from_numpy(array) for array in arrays), batch_size, shift, flip, seed)


def net_of(seed: int = 3) -> Net:
    model = random_model(seed, 2, in_place=False)
    return Net(model, trace(model, (2, 8, 8)))


def train(net: Net, stage: Stage, drawn: Batches, watcher: Any = None) -> Progress:
    progress = Progress()
    fit(net, stage, drawn, Folder(None, "key"), progress, watcher or Silence())
    return progress


# -- batches


def test_an_epoch_holds_whole_batches_of_different_images() -> None:
    drawn = batches()
    steps = list(drawn.epoch("float", 0, 0))
    assert drawn.num_steps == 2 and [step for step, *_ in steps] == [0, 1]
    seen = [image.numpy().tobytes() for _, images, _ in steps for image in images]
    assert len(set(seen)) == len(seen) == 8  # two of ten wait for another epoch
    everything = {image.numpy().tobytes(): int(label) for image, label in zip(drawn.train_images, drawn.train_labels, strict=True)}
    labels = [int(label) for _, _, labels in steps for label in labels]
    assert [everything[image] for image in seen] == labels


def test_over_epochs_every_image_comes() -> None:
    drawn = batches()
    assert len({image.numpy().tobytes() for epoch in range(12) for _, images, _ in drawn.epoch("float", epoch, 0) for image in images}) == 10


def test_what_comes_depends_on_seed_stage_epoch_and_step_alone() -> None:
    drawn = batches(shift=2, flip=True)
    whole, rest = list(drawn.epoch("float", 3, 0)), list(drawn.epoch("float", 3, 1))
    assert len(rest) == 1 and torch.equal(rest[0][1], whole[1][1]) and torch.equal(rest[0][2], whole[1][2])
    first = whole[0][1]
    for other in (drawn.epoch("float", 4, 0), drawn.epoch("counts", 3, 0), batches(shift=2, flip=True, seed=1).epoch("float", 3, 0)):
        assert not torch.equal(next(other)[1], first)


def test_images_move_by_up_to_the_shift_and_black_moves_in() -> None:
    image = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5).expand(400, 2, 5, 5)
    moved = _shifted(image, 1, np.random.default_rng(0))
    padded = F.pad(image[0, 0], (1, 1, 1, 1))
    wanted = {padded[i : i + 5, j : j + 5].numpy().tobytes() for i in range(3) for j in range(3)}
    assert {m[0].numpy().tobytes() for m in moved} == wanted and torch.equal(moved[:, 0], moved[:, 1])


def test_every_step_moves_and_mirrors_its_own_way() -> None:
    drawn = dataclasses.replace(batches(64, 32, shift=2, flip=True), train_images=torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(64, 2, 8, 8))
    (_, first, _), (_, second, _) = drawn.epoch("float", 0, 0)
    assert not torch.equal(first, second)


def test_a_mirrored_image_is_one_or_the_other() -> None:
    drawn = batches(64, 64, flip=True)
    (_, images, labels), (_, plain, _) = next(iter(drawn.epoch("a", 0, 0))), next(iter(batches(64, 64).epoch("a", 0, 0)))
    same = (images == plain).flatten(1).all(1)
    mirrored = (images == plain.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 16 < same.sum() < 48 and len(labels) == 64


# -- rate, groups, loss


def test_the_rate_warms_up_and_falls_along_a_cosine_to_nothing() -> None:
    rate = _rate(Stage("a", 1, 2.0), 40)
    assert [rate(step) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert rate(4) == 2.0 and rate(22) == pytest.approx(1.0) and rate(39) == pytest.approx(1 + math.cos(math.pi * 35 / 36))
    assert _rate(Stage("a", 1, 2.0), 1)(0) == 2.0


def test_the_rate_falls_over_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(loop, "_rate", lambda stage, num_steps: lambda step: asked.append(step) or 1e-3 / num_steps)
    train(net_of(), Stage("s", 3, 1e-3), batches())
    assert asked == [0, 1, 2, 3, 4, 5]


def test_dropouts_draw_anew_at_every_step() -> None:
    seen: list[float] = []

    class Watcher(Silence):
        def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
            seen.append(loss)

    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 3)).requires_grad_(False)
    model[2].bias.requires_grad_(True)
    drawn = batches(4, 4)
    for again in (False, True):
        torch.manual_seed(again)  # the caller's seed plays no part
        net = Net(model, trace(model, (2, 8, 8)))
        train(net, Stage("s", 3, 1e-30), drawn, Watcher())
    assert seen[:3] == seen[3:] and len(set(seen)) == 3


def test_weights_decay_and_nothing_else_does() -> None:
    net = counted(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3)), Bits(4, 4), pixels(np.random.default_rng(0), 4)
    )
    decayed, others = _parameter_groups(net, Stage("a", 1, 1e-3, weight_decay=0.3))
    names = {id(p): name for name, p in net.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == ["model.0.weight", "model.4.weight"]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(names) == 9


def test_the_loss_is_cross_entropy_distillation_and_convergence() -> None:
    net, teacher, drawn = net_of().eval(), net_of(4).eval(), batches()
    x, y = drawn.train_images, drawn.train_labels
    scores, taught = net(x), teacher(x)
    plain = F.cross_entropy(scores, y)
    torch.testing.assert_close(_loss(pulled(net, None), Stage("a", 1, 1e-3), x, y), plain)
    p, q = F.softmax(taught / 4, 1), F.softmax(scores / 4, 1)
    divergence = (p * (p / q).log()).sum(1).mean()
    found = _loss(pulled(net, None), Stage("a", 1, 1e-3, teacher=teacher, distillation=0.25), x, y)
    torch.testing.assert_close(found, 0.75 * plain + 0.25 * 16 * divergence)
    kept: dict[str, torch.Tensor] = {}
    net(x, keep=kept)
    bounds = dict.fromkeys(kept, 0.7)
    found = _loss(pulled(net, Pull("neuron_convergence", 3.0, bounds)), Stage("a", 1, 1e-3), x, y)
    torch.testing.assert_close(found, plain + 3 * convergence(kept, bounds))


# -- the loop


def test_training_learns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 3))
    net, data = Net(model, trace(model, (2, 8, 8))), Noise.of(128, 64)
    arrays = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    drawn = Batches(*(torch.from_numpy(array) for array in arrays), 32, 0, False, 0)
    progress = train(net, Stage("float", 12, 1e-2), drawn)
    assert progress.curves[-1]["accuracy"] > 0.6 and progress.curves[-1]["loss"] < 0.5 * progress.curves[0]["loss"]
    assert [(row["stage"], row["epoch"]) for row in progress.curves] == [("float", epoch) for epoch in range(1, 13)]


def test_watchers_hear_of_every_step_and_epoch() -> None:
    heard: list[Any] = []

    class Watcher:
        def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
            heard.append((stage, epoch, epochs, step, steps))

        def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
            heard.append((stage, epoch, epochs))

    progress = train(net_of(), Stage("s", 2, 1e-3), batches(), Watcher())
    assert heard == [("s", 1, 2, 1, 2), ("s", 1, 2, 2, 2), ("s", 1, 2), ("s", 2, 2, 1, 2), ("s", 2, 2, 2, 2), ("s", 2, 2)]
    assert len(progress.curves) == 2


def test_no_epochs_change_nothing() -> None:
    net = net_of()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert train(net, Stage("s", 0, 1e-3), batches()).curves == []
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 3))
    torch.manual_seed(5)
    train(Net(model, trace(model, (2, 8, 8))), Stage("s", 1, 1e-3), batches())
    assert torch.equal(torch.rand(3), wanted)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    with pytest.raises(TrainingError) as error:
        net = net_of()
        train(net, Stage("float", 1, 1e30), batches(400, 8))
    assert str(error.value) == "the loss became nan in stage float, epoch 1\n  try a smaller learning rate"


def test_nothing_to_train_is_refused() -> None:
    net = net_of().requires_grad_(False)
    with pytest.raises(TrainingError) as error:
        train(net, Stage("float", 1, 1e-3), batches())
    assert str(error.value) == "no parameter can be trained in stage float: requires_grad is False for all\n  set requires_grad on some, or train for 0 epochs"
    train(net, Stage("float", 0, 1e-3), batches())


def test_single_images_have_no_statistics() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    net = Net(model, trace(model, (2, 8, 8)))
    with pytest.raises(TrainingError) as error:
        train(net, Stage("float", 1, 1e-3), batches(batch_size=1))
    assert str(error.value) == "batches of one image have no statistics for the batch norm of 1\n  use a batch size of at least 2"


def test_frozen_parameters_stay() -> None:
    net = net_of()
    parameters = dict(net.named_parameters())
    frozen = next(iter(parameters))
    parameters[frozen].requires_grad_(False)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    train(net, Stage("float", 1, 1e-2), batches())
    moved = {name for name, p in parameters.items() if not torch.equal(p, before[name])}
    assert frozen not in moved and moved


def test_predictions_do_not_depend_on_the_batch_size_or_change_the_net() -> None:
    net, drawn = net_of().train(), batches(60)
    assert torch.equal(predict(net, drawn.train_images, 7), predict(net, drawn.train_images, 60)) and net.training
    accuracy = float((net.eval()(drawn.train_images).argmax(1) == drawn.train_labels).float().mean())
    assert evaluate(net, drawn.train_images, drawn.train_labels, 13) == pytest.approx(accuracy)


def test_a_stage_that_trains_is_alone_in_its_folder_and_a_finished_one_is_open_to_all(tmp_path: Path) -> None:
    stage, net, drawn = Stage("s", 1, 1e-3), net_of(), batches()
    folder, other = Folder(tmp_path, "key"), Folder(tmp_path, "key")
    with other.alone(), pytest.raises(TrainingError, match="another training runs in this folder"):
        fit(net, stage, drawn, folder, Progress(), Silence())
    progress = Progress()
    fit(net, stage, drawn, folder, progress, Silence())
    read, again = net_of(), Progress()
    with other.alone():
        fit(read, stage, drawn, folder, again, Silence())
    assert again == progress and (again.stage, again.epoch, len(again.curves)) == ("s", 1, 1)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), read.state_dict().values(), strict=True))


# -- the end of a stage


def test_a_stage_ends_with_statistics_of_many_batches() -> None:
    """The mean and variance of each batch, averaged; what they were averaged with while training is as it was."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    net, stage, drawn = Net(model, trace(model, (2, 8, 8))), Stage("float", 2, 1e-2), batches(num_train=24)
    train(net, stage, drawn)
    conv, norm = (net.model.get_submodule(name) for name in "01")
    sums = [conv(images.float() / 255) for _, images, _ in drawn.epoch("float, statistics", 0, 0)]
    assert torch.allclose(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in sums]).mean(0), atol=1e-5)
    assert torch.allclose(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in sums]).mean(0), rtol=1e-5)
    assert norm.momentum == 0.3 and norm.num_batches_tracked == 2 * drawn.num_steps


def test_statistics_of_long_epochs_are_taken_over_some_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    net, drawn = Net(model, trace(model, (2, 8, 8))), batches(num_train=24)
    monkeypatch.setattr(loop, "STEPS_OF_STATISTICS", 1)
    loop.settle(net, Stage("float", 1, 1e-2), drawn)
    first = next(drawn.epoch("float, statistics", 0, 0))[1]
    norm = net.model.get_submodule("1")
    assert torch.allclose(norm.running_mean, net.model.get_submodule("0")(first.float() / 255).mean((0, 2, 3)), atol=1e-5)


def test_statistics_of_a_norm_that_two_layers_share_are_those_of_both() -> None:
    """As torch averages them when the model itself sees the batches."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
    model = nn.Sequential(conv, norm, nn.ReLU(), conv, norm, nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    net, drawn = Net(model, trace(model, (2, 8, 8))), batches(num_train=24)
    loop.settle(net, Stage("float", 1, 1e-2), drawn)
    found: Any = net.model.get_submodule(next(layer.norm for layer in net.layers if layer.norm))
    assert found.momentum == 0.1 and found.num_batches_tracked == 0
    norm.momentum = None
    for _, images, _ in drawn.epoch("float, statistics", 0, 0):
        model.train()(images.float() / 255)
    assert torch.allclose(found.running_mean, norm.running_mean, atol=1e-5) and torch.allclose(found.running_var, norm.running_var, rtol=1e-4)
