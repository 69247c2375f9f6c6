"""Speech: results on stdout, progress and logs on stderr."""

import json
import time
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Speech:
    """Where words go: results on stdout, progress and logs on stderr; `quiet` keeps progress back."""

    def __init__(self) -> None:
        self.quiet = False
        self.debug = False

    def err(self) -> Console:
        return Console(stderr=True, highlight=False)

    def out(self) -> Console:
        console = Console(highlight=False)
        # What is piped or written to a file is read by programs: never folded to the width of a terminal that is not there.
        return console if console.is_terminal else Console(highlight=False, width=160)


speech = Speech()


class Listener:
    """Shows a run on stderr: bars with loss, accuracy and time left on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        console = speech.err()
        self.console = console
        self.is_live = console.is_terminal and not speech.quiet
        texts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self.progress = Progress(*texts, TimeRemainingColumn(), TextColumn("left"), console=console, transient=True, disable=not self.is_live)
        self.tasks: dict[str, Any] = {}
        self.accuracy = ""
        self.first_images: dict[str, tuple[int, float]] = {}

    def __enter__(self) -> "Listener":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def phase(self, text: str) -> None:
        self._say(f"[bold]{escape(text)}[/bold]")

    def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        if self.is_live:
            self._advance(stage, f"{stage}, epoch {epoch}/{epochs}", (epoch - 1) * steps + step, epochs * steps, f"loss {loss:.3f} {self.accuracy}")

    def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        self.accuracy = f"accuracy {100 * accuracy:.2f} %"
        # Long trainings say every epoch, short ones every tenth: a log should be readable.
        if epoch == epochs or epochs <= 15 or epoch % 10 == 0:
            self._say(f"  {stage:<12} epoch {epoch:>3}/{epochs}  loss {loss:.4f}  {self.accuracy}")

    def images(self, what: str, done: int, total: int) -> None:
        if self.is_live:
            first, started = self.first_images.setdefault(what, (done, time.monotonic()))
            seconds = time.monotonic() - started
            self._advance(what, what, done, total, f"{(done - first) / seconds:.0f} images/s" if done > first and seconds > 0 else "images")

    def chips(self, case: str, done: int, total: int, per_minute: float) -> None:
        if self.is_live:
            self._advance(case, f"chips, {case}", done, total, f"{per_minute:.3g} chips per minute")
        elif done == total or done % 10 == 0:
            self._say(f"  chips, {escape(case):<20} {done:>4}/{total}  {per_minute:.3g} chips per minute")

    def _advance(self, key: str, text: str, done: int, total: int, note: str) -> None:
        if key not in self.tasks:
            for other in self.tasks.values():
                self.progress.update(other, visible=False)
            self.tasks[key] = self.progress.add_task(text, total=total, note=note)
        self.progress.update(self.tasks[key], completed=done, total=total, description=text, note=note, visible=done < total)

    def _say(self, text: str) -> None:
        if not speech.quiet:
            self.console.print(text, soft_wrap=True)


def tell(found: dict[str, Any], as_json: bool, labels: dict[str, str]) -> None:
    """Print what was found: as JSON, or the values that have a label, shares as percentages."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    shares = ("accuracy", "utilization")
    rows = [(label, f"{100 * found[key]:.2f} %" if key.startswith(shares) else _said(found[key])) for key, label in labels.items()]
    speech.out().print(two_columns(rows))


def _said(value: Any) -> str:
    return (", ".join(map(str, cast(list[Any], value))) or "none") if isinstance(value, list) else str(value)


def two_columns(rows: list[tuple[str, str]]) -> Table:
    """Labels and values, one pair a line."""
    table = Table(box=None, show_header=False)
    for label, value in rows:
        table.add_row(escape(label), escape(value))
    return table
