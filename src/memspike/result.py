"""Result: what came out, what the chip did for it, and how to repeat it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memspike.errors import SimulationError, first_line
from memspike.integer import Integers, frozen

Fidelity = Literal["ideal", "spike", "analog"]
Encoder = Literal["even", "burst", "random"]
_LABELS = "a label is the number of a class: one-hot rows become numbers by argmax(axis=1), a tensor an array by .cpu().numpy()"


@dataclass(frozen=True, slots=True)
class Activity:
    """How often what happened, over `num_images` images.

    `counts` by (op, component, action). `num_timesteps` by op: the real length of one window, drain included.
    Two actions of component `cell` carry its physics: `read` counts (cell, spike) pairs, `read_levels` their levels summed.
    """

    counts: Mapping[tuple[str, str, str], int]
    num_timesteps: Mapping[str, int]
    num_images: int

    def __add__(self, other: "Activity") -> "Activity":
        counts = {key: self.counts.get(key, 0) + other.counts.get(key, 0) for key in {**self.counts, **other.counts}}
        steps = {op: max(self.num_timesteps.get(op, 0), other.num_timesteps.get(op, 0)) for op in {**self.num_timesteps, **other.num_timesteps}}
        return Activity(counts, steps, self.num_images + other.num_images)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything that decides a result: version, digests of program and chip, fidelity, neuron, encoder, seed; for fidelity "analog" the seed is the
    chip's number, `time` [s] is how long after writing it is read, `faults` the digest of its fault map, `layers` which ops are imperfect (None: all).
    `loads` is the digest of what its mapping has a spike do, which decides the activity alone."""

    version: str
    program: str
    chip: str
    fidelity: Fidelity
    neuron: str
    encoder: Encoder
    seed: int
    time: float = 0.0
    faults: str = ""
    layers: tuple[str, ...] | None = None
    loads: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", int(self.seed))  # numpy's and ours are one number, and have one digest
        object.__setattr__(self, "time", float(self.time))

    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Scores `[n, classes]` of n images, exact integers; `spike_counts` `[n, ...]` of the values that were asked for;
    `rasters`: signed spikes int8 `[timesteps, ...]` of the first image, for the layers that were asked for."""

    outputs: Integers
    activity: Activity
    provenance: Provenance
    spike_counts: Mapping[str, NDArray[np.signedinteger]] = field(default_factory=dict[str, NDArray[np.signedinteger]])
    rasters: Mapping[str, NDArray[np.int8]] = field(default_factory=dict[str, NDArray[np.int8]])
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", frozen(self.outputs))

    def __repr__(self) -> str:
        made = self.provenance
        return f"<Result of {len(self.outputs)} images: {made.fidelity}, neuron {made.neuron}, encoder {made.encoder}, seed {made.seed}>"

    @property
    def predictions(self) -> Integers:
        """The winning class of each image `[n]`; ties go to the lowest index."""
        return self.outputs.argmax(axis=1)

    def accuracy(self, labels: ArrayLike) -> float:
        """Share of images whose prediction is the label; `labels` are integers `[n]`: an array, a tensor on the CPU, or a list.

        Raises SimulationError for anything else, and where there are no images.
        """
        n = len(self.outputs)
        if not n:
            raise SimulationError("an accuracy needs images, and none were simulated")
        try:
            given: NDArray[Any] = np.asarray(labels)
        except (TypeError, ValueError, RuntimeError) as error:  # rows of several lengths, a tensor on a GPU or with gradients
            raise SimulationError(f"labels are no array: {first_line(error)}", cure=_LABELS) from error
        if given.shape != (n,) or not np.issubdtype(given.dtype, np.integer):
            raise SimulationError(f"labels are {given.dtype} {list(given.shape)}; expected integers [{n}], one for each image", cure=_LABELS)
        classes = self.outputs.shape[1]
        if given.min() < 0 or given.max() >= classes:
            what = f"labels from {given.min()} to {given.max()}; the program has {classes} classes, 0 to {classes - 1}"
            raise SimulationError(what, cure="count classes from 0, in the order of the program's scores")
        correct: NDArray[np.bool_] = self.predictions == given
        return float(correct.mean())
