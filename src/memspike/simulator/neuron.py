"""The integrate-and-fire circuits: charge in, spikes out, in integers. Each kind says whether its counts are the program's."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from memspike.chip import NeuronKind
from memspike.errors import SimulationError
from memspike.integer import IntType
from memspike.ops import Fire
from memspike.simulator.encode import Window
from memspike.simulator.kernels import stored
from memspike.simulator.layer import Layer
from memspike.simulator.scan import Rule, Scan, Scanned, TimestepByTimestep, drained


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
        self.type = fire.type
        self._scan = _scan(layer, fire, rule_of("up_down", layer, fire, max_spikes))
        self.note = self._scan.note

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        return _fired(self._scan.run(window, keep_raster=keep_raster), self.type)


class TwoPhase:
    """Integrates the whole window in silence, then fires in a second one until every counter is settled (as UpDown's are). Exact."""

    is_exact = True

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.type, self._num_timesteps = fire.type, layer.num_timesteps
        self._rule = rule_of("two_phase", layer, fire, max_spikes)
        self.targets, self.note = layer.targets(fire)

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        target = self.targets(window.counts)  # after the window every line has sent its count
        target = target.to(torch.int16) if target.dtype == torch.uint8 else target  # a byte without a sign has no -1 to clamp to
        silence = torch.zeros_like(target)
        raster = [silence[0]] * self._num_timesteps if keep_raster else []
        return _fired(drained(silence, target, self._rule, 0, raster, keep_raster=keep_raster), self.type)


class FireOnly:
    """The textbook neuron: fires up while it integrates, never down, and stops with the window. Not exact.

    A spike too many is never taken back, and what a rate limit held up is lost.
    """

    is_exact = False

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.type = fire.type
        self._scan = _scan(layer, fire, rule_of("fire_only", layer, fire, max_spikes))
        self.note = self._scan.note

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        return _fired(self._scan.run(window, keep_raster=keep_raster), self.type)


class Dual:
    """Two neurons per channel, one for currents that raise the sum and one for those that lower it; both fire up only, drain until
    `v < threshold`, and their counts are subtracted. Not exact: each side rounds down by itself.

    A positive charge is put on the raising side, a negative one on the other. A negative input spike swaps the sides.
    """

    is_exact = False

    def __init__(self, layer: Layer, fire: Fire, max_spikes: int) -> None:
        self.type = fire.type
        highest = _highest(layer, fire)
        if highest >= 1 << 63:
            raise SimulationError(f"one side's potential reaches {highest}, past int64", where=f"op {fire.out}", cure="use another neuron")
        rule = rule_of("dual", layer, fire, max_spikes)
        weight, charge = layer.op.weight, fire.charge
        sides = [layer.with_weight(half.clip(min=0)) for half in (weight, -weight)]
        fires = [replace(fire, charge=half.clip(min=0)) for half in (charge, -charge)]
        self._scans = [_scan(sides[side], fires[side], rule, sides[1 - side]) for side in (0, 1)]
        self.note = max(scan.note for scan in self._scans)

    def run(self, window: Window, *, keep_raster: bool) -> Fired:
        up, down = (scan.run(window, keep_raster=keep_raster) for scan in self._scans)
        counts = (up.counts.to(torch.int64) - down.counts.to(torch.int64)).clamp_(self.type.min, self.type.max)
        length = max(len(up.raster), len(down.raster))
        plus, minus = (side.raster + [torch.zeros_like(side.raster[0])] * (length - len(side.raster)) if keep_raster else [] for side in (up, down))
        raster = [a - b for a, b in zip(plus, minus, strict=True)]
        extra = max(up.num_extra_timesteps, down.num_extra_timesteps)
        return _fired(Scanned(counts, up.num_fires + down.num_fires, extra, raster), self.type)


NEURONS: dict[str, Callable[[Layer, Fire, int], Neuron]] = {"up_down": UpDown, "two_phase": TwoPhase, "dual": Dual, "fire_only": FireOnly}


def rule_of(neuron: NeuronKind, layer: Layer, fire: Fire, max_spikes: int) -> Rule:
    """How neurons of this kind fire; of `dual`, each of the two."""
    if neuron == "dual":
        return Rule(max_spikes, fires_down=False, drains=True, low=0, high=_highest(layer, fire) // int(fire.threshold.min()))
    if neuron == "fire_only":
        return Rule(max_spikes, fires_down=False, drains=False, low=0, high=min(fire.type.max, layer.num_timesteps * max_spikes))
    return Rule(max_spikes, fires_down=True, drains=True, low=fire.type.min, high=fire.type.max)


def _highest(layer: Layer, fire: Fire) -> int:
    """What the potential of one side of a dual neuron reaches at most."""
    return (layer.magnitude << fire.fraction_bits) + int(np.abs(fire.charge).max())


def check_neuron(neuron: str) -> None:
    """Raises SimulationError for a name that is no kind of neuron."""
    if neuron not in NEURONS:
        raise SimulationError(f"unknown neuron {neuron!r}", cure=f"known are: {', '.join(NEURONS)}")


def _scan(layer: Layer, fire: Fire, rule: Rule, opposite: Layer | None = None) -> Scan:
    """The fastest route for a layer's windows: a processor takes every spike by itself, as long as potentials fit its integers."""
    if layer.device == "cpu":
        from memspike.simulator.events import SpikeBySpike  # its compiler takes half a second to load, which integers alone need not wait for

        try:
            return SpikeBySpike(layer, fire, rule, opposite)
        except OverflowError:
            pass
    return TimestepByTimestep(layer, fire, rule, opposite)


def _fired(done: Scanned, type: IntType) -> Fired:
    """Counts that lie within a type, kept as such counts are; where they are not negative int8 and uint8 are the same bytes."""
    counts = done.counts.view(torch.uint8) if done.counts.dtype == torch.int8 and stored(type) == torch.uint8 else done.counts.to(stored(type))
    return Fired(None, counts, done.num_fires, done.num_extra_timesteps, done.raster)
