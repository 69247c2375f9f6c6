"""Training on CUDA: what a processor can tell of it; where CUDA is, a training runs there too."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memspike.compiler import compile
from memspike.integer import to_counts
from memspike.trainer import Bits, Recipe, Training
from memspike.trainer import loop as loop_of
from memspike.trainer.cuda import Recorded, is_recordable, own_precision
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from random_models import Noise


def test_convolutions_have_their_own_precision_and_the_users_settings_come_back() -> None:
    cudnn, inside = torch.backends.cudnn, (False, True)
    before = cudnn.allow_tf32, cudnn.deterministic
    with own_precision():
        assert (cudnn.allow_tf32, cudnn.deterministic) == inside
    assert (cudnn.allow_tf32, cudnn.deterministic) == before != inside


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
        def wait_stream(self, other: object) -> None: ...

    for name, value in (("Stream", Stream), ("CUDAGraph", Graph), ("graph", recording), ("current_stream", Stream), ("stream", lambda _: nullcontext())):
        monkeypatch.setattr(torch.cuda, name, value)
    recorded = Recorded(step)
    losses = [int(recorded(torch.tensor([number]), torch.tensor([100]))) for number in range(8)]
    assert seen == losses == [100 + number for number in range(8)]
    assert calls == ["step"] * 3 + ["record", "step"] + ["step"] * 5


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
        scores = program.evaluate(to_counts(data.test.images, program.input_type.type))
        assert np.array_equal(scores.argmax(1), training.predictions(net))
        digests.append(program.digest())
    assert digests[0] == digests[1] and len(made) == 6 * (device == "cuda")
