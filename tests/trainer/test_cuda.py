"""Training on CUDA: what a processor can tell of it; where CUDA is, a training runs there too."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memspike.compiler import compile
from memspike.trainer import Bits, Recipe, Training
from memspike.trainer import loop as loop_of
from memspike.trainer import signals as signals_of
from memspike.trainer.cuda import Recorded, is_recordable, own_precision
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from random_models import Noise


def settings() -> tuple[object, ...]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return (cudnn.deterministic, cudnn.enabled, cudnn.benchmark, cudnn.conv.fp32_precision, matmul.fp32_precision)


@pytest.mark.parametrize("chosen", [None, "ieee", "tf32"])
def test_products_have_their_own_precision_and_the_users_settings_come_back(chosen: str | None) -> None:
    default = torch.backends.fp32_precision
    try:
        if chosen:
            torch.backends.fp32_precision = chosen
        before = settings()
        with own_precision(torch.device("cpu")):
            assert settings() == before
        with own_precision(torch.device("cuda")):
            assert settings() == (True, *before[1:3], "ieee", "ieee")
        assert settings() == before
    finally:
        torch.backends.fp32_precision = default


def test_training_and_evaluation_ask_for_that_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `fit`, where a step is taken; in `predict` and `observe`, where the net runs: told by whom the net's forward pass finds inside."""
    inside: list[str] = []
    found: set[tuple[str, ...]] = set()

    @contextmanager
    def told(device: torch.device) -> Iterator[None]:
        inside.append(device.type)
        yield
        inside.pop()

    forward = Net._forward
    monkeypatch.setattr(Net, "_forward", lambda net, *rest: found.add(tuple(inside[-1:])) or forward(net, *rest))
    monkeypatch.setattr(loop_of, "own_precision", told)
    monkeypatch.setattr(signals_of, "own_precision", told)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
    training = Training(model, Noise.of(), bits=Bits(3, 3), recipe=Recipe(epochs=1, convergence_epochs=1, finetune_epochs=1))
    found.clear()  # whoever made the training has checked the net once
    training.predictions(training.counts(training.floating()))
    assert found == {("cpu",)}


def test_noise_and_norms_without_momentum_are_not_recorded() -> None:
    def net_of(momentum: float | None) -> Net:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, momentum=momentum), nn.Flatten(), nn.Linear(32, 3))
        return Net(model, trace(model, (1, 6, 6)))

    noisy = net_of(0.1)
    noisy.noise = lambda largest: pytest.fail("nobody asks for noise")
    assert is_recordable(net_of(0.1)) and not is_recordable(net_of(None)) and not is_recordable(noisy)


def test_a_recorded_step_sees_every_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps as they are, one recorded, which computes nothing, and then only what was recorded, each on its own images."""
    seen: list[int] = []
    calls: list[str] = []
    total = torch.zeros(())

    class Graph:
        replay: Any = None

    @contextmanager
    def recording(graph: Graph) -> Iterator[None]:
        calls.append("record")
        yield
        seen.pop()  # what is recorded does not run
        graph.replay = lambda: step(recorded._images, recorded._labels)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        calls.append("step")
        seen.append(int(images.sum() + labels.sum()))
        return total.fill_(seen[-1])

    class Stream:
        def wait_stream(self, other: object) -> None:
            calls.append("wait")

    @contextmanager
    def stream(_: Stream) -> Iterator[None]:
        calls.append("beside")
        yield

    fakes = {"Stream": Stream, "CUDAGraph": Graph, "graph": recording, "current_stream": Stream, "stream": stream, "device": lambda _: nullcontext()}
    for name, value in fakes.items():
        monkeypatch.setattr(torch.cuda, name, value)
    recorded = Recorded(step)
    batches = [(torch.tensor([number]), torch.tensor([100 * number])) for number in range(8)]
    losses = [int(recorded(images, labels)) for images, labels in batches]
    assert seen == losses == [101 * number for number in range(8)]
    assert calls == ["wait", "beside", "step", "wait"] * 3 + ["record", "step"] + ["step"] * 5
    assert all((int(images), int(labels)) == (number, 100 * number) for number, (images, labels) in enumerate(batches)), "the user's own are left alone"


@pytest.mark.parametrize("device", ["cpu", *["cuda"] * torch.cuda.is_available()])
def test_a_training_on_any_device_changes_no_prediction_and_comes_again(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    data, made = Noise.of(), list[Recorded]()
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    )  # fmt: skip
    monkeypatch.setattr(loop_of, "Recorded", lambda step: made.append(Recorded(step)) or made[-1])
    digests = list[str]()
    for _ in range(2):
        recipe = Recipe(epochs=2, convergence_epochs=2, finetune_epochs=2, batch_size=16)
        training = Training(model, data, bits=Bits(3, 3), recipe=recipe, device=device)
        net = training.counts(training.floating())
        program = compile(training.freeze(net))
        scores = program.evaluate(program.count_pixels(data.test.images))
        assert np.array_equal(scores.argmax(1), training.predictions(net))
        digests.append(program.digest())
    assert digests[0] == digests[1] and len(made) == 6 * (device == "cuda")
    monkeypatch.setattr(loop_of, "is_recordable", lambda net: False)
    launched = Training(model, data, bits=Bits(3, 3), recipe=recipe, device=device)
    launched.floating()
    told = [row["loss"] for row in training.progress.curves if row["stage"] == "float"]
    assert [row["loss"] for row in launched.progress.curves] == pytest.approx(told, rel=1e-3), "recorded or launched one by one"
