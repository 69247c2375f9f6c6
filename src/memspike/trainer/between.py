"""What a net does between its products: rounding, scaling, normalising and pooling, each in few passes over memory, there and back.

A compiler is given other forms of the same (`compiled`).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memspike.trainer import compiled
from memspike.trainer.layers import Layer

_CACHED = 1 << 17  # doubles that a core's cache holds beside what comes and goes


def rounded(potential: Tensor, low: int, high: int) -> Tensor:
    """`clip(round_half_up(potential))`, of potentials in steps; the gradient passes straight through inside the range.

    With `count * step` downstream and `potential = x / step` upstream, autograd then gives the learned-step gradient of Esser et al. 2020, equation 3.
    """
    return floored(potential + 0.5, low, high)


def floored(potential: Tensor, low: int, high: int) -> Tensor:
    """`rounded` of potentials that hold the half already: a pass less."""
    return _Clip.apply(potential, low, high, 1.0)


def clipped(counts: Tensor, low: int, high: int) -> Tensor:
    """Counts cut off at `low` and `high`, where the gradient still passes."""
    return _Clip.apply(counts, low, high, 0.0)


class _Clip(torch.autograd.Function):
    """Numbers, rounded down if each stands for an interval of `width` 1, and cut off; whole numbers have a width of 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: int, high: int, width: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = (low, high + 1.0) if width else (low - 0.5, high + 0.5)
        if not width:
            return x.clamp(low, high)
        if torch.compiler.is_compiling():  # which would end its graph at an `out`
            return x.floor().clamp(low, high)
        # x.floor() would give weights of one channel other strides, from which torch tells whether all behind them shall have its channels last.
        return torch.floor(x, out=torch.empty_like(x)).clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        within = compiled.within if torch.compiler.is_compiling() else torch.ops.aten.hardtanh_backward  # one pass: the mask and its product
        return within(gradients[0], x, *ctx.range), None, None, None


def counted(acc: Tensor, gain: Tensor, offset: Tensor, low: int, high: int) -> Tensor:
    """`clip(floor(acc * gain + offset))` in double precision, with a gain and an offset per channel; without gradients, as floats.

    A few images at a time, whose doubles stay in a processor's cache, and with gains as wide as they are: torch takes rows of a handful of channels one by one.
    """
    gain, offset = (torch.empty_like(acc[:1], dtype=torch.float64).copy_(along(acc, value)) for value in (gain, offset))
    counts = torch.empty_like(acc, dtype=torch.float32)
    together = len(acc) if acc.is_cuda else max(1, _CACHED // math.prod(acc.shape[1:]))
    for start in range(0, len(acc), together):
        part = slice(start, start + together)
        counts[part] = acc[part].to(torch.float64, copy=True).mul_(gain).add_(offset).floor_().clamp_(low, high)
    return counts


def affine(x: Tensor, gain: Tensor, offset: Tensor | None) -> Tensor:
    """`x * gain + offset` with one gain for all and an offset per channel (dimension 1) or None; a compiler makes one pass of it."""
    if torch.compiler.is_compiling():
        return x * gain if offset is None else x * gain + along(x, offset)
    return _Affine.apply(x, gain, offset)


class _Affine(torch.autograd.Function):
    """Three passes there and back, where autograd takes six."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, offset: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, gain)
        return x * gain if offset is None else torch.addcmul(along(x, offset), x, gain.reshape([1] * x.ndim))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, gain = ctx.saved_tensors
        gradient = gradients[0]
        of_gain = (gradient * x).sum() if gradient.stride() != x.stride() else torch.dot(_flat(gradient), _flat(x))
        of_offset = gradient.sum([axis for axis in range(x.ndim) if axis != 1]) if ctx.needs_input_grad[2] else None
        return gradient * gain, of_gain, of_offset


def normalized(norm: Any, acc: Tensor, gain: Tensor | float, per_step: Tensor | float, half: float, training: bool) -> Tensor:
    """`norm(acc * gain) * per_step + half` without the extra passes: the sums are normalised as they are, by statistics and a small number in their units."""
    if isinstance(gain, float) and isinstance(per_step, float):
        return norm(acc) if gain == per_step == 1.0 and not half else norm(acc * gain) * per_step + half
    weight = (torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight) * per_step
    bias = torch.full_like(norm.running_mean, half) if norm.bias is None else norm.bias * per_step + half
    if training:
        norm.num_batches_tracked += 1
    if torch.compiler.is_compiling() and training:
        return compiled.normalized(norm, acc, scalar(gain, acc).detach(), weight, bias)
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked.clamp(min=1))
    if _waits(acc):
        scaled = acc * scalar(gain, acc).detach()  # a batch's statistics make the gradient of the gain zero here too
        return F.batch_norm(scaled, norm.running_mean, norm.running_var, weight, bias, training, momentum, norm.eps)
    with torch.no_grad():
        unit = float(gain)
        mean, variance = norm.running_mean / unit, norm.running_var / unit**2
    found = F.batch_norm(acc, mean, variance, weight, bias, training, momentum, norm.eps / unit**2)
    if training:
        with torch.no_grad():
            norm.running_mean.copy_(mean * unit)
            norm.running_var.copy_(variance * unit**2)
    return found


def _waits(acc: Tensor) -> bool:
    """Whether to read a number back would mean waiting for it, or leaving what a compiler can see."""
    return acc.is_cuda or torch.compiler.is_compiling()


def largest(pool: Layer | None, x: Tensor) -> Tensor:
    """The largest of each window of a max_pool; all, where there is none."""
    if pool is None:
        return x
    find = compiled.max_pool if torch.compiler.is_compiling() else F.max_pool2d
    return find(x, pool.kernel, pool.stride, pool.padding)


def scalar(value: Tensor | float, like: Tensor) -> Tensor:
    """A number as a tensor beside `like`, without a copy from elsewhere."""
    return value if isinstance(value, Tensor) else like.new_full((), value)


def along(like: Tensor, per_channel: Tensor) -> Tensor:
    """Numbers per channel in a shape that meets `like`, whose channels are dimension 1."""
    return per_channel.reshape(1, -1, *[1] * (like.ndim - 2))


def _flat(values: Tensor) -> Tensor:
    """All elements of a dense tensor in the order of memory, without a copy."""
    return values.as_strided((values.numel(),), (1,))
