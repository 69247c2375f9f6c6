"""Reductions of bytes in compiled loops from the first byte on, or never."""

from collections.abc import Generator
from contextlib import contextmanager

from memspike.simulator import reductions


@contextmanager
def with_loops() -> Generator[None]:
    yield from _paying(-1)


@contextmanager
def without_loops() -> Generator[None]:
    yield from _paying(1 << 62)


def _paying(num_bytes: int) -> Generator[None]:
    before, reductions.PAYS = reductions.PAYS, num_bytes
    try:
        yield
    finally:
        reductions.PAYS = before
