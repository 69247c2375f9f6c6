"""memspike: deep networks on spiking memristor hardware, from a PyTorch network to the chip and its cost."""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memspike import datasets as datasets
    from memspike import montecarlo as montecarlo
    from memspike.chip import Chip as Chip
    from memspike.compiler import compile as compile
    from memspike.cost import Cost as Cost
    from memspike.datasets import Dataset as Dataset
    from memspike.ensemble import Ensemble as Ensemble
    from memspike.errors import MemspikeError as MemspikeError
    from memspike.estimator import estimate as estimate
    from memspike.mapper import map as map
    from memspike.mapping import Mapping as Mapping
    from memspike.network import QuantizedNetwork as QuantizedNetwork
    from memspike.pixels import PixelCode as PixelCode
    from memspike.program import Program as Program
    from memspike.reporter import Report as Report
    from memspike.reporter import report as report
    from memspike.result import Result as Result
    from memspike.simulator import simulate as simulate
    from memspike.storage import load as load
    from memspike.storage import load_chip as load_chip
    from memspike.storage import load_device as load_device
    from memspike.storage import save as save
    from memspike.trainer import Bits as Bits
    from memspike.trainer import Recipe as Recipe
    from memspike.trainer import Training as Training
    from memspike.trainer import load_model as load_model
    from memspike.trainer import models as models
    from memspike.trainer import train as train
    from memspike.zoo import load_program as load_program

# Name at the front door -> room behind it. Rooms are entered when first asked for, so that `import memspike` stays light.
_DOORS = {
    "train": "trainer",
    "load_program": "zoo",
    "compile": "compiler",
    "map": "mapper",
    "simulate": "simulator",
    "estimate": "estimator",
    "report": "reporter",
    "load_model": "trainer",
    "save": "storage",
    "load": "storage",
    "load_chip": "storage",
    "load_device": "storage",
    "Bits": "trainer",
    "PixelCode": "pixels",
    "Recipe": "trainer",
    "Training": "trainer",
    "Dataset": "datasets",
    "QuantizedNetwork": "network",
    "Program": "program",
    "Chip": "chip",
    "Mapping": "mapping",
    "Result": "result",
    "Cost": "cost",
    "Ensemble": "ensemble",
    "Report": "reporter",
    "MemspikeError": "errors",
}
_MODULES = {"datasets": "datasets", "models": "trainer.models", "montecarlo": "montecarlo"}

__all__ = [*_DOORS, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = metadata.version("memspike")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"memspike.{_MODULES[name]}")
    if name in _DOORS:
        return getattr(importlib.import_module(f"memspike.{_DOORS[name]}"), name)
    raise AttributeError(f"module 'memspike' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
