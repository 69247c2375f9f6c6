"""What a compiler is given says the same as what runs eagerly. The compiler itself takes minutes: tests/long/test_compiled.py."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.trainer import compiled, signals
from memspike.trainer.bits import Bits
from memspike.trainer.loop import Pull, pulled
from memspike.trainer.models import MODELS
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from random_models import counted, pixels

seeds = st.integers(0, 2**32 - 1)


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


@settings(max_examples=40)
@given(seed=seeds, low=st.integers(-255, 0), bits=st.integers(1, 8))
def test_gradients_pass_inside_the_range_alone(seed: int, low: int, bits: int) -> None:
    edges = torch.tensor([low - 0.5, low + 2**bits - 0.5])
    near = torch.stack([edges, torch.nextafter(edges, edges - 1), torch.nextafter(edges, edges + 1)]).flatten()
    values = torch.cat([near, numbers(seed, 50, dtype=torch.float32) * 2**bits, torch.tensor([-1e30, 1e30])])
    gradients = numbers(seed + 1, len(values), dtype=torch.float32)
    wanted = torch.ops.aten.hardtanh_backward(gradients, values, *edges.tolist())
    assert torch.equal(compiled.within(gradients, values, *edges.tolist()), wanted)


@settings(max_examples=40)
@given(seed=seeds, bound=st.floats(1e-3, 1e3), inside=st.floats(0, 2), beyond=st.floats(0, 2))
def test_slopes_change_at_zero_and_at_the_bound_alone(seed: int, bound: float, inside: float, beyond: float) -> None:
    edges = torch.tensor([0.0, bound, -bound])
    near = torch.stack([edges, torch.nextafter(edges, edges - 1), torch.nextafter(edges, edges + 1)]).flatten()
    values = torch.cat([near[near.abs() != near.abs()[near != 0].min()], numbers(seed, 50, dtype=torch.float32) * bound])  # but for the least number there is
    size = values.abs()
    wanted = values.sign() * torch.where(size > torch.tensor(bound), beyond, inside)
    torch.testing.assert_close(compiled.slope(values, bound, inside, beyond), wanted, rtol=1e-6, atol=1e-6)


@settings(max_examples=40)
@given(seed=seeds, shape=st.sampled_from([(6, 3, 4, 5), (7, 2)]), unit=st.floats(1e-3, 10), momentum=st.sampled_from([0.1, None]))
def test_a_batch_norm_of_scaled_sums_is_torchs(seed: int, shape: tuple[int, ...], unit: float, momentum: float | None) -> None:
    ours, theirs = ((nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], momentum=momentum).double() for _ in range(2))
    weight, bias = numbers(seed, shape[1]).requires_grad_(), numbers(seed + 1, shape[1]).requires_grad_()
    acc = (numbers(seed + 2, *shape) + 3).requires_grad_()
    gradients, values = list[tuple[Tensor, ...]](), list[Tensor]()
    learned = (acc, weight, bias)
    for norm in (ours, theirs):
        norm.num_batches_tracked += 2
        if norm is ours:
            found = compiled.normalized(norm, acc, torch.tensor(unit, dtype=torch.float64), weight, bias)
        else:
            share = momentum if momentum is not None else 1 / 2
            found = F.batch_norm(acc * unit, norm.running_mean, norm.running_var, weight, bias, True, share, norm.eps)
        values.append(found)
        gradients.append(torch.autograd.grad((found * numbers(seed + 3, *shape)).sum(), learned))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-6, atol=1e-7)


@settings(max_examples=40)
@given(seed=seeds, window=st.sampled_from([((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((2, 3), (1, 2), (1, 1))]), last=st.booleans())
def test_a_max_pool_gives_the_gradient_to_the_same_of_equals(seed: int, window: tuple[tuple[int, int], ...], last: bool) -> None:
    x = numbers(seed, 3, 4, 7, 6).round().contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    found, wanted = compiled.max_pool(x, *window), F.max_pool2d(x, *window)
    assert torch.equal(found, wanted)
    weights = numbers(seed + 1, *found.shape)
    assert torch.equal(*(torch.autograd.grad((pooled * weights).sum(), x)[0] for pooled in (found, wanted)))


@settings(max_examples=40)
@given(seed=seeds, window=st.sampled_from([((1, 1), (0, 0), (1, 1)), ((2, 1), (1, 2), (1, 2))]))
def test_images_of_one_channel_are_convolved_as_by_torch(seed: int, window: tuple[tuple[int, int], ...]) -> None:
    x, weight = numbers(seed, 3, 1, 7, 6), numbers(seed + 1, 4, 1, 3, 2).requires_grad_()
    found, wanted = compiled.convolved(x, weight, *window), F.conv2d(x, weight, None, *window)
    assert torch.equal(found, wanted)
    weights = numbers(seed + 2, *found.shape)
    assert torch.equal(*(torch.autograd.grad((sums * weights).sum(), weight)[0] for sums in (found, wanted)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_compiler_is_told_the_truth_about_operators_of_our_own(layout: torch.memory_format) -> None:
    x, weight = numbers(0, 2, 3, 6, 6).contiguous(memory_format=layout).requires_grad_(), numbers(1, 4, 1, 3, 3).contiguous(memory_format=layout)
    torch.library.opcheck(torch.ops.memspike.max_pool.default, (x, [2, 2], [2, 2], [0, 0]))
    torch.library.opcheck(torch.ops.memspike.convolution.default, (numbers(2, 2, 1, 6, 6), weight.requires_grad_(), [1, 1], [0, 0], [1, 1]))


@pytest.mark.parametrize("name", ["lenet", "digits_net"])
def test_a_compiler_sees_the_whole_step(name: str) -> None:
    """Where it does not, it makes many small graphs, and is slower than nothing. A trace takes no C++ compiler."""
    x = pixels(np.random.default_rng(0), 8, (1, 28, 28) if name == "lenet" else (1, 8, 8))
    net = counted(MODELS[name](), Bits(4, 4), x).to(memory_format=torch.channels_last).train()
    torch.compile(net, backend="aot_eager", fullgraph=True)(x).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("regularizer", signals.REGULARIZERS)
def test_a_compiler_sees_scores_and_their_regulariser_in_one_piece(regularizer: str) -> None:
    x, (net, other) = pixels(np.random.default_rng(0), 8, (1, 8, 8)), (net_in_floating_point() for _ in range(2))
    bounds = {name: float(signal.abs().quantile(0.7)) for name, signal in signals.observe(net, x).items()}
    pull = Pull(regularizer, 0.3, bounds)
    found = torch.compile(pulled(net, pull), backend="aot_eager", fullgraph=True)(x)
    wanted = pulled(other, pull)(x)
    for (scores, drawn), each in ((found, net), (wanted, other)):
        assert drawn is not None
        (scores.square().mean() + drawn).backward()
        assert all(parameter.grad is not None for parameter in each.parameters())
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def net_in_floating_point() -> Net:
    torch.manual_seed(0)
    model = MODELS["digits_net"]()
    return Net(model, trace(model, (1, 8, 8))).train()
