"""Images in chunks, each run from end to end by one thread, so that no thread ever waits for another inside an op."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from memspike.errors import SimulationError
from memspike.integer import Integers
from memspike.program import Program
from memspike.simulator.kernels import carrier_of

MAX_CHUNK = 256
R = TypeVar("R")


def chunk_size(program: Program, max_elements: int, batch_size: int | None) -> int:
    """Images per chunk: `batch_size`, or so many that the program's largest value stays within `max_elements`, up to 256."""
    if batch_size is not None and batch_size < 1:
        raise SimulationError(f"batch_size is {batch_size}; at least one image is computed at once")
    largest = max(math.prod(type.shape) for type in program.types.values())
    return batch_size or min(MAX_CHUNK, max(1, max_elements // largest))


def in_chunks(run: Callable[[Tensor, int], R], program: Program, images: Integers, size: int) -> Iterator[tuple[int, int, R]]:
    """`run(chunk, start)` of every chunk of the images, on `torch.get_num_threads()` threads; yields (start, stop, what it returned) in order.

    Splitting every op over the threads instead would make them meet thousands of times per image: far slower when another program needs a core.
    """
    num_threads = torch.get_num_threads()

    def one(start: int) -> R:
        chunk = np.asarray(images[start : start + size], dtype=np.int64)
        with torch.inference_mode():  # it belongs to the thread that enters it
            return run(torch.from_numpy(chunk).to(carrier_of(program.input_type.type)), start)

    waiting: deque[tuple[int, Future[R]]] = deque()
    with _one_thread_per_op(), ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for start in range(0, len(images), size):
                waiting.append((start, pool.submit(one, start)))
                if len(waiting) > num_threads:  # so much and no more is held in memory
                    yield _first(waiting, size, len(images))
            while waiting:
                yield _first(waiting, size, len(images))
        finally:
            for _, future in waiting:
                future.cancel()


def _first(waiting: deque[tuple[int, Future[R]]], size: int, num_images: int) -> tuple[int, int, R]:
    start, future = waiting.popleft()
    return start, min(start + size, num_images), future.result()


@contextmanager
def _one_thread_per_op() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
