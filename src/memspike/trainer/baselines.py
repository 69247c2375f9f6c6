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


def direct(net: Net, images: Tensor, bits: Bits, name: str) -> QuantizedNetwork:
    """The floating-point `net` rounded to `bits` without any training: the paper's rows "without".

    Each layer's largest weight lies on the largest integer, its largest signal over `images` on the largest count.
    """
    rounded = copy.deepcopy(net)
    observed = signals.observe(net, images)
    rounded.set_bits(bits)
    for group, step in signals.largest_steps(rounded, observed).items():
        rounded.set_step(group, step)
    weights.set_scales(rounded, clustering=False)
    return freeze(rounded, name, {"method": "direct rounding"})


@torch.no_grad()
def dynamic_fixed_point(net: Net, images: Tensor, name: str, bits: int = 8) -> QuantizedNetwork:
    """The floating-point `net` in dynamic fixed point (Gysel et al., Ristretto): per layer a power-of-two scale for weights and one
    for activations, the smallest that holds the layer's range over `images`. The image keeps all its 8 bits. No fine-tuning."""
    rounded = copy.deepcopy(net)
    observed = signals.observe(net, images)
    rounded.set_bits(Bits(bits, bits))
    for group, step in signals.largest_steps(rounded, observed).items():
        rounded.set_step(group, 2.0 ** math.ceil(math.log2(step)))
    weights.set_scales(rounded, clustering=False)
    for layer in rounded.layers:
        if layer.module:
            rounded.set_weight_scale(layer, 2.0 ** math.ceil(math.log2(float(rounded.weight_scale(layer)))))
    return freeze(rounded, name, {"method": f"{bits}-bit dynamic fixed point"})
