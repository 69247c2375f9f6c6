"""Ensemble: what many chips of one design score, and what a study of their imperfections found."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from memspike.chip import Chip
from memspike.errors import SimulationError
from memspike.integer import Integers, frozen

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Test accuracies (fractions) of the chips numbered `chips`, over `num_images` images each; how many predictions each changes against the ideal
    program, whose accuracy is `ideal`."""

    ideal: float
    num_images: int
    chips: Integers
    accuracies: NDArray[np.float64]
    changed: Integers

    def __post_init__(self) -> None:
        if not len(self.chips) or not len(self.chips) == len(self.accuracies) == len(self.changed):
            raise SimulationError("an ensemble needs at least one chip, and an accuracy and a number of changed predictions for each")
        object.__setattr__(self, "chips", frozen(self.chips))
        object.__setattr__(self, "changed", frozen(self.changed))
        object.__setattr__(self, "accuracies", frozen(self.accuracies, np.float64))

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.chips)} chips: accuracy {100 * self.mean:.2f} ± {100 * self.std:.2f} %, ideal {100 * self.ideal:.2f} %>"

    @property
    def mean(self) -> float:
        return float(self.accuracies.mean())

    @property
    def std(self) -> float:
        """Standard deviation between chips (of the sample: n - 1); 0 for one chip."""
        return float(self.accuracies.std(ddof=1)) if len(self.accuracies) > 1 else 0.0

    @property
    def quantiles(self) -> dict[float, float]:
        return {q: float(np.quantile(self.accuracies, q)) for q in QUANTILES}

    def yield_within(self, points: float) -> tuple[float, float, float]:
        """The share of chips at most `points` percentage points below the ideal program, with its 95 % Wilson interval (share, low, high)."""
        n, good = len(self.accuracies), int((self.accuracies >= self.ideal - points / 100 - 1e-12).sum())
        z = NormalDist().inv_cdf(0.975)
        share, width = good / n, z * z / n
        middle = (share + width / 2) / (1 + width)
        half = z * math.sqrt(share * (1 - share) / n + width / (4 * n)) / (1 + width)
        return share, max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True, eq=False)
class LayerStudy:
    """One layer on one chip: for each intended weight, how far its cells lie off in levels (`weights`, `means`, `stds`, `numbers`); `rms` over all;
    and for each crossbar the share of current that its wires cost (`losses`)."""

    rms: float
    weights: Integers
    means: NDArray[np.float64]
    stds: NDArray[np.float64]
    numbers: Integers
    losses: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A design's chips taken apart: all imperfections together, over time [s], each `alone`, all but each (`without`), in one layer only (`layers`), and what
    chip number `shown` looks like."""

    name: str
    chip: Chip
    time: float
    whole: Ensemble
    over_time: Mapping[float, Ensemble]
    alone: Mapping[str, Ensemble]
    without: Mapping[str, Ensemble]
    layers: Mapping[str, Ensemble]
    shown: int
    cells: Mapping[str, LayerStudy]
