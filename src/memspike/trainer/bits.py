"""Bits: how many each activation, weight and image pixel gets, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

from memspike.errors import ProgramError, TrainingError
from memspike.integer import IntType
from memspike.network import Grid
from memspike.pixels import PixelCode
from memspike.trainer.recipe import whole


@dataclass(frozen=True, slots=True)
class Bits:
    """`activation` and `weight` bits (2 to 8; None leaves floating point), `image` bits (None: as the activations), its `pixels` counted so.

    `overrides` are (pattern, activation bits or None, weight bits or None) by layer name, the last match wins; None keeps the default.
    The `symmetric` grid has |k| <= 2**(N-1) - 1, the 2018 paper's reaches 2**(N-1).
    """

    activation: int | None = 4
    weight: int | None = 4
    image: int | None = None
    overrides: tuple[tuple[str, int | None, int | None], ...] = ()
    grid: Grid = "symmetric"
    pixels: PixelCode = field(default=PixelCode(), repr=False)  # part of a training's key only where it is not the default

    def __post_init__(self) -> None:
        for name in ("activation", "weight", "image"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        cure = "expected (layer or pattern, activation bits or None, weight bits or None) for each layer, in a tuple: overrides=(('fc1', 8, 6),)"
        given: Any = self.overrides
        if not isinstance(given, tuple | list):
            raise TrainingError(f"overrides are {given!r}", cure=cure)
        for each in cast(Sequence[Any], given):
            if not isinstance(each, tuple | list) or len(cast(Sequence[Any], each)) != 3 or not isinstance(each[0], str):
                raise TrainingError(f"the override {each!r} is none", cure=cure)
        overrides = [(pattern, _checked(f"{pattern} (activation)", a), _checked(f"{pattern} (weight)", w)) for pattern, a, w in self.overrides]
        object.__setattr__(self, "overrides", tuple(overrides))
        for what, default, position in (("activation", self.activation, 1), ("weight", self.weight, 2)):
            overrides = [override[0] for override in self.overrides if override[position] is not None]
            if default is None and overrides:
                raise TrainingError(f"{overrides[0]} has {what} bits, all other {what}s are floating point", cure=f"give the others {what} bits too")
        if self.grid not in ("symmetric", "liu2018"):
            raise TrainingError(f"unknown weight grid {self.grid!r}", cure="grids: symmetric, liu2018")
        if self.image_type is not None:
            try:
                self.pixels.most(self.image_type)
            except ProgramError as error:
                raise TrainingError(error.what, cure=error.cure) from error

    @property
    def image_type(self) -> IntType | None:
        bits = self.image or self.activation
        return IntType(bits) if bits else None

    def activation_of(self, layer: str) -> int | None:
        found = [activation for pattern, activation, _ in self.overrides if activation and fnmatchcase(layer, pattern)]
        return found[-1] if found else self.activation

    def weight_of(self, layer: str) -> int | None:
        found = [weight for pattern, _, weight in self.overrides if weight and fnmatchcase(layer, pattern)]
        return found[-1] if found else self.weight

    def largest_weight(self, layer: str) -> int | None:
        """The largest weight integer of a layer's grid."""
        bits = self.weight_of(layer)
        return None if bits is None else 2 ** (bits - 1) - (self.grid == "symmetric")

    def check_overrides(self, counted: list[str], weighted: list[str]) -> None:
        """Raises TrainingError for an override that no layer answers to: activation bits belong to what counts, weight bits to what has weights."""
        for pattern, *both in self.overrides:
            for what, bits, layers in zip(("activation", "weight"), both, (counted, weighted), strict=True):
                if bits is not None and not any(fnmatchcase(layer, pattern) for layer in layers):
                    raise TrainingError(f"no layer with {what} bits is called {pattern!r}", cure=f"layers: {', '.join(layers) or 'none'}")


def _checked(name: str, given: int | None) -> int | None:
    bits = None if given is None else whole(f"{name} bits", given)
    if bits is not None and not 2 <= bits <= 8:
        raise TrainingError(f"{name} bits must lie between 2 and 8, got {bits}")
    return bits
