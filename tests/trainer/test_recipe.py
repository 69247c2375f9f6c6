"""Recipe: its limits, the 2018 paper's own, and what is measured for the reference networks."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from memspike.errors import TrainingError
from memspike.trainer.models import MODELS
from memspike.trainer.recipe import RECIPES, Recipe

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epochs": -1}, "epochs must be zero or more, got -1"),
    ({"convergence_epochs": -1}, "convergence_epochs must be zero or more, got -1"),
    ({"finetune_epochs": -2}, "finetune_epochs must be zero or more, got -2"),
    ({"batch_size": 0}, "batch_size must be a finite number above zero, got 0"),
    ({"learning_rate": 0.0}, "learning_rate must be a finite number above zero, got 0.0"),
    ({"finetune_learning_rate": float("nan")}, "finetune_learning_rate must be a finite number above zero, got nan"),
    ({"convergence_learning_rate": -1e-3}, "convergence_learning_rate must be a finite number above zero, got -0.001"),
    ({"learning_rate": float("inf")}, "learning_rate must be a finite number above zero, got inf"),
    ({"convergence": float("inf")}, "convergence must be a finite number, zero or more, got inf"),
    ({"weight_decay": -0.1}, "weight_decay must be a finite number, zero or more, got -0.1"),
    ({"weight_decay": float("nan")}, "weight_decay must be a finite number, zero or more, got nan"),
    ({"shift": -1}, "shift must be zero or more pixels, got -1"),
    ({"precision": "fp16"}, "unknown precision 'fp16'\n  known are: auto, bf16, fp32"),
    ({"regularizer": "l2"}, "unknown regularizer 'l2'\n  known are: neuron_convergence, l1, truncated_l1, none"),
    ({"distillation": 1.5}, "distillation must lie between 0 and 1, got 1.5"),
    ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
    ({"convergence_epochs": True}, "convergence_epochs must be a whole number, got True"),
    ({"finetune_epochs": "3"}, "finetune_epochs must be a whole number, got '3'"),
    ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
    ({"batch_size": None}, "batch_size must be a whole number, got None"),
    ({"optimizer": "adam"}, "unknown optimizer 'adam'\n  known are: adamw, sgd"),
    ({"flip": "no"}, "flip is True or False, got 'no'"),
    ({"learned_steps": 1}, "learned_steps is True or False, got 1"),
    ({"learning_rate": "3"}, "learning_rate must be a number, got '3'"),
    ({"distillation": None}, "distillation must be a number, got None"),
    ({"shift": 1.0}, "shift must be a whole number, got 1.0"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        Recipe(**options)
    assert str(error.value) == message


def test_numpys_whole_numbers_are_as_good_as_pythons() -> None:
    recipe = Recipe(epochs=np.int64(3), batch_size=np.uint8(16), shift=np.int32(0))  # pyright: ignore[reportArgumentType]
    assert repr(recipe) == repr(Recipe(epochs=3, batch_size=16, shift=0))


def test_the_paper_has_no_learned_steps_and_no_teacher() -> None:
    recipe = Recipe.liu2018(epochs=3)
    assert (recipe.regularizer, recipe.weight_clustering, recipe.learned_steps, recipe.distillation, recipe.epochs) == (
        "neuron_convergence",
        True,
        False,
        0.0,
        3,
    )


def test_a_recipe_describes_all_of_itself() -> None:
    assert list(Recipe().describe()) == [field.name for field in dataclasses.fields(Recipe)]


def test_every_reference_network_has_a_recipe() -> None:
    assert set(RECIPES) == set(MODELS)
