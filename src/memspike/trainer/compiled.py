"""What torch.compile is given in place of what runs eagerly: the same values and gradients, in a form that it makes few passes of (decision 18)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_HUGE = 1e30  # times the smallest difference of two numbers near a count, still far above one


def within(gradient: Tensor, value: Tensor, low: float, high: float) -> Tensor:
    """`gradient` where `low < value < high`, else zero: as arithmetic, because the compiler keeps booleans for the way back, and stores them ten times slower
    than floats."""
    return gradient * ((value - low) * _HUGE).clamp(0, 1) * ((high - value) * _HUGE).clamp(0, 1)


def slope(value: Tensor, bound: float, inside: float, beyond: float) -> Tensor:
    """The slope at `value` of what rises by `inside` up to the bound and by `beyond` from there on, both ways: `sign` and comparisons are booleans too."""
    return (value * _HUGE).clamp(-1, 1) * (inside + (beyond - inside) * ((value.abs() - bound) * _HUGE).clamp(0, 1))


def normalized(norm: Any, acc: Tensor, unit: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Batch norm of `acc * unit` while training, with this weight and bias per channel; `norm` gives the rest, and its running statistics follow.

    `unit` gets no gradient: the batch's own statistics take it out.
    """
    found, mean, variance = _Normalized.apply(acc, unit, weight, bias, norm.eps)
    number = acc.numel() // acc.shape[1]
    with torch.no_grad():
        share = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked.float()
        norm.running_mean.lerp_(mean * unit, share)
        norm.running_var.lerp_(variance * unit**2 * (number / (number - 1)), share)
    return found


class _Normalized(torch.autograd.Function):
    """Normalised sums, their mean and their variance. The way back needs the sums and numbers per channel alone."""

    @staticmethod
    def forward(ctx: Any, acc: Tensor, unit: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        ctx.axes = [axis for axis in range(acc.ndim) if axis != 1]
        ctx.shape = [-1 if axis == 1 else 1 for axis in range(acc.ndim)]
        variance, mean = torch.var_mean(acc, ctx.axes, correction=0)
        per_deviation = unit * (variance * unit**2 + eps).rsqrt()
        gain = per_deviation * weight
        ctx.save_for_backward(acc, mean, per_deviation, gain)
        ctx.mark_non_differentiable(mean, variance)
        return (acc - mean.reshape(ctx.shape)) * gain.reshape(ctx.shape) + bias.reshape(ctx.shape), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        acc, mean, per_deviation, gain = ctx.saved_tensors
        gradient, number = gradients[0], acc.numel() // acc.shape[1]
        centred = acc - mean.reshape(ctx.shape)
        of_bias = gradient.sum(ctx.axes)
        of_weight = (gradient * centred).sum(ctx.axes) * per_deviation
        slope, level = -gain * per_deviation * of_weight / number, -gain * of_bias / number
        of_acc = gradient * gain.reshape(ctx.shape) + (centred * slope.reshape(ctx.shape) + level.reshape(ctx.shape))
        return of_acc, None, of_weight, of_bias, None


def _operator(function: Callable[..., Any]) -> Any:
    """An operator that a compiler leaves as it is; the function itself says what comes out of what shapes and strides."""
    operator = torch.library.custom_op(f"memspike::{function.__name__.removeprefix('_')}", function, mutates_args=())
    operator.register_fake(function)
    return operator


def max_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The largest of each window, by torch's own kernels both ways: the compiler's way back takes several times as long."""
    return _max_pool(x, list(kernel), list(stride), list(padding))[0]


@_operator
def _max_pool(x: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> tuple[Tensor, Tensor]:
    return F.max_pool2d_with_indices(x, kernel, stride, padding)


@_operator
def _max_pool_backward(gradient: Tensor, x: Tensor, kernel: list[int], stride: list[int], padding: list[int], chosen: Tensor) -> Tensor:
    return torch.ops.aten.max_pool2d_with_indices_backward(gradient, x, kernel, stride, padding, [1, 1], False, chosen)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *ctx.window = inputs
    ctx.save_for_backward(x, output[1])


def _back(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
    x, chosen = ctx.saved_tensors
    return _max_pool_backward(gradient, x, *ctx.window, chosen), None, None, None


_max_pool.register_autograd(_back, setup_context=_keep)


def convolved(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """Images of one channel convolved, by torch's own kernels both ways: such a channel's stride says nothing, and the compiler turns gradients over for it."""
    return _convolution(images, weight, list(stride), list(padding), list(dilation))


@_operator
def _convolution(x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, dilation)


@_operator
def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, stride, padding, dilation, False, [0, 0], 1, [False, True, False])[1]


def _keep_factors(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *ctx.window = inputs
    ctx.save_for_backward(x, weight)


def _back_to_weight(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None, None, None]:
    return None, _convolution_backward(gradient, *ctx.saved_tensors, *ctx.window), None, None, None


_convolution.register_autograd(_back_to_weight, setup_context=_keep_factors)
