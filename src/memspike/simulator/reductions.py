"""Sums and maxima of bytes: by numpy and torch, and in compiled loops (numba) once a process has taken so many maxima that loading them has paid."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.integer import Integers

PAYS = 1 << 32  # bytes whose maxima and sums take about half a second less in loops, which is what these take to load
_BYTE = 255  # the largest size of a byte
_num_bytes = 0  # whose maxima were taken in this process


def sums(rows: NDArray[np.uint8 | np.int8], largest: int) -> Integers:
    """The sums over `n` of bytes `[n, width]` without their signs, which are at most `largest`, int64 `[width]`, exact."""
    if _num_bytes > PAYS:
        return _sums_loop()(rows)
    # abs(-128) overflows int8 to the byte that means 128 without a sign
    sizes = np.abs(rows).view(np.uint8) if rows.dtype == np.int8 else rows
    per_byte = 255 // largest  # so many rows add up within a byte, at the speed of memory
    whole = len(rows) // per_byte * per_byte
    partial = np.add.reduce(sizes[:whole].reshape(-1, per_byte, rows.shape[1]), axis=1, dtype=np.uint8)
    found = np.add.reduce(partial, axis=0, dtype=np.uint16 if len(partial) < 257 else np.uint32)  # 257 bytes fit 16 bits
    found += np.add.reduce(sizes[whole:], axis=0, dtype=np.uint8)
    return found.astype(np.int64)


def maxima(found: Tensor) -> tuple[Tensor, int | None]:
    """Of bytes `[n, area, width]` the largest over the area `[n, width]`, and the sum of all without their signs, if it has been taken on the way."""
    global _num_bytes
    _num_bytes += found.nbytes
    if _num_bytes > PAYS:
        largest = found.new_empty(found.shape[::2])
        return largest, int(_maxima_loop(found.shape[1])(found.numpy(), largest.numpy()))
    while found.shape[1] > 1:  # one half against the other; of an odd number one is in both
        half = (found.shape[1] + 1) // 2
        found = torch.maximum(found[:, :half], found[:, -half:])
    return found[:, 0], None


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    from memspike.simulator.loops import compiled  # numba takes long to load

    return compiled(loop)


@lru_cache(maxsize=1)
def _sums_loop() -> Callable[..., Any]:
    together = 65535 // _BYTE  # rows whose sums fit 16 bits

    def loop(rows: Any) -> Any:
        total, part = np.zeros(rows.shape[1], np.int64), np.empty(rows.shape[1], np.uint16)
        for start in range(0, len(rows), together):
            part[:] = 0
            for n in range(start, min(start + together, len(rows))):
                row = rows[n]
                for i in range(len(row)):
                    part[i] += np.uint16(abs(np.int16(row[i])))
            for i in range(len(part)):
                total[i] += part[i]
        return total

    return _compiled(loop)


@lru_cache(maxsize=64)
def _maxima_loop(area: int) -> Callable[..., Any]:
    """The loop for one area, which is a constant in it: the compiler unrolls it, and goes along the width in vectors."""
    narrow = np.uint16 if area * _BYTE < 1 << 16 else np.uint32
    together = ((1 << (8 * np.dtype(narrow).itemsize)) - 1) // (area * _BYTE)  # windows whose sums fit the narrow type

    def loop(found: Any, largest: Any) -> Any:
        sizes, total = np.empty(found.shape[2], narrow), np.uint64(0)
        for start in range(0, len(found), together):
            sizes[:] = 0
            for n in range(start, min(start + together, len(found))):
                window, into = found[n], largest[n]
                for i in range(len(into)):
                    most = window[0, i]
                    size = narrow(abs(np.int16(most)))
                    for place in range(1, area):
                        most = max(most, window[place, i])
                        size = narrow(size + narrow(abs(np.int16(window[place, i]))))
                    into[i] = most
                    sizes[i] += size
            total += np.uint64(sizes.sum())
        return total

    return _compiled(loop)
