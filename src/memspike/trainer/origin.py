"""Origin: the model that a training begins with, and the key by which a folder's checkpoints know it."""

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memspike.errors import ModelError, expect
from memspike.trainer.layers import Trace
from memspike.trainer.loading import load_model
from memspike.trainer.models import MODELS
from memspike.trainer.recipe import RECIPES, Recipe


def recipe_for(model: nn.Module) -> Recipe:
    """The recipe measured for a reference network, or the default one."""
    return RECIPES.get(_reference(model), Recipe())


def _reference(model: nn.Module) -> str:
    return next((name for name, kind in MODELS.items() if type(model) is kind), "")


def is_from_seed(model: nn.Module, traced: Trace, seed: int) -> bool:
    """Whether it is a reference network as `load_model` makes it from the seed: the seed then stands for the weights, in older checkpoints too."""
    if not (name := _reference(model)):
        return False
    state = model.state_dict()
    own = load_model(name, traced.input_shape[0], traced.layers[-1].shape[0], seed).state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own)


def key(model: nn.Module, about: tuple[Any, ...], *, has_seeded_weights: bool) -> str:
    """SHA-256 of what is trained: `about`, how the model was prepared and, unless a seed among these stands for them, its weights."""
    state, prepared = model.state_dict(), _prepared(model)
    digest = hashlib.sha256(repr((*about, *[prepared] * bool(prepared))).encode())
    if not has_seeded_weights:
        for value in (*state.values(), *(buffer for name, buffer in model.named_buffers() if name not in state)):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _prepared(model: nn.Module) -> list[Any]:
    """What the state dict does not say of how the model will be trained, where it is not torch's default."""
    norms = [(name, norm.eps, norm.momentum) for name, norm in model.named_modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)]
    own = [norm for norm in norms if norm[1:] != (1e-5, 0.1)]
    return own + [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def copied(model: nn.Module) -> nn.Module:
    """A copy in single precision on the processor; raises ModelError where it holds what cannot be copied."""
    try:
        return copy.deepcopy(model).float().cpu()
    except Exception as error:  # whatever a user's own attributes raise
        raise ModelError(f"{type(model).__name__} cannot be copied: {error}", cure="keep only modules, parameters and plain values in it") from error


def fill(model: nn.Module, state: Mapping[str, Tensor | NDArray[Any]]) -> None:
    """Put the weights of a state dict into the model; raises ModelError unless they are its own, and finite."""
    expect(state, Mapping, ModelError, "bring a state dict: model.state_dict(), or what memspike.trainer.load_weights reads from a file")
    tensors = {name: _tensor(name, value) for name, value in state.items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise ModelError(f"the weights {name!r} are not all finite numbers", cure="train again with a smaller learning rate, or take an earlier checkpoint")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        is_wrapped = all(name.startswith(("module.", "_orig_mod.")) for name in tensors)
        cure = (
            "they are a wrapper's: bring model.module.state_dict(), or cut 'module.' and '_orig_mod.' off their names"
            if is_wrapped
            else "bring the state dict of this very model"
        )
        raise ModelError(f"the weights do not fit {type(model).__name__}: {error}", cure=cure) from error


def _tensor(name: str, value: Tensor | NDArray[Any]) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        what, cure = f"the weights {name!r} are {type(value).__name__}, no tensor", "bring a state dict: names to tensors, or to numpy arrays"
        raise ModelError(what, cure=cure) from error
