"""Floating-point networks that lie in the repository: what takes an hour to train, and starts rows on every machine (decision 23)."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memspike.files import read_tensors, write_tensors
from memspike.trainer import Recipe

NETWORKS = Path(__file__).parent / "networks"
STAGE = ("epochs", "batch_size", "learning_rate", "weight_decay", "shift", "flip", "precision")  # of a recipe, what its floating-point stage depends on
State = Mapping[str, Tensor]


def origin(network: str, seed: int, data_digest: str, recipe: Recipe) -> dict[str, Any]:
    """What a kept network has to be of, to stand for a training."""
    values = asdict(recipe)
    stage = {name: values[name] for name in STAGE} | ({"optimizer": recipe.optimizer} if recipe.optimizer != "adamw" else {})  # the older ones do not say
    return {"network": network, "seed": seed, "data_digest": data_digest, "recipe": stage}


def write(state: State, wanted: Mapping[str, Any], notes: Mapping[str, Any]) -> Path:
    """Keep a network, with what it is of and whatever else is known of it."""
    NETWORKS.mkdir(exist_ok=True)
    metadata = {"origin": json.dumps(wanted, sort_keys=True), "notes": json.dumps({**notes, "digest": digest(state)}, sort_keys=True)}
    return write_tensors(_path(wanted), metadata, {name: value.detach().cpu().contiguous().numpy() for name, value in state.items()})


def read(wanted: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The kept network of exactly this training, or None."""
    path = _path(wanted)
    if not path.exists():
        return None
    metadata, arrays = read_tensors(path)
    if json.loads(metadata["origin"]) != wanted:
        print(f"{path.name} is of another recipe or other data, so that this network is trained anew", file=sys.stderr, flush=True)
        return None
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def digest(state: State) -> str:
    """Of weights: rows of one digest started from the same network."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode() + state[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _path(wanted: Mapping[str, Any]) -> Path:
    return NETWORKS / f"{wanted['network']}-{wanted['seed']}.safetensors"
