"""Checkpoints of a training: written whole or not at all, never pickle, resumed by the same command only."""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from memspike.errors import FileRefused, TrainingError


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

    `key` says what is being trained (model, data, bits, recipe, seed): a folder that belongs to another key is refused.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.key = key

    def save(self, name: str, module: nn.Module, optimizer: torch.optim.Optimizer | None, progress: Progress) -> None:
        """Write `<name>.safetensors`: all state of module and optimizer, and where the training stands."""
        if self.path is None:
            return
        tensors = {f"model.{key}": value for key, value in module.state_dict().items()}
        if optimizer is not None:
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        about = {"key": self.key, "stage": progress.stage, "epoch": progress.epoch, "step": progress.step}
        about |= {"loss_sum": progress.loss_sum, "curves": progress.curves}
        self.path.mkdir(parents=True, exist_ok=True)
        _write_whole({key: value.detach().contiguous() for key, value in tensors.items()}, json.dumps(about), self.path / f"{name}.safetensors")

    def load(self, name: str, module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Progress | None:
        """Fill module and optimizer from `<name>.safetensors`; None if there is none.

        Raises TrainingError when the folder belongs to another training, FileRefused when the file is damaged.
        """
        path = self.path / f"{name}.safetensors" if self.path else None
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
                tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                about = json.loads(file.metadata()["memspike"])
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise FileRefused(f"damaged checkpoint: {error}", where=str(path), cure="delete it to start this training anew") from error
        if about["key"] != self.key:
            raise TrainingError(
                "the checkpoint belongs to another training (model, data, bits, recipe or seed differ)",
                where=str(path),
                cure="use another folder, or delete it",
            )
        module.load_state_dict({key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")})
        if optimizer is not None:
            _load_optimizer(optimizer, tensors)
        return Progress(about["stage"], about["epoch"], about["step"], about["loss_sum"], about["curves"])


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_whole(tensors: dict[str, Tensor], about: str, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, {"memspike": about})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
