"""A chip as it came out: every crossbar written, aged and wired, and what its columns then weigh, in units of one level.

Chip number `seed` is drawn crossbar by crossbar and purpose by purpose, so that a cell is the same whatever else is computed. All groups of an op that
share a crossbar are read together: a row that spikes drives every cell of its word line, those of other groups and those without a weight (at level 0) too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspike.errors import SimulationError
from memspike.mapping import FaultMap, LayerPlan, Mapping, Tile
from memspike.physics import device as cells
from memspike.physics.crossbar import effective_conductance

Floats = NDArray[np.float64]

_FAULTS, _WRITE, _AGE = range(3)  # what is drawn, the last part of a crossbar's seed


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The crossbars of one op `[crossbars, rows, columns]`: `levels` as intended (0 where no weight lies), `targets` and `g` [S], `a` [S] with wires,
    `faults`; and the op's matrix in level units: `deviation` of the weights and `variance` of one spike's current, `[groups, rows, channels]`.

    Where groups share a crossbar the matrix is one for all: `[1, groups * rows, groups * channels]`. `variance` is one number when it is the same everywhere.
    """

    first: int
    levels: NDArray[np.int64]
    targets: Floats
    g: Floats
    a: Floats
    faults: NDArray[np.uint8]
    deviation: Floats
    variance: Floats | float

    @property
    def is_exact(self) -> bool:
        """Whether every weight is exactly as intended and never fluctuates."""
        return not self.deviation.any() and not np.any(self.variance)


def faults_of(mapping: Mapping, seed: int) -> FaultMap:
    """The stuck cells of chip number `seed`: the mapping's own map, or drawn from the device's rates."""
    if mapping.faults is not None:
        return mapping.faults
    crossbar = mapping.chip.crossbar
    shape = crossbar.rows, crossbar.columns
    number = sum(mapping.crossbars_of(plan.op) for plan in mapping.layers)
    drawn = [cells.draw_faults(crossbar.device, shape, _rng(seed, index, _FAULTS)) for index in range(number)]
    return FaultMap(np.stack(drawn), f"drawn for chip {seed} from the rates of {crossbar.device.name}")


def written(mapping: Mapping, seed: int, time: float = 0.0) -> dict[str, Layer]:
    """Chip number `seed`, read `time` seconds after it was written: each op's crossbars by the op's name.

    Raises SimulationError for a mapping with copies, whose copies are other cells; ChipError for a device that cannot be written.
    """
    if seed < 0:
        raise SimulationError(f"chip number {seed}; expected zero or more")
    faults = faults_of(mapping, seed).cells
    return {plan.op: _layer(mapping, plan, faults, seed, time) for plan in mapping.layers}


def _layer(mapping: Mapping, plan: LayerPlan, faults: NDArray[np.uint8], seed: int, time: float) -> Layer:
    if plan.copies > 1:
        what = f"is held in {plan.copies} copies, each with errors of its own; fidelity 'analog' simulates one"
        raise SimulationError(what, where=f"op {plan.op}", cure="map it without copies")
    chip, tiles = mapping.chip, list(mapping.tiles_of(plan.op))
    device, wire = chip.crossbar.device, chip.crossbar.wire_resistance.value
    first, number = min(tile.crossbar for tile in tiles), mapping.crossbars_of(plan.op)
    levels, commanded = np.zeros((2, number, chip.crossbar.rows, chip.crossbar.columns), np.int64)
    for tile in tiles:
        levels[_cells(tile, first)], commanded[_cells(tile, first)] = tile.levels, tile.written
    faults = faults[first : first + number]
    g = np.empty(levels.shape)
    for index in range(number):
        done = cells.write(device, commanded[index], plan.max_level, _rng(seed, first + index, _WRITE), faults[index])
        g[index] = cells.age(device, done, time, _rng(seed, first + index, _AGE))
    targets = cells.level_conductances(device, plan.max_level)
    a = effective_conductance(g, wire, wire) if wire else g
    step = (targets[-1] - targets[0]) / plan.max_level
    error = np.zeros(len(targets)) if device.conductances is None else (targets - targets[0]) / step - np.arange(len(targets))
    deviation = (a - targets[levels]) / step + error[levels]
    noise = cells.read_noise(device) / step
    # A cell's own current is weakened on its way to the neuron by A / g, as its signal is.
    share = np.divide(a, g, out=np.ones_like(g), where=g > 0)
    places = 1 << (chip.bits_per_cell * np.arange(plan.slices))
    uniform = float(2 * noise**2 * (places**2).sum())
    is_shared = any(tile.row_offset or tile.column_offset for tile in tiles)
    matrix = _matrix(plan, tiles, first, deviation, places * np.array([[1], [-1]]), is_shared)
    if noise == 0:
        variance: Floats | float = 0.0
    elif wire or is_shared:
        variance = _matrix(plan, tiles, first, (noise * share) ** 2, (places**2) * np.array([[1], [1]]), is_shared)
    else:
        variance = uniform
    return Layer(first, levels, targets[levels], g, a, faults, matrix, variance)


def _matrix(plan: LayerPlan, tiles: list[Tile], first: int, cell: Floats, places: NDArray[np.int64], is_shared: bool) -> Floats:
    """The op's matrix of a quantity of its cells: the cells of a channel summed, plus and minus side and slices by `places` [2, slices]."""
    if is_shared:
        matrix = np.zeros((1, plan.num_groups * plan.num_rows, plan.num_groups * plan.num_channels))
    else:
        matrix = np.zeros((plan.num_groups, plan.num_rows, plan.num_channels))
    for tile in tiles:
        channels = slice(*tile.channels)
        columns = tile.places[1]
        readers = [tile]
        if is_shared:  # every row of the crossbar that carries spikes, whosever it is
            readers = [other for other in tiles if other.crossbar == tile.crossbar]
            channels = slice(tile.group * plan.num_channels + tile.channels[0], tile.group * plan.num_channels + tile.channels[1])
        for reader in readers:
            block = cell[tile.crossbar - first][np.ix_(reader.places[0], columns)]
            summed = np.einsum("rcsp,ps->rc", block.reshape(len(block), -1, plan.slices, 2), places)
            if is_shared:
                start = reader.group * plan.num_rows
                matrix[0, start + reader.rows[0] : start + reader.rows[1], channels] += summed
            else:
                matrix[tile.group, slice(*tile.rows), channels] += summed
    return matrix


def _cells(tile: Tile, first: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = tile.places
    return tile.crossbar - first, rows[:, None], columns[None, :]


def _rng(seed: int, crossbar: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, crossbar, purpose])
