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
ERROR_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)  # the outer ones show the stuck cells


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
    def error(self) -> float:
        """Standard error of the mean."""
        return self.std / math.sqrt(len(self.accuracies))

    @property
    def loss(self) -> float:
        """How far the mean lies below the ideal program, as a fraction; below zero where the chips are better."""
        return self.ideal - self.mean

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
    """One layer on one chip: how far its weights lie off, in levels, `rms` over all, and for each intended weight (`weights`, `numbers` of them) the `means`,
    `stds` and `quantiles` (ERROR_QUANTILES, `[weights, 5]`); and for each crossbar the share of current that its wires cost (`losses`)."""

    rms: float
    weights: Integers
    numbers: Integers
    means: NDArray[np.float64]
    stds: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    losses: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way around stuck cells: what the chips score, and how far all weights of one of them lie off, `rms`, in levels."""

    ensemble: Ensemble
    rms: float


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """The chips of one design, with its `imperfections`, taken apart: all of them (`whole`); and, with fewer chips if at all, all imperfections (`together`),
    the same over time [s], each imperfection `alone`, all but each (`without`), in one layer only (`layers`), each way around stuck cells (`ways`); and
    what chip number `shown` looks like. `is_alike` where no imperfection differs from chip to chip."""

    name: str
    chip: Chip
    imperfections: tuple[str, ...]
    is_alike: bool
    time: float
    whole: Ensemble
    together: Ensemble | None
    over_time: Mapping[float, Ensemble]
    alone: Mapping[str, Ensemble]
    without: Mapping[str, Ensemble]
    layers: Mapping[str, Ensemble]
    ways: Mapping[str, Way]
    shown: int
    cells: Mapping[str, LayerStudy]
