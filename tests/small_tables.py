"""The tables of experiments/ on images of noise, an epoch a stage; as a script `RESULTS=folder python small_tables.py TABLE [arguments of the table]`.

What it changes it changes when it is read, so that the processes a table starts have it too.
"""

import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from memspike.datasets import Dataset, Split


def noise() -> Dataset:
    """Images of noise in MNIST's shape, ten of each class."""
    rng, labels = np.random.default_rng(0), np.arange(100) % 10
    split = Split(rng.integers(0, 256, (100, 1, 28, 28), dtype=np.uint8), labels)
    return Dataset("noise", tuple(map(str, range(10))), split, split, "drawn")


def shrink(results: Path) -> list[tuple[Any, str, Any]]:
    """What to set, in which module of experiments/."""
    rows, methods, floating = map(import_module, ("rows", "methods", "floating"))
    recipes = {"lenet": replace(methods.RECIPES["lenet"], epochs=1, finetune_epochs=1, batch_size=50)}
    short = [(methods, "BRIEF", {"lenet": 1}), (methods, "RECIPES", recipes), (floating, "RECIPES", recipes)]
    return [(rows, "RESULTS", results), (floating, "load_data", lambda folder, hub: noise()), *short]


if results := os.environ.get("RESULTS"):
    sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
    for module, name, value in shrink(Path(results)):
        setattr(module, name, value)

if __name__ == "__main__":
    table = sys.argv.pop(1)
    import_module(table).BENCH.main()
