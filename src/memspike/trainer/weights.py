"""Weight Clustering (after Liu 2018): the fixed-point grid whose linear centres lie closest to a layer's weights."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memspike.trainer.net import Net

_MAX_EDGES = 1_000_000


def cluster(weight: Tensor, largest: int, rounds: int = 100) -> float:
    """The scale of `min over integer k, |k| <= largest, and scale of || scale * k - W ||^2`.

    k-means whose centres are tied to a linear grid: assignment and the closed-form scale `<k, W> / <k, k>` alternate until nothing moves. It has
    many local minima, so it starts from the global one: exact for up to `_MAX_EDGES / largest` weights, of an even sample of them beyond.
    """
    size = weight.detach().double().abs().flatten()
    if not size.any():
        return 1.0
    # A sample may hold zeros alone; then the search starts from the largest weight.
    scale = _global_scale(size[:: -(-len(size) * largest // _MAX_EDGES)], largest) or float(size.max()) / largest
    for _ in range(rounds):
        k = (size / scale + 0.5).floor().clamp(max=largest)
        moved = float((k @ size) / (k @ k)) if k.any() else scale
        if abs(moved - scale) <= 1e-12 * scale:
            break
        scale = moved
    return scale


def _global_scale(size: Tensor, largest: int) -> float:
    """The best scale for absolute weights, all at once: as the scale falls, weight w is counted j times from the edge `w / (j - 1/2)` on, which adds w to
    `<k, W>` and `2 j - 1` to `<k, k>`; the error is `<W, W> - <k, W>^2 / <k, k>`."""
    j = torch.arange(1, largest + 1, dtype=size.dtype, device=size.device)
    order = (size[:, None] / (j - 0.5)).flatten().argsort(descending=True)
    products = size[:, None].expand(-1, largest).flatten()[order].cumsum(0)
    squares = (2 * j - 1).expand(len(size), -1).flatten()[order].cumsum(0)
    best = int((products.square() / squares).argmax())
    return float(products[best] / squares[best])


def set_scales(net: Net, *, clustering: bool) -> None:
    """Give every layer its weight scale: the best linear centres, or (direct rounding) the largest weight on the largest integer."""
    for layer in net.layers:
        largest = net.bits.largest_weight(layer.name)
        if layer.module is None or largest is None:
            continue
        weight = net.weight_before_rounding(layer)
        scale = cluster(weight, largest) if clustering else float(weight.detach().abs().max()) / largest
        net.set_weight_scale(layer, scale or 1.0)


@torch.no_grad()
def histograms(net: Net, num_bins: int = 80) -> list[dict[str, Any]]:
    """Each layer's weights before rounding as a histogram, and how many sit on each integer of its grid."""
    rows: list[dict[str, Any]] = []
    for layer in net.layers:
        if layer.module is None or net.bits.weight_of(layer.name) is None:
            continue
        before = net.weight_before_rounding(layer).flatten().cpu().numpy()
        levels, level_counts = np.unique(net.weight(layer).flatten().cpu().numpy().astype(int), return_counts=True)
        counts, edges = np.histogram(before, num_bins)
        rows.append(
            {
                "layer": layer.name,
                "scale": float(net.weight_scale(layer)),
                "bits": net.bits.weight_of(layer.name),
                "edges": edges.tolist(),
                "counts": counts.tolist(),
                "levels": levels.tolist(),
                "level_counts": level_counts.tolist(),
            }
        )
    return rows
