"""Fidelity "ideal": the integers themselves, equal to Program.evaluate on every value, at the speed of floating-point matrix products."""

from collections.abc import Set

from torch import Tensor

from memspike.ops import Op
from memspike.program import Program
from memspike.simulator.kernels import Floor, Linear, step, walk


class Ideal:
    """A program made ready to run. Images per chunk may vary; the values do not depend on it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._steps = {op.out: step(program, op) for op in program.ops}

    def run(self, images: Tensor, keep: Set[str], first: int = 0, rasters: Set[str] = frozenset()) -> tuple[dict[str, Tensor], None]:
        """The values named in `keep`, each `[n, ...]`, of images `[n, ...]`; no spikes, so no account of them."""
        return walk(self.program, images, self._compute, keep), None

    def notes(self) -> tuple[str, ...]:
        """In which arithmetic each layer was proven exact, one line per op that sums or fires."""
        return tuple(
            f"{name}: {'sums' if isinstance(step, Linear) else 'counts'} exact in {str(step.dtype).removeprefix('torch.')}"
            for name, step in self._steps.items()
            if isinstance(step, Linear | Floor)
        )

    def _compute(self, op: Op, inputs: list[Tensor]) -> dict[str, Tensor]:
        return {op.out: self._steps[op.out](*inputs)}
