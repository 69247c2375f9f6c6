"""Integrate-and-fire circuits as they are: thresholds that differ, offsets, leak, saturation, and resets that miss.

A potential is held in thresholds: 1 fires up, below 0 fires down. Of the laws below, mismatch and offset are drawn once per neuron and only move where it
fires; the others act timestep by timestep, so that the order of spikes matters.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.chip import NeuronCircuit

Floats = NDArray[np.float64]
Normal = Callable[[], Floats]

_LEAST_THRESHOLD = 0.01  # a circuit whose threshold is drawn below this share of its own would fire for ever


@dataclass(frozen=True, slots=True)
class Window:
    """What neurons did in a window: net `counts`, all spikes up and down, and the timesteps after the window until the last one settled."""

    counts: Floats
    num_fires: int
    num_extra_timesteps: int


def draw_neurons(circuit: NeuronCircuit, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """For each of `number` neurons, its threshold as a multiple of the intended one, and its offset in thresholds."""
    mismatch, offset = (quantity.value if quantity else 0.0 for quantity in (circuit.threshold_mismatch, circuit.offset))
    drawn = rng.standard_normal((2, number))
    return np.maximum(1 + mismatch * drawn[0], _LEAST_THRESHOLD), offset * drawn[1]


def is_static(circuit: NeuronCircuit) -> bool:
    """Whether only the sum over the window decides the count, whatever the order of spikes."""
    return circuit.kind != "fire_only" and circuit.leak is None and circuit.saturation is None and circuit.reset_error is None


def integrate_and_fire(circuit: NeuronCircuit, start: Floats, currents: Iterable[Floats], low: int, high: int, normal: Normal) -> Window:
    """Run neurons through a window, then drain them until each is settled or its count, cut to `low` ... `high`, can no more change.

    `start` and each timestep's currents are potentials in thresholds, `[n, ...]`; `normal()` draws standard normals of that shape. The potential first
    leaks, then takes the current up to saturation, then fires up to `max_spikes_per_timestep` times. `two_phase` integrates first and fires
    afterwards; `fire_only` never fires down and does not drain.
    """
    leak, rail, error = (quantity.value if quantity else None for quantity in (circuit.leak, circuit.saturation, circuit.reset_error))
    most = circuit.max_spikes_per_timestep
    least = 0 if circuit.kind == "fire_only" else -most
    v, counts, num_fires = start.copy(), np.zeros_like(start), 0

    def fires(v: Floats) -> Floats:
        spikes = np.clip(np.floor(v), least, most)
        v -= spikes if error is None else spikes + error * np.sqrt(np.abs(spikes)) * normal()
        return spikes

    for current in currents:
        if leak is not None:
            v *= 1 - leak
        v += current
        if rail is not None:
            np.clip(v, -rail, rail, out=v)
        if circuit.kind != "two_phase":
            spikes = fires(v)
            counts += spikes
            num_fires += int(np.abs(spikes).sum())
    extra = 0
    while circuit.kind != "fire_only":
        settled = ((v >= 0) & (v < 1)) | ((counts >= high) & (v >= 0)) | ((counts <= low) & (v < 1))
        if settled.all():
            break
        if leak is not None:
            v *= 1 - leak
        held = np.where(settled, 0.0, v)
        spikes = fires(held)
        v = np.where(settled, v, held)
        counts += spikes
        num_fires += int(np.abs(spikes).sum())
        extra += 1
    return Window(np.clip(counts, low, high), num_fires, extra)
