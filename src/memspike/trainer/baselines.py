"""Baselines: the trained network rounded directly, and 8-bit dynamic fixed point."""

import copy
import math

import torch
from torch import Tensor

from memspike.network import QuantizedNetwork
from memspike.trainer import signals, weights
from memspike.trainer.bits import Bits
from memspike.trainer.freeze import freeze
from memspike.trainer.net import Net


def rounded(net: Net, images: Tensor, bits: Bits) -> Net:
    """The floating-point `net` rounded to `bits` without any training: the paper's rows "without". A half without bits stays in floating point.

    Each layer's largest weight lies on the largest integer, its largest signal over `images` on the largest count.
    """
    found = copy.deepcopy(net)
    ranges = signals.ranges(net, images)
    found.set_bits(bits)
    if bits.activation is not None:
        for group, step in signals.largest_steps(found, ranges).items():
            found.set_step(group, step)
    weights.set_scales(found, clustering=False)
    return found


def direct(net: Net, images: Tensor, bits: Bits, name: str) -> QuantizedNetwork:
    """`rounded`, frozen: `bits` has both halves."""
    return freeze(rounded(net, images, bits), name, {"method": "direct rounding"})


@torch.no_grad()
def dynamic_fixed_point(net: Net, images: Tensor, name: str, bits: int = 8) -> QuantizedNetwork:
    """The floating-point `net` in dynamic fixed point (Gysel et al., Ristretto): per layer a power-of-two scale for weights and one
    for activations, the smallest that holds the layer's range over `images`. The image keeps all its 8 bits. No fine-tuning."""
    fixed = copy.deepcopy(net)
    ranges = signals.ranges(net, images)
    fixed.set_bits(Bits(bits, bits))
    for group, step in signals.largest_steps(fixed, ranges).items():
        fixed.set_step(group, 2.0 ** math.ceil(math.log2(step)))
    weights.set_scales(fixed, clustering=False)
    for layer in fixed.layers:
        if layer.module:
            fixed.set_weight_scale(layer, 2.0 ** math.ceil(math.log2(float(fixed.weight_scale(layer)))))
    return freeze(fixed, name, {"method": f"{bits}-bit dynamic fixed point"})
