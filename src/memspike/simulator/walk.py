"""A program's ops in order: each on the fastest route proven exact for it, what is kept of their values, and what is summed up on the way."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memspike.integer import Integers, IntType, exact_sum
from memspike.ops import Conv2d, Dense, Fire, Flatten, MaxPool2d, Op
from memspike.program import Program
from memspike.simulator import int8
from memspike.simulator.floor import Floor
from memspike.simulator.kernels import Linear, carrier, channels_last, digital, magnitude_of, stored, to_numpy
from memspike.simulator.neuron import Fired
from memspike.simulator.reductions import sums


@dataclass(frozen=True, slots=True)
class Summed:
    """Values whose sizes are summed over a chunk's images: `each` element by itself, or all elements of the `whole` value."""

    each: Set[str] = frozenset()
    whole: Set[str] = frozenset()


NOTHING = Summed()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a chunk of images gave: the values `[n, ...]` that were to be kept, sums over images of the sizes of others, of each element `[...]` or of
    whole values, and, in spikes, what each layer of neurons did."""

    values: dict[str, Tensor]
    each: dict[str, Integers]
    whole: dict[str, int]
    fired: dict[str, Fired] | None = None


def walk(
    program: Program, images: Tensor, compute: Callable[[Op, list[Tensor]], dict[str, Tensor]], keep: Set[str], seen: Callable[[str, Tensor], None]
) -> dict[str, Tensor]:
    """Run the ops in order, `compute` giving one op's values, or the next one's with it, from its inputs; every value is shown to `seen` as it is made.

    Returns the values named in `keep` and forgets the others early.
    """
    last_reader = {name: op.out for op in program.ops for name in op.inputs}
    images = images.to(stored(program.input_type.type))
    values = {program.input: images}
    seen(program.input, images)
    for op in program.ops:
        if op.out not in values:
            made = compute(op, [values[name] for name in op.inputs])
            for name, value in made.items():
                seen(name, value)
            values |= made
        for name in set(op.inputs) - keep:
            if last_reader[name] == op.out:
                values.pop(name, None)
    return {name: value.reshape(len(value), *program.types[name].shape) for name, value in values.items() if name in keep}


class Totals:
    """Sums over a chunk's images of absolute values, taken when a value has just been made and lies in the cache.

    Values that are summed as a whole may come in any order of their elements.
    """

    def __init__(self, program: Program, summed: Summed) -> None:
        self._program, self._summed = program, summed
        self.each: dict[str, Integers] = {}
        self.whole: dict[str, int] = {}

    def __call__(self, name: str, values: Tensor) -> None:
        type = self._program.types[name]
        if name in self._summed.each:
            self.each[name] = totals_over_images(values, type.type).reshape(type.shape)
        elif name in self._summed.whole and name not in self.whole:
            self.whole[name] = total(values, type.type)

    def know(self, name: str, total: int) -> None:
        """A value's sum as a whole, from a kernel that has read it anyway."""
        if name in self._summed.whole:
            self.whole[name] = total


def totals_over_images(values: Tensor, type: IntType) -> Integers:
    """The sum over images of absolute values `[n, ...]` of an integer type, int64 `[...]`, exact."""
    if not _are_bytes(values):
        wide = values.to(torch.int16) if values.dtype == torch.int8 else values
        return to_numpy(wide.abs().sum(dim=0, dtype=carrier(magnitude_of(type) * len(values))))
    found = _sums_of_bytes(values, type)
    return np.moveaxis(found.reshape(*values.shape[2:], values.shape[1]), -1, 0) if values.ndim == 4 else found.reshape(values.shape[1:])


def total(values: Tensor, type: IntType) -> int:
    """The sum of all absolute values `[n, ...]` of an integer type, exact."""
    return exact_sum(_sums_of_bytes(values, type) if _are_bytes(values) else totals_over_images(values, type))


def _are_bytes(values: Tensor) -> bool:
    return values.dtype in (torch.uint8, torch.int8) and values.device.type == "cpu"


def _sums_of_bytes(values: Tensor, type: IntType) -> Integers:
    """The sums over images of the sizes of bytes `[n, ...]`, all elements in a row, channels last."""
    return sums(channels_last(values).view(len(values), -1).numpy(), magnitude_of(type))


def step(program: Program, op: Op, images: Mapping[str, tuple[int, ...]] | None = None, device: str = "cpu") -> Callable[..., Tensor]:
    """The op as a function from input tensors `[n, ...]` to the output tensor `[n, ...]`, exact for every input of the right types.

    `images` are what `unflattened` gives.
    """
    type, out = program.types[op.inputs[0]], program.types[op.out]
    if isinstance(op, Conv2d | Dense):
        image = (images or {}).get(op.inputs[0])
        product = int8.sums(op, type, image) if device == "cpu" else None
        return product or Linear(op, type.type, device)
    if isinstance(op, Fire):
        return Floor(op, op.type.min, op.type.max, type.type.min, type.type.max, len(out.shape), device, stored(op.type))
    if isinstance(op, Flatten) and op.out in (images or {}):
        return lambda x: x
    return digital(program, op)


def unflattened(program: Program) -> dict[str, tuple[int, ...]]:
    """Flattened images that need not be: only read by Dense ops, which can read their channels last as they lie; by name, their shape before."""
    found: dict[str, tuple[int, ...]] = {}
    for op in program.ops:
        before = program.types[op.inputs[0]].shape
        users = program.users(op.out)
        if isinstance(op, Flatten) and len(before) == 3 and users and all(isinstance(user, Dense) for user in users):
            found[op.out] = before
    return found


def pooled_by(program: Program, name: str) -> MaxPool2d | None:
    """The maximum over windows that alone reads the images `name`, and every pixel of them once, if there is one."""
    users, (_, *sides) = program.users(name), program.types[name].shape
    pool = users[0] if len(users) == 1 and isinstance(users[0], MaxPool2d) else None
    is_once = pool and pool.stride == pool.kernel and not any(pool.padding) and not any(side % step for side, step in zip(sides, pool.kernel, strict=True))
    return pool if is_once else None
