"""A chip as it came out: every crossbar written, aged and wired, and what its columns then weigh, in units of one level.

Chip number `seed` is drawn crossbar by crossbar and purpose by purpose, so that a cell is the same whatever else is computed. All groups of an op that
share a crossbar are read together: a row that spikes drives every cell of its word line, those of other groups and those without a weight (at level 0) too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.errors import SimulationError
from memspike.integer import whole
from memspike.mapping import FaultMap, LayerPlan, Mapping, Tile
from memspike.physics import device as cells
from memspike.physics.crossbar import effective_conductance

Floats = NDArray[np.float64]

_TOGETHER = 128  # crossbars written at once: their cells stay in the cache
_FAULTS, _WRITE, _AGE = range(3)  # what is drawn, the last part of a crossbar's seed


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The crossbars of one op `[crossbars, rows, columns]`, numbered from `first`: `levels` as intended (0 where no weight lies), `targets` and `g` [S], `a`
    [S] with wires, `faults`; and the op's matrix in level units: `deviation` of the weights and `variance` of one spike's current `[blocks, rows, channels]`.

    A block is one group, or the consecutive groups that share crossbars; every row of a block is felt by every channel of it.
    """

    first: int
    levels: NDArray[np.unsignedinteger]
    targets: Floats
    g: Floats
    a: Floats
    faults: NDArray[np.uint8]
    num_groups: int
    groups_per_block: int
    deviation: Floats
    variance: Floats

    @property
    def errors(self) -> Floats:
        """The deviation of the weights alone, without what other groups' rows do to a channel: `[groups, rows, channels]`."""
        together = self.groups_per_block
        blocks, rows, channels = self.deviation.shape
        matrices = self.deviation.reshape(blocks, together, rows // together, together, channels // together)
        own = matrices.diagonal(axis1=1, axis2=3)  # [blocks, rows, channels, groups of the block]
        return np.moveaxis(own, 3, 1).reshape(blocks * together, rows // together, channels // together)[: self.num_groups]

    @property
    def is_exact(self) -> bool:
        """Whether every weight is exactly as intended and never fluctuates."""
        return not self.deviation.any() and not self.variance.any()


def faults_of(mapping: Mapping, seed: int) -> FaultMap:
    """The stuck cells of chip number `seed`: the mapping's own map, or drawn from the device's rates."""
    if mapping.faults is not None:
        return mapping.faults
    crossbar = mapping.chip.crossbar
    shape = crossbar.rows, crossbar.columns
    number = sum(mapping.crossbars_of(plan.op) for plan in mapping.layers)
    if crossbar.device.stuck is None:
        return FaultMap(np.zeros((number, *shape), np.uint8), f"no cell of {crossbar.device.name} is stuck")
    drawn = [cells.draw_faults(crossbar.device, shape, _rng(seed, index, _FAULTS)) for index in range(number)]
    return FaultMap(np.stack(drawn), f"drawn for chip {seed} from the rates of {crossbar.device.name}")


def written(mapping: Mapping, seed: int, time: float = 0.0) -> dict[str, Layer]:
    """Chip number `seed`, read `time` seconds after it was written: each op's crossbars by the op's name.

    Raises SimulationError for a mapping with copies, whose copies are other cells; ChipError for a device that cannot be written.
    """
    faults = faults_of(mapping, checked(seed))
    return {plan.op: write_layer(mapping, plan, faults, seed, time) for plan in mapping.layers}


def checked(seed: int) -> int:
    """The seed, of spikes or of a chip (its number); raises SimulationError below zero, and for what is no whole number."""
    if (number := whole(seed)) is None or number < 0:
        raise SimulationError(f"a seed of {seed!r}; expected a whole number, zero or more")
    return number


def write_layer(mapping: Mapping, plan: LayerPlan, faults: FaultMap, seed: int, time: float) -> Layer:
    """The crossbars of one op; see `written`."""
    if plan.copies > 1:
        what = f"is held in {plan.copies} copies, each with errors of its own; fidelity 'analog' simulates one"
        raise SimulationError(what, where=f"op {plan.op}", cure="map it without copies")
    chip, tiles = mapping.chip, list(mapping.tiles_of(plan.op))
    device, wire = chip.crossbar.device, chip.crossbar.wire_resistance.value
    first, number = min(tile.crossbar for tile in tiles), mapping.crossbars_of(plan.op)
    levels, commanded = np.zeros((2, number, chip.crossbar.rows, chip.crossbar.columns), np.uint16)
    for tile in tiles:
        levels[_cells(tile, first)], commanded[_cells(tile, first)] = tile.levels, tile.written
    stuck = faults.cells[first : first + number]
    g = np.empty(levels.shape)
    together = 1 if device.verify else _TOGETHER  # verifying draws for some cells of a crossbar only, so that each is written by itself
    for start in range(0, number, together):
        some = slice(start, min(start + together, number))
        writing, ageing = (_Streams(seed, range(first + some.start, first + some.stop), purpose) for purpose in (_WRITE, _AGE))
        done = cells.write(device, commanded[some], plan.max_level, writing, stuck[some])
        g[some] = cells.age(device, done, time, ageing)
    targets, error = device.level_conductances(plan.max_level), device.level_errors(plan.max_level)
    a = effective_conductance(g, wire, wire) if wire else g
    step = (targets[-1] - targets[0]) / plan.max_level
    places = 1 << (chip.bits_per_cell * np.arange(plan.slices))
    layout = _Layout(plan, tiles, first)
    deviation = layout.matrix((a - targets[levels]) / step + error[levels], places * np.array([[1], [-1]]))
    noise = cells.read_noise(device) / step
    variance = layout.matrix((noise * _share(g, a)) ** 2, places**2 * np.array([[1], [1]])) if noise else np.zeros_like(deviation)
    return Layer(first, levels, targets[levels], g, a, stuck, plan.num_groups, layout.groups_per_block, deviation, variance)


def _share(g: Floats, a: Floats) -> Floats:
    """How much of what a cell's noise drives through it reaches the neuron of its column: what wires leave of its row's and of its column's signal.

    That is the cell's first-order sensitivity but for how other rows, driven at the same time, lower the voltage across it: it gives too much noise. With all
    rows driven, wires that cost a crossbar 2.5 % of its current put the standard deviation 1.7 % too high, 7 % put it 5 % too high; with half the rows, half.
    """
    if g is a:
        return np.ones_like(g)
    of_row, of_column, of_all = (_left(g.sum(axis=axes, keepdims=True), a.sum(axis=axes, keepdims=True)) for axes in (2, 1, (1, 2)))
    return of_row * of_column / of_all


def _left(before: Floats, after: Floats) -> Floats:
    """The share that is left; all of it where there was nothing."""
    return np.divide(after, before, out=np.ones_like(before), where=before > 0)


class _Layout:
    """Where on its crossbars an op's matrix lies, and in which blocks: as few groups each as leave no crossbar in two of them."""

    def __init__(self, plan: LayerPlan, tiles: list[Tile], first: int) -> None:
        self.plan, self.first = plan, first
        self._on: dict[int, list[Tile]] = {}
        for tile in tiles:
            self._on.setdefault(tile.crossbar, []).append(tile)
        spans = {(min(groups), max(groups)) for groups in ({tile.group for tile in on} for on in self._on.values())}
        self.groups_per_block = next(size for size in range(1, plan.num_groups + 1) if all(low // size == high // size for low, high in spans))

    def matrix(self, cell: Floats, places: NDArray[np.integer]) -> Floats:
        """`[blocks, rows, channels]` of a quantity of cells: a channel's cells of one row summed, plus and minus side and slices by `places` [2, slices].

        A channel feels every row of its crossbar that may carry spikes, whosever it is.
        """
        plan, together = self.plan, self.groups_per_block
        matrix = np.zeros((-(-plan.num_groups // together), together * plan.num_rows, together * plan.num_channels))
        for on in self._on.values():
            for tile in on:
                block, position = divmod(tile.group, together)
                channels = slice(position * plan.num_channels + tile.channels[0], position * plan.num_channels + tile.channels[1])
                for other in on:
                    held = cell[tile.crossbar - self.first][np.ix_(other.places[0], tile.places[1])]
                    start = other.group % together * plan.num_rows
                    summed = np.einsum("rcsp,ps->rc", held.reshape(len(held), -1, plan.slices, 2), places)
                    matrix[block, start + other.rows[0] : start + other.rows[1], channels] += summed
        return matrix


def _cells(tile: Tile, first: int) -> tuple[int, NDArray[np.integer], NDArray[np.integer]]:
    rows, columns = tile.places
    return tile.crossbar - first, rows[:, None], columns[None, :]


class _Streams:
    """The generators of some crossbars, as one: each draws what is its own of the first axis."""

    def __init__(self, seed: int, crossbars: range, purpose: int) -> None:
        self._rngs = [_rng(seed, crossbar, purpose) for crossbar in crossbars]

    def standard_normal(self, size: tuple[int, ...], /) -> Floats:
        if len(self._rngs) == 1:
            return self._rngs[0].standard_normal(size)
        return np.stack([rng.standard_normal(size[1:]) for rng in self._rngs])


def _rng(seed: int, crossbar: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, crossbar, purpose])
