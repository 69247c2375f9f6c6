"""Fidelity "ideal": the integers themselves, equal to Program.evaluate on every value, each layer on the fastest route proven exact for it."""

import math
from collections.abc import Callable, Set

from torch import Tensor

from memspike.ops import Conv2d, Dense, Fire, MaxPool2d, Op
from memspike.program import Program, fired_by
from memspike.simulator import int8
from memspike.simulator.floor import Floor
from memspike.simulator.kernels import Linear, stored
from memspike.simulator.onednn import Banded, Product
from memspike.simulator.walk import NOTHING, Ran, Summed, Totals, pooled_by, step, unflattened, walk

_READY = 4  # programs that stay ready to run
_ready: list[tuple[Program, tuple[Set[str], str, bool], "Ideal"]] = []


def ready(program: Program, keep: Set[str], device: str) -> "Ideal":
    """The program ready to run; one of those run last needs no second proof, whatever chips it is mapped on."""
    wanted = (keep, device, int8.is_available())
    for known, how, machine in _ready:
        if known is program and how == wanted:
            return machine
    machine = Ideal(program, keep, device)
    _ready[:] = [(program, wanted, machine), *_ready[: _READY - 1]]
    return machine


class Ideal:
    """A program made ready to run, for runs that keep the values `keep`. Images per chunk may vary; the values do not depend on it."""

    def __init__(self, program: Program, keep: Set[str] = frozenset(), device: str = "cpu") -> None:
        self.program = program
        self._fused: dict[str, tuple[Fire, Product | Banded]] = {}
        self._pooled: dict[str, tuple[Fire, MaxPool2d, Banded]] = {}
        self._inside: set[str] = set()  # values that exist only in a kernel, or in an order of its own
        self._steps: dict[str, Callable[..., Tensor]] = {}
        self._notes: list[str] = []
        images, given = unflattened(program), set[str]()  # what an op before gives too
        for op in program.ops:
            if op.out in given:
                continue
            fire = fired_by(program, op.out) if isinstance(op, Conv2d | Dense) and op.out not in keep and device == "cpu" else None
            if fire is not None and isinstance(op, Conv2d | Dense):
                pool = pooled_by(program, fire.out) if fire.out not in keep else None
                windows = pool.kernel if pool else (1, 1)
                product = int8.counts(op, program.types[op.inputs[0]], fire, fire.type.min, fire.type.max, images.get(op.inputs[0]), windows)
                if product:
                    self._inside.add(op.out)
                    given.add(fire.out)
                    if pool and isinstance(product, Banded) and product.pool == windows:
                        self._pooled[op.out] = fire, pool, product
                        self._inside.add(fire.out)
                        given.add(pool.out)
                    else:
                        self._fused[op.out] = fire, product
                    self._notes.append(f"{op.out}, {fire.out}: fired in the kernel of its int8 products, proven at every step")
                    continue
            done = self._steps[op.out] = step(program, op, images, device)
            if isinstance(done, Linear | Floor | Product | Banded):
                self._notes.append(f"{op.out}: {done.note()}")
        sums = {name: made.dtype for name, made in self._steps.items() if isinstance(made, Linear | Product | Banded)}
        made = [name for name in program.types if name not in self._fused and name not in self._pooled]
        self.largest = max(math.prod(program.types[name].shape) * sums.get(name, stored(program.types[name].type)).itemsize for name in made)
        """Bytes of the largest value of an image, as it is made here."""

    def run(self, images: Tensor, keep: Set[str], first: int = 0, rasters: Set[str] = frozenset(), summed: Summed = NOTHING) -> Ran:
        """The values named in `keep`, each `[n, ...]`, of images `[n, ...]`; no spikes, so no account of them.

        Sums, and counts that a maximum alone reads, can be kept only if they were named when the machine was made.
        """
        assert not self._inside & keep, f"{sorted(self._inside & keep)} exist only inside a kernel"
        seen = Totals(self.program, summed)
        return Ran(walk(self.program, images, lambda op, inputs: self._compute(op, inputs, seen), keep, seen), seen.each, seen.whole)

    def notes(self) -> tuple[str, ...]:
        """Which route each layer took, and in which arithmetic it is exact; one line per layer, or per op that sums or fires."""
        return tuple(self._notes)

    def _compute(self, op: Op, inputs: list[Tensor], seen: Totals) -> dict[str, Tensor]:
        if op.out in self._pooled:
            fire, pool, product = self._pooled[op.out]
            counts = product.all(inputs[0])
            largest, total = product.pooled(counts)
            if total is not None:
                seen.know(fire.out, total)
            return {fire.out: counts.view(len(inputs[0]), -1), pool.out: largest}
        if op.out in self._fused:
            fire, product = self._fused[op.out]
            return {fire.out: product(inputs[0])}
        return {op.out: self._steps[op.out](*inputs)}
