"""Rewrites of a program, each a frozen dataclass with `apply`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from memspike.compiler.thresholds import reach
from memspike.errors import ProgramError
from memspike.integer import Integers, IntType
from memspike.ops import Add, Charge, Concat, Conv2d, Dense, Fire, Op, Slice, TensorType
from memspike.program import Program

MAX_WEIGHTS = 1 << 27  # of an op that is written several times: as int64 a GiB


@dataclass(frozen=True, slots=True)
class SplitPartialSums:
    """Cut every weighted op with more than `rows` matrix rows into tiles that fire into counters of their own.

    This is what a chip with digital partial sums does, so it changes the meaning on purpose: afterwards the split program is the meaning, and
    spikes must equal it exactly. A tile of whole input channels integrates `acc_t` and counts
    `floor((acc_t * 2**f + threshold_t / 2) / threshold_t)`, which rounds to nearest, with `threshold_t = threshold / 2**extra_bits`; the
    layer's own charge starts the first tile. The counts, in types that never clip, are added, and a Fire with threshold `2**extra_bits`
    (an arithmetic shift, then the layer's clip) gives the layer's count. Each of t tiles is off by at most half a tile step, so the sum is off
    by less than `t / 2**(extra_bits + 1)` counts before the last floor, with a standard deviation near `sqrt(t / 12) / 2**extra_bits`.

    Scores have no threshold. Their tiles share one, such that the largest sum that any tile can reach counts
    `2**extra_bits` times the highest input count; the added counts are the scores.
    """

    rows: int
    extra_bits: int = 2

    def __post_init__(self) -> None:
        if self.rows < 1 or not 0 <= self.extra_bits <= 16:
            raise ProgramError(f"needs at least 1 row and 0 to 16 extra bits, got {self.rows} rows and {self.extra_bits} extra bits", where="SplitPartialSums")

    def apply(self, program: Program) -> Program:
        """The split program; `notes["compile"]["split"]` lists each cut op with its tiles.

        Raises ProgramError when one input channel's kernel already needs more than `rows` rows, when a sum is read by anything but one Fire
        or Charge, or when potentials overflow.
        """
        ops: list[Op] = []
        split: list[dict[str, int | str]] = []
        replaced: set[str] = set()
        for op in program.ops:
            if isinstance(op, Conv2d | Dense) and _num_rows(op) > self.rows:
                neurons = _neurons(program, op)
                parts = list(self._parts(op, program.types[op.inputs[0]].shape[0]))
                ops += self._split(op, neurons, parts, program.types[op.inputs[0]])
                split.append({"op": op.out, "rows": _num_rows(op), "tiles": len(parts)})
                replaced.add(neurons.out)
            elif op.out not in replaced:
                ops.append(op)
        note = {**program.notes.get("compile", {}), "partial_sums": "digital", "rows": self.rows, "extra_bits": self.extra_bits, "split": split}
        return replace(program, ops=tuple(ops), notes={**program.notes, "compile": note})

    def _parts(self, op: Conv2d | Dense, channels: int) -> Iterator[tuple[int, int]]:
        """The input channels of each tile, counted within a group."""
        kernel = int(np.prod(op.weight.shape[2:], dtype=np.int64))
        if kernel > self.rows:
            raise ProgramError(
                f"one input channel needs {kernel} rows, a tile has {self.rows}", where=f"op {op.out}", cure="use a smaller kernel or a crossbar with more rows"
            )
        most, per_group = self.rows // kernel, channels // op.groups
        for start in range(0, per_group, most):
            yield start, min(start + most, per_group)

    def _split(self, op: Conv2d | Dense, neurons: Fire | Charge, parts: list[tuple[int, int]], x: TensorType) -> Iterator[Op]:
        name = neurons.out
        reached = np.array([reach(op.weight[:, start:stop], x.type) for start, stop in parts])  # [tiles, low and high, channels]
        threshold, charge, fraction_bits = self._numbers(neurons, reached, x.type)
        lows, highs = np.zeros(len(charge), np.int64), np.zeros(len(charge), np.int64)
        for i, (start, stop) in enumerate(parts):
            tile = f"{name}.tile{i}"
            yield from _channels_of(tile + ".in", op, start, stop, x.shape[0] // op.groups)
            yield replace(op, out=tile + ".sum", inputs=(tile + ".in",), weight=op.weight[:, start:stop])
            own = threshold // 2 + (charge if i == 0 else 0)
            low, high = (((acc << fraction_bits) + own) // threshold for acc in reached[i])
            yield Fire(tile, (tile + ".sum",), threshold, own, fraction_bits, IntType.smallest(int(low.min()), int(high.max())))
            lows, highs = lows + low, highs + high
        tiles = tuple(f"{name}.tile{i}" for i in range(len(parts)))
        total = IntType.smallest(int(lows.min()), int(highs.max()))
        if isinstance(neurons, Charge):
            yield Add(name, tiles, total)
        else:
            yield Add(name + ".total", tiles, total)
            every = np.ones_like(charge)
            yield Fire(name, (name + ".total",), every << self.extra_bits, 0 * every, 0, neurons.type)

    def _numbers(self, neurons: Fire | Charge, reached: Integers, counted: IntType) -> tuple[Integers, Integers, int]:
        """Threshold of every tile, charge of the first and fraction bits."""
        if isinstance(neurons, Charge):
            largest = int(np.abs(reached).max()) << neurons.fraction_bits
            threshold = max(1, -(-largest // (counted.max << self.extra_bits)))
            return np.full(len(neurons.charge), threshold), neurons.charge, neurons.fraction_bits
        # Fraction bits are added until every threshold can be divided without a remainder.
        divisible = min((int(t) & -int(t)).bit_length() - 1 for t in neurons.threshold)
        more = max(0, self.extra_bits - divisible)
        if max(int(np.abs(neurons.charge).max()), int(neurons.threshold.max())).bit_length() + more > 62:
            raise ProgramError(f"{self.extra_bits} extra bits overflow int64", where=f"op {neurons.out}", cure="use fewer extra bits")
        return neurons.threshold << more >> self.extra_bits, neurons.charge << more, neurons.fraction_bits + more


@dataclass(frozen=True, slots=True)
class Repeat:
    """Write the weights of the op `op` `times` times over, and let its neurons wait for as many times the charge.

    Every count stays what it was: the layer reads its input `times` times, so each sum, charge and threshold is `times` what it was. On cells that are
    written with errors independent of each other a sum is then off by `1 / sqrt(times)` of what it was off, for `times` the rows of that layer. First layers
    are small, and all that follows rests on them.
    """

    op: str
    times: int

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ProgramError(f"is to be written {self.times} times; expected 1 or more", where=f"op {self.op}")

    def apply(self, program: Program) -> Program:
        """The program with that op written so often; `notes["compile"]["repeat"]` lists op and times.

        Raises ProgramError when there is no such op or it is none with weights and one group, when it is not read by one Fire alone, and when potentials
        overflow.
        """
        op = program.op(self.op)
        if not isinstance(op, Conv2d | Dense) or op.groups > 1:
            found = f"{op.word} of {op.groups} groups" if isinstance(op, Conv2d | Dense) else f"a {op.word}"
            raise ProgramError(f"is {found}; only a conv2d or dense of one group is written several times", where=f"op {op.out}")
        if self.times * op.weight.size > MAX_WEIGHTS:
            raise ProgramError(f"has {op.weight.size} weights; {self.times} times as many are more than {MAX_WEIGHTS}", where=f"op {op.out}")
        neurons, name = _neurons(program, op), f"{op.out}.in"
        if not isinstance(neurons, Fire):
            raise ProgramError("scores have no threshold that could grow with their sums", where=f"op {op.out}", cure="repeat a layer before it")
        many = {
            op.out: (Concat(name, op.inputs * self.times), replace(op, inputs=(name,), weight=np.concatenate([op.weight] * self.times, axis=1))),
            neurons.out: (replace(neurons, threshold=neurons.threshold * self.times, charge=neurons.charge * self.times),),
        }
        ops = [new for old in program.ops for new in many.get(old.out, (old,))]
        done = program.notes.get("compile", {})
        note = {**done, "repeat": [*done.get("repeat", []), {"op": self.op, "times": self.times}]}
        return replace(program, ops=tuple(ops), notes={**program.notes, "compile": note})


def _num_rows(op: Conv2d | Dense) -> int:
    return int(np.prod(op.weight.shape[1:], dtype=np.int64))


def _neurons(program: Program, op: Op) -> Fire | Charge:
    users = program.users(op.out)
    if len(users) == 1 and isinstance(users[0], Fire | Charge):
        return users[0]
    raise ProgramError(f"is read by {', '.join(o.out for o in users) or 'nobody'}; a sum is cut only in front of one fire or charge", where=f"op {op.out}")


def _channels_of(out: str, op: Conv2d | Dense, start: int, stop: int, per_group: int) -> Iterator[Op]:
    """Channels `start` to `stop` of every group of the op's input, as the value `out`."""
    if op.groups == 1:
        yield Slice(out, op.inputs, start, stop)
        return
    names = tuple(f"{out}{group}" for group in range(op.groups))
    for group, name in enumerate(names):
        yield Slice(name, op.inputs, group * per_group + start, group * per_group + stop)
    yield Concat(out, names)
