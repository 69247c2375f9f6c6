"""The training step through torch.compile: minutes of compiling, and then a program like any other."""

import shutil
from dataclasses import replace

import pytest

from memspike import datasets
from memspike.compiler import compile
from memspike.errors import TrainingError
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


def test_without_a_compiler_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(TrainingError, match="torch cannot compile the training step") as error:
        digits(compiled=True).floating()
    assert "without --compile" in str(error.value)
