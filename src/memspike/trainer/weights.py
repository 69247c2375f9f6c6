"""Weight Clustering (after Liu 2018): the fixed-point grid whose linear centres lie closest to a layer's weights."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memspike.trainer.net import Net


def cluster(weight: Tensor, largest: int, starts: int = 24, rounds: int = 20) -> float:
    """The scale of `min over integer k, |k| <= largest, and scale of || scale * k - W ||^2`.

    k-means whose centres are tied to a linear grid: assignment and the closed-form scale `<k, W> / <k, k>` alternate until nothing
    moves; the best of several starts wins, because the problem has local minima.
    """
    flat = weight.detach().double().flatten()
    top = float(flat.abs().max())
    if top == 0:
        return 1.0
    best = (float("inf"), 1.0)
    for shrink in np.geomspace(0.2, 1.0, starts):
        scale = top / largest * float(shrink)
        for _ in range(rounds):
            k = _assign(flat, scale, largest)
            if not k.any():
                break
            moved = float((k @ flat) / (k @ k))
            if moved <= 0 or abs(moved - scale) < 1e-9 * scale:
                break
            scale = moved
        error = float((_assign(flat, scale, largest) * scale - flat).square().sum())
        best = min(best, (error, scale))
    return best[1]


def _assign(flat: Tensor, scale: float, largest: int) -> Tensor:
    return (flat / scale + 0.5).floor().clamp(-largest, largest)


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
