"""Loading: the networks and weights that people bring, and what torch is here."""

import importlib
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from memspike.errors import FileRefused, ModelError
from memspike.trainer.models import MODELS


def load_model(name: str, channels: int = 1, classes: int = 10, seed: int = 0) -> nn.Module:
    """A reference network by name, or `package.module:function` of your own, called without arguments; initialised from `seed`.

    Raises ModelError when there is none, or when it gives no nn.Module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](channels, classes) if name in MODELS else _import_model(name, seed)


def _import_model(name: str, seed: int) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ModelError(f"no model {name!r}", cure=f"reference networks: {', '.join(MODELS)}; your own: package.module:function")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no answer of a command
            made = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # whatever a user's own module raises
        cure = "the module must be importable from here; the part behind ':' names a function or class"
        raise ModelError(f"cannot import {name!r}: {_said(error)}", cure=cure) from error
    finally:
        sys.path.remove(here)
    torch.manual_seed(seed)  # whatever was drawn while importing, which happens once
    try:
        with redirect_stdout(sys.stderr):
            model = made() if callable(made) and not isinstance(made, nn.Module) else made
    except (Exception, SystemExit) as error:  # whatever a user's own function raises
        raise ModelError(f"{name!r} raised {_said(error)}", cure="it is called without arguments and returns an nn.Module") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name!r} gives {type(model).__name__}, expected an nn.Module")
    return model


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def load_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors, or from a torch file read with `weights_only=True`; raises FileRefused otherwise."""
    if not path.exists():
        raise FileRefused("no such file", where=str(path))
    cure = "save model.state_dict() with safetensors.torch.save_file, or with torch.save"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for one thing: a file that is no state dict
        # What torch says of an UnpicklingError is how to load the file anyway.
        strange = type(error).__name__ == "UnpicklingError"
        what = "is no torch file, or holds more than tensors: Python objects could run code" if strange else f"no state dict can be read: {error}"
        raise FileRefused(what, where=str(path), cure=cure) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        if isinstance(state, dict) and (inside := next((name for name in ("state_dict", "model_state_dict", "model") if name in state), "")):
            raise FileRefused("holds a whole checkpoint", where=str(path), cure=f"save the weights in it alone: torch.save(checkpoint[{inside!r}], path)")
        raise FileRefused("holds no state dict (names to tensors)", where=str(path), cure=cure)
    return state


def torch_build() -> dict[str, str]:
    """What torch is here: version, threads, the vector instructions it uses, and the GPU if there is one."""
    return {
        "torch": str(torch.__version__),
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
