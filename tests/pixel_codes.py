"""Random pixel codes for lines of so many bits."""

from hypothesis import strategies as st

from memspike.integer import IntType
from memspike.pixels import DITHERS, PixelCode


def pixel_codes(bits: int) -> st.SearchStrategy[PixelCode]:
    lines = st.integers(1, max(1, min(9, 255 // IntType(bits).max)))
    return st.builds(PixelCode, st.sampled_from(DITHERS), lines, st.integers(0, 100) | st.just(0), st.integers(101, 255) | st.just(255))
