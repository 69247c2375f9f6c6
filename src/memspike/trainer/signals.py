"""Neuron Convergence (after Liu 2018): a regulariser that pulls signals into the range that M bits count, and the steps to start from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memspike.integer import IntType
from memspike.trainer import compiled
from memspike.trainer.cuda import own_precision
from memspike.trainer.net import Net

_SAMPLES = 200_000


def convergence(signals: dict[str, Tensor], bounds: dict[str, float], alpha: float = 0.1) -> Tensor:
    """The regulariser `r(o) = alpha |o| + max(|o| - bound, 0)`, in units of the bound, averaged over each layer and summed over layers.

    `bounds` give, by layer, the real value of the largest count. In units of the bound and as an average, one factor serves layers of any size;
    the paper's own is a plain sum over signals.
    """
    return _averaged(signals, bounds, alpha, 1 + alpha)


def l1(signals: dict[str, Tensor], bounds: dict[str, float], alpha: float = 0.1) -> Tensor:
    """`r(o) = alpha |o|`, in units of the bound: small signals, wherever the range ends."""
    return _averaged(signals, bounds, alpha, alpha)


def truncated_l1(signals: dict[str, Tensor], bounds: dict[str, float], alpha: float = 0.1) -> Tensor:
    """`r(o) = alpha min(|o|, bound)`, in units of the bound: few signals, and no pull on those beyond the range."""
    return _averaged(signals, bounds, alpha, 0.0)


def _averaged(signals: dict[str, Tensor], bounds: dict[str, float], inside: float, beyond: float) -> Tensor:
    """Every layer's mean pull, with these slopes inside the bound and beyond it, summed."""
    means: list[Tensor] = [_MeanPull.apply(signal, bounds[name], inside, beyond) for name, signal in signals.items()]  # pyright: ignore[reportAssignmentType]
    return torch.stack(means).sum()


class _MeanPull(torch.autograd.Function):
    """The mean over a signal of what rises by `inside` up to the bound and by `beyond` from there on, both ways, in units of the bound.

    The signals of a batch are many, and what this costs are passes over them: autograd of the same formula takes more, and keeps masks, which a compiler
    is slow with (decision 18). The way back needs the signal alone.
    """

    @staticmethod
    def forward(ctx: Any, signal: Tensor, bound: float, inside: float, beyond: float) -> Tensor:
        ctx.save_for_backward(signal)
        ctx.slopes = bound, inside, beyond
        size = signal.abs()
        total = inside * size.sum(dtype=torch.float32)
        if beyond != inside:
            total = total + (beyond - inside) * size.sub_(bound).clamp_(min=0).sum(dtype=torch.float32)
        return total / (bound * signal.numel())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (signal,), (bound, inside, beyond) = ctx.saved_tensors, ctx.slopes
        scale = gradients[0] / (bound * signal.numel())
        if torch.compiler.is_compiling():
            return compiled.slope(signal, bound, inside, beyond) * scale, None, None, None
        slope = signal.sign().mul_(inside)
        if beyond != inside:
            slope.add_(F.softshrink(signal, bound).sign_(), alpha=beyond - inside)
        return slope.mul_(scale), None, None, None


REGULARIZERS = {"neuron_convergence": convergence, "l1": l1, "truncated_l1": truncated_l1}


def bounds(net: Net, steps: dict[str, float]) -> dict[str, float]:
    """By layer, the real value of its largest count, with `steps` by group."""
    return {layer.name: steps[net.groups[layer.name]] * net.types[layer.name].max for layer in net.layers if layer.clips and layer is not net.scores}


def observe(net: Net, images: Tensor, batch_size: int = 256) -> dict[str, Tensor]:
    """A sample of the real signals of every layer that clips over `images`, 1-d, at most 200 000 values each; `net` runs as it is.

    They are drawn at random, the same every time: steps of one length would meet the same few places of every image, or the same channels.
    """
    kept: dict[str, list[Tensor]] = {}
    for share, signals in _batches(net, images, batch_size):
        number = max(1, int(_SAMPLES * share))
        for name, signal in signals.items():
            values = signal.flatten()
            if values.numel() > number:
                drawn = torch.randint(values.numel(), (number,), generator=torch.Generator().manual_seed(len(kept.get(name, ()))))
                values = values[drawn.to(values.device)]
            kept.setdefault(name, []).append(values.float().cpu())
    return {name: torch.cat(parts) for name, parts in kept.items()}


def ranges(net: Net, images: Tensor, batch_size: int = 256) -> dict[str, float]:
    """The largest real signal of every layer that clips, over all of `images`, without its sign."""
    found: dict[str, float] = {}
    for _, signals in _batches(net, images, batch_size):
        for name, signal in signals.items():
            found[name] = max(found.get(name, 0.0), float(signal.abs().max()))
    return found


def _batches(net: Net, images: Tensor, batch_size: int) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """The signals of every batch of images, each with its share of all images."""
    was_training = net.training
    net.eval()
    for start in range(0, len(images), batch_size):
        batch, signals = images[start : start + batch_size], dict[str, Tensor]()
        with own_precision(images.device), torch.no_grad():
            net(batch, keep=signals)
        yield len(batch) / len(images), signals
    net.train(was_training)


def best_steps(net: Net, signals: dict[str, Tensor]) -> dict[str, float]:
    """By group, the step that rounds and clips the sampled signals with the least squared error."""
    steps: dict[str, float] = {}
    for group in {net.groups[name] for name in signals}:
        members = [name for name in signals if net.groups[name] == group]
        steps[group] = _best_step([signals[name] for name in members], [net.types[name] for name in members])
    return steps


def _best_step(signals: list[Tensor], types: list[IntType]) -> float:
    largest = max(float(signal.abs().max()) for signal in signals)
    if largest == 0:
        return 1.0  # a silent layer: any step counts its zeros
    candidates = [largest / max(type.max for type in types) * shrink for shrink in np.geomspace(0.05, 1.0, 60)]
    errors = [
        sum(
            float(((signal / step).add(0.5).floor().clamp(type.min, type.max) * step - signal).square().mean())
            for signal, type in zip(signals, types, strict=True)
        )
        for step in candidates
    ]
    return float(candidates[int(np.argmin(errors))])


def largest_steps(net: Net, ranges: dict[str, float]) -> dict[str, float]:
    """By group, the step whose largest count is the largest signal: nothing within these ranges is clipped."""
    steps: dict[str, float] = {}
    for name, largest in ranges.items():
        step = largest / net.types[name].max
        steps[net.groups[name]] = max(steps.get(net.groups[name], 0.0), step)
    return {group: step or 1.0 for group, step in steps.items()}


def histograms(before: dict[str, Tensor], after: dict[str, Tensor], limits: dict[str, float], num_bins: int = 60) -> list[dict[str, Any]]:
    """Histograms of each layer's signals before and after Neuron Convergence, over a common range, with the layer's bound."""
    rows: list[dict[str, Any]] = []
    for name, first in before.items():
        second = after[name]
        low, high = float(min(first.min(), second.min())), float(max(first.max(), second.max()))
        edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
        row: dict[str, Any] = {"layer": name, "bound": limits[name]}
        for when, values in (("before", first), ("after", second)):
            row[when] = {"edges": edges.tolist(), "counts": np.histogram(values.numpy(), edges)[0].tolist()}
        rows.append(row)
    return rows
