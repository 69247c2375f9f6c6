"""Laws of devices give what the simulators that published them give, draw by draw (see devices/HOW.md)."""

import csv
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from devices import device, law, number
from memspike.physics.device import age, write

MICRO = 1e-6
ROWS = defaultdict(list)
for row in csv.DictReader((Path(__file__).parent / "devices" / "laws.csv").read_text().splitlines()):
    ROWS[row["law"]].append({name: float(value) for name, value in row.items() if name != "law"})


class Fixed:
    """A generator whose every normal draw is z."""

    def __init__(self, z: float) -> None:
        self.z = z

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.z)


@pytest.mark.parametrize("name", ROWS)
def test_a_law_gives_what_its_publisher_s_code_gives(name):
    model, _, acceptance = name.partition(" ")
    parameters = {"acceptance": float(acceptance)} if acceptance else {}
    drift = law(model) if model in ("cmo_hfox", "nandakumar2019") else None
    for row in ROWS[name]:
        target = row["target_us"] * MICRO
        # level 1 of 1 is g_max; a target below full scale is level 0
        at_top = row["target_us"] == row["full_scale_us"]
        low = number(target / 2 if at_top else target, "S")
        cell = device(g_min=low, g_max=number(row["full_scale_us"] * MICRO, "S"), programming=law(model, **parameters), drift=drift)
        rng = Fixed(row["z"])
        written = write(cell, np.array([int(at_top)]), 1, rng)
        aged = age(cell, written, row["seconds"], rng)
        assert written.g[0] / MICRO == pytest.approx(row["written_us"], rel=1e-9)
        if model == "wan2022":  # drawn in two steps here, whose variances add up
            aged = target + math.hypot(written.g[0] - target, aged[0] - written.g[0])
        assert np.ravel(aged)[0] / MICRO == pytest.approx(row["aged_us"], rel=1e-9)
