"""Trainer: a torch model and data become a QuantizedNetwork."""

from memspike.trainer.bits import Bits
from memspike.trainer.data import Data, Split
from memspike.trainer.loading import load_model, load_weights, torch_build
from memspike.trainer.loop import Watcher
from memspike.trainer.models import MODELS
from memspike.trainer.noise import Hardening
from memspike.trainer.normalize import PADDED
from memspike.trainer.origin import recipe_for
from memspike.trainer.recipe import RECIPES, Recipe
from memspike.trainer.training import Training, train

__all__ = [
    "MODELS",
    "RECIPES",
    "Bits",
    "Data",
    "Hardening",
    "PADDED",
    "Recipe",
    "Split",
    "Training",
    "Watcher",
    "load_model",
    "load_weights",
    "recipe_for",
    "torch_build",
    "train",
]
