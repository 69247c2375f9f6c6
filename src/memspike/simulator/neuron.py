"""The integrate-and-fire circuits: charge in, spikes out, in integers. Each kind says whether its counts are the program's.

A neuron's potential starts at `charge` and grows by `current * 2**f` per timestep; one spike is worth `threshold`. After the sum S of currents
and c net spikes it is `v = S * 2**f + charge - c * threshold`, so that `floor(v / threshold) = target - c` with `target = floor((S * 2**f +
charge) / threshold)`. "While v >= threshold fire up, while v < 0 fire down, at most r times" is therefore `c += clip(target - c, -r, r)`.

S is linear in what the lines have sent so far. So the targets of many timesteps are one product of what had been sent by each of them, in the same
kernel that computes a layer's counts where that is proven; only the line above is walked through timestep by timestep, on bytes, and never rounds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from memspike.errors import SimulationError
from memspike.integer import Integers, IntType
from memspike.ops import Conv2d, Dense, Fire, TensorType
from memspike.simulator import int8
from memspike.simulator.encode import MAX_TIMESTEPS, Window
from memspike.simulator.floor import Floor
from memspike.simulator.kernels import Linear, bounds_of, carrier, channels_last, magnitude_of, stored
from memspike.simulator.onednn import Image

MAX_RASTER = 1 << 28  # spikes of one image; a quarter of a gigabyte
BLOCK = 1 << 21  # bytes of what the neurons of a layer want over several timesteps: about what a cache holds, and enough for one call to be worth it


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
        self.bytes_per_value = 8

    def sums_of(self, op: Conv2d | Dense) -> Callable[[Tensor], Tensor]:
        """The sums `[n, ...]` of counts `[n, ...]` through this op's weights or others of their shape, carried by `dtype`."""
        product = int8.sums(op, self.x, self.image) if self.device == "cpu" else None
        return product or Linear(op, self.x.type, self.device)

    def targets(self, fire: Fire, low: int, high: int, *, may_use_bytes: bool = True) -> tuple[Callable[[Tensor], Tensor], str]:
        """The counts, clipped to `low` to `high`, that the neurons call for after counts `[n, ...]` have been sent; and their arithmetic in words."""
        if may_use_bytes and self.device == "cpu":
            product = int8.counts(self.op, self.x, fire, low, high, self.image, torch.int8)
            if product:
                self.bytes_per_value = 1
                return product, "fired in the kernel of its int8 products"
        sums, floor = self.sums_of(self.op), Floor(fire, low, high, self.low, self.high, len(self.out), self.device)
        return lambda counts: floor(sums(counts)), f"charge in {str(self.dtype).removeprefix('torch.')}"

    def timesteps_at_once(self, num_images: int) -> int:
        """So many timesteps of so many images keep to a block."""
        return max(1, BLOCK // (self.bytes_per_value * max(1, num_images) * max(math.prod(self.out), math.prod(self.x.shape))))


def _with_weight(layer: Layer, weight: Integers) -> Layer:
    """The same crossbars with other weights of the same shape."""
    return Layer(replace(layer.op, weight=weight), layer.x, layer.out, layer.image, layer.device)


@dataclass(frozen=True, slots=True)
class Fired:
    """What a layer of neurons did: `counts` `[n, ...]`, all spikes up or down, the timesteps after the window until the last neuron settled, and for
    the first image the signed spikes of each timestep, if they were asked for. `sums` are real ones, of neurons that are not perfect."""

    sums: Any
    counts: Any
    num_fires: int
    num_extra_timesteps: int
    raster: list[Tensor] = field(default_factory=list[Tensor])


class Neuron(Protocol):
    """One layer of neurons of some kind: runs a window of input spikes."""

    is_exact: bool
    note: str

    def run(self, window: Window, *, keep_raster: bool) -> Fired: ...


class UpDown:
    """Fires up and down while it integrates, then drains until every counter is settled. Exact.

    A counter is settled when `0 <= v < threshold`, or when no further spike could change its clipped count: at or above the type's
    maximum with `v >= 0`, at or below its minimum with `v < threshold`.
    """

    is_exact = True

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        # clipped where no neuron that fires so many times per timestep can tell
        reach = layer.num_timesteps * max_spikes
        self.targets, self.note = _walked(layer, fire, min(fire.type.min, -reach), max(fire.type.max, reach), max_spikes)

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        target, counts, num_fires, raster = _scan(self.targets, window, self.layer, -self.max_spikes, self.max_spikes, keep_raster)
        return _drain(Fired(None, counts, num_fires, 0, raster), target, self.type, self.max_spikes, keep_raster)


class TwoPhase:
    """Integrates the whole window in silence, then fires in a second one until every counter is settled (as UpDown's are). Exact."""

    is_exact = True

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        self.targets, self.note = layer.targets(fire, fire.type.min, fire.type.max)

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        target = self.targets(window.counts)  # after the window every line has sent its count
        silence = torch.zeros_like(target)
        raster = [silence[0]] * self.layer.num_timesteps if keep_raster else []
        return _drain(Fired(None, silence, 0, 0, raster), target, self.type, self.max_spikes, keep_raster)


class FireOnly:
    """The textbook neuron: fires up while it integrates, never down, and stops with the window. Not exact.

    A spike too many is never taken back, and what a rate limit held up is lost.
    """

    is_exact = False

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        self.targets, self.note = _walked(layer, fire, 0, layer.num_timesteps * max_spikes, max_spikes)

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        _, counts, num_fires, raster = _scan(self.targets, window, self.layer, 0, self.max_spikes, keep_raster)
        counts = counts.clamp_(max=min(self.type.max, self.layer.num_timesteps * self.max_spikes))
        return Fired(None, _stored(counts, self.type), num_fires, 0, raster)


class Dual:
    """Two neurons per channel, one for currents that raise the sum and one for those that lower it; both fire up only, drain until
    `v < threshold`, and their counts are subtracted. Not exact: each side rounds down by itself.

    A positive charge is put on the raising side, a negative one on the other. A negative input spike swaps the sides.
    """

    is_exact = False

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        highest = (layer.magnitude << fire.fraction_bits) + int(np.abs(fire.charge).max())
        if highest >= 1 << 63:
            raise SimulationError(f"one side's potential reaches {highest}, past int64", where=f"op {fire.out}", cure="use another neuron")
        self.top, reach = highest // int(fire.threshold.min()), layer.num_timesteps * max_spikes
        weight, charge = layer.op.weight, fire.charge
        sides = [(weight.clip(min=0), charge.clip(min=0)), ((-weight).clip(min=0), (-charge).clip(min=0))]
        self._layers = [_with_weight(layer, half) for half, _ in sides]
        fires = [replace(fire, charge=charge) for _, charge in sides]
        self._sums = [side.sums_of(side.op) for side in self._layers]
        self._final = [Floor(fire, 0, self.top, 0, layer.magnitude, len(layer.out), layer.device) for fire in fires]
        if layer.x.type.signed:
            self._walked = [(lambda sent, side=side: self._final[side](self._of_both(sent, side)).clamp_(max=reach)) for side in (0, 1)]
            self.note = f"charge in {str(layer.dtype).removeprefix('torch.')}"
        else:
            walked = [_walked(side, fire, 0, reach, max_spikes) for side, fire in zip(self._layers, fires, strict=True)]
            self._walked, self.note = [targets for targets, _ in walked], max(note for _, note in walked)

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        both = [_scan(self._walked[side], window, self._layers[side], 0, self.max_spikes, keep_raster) for side in (0, 1)]
        wanted = [self._final[side](self._of_both(window.counts, side)) for side in (0, 1)]
        left = [target - counts.to(target.dtype) for target, (_, counts, _, _) in zip(wanted, both, strict=True)]
        num_fires = sum(fires for _, _, fires, _ in both) + sum(total(side, self.top) for side in left)
        raster = [plus - minus for plus, minus in zip(both[0][3], both[1][3], strict=True)]
        if keep_raster:
            raster += _drain_raster([side[0] for side in left], self.max_spikes, len(raster))
        final = (wanted[0] - wanted[1]).clamp_(self.type.min, self.type.max)
        return Fired(None, _stored(final, self.type), num_fires, -(-_largest(left) // self.max_spikes), raster)

    def _of_both(self, counts: Tensor, side: int) -> Tensor:
        """One side's sums: positive counts through its own weights, negative ones, without their sign, through the other side's."""
        if not self.layer.x.type.signed:
            return self._sums[side](counts)
        counts = counts.to(torch.int16) if counts.dtype == torch.int8 else counts  # -128 has no opposite in int8
        return self._sums[side](counts.clamp(min=0)) + self._sums[1 - side]((-counts).clamp(min=0))


NEURONS: dict[str, Callable[[Layer, Fire, int], Neuron]] = {"up_down": UpDown, "two_phase": TwoPhase, "dual": Dual, "fire_only": FireOnly}


def check_neuron(neuron: str) -> None:
    """Raises SimulationError for a name that is no kind of neuron."""
    if neuron not in NEURONS:
        raise SimulationError(f"unknown neuron {neuron!r}", cure=f"known are: {', '.join(NEURONS)}")


def total(values: Tensor, magnitude: int) -> int:
    """The sum of absolute values of integers up to `magnitude`, over all elements, exact."""
    if values.dtype == torch.int8 and magnitude == 1 and values.device.type == "cpu":
        return int(np.count_nonzero(channels_last(values).numpy()))  # many times faster than a sum
    if values.is_floating_point():
        return int(values.abs().sum(dtype=carrier(magnitude * values.numel())))
    return int((values.to(torch.int16) if values.dtype == torch.int8 else values).abs().sum(dtype=torch.int64))  # -128 has no opposite in int8


def _walked(layer: Layer, fire: Fire, low: int, high: int, max_spikes: int) -> tuple[Callable[[Tensor], Tensor], str]:
    """The targets for a scan; in bytes only if the difference of a target and a count, which lags behind, fits one too."""
    lag = (layer.num_timesteps - 1) * max_spikes
    return layer.targets(fire, low, high, may_use_bytes=high + lag <= 127 and low - lag >= -128)


def _scan(
    targets: Callable[[Tensor], Tensor], window: Window, layer: Layer, lowest: int, highest: int, keep_raster: bool
) -> tuple[Tensor, Tensor, int, list[Tensor]]:
    """Integrate and fire through the window; a timestep's spikes lie between `lowest` and `highest`. Returns last target, counts, spikes, raster."""
    target, counts = None, None
    num_fires, num_done, raster = 0, 0, list[Tensor]()
    for sent in window.sent(layer.timesteps_at_once(len(window.counts))):
        wanted = targets(sent.flatten(0, 1))
        fires = wanted.unflatten(0, sent.shape[:2])
        num_done += len(fires)
        target = fires[-1].clone() if num_done == window.num_timesteps else None
        for fired in fires:  # what was wanted becomes what was fired
            if counts is None:
                counts = fired.clamp_(lowest, highest).clone()
            else:
                counts.add_(fired.sub_(counts).clamp_(lowest, highest))
        num_fires += total(wanted, highest)
        if keep_raster:
            raster += fires[:, 0].clone().unbind()
    assert target is not None and counts is not None  # a window has at least one timestep
    return target, counts, num_fires, raster


def _drain(window: Fired, target: Tensor, type: IntType, max_spikes: int, keep_raster: bool) -> Fired:
    """Fire until every counter is settled. No current flows any more, so a neuron fires at its limit, in one direction, until it is done."""
    counts = window.counts
    settled = torch.minimum(torch.maximum(target, counts.clamp(max=type.min)), counts.clamp(min=type.max))
    left = settled - counts
    most = _largest([left])
    raster = window.raster + (_drain_raster([left[0], torch.zeros_like(left[0])], max_spikes, len(window.raster)) if keep_raster else [])
    num_fires = window.num_fires + (total(left, most) if most else 0)
    return Fired(window.sums, _stored(settled.clamp_(type.min, type.max), type), num_fires, -(-most // max_spikes), raster)


def _stored(counts: Tensor, type: IntType) -> Tensor:
    """Counts that lie within a type, kept as such counts are; where they are not negative int8 and uint8 are the same bytes."""
    return counts.view(torch.uint8) if counts.dtype == torch.int8 and stored(type) == torch.uint8 else counts.to(stored(type))


def _largest(left: list[Tensor]) -> int:
    return max((max(-int(side.min()), int(side.max())) for side in left if side.numel()), default=0)


def _drain_raster(left: list[Tensor], max_spikes: int, num_timesteps: int) -> list[Tensor]:
    """The spikes of the drain timesteps of one image: first side minus second, each firing what is left at its limit."""
    length = -(-_largest(left) // max_spikes)
    if num_timesteps + length > MAX_TIMESTEPS or (num_timesteps + length) * left[0].numel() > MAX_RASTER:
        raise SimulationError(f"a raster of {num_timesteps + length} timesteps of {left[0].numel()} neurons is too large", cure="ask for another layer")
    raster: list[Tensor] = []
    for _ in range(length):
        plus, minus = (side.clamp(-max_spikes, max_spikes) for side in left)
        raster.append(plus - minus)
        left = [left[0] - plus, left[1] - minus]
    return raster
