"""The crossbars of one op, as its neurons see them."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from memspike.integer import Integers
from memspike.ops import Conv2d, Dense, Fire, TensorType
from memspike.simulator import int8
from memspike.simulator.floor import Floor
from memspike.simulator.kernels import Linear, bounds_of, carrier, magnitude_of
from memspike.simulator.onednn import Image


class Layer:
    """The crossbars of one op and what its neurons see of counts `x`; there are neurons for sums of the shape `out`.

    `image` is the shape before a Flatten, where the op is given counts that have not been flattened.
    """

    def __init__(self, op: Conv2d | Dense, x: TensorType, out: tuple[int, ...], image: Image = None, device: str = "cpu") -> None:
        self.op, self.x, self.out, self.image, self.device = op, x, out, image, device
        self.num_timesteps = x.type.num_timesteps
        bounds = bounds_of(op, x.type)
        self.low, self.high = bounds.low, bounds.high
        self.magnitude = bounds.largest * magnitude_of(x.type)
        self.dtype = carrier(self.magnitude)  # carries a whole window's sums

    def sums_of(self, op: Conv2d | Dense) -> Callable[[Tensor], Tensor]:
        """The sums `[n, ...]` of counts `[n, ...]` through this op's weights or others of their shape, carried by `dtype`."""
        product = int8.sums(op, self.x, self.image) if self.device == "cpu" else None
        return product or Linear(op, self.x.type, self.device)

    def targets(self, fire: Fire) -> tuple[Callable[[Tensor], Tensor], str]:
        """The counts, as `fire` clips them, that the neurons call for once counts `[n, ...]` have been sent; and their arithmetic in words."""
        low, high = fire.type.min, fire.type.max
        product = int8.counts(self.op, self.x, fire, low, high, self.image) if self.device == "cpu" else None
        if product:
            return product, "fired in the kernel of its int8 products"
        sums, floor = self.sums_of(self.op), Floor(fire, low, high, self.low, self.high, len(self.out), self.device)
        return lambda counts: floor(sums(counts)), self.note()

    def note(self) -> str:
        """What carries its charge, in words."""
        return f"charge in {str(self.dtype).removeprefix('torch.')}"

    def with_weight(self, weight: Integers) -> "Layer":
        """The same crossbars with other weights of the same shape."""
        return Layer(replace(self.op, weight=weight), self.x, self.out, self.image, self.device)
