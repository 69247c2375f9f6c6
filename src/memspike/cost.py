"""Cost: time, energy and area of a mapped program, and the rows they are sums of."""

import math
from dataclasses import dataclass

from memspike.errors import MemspikeError


@dataclass(frozen=True, slots=True)
class CostRow:
    """One product: `count` actions of one component in one layer, `energy_each` [J]; or `count` instances, `area_each` [m2].

    `count` is per image; the row of a layer-wide cost has layer "chip".
    """

    layer: str
    component: str
    action: str
    count: float
    energy_each: float = 0.0
    area_each: float = 0.0

    def __post_init__(self) -> None:
        _check(self, f"{self.layer}, {self.component}", "count", "energy_each", "area_each")

    @property
    def energy(self) -> float:
        return self.count * self.energy_each

    @property
    def area(self) -> float:
        return self.count * self.area_each


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One layer's time per image: `windows` one after the other, each of `num_timesteps` and `window` [s] in all."""

    layer: str
    windows: int
    num_timesteps: int
    window: float

    def __post_init__(self) -> None:
        _check(self, self.layer, "windows", "num_timesteps", "window")

    @property
    def time(self) -> float:
        return self.windows * self.window


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image costs: `latency` [s] from end to end, `throughput` [images/s] with layers pipelined,
    and the rows of which `energy` [J per image] and `area` [m2] are the sums."""

    latency: float
    throughput: float
    times: tuple[LayerTime, ...]
    rows: tuple[CostRow, ...]

    def __post_init__(self) -> None:
        _check(self, "cost", "latency", "throughput")

    def __repr__(self) -> str:
        return f"<Cost: {self.latency:.4g} s, {self.throughput:.4g} images/s, {self.energy:.4g} J per image, {self.area:.4g} m2, {len(self.rows)} rows>"

    @property
    def energy(self) -> float:
        return sum(row.energy for row in self.rows)

    @property
    def area(self) -> float:
        return sum(row.area for row in self.rows)

    @property
    def figures(self) -> dict[str, float]:
        """The four numbers of a design, as files and reports name them."""
        return {"latency_s": self.latency, "throughput_hz": self.throughput, "energy_j": self.energy, "area_m2": self.area}

    def by(self, field: str) -> dict[str, tuple[float, float]]:
        """(energy, area) summed over the rows by `"component"` or `"layer"`, the largest energy first."""
        sums: dict[str, tuple[float, float]] = {}
        for row in self.rows:
            energy, area = sums.get(getattr(row, field), (0.0, 0.0))
            sums[getattr(row, field)] = (energy + row.energy, area + row.area)
        return dict(sorted(sums.items(), key=lambda item: -item[1][0]))


def _check(thing: object, where: str, *names: str) -> None:
    """Raises MemspikeError unless these numbers of it are finite and not negative."""
    for name in names:
        if not 0 <= (number := getattr(thing, name)) < math.inf:
            raise MemspikeError(f"{name} is {number}; expected a finite number, zero or more", where=where)
