"""The training step through torch.compile: minutes of compiling, and then a program like any other."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from memspike import datasets
from memspike.compiler import compile
from memspike.trainer import RECIPES, Bits, Training, load_model

pytestmark = pytest.mark.long


def digits(**options: bool) -> Training:
    recipe = replace(RECIPES["digits_net"], epochs=20, convergence_epochs=1, finetune_epochs=5)
    return Training(load_model("digits_net"), datasets.load("digits"), name="digits_net", bits=Bits(4, 4), recipe=recipe, **options)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: install g++")
def test_a_compiled_training_ends_in_a_program_of_its_own_predictions() -> None:
    training = digits(compiled=True)
    net = training.counts(training.floating())
    program = compile(training.freeze(net))
    test = training.data.test
    found = program.evaluate(datasets.load("digits").test.counts(program.input_type.type)).argmax(axis=1)
    assert (found == training.predictions(net)).all()
    assert (found == test.labels).mean() > 0.95


def test_without_a_compiler_the_error_says_so(tmp_path: Path) -> None:
    """In a process of its own, for one that has compiled keeps what it made."""
    command = [sys.executable, "-m", "memspike", "train", "--model", "digits_net", "--compile", "--out", str(tmp_path / "net.safetensors")]
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch cannot compile the training step" in done.stderr
    assert "without --compile" in done.stderr
    assert "Traceback" not in done.stderr
