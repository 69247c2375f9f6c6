"""Sums and maxima of bytes, with and without compiled loops."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from memspike.simulator import reductions
from reducing import with_loops, without_loops


@given(st.sampled_from([np.uint8, np.int8]), st.integers(0, 70), st.integers(1, 10), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
@example(np.uint8, 3, 258, 5, True, 0)
@example(np.int8, 260, 4, 33, True, 0)
def test_maxima_are_numpys(dtype: type, number: int, area: int, width: int, extreme: bool, seed: int) -> None:
    """And so is the sum that a loop takes with them, of bytes at their limits too: -128 has no positive byte, and 258 times 255 passes 16 bits."""
    held = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(held.min, held.max + 1, (number, area, width)).astype(dtype)
    if extreme:
        values[:] = held.min or held.max
    for way, meant in ((without_loops, None), (with_loops, int(np.abs(values.astype(np.int64)).sum()))):
        with way():
            largest, total = reductions.maxima(torch.from_numpy(values))
        assert np.array_equal(largest.numpy(), values.max(axis=1)) and largest.dtype == torch.from_numpy(values).dtype
        assert total == meant


def test_loops_are_loaded_once_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never before: a process that runs a few thousand images and ends would only wait for them."""
    monkeypatch.setattr(reductions, "PAYS", 250)
    monkeypatch.setattr(reductions, "_num_bytes", 0)
    found = torch.ones(10, 5, 2, dtype=torch.uint8)
    assert [reductions.maxima(found)[1] for _ in range(4)] == [None, None, 100, 100]
