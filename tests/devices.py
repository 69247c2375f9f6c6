"""Devices and chips for the tests of fidelity "analog": round numbers, one imperfection at a time."""

from dataclasses import replace

from chips import test_chip
from memspike.cell import Device, Law, Stuck
from memspike.chip import Chip
from memspike.quantity import Quantity


def number(value: float, unit: str = "1") -> Quantity:
    return Quantity(value, unit, "test", "assumed")


def device(**imperfections: object) -> Device:
    """16 levels from 1 to 40 uS."""
    return replace(Device("test-cell", number(1e-6, "S"), number(40e-6, "S"), 16), **imperfections)


def law(model: str, **parameters: float) -> Law:
    return Law(model, {name: number(value, {"t0": "s", "temperature": "K"}.get(name, "1")) for name, value in parameters.items()})


def stuck(low: float, high: float, low_g: float | None = None, high_g: float | None = None) -> Stuck:
    return Stuck(number(low), number(high), *(None if g is None else number(g, "S") for g in (low_g, high_g)))


def chip(rows: int = 32, columns: int = 32, wires: float = 0.0, bits: int = 4, **imperfections: object) -> Chip:
    """A chip of 4-bit cells, perfect but for what is named."""
    plain = test_chip(rows, columns, bits_per_cell=bits)
    return replace(plain, crossbar=replace(plain.crossbar, wire_resistance=number(wires, "ohm"), device=device(**imperfections)))
