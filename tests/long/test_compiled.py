"""The training step through torch.compile: minutes of compiling, and then a program like any other."""

import copy
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspike import datasets
from memspike.compiler import compile
from memspike.trainer import RECIPES, Bits, Training, load_model
from memspike.trainer.recipe import Precision

pytestmark = pytest.mark.long


def digits(**options: bool) -> Training:
    recipe = replace(RECIPES["digits_net"], epochs=20, convergence_epochs=1, finetune_epochs=5)
    return Training(load_model("digits_net"), datasets.load("digits"), name="digits_net", bits=Bits(4, 4), recipe=recipe, **options)


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: install g++")


class Residual(nn.Module):
    """A max_pool, a batch norm without weights, one by plain averages, and an add."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.side, self.mean = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=None)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.fc(torch.flatten(F.relu(self.mean(self.side(x)) + x), 1))


@needs_compiler
@pytest.mark.parametrize(
    ("bits", "precision", "share"),
    [(Bits(4, 4), "auto", 1e-3), (Bits(None, None), "fp32", 0.0), (Bits(None, None), "bf16", 1e-2)],
    ids=["counts", "float", "narrow"],
)
def test_a_compiled_step_is_the_eager_step(bits: Bits, precision: Precision, share: float) -> None:
    """Its value, every gradient and the running statistics, but for a count or two that rounding throws to the other side of a threshold."""
    torch.manual_seed(0)
    recipe = replace(RECIPES["digits_net"], epochs=2, convergence_epochs=1, finetune_epochs=0, precision=precision)
    training = Training(Residual(), datasets.load("digits"), bits=Bits(4, 4), recipe=recipe)
    net = training.floating()
    eager = training.counts(net) if bits.weight else net
    eager.zero_grad()
    other = copy.deepcopy(eager)
    images, labels = training.batches.train_images[:200], training.batches.train_labels[:200]
    losses = list[Tensor]()
    for forward in (eager.train(), torch.compile(other.train(), fullgraph=bits.weight is not None)):
        losses.append(F.cross_entropy(forward(images), labels))
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-2, atol=1e-2)
    # A bias in front of a batch norm has no gradient but what was rounded: where products or signals may be narrow, a share of the whole gradient.
    norms = [torch.linalg.vector_norm(parameter.grad) for parameter in eager.parameters() if parameter.grad is not None]
    slack = 1e-4 + share * torch.linalg.vector_norm(torch.stack(norms))
    for (name, ours), theirs in zip(other.named_parameters(), eager.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, name
        assert torch.linalg.vector_norm(ours.grad - theirs.grad) <= 0.1 * torch.linalg.vector_norm(theirs.grad) + slack, (name, slack)
    for ours, theirs in zip(other.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@needs_compiler
def test_a_compiled_training_ends_in_a_program_of_its_own_predictions() -> None:
    training = digits(compiled=True)
    net = training.counts(training.floating())
    program = compile(training.freeze(net))
    test = training.data.test
    found = program.evaluate(program.count_pixels(datasets.load("digits").test.images)).argmax(axis=1)
    assert (found == training.predictions(net)).all()
    assert (found == test.labels).mean() > 0.95


@needs_compiler
def test_no_stage_uses_up_what_torch_compiles_of_one_piece_of_code() -> None:
    """Floating point, convergence, and counts with their teacher, with two compilations allowed: the next training in a process would find none left."""
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):  # pyright: ignore[reportAttributeAccessIssue]
        training = digits(compiled=True)
        training.counts(training.floating())


def test_without_a_compiler_the_error_says_so(tmp_path: Path) -> None:
    """In a process of its own, for one that has compiled keeps what it made."""
    command = [sys.executable, "-m", "memspike", "train", "--model", "digits_net", "--compile", "--out", str(tmp_path / "net.safetensors")]
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch cannot compile the training step" in done.stderr
    assert "without --compile" in done.stderr
    assert "Traceback" not in done.stderr
