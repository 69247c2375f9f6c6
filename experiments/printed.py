"""Rows as a printed table: means and spread over seeds, beside goals and the paper's figures."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from methods import SEEDS, TITLES
from rows import Row


@dataclass(frozen=True)
class Aims:
    """What a table is held against: `paper` and `goals` are losses in points by network and bits, the paper's as it has them, the goals for means over seeds;
    `plain_goals` are those against fp32 without further epochs. Methods that are `beside` them have other means, and are held against none of these.

    `subject` is the method that a table is about; it should be ahead of all others. `tried` says what was done about goals that are missed.
    """

    paper: dict[str, str] = field(default_factory=dict[str, str])
    goals: dict[str, float] = field(default_factory=dict[str, float])
    plain_goals: dict[str, float] = field(default_factory=dict[str, float])
    beside: tuple[str, ...] = ()
    subject: str = ""
    tried: str = ""


def table_lines(rows: Sequence[Row], aims: Aims) -> list[str]:
    """A Markdown table for each network and data set, under its name: a line per bits and method, means and standard deviations over seeds, per cent and
    points.

    Where the aims have a subject, every other method's line says by how much the subject is ahead of that method, over the seeds that both have.
    """
    networks: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (list(TITLES).index(row.network), row.data)):
        networks.setdefault((row.network, row.data), []).append(row)
    lines: list[str] = []
    for (network, data), members in networks.items():
        lines += [*[""] * bool(lines), f"### {TITLES[network].split(' on ')[0]} on {data}", "", *_table(members, aims)]
        if said := _changed(members):
            lines += ["", said]
    return lines


def _table(rows: Sequence[Row], aims: Aims) -> list[str]:
    """The lines of one network on one data set: many bits before few, the subject before what it is held against."""
    heads = ("bits", "method", "seeds", "plain fp32", "same epochs", "quantised", "loss", *["goal"] * bool(aims.goals), "to plain fp32")
    heads += ("won : lost", *["paper's loss"] * bool(aims.paper), *["ahead by"] * bool(aims.subject))
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (*(-_number(bits) for bits in (row.activation_bits, row.weight_bits)), row.method != aims.subject)):
        groups.setdefault((str(row.epochs), *row.key[:-1]), []).append(row)  # means are over seeds alone
    for members in groups.values():
        first = members[0]
        place = f"{first.network} {first.activation_bits}" if first.method not in aims.beside else ""
        losses = [100 * (row.accuracy_fp32_control - row.accuracy_program) for row in members]
        plain = [100 * (row.accuracy_fp32 - row.accuracy_program) for row in members]
        cells = [
            f"{first.activation_bits} / {first.weight_bits}",
            f"**{first.method}**" if first.method == aims.subject else first.method,
            len(members),
            *(spread([100 * getattr(row, name) for row in members]) for name in ("accuracy_fp32", "accuracy_fp32_control", "accuracy_program")),
            spread(losses),
            *[_goal(losses, aims.goals.get(place), SEEDS[first.network])] * bool(aims.goals),
            spread(plain) + (f" (goal {_goal(plain, aims.plain_goals[place], SEEDS[first.network])})" if place in aims.plain_goals else ""),
            f"{sum(row.won for row in members)} : {sum(row.lost for row in members)}",
            *[aims.paper.get(place, "-")] * bool(aims.paper),
            *[_ahead(rows, members, aims)] * bool(aims.subject),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _number(bits: str) -> float:
    return float(bits) if bits.isdecimal() else math.inf


def _changed(rows: Sequence[Row]) -> str:
    """How many predictions compiling changed, of rows that have programs."""
    changed = [int(row.changed_predictions) for row in rows if row.changed_predictions]
    many = f"{len(changed)} programs" if len(changed) > 1 else "one program"
    return f"Compiling changed {sum(changed)} predictions of {many}, on all 10 000 test images each." if changed else ""


def _goal(losses: Sequence[float], goal: float | None, seeds: int) -> str:
    """A goal for the mean of so many seeds, and whether this one misses it; images are whole, so a ten thousandth of a point is none."""
    if goal is None:
        return "-"
    few = f", on {len(losses)} of {seeds} seeds" * (len(losses) < seeds)
    return f"{goal}{', missed' * (statistics.mean(losses) > goal + 1e-4)}{few}"


def _ahead(rows: Sequence[Row], theirs: Sequence[Row], aims: Aims) -> str:
    """How many points more the subject of a table has than these rows of another method, seed by seed; rows that did not start from one floating-point
    network are no pair."""
    if theirs[0].method == aims.subject:
        return "-"
    before = {_start(row): row.accuracy_program for row in theirs}
    ours = [row for row in rows if row.key[:3] == theirs[0].key[:3] and row.method == aims.subject and _start(row) in before]
    points = [100 * (row.accuracy_program - before[_start(row)]) for row in ours]
    behind = bool(points) and statistics.mean(points) < -1e-4
    fewer = f" ({len(points)} seed{'s' * (len(points) > 1)})" if len(points) < len(theirs) else ""
    return f"{spread(points)}{fewer}{', behind' * behind}" if points else "-"


def _start(row: Row) -> tuple[int, str]:
    """What a row started from; older rows have no digest of it, but its accuracy and who trained it."""
    return row.seed, row.fp32_digest or f"{row.accuracy_fp32:.4f}, {row.precision.split(',')[0]}, {row.device}"


def spread(values: Sequence[float]) -> str:
    mean = round(statistics.mean(values), 2) + 0.0  # no minus before nothing
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"
