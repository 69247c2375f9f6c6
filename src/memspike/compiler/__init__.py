"""The compiler: a QuantizedNetwork becomes a Program; reals end here."""

from collections.abc import Mapping

from memspike.chip import PartialSums
from memspike.compiler.lower import lower
from memspike.compiler.passes import Repeat, SplitPartialSums
from memspike.errors import ModelError, ProgramError, expect
from memspike.network import QuantizedNetwork
from memspike.program import Program

__all__ = ["Repeat", "SplitPartialSums", "compile"]


def compile(
    network: QuantizedNetwork, *, partial_sums: PartialSums = "analog", rows: int | None = None, extra_bits: int = 2, repeat: Mapping[str, int] | None = None
) -> Program:
    """The integer program of a trained network.

    With `partial_sums="analog"` every count equals the network's real number, rounded half up and clipped, for every image; the note
    "compile" says so breakpoint by breakpoint, or how many moved. With `"digital"` every layer of more than `rows` crossbar rows is cut into
    tiles that count for themselves, `extra_bits` finer than the layer: see SplitPartialSums.

    The ops named in `repeat` are written so many times, which changes no count and makes them bear more errors: see Repeat.

    Raises ModelError naming the layer that cannot be compiled, and ProgramError when integers overflow, `partial_sums` is unknown, or
    `"digital"` comes without `rows`.
    """
    expect(network, QuantizedNetwork, ModelError, "one that training froze: ms.train(...), training.freeze(net), or ms.load of a saved one")
    program = lower(network)
    for op, times in (repeat or {}).items():
        program = Repeat(op, times).apply(program)
    if partial_sums == "analog":
        return program
    if partial_sums != "digital":
        raise ProgramError(f"partial_sums is {partial_sums!r}; expected 'analog' or 'digital'", where="compile")
    if rows is None:
        raise ProgramError("digital partial sums depend on the crossbar", where="compile", cure="pass rows=chip.crossbar.rows")
    return SplitPartialSums(rows, extra_bits).apply(program)
