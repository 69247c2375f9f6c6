"""Checkpoints of a training: written whole or not at all, never pickle, resumed by the same command only."""

import hashlib
import json
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memspike.errors import FileRefused, TrainingError
from memspike.files import alone, read_tensors, write_tensors


@dataclass(slots=True)
class Progress:
    """Where a training stands: finished stages, and the stage, epoch and step to go on from; `curves` has a row per epoch."""

    stage: str = ""
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    curves: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Folder:
    """The checkpoints of one training in one folder; with `path` None nothing is kept.

    `key` says what is being trained (model, its first weights, data, bits, recipe, seed): a folder that belongs to another key is refused. So is the
    checkpoint of a stage that started from another network; which one it is to start from is said by `start`, a digest, where the key does not tell.
    """

    def __init__(self, path: str | Path | None, key: str) -> None:
        self.path = None if path is None else Path(path)
        self.key = key

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """While it is open nobody else trains in this folder: TrainingError for who comes second. FileRefused when it is no folder."""
        if self.path is None:
            yield
            return
        self._make()
        busy = TrainingError("another training runs in this folder", where=str(self.path), cure="wait for it, or use another folder")
        with ExitStack() as lock:
            try:
                lock.enter_context(alone(self.path, busy))
            except OSError as error:
                raise _refused(self.path, error) from error
            yield

    def _make(self) -> None:
        assert self.path is not None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(self.path, error) from error

    def save(self, name: str, module: nn.Module, optimizer: torch.optim.Optimizer | None, progress: Progress, start: str = "") -> None:
        """Write `<name>.safetensors`: all state of module and optimizer, and where the training stands. Raises FileRefused when it cannot be written."""
        if self.path is None:
            return
        tensors = {f"model.{key}": value for key, value in module.state_dict().items()}
        if optimizer is not None:
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        about = {"key": self.key, "stage": progress.stage, "epoch": progress.epoch, "step": progress.step}
        about |= {"loss_sum": progress.loss_sum, "curves": progress.curves, "start": start}
        self._make()
        write_tensors(self.path / f"{name}.safetensors", {"checkpoint": json.dumps(about)}, {key: _array(value) for key, value in tensors.items()})

    def load(self, name: str, module: nn.Module, optimizer: torch.optim.Optimizer | None = None, start: str = "") -> Progress | None:
        """Fill module and optimizer from `<name>.safetensors`; None if there is none.

        Raises TrainingError when the folder belongs to another training, FileRefused when the file is damaged.
        """
        path = self.path / f"{name}.safetensors" if self.path else None
        if path is None or not path.exists():
            return None
        try:
            metadata, arrays = read_tensors(path)
            about = json.loads(metadata["checkpoint"])
        except (FileRefused, KeyError) as error:
            what = error.what if isinstance(error, FileRefused) else "is no checkpoint"
            raise FileRefused(what, where=str(path), cure="delete it to start this part of the training anew") from error
        if about["key"] != self.key:
            what = "the checkpoint belongs to another training (model, its first weights, data, bits, recipe or seed differ, or one is compiled)"
            cure = "to go on, make the model from the same weights (torch.manual_seed before it); else use another folder, or delete this one"
            raise TrainingError(what, where=str(path), cure=cure)
        if about.get("start", start) != start:  # older checkpoints do not say
            cure = "use a folder for each network that you start from, or delete this file"
            raise TrainingError(f"this stage, {name}, started from another network", where=str(path), cure=cure)
        tensors = {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
        module.load_state_dict({key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")})
        if optimizer is not None:
            _load_optimizer(optimizer, {key: value for key, value in tensors.items() if key.startswith("optimizer.")})
        return Progress(about["stage"], about["epoch"], about["step"], about["loss_sum"], about["curves"])


def digest(*modules: nn.Module) -> str:
    """SHA-256 of all their state."""
    found = hashlib.sha256()
    for name, value in (item for module in modules for item in sorted(module.state_dict().items())):
        found.update(f"{name} {tuple(value.shape)} ".encode() + np.ascontiguousarray(_array(value)).tobytes())
    return found.hexdigest()


def _refused(path: Path, error: OSError) -> FileRefused:
    return FileRefused(f"is no folder that checkpoints can go to: {error.strerror}", where=str(path))


def _array(tensor: Tensor) -> NDArray[Any]:
    array = tensor.detach().cpu().numpy()
    return array.astype(np.uint8) if array.dtype == np.bool_ else array


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        _, index, name = key.split(".", 2)
        # A moment lies in memory as its parameter does, as in a training that was never broken: another order of sums may round differently.
        own = parameters[int(index)].detach()
        state.setdefault(int(index), {})[name] = torch.empty_like(own).copy_(value) if name != "step" else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
