"""A window of neurons that fire while it lasts, spike by spike.

A spike adds its weights to the sums that it reaches, and nothing is done for a line that is silent. Exact: integers, as wide as the layer's bounds ask
for. What is laid out here, the compiled `loops` walk through.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspike.integer import Integers
from memspike.ops import Conv2d, Dense, Fire
from memspike.result import Encoder
from memspike.simulator import loops
from memspike.simulator.encode import Window
from memspike.simulator.kernels import channels_first, channels_last, stored
from memspike.simulator.layer import Layer
from memspike.simulator.loops import LANES, Lines, Neurons, Wires
from memspike.simulator.scan import BLOCK, Rule, Scanned, drain_raster, sums_between

WORTH = 16  # up to so many times a neuron's weights a window squared is less work than its spikes (tried on AVX2)
CHARGES = 1 << 23  # bytes of the lines of each count, and of what they have charged
_WIDTHS = tuple((np.dtype(sums), np.dtype(potentials)) for sums, potentials in (("int16", "int32"), ("int32", "int32"), ("int32", "int64"), ("int64", "int64")))


class SpikeBySpike:
    """A layer and its neurons as the loops want them. Negative spikes pass through the weights of the layer `opposite`; where that is None, through the
    layer's own with their signs turned.

    Raises OverflowError where a potential may pass int64.
    """

    def __init__(self, layer: Layer, fire: Fire, rule: Rule, opposite: Layer | None = None) -> None:
        self.layer, self.rule = layer, rule
        lowest, highest = sums_between(layer, opposite)
        largest = max(-lowest, highest)
        # c * threshold lags behind a potential without spikes, by less than what that has moved
        reach = 2 * ((largest << fire.fraction_bits) + int(np.abs(fire.charge).max()) + int(fire.threshold.max()))
        reach = max(reach, rule.high, -rule.low, rule.max_spikes * layer.num_timesteps)
        sums, potentials = _narrowest(largest, reach)
        self.note = f"spike by spike, charge in {sums.name}, potential in {potentials.name}"
        kernels = [_kernels(layer.op, layer.image, sums)]
        if layer.x.type.signed:
            kernels.append(_kernels(opposite.op, layer.image, sums) if opposite else -kernels[0])
        self._lines, self._wires, rows, width = _wired(layer, kernels)
        groups = layer.op.groups
        self._neurons = Neurons(
            _rows(fire.threshold, layer, width, potentials),
            _rows(fire.charge, layer, width, potentials),
            1 << fire.fraction_bits,
            rule.max_spikes,
            0 if rule.fires_down else np.iinfo(potentials).min,
            rule.drains,
            rule.low,
            rule.high,
        )
        self._sums, self._fired = (rows, width + LANES), (rows, width)
        self._dtypes, self._groups = (sums, potentials), groups
        # adding up what each count has costs a neuron half a window squared; taking every spike by itself, a part of its weights in each timestep
        size = (layer.num_timesteps + 1) * (rows * (width + LANES) * sums.itemsize + 8 * math.prod(layer.x.shape))
        self._is_by_count = layer.num_timesteps**2 <= WORTH * layer.op.weight[0].size and size <= CHARGES
        self._out = stored(fire.type) if fire.type.holds(rule.low, rule.high) and fire.type.bits <= 8 else torch.int64

    def run(self, window: Window, *, keep_raster: bool) -> Scanned:
        counts = _flat(window.counts, self.layer)
        counts = counts if counts.dtype == torch.uint8 else counts.to(torch.int64)
        out = torch.empty((len(counts), *self._fired), dtype=self._out)
        into = (out.view(torch.uint8) if out.itemsize == 1 else out).numpy()
        if self._is_by_count and window.encoder != "random":
            charges = np.empty((window.num_timesteps + 1, *self._sums), self._dtypes[0])
            spikes = _spikes(window.num_timesteps, window.encoder)
            num_fires, most = loops.run_counts(counts.numpy(), self._lines, spikes, self._wires, self._neurons, charges, into)
        else:
            sums, fired = self._room(len(counts))
            block = max(1, BLOCK // max(1, 8 * counts.numel()))
            num_fires = sum(self._step(before, sent, sums, fired) for before, sent in _sent(window, self.layer, block))
            more, most = loops.settle(sums, fired, self._neurons, into)
            num_fires += more
        return Scanned(self._shaped(out), int(num_fires), int(most), self._raster(window) if keep_raster else [])

    def _raster(self, window: Window) -> list[Tensor]:
        """The first image's spikes, timestep by timestep."""
        window = Window(window.counts[:1], window.num_timesteps, window.encoder, window.keys[:1])
        sums, fired = self._room(1)
        raster: list[Tensor] = []
        for before, sent in _sent(window, self.layer, 1):
            counted = fired.copy()
            self._step(before, sent, sums, fired)
            raster.append(self._shaped(torch.from_numpy(fired - counted))[0])
        counted = fired.copy()
        loops.settle(sums, fired, self._neurons, np.empty(fired.shape, np.int64))
        return raster + drain_raster(self._shaped(torch.from_numpy(fired - counted))[0], self.rule.max_spikes, len(raster))

    def _step(self, before: Integers, sent: Integers, sums: Integers, fired: Integers) -> int:
        return int(loops.run_sent(sent, before, self._lines, self._wires, self._neurons, sums, fired))

    def _room(self, num_images: int) -> tuple[Integers, Integers]:
        return np.zeros((num_images, *self._sums), self._dtypes[0]), np.zeros((num_images, *self._fired), self._dtypes[1])

    def _shaped(self, counts: Tensor) -> Tensor:
        """Counts `[n, rows, row]` as `[n, ...]` of the layer's neurons, their channels last in memory."""
        if len(self.layer.out) == 1:
            return counts.reshape(len(counts), -1)
        channels, height, width = self.layer.out
        parted = counts.reshape(len(counts), self._groups, height, width, channels // self._groups)
        return channels_first(parted.movedim(1, 3).reshape(len(counts), height, width, channels))


def _narrowest(total: int, potential: int) -> "tuple[np.dtype[Any], np.dtype[Any]]":
    """The first pair of integers, for sums and potentials, that holds both; few pairs, because the loops are compiled for each."""
    for pair in _WIDTHS:
        if total <= np.iinfo(pair[0]).max and potential <= np.iinfo(pair[1]).max:
            return pair
    raise OverflowError("past int64")


def _kernels(op: Conv2d | Dense, image: tuple[int, ...] | None, dtype: "np.dtype[Any]") -> NDArray[Any]:
    """The weights `[channels out, channels in of a group, rows, columns]`, a dense op's as those of an image of one pixel, its lines in the order in
    which they come; a dilated kernel has zeros in between."""
    weight = op.weight.astype(dtype)  # at once, because what is made of it is copied
    if isinstance(op, Dense):
        if image and op.groups == 1:
            weight = weight.reshape(len(weight), *image).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        return weight[:, :, None, None]
    (dh, dw), (kh, kw) = op.dilation, op.weight.shape[2:]
    spread = np.zeros((*weight.shape[:2], dh * (kh - 1) + 1, dw * (kw - 1) + 1), dtype)
    spread[:, :, ::dh, ::dw] = weight
    return spread


def _wired(layer: Layer, kernels: list[NDArray[Any]]) -> tuple[Lines, Wires, int, int]:
    """What sends, where its charge goes, and how many rows of how many sums there are, `LANES` further apart than they are long.

    With stride s an input at y reaches, through kernel row k, the output `(y + padding - k) / s` where that is whole: the rows of the kernel that do lie s
    apart, and reach outputs one apart, the later ones first. So do its columns. Weights are therefore laid out by the remainder of k, those of a row by the
    remainder of their column, backwards, each run with `LANES` of zeros behind it.
    """
    op = layer.op
    if isinstance(op, Conv2d):
        channels, in_height, in_width = layer.x.shape
        (sh, sw), (ph, pw), (_, height, width) = op.stride, op.padding, layer.out
    else:
        channels, in_height, in_width = math.prod(layer.x.shape), 1, 1
        (sh, sw), (ph, pw), (height, width) = (1, 1), (0, 0), (1, 1)
    outs, (kh, kw) = len(op.weight) // op.groups, kernels[0].shape[2:]
    row = width * outs + LANES
    run_starts, across = _run_starts(kw, sw, outs)
    weights = np.zeros((len(kernels), channels, kh, across), kernels[0].dtype)
    for sign, kernel in enumerate(kernels):
        by_line = kernel.reshape(op.groups, outs, -1, kh, kw).transpose(0, 2, 3, 4, 1).reshape(channels, kh, kw, outs)
        for k, place in enumerate(_by_remainder(kh, sh)):
            for rest in range(min(sw, kw)):
                run = by_line[:, place, rest::sw][:, ::-1].reshape(channels, -1)
                weights[sign, :, k, run_starts[rest] : run_starts[rest] + run.shape[1]] = run
    downward = [_reached(y + ph, kh, sh, height) for y in range(in_height)]
    sideward = [_reached(x + pw, kw, sw, width) for x in range(in_width)]
    first_of = {place: k for k, place in enumerate(_by_remainder(kh, sh))}
    places = np.zeros((in_height, in_width, 4), np.int32)
    for y, (rest_y, skipped_y, top, num_rows) in enumerate(downward):
        for x, (rest_x, skipped_x, left, num_columns) in enumerate(sideward):
            if num_rows and num_columns:
                taps = -(-(kw - rest_x) // sw)
                weight = (first_of[rest_y] + skipped_y) * across + run_starts[rest_x] + (taps - skipped_x - num_columns) * outs
                places[y, x] = top * row + (left - num_columns + 1) * outs, weight, -(-num_columns * outs // LANES), num_rows
    group = np.arange(channels) // (channels // op.groups)
    starts = np.stack([group * height * row, np.arange(channels) * kh * across], axis=1)
    wires = Wires(weights.reshape(-1), places.reshape(-1, 4), starts, row, across, channels * kh * across, op.groups)
    return Lines(in_height, in_width, channels), wires, op.groups * height, width * outs


def _by_remainder(length: int, stride: int) -> list[int]:
    """Places in a kernel, those a stride apart beside each other."""
    return [place for rest in range(min(stride, length)) for place in range(rest, length, stride)]


def _run_starts(length: int, stride: int, outs: int) -> tuple[list[int], int]:
    """Where the run of each remainder begins in a row of weights, and how long the row is."""
    starts = [0]
    for rest in range(min(stride, length)):
        starts.append(starts[-1] + -(-(length - rest) // stride) * outs + LANES)
    return starts[:-1], starts[-1]


def _reached(place: int, length: int, stride: int, outputs: int) -> tuple[int, int, int, int]:
    """The outputs that an input at `place`, padding included, reaches through a kernel: the remainder of the kernel's places that do, how many of
    these are skipped because they would reach outputs past the last, the last output reached, and how many are, one before the other."""
    rest, last = place % stride, place // stride
    skipped = max(0, last - outputs + 1)
    taps = -(-(length - rest) // stride) if rest < length else 0
    return rest, skipped, last - skipped, max(0, min(taps, last + 1) - skipped)


def _rows(values: Integers, layer: Layer, width: int, dtype: "np.dtype[Any]") -> Integers:
    """What each channel's neurons have, `[groups, row]`."""
    by_group = np.broadcast_to(values, (len(layer.op.weight),)).reshape(layer.op.groups, -1)
    return np.tile(by_group, (1, width // by_group.shape[1])).astype(dtype)


def _flat(values: Tensor, layer: Layer) -> Tensor:
    """Values of the lines, `[n, lines]`, in the order in which `_kernels` has them."""
    if isinstance(layer.op, Dense) and layer.op.groups > 1:
        return values.reshape(len(values), -1)
    return channels_last(values).reshape(len(values), -1)


def _sent(window: Window, layer: Layer, length: int) -> Iterator[tuple[Integers, Integers]]:
    """What each line has sent before a block of up to `length` timesteps, `[n, lines]`, and after each of these, `[timesteps, n, lines]`."""
    before = np.zeros((len(window.counts), math.prod(window.counts.shape[1:])), np.int64)
    for sent in window.sent(length):
        after = _flat(sent.flatten(0, 1), layer).to(torch.int64).numpy().reshape(len(sent), *before.shape)
        yield before, after
        before = after[-1]


@functools.lru_cache(maxsize=16)
def _spikes(num_timesteps: int, encoder: Encoder) -> NDArray[np.int64]:
    """Whether a count from 0 to `num_timesteps` spikes in a timestep, `[timesteps, counts]`, where the encoder draws nothing."""
    counts = torch.arange(num_timesteps + 1).reshape(-1, 1)
    window = Window(counts, num_timesteps, encoder, torch.zeros(len(counts), dtype=torch.int64))
    return np.stack([spikes[:, 0].numpy() for spikes in window.spikes()]).astype(np.int64)
