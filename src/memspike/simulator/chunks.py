"""Images in chunks, each run from end to end by one thread, so that no thread ever waits for another inside an op."""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from operator import length_hint
from threading import Semaphore
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from memspike.integer import Integers
from memspike.ops import Conv2d, Dense, TensorType
from memspike.program import Program
from memspike.simulator.kernels import carrier_of, channels_first, channels_last, stored

MAX_CHUNK = 512
LEAST = 8  # parts of a chunk, of which one is still worth the work that any chunk is
MEMORY = 1 << 30  # bytes of all chunks that are being computed
BLOCKS = 1 << 24  # bytes that a thread may need beside its images, for several timesteps of a layer at once
R = TypeVar("R")


def chunk_size(program: Program, most: int, num_images: int, device: str = "cpu", largest: int | None = None) -> int:
    """Images per chunk: up to `MAX_CHUNK`, so many that all threads stay within `MEMORY` and the largest value of a chunk within `most`. Of fewer images
    than that every thread gets its share, unless it would be smaller than a chunk is worth.

    `largest` is the size of an image's largest value, in elements if it is not given.
    """
    largest, num_threads = largest or max(math.prod(type.shape) for type in program.types.values()), _num_threads(program, device)
    by_memory = (MEMORY // num_threads - BLOCKS) // bytes_per_image(program)
    size = min(MAX_CHUNK, max(1, min(by_memory, most // largest)))
    rounds = max(1, math.ceil(num_images / (size * num_threads)))
    return max(math.ceil(num_images / (rounds * num_threads)), math.ceil(size / LEAST))


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
    """`run(chunk, start)` of every chunk of the images, on `torch.get_num_threads()` threads, the caller's among them; yields (start, stop, what it
    returned) in order.

    Splitting every op over the threads instead would make them meet thousands of times per image: far slower when another program needs a core.
    Where one image takes so much that several would pass `MEMORY`, fewer threads run; one thread feeds another device.
    """
    num_threads = _num_threads(program, device)
    dtype = stored(program.input_type.type)
    starts = range(0, len(images), size)
    found: dict[int, Future[R]] = {}  # of the chunks that are at work or wait for the caller
    untaken, room = iter(range(len(starts))), Semaphore(2 * num_threads)  # as many may wait for the caller as are at work

    def one(number: int) -> None:
        start, future = starts[number], found.setdefault(number, Future())
        try:
            counts = np.ascontiguousarray(images[start : start + size], dtype=np.uint8 if dtype == torch.uint8 else np.int64)
            chunk = torch.from_numpy(counts if counts.flags.writeable else counts.copy())  # torch warns of arrays that it could write to
            with torch.inference_mode():  # it belongs to the thread that enters it
                ran = run(channels_first(channels_last(chunk.to(device, dtype))), start)
        except BaseException as error:  # whoever waits for this chunk must know
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            future.set_result(ran)

    def work(until: Future[R] | None = None) -> None:
        while not (until and until.done()) and room.acquire(blocking=False) and (number := next(untaken, None)) is not None:
            one(number)

    def help() -> None:
        torch.set_num_threads(1)
        work()

    with one_thread_per_op():
        helping: list[Future[None]] = []
        try:
            for number, start in enumerate(starts):
                helping = [helper for helper in helping if not helper.done()]  # some may have found no room
                wanted = min(num_threads, length_hint(untaken)) - 1
                helping += [_helpers(num_threads - 1).submit(help) for _ in range(wanted - len(helping))]
                future = found.setdefault(number, Future())
                work(until=future)
                wait([future])  # before it leaves `found`, where a helper may still look for it
                yield start, min(start + size, len(images)), found.pop(number).result()
                room.release()
        finally:
            deque(untaken, maxlen=0)  # nothing more is begun
            wait([helper for helper in helping if not helper.cancel()])


@lru_cache(maxsize=1)
def _helpers(number: int) -> ThreadPoolExecutor:
    """Threads that wait for the next simulation: new ones may run for milliseconds on the caller's core before they are given one of their own."""
    return ThreadPoolExecutor(number, "memspike")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not live on in a child


def _num_threads(program: Program, device: str) -> int:
    if device != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), MEMORY // (bytes_per_image(program) + BLOCKS)))


def _bytes(type: TensorType) -> int:
    return math.prod(type.shape) * stored(type.type).itemsize


def _carried(type: TensorType) -> int:
    return carrier_of(type.type).itemsize


@contextmanager
def one_thread_per_op() -> Generator[None]:
    """Inside, every op of torch runs on the thread that calls it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
