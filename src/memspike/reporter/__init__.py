"""Reporter: networks, designs and a summary become a Report that can be read, printed, and taken apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from memspike.errors import MemspikeError, expect
from memspike.network import QuantizedNetwork
from memspike.reporter.report import Design, Report
from memspike.reporter.sections import sections
from memspike.reporter.specimens import report_chips
from memspike.reporter.text import print_report

__all__ = ["Design", "Report", "print_report", "report", "report_chips"]


def report(network: QuantizedNetwork, designs: Sequence[tuple[Design, Design]], summary: Mapping[str, Any], *, title: str | None = None) -> Report:
    """Everything that was found, as one report.

    Args:
        network: what training left; its notes fill the sections on data and training, and may be empty.
        designs: pairs of (memspike design, baseline design), one pair per chip; the first pair is the headline.
        summary: `accuracy` by network (`fp32` and `program` at least, fractions), and what else `result.json` has, as far as it is known:
            num_test_images, checks, provenance; and cost, baseline and ratio, which must be the designs' own.
        title: by default the program's name and the chip's.

    Raises MemspikeError when there is no pair, when a pair sits on two chips, or when the summary contradicts the designs.
    """
    if not designs:
        raise MemspikeError("a report needs at least one pair of designs, got none", where="designs")
    expect(network, QuantizedNetwork, MemspikeError, "the one that was compiled; its notes may be empty")
    for design, baseline in designs:
        for each in (design, baseline):
            expect(each, Design, MemspikeError, "memspike.reporter.Design(label, mapping, result, cost)")
        if design.mapping.chip.digest() != baseline.mapping.chip.digest():
            raise MemspikeError(
                f"{design.label} is on chip {design.mapping.chip.name}, {baseline.label} on {baseline.mapping.chip.name}",
                where="designs",
                cure="compare designs on the same chip",
            )
        if design.label == baseline.label:
            raise MemspikeError(f"both designs of a pair are called {design.label!r}", where="designs", cure="give them different labels")
    names = [design.mapping.chip.name for design, _ in designs]
    if len(set(names)) < len(names):
        raise MemspikeError(f"two pairs are on the same chip: {', '.join(names)}", where="designs")
    return Report(title or f"{network.name} on {names[0]}", sections(network, designs, summary))
