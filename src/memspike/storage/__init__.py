"""Storage: save any thing, load it again: safetensors, npz, JSON and TOML, never a format that can run code."""

from pathlib import Path
from typing import Any, TypeVar, overload

from memspike.chip import Chip
from memspike.storage.described import chip_names, device_names, load_chip, load_device, load_faults
from memspike.storage.forms import Thing, check_kind, check_place, load_saved, save, save_simulation

__all__ = ["Thing", "check_place", "chip_names", "device_names", "load", "load_chip", "load_device", "load_faults", "save", "save_simulation"]

T = TypeVar("T")


@overload
def load(path: str | Path) -> Thing: ...
@overload
def load(path: str | Path, kind: type[T]) -> T: ...
def load(path: str | Path, kind: type[Any] | None = None) -> Any:
    """Read back what `save` wrote, or a chip's .toml; what a file is, its content says.

    With `kind` (`Program`, say) a file of another kind is refused. Raises FileRefused when the file is missing, damaged, of another kind,
    or breaks a law of the thing it holds; ChipError for a mistake in a chip's .toml.
    """
    path = Path(path)
    if path.suffix == ".toml":
        check_kind(Chip, kind, path)
        return load_chip(path)
    return load_saved(path, kind)
