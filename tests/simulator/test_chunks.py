"""Chunks: every image once, in order, on all threads, with no more in memory than threads have at work and as many that are done."""

import concurrent.futures
import multiprocessing
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from chips import test_chip
from memspike.errors import ProgramError, SimulationError
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.ops import Add, Charge, Conv2d, Dense, Fire, Flatten, MaxPool2d, TensorType
from memspike.program import Program
from memspike.simulator import chunks, int8, simulate
from memspike.simulator.chunks import BLOCKS, LEAST, MAX_CHUNK, bytes_per_image, chunk_size, in_chunks
from memspike.simulator.ideal import Ideal
from memspike.simulator.kernels import exact_arithmetic
from memspike.simulator.spike import Spike
from memspike.simulator.walk import Summed
from small_programs import small_network, weights


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
    all_are_there = threading.Event()

    def run(chunk, start):
        started.append(start)
        if len(started) == 6:
            all_are_there.set()

    begun = in_chunks(run, small_network(), images(40), 1)
    next(begun)
    assert all_are_there.wait(timeout=20), "the others work while the caller does something else"
    begun.close()
    assert len(started) == 6 and torch.get_num_threads() == 3


def test_threads_wait_for_the_next_simulation_and_not_for_one_that_is_over(three_threads):
    """The same threads each time, even where a run was left half-way; and a child, which has none of them, makes its own."""
    left = in_chunks(lambda chunk, start: start, small_network(), images(40), 1)
    next(left)
    torch.set_num_threads(3)  # one, as long as it is not over
    first, second = _threads(), _threads()
    assert first == second and threading.current_thread() in first
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as child:
        assert child.submit(_in_a_child).result(timeout=60) == 3


def _threads() -> set[threading.Thread]:
    """The three threads that three chunks meet on."""
    together = threading.Barrier(3, timeout=20)

    def run(chunk, start):
        together.wait()
        return threading.current_thread()

    return {thread for *_, thread in in_chunks(run, small_network(), images(3), 1)}


def _in_a_child() -> int:
    return len(_threads())


def test_what_the_caller_has_taken_is_let_go(three_threads):
    alive: list[weakref.ref[torch.Tensor]] = []

    def run(chunk, start):
        made = chunk.clone()
        alive.append(weakref.ref(made))
        return made

    for _ in in_chunks(run, small_network(), images(40), 1):
        assert sum(ref() is not None for ref in alive) <= 6 + 1, "those for which there is room, and the caller's"


def test_a_chunk_that_a_helper_has_only_just_taken_is_waited_for(three_threads, monkeypatch):
    """It has its number, but nobody else can see that yet: here because making what the others wait for takes it long."""

    class Slow(concurrent.futures.Future):
        def __init__(self) -> None:
            if threading.current_thread() is not threading.main_thread():
                time.sleep(0.05)
            super().__init__()

    def run(chunk, start):
        time.sleep(0.005)
        return start

    monkeypatch.setattr(chunks, "Future", Slow)
    assert [start for start, *_ in in_chunks(run, small_network(), images(12), 1)] == list(range(12))


def test_an_error_in_a_thread_is_the_callers(three_threads):
    def run(chunk, start):
        if start == 2:
            raise SimulationError("broken")

    with pytest.raises(SimulationError, match="broken"):
        list(in_chunks(run, small_network(), images(5), 1))
    assert torch.get_num_threads() == 3


class Accounting(TorchDispatchMode):
    """Counts the bytes of all tensors that live at once, of those made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if not isinstance(tensor, torch.Tensor) or tensor.is_mkldnn:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return made

    def _forget(self, known: int, size: int) -> None:
        self._known.discard(known)
        self.live -= size


@pytest.mark.parametrize("route", ["int8 where proven", "floats"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("fidelity", ["ideal", "spike"])
def test_images_take_no_more_memory_than_was_foreseen(fidelity, bits, route, monkeypatch):
    """Tensors are counted as they are made and forgotten; what was foreseen is neither passed nor many times too much."""
    if route == "floats":
        monkeypatch.setattr(int8, "is_available", lambda: False)
    channels, type = (8, 16), IntType(bits)
    ops = (
        Conv2d("a.sum", ("x",), weights(0, channels[0], 3, 3, 3), IntType(4, signed=True), padding=(1, 1)),
        Fire("a", ("a.sum",), np.full(channels[0], 40), np.zeros(channels[0], np.int64), 0, type),
        Conv2d("b.sum", ("a",), weights(1, channels[1], channels[0], 3, 3), IntType(4, signed=True), stride=(2, 2)),
        Fire("b", ("b.sum",), np.full(channels[1], 90), np.zeros(channels[1], np.int64), 0, type),
        Flatten("flat", ("b",)),
    )
    program = Program("two", "x", TensorType((3, 24, 24), type), ops, "flat")
    mapping = map_program(program, test_chip(64, 64))
    counts = torch.from_numpy(np.random.default_rng(0).integers(0, 1 << bits, (48, 3, 24, 24)))
    with exact_arithmetic():
        machine = Ideal(program) if fidelity == "ideal" else Spike(mapping, "even", "up_down", 0)
        with Accounting() as account:
            machine.run(counts, frozenset(["flat"]), summed=Summed(frozenset(program.types)))
    foreseen = 48 * bytes_per_image(program) + BLOCKS
    assert account.peak <= foreseen and 48 * bytes_per_image(program) <= 40 * account.peak


def test_memory_decides_how_many_images_and_threads_work_at_once(three_threads):
    """A value of 2**26 elements: at 40 bytes each it passes a gigabyte by itself, so that one thread runs, image by image."""
    ops = (Add("y", ("x",), IntType(4)), MaxPool2d("z", ("y",), (64, 64), (64, 64)), Flatten("flat", ("z",)))
    wide = Program("wide", "x", TensorType((1, 8192, 8192), IntType(4)), ops, "flat")
    assert chunk_size(wide, 1 << 40, 10) == 1 and bytes_per_image(wide) > 1 << 30
    together = threading.Barrier(2, timeout=0.5)

    def run(chunk, start):
        with pytest.raises(threading.BrokenBarrierError):
            together.wait()

    few = np.broadcast_to(np.zeros((), np.uint8), (2, 1, 8192, 8192))
    assert len(list(in_chunks(run, wide, few, 1))) == 2
    middle = replace(wide, input_type=TensorType((1, 1024, 1024), IntType(4)))
    assert 1 <= chunk_size(middle, 1 << 40, 1 << 20) * bytes_per_image(middle) * 3 <= 1 << 30


def test_chunks_are_chosen_by_the_largest_value(three_threads):
    """And so that all threads have as many, of nearly one size."""
    network, largest = small_network(), 3 * 8 * 8
    assert chunk_size(network, largest * 10, 3000) == 10
    assert chunk_size(network, 1, 3000) == 1
    assert chunk_size(network, 1 << 30, 3000 * MAX_CHUNK) == MAX_CHUNK
    assert chunk_size(network, largest * 10, 31) == 6, "two rounds of three threads"
    assert chunk_size(network, 1 << 30, 300) == 100 and chunk_size(network, 1 << 30, 300, "cuda") == 300
    assert chunk_size(network, 1 << 30, 30) == chunk_size(network, 1 << 30, 0) == MAX_CHUNK // LEAST, "less is not worth a thread"
    with pytest.raises(SimulationError, match="batch_size is 0"):
        simulate(map_program(small_network(), test_chip()), images(1), batch_size=0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fidelity", ["ideal", "spike"])
def test_what_the_caller_computes_in_changes_nothing(fidelity, threads):
    """Autocast belongs to a thread, and the caller's computes chunks; images may come in any layout, too."""
    rng, before = np.random.default_rng(0), torch.get_num_threads()
    dense = Dense("y", ("x",), rng.integers(-500, 501, (10, 400)), IntType(10, signed=True))
    ops = (dense, Charge("z", ("y",), np.zeros(10, np.int64), 0))
    mapping = map_program(Program("wide", "x", TensorType((400,), IntType(4)), ops, "z"), test_chip(64, 64))
    counts = rng.integers(0, 16, (64, 400), dtype=np.uint8)[::-1, ::-1]
    torch.set_num_threads(threads)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = simulate(mapping, counts, fidelity=fidelity, batch_size=16).outputs
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found, mapping.program.evaluate(counts))


def test_images_beyond_their_type_are_named_as_they_are():
    mapping = map_program(small_network(), test_chip())
    with pytest.raises(ProgramError, match="3 to 16"):
        simulate(mapping, np.full((1, 2, 8, 8), 3, np.uint8) + np.eye(8, dtype=np.uint8) * 13)
