"""The integrate-and-fire circuits: charge in, spikes out, in integers. Each kind says whether its counts are the program's.

A neuron's potential starts at `charge` and grows by `current * 2**f` per timestep; one spike is worth `threshold`. After the sum S of currents
and c net spikes it is `v = S * 2**f + charge - c * threshold`, so that `floor(v / threshold) = target - c` with `target = floor((S * 2**f +
charge) / threshold)`. "While v >= threshold fire up, while v < 0 fire down, at most r times" is therefore `c += clip(target - c, -r, r)`:
the scan below walks through all timesteps with this one line per neuron, and never rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from memspike.errors import SimulationError
from memspike.integer import IntType
from memspike.ops import Conv2d, Dense, Fire
from memspike.simulator.encode import MAX_TIMESTEPS, SpikeTrain
from memspike.simulator.kernels import Floor, Linear, carrier, magnitude_of, total

MAX_RASTER = 1 << 28  # spikes of one image; a quarter of a gigabyte


class Layer:
    """The crossbars of one op: `currents(spikes)` are the sums `[n, ...]` of one timestep's spikes `[n, ...]`, exact."""

    def __init__(self, op: Conv2d | Dense, x: IntType, axes: int) -> None:
        self.op, self.type, self.axes = op, x, axes
        self.num_timesteps = x.num_timesteps
        self.currents = Linear(op, x, magnitude=1)
        self.low, self.high = self.currents.low, self.currents.high
        self.magnitude = self.currents.largest * magnitude_of(x)
        self.dtype = carrier(self.magnitude)  # carries a whole window's sums


@dataclass(frozen=True, slots=True)
class Fired:
    """What a layer of neurons did: `sums` and `counts` `[n, ...]`, all spikes up or down, the timesteps after the window until the last neuron
    settled, and for the first image the signed spikes of each timestep, if they were asked for."""

    sums: Any
    counts: Any
    num_fires: int
    num_extra_timesteps: int
    raster: list[Tensor] = field(default_factory=list[Tensor])


class Neuron(Protocol):
    """One layer of neurons of some kind: runs a window of input spikes."""

    is_exact: bool

    def run(self, train: SpikeTrain, *, keep_raster: bool) -> Fired: ...


class UpDown:
    """Fires up and down while it integrates, then drains until every counter is settled. Exact.

    A counter is settled when `0 <= v < threshold`, or when no further spike could change its clipped count: at or above the type's
    maximum with `v >= 0`, at or below its minimum with `v < threshold`.
    """

    is_exact = True

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        self.target = _target(layer, fire, max_spikes)

    def run(self, train: SpikeTrain, *, keep_raster: bool) -> Fired:
        sums, counts, num_fires, raster = _scan(self.layer, train, self.target, -self.max_spikes, self.max_spikes, keep_raster)
        return _drain(Fired(sums, counts, num_fires, 0, raster), self.target(sums), self.type, self.max_spikes, keep_raster)


class TwoPhase:
    """Integrates the whole window in silence, then fires in a second one until every counter is settled (as UpDown's are). Exact."""

    is_exact = True

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        self.target = Floor(fire, fire.type.min, fire.type.max, layer.low, layer.high, layer.axes)

    def run(self, train: SpikeTrain, *, keep_raster: bool) -> Fired:
        sums = accumulate(self.layer, train)
        target = self.target(sums)
        silence = torch.zeros_like(target)
        raster = [silence[0]] * self.layer.num_timesteps if keep_raster else []
        return _drain(Fired(sums, silence, 0, 0, raster), target, self.type, self.max_spikes, keep_raster)


class FireOnly:
    """The textbook neuron: fires up while it integrates, never down, and stops with the window. Not exact.

    A spike too many is never taken back, and what a rate limit held up is lost.
    """

    is_exact = False

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        self.target = _target(layer, fire, max_spikes)

    def run(self, train: SpikeTrain, *, keep_raster: bool) -> Fired:
        sums, counts, num_fires, raster = _scan(self.layer, train, self.target, 0, self.max_spikes, keep_raster)
        return Fired(sums, counts.clamp(self.type.min, self.type.max), num_fires, 0, raster)


class Dual:
    """Two neurons per channel, one for currents that raise the sum and one for those that lower it; both fire up only, drain until
    `v < threshold`, and their counts are subtracted. Not exact: each side rounds down by itself.

    A positive charge is put on the raising side, a negative one on the other. A negative input spike swaps the sides.
    """

    is_exact = False

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.layer, self.type, self.max_spikes = layer, fire.type, max_spikes
        self.sizes = Linear(replace(layer.op, weight=np.abs(layer.op.weight)), layer.type, magnitude=1)
        highest = (layer.magnitude << fire.fraction_bits) + int(np.abs(fire.charge).max())
        if highest >= 1 << 63:
            raise SimulationError(f"one side's potential reaches {highest}, past int64", where=f"op {fire.out}", cure="use another neuron")
        charges = fire.charge.clip(min=0), (-fire.charge).clip(min=0)
        self.top = highest // int(fire.threshold.min())
        self.targets = tuple(Floor(replace(fire, charge=charge), 0, self.top, 0, layer.magnitude, layer.axes) for charge in charges)

    def run(self, train: SpikeTrain, *, keep_raster: bool) -> Fired:
        sums, counts, num_fires, raster = [torch.zeros(())] * 2, [torch.zeros(())] * 2, 0, []
        for spikes in train:
            net, gross = self.layer.currents(spikes).to(self.layer.dtype), self.sizes(spikes.abs()).to(self.layer.dtype)
            fires = []
            for side, twice in enumerate((gross + net, gross - net)):
                sums[side] = sums[side] + torch.div(twice, 2, rounding_mode="trunc")
                fires.append((self.targets[side](sums[side]) - counts[side]).clamp_(0, self.max_spikes))
                counts[side] = counts[side] + fires[side]
                num_fires += int(total(fires[side], self.max_spikes))
            raster += [fires[0][0] - fires[1][0]] if keep_raster else []
        left = [target(side) - count for target, side, count in zip(self.targets, sums, counts, strict=True)]
        if keep_raster:
            raster += _drain_raster([side[0] for side in left], self.max_spikes, len(raster))
        num_fires += sum(int(total(side, self.top)) for side in left)
        final = (counts[0] + left[0] - counts[1] - left[1]).clamp_(self.type.min, self.type.max)
        return Fired(sums[0] - sums[1], final, num_fires, -(-_largest(left) // self.max_spikes), raster)


NEURONS: dict[str, Callable[[Layer, Fire, int], Neuron]] = {"up_down": UpDown, "two_phase": TwoPhase, "dual": Dual, "fire_only": FireOnly}


def accumulate(layer: Layer, train: SpikeTrain) -> Tensor:
    """The sums `[n, ...]` of a whole window, carried by `layer.dtype`: integrators that do not fire."""
    sums = layer.currents(next(train)).to(layer.dtype)
    for spikes in train:
        sums += layer.currents(spikes).to(layer.dtype)
    return sums


def check_neuron(neuron: str) -> None:
    """Raises SimulationError for a name that is no kind of neuron."""
    if neuron not in NEURONS:
        raise SimulationError(f"unknown neuron {neuron!r}", cure=f"known are: {', '.join(NEURONS)}")


def _target(layer: Layer, fire: Fire, max_spikes: int) -> Floor:
    """The count that the sum so far calls for, clipped where no neuron that fires `max_spikes` times per timestep can tell."""
    reach = layer.num_timesteps * max_spikes
    return Floor(fire, min(fire.type.min, -reach), max(fire.type.max, reach), layer.low, layer.high, layer.axes)


def _scan(layer: Layer, train: SpikeTrain, target: Floor, lowest: int, highest: int, keep_raster: bool) -> tuple[Tensor, Tensor, int, list[Tensor]]:
    """Integrate and fire through the window; a timestep's spikes lie between `lowest` and `highest`. Returns sums, counts, spikes, raster."""
    sums, counts = None, None
    num_fires, raster = 0, []
    for spikes in train:
        currents = layer.currents(spikes).to(layer.dtype)
        sums = currents if sums is None else sums.add_(currents)
        fires = target(sums)
        fires = (fires if counts is None else fires.sub_(counts)).clamp_(lowest, highest)
        counts = fires.clone() if counts is None else counts.add_(fires)
        if keep_raster:
            raster.append(fires[0].clone())
        num_fires += int(total(fires, highest))
    assert sums is not None and counts is not None  # a window has at least one timestep
    return sums, counts, num_fires, raster


def _drain(window: Fired, target: Tensor, type: IntType, max_spikes: int, keep_raster: bool) -> Fired:
    """Fire until every counter is settled. No current flows any more, so a neuron fires at its limit, in one direction, until it is done."""
    counts = window.counts
    settled = torch.minimum(torch.maximum(target, counts.clamp(max=type.min)), counts.clamp(min=type.max))
    left = settled - counts
    most = _largest([left])
    raster = window.raster + (_drain_raster([left[0], torch.zeros_like(left[0])], max_spikes, len(window.raster)) if keep_raster else [])
    return Fired(window.sums, settled.clamp_(type.min, type.max), window.num_fires + int(total(left, most)), -(-most // max_spikes), raster)


def _largest(left: list[Tensor]) -> int:
    return max((int(side.abs().max()) for side in left if side.numel()), default=0)


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
