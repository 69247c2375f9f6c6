"""All benchmarks one after the other, each in a process of its own, and one table of what they found.

`make bench` runs it. Analog simulation has a benchmark of its own (bench_analog.py), which takes a checkout of CrossSim.
"""

import csv
import subprocess
import sys
from pathlib import Path

from measure import machine, results
from rich.console import Console
from rich.table import Table

NAMES = ("ideal", "spike", "command", "training", "growth")


def main() -> None:
    console, notes = Console(width=170), list[str]()
    table = Table("benchmark", "case", "system", "median", "ratio", "range", "goal", title=machine().rsplit(",", 1)[0], box=None)
    for name in sys.argv[1:] or NAMES:
        print(f"bench_{name}.py ...", file=sys.stderr, flush=True)
        before = _changed(results(name))
        done = subprocess.run([sys.executable, Path(__file__).with_name(f"bench_{name}.py")], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench_{name}.py failed")
        if _changed(results(name)) == before:  # the rows that are there are of another day, perhaps of another machine
            notes += done.stdout.splitlines() or [f"{name}: not measured"]
            continue
        notes += [line.strip() for line in done.stdout.splitlines() if line.startswith("  ") and "  " not in line.strip()]
        with results(name).open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                table.add_row(name, row["case"], row["system"], f"{row['value']} {row['unit']}", row["ratio"], f"{row['low']} to {row['high']}", row["goal"])
    console.print(table)
    for note in notes:
        console.print(f"  {note}", soft_wrap=True)


def _changed(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


if __name__ == "__main__":
    main()
