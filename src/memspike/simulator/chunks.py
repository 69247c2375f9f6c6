"""Images in chunks, each run from end to end by one thread, so that no thread ever waits for another inside an op."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from memspike.integer import Integers
from memspike.ops import Conv2d, Dense, TensorType
from memspike.program import Program
from memspike.simulator.kernels import carrier_of, channels_first, channels_last, stored

MAX_CHUNK = 512
MEMORY = 1 << 30  # bytes of all chunks that are being computed
BLOCKS = 1 << 24  # bytes that a thread may need beside its images, for several timesteps of a layer at once
R = TypeVar("R")


def chunk_size(program: Program, most: int, batch_size: int | None, largest: int | None = None) -> int:
    """Images per chunk: `batch_size`, or up to `MAX_CHUNK`, so many that all threads stay within `MEMORY` and the largest value of a chunk within `most`.

    `largest` is the size of an image's largest value, in elements if it is not given.
    """
    largest = largest or max(math.prod(type.shape) for type in program.types.values())
    by_memory = (MEMORY // _num_workers(program) - BLOCKS) // bytes_per_image(program)
    return batch_size or min(MAX_CHUNK, max(1, min(by_memory, most // largest)))


@lru_cache(maxsize=4)
def bytes_per_image(program: Program) -> int:
    """The most that one image takes while its ops are computed: the values that wait for a reader, and one op at work on its slowest route.

    That route carries its inputs and sums in floats or int64, reorders both, and makes counts of the sums in further copies. Where no float is wide
    enough, every window of the image is copied as int64.
    """
    last_reader = {name: op.out for op in program.ops for name in op.inputs}
    waiting = {program.input: _bytes(program.types[program.input])}
    most = 0
    for op in program.ops:
        inputs, out = [program.types[name] for name in op.inputs], program.types[op.out]
        wide = max(_carried(type) for type in (*inputs, out))
        working = wide * (4 * sum(math.prod(type.shape) for type in inputs) + 6 * math.prod(out.shape))
        if isinstance(op, Conv2d | Dense) and carrier_of(out.type) == torch.int64:
            working += 2 * wide * math.prod(op.weight.shape[1:]) * op.groups * math.prod(out.shape[1:])
        waiting[op.out] = _bytes(out)
        most = max(most, sum(waiting.values()) + working)
        for name in set(op.inputs):
            if last_reader[name] == op.out:
                del waiting[name]
    return most


def in_chunks(run: Callable[[Tensor, int], R], program: Program, images: Integers, size: int, device: str = "cpu") -> Iterator[tuple[int, int, R]]:
    """`run(chunk, start)` of every chunk of the images, on `torch.get_num_threads()` threads; yields (start, stop, what it returned) in order.

    Splitting every op over the threads instead would make them meet thousands of times per image: far slower when another program needs a core.
    Where one image takes so much that several would pass `MEMORY`, fewer threads run; one thread feeds another device.
    """
    num_threads = _num_workers(program) if device == "cpu" else 1
    dtype = stored(program.input_type.type)

    def one(start: int) -> R:
        counts = np.asarray(images[start : start + size], dtype=np.uint8 if dtype == torch.uint8 else np.int64)
        chunk = torch.from_numpy(counts if counts.flags.writeable else counts.copy())  # torch warns of arrays that it could write to
        with torch.inference_mode():  # it belongs to the thread that enters it
            return run(channels_first(channels_last(chunk.to(device, dtype))), start)

    waiting: deque[tuple[int, Future[R]]] = deque()
    with one_thread_per_op(), ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
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


def _num_workers(program: Program) -> int:
    return max(1, min(torch.get_num_threads(), MEMORY // (bytes_per_image(program) + BLOCKS)))


def _bytes(type: TensorType) -> int:
    return math.prod(type.shape) * stored(type.type).itemsize


def _carried(type: TensorType) -> int:
    return carrier_of(type.type).itemsize


def _first(waiting: deque[tuple[int, Future[R]]], size: int, num_images: int) -> tuple[int, int, R]:
    start, future = waiting.popleft()
    return start, min(start + size, num_images), future.result()


@contextmanager
def one_thread_per_op() -> Generator[None]:
    """Inside, every op of torch runs on the thread that calls it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
