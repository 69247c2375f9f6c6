"""What a walk sums up on its way, and how large its values are."""

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from memspike.integer import IntType
from memspike.simulator import int8
from memspike.simulator.ideal import Ideal
from memspike.simulator.kernels import channels_first, exact_arithmetic, stored
from memspike.simulator.walk import total, totals_over_images
from reducing import with_loops
from small_programs import small_network


@given(st.integers(1, 12), st.booleans(), st.integers(1, 600), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
@example(8, False, 258, True, True, 0)
@example(8, True, 300, False, True, 0)
@example(8, True, 1, True, True, 0)
def test_totals_are_those_of_plain_integers(bits: int, signed: bool, number: int, is_image: bool, extreme: bool, seed: int) -> None:
    """Whatever fits into a byte while images are added, and images at their limits: -128 too, which has no positive byte."""
    type = IntType(max(bits, 1 + signed), signed=signed)
    shape = (number, 2, 3, 4) if is_image else (number, 6)
    values = np.random.default_rng(seed).integers(type.min, type.max + 1, shape)
    if extreme:
        values[:] = type.min if signed else type.max
    held = torch.from_numpy(values).to(stored(type))
    for images in (held, channels_first(held.movedim(1, -1).contiguous()) if is_image else held):
        found = totals_over_images(images, type)
        assert found.dtype == np.int64 and np.array_equal(found, np.abs(values).sum(axis=0))
        assert total(images, type) == np.abs(values).sum()
        with with_loops():
            assert np.array_equal(totals_over_images(images, type), found) and total(images, type) == np.abs(values).sum()


def test_the_largest_value_is_counted_in_bytes_as_it_is_made(monkeypatch) -> None:
    """Sums that stay inside the kernel of their product take no room; those that lie open take four bytes each, or eight."""
    program = small_network()
    with exact_arithmetic():
        fused = Ideal(program).largest
        monkeypatch.setattr(int8, "is_available", lambda: False)
        assert Ideal(program).largest == 4 * max(np.prod(program.types[op.out].shape) for op in program.ops if op.out.endswith("sum"))
    assert fused <= Ideal(program).largest
