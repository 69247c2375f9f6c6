"""QuantizedNetwork: what training leaves behind, integers with scales, before reals end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memspike.integer import Integers, IntType, frozen
from memspike.pixels import PixelCode

Grid = Literal["symmetric", "liu2018"]
Kind = Literal["conv2d", "dense", "average_pool", "max_pool", "add", "concat", "flatten"]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedLayer:
    """One layer: integer weights and the reals that turn its sums into counts.

    A real value is `count * activation_scale`; a real weight is `weight * weight_scale`. What the layer computes before its
    activation is `gain * (weight_scale * input_scale * acc) + offset` per channel (batch norm and bias folded), then
    `round_half_up(. / activation_scale)` clipped to `activation_type`. Without `activation_type` the layer gives scores.

    Fields that a kind has no use for keep their defaults: `kernel` belongs to pools, weights to `conv2d` and `dense`.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    activation_type: IntType | None = None
    activation_scale: float = 1.0
    weight: Integers | None = None
    weight_type: IntType | None = None
    weight_scale: float = 1.0
    gain: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        for name, dtype in (("weight", np.int64), ("gain", np.float64), ("offset", np.float64)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen(getattr(self, name), dtype))


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedNetwork:
    """A trained network of counts: `layers` in order, the last one giving the scores.

    `input_shape` is one image, `[channels, height, width]`; `input_type` and `input_scale` say how a count stands for a pixel in 0..1,
    and `pixels` how
    they are counted: with several lines, `input_type` is that of one, and a count the sum of all.
    `notes` hold what training knows (accuracies, data set, seed, conversions, histograms) as JSON-able values.
    """

    name: str
    input_shape: tuple[int, ...]
    input_type: IntType
    input_scale: float
    layers: tuple[QuantizedLayer, ...]
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pixels: PixelCode = PixelCode()

    def __repr__(self) -> str:
        return f"<QuantizedNetwork {self.name}: {len(self.layers)} layers, images {self.input_type}{list(self.input_shape)}>"
