"""The arithmetic behind the headline: ratios of two designs, what they rest on, and how far they move when a constant is off."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from memspike.chip import Chip
from memspike.cost import Cost, CostRow
from memspike.quantity import Quantity, Standing

# From the firmest to the softest; a product is as soft as its softest factor.
STANDINGS: tuple[Standing, ...] = ("primary", "secondary", "assumed", "fitted")


@dataclass(frozen=True, slots=True)
class Amount:
    """One of the two things that rows of a cost are summed to, "energy" or "area", and its unit."""

    name: str
    unit: str

    def of(self, row: CostRow) -> float:
        return row.energy if self.name == "energy" else row.area

    def by(self, cost: Cost, field: str) -> dict[str, float]:
        """The sums by `"component"` or `"layer"`."""
        return {label: energy if self.name == "energy" else area for label, (energy, area) in cost.by(field).items()}


ENERGY, AREA = Amount("energy", "J"), Amount("area", "m2")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A design against its baseline: how many times faster (latency of one image; images per second), which share of energy and area is saved."""

    speedup: float
    throughput: float | None
    energy_saving: float
    area_saving: float

    @classmethod
    def of(cls, cost: Cost, baseline: Cost) -> "Ratio":
        return cls(baseline.latency / cost.latency, cost.throughput / baseline.throughput, 1 - cost.energy / baseline.energy, 1 - cost.area / baseline.area)


def shares(chip: Chip, cost: Cost, amount: Amount) -> dict[Standing, float]:
    """Which share of the energy (or area) rests on constants of each standing; the shares sum to 1, or to 0 when there is none."""
    sums: dict[Standing, float] = dict.fromkeys(STANDINGS, 0.0)
    for row in cost.rows:
        if value := amount.of(row):
            sums[standing_of(chip, row)] += value
    total = sum(sums.values())
    return {standing: value / total if total else 0.0 for standing, value in sums.items()}


def standing_of(chip: Chip, row: CostRow) -> Standing:
    """How far to trust one row of a cost: the softest of the constants in it."""
    component = chip.component(row.component)
    if row.area_each:
        return softest([component.area])
    if row.action in component.energy:
        return softest([component.energy[row.action]])
    if row.action == "leak":  # power, over the time that an image takes
        return softest([component.leakage, chip.timestep, chip.window_overhead])
    device = chip.crossbar.device  # a read of a cell: V^2 * g * timestep
    return softest([chip.crossbar.read_voltage, device.g_min, device.g_max, chip.timestep])


def softest(quantities: Iterable[Quantity]) -> Standing:
    """The standing of the least trustworthy of them: a product is as soft as its softest factor."""
    return STANDINGS[max(STANDINGS.index(q.standing) for q in quantities)]


def saving_range(ours: Mapping[str, float], theirs: Mapping[str, float], component: str, factor: float = 2.0) -> tuple[float, float]:
    """The saving of sums by component when one component costs `factor` times less, and `factor` times more, in both designs."""
    (a, b), (own_a, own_b) = (sum(ours.values()), sum(theirs.values())), (ours.get(component, 0.0), theirs.get(component, 0.0))
    low, high = (1 - (a + (f - 1) * own_a) / (b + (f - 1) * own_b) for f in (1 / factor, factor))
    return low, high


Windows = Sequence[tuple[int, int]]  # of every layer: how many, one after the other, and of how many timesteps for counting


def speedup_of_windows(ours: Windows, theirs: Windows, overhead: float) -> float:
    """How many times shorter the windows of one design are than those of another, all together, each `overhead` timesteps longer than its counting."""
    mine, other = (sum(number * (steps + overhead) for number, steps in windows) for windows in (ours, theirs))
    return other / mine


def overhead_for(speedup: float, ours: Windows, theirs: Windows) -> float:
    """The overhead in timesteps at which windows alone give `speedup`: the inverse of `speedup_of_windows`."""
    (mine, my_steps), (other, other_steps) = ((sum(n for n, _ in windows), sum(n * steps for n, steps in windows)) for windows in (ours, theirs))
    return (other_steps - speedup * my_steps) / (speedup * mine - other)
