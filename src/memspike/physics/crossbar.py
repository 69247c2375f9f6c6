"""Kirchhoff: what a crossbar with resistive wires conducts, exactly, as one matrix.

Word lines are driven at their left end, bit lines grounded at their bottom end, and a segment of wire lies before every cell of a word line and
after every cell of a bit line, the source's and the ground's own included. The circuit is linear and idle rows are grounded, so the currents are
`row voltages @ A`, where A depends on the cells and the wires only (source: Kirchhoff's laws).

The nodes are eliminated exactly, a row at a time. Every formula holds wires as resistances and cells as conductances, so that an ideal wire and an
open cell are plain zeros: no node floats, nothing is divided by a resistance, and no small number stands for zero. The matrices that are inverted are
symmetric, diagonally dominant M-matrices with eigenvalues of 1 or more, and the only subtractions are of small shares from one.
That is also faster than a sparse LU factorisation of the whole circuit: on one core 0.5 ms against 7 ms at 32 x 32 (in a batch), 0.9 s against 5 s at 256.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import threadpoolctl  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from memspike.errors import ChipError

Floats = NDArray[np.float64]

MAX_VALUE = 1e12  # siemens or ohm: far beyond any cell or wire, and up to it nothing overflows
_CHUNK_ELEMENTS = 1 << 14  # of the matrices that are inverted together: they stay in a core's cache
_SMALL = 0.005  # the norm of a matrix whose seventh power is below rounding
_TINY = 0.002  # the same of its sixth power
_FAR = 1e-100  # of a word line's voltage at its end: below it, quotients of voltages may underflow
_MAX_SOLVED_BYTES = 1 << 28  # of crossbars whose answers are kept
_SOLVED: OrderedDict[tuple[bytes, tuple[int, ...], float, float], Floats] = OrderedDict()
_SOLVING = threading.Lock()  # the number of threads that linear algebra uses belongs to the process


def effective_conductance(g: NDArray[np.floating], word_line_resistance: float, bit_line_resistance: float) -> Floats:
    """The matrix A [S] with column currents = row voltages @ A.

    `g` is the conductance of the cells [S], `[rows, columns]` or `[tiles, rows, columns]`, 0 where a cell is open; the resistances are those of one
    segment of wire [ohm], 0 for an ideal wire. A has the shape of `g`, and a tile's A is the same whichever tiles are solved beside it.
    What was solved lately is remembered by its content. Tiles are shared out over all cores. With n the shorter side, a tile takes about
    `4 * rows * columns * n**2` operations, and a thread holds at most `10 * max(n**2, 2**14)` numbers beside a few copies of its tiles.

    Raises ChipError when a conductance or a resistance is negative, no number, or above `MAX_VALUE`, and when `g` is no array of crossbars.
    """
    _check(g, word_line_resistance, bit_line_resistance)
    tiles = np.array(g, dtype=np.float64, order="C", ndmin=3)
    key = hashlib.sha256(tiles.data).digest(), g.shape, word_line_resistance, bit_line_resistance
    found = _SOLVED.get(key)
    if found is None:
        found = _effective(tiles, word_line_resistance, bit_line_resistance).reshape(g.shape)
        _remember(key, found)
    return found.copy()


def _effective(tiles: Floats, word_line_resistance: float, bit_line_resistance: float) -> Floats:
    # Reciprocity: driven at the bottom and grounded at the left, the same circuit has the transposed A. So the loop below runs over the longer side,
    # or not at all: bit lines without resistance leave one ladder per word line.
    is_turned = bit_line_resistance > 0 and (word_line_resistance == 0 or tiles.shape[2] > tiles.shape[1])
    if is_turned:
        turned = np.ascontiguousarray(_turn(tiles))
        return np.ascontiguousarray(_turn(_solve_all(turned, bit_line_resistance, word_line_resistance)))
    return _solve_all(tiles, word_line_resistance, bit_line_resistance)


def _remember(key: tuple[bytes, tuple[int, ...], float, float], found: Floats) -> None:
    """Keep an answer; the oldest make room for it."""
    with _SOLVING:
        _SOLVED[key] = found
        while sum(kept.nbytes for kept in _SOLVED.values()) > _MAX_SOLVED_BYTES and len(_SOLVED) > 1:
            _SOLVED.popitem(last=False)


def _turn(tiles: Floats) -> Floats:
    """The crossbars seen with bit lines as word lines: driven at the left, grounded at the bottom again. Its own inverse."""
    return tiles[:, ::-1, ::-1].swapaxes(1, 2)


def _solve_all(g: Floats, word_line_resistance: float, bit_line_resistance: float) -> Floats:
    """A of every tile, in chunks on all cores; numpy's loops release the interpreter."""
    size = max(1, _CHUNK_ELEMENTS // g.shape[2] ** 2)
    chunks = [g[start : start + size] for start in range(0, len(g), size)]

    def one(chunk: Floats) -> Floats:
        return _solve(chunk, word_line_resistance, bit_line_resistance)

    # One thread per tile: threads within one inversion wait for each other thousands of times, far slower when another program needs a core.
    with _SOLVING, _linear_algebra().limit(limits=1, user_api="blas"):  # pyright: ignore[reportUnknownMemberType]
        if len(chunks) <= 1:
            return one(g)
        with ThreadPoolExecutor(min(len(chunks), _num_cores())) as pool:
            return np.concatenate(list(pool.map(one, chunks)))


def _solve(g: Floats, word_line_resistance: float, bit_line_resistance: float) -> Floats:
    """A of `g` `[tiles, rows, columns]`, from the top row to the bottom.

    At the bit-line nodes of row i, all that lies above is a Norton equivalent: the current that each row drives there (the rows of `a`), and an
    admittance, here times the segment's resistance (`above`). The row adds its own; then the segment to the next row changes both.
    """
    lines = _word_lines(g, word_line_resistance)
    a = lines.short_circuit_current
    if bit_line_resistance == 0:
        return a
    above = np.zeros((len(g), g.shape[2], g.shape[2]))
    for row in range(g.shape[1]):
        above = _pass_down(a[:, : row + 1], above + lines.admittance(row, bit_line_resistance))
    return a


def _pass_down(a: Floats, excess: Floats) -> Floats:
    """One segment of bit lines further: `a` becomes `a (I + E)^-1`, the share of each node's current that goes down; returns what stays, `I - (I + E)^-1`.

    Each tile is decided by itself, so that no other tile changes its answer. Where wires conduct far better than cells, E is tiny, what stays is
    `(E - E^2) (I + E^2 + E^4)` but for a share E^6, below rounding, and is taken from `a`: three products where the inverse takes four.
    """
    is_tiny = _norm(excess) <= _TINY
    if is_tiny.all():
        squared: Floats = excess @ excess
        stays: Floats = excess - squared
        squared += squared @ squared
        stays += stays @ squared
        a -= a @ stays
        return stays
    if not is_tiny.any():
        passed = _inverse_beside_identity(excess)
        a @= passed
        return np.eye(excess.shape[-1]) - passed
    stays = np.empty_like(excess)
    for some in (np.flatnonzero(is_tiny), np.flatnonzero(~is_tiny)):
        part = a[some]
        stays[some] = _pass_down(part, excess[some])
        a[some] = part
    return stays


def _norm(excess: Floats) -> Floats:
    """A bound on the norm of each matrix `[tiles, n, n]`, symmetric and diagonally dominant: twice its largest diagonal entry."""
    return 2 * np.einsum("tjj->tj", excess).max(axis=-1, initial=0.0)


def _inverse_beside_identity(excess: Floats) -> Floats:
    """(I + E)^-1 of every E `[tiles, n, n]`, symmetric and diagonally dominant.

    Where E is small, (I - E) (I + E^2) (I + E^4) is the inverse but for a share E^8: of each entry no more than the seventh power of the norm, which is below
    rounding. That is four products, a third of the time of an LU factorisation. Each tile is decided by itself.
    """
    identity = np.eye(excess.shape[-1])
    is_small = _norm(excess) <= _SMALL
    if not is_small.all():
        inverse: Floats = np.asarray(np.linalg.inv(identity + excess), np.float64)
        if is_small.any():
            inverse[is_small] = _inverse_beside_identity(excess[is_small])
        return inverse
    squared: Floats = excess @ excess
    found: Floats = identity - excess
    found += found @ squared
    found += found @ (squared @ squared)
    return found


@dataclass(frozen=True, slots=True)
class _WordLines:
    """The word lines of crossbars whose bit-line nodes are grounded: ladders of segments and cells; every array is `[tiles, rows, columns]`.

    `transfer` is the voltage of a word-line node over that of the node before it; `impedance` that of the node to ground [ohm];
    `own` the conductance between the cell's bit-line node and ground through the cell [S].
    """

    g: Floats
    transfer: Floats
    impedance: Floats
    own: Floats

    @property
    def short_circuit_current(self) -> Floats:
        """Current into each bit-line node per volt on the row [S]."""
        return self.g * np.cumprod(self.transfer, axis=-1)

    def admittance(self, row: int, resistance: float) -> Floats:
        """Of one row, at its bit-line nodes, with the source grounded, times a resistance: `[tiles, columns, columns]`."""
        g, transfer, is_later = self.g[:, row], self.transfer[:, row], _later(self.g.shape[2])
        driven = -resistance * g * self.impedance[:, row]
        voltage = np.cumprod(transfer, axis=-1)
        is_near = voltage[:, -1] > _FAR
        if is_near.all():  # node j reaches a later node k by the quotient of their voltages, which costs no product per pair
            whole = (driven / voltage)[:, :, None] * (voltage * g)[:, None, :]
            whole *= is_later
        else:
            reached = np.cumprod(np.where(is_later, transfer[:, None, :], 1.0), axis=-1)
            whole = np.where(is_later, driven[:, :, None] * reached * g[:, None, :], 0.0)
            near = np.flatnonzero(is_near)
            whole[near] = (driven[near] / voltage[near])[:, :, None] * (voltage * g)[near][:, None, :] * is_later
        whole += whole.swapaxes(1, 2)
        np.einsum("tjj->tj", whole)[:] = resistance * self.own[:, row]
        return whole


def _word_lines(g: Floats, resistance: float) -> _WordLines:
    """Two walks along every word line at once: from its end, what each node sees ahead [S]; from its source, what it sees behind [ohm]."""
    ahead, transfer, behind = np.zeros_like(g), np.empty_like(g), np.full_like(g, resistance)
    for k in reversed(range(g.shape[2])):
        seen = g[..., k] + ahead[..., k]
        transfer[..., k] = 1 / (1 + resistance * seen)
        if k > 0:
            ahead[..., k - 1] = seen * transfer[..., k]
    for k in range(1, g.shape[2]):
        behind[..., k] = resistance + behind[..., k - 1] / (1 + behind[..., k - 1] * g[..., k - 1])
    all_round = 1 + behind * (g + ahead)
    return _WordLines(g, transfer, behind / all_round, g * ((1 + behind * ahead) / all_round))


@cache
def _later(number: int) -> NDArray[np.bool_]:
    """Whether column k comes after column j: `[j, k]`."""
    return np.triu(np.ones((number, number), dtype=bool), 1)


@cache
def _linear_algebra() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _num_cores() -> int:
    """Cores that this process may use, which in a container or a batch job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(g: NDArray[Any], word_line_resistance: float, bit_line_resistance: float) -> None:
    if g.ndim not in (2, 3) or 0 in g.shape[-2:] or g.dtype.kind not in "fiu":
        what = f"conductances are {g.dtype} {list(g.shape)}; expected real numbers [rows, columns] or [tiles, rows, columns]"
        raise ChipError(what, where="crossbar", cure="give every crossbar at least one row and one column")
    wrong = np.argwhere(~((g >= 0) & (g <= MAX_VALUE)))  # catches NaN too
    if len(wrong):
        place = ", ".join(f"{name} {number}" for name, number in zip(("tile", "row", "column")[-g.ndim :], wrong[0], strict=True))
        raise ChipError(f"conductance is {g[tuple(wrong[0])]} S; expected 0 to {MAX_VALUE:g} S", where=place, cure="an open cell has 0 S")
    for name, resistance in (("word line", word_line_resistance), ("bit line", bit_line_resistance)):
        if not 0 <= resistance <= MAX_VALUE:
            what = f"resistance is {resistance} ohm per segment; expected 0 to {MAX_VALUE:g} ohm"
            raise ChipError(what, where=name, cure="an ideal wire has 0 ohm")
