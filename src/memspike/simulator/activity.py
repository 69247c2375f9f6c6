"""What the chip did: how often each component acted, counted in exact integers over all images.

The rules, for one image; "positions" are the output pixels of a convolution (1 for a dense op), "spikes" the input counts without their signs.
`plan` is the op's LayerPlan, `bits(x)` the width of a value's type, `size(x)` its number of elements, a window `num_timesteps` of its op.

| op | component, action | count |
|---|---|---|
| Conv2d, Dense | row_driver, spike | spikes, at every position that reads them, times `plan.column_tiles` |
| | encoder, encode | `groups * rows * positions * bits(input)` |
| | cell, read | for every matrix row, its spikes over all positions, times the cells of that row |
| | cell, read_levels | the same spikes times the sum of the levels of that row (of uneven ones: what they conduct, in whole even steps) |
| | neuron, integrate | `positions * channels` times the window, drain included |
| | neuron, fire | spikes fired, up and down together; ideal: the counts without their signs |
| | counter, count | spikes fired, times `bits(fired)`; nothing for a layer that ends in a Charge |
| | buffer, bit | read: `groups * rows * positions * bits(input)`; written: `size(fired) * bits(fired)` |
| | bus, bit | `size(fired) * bits(fired)`; nothing for a layer that ends in a Charge: only the winner's index leaves it |
| SumPool2d, its Fire | adder, add | `(area - 1) * size(sum) * bits(sum)`, and the window times `size(sum) * bits(sum)` for dividing by repeated subtraction |
| | buffer and bus, bit | written and moved: `size(fired) * bits(fired)` |
| Add | adder, add | `(inputs - 1) * size * bits` |
| MaxPool2d | comparator, compare | `(area - 1) * size * bits` |
| the output | comparator, compare | `(classes - 1) * bits`: the winner-take-all |

Flatten, Concat and Slice are wires. A Fire that reads neither a Conv2d, a Dense nor a SumPool2d is counted as the Fire of a SumPool2d of area 1. Dividing
by powers of two is a shift, and costs no subtraction.
"""

import math
from collections import Counter

import numpy as np
from numpy.lib.stride_tricks import as_strided

from memspike.integer import Integers, exact_sum
from memspike.mapping import Mapping
from memspike.ops import Add, Conv2d, Dense, Fire, MaxPool2d, Op, SumPool2d
from memspike.result import Activity
from memspike.simulator.walk import Ran, Summed


class Tally:
    """Sums over chunks of images: what `activity` needs and no more, independent of how the images were cut into chunks."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping, self.program = mapping, mapping.program
        self.num_images = 0
        self._weighted = {op.out for op in self.program.ops if isinstance(op, Conv2d | Dense)}
        self._fires_of = {op.out: [u for u in self.program.users(op.out) if isinstance(u, Fire)] for op in self.program.ops}
        weighted = [op for op in self.program.ops if isinstance(op, Conv2d | Dense)]
        self._inputs = frozenset(op.inputs[0] for op in weighted)
        self._fires = frozenset(fire.out for op in weighted for fire in self._fires_of[op.out])
        self._each: dict[str, Integers] = {name: np.zeros(self.program.types[name].shape, np.int64) for name in self._inputs}
        self._whole: Counter[str] = Counter()
        self._num_fires: Counter[str] = Counter()
        self._num_extra_timesteps: Counter[str] = Counter()
        self._is_spiking = False

    def summed(self, *, spikes: bool) -> Summed:
        """What is to be summed over a chunk's images: what each row of a crossbar is sent, and, where nobody counts `spikes`, what each layer fires."""
        return Summed(self._inputs, frozenset() if spikes else self._fires - self._inputs)

    def add(self, num_images: int, ran: Ran) -> None:
        """Count one chunk: the sums over its images that `summed` asks for, and in spikes what the neurons of each layer did."""
        self.num_images += num_images
        for name, total in ran.each.items():
            self._each[name] += total
        self._whole.update(ran.whole)
        for op, done in (ran.fired or {}).items():
            self._num_fires[op] += done.num_fires
            self._num_extra_timesteps[op] = max(self._num_extra_timesteps[op], done.num_extra_timesteps)
        self._is_spiking = ran.fired is not None

    def activity(self) -> Activity:
        """All counts by the rules at the top of this page."""
        counts: Counter[tuple[str, str, str]] = Counter()
        num_timesteps: dict[str, int] = {}
        for op in self.program.ops:
            if isinstance(op, Conv2d | Dense):
                num_timesteps[op.out] = self._bits_and_window(op.inputs[0])[1] + self._num_extra_timesteps[op.out]
                for (component, action), count in (self._crossbars(op) | self._neurons(op, num_timesteps[op.out])).items():
                    counts[op.out, component, action] += count
                continue
            if isinstance(op, SumPool2d):
                num_timesteps[op.out] = self._bits_and_window(op.inputs[0])[1]
            for key, count in self._digital(op).items():
                counts[key] += count * self.num_images
        classes = self.program.types[self.program.output]
        counts[self.program.output, "comparator", "compare"] += (classes.shape[0] - 1) * classes.type.bits * self.num_images
        return Activity(dict(counts), num_timesteps, self.num_images)

    def _crossbars(self, op: Conv2d | Dense) -> dict[tuple[str, str], int]:
        """Rows driven and cells read: both linear in the input counts, so the images' sum tells all."""
        plan = self.mapping.plan(op.out)
        spikes = _row_spikes(op, self._each[op.inputs[0]])
        cells, levels = self.mapping.row_loads(op.out)
        return {
            ("row_driver", "spike"): exact_sum(spikes) * plan.column_tiles,
            ("cell", "read"): exact_sum(spikes, cells),
            ("cell", "read_levels"): exact_sum(spikes, levels),
        }

    def _neurons(self, op: Conv2d | Dense, num_timesteps: int) -> dict[tuple[str, str], int]:
        """Encoders, neurons, counters and what moves between layers."""
        positions = _size(self.program.types[op.out].shape[1:])
        sent = _size(op.weight.shape[1:]) * op.groups * positions * self._bits_and_window(op.inputs[0])[0] * self.num_images
        counts = {
            ("encoder", "encode"): sent,
            ("neuron", "integrate"): _size(self.program.types[op.out].shape) * num_timesteps * self.num_images,
            ("neuron", "fire"): 0,
            ("counter", "count"): 0,
            ("buffer", "bit"): sent,
            ("bus", "bit"): 0,
        }
        for fire in self._fires_of[op.out]:
            num_fires = self._num_fires[op.out] if self._is_spiking else self._fired(fire.out)
            moved = _size(self.program.types[fire.out].shape) * fire.type.bits
            counts["neuron", "fire"] += num_fires
            counts["counter", "count"] += num_fires * fire.type.bits
            counts["buffer", "bit"] += moved * self.num_images
            counts["bus", "bit"] += moved * self.num_images
        return counts

    def _fired(self, name: str) -> int:
        """The counts of a layer of neurons, without their signs."""
        return exact_sum(self._each[name]) if name in self._each else self._whole[name]

    def _digital(self, op: Op) -> dict[tuple[str, str, str], int]:
        """Adders and comparators between layers, per image; a Fire is counted under the name of the sum pool that it divides."""
        out = self.program.types[op.out]
        bits = _size(out.shape) * out.type.bits
        if isinstance(op, SumPool2d):
            return {(op.out, "adder", "add"): (_size(op.kernel) - 1) * bits}
        if isinstance(op, Add):
            return {(op.out, "adder", "add"): (len(op.inputs) - 1) * bits}
        if isinstance(op, MaxPool2d):
            return {(op.out, "comparator", "compare"): (_size(op.kernel) - 1) * bits}
        if isinstance(op, Fire) and op.inputs[0] not in self._weighted:
            source = next((o for o in self.program.ops if o.out == op.inputs[0] and isinstance(o, SumPool2d)), None)
            name, window = (source.out, self._bits_and_window(source.inputs[0])[1]) if source else (op.out, self._bits_and_window(op.inputs[0])[1])
            is_shift = all(int(threshold).bit_count() == 1 for threshold in op.threshold)
            divided = 0 if is_shift else _size(out.shape) * self._bits_and_window(op.inputs[0])[0]
            return {(name, "adder", "add"): window * divided, (name, "buffer", "bit"): bits, (name, "bus", "bit"): bits}
        return {}

    def _bits_and_window(self, name: str) -> tuple[int, int]:
        type = self.program.types[name].type
        return type.bits, type.num_timesteps


def _row_spikes(op: Conv2d | Dense, counts: Integers) -> Integers:
    """Spikes `[groups, rows]` that each row of the weight matrices sees over all positions, from counts `[channels, ...]` without signs."""
    if isinstance(op, Dense):
        return counts.reshape(op.groups, -1)
    kernel_rows, kernel_columns = op.weight.shape[2:]
    (ph, pw), (dh, dw), (sh, sw) = op.padding, op.dilation, op.stride
    padded = np.pad(counts, ((0, 0), (ph, ph), (pw, pw)))
    height, width = padded.shape[1] - dh * (kernel_rows - 1), padded.shape[2] - dw * (kernel_columns - 1)
    shape = counts.shape[0], kernel_rows, kernel_columns, -(-height // sh), -(-width // sw)
    channel, row, column = padded.strides
    positions = as_strided(padded, shape, (channel, dh * row, dw * column, sh * row, sw * column), writeable=False)
    return positions.sum(axis=(3, 4)).reshape(op.groups, -1)


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
