"""Weight Clustering: the scale it finds is stationary, better than the plain grid, and the best one where all can be tried."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memspike.trainer import weights
from memspike.trainer.bits import Bits
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from networks import Everything


def rounded(weight: Tensor, scale: float, largest: int) -> Tensor:
    return (weight.double() / scale + 0.5).floor().clamp(-largest, largest)


def error(weight: Tensor, scale: float, largest: int) -> float:
    return float((rounded(weight, scale, largest) * scale - weight.double()).square().sum())


def best_of_all(weight: Tensor, largest: int) -> float:
    """The least error of any scale: between the scales at which some weight changes its integer, the best one has the closed form."""
    top = float(weight.abs().max())
    edges = sorted({float(abs(w)) / (k - 0.5) for w in weight.tolist() for k in range(1, largest + 1) if w})
    inside = [(a + b) / 2 for a, b in zip([edges[0] / 2, *edges], [*edges, 2 * top], strict=True)]
    integers = [rounded(weight, scale, largest) for scale in inside]
    closed = [float(k @ weight.double() / (k @ k)) for k in integers if k.any()]
    return min(error(weight, scale, largest) for scale in closed if scale > 0)


tensors = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 400), st.sampled_from(["normal", "laplace", "uniform"])).map(
    lambda t: torch.from_numpy(getattr(np.random.default_rng(t[0]), t[2])(size=t[1])).float()
)
grids = st.integers(2, 8).map(lambda bits: 2 ** (bits - 1) - 1)


@settings(max_examples=30)
@given(tensors, grids)
def test_clustering_is_never_worse_than_the_largest_weight_on_the_largest_integer(weight: Tensor, largest: int) -> None:
    scale = weights.cluster(weight, largest)
    assert error(weight, scale, largest) <= error(weight, float(weight.abs().max()) / largest, largest) * (1 + 1e-9)


@settings(max_examples=30)
@given(tensors, grids)
def test_the_scale_is_stationary(weight: Tensor, largest: int) -> None:
    scale = weights.cluster(weight, largest)
    k = rounded(weight, scale, largest)
    assert float(k @ weight.double() / (k @ k)) == pytest.approx(scale, rel=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from([1, 3]))
def test_clustering_finds_the_best_of_all_scales(seed: int, size: int, largest: int) -> None:
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=size)).float()
    assert error(weight, weights.cluster(weight, largest), largest) <= best_of_all(weight, largest) * (1 + 1e-9) + 1e-12


def test_of_too_many_weights_a_sample_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=20_000)).float()
    exact = error(weight, weights.cluster(weight, 7), 7)
    monkeypatch.setattr(weights, "_MAX_EDGES", 7000)
    assert exact <= error(weight, weights.cluster(weight, 7), 7) <= exact * 1.001
    weight[::20] = 0.0  # the whole sample
    assert 0 < weights.cluster(weight, 7) < float(weight.abs().max())


def test_weights_on_a_grid_are_found_exactly() -> None:
    weight = torch.tensor([-3, -1, 0, 0, 1, 2, 3, 1]).float() * 0.37
    assert weights.cluster(weight, 3) == pytest.approx(0.37, rel=1e-6)


def test_weights_of_zero_have_the_scale_one() -> None:
    assert weights.cluster(torch.zeros(4), 7) == 1.0


def test_every_layer_gets_its_scale() -> None:
    net = Net(Everything(), trace(Everything(), (1, 8, 8)))
    net.set_bits(Bits(4, 3, overrides=(("fc1", None, 5),)))
    for clustering in (True, False):
        weights.set_scales(net, clustering=clustering)
        for layer in net.layers:
            if layer.module:
                weight = net.weight_before_rounding(layer).detach().flatten()
                largest = {"fc1": 15}.get(layer.name, 3)
                wanted = weights.cluster(weight, largest) if clustering else float(weight.abs().max()) / largest
                assert net.weight_scale(layer).item() == pytest.approx(wanted, rel=1e-6)
                integers = net.weight(layer).detach().flatten()
                assert torch.equal(integers, rounded(weight, wanted, largest).float())
                assert clustering or integers.abs().max() == largest


def test_a_layer_of_zeros_has_a_scale_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(model[1].weight)
    net = Net(model, trace(model, (1, 8, 8)), Bits(4, 4))
    for clustering in (True, False):
        weights.set_scales(net, clustering=clustering)
        assert net.weight_scale(net.layers[1]).item() == 1.0 and not net.weight(net.layers[1]).any()


def test_histograms_hold_every_weight_and_every_integer() -> None:
    net = Net(Everything(), trace(Everything(), (1, 8, 8)), Bits(4, 3))
    weights.set_scales(net, clustering=True)
    rows = {row["layer"]: row for row in weights.histograms(net)}
    assert list(rows) == ["stem.0", "depthwise", "pointwise", "left", "right", "twice", "twice_2", "fc1", "fc2"]
    row = rows["fc1"]
    assert row["bits"] == 3 and sum(row["counts"]) == sum(row["level_counts"]) == 64 * 24 and len(row["edges"]) == len(row["counts"]) + 1
    integers = net.weight(next(layer for layer in net.layers if layer.name == "fc1"))
    assert row["levels"] == sorted({int(k) for k in integers.flatten()}) and row["scale"] == net.log_scales["fc1"].exp().float().item()
    assert row["level_counts"][row["levels"].index(0)] == int((integers == 0).sum())
