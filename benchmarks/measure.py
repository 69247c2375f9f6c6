"""Measuring: systems in turn, round by round, as ratios to one of them; rows of a CSV with the machine they were measured on."""

import contextlib
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("benchmark", "case", "system", "value", "unit", "ratio", "low", "high", "goal", "machine")


def machine() -> str:
    """Processor, cores, vector units, torch and threads."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        name = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Row:
    """One system in one case: `value` in `unit` (median), and how many times slower than the reference, median and range over rounds; on the machine, with
    as many threads, on which the row is made."""

    benchmark: str
    case: str
    system: str
    value: float
    unit: str
    ratio: float
    low: float
    high: float
    goal: str = ""
    machine: str = field(default_factory=machine)


def rounds(systems: dict[str, Callable[[], float]], reference: str, number: int, *, twice: bool = False) -> dict[str, tuple[float, float, float, float]]:
    """Seconds of each system (median) and its ratio to the reference (median, least, most), all measured in turn in every round.

    A system returns seconds for the same amount of work; the first round warms up and is thrown away. What runs for a tenth of a second pays for what ran
    before it: caches, memory, threads that still spin. With `twice` each system therefore runs twice in its turn, and the second run counts.
    """
    found: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(number + 1):
        for name, run in systems.items():
            if twice:
                run()
            seconds = run()
            if turn:
                found[name].append(seconds)
    ratios = {name: [a / b for a, b in zip(values, found[reference], strict=True)] for name, values in found.items()}
    return {name: (statistics.median(values), statistics.median(ratios[name]), min(ratios[name]), max(ratios[name])) for name, values in found.items()}


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def peer(script: str, arguments: dict[str, object], path: str | None) -> dict[str, float] | str:
    """What a peer's own process prints as JSON; a sentence when the peer is not installed."""
    environment = {**os.environ, "PYTHONPATH": path or "", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [os.environ.get("MEMSPIKE_PEERS", sys.executable), str(Path(__file__).parent / "peers" / script), json.dumps(arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError:
        return f"not measured: there is no {command[0]}"
    if done.returncode:
        return f"not measured: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it failed'}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def results(benchmark: str) -> Path:
    """The file of a benchmark's rows on a processor with these vector units (avx2, avx512): what one kind of machine measured does not replace another's."""
    return RESULTS / f"{benchmark}_{torch.backends.cpu.get_cpu_capability().lower()}.csv"


def publish(rows: list[Row], notes: list[str]) -> None:
    """Print the rows as a table and write them to the benchmark's file."""
    RESULTS.mkdir(exist_ok=True)
    with results(rows[0].benchmark).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            numbers = [f"{value:.5g}" for value in (row.value, row.ratio, row.low, row.high)]
            writer.writerow((row.benchmark, row.case, row.system, numbers[0], row.unit, *numbers[1:], row.goal, row.machine))
    table = Table("case", "system", "median", "times slower", "range", "goal", title=f"{rows[0].benchmark}: {machine().rsplit(', ', 1)[0]}", box=None)
    for row in rows:
        table.add_row(row.case, row.system, f"{row.value:.4g} {row.unit}", f"{row.ratio:.3g}", f"{row.low:.3g} to {row.high:.3g}", row.goal)
    console = Console(width=150)
    console.print(table)
    for note in notes:
        console.print(f"  {note}")
