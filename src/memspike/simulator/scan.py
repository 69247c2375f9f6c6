"""A window of neurons that fire while it lasts: what they do, and the route that takes it timestep by timestep, on any device.

A neuron's potential starts at `charge` and grows by `current * 2**f` per timestep; one spike is worth `threshold`. After the sum S of currents
and c net spikes it is `v = S * 2**f + charge - c * threshold`, so that `floor(v / threshold) = target - c` with `target = floor((S * 2**f +
charge) / threshold)`. "While v >= threshold fire up, while v < 0 fire down, at most r times" is therefore `c += clip(target - c, -r, r)`.

S is linear in what the lines have sent so far. So the targets of many timesteps are one product of what had been sent by each of them; only the line
above is walked through timestep by timestep, and never rounds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from memspike.errors import SimulationError
from memspike.ops import Fire
from memspike.simulator.encode import MAX_TIMESTEPS, Window
from memspike.simulator.floor import Floor
from memspike.simulator.kernels import carrier
from memspike.simulator.layer import Layer

MAX_RASTER = 1 << 28  # spikes of one image; a quarter of a gigabyte
BLOCK = 1 << 21  # bytes of what lines have sent or neurons want over several timesteps: about what a cache holds, and enough for one call to be worth it


@dataclass(frozen=True, slots=True)
class Rule:
    """How neurons fire: up to `max_spikes` per timestep, down too where `fires_down`. After the window they go on, if it `drains`, until every counter
    is settled: `0 <= v < threshold`, or no further spike could change the count clipped to `low` to `high`."""

    max_spikes: int
    fires_down: bool
    drains: bool
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """What neurons did: `counts` `[n, ...]` clipped to the rule's `low` to `high`, all spikes up or down, the timesteps after the window until the last
    neuron settled, and for the first image the signed spikes of each timestep, if they were asked for."""

    counts: Tensor
    num_fires: int
    num_extra_timesteps: int
    raster: list[Tensor] = field(default_factory=list[Tensor])


class Scan(Protocol):
    """One layer's windows under one rule."""

    note: str

    def run(self, window: Window, *, keep_raster: bool) -> Scanned: ...


class TimestepByTimestep:
    """The targets of a block of timesteps, then each timestep's spikes. A negative spike passes through the weights of the layer `opposite`, where
    it is given."""

    def __init__(self, layer: Layer, fire: Fire, rule: Rule, opposite: Layer | None = None) -> None:
        self.layer, self.rule, self.note = layer, rule, layer.note()
        reach = layer.num_timesteps * rule.max_spikes  # clipped where no neuron that fires so many times per timestep can tell
        low, high = min(rule.low, -reach if rule.fires_down else 0), max(rule.high, reach)
        self._floor = Floor(fire, low, high, *sums_between(layer, opposite), len(layer.out), layer.device)
        self._sums = _of_both(layer, opposite) if opposite and layer.x.type.signed else layer.sums_of(layer.op)

    def run(self, window: Window, *, keep_raster: bool) -> Scanned:
        rule, target, counts = self.rule, None, None
        num_fires, num_done, raster = 0, 0, list[Tensor]()
        for sent in window.sent(self._timesteps_at_once(len(window.counts))):
            wanted = self._floor(self._sums(sent.flatten(0, 1)))
            fires = wanted.unflatten(0, sent.shape[:2])
            num_done += len(fires)
            target = fires[-1].clone() if num_done == window.num_timesteps else None
            for fired in fires:  # what was wanted becomes what was fired
                if counts is None:
                    counts = torch.zeros_like(fired)
                counts.add_(fired.sub_(counts).clamp_(-rule.max_spikes if rule.fires_down else 0, rule.max_spikes))
            num_fires += _total(wanted, rule.max_spikes)
            if keep_raster:
                raster += fires[:, 0].clone().unbind()
        assert target is not None and counts is not None  # a window has at least one timestep
        if not rule.drains:
            return Scanned(counts.clamp_(rule.low, rule.high), num_fires, 0, raster)
        return drained(counts, target, rule, num_fires, raster, keep_raster=keep_raster)

    def _timesteps_at_once(self, num_images: int) -> int:
        return max(1, BLOCK // (8 * max(1, num_images) * max(math.prod(self.layer.out), math.prod(self.layer.x.shape))))


def sums_between(layer: Layer, opposite: Layer | None) -> tuple[int, int]:
    """The least and greatest sum, where negative counts pass through the layer `opposite`."""
    if opposite is None or not layer.x.type.signed:
        return layer.low, layer.high
    return -layer.magnitude - opposite.magnitude, layer.magnitude + opposite.magnitude


def drained(counts: Tensor, target: Tensor, rule: Rule, num_fires: int, raster: list[Tensor], *, keep_raster: bool) -> Scanned:
    """Fire until every counter is settled. No current flows any more, so a neuron fires at its limit, in one direction, until it is done."""
    settled = torch.minimum(torch.maximum(target, counts.clamp(max=rule.low)), counts.clamp(min=rule.high))
    left = settled - counts
    most = _largest(left)
    if keep_raster:
        raster = raster + drain_raster(left[0], rule.max_spikes, len(raster))
    return Scanned(settled.clamp_(rule.low, rule.high), num_fires + _total(left, most), -(-most // rule.max_spikes), raster)


def drain_raster(left: Tensor, max_spikes: int, num_timesteps: int) -> list[Tensor]:
    """The spikes of the timesteps after a window of `num_timesteps`, of one image: each neuron fires what is left at its limit."""
    length = -(-_largest(left) // max_spikes)
    if not _has_room(num_timesteps + length, left.numel()):
        raise SimulationError(f"a raster of {num_timesteps + length} timesteps of {left.numel()} neurons is too large", cure="ask for another layer")
    raster: list[Tensor] = []
    for _ in range(length):
        raster.append(left.clamp(-max_spikes, max_spikes))
        left = left - raster[-1]
    return raster


def has_room_for_raster(rule: Rule, num_timesteps: int, num_neurons: int) -> bool:
    """Whether the spikes of one image can be kept, however long the neurons drain after a window of `num_timesteps`: one that fired wrongly all the time
    has that to take back before it reaches its count."""
    return _has_room(2 * num_timesteps + -(-max(-rule.low, rule.high) // rule.max_spikes), num_neurons)


def _has_room(num_timesteps: int, num_neurons: int) -> bool:
    return num_timesteps <= MAX_TIMESTEPS and num_timesteps * num_neurons <= MAX_RASTER


def _largest(values: Tensor) -> int:
    """The largest absolute value; -128 has no opposite in int8."""
    return max(-int(values.min()), int(values.max())) if values.numel() else 0


def _total(values: Tensor, magnitude: int) -> int:
    """The sum of absolute values of integers up to `magnitude`, over all elements, exact."""
    return int(values.to(carrier(magnitude)).abs().sum(dtype=carrier(magnitude * values.numel())))


def _of_both(layer: Layer, opposite: Layer) -> Callable[[Tensor], Tensor]:
    """Positive counts through the layer's own weights, negative ones, without their sign, through the opposite ones."""
    own, other = layer.sums_of(layer.op), opposite.sums_of(opposite.op)

    def sums(counts: Tensor) -> Tensor:
        counts = counts.to(torch.int16) if counts.dtype == torch.int8 else counts  # -128 has no opposite in int8
        return own(counts.clamp(min=0)) + other((-counts).clamp(min=0))

    return sums
