"""Chunks: every image once, in order, on all threads, with no more in memory than there are threads."""

import threading

import numpy as np
import pytest
import torch

from chips import test_chip
from memspike.errors import SimulationError
from memspike.mapper import map as map_program
from memspike.simulator import simulate
from memspike.simulator.chunks import chunk_size, in_chunks
from small_programs import small_network


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 16, (n, 2, 8, 8))


def test_every_image_once_and_in_order(three_threads):
    found = list(in_chunks(lambda chunk, start: (start, chunk.clone()), small_network(), images(10), 4))
    assert [(start, stop) for start, stop, _ in found] == [(0, 4), (4, 8), (8, 10)] == [(s, min(s + 4, 10)) for _, _, (s, _) in found]
    assert np.array_equal(torch.cat([chunk for _, _, (_, chunk) in found]).numpy(), images(10))


def test_chunks_run_side_by_side_with_one_thread_each(three_threads):
    """Three chunks meet at a barrier: one thread alone would wait for ever, and fail."""
    together = threading.Barrier(3, timeout=20)

    def run(chunk, start):
        together.wait()
        return torch.get_num_threads()

    assert [threads for *_, threads in in_chunks(run, small_network(), images(3), 1)] == [1, 1, 1]
    assert torch.get_num_threads() == 3


def test_no_more_chunks_wait_than_threads_can_take(three_threads):
    started: list[int] = []
    chunks = in_chunks(lambda chunk, start: started.append(start), small_network(), images(40), 1)
    next(chunks)
    assert len(started) <= 4
    chunks.close()
    assert len(started) <= 4 and torch.get_num_threads() == 3


def test_an_error_in_a_thread_is_the_callers(three_threads):
    def run(chunk, start):
        if start == 2:
            raise SimulationError("broken")

    with pytest.raises(SimulationError, match="broken"):
        list(in_chunks(run, small_network(), images(5), 1))
    assert torch.get_num_threads() == 3


def test_chunks_are_chosen_by_the_largest_value():
    assert chunk_size(small_network(), 3 * 8 * 8 * 10, None) == 10
    assert chunk_size(small_network(), 1, None) == 1
    assert chunk_size(small_network(), 1 << 30, None) == 256
    assert chunk_size(small_network(), 1, 1000) == 1000
    with pytest.raises(SimulationError, match="batch_size is 0"):
        simulate(map_program(small_network(), test_chip()), images(1), batch_size=0)
