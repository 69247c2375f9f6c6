"""Rows of the tables: one finished training each, kept in a CSV file."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from memspike.files import write_text

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One finished training. Accuracies are shares of all test images; `won` and `lost` are images classified rightly only by the quantised network, and
    only by the floating-point one that it started from; `epochs` are those after the floating-point training, which the control had too. `seconds`,
    `precision`, `device` and `version` are of those epochs, 0 and "unknown" where nobody noted them; `fp32_digest` names the floating-point network,
    `control` says how its control was trained (empty in older rows)."""

    table: str
    network: str
    data: str
    activation_bits: str
    weight_bits: str
    image_bits: str
    method: str
    seed: int
    epochs: int
    accuracy_fp32: float
    accuracy_fp32_control: float
    accuracy_program: float
    changed_predictions: str
    won: int
    lost: int
    seconds: float
    precision: str
    device: str
    version: str
    program_digest: str
    fp32_digest: str
    control: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.network, self.activation_bits, self.weight_bits, self.method, str(self.seed))


def read(table: str) -> list[Row]:
    """The finished rows of a table."""
    path = RESULTS / f"{table}.csv"
    if not path.exists():
        return []
    kinds = {item.name: cast(Callable[[str], Any], item.type) for item in fields(Row)}
    with path.open(newline="") as file:
        return [Row(**{name: kinds[name](value) for name, value in line.items()}) for line in csv.DictReader(file)]


def control(fp32_digest: str, how: str) -> float | None:
    """What a control trained `how` made of that floating-point network, if a row of any table knows."""
    known = (row for path in (*sorted(RESULTS.glob("table*.csv")), RESULTS / "versus_brevitas.csv") for row in read(path.stem))
    return next((row.accuracy_fp32_control for row in known if (row.fp32_digest, row.control) == (fp32_digest, how)), None)


def write(table: str, rows: Iterable[Row]) -> None:
    """All rows of a table, in an order that does not depend on when they were finished; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([item.name for item in fields(Row)])
    for row in sorted(rows, key=lambda row: row.key):
        writer.writerow([f"{value:.4f}" if item.type is float else value for item in fields(Row) for value in (getattr(row, item.name),)])
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / f"{table}.csv", text.getvalue())


def alone(path: Path) -> FileLock:
    """The lock of whoever changes this file, whatever else their commands have in common."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


def add(row: Row) -> None:
    """Write one more row, in place of the one of its key; trainings that end at the same moment wait for each other."""
    with alone(RESULTS / f"{row.table}.csv"):
        write(row.table, [*(known for known in read(row.table) if known.key != row.key), row])
