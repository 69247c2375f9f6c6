"""Noise of a device: what a step of training sees instead of the weights and sums that it asked for.

Every step is another chip: each cell of each pair is drawn from the device's own law, a time after writing, stuck cells included at the device's rates; read
noise is one normal variate per neuron and window, as in fidelity "analog". Wires, and the neighbours on a crossbar, are not seen.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memspike.chip import Device
from memspike.physics.device import age, draw_faults, level_conductances, read_noise, write
from memspike.trainer.trace import Layer

_SAMPLES = 1 << 14  # cells written of each level; a weight's error is one of them, drawn anew in every step


@dataclass(frozen=True)
class DeviceNoise:
    """Errors of `device`, `time` seconds after writing, for pairs of cells of `bits_per_cell`, on weights up to `largest`, in units of one level."""

    device: Device
    time: float
    bits_per_cell: int
    largest: int
    seed: int

    @property
    def num_slices(self) -> int:
        return -(-self.largest.bit_length() // self.bits_per_cell)

    @property
    def _max_level(self) -> int:
        return (1 << min(self.largest.bit_length(), self.bits_per_cell)) - 1

    @cached_property
    def bank(self) -> Tensor:
        """Errors `[levels, samples]` of cells of each level, written and aged by the device's own law."""
        rng = np.random.default_rng([self.seed, self._max_level])
        targets = level_conductances(self.device, self._max_level)
        levels = np.repeat(np.arange(len(targets), dtype=np.uint16), _SAMPLES).reshape(len(targets), -1)
        written = write(self.device, levels, self._max_level, rng, draw_faults(self.device, levels.shape, rng))
        g, step = age(self.device, written, self.time, rng), (targets[-1] - targets[0]) / self._max_level
        errors = (g - written.target) / step
        if self.device.conductances is not None:  # a measured table lies off the even steps that weights are meant in
            errors += ((targets - targets[0]) / step - np.arange(len(targets)))[:, None]
        return torch.from_numpy(errors.astype(np.float32))

    @cached_property
    def variance(self) -> float:
        """Of the current that one spike sends through one weight, its slices weighed by their places."""
        targets = level_conductances(self.device, self._max_level)
        noise = read_noise(self.device) / float((targets[-1] - targets[0]) / self._max_level)
        return 2 * noise**2 * float(sum(4 ** (self.bits_per_cell * index) for index in range(self.num_slices)))

    def deviation(self, weight: Tensor) -> Tensor:
        """What a newly written chip adds to integer weights: for each pair, the error of its plus cell minus that of its minus cell."""
        bank = self.bank.to(weight.device).flatten()
        size, is_plus = weight.abs().to(torch.int64), weight > 0
        total = torch.zeros_like(weight)
        for index in range(self.num_slices):
            level = (size >> (self.bits_per_cell * index)) & ((1 << self.bits_per_cell) - 1)
            chosen = torch.randint(_SAMPLES, (2, *weight.shape), device=weight.device)
            plus, minus = torch.where(is_plus, level, 0), torch.where(is_plus, 0, level)
            total += (bank[plus * _SAMPLES + chosen[0]] - bank[minus * _SAMPLES + chosen[1]]) * float(1 << (self.bits_per_cell * index))
        return total

    @torch.no_grad()
    def current(self, layer: Layer, x: Tensor, weight: Tensor, sums: Tensor) -> Tensor:
        """Read noise on the sums `[n, ...]` of counts `x`: its variance is that of one spike times the spikes that a neuron sees."""
        if not self.variance:
            return torch.zeros_like(sums)
        groups = layer.groups if layer.kind == "conv2d" else 1
        ones = torch.ones((groups, *weight.shape[1:]), dtype=x.dtype, device=x.device)
        spikes = x.detach().abs()
        seen = F.linear(spikes, ones) if layer.kind == "dense" else F.conv2d(spikes, ones, None, layer.stride, layer.padding, layer.dilation, groups)
        return (seen.repeat_interleave(sums.shape[1] // groups, dim=1) * self.variance).sqrt() * torch.randn_like(sums)


@dataclass(frozen=True, slots=True)
class Hardening:
    """Training for a device: `epochs` of fine-tuning in counts on new chips of `device` in every step, read `time` seconds after writing."""

    device: Device
    time: float = 0.0
    bits_per_cell: int = 4
    epochs: int = 3
    learning_rate: float = 5e-4
