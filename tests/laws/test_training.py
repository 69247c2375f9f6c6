"""Laws of training: the net is the model, counts are the program's, the same command gives the same network, broken off or not."""

import copy
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from memspike.compiler import compile
from memspike.errors import TrainingError
from memspike.pixels import PixelCode
from memspike.trainer import Bits, Recipe, Training, loop
from memspike.trainer.freeze import freeze
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from networks import Everything
from pixel_codes import pixel_codes
from random_models import SHAPE, Noise, counted, pixels, random_model, scores_in_double, values_of

seeds = st.integers(0, 2**32 - 1)


# -- the net is the model


@settings(max_examples=40)
@given(seeds, st.integers(1, 5))
def test_a_net_in_floating_point_is_its_model(seed: int, num_steps: int) -> None:
    model, x = random_model(seed, num_steps).double(), pixels(np.random.default_rng(seed), 6)
    traced = trace(model, SHAPE)
    net = Net(random_model(seed, num_steps), traced)
    for training in (False, True):
        with torch.no_grad():
            wanted, found = _both(model.train(training), net.train(training), traced.final, x)
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)
    for name, value in net.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-8, atol=1e-9, msg=name)


@settings(max_examples=25)
@given(seeds)
def test_where_nothing_is_counted_mixed_precision_is_torchs_own(seed: int) -> None:
    """The scores and gradients that autocast gives, for one in training and for one that teaches."""
    model, x = random_model(seed), pixels(np.random.default_rng(seed), 12)
    plain = Net(model, trace(model, SHAPE))
    mixed = copy.deepcopy(plain)
    mixed.is_mixed = mixed.teaches = True
    for training in (True, False):
        torch.manual_seed(seed)  # of dropouts
        found = mixed.train(training)(x)
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16):
            wanted = plain.train(training)(x).float()
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        for net, scores in ((mixed, found), (plain, wanted)):
            net.zero_grad()
            scores.square().sum().backward()
        for ours, theirs in zip(mixed.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-2, atol=1e-3)


@settings(max_examples=15)
@given(seeds)
def test_its_gradients_are_its_models(seed: int) -> None:
    model, x = random_model(seed, in_place=False).double(), pixels(np.random.default_rng(seed), 6)
    traced = trace(model, SHAPE)
    net = Net(random_model(seed, in_place=False), traced)
    for scores in _both(model.train(), net.train(), traced.final, x):
        (scores * torch.linspace(-1, 1, scores.numel()).reshape(scores.shape)).sum().backward()
    for (name, wanted), found in zip(model.named_parameters(), net.model.parameters(), strict=True):
        if wanted.grad is not None and found.grad is not None:
            torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-6, atol=1e-8, msg=name)
        else:  # what the scores do not need has no gradient in either
            assert all(p.grad is None or not p.grad.any() for p in (wanted, found)), name


def _both(model: torch.nn.Module, net: Net, final: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """The model's scores and the net's, dropouts drawing alike."""
    torch.manual_seed(0)
    wanted = model(images.double() / 255)
    torch.manual_seed(0)
    found = scores_in_double(net, images)
    return wanted, getattr(F, final)(found, 1) if final else found


# -- counts are the program's


@settings(max_examples=40)
@given(seeds, st.integers(2, 8), st.integers(2, 8), st.sampled_from([None, 2, 4, 8]), st.sampled_from(["symmetric", "liu2018"]), st.data())
def test_a_net_counts_what_its_program_counts(seed: int, activation: int, weight: int, image: int | None, grid: Any, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    model, x = random_model(seed), pixels(rng, 6)
    code = data.draw(pixel_codes(image or activation))
    try:
        net = counted(model, Bits(activation, weight, image, grid=grid, pixels=code), x)
    except TrainingError as error:  # a pool that averages the image itself
        assert f"cannot read pixels on {code.lines} lines" in str(error) or f"cannot read pixels that count from {code.low} on" in str(error)
        code = PixelCode(code.dither, high=code.high)
        net = counted(model, Bits(activation, weight, image, grid=grid, pixels=code), x)
    weighted = [layer for layer in net.layers if layer.module]
    weight_bits = {layer.module: int(rng.integers(2, 9)) for layer in weighted[:2]}  # as many wherever a module is called
    overrides = tuple(
        (layer.name, None if layer is net.scores else int(rng.integers(2, 9)), weight_bits[layer.module]) for layer in weighted if layer.module in weight_bits
    )
    _check_counts(counted(model, Bits(activation, weight, image, overrides, grid, code), x), x)


def test_a_trained_net_counts_what_its_program_counts() -> None:
    data = Noise.of(shape=(1, 8, 8))
    for bits in (Bits(4, 4), Bits(2, 3, 8), Bits(8, 8, 2, (("twice*", 3, 5),), "liu2018"), Bits(2, 2, pixels=PixelCode(2, 3, 30, 200))):
        training = Training(Everything(), data, bits=bits, recipe=Recipe(1, 1, 1, 32))
        _check_counts(training.counts(training.floating()).eval(), torch.from_numpy(data.test.images))


def _check_counts(net: Net, images: Tensor) -> None:
    """Every value of the program that the net has too is equal, and real scores are what the charges say."""
    network = freeze(net, "net", {})
    program = compile(network)
    expected = values_of(net, images)
    values = program.evaluate_all(program.count_pixels(images.numpy()))
    behind = {layer.name for layer in net.layers[net.layers.index(net.scores) :]} if net.scores else set[str]()
    shared = [name for name in expected if name in values and name not in behind]
    assert len(shared) >= len(network.layers) - 2
    for name in shared:
        if net.groups[name] == "image" and expected[name].ndim == 4:  # what lines carry together
            values[name] = values[name].reshape(len(images), -1, network.pixels.lines, *expected[name].shape[2:]).sum(2)
        elif net.groups[name] == "image" and network.pixels.lines > 1:
            continue  # flattened: whoever reads it is compared
        assert int((values[name] != expected[name]).sum()) == 0, name
    assert all(note["moved"] == 0 for note in program.notes["compile"]["layers"])
    with torch.no_grad():
        real = net(images).double().numpy()
    last = network.layers[-1]
    if net.scores:
        assert last.gain is not None and last.offset is not None
        step = next((layer.activation_scale for layer in network.layers if layer.name == last.inputs[0]), network.input_scale)
        wanted = values[f"{last.name}.sum"] * (last.gain * last.weight_scale * step) + last.offset
    else:
        wanted = values[program.output] * last.activation_scale
    np.testing.assert_allclose(real, wanted, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(real).max()))


# -- the same command gives the same network

RECIPE = Recipe(epochs=2, convergence_epochs=1, finetune_epochs=2, batch_size=32, learning_rate=1e-2)
SEED = 15  # a dropout, batch norms and a skip
NUM_STEPS = 15  # 96 images in batches of 32 over five epochs


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


class Killer:
    """A watcher that breaks the training off at its step number `at`, or, with `after_epochs`, once that epoch has been told."""

    def __init__(self, at: int, after_epochs: int = 0) -> None:
        self.left, self.epochs_left = at, after_epochs

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        self.epochs_left -= 1
        if self.epochs_left == 0:
            raise Killed


def training(folder: Path | None = None, watcher: Any = None, **changes: Any) -> Training:
    options = {"recipe": RECIPE, "seed": 3, "bits": Bits(3, 4), **changes}
    return Training(random_model(SEED, 3), Noise.of(), name="n", folder=folder, watcher=watcher, **options)


def outcome(training: Training) -> tuple[dict[str, bytes], list[Any], str]:
    """Everything that a training leaves: the state, the curves, and the program."""
    net = training.counts(training.floating())
    state = {name: value.contiguous().numpy().tobytes() for name, value in net.state_dict().items()}
    return state, training.progress.curves, compile(training.freeze(net)).digest()


@pytest.fixture(scope="module")
def unbroken() -> Iterator[tuple[dict[str, bytes], list[Any], str]]:
    yield outcome(training())


def test_the_same_seed_gives_the_same_network_and_another_another(unbroken: Any) -> None:
    torch.manual_seed(99)  # what the caller has drawn plays no part
    assert outcome(training()) == unbroken
    assert outcome(training(seed=4))[2] != unbroken[2]


def test_keeping_checkpoints_changes_nothing(unbroken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    assert outcome(training(tmp_path)) == unbroken
    assert outcome(training(tmp_path, Killer(1))) == unbroken  # all is done: no step is made


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("at", range(1, NUM_STEPS + 1))
def test_a_training_broken_off_at_any_step_goes_on_as_if_nothing_had_been(
    unbroken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, every_step: bool
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0 if every_step else 1e9)
    with pytest.raises(Killed):
        outcome(training(tmp_path, Killer(at)))
    assert outcome(training(tmp_path)) == unbroken


@pytest.mark.parametrize("epochs", range(1, 6))
def test_so_does_one_broken_off_between_epochs(unbroken: Any, tmp_path: Path, epochs: int) -> None:
    with pytest.raises(Killed):
        outcome(training(tmp_path, Killer(0, epochs)))
    assert outcome(training(tmp_path)) == unbroken


def test_so_does_one_broken_off_again_and_again(unbroken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    while not (tmp_path / "counts.safetensors").exists():
        with pytest.raises(Killed):
            outcome(training(tmp_path, Killer(2)))  # each attempt gains a step: that of the two which was kept
    assert outcome(training(tmp_path)) == unbroken


CHILD = """
import os, signal, sys
from pathlib import Path
import test_training
from memspike.trainer import loop

loop._SECONDS_BETWEEN_CHECKPOINTS = -1.0
written, fsync = 0, os.fsync

def kill_in_the_middle_of_a_write(handle):
    global written
    written += 1
    if written == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)

os.fsync = kill_in_the_middle_of_a_write
test_training.outcome(test_training.training(Path(sys.argv[1])))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_so_does_one_killed_while_it_writes_a_checkpoint(unbroken: Any, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests / "laws"), str(tests), os.environ.get("PYTHONPATH", "")])
    # Two syncs to a checkpoint, file and folder; the 15th comes with the draft of the eighth checkpoint on disk, but not yet under its name.
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "15"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert sorted(file.suffix for file in tmp_path.iterdir() if file.name != ".lock") == [".safetensors", ".tmp"]
    assert outcome(training(tmp_path)) == unbroken


def test_a_folder_of_another_command_is_refused(tmp_path: Path) -> None:
    outcome(training(tmp_path))
    for changes in ({"seed": 4}, {"bits": Bits(3, 3)}, {"recipe": dataclasses.replace(RECIPE, epochs=3)}):
        with pytest.raises(Exception, match="the checkpoint belongs to another training"):
            outcome(training(tmp_path, **changes))
