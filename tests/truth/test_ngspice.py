"""Currents of crossbars with wire resistance agree with ngspice, a circuit simulator (see ngspice/HOW.md)."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossbars import Node, ground, resistors, source
from memspike.physics import effective_conductance

NGSPICE = shutil.which("ngspice")
pytestmark = pytest.mark.skipif(NGSPICE is None, reason="ngspice is not installed")

Floats = NDArray[np.float64]


def netlist(g: Floats, wires: tuple[float, float], voltages: Floats) -> str:
    """The crossbar as ngspice reads it: a source per row, a source of 0 V per column to measure its current, a resistor per line between."""

    def name(node: Node) -> str:
        return "_".join(map(str, node))

    lines = ["* a crossbar with resistive wires"]
    lines += [f"vin{row} {name(source(row))} 0 dc {voltage!r}" for row, voltage in enumerate(voltages.tolist())]
    lines += [f"vout{column} {name(ground(column))} 0 dc 0" for column in range(g.shape[1])]
    lines += [f"r{number} {name(a)} {name(b)} {resistance!r}" for number, (a, b, resistance) in enumerate(resistors(g, *wires))]
    lines += [".control", "set numdgt=15", "op", *(f"print i(vout{column})" for column in range(g.shape[1])), "quit 0", ".endc", ".end"]
    return "\n".join([*lines, ""])


def currents(g: Floats, wires: tuple[float, float], voltages: Floats, folder: Path) -> Floats:
    """The current into each column's ground [A], in ngspice's words."""
    path = folder / "crossbar.cir"
    path.write_text(netlist(g, wires, voltages), encoding="ascii")
    done = subprocess.run([str(NGSPICE), "-b", str(path)], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    found = {int(column): float(current) for column, current in re.findall(r"^i\(vout(\d+)\) = (\S+)$", done.stdout, re.MULTILINE)}
    assert sorted(found) == list(range(g.shape[1])), done.stdout + done.stderr
    return np.array([found[column] for column in range(g.shape[1])])


@pytest.mark.parametrize("wires", [(2.82, 2.82), (40.0, 0.5), (3.0, 0.0), (0.0, 3.0)], ids=lambda wires: f"{wires[0]:g}_{wires[1]:g}")
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (9, 5), (5, 9)])
def test_currents_are_ngspices(rows: int, columns: int, wires: tuple[float, float], tmp_path: Path) -> None:
    rng = np.random.default_rng([rows, columns])
    g, voltages = rng.uniform(1e-6, 3e-4, (rows, columns)), rng.uniform(0, 0.5, rows)
    if g.size > 1:
        g[rng.integers(rows), rng.integers(columns)] = 0.0  # an open cell
    np.testing.assert_allclose(voltages @ effective_conductance(g, *wires), currents(g, wires, voltages, tmp_path), rtol=1e-9, atol=0)
