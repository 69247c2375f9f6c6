"""Crossbars for the tests: the circuit itself, resistor by resistor, and Kirchhoff's current law solved in fractions, slow and obvious."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import spsolve

Node = tuple[str, int, int]
Resistor = tuple[Node, Node, float]  # between two nodes, ohm


def source(row: int) -> Node:
    return "source", row, 0


def ground(column: int) -> Node:
    return "ground", 0, column


def resistors(g: NDArray[np.float64], word_line_resistance: float, bit_line_resistance: float) -> Iterator[Resistor]:
    """Every resistor of a crossbar. The nodes of a wire without resistance are one node: its source, or its ground. An open cell is no resistor."""
    rows, columns = g.shape

    def word(row: int, column: int) -> Node:
        return ("word", row, column) if word_line_resistance and column >= 0 else source(row)

    def bit(row: int, column: int) -> Node:
        return ("bit", row, column) if bit_line_resistance and row < rows else ground(column)

    for row in range(rows):
        for column in range(columns):
            if word_line_resistance:
                yield word(row, column - 1), word(row, column), word_line_resistance
            if bit_line_resistance:
                yield bit(row, column), bit(row + 1, column), bit_line_resistance
            if g[row, column]:
                yield word(row, column), bit(row, column), float(1 / Fraction(g[row, column]))


def exact(g: NDArray[np.float64], word_line_resistance: float, bit_line_resistance: float) -> NDArray[np.float64]:
    """A [S], one row at a time: 1 V on its source, 0 V elsewhere; the currents that leave every other node sum to zero, in fractions."""
    circuit = list(resistors(g, word_line_resistance, bit_line_resistance))
    rows, columns = g.shape
    return np.array([_currents(circuit, source(row), columns) for row in range(rows)])


def solved(g: NDArray[np.float64], word_line_resistance: float, bit_line_resistance: float, volts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The current [A] into the ground of each column with all sources at `volts` together: one sparse solution of Kirchhoff's law, for this input alone."""
    circuit = list(resistors(g, word_line_resistance, bit_line_resistance))
    inner = sorted({node for a, b, _ in circuit for node in (a, b) if node[0] not in ("source", "ground")})
    place = {node: number for number, node in enumerate(inner)}
    held = {source(row): float(volt) for row, volt in enumerate(volts)} | {ground(column): 0.0 for column in range(g.shape[1])}
    entries: list[tuple[int, int, float]] = []
    driven = np.zeros(len(inner))
    for a, b, resistance in circuit:
        for node, other in ((a, b), (b, a)):
            if node in place:
                entries.append((place[node], place[node], 1 / resistance))
                if other in place:
                    entries.append((place[node], place[other], -1 / resistance))
                else:
                    driven[place[node]] += held[other] / resistance
    rows, columns, values = zip(*entries, strict=True)
    law = csc_array((values, (rows, columns)), shape=(len(inner), len(inner)))
    known = held | dict(zip(inner, spsolve(law, driven), strict=True))
    into = np.zeros(g.shape[1])
    for a, b, resistance in circuit:
        if b[0] == "ground":
            into[b[2]] += (known[a] - known[b]) / resistance
    return into


def _currents(circuit: list[Resistor], driven: Node, columns: int) -> list[float]:
    """Current into the ground of each column [A] when the source `driven` is at 1 V."""
    inner = sorted({node for a, b, _ in circuit for node in (a, b) if node[0] not in ("source", "ground")})
    place = {node: number for number, node in enumerate(inner)}
    law = [[Fraction(0)] * (len(inner) + 1) for _ in inner]  # one equation per node, the last entry on the right-hand side
    for a, b, resistance in circuit:
        for node, other in ((a, b), (b, a)):
            if node in place:
                law[place[node]][place[node]] += 1 / Fraction(resistance)
                law[place[node]][place.get(other, -1)] += (other == driven) / Fraction(resistance) if other not in place else -1 / Fraction(resistance)
    volts = dict(zip(inner, _eliminate(law), strict=True)) | {driven: Fraction(1)}
    into = {ground(column): Fraction(0) for column in range(columns)}
    for a, b, resistance in circuit:
        for node, other in ((a, b), (b, a)):
            if node in into:
                into[node] += volts.get(other, Fraction(0)) / Fraction(resistance)
    return [float(current) for current in into.values()]


def _eliminate(law: list[list[Fraction]]) -> list[Fraction]:
    """The solution of the equations, by elimination; diagonally dominant ones need no pivots."""
    for number, pivot in enumerate(law):
        for row in law[number + 1 :]:
            if row[number]:
                factor = row[number] / pivot[number]
                row[number:] = [x - factor * p for x, p in zip(row[number:], pivot[number:], strict=True)]
    solution: list[Fraction] = []
    for number, row in reversed(list(enumerate(law))):
        known = sum((x * s for x, s in zip(row[number + 1 : -1], reversed(solution), strict=True)), Fraction(0))
        solution.append((row[-1] - known) / row[number])
    return solution[::-1]
