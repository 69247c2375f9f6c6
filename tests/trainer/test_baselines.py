"""Baselines: direct rounding clips nothing it has seen; dynamic fixed point has powers of two, the smallest that hold the range."""

import copy
import math

import numpy as np
import pytest
import torch

from memspike.compiler import compile
from memspike.errors import TrainingError
from memspike.trainer import signals
from memspike.trainer.baselines import direct, dynamic_fixed_point
from memspike.trainer.bits import Bits
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from networks import Everything
from random_models import SHAPE, pixels, random_model


def net_of(seed: int) -> Net:
    model = random_model(seed)
    return Net(model, trace(model, SHAPE)).eval()


@pytest.mark.parametrize("seed", range(6))
def test_direct_rounding_clips_no_signal_of_its_images(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_SAMPLES", 10)  # of all values, whatever is drawn for other ends
    net, x = net_of(seed), pixels(np.random.default_rng(seed), 30)
    network = direct(net, x, Bits(3, 4), "direct")
    monkeypatch.undo()
    seen = signals.observe(net, x)
    layers = {layer.name: layer for layer in network.layers}
    assert seen and network.notes == {"method": "direct rounding"}
    for name, signal in seen.items():
        layer = layers[name]
        assert layer.activation_type is not None
        highest = math.floor(float(signal.abs().max()) / layer.activation_scale + 0.5)
        assert highest <= layer.activation_type.max, name


@pytest.mark.parametrize("seed", range(6))
def test_direct_rounding_puts_the_largest_weight_on_the_largest_integer(seed: int) -> None:
    net = net_of(seed)
    network = direct(net, pixels(np.random.default_rng(seed), 30), Bits(4, 3, grid="liu2018"), "direct")
    for layer in network.layers:
        if layer.kind in ("conv2d", "dense") and layer.weight_scale != 1.0:
            assert layer.weight is not None and np.abs(layer.weight).max() == 4, layer.name


@pytest.mark.parametrize("seed", range(6))
def test_dynamic_fixed_point_has_the_smallest_powers_of_two_that_hold_the_range(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_SAMPLES", 10)
    net, x = net_of(seed), pixels(np.random.default_rng(seed), 30)
    network = dynamic_fixed_point(net, x, "fixed")
    monkeypatch.undo()
    assert network.input_type.bits == 8 and network.notes == {"method": "8-bit dynamic fixed point"}
    largest: dict[str, float] = {}
    for name, signal in signals.observe(net, x).items():
        group = net.groups[name]
        counts = next(layer for layer in network.layers if layer.name == name).activation_type
        assert counts is not None
        largest[group] = max(largest.get(group, 0.0), float(signal.abs().max()) / counts.max)
    for layer in network.layers:
        assert math.frexp(layer.weight_scale)[0] == 0.5, layer.name
        group = net.groups.get(layer.name, "image")
        if group in largest and layer.activation_type is not None and largest[group]:
            assert math.frexp(layer.activation_scale)[0] == 0.5, layer.name
            assert layer.activation_scale / 2 < largest[group] <= layer.activation_scale, layer.name
    for layer in net.layers:
        if layer.module and layer is not net.scores:
            weight = net.weight_before_rounding(layer).detach()
            found = next(other for other in network.layers if other.name == layer.name)
            assert found.weight_scale / 2 < float(weight.abs().max()) / 127 <= found.weight_scale
            integers = (weight.double() / found.weight_scale + 0.5).floor().numpy()
            np.testing.assert_array_equal(found.weight, integers)


def test_powers_of_two_that_are_reached_exactly_are_kept() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(128, 3))
    with torch.no_grad():
        model[1].weight.clamp_(-0.4, 0.4)[0, 0] = 127 / 2**8
    network = dynamic_fixed_point(Net(model, trace(model, SHAPE)), pixels(np.random.default_rng(0), 4), "fixed")
    assert network.layers[-1].weight_scale == 2.0**-8


def test_eight_bits_of_fixed_point_lose_next_to_nothing_and_the_net_stays() -> None:
    torch.manual_seed(0)
    model = Everything()
    net = Net(model, trace(model, (1, 8, 8))).eval()
    before = copy.deepcopy(net.state_dict())
    x = pixels(np.random.default_rng(0), 60, (1, 8, 8))
    with torch.no_grad():
        real = net(x)
    assert net.bits == Bits(None, None)
    network = dynamic_fixed_point(net, x, "fixed")
    program = compile(network)
    scores = program.evaluate(program.count_pixels(x.numpy()))
    margin = real.topk(2, 1).values
    clear = ((margin[:, 0] - margin[:, 1]) > 0.2 * real.std()).numpy()
    assert clear.sum() > 10 and (scores.argmax(1) == real.argmax(1).numpy())[clear].all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()) and net.bits == Bits(None, None)


def test_rounding_to_floating_point_is_refused() -> None:
    with pytest.raises(TrainingError, match="weights are still floating point"):
        direct(net_of(0), pixels(np.random.default_rng(0), 4), Bits(4, None), "direct")
