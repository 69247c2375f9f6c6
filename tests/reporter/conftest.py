"""What the reporter is tested on: a case with everything, a bare one, and a hostile one; each is built once."""

import dataclasses
from typing import Any

import pytest

from memspike.reporter import Report, report, report_chips
from reports import HOSTILE, Case, make_case, make_study, named, relabelled


@pytest.fixture(scope="session")
def case() -> Case:
    """A small network on both chips of the package, with every note."""
    return make_case((4, 8, 32))


@pytest.fixture(scope="session")
def bare() -> Case:
    """The same without notes, rasters and checks, on one chip."""
    whole = make_case((4, 8, 32), chips=("predictive",))
    pairs = [tuple(dataclasses.replace(d, result=dataclasses.replace(d.result, rasters={})) for d in pair) for pair in whole.designs]
    kept = ("accuracy", "cost", "baseline", "ratio")
    summary = {key: whole.summary[key] for key in kept} | {"accuracy": {"fp32": 0.99, "program": 0.98}}
    return Case(dataclasses.replace(whole.network, notes={}), pairs, summary)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="session")
def hostile() -> Case:
    """A network, a chip, a design and notes whose every name tries to be more than a name."""
    whole = make_case((4, 8, 32), chips=("predictive",))
    evil = " ".join(HOSTILE)
    notes: dict[str, Any] = named(dict(whole.network.notes), evil)
    chip = dataclasses.replace(whole.designs[0][0].mapping.chip, title=evil, notes=(evil,))
    chip = dataclasses.replace(chip, timestep=dataclasses.replace(chip.timestep, source=f"=1+1 {evil}"))
    designs = [tuple(relabelled(d, chip, f"{evil} {i}") for i, d in enumerate(pair)) for pair in whole.designs]
    summary = whole.summary | {"provenance": {evil: evil, "command": evil}, "checks": {"spike_equals_program": True, "images_checked": 5, evil: evil}}
    return Case(dataclasses.replace(whole.network, name=evil, notes=notes), designs, summary)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="session")
def full_report(case: Case) -> Report:
    return report(case.network, case.designs, case.summary)


@pytest.fixture(scope="session")
def full_page(full_report: Report) -> str:
    return full_report.html()


@pytest.fixture(scope="session")
def hostile_report(hostile: Case) -> Report:
    return report(hostile.network, hostile.designs, hostile.summary)


@pytest.fixture(scope="session")
def hostile_page(hostile_report: Report) -> str:
    return hostile_report.html()


@pytest.fixture(scope="session")
def chips_report() -> Report:
    """Many chips, every figure of them."""
    return report_chips(make_study(), 0.5, {"command": "memspike simulate program.safetensors --chips 30"})
