"""Neuron Convergence in closed form, and the steps that signals get."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memspike.integer import IntType
from memspike.trainer import signals
from memspike.trainer.bits import Bits
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from networks import Everything
from random_models import pixels


def net_of(model: nn.Module) -> Net:
    return Net(model, trace(model, (1, 8, 8))).eval()


def images(n: int = 20) -> Tensor:
    return pixels(np.random.default_rng(0), n, (1, 8, 8))


def test_inside_the_range_only_the_size_counts() -> None:
    assert signals.convergence({"a": torch.tensor([0.0, 1.0, 2.0, 4.0])}, {"a": 4.0}).item() == pytest.approx(0.1 * 7 / 16)


def test_beyond_the_range_the_excess_is_added() -> None:
    assert signals.convergence({"a": torch.tensor([6.0, -8.0])}, {"a": 4.0}).item() == pytest.approx((0.1 * 1.5 + 0.5 + 0.1 * 2 + 1) / 2)


def test_layers_are_averaged_and_summed() -> None:
    both = signals.convergence({"a": torch.ones(3, 5), "b": torch.full((2, 2, 2), 3.0)}, {"a": 2.0, "b": 2.0}, alpha=0.5)
    assert both.item() == pytest.approx(0.5 * 0.5 + 0.5 * 1.5 + 0.5)


def test_the_pull_is_alpha_inside_and_one_more_outside() -> None:
    signal = torch.tensor([1.0, -1.0, 5.0, -5.0], requires_grad=True)
    signals.convergence({"a": signal}, {"a": 2.0}).backward()
    assert signal.grad is not None
    torch.testing.assert_close(signal.grad, torch.tensor([0.1, -0.1, 1.1, -1.1]) / (2.0 * 4))


PLAIN = {
    "neuron_convergence": lambda size, alpha: alpha * size + torch.relu(size - 1),
    "l1": lambda size, alpha: alpha * size,
    "truncated_l1": lambda size, alpha: alpha * size.clamp(max=1),
}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), name=st.sampled_from(list(PLAIN)), bound=st.floats(1e-3, 1e3), alpha=st.floats(0, 2), layout=st.booleans(),
    narrow=st.booleans(),
)  # fmt: skip
def test_a_pull_is_the_plain_formula_and_so_is_its_gradient(seed: int, name: str, bound: float, alpha: float, layout: bool, narrow: bool) -> None:
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(rng.normal(size=(3, 4, 5, 2)).astype(np.float32) * bound) * torch.from_numpy(rng.integers(0, 2, (3, 4, 5, 2)))
    drawn = drawn.to(torch.bfloat16 if narrow else torch.float32, memory_format=torch.channels_last if layout else torch.contiguous_format)
    ours, theirs = drawn.clone().requires_grad_(), drawn.clone().requires_grad_()
    found = 3 * signals.REGULARIZERS[name]({"a": ours}, {"a": bound}, alpha)
    wanted = 3 * PLAIN[name](theirs.float().abs() / bound, alpha).mean()
    torch.testing.assert_close(found, wanted, rtol=1e-2 if narrow else 1e-5, atol=1e-2 if narrow else 1e-6)
    gradients = [torch.autograd.grad(value, signal)[0] for value, signal in ((found, ours), (wanted, theirs))]
    torch.testing.assert_close(*gradients, rtol=2e-2 if narrow else 1e-5, atol=1e-9)


def test_bounds_are_the_largest_counts() -> None:
    net = net_of(Everything())
    net.set_bits(Bits(4, 4, overrides=(("left", 6, None),)))
    bounds = signals.bounds(net, dict.fromkeys(net.groups.values(), 0.5))
    assert (bounds["stem.0"], bounds["pointwise"], bounds["left"]) == (7.5, 7.5, 31.5)  # u4, i5, u6
    assert "fc2" not in bounds and set(bounds) == set(signals.observe(net_of(Everything()), images(2)))


def test_what_is_observed_is_the_signal() -> None:
    model = Everything()
    net = net_of(model).train()
    seen = signals.observe(net, images(), batch_size=7)
    assert net.training
    with torch.no_grad():
        wanted = model.eval().stem(images().float() / 255).flatten()
    torch.testing.assert_close(seen["stem.0"], wanted, rtol=1e-4, atol=1e-5)


def test_a_sample_of_a_large_layer_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_SAMPLES", 1000)
    seen = signals.observe(net_of(Everything()), images(), batch_size=5)
    assert len(seen["stem.0"]) == 1000 and len(seen["fc1"]) == 20 * 24


def test_a_sample_meets_every_place_and_channel_and_a_range_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of signals that say where they are: steps of one length through 16 x 8 x 8 values of each image would see a few places only."""
    net, x = net_of(Everything()), images()
    monkeypatch.setattr(signals, "_SAMPLES", 2000)

    def numbered(batch: Tensor, keep: dict[str, Tensor]) -> None:
        keep["stem.0"] = torch.arange(16 * 64.0).repeat(len(batch), 1).reshape(-1, 16, 8, 8)

    monkeypatch.setattr(Net, "forward", lambda _, batch, keep: numbered(batch, keep))
    drawn = signals.observe(net, x, batch_size=5)
    assert len(drawn["stem.0"].unique()) > 700 and (drawn["stem.0"].long() % 64).unique().numel() == 64
    assert torch.equal(signals.observe(net, x, batch_size=5)["stem.0"], drawn["stem.0"]), "the same every time"
    assert signals.ranges(net, x, batch_size=5) == {"stem.0": 1023.0}


@pytest.mark.parametrize("type", [IntType(2), IntType(4), IntType(5, signed=True)])
def test_the_best_step_is_the_best_of_a_fine_search(type: IntType) -> None:
    rng = np.random.default_rng(1)
    signal = torch.from_numpy(rng.laplace(0, 1, 5000) if type.signed else np.abs(rng.laplace(0, 1, 5000))).float()

    def error(step: float) -> float:
        return float((((signal / step) + 0.5).floor().clamp(type.min, type.max) * step - signal).square().mean())

    found = error(signals._best_step([signal], [type]))
    largest = float(signal.abs().max()) / type.max
    assert found <= 1.01 * min(error(largest * s) for s in np.linspace(0.02, 1, 500))
    assert found < 0.9 * error(largest)


def test_layers_that_meet_share_the_step_that_is_best_for_all() -> None:
    a, b = torch.linspace(0, 1, 100), torch.linspace(-4, 4, 100)
    types = [IntType(4), IntType(5, signed=True)]
    assert signals._best_step([a], types[:1]) < signals._best_step([a, b], types) <= 4 / 15
    net = net_of(Everything())
    seen = signals.observe(net, images())
    net.set_bits(Bits(4, 4))
    assert set(signals.best_steps(net, seen)) == set(signals.largest_steps(net, signals.ranges(net, images()))) == {net.groups[name] for name in seen}


def test_a_silent_layer_counts_in_ones() -> None:
    assert signals._best_step([torch.zeros(5)], [IntType(4)]) == 1.0


def test_the_largest_step_clips_nothing_that_was_seen() -> None:
    net = net_of(Everything())
    seen = signals.ranges(net, images())
    net.set_bits(Bits(3, 4))
    steps = signals.largest_steps(net, seen)
    used = {name: largest / (steps[net.groups[name]] * net.types[name].max) for name, largest in seen.items()}
    assert max(used.values()) <= 1 + 1e-6
    for group in steps:
        assert max(share for name, share in used.items() if net.groups[name] == group) == pytest.approx(1.0), group


def test_histograms_count_every_sample_over_one_range() -> None:
    before, after = {"a": torch.tensor([0.0, 1.0, 2.0, 8.0])}, {"a": torch.tensor([0.0, 1.0, 1.0, 1.5])}
    row: dict[str, Any] = signals.histograms(before, after, {"a": 3.0}, num_bins=8)[0]
    assert (row["layer"], row["bound"]) == ("a", 3.0)
    assert row["before"]["edges"] == row["after"]["edges"] == list(map(float, range(9)))
    assert (row["before"]["counts"], row["after"]["counts"]) == ([1, 1, 1, 0, 0, 0, 0, 1], [1, 3, 0, 0, 0, 0, 0, 0])
    still = signals.histograms({"a": torch.zeros(3)}, {"a": torch.zeros(3)}, {"a": 1.0}, num_bins=2)[0]
    assert still["before"] == {"edges": [0.0, 0.5, 1.0], "counts": [3, 0]}


def test_other_regularisers_pull_on_size_alone() -> None:
    signals_of = {"a": torch.tensor([0.0, 1.0, -8.0])}
    assert signals.l1(signals_of, {"a": 4.0}).item() == pytest.approx(0.1 * (0.25 + 2) / 3)
    assert signals.truncated_l1(signals_of, {"a": 4.0}).item() == pytest.approx(0.1 * (0.25 + 1) / 3)
