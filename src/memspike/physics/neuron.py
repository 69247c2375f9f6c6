"""Integrate-and-fire circuits as they are: thresholds that differ, offsets, leak, saturation, and resets that miss.

Of the laws below, mismatch and offset are drawn once per neuron and only move where it fires; the others act timestep by timestep, so that the order of
spikes matters. Potentials, currents and thresholds are real numbers of any one unit; where they are integers, so is every step of a perfect circuit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.chip import NeuronCircuit

Floats = NDArray[np.float64]
Normal = Callable[[], NDArray[np.floating]]

_LEAST_THRESHOLD = 0.01  # a circuit whose threshold is drawn below this share of its own would fire for ever


@dataclass(frozen=True, slots=True)
class Window:
    """What neurons did in a window: net `counts`, all spikes up and down, and the timesteps after the window until the last one settled."""

    counts: Floats
    num_fires: int
    num_extra_timesteps: int


def draw_neurons(circuit: NeuronCircuit, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """For each of `number` neurons, its threshold as a multiple of the intended one, and its offset in intended thresholds."""
    mismatch, offset = (quantity.value if quantity else 0.0 for quantity in (circuit.threshold_mismatch, circuit.offset))
    drawn = rng.standard_normal((2, number))
    return np.maximum(1 + mismatch * drawn[0], _LEAST_THRESHOLD), offset * drawn[1]


def is_static(circuit: NeuronCircuit) -> bool:
    """Whether only the sum over the window decides the count, whatever the order of spikes."""
    return circuit.kind != "fire_only" and circuit.leak is None and circuit.saturation is None and circuit.reset_error is None


def integrate_and_fire(circuit: NeuronCircuit, start: Floats, currents: Iterable[Floats], threshold: Floats, low: int, high: int, normal: Normal) -> Window:
    """Run neurons through a window, then drain them until each is settled or its count, cut to `low` ... `high`, can no more change.

    `start` and each timestep's currents are potentials `[n, ...]`, `threshold` is one for each neuron; `normal()` draws standard normals of that shape. The
    potential first leaks, then takes the current up to saturation, then fires up to `max_spikes_per_timestep` times: up from the threshold on, down
    below 0. `two_phase` integrates first and fires afterwards; `fire_only` never fires down and does not drain.
    """
    leak, saturation, error = (quantity.value if quantity else None for quantity in (circuit.leak, circuit.saturation, circuit.reset_error))
    most = circuit.max_spikes_per_timestep
    least = 0 if circuit.kind == "fire_only" else -most
    v, counts, num_fires, num_extra_timesteps = start.copy(), np.zeros_like(start), 0, 0

    def fire(is_settled: NDArray[np.bool_] | None = None) -> int:
        spikes = np.clip(np.floor(v / threshold), least, most)
        if is_settled is not None:
            spikes[is_settled] = 0
        taken = spikes if error is None else spikes + error * np.sqrt(np.abs(spikes)) * normal()
        np.subtract(v, taken * threshold, out=v)
        np.add(counts, spikes, out=counts)
        return int(np.abs(spikes).sum())

    for current in currents:
        if leak is not None:
            v *= 1 - leak
        v += current
        if saturation is not None:
            np.clip(v, -saturation * threshold, saturation * threshold, out=v)
        if circuit.kind != "two_phase":
            num_fires += fire()
    while circuit.kind != "fire_only":
        is_settled = ((v >= 0) & (v < threshold)) | ((counts >= high) & (v >= 0)) | ((counts <= low) & (v < threshold))
        if is_settled.all():
            break
        if leak is not None:
            v *= 1 - leak
        num_fires += fire(is_settled)
        num_extra_timesteps += 1
    return Window(np.clip(counts, low, high), num_fires, num_extra_timesteps)
