"""Noise of a device: what a step of training sees instead of the weights and sums that it asked for.

Every step is another chip: each cell of each pair is drawn from the device's own law, a time after writing, stuck cells included at the device's rates; read
noise is one normal variate per neuron and window, as in fidelity "analog". Wires, and the neighbours on a crossbar, are not seen. Both kinds of error are
drawn from a stock made once, because drawing a million of them anew would cost more than the rest of a step.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memspike.cell import Device
from memspike.errors import TrainingError
from memspike.physics.device import age, draw_faults, read_noise, write
from memspike.trainer.layers import Layer
from memspike.trainer.recipe import whole

_SAMPLES = 1 << 14  # pairs written for each size of weight; a weight's error is one of them, drawn anew in every step
_NORMALS = 1 << 20  # places in the stock of normal variates where the stretch that an image gets may start


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
        """Errors `[levels, samples]` of pairs for each size of weight, both cells written and aged by the device's own law."""
        rng = np.random.default_rng([self.seed, self._max_level])
        targets = self.device.level_conductances(self._max_level)
        levels = np.repeat(np.arange(len(targets), dtype=np.uint16), _SAMPLES).reshape(len(targets), -1)
        written = write(self.device, levels, self._max_level, rng, draw_faults(self.device, levels.shape, rng))
        g, step = age(self.device, written, self.time, rng), (targets[-1] - targets[0]) / self._max_level
        errors = (g - written.target) / step
        if self.device.conductances is not None:  # a measured table lies off the even steps that weights are meant in
            errors += ((targets - targets[0]) / step - np.arange(len(targets)))[:, None]
        return torch.from_numpy((errors - rng.permutation(errors[0])).astype(np.float32))

    @cached_property
    def normals(self) -> Tensor:
        return torch.from_numpy(np.random.default_rng([self.seed, 1]).standard_normal(2 * _NORMALS, np.float32))

    @cached_property
    def variance(self) -> float:
        """Of the current that one spike sends through one weight, its slices weighed by their places."""
        targets = self.device.level_conductances(self._max_level)
        noise = read_noise(self.device) / float((targets[-1] - targets[0]) / self._max_level)
        return 2 * noise**2 * float(sum(4 ** (self.bits_per_cell * index) for index in range(self.num_slices)))

    def deviation(self, weight: Tensor) -> Tensor:
        """What a newly written chip adds to integer weights: the error of each pair, which points the other way where the weight does."""
        bank, size, total = self.bank.to(weight.device).flatten(), weight.abs().to(torch.int32), torch.zeros_like(weight)
        for index in range(self.num_slices):
            level = (size >> (self.bits_per_cell * index)) & ((1 << self.bits_per_cell) - 1)
            sample = torch.randint(_SAMPLES, weight.shape, dtype=torch.int32, device=weight.device)
            total += bank[level * _SAMPLES + sample] * float(1 << (self.bits_per_cell * index))
        return torch.where(weight < 0, -total, total)

    @torch.no_grad()
    def current(self, layer: Layer, x: Tensor, weight: Tensor, sums: Tensor) -> Tensor:
        """Read noise on the sums `[n, ...]` of counts `x`: its variance is that of one spike times the spikes that a neuron sees."""
        if not self.variance:
            return torch.zeros_like(sums)
        spikes = x.detach().abs()
        if layer.kind == "dense":
            seen = spikes.sum(1, keepdim=True)
        else:
            spikes = spikes.unflatten(1, (layer.groups, -1)).sum(2)
            ones = torch.ones((layer.groups, 1, *weight.shape[2:]), dtype=x.dtype, device=x.device)
            seen = F.conv2d(spikes, ones, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        noise = self._normals(sums).unflatten(1, (seen.shape[1], -1)) * (seen * self.variance).sqrt().unsqueeze(2)
        return noise.flatten(1, 2)

    def _normals(self, like: Tensor) -> Tensor:
        """Normal variates of this shape: for each image a stretch of the stock."""
        size, stock = like[0].numel(), self.normals.to(like.device)
        if size > _NORMALS:
            return torch.randn_like(like)
        starts = torch.randint(_NORMALS, (len(like),), device=like.device)
        return stock.unfold(0, size, 1)[starts].reshape(like.shape)


@dataclass(frozen=True, slots=True)
class Hardening:
    """Training for a device: `epochs` of fine-tuning in counts on new chips of `device` in every step, read `time` seconds after writing."""

    device: Device
    time: float = 0.0
    bits_per_cell: int = 4
    epochs: int = 3
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole("epochs", self.epochs))
        for name, least in (("epochs", 0), ("bits_per_cell", 1), ("time", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise TrainingError(f"learning_rate must be a finite number above zero, got {self.learning_rate}")
