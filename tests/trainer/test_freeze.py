"""Freezing: the QuantizedNetwork holds the net's integers, scales, gains and offsets, layer by layer."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from memspike.compiler import compile
from memspike.errors import TrainingError
from memspike.integer import IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.trainer.bits import Bits
from memspike.trainer.freeze import freeze
from memspike.trainer.net import Net
from memspike.trainer.trace import trace
from networks import Everything
from random_models import counted, pixels

SHAPE = (1, 8, 8)


def images(n: int = 6) -> torch.Tensor:
    return pixels(np.random.default_rng(0), n, SHAPE)


def frozen(model: nn.Module, bits: Bits | None = None) -> tuple[Net, QuantizedNetwork, dict[str, QuantizedLayer]]:
    net = counted(model, bits or Bits(4, 4), images())
    network = freeze(net, "net", {"seed": 7})
    return net, network, {layer.name: layer for layer in network.layers}


@pytest.mark.parametrize(("bits", "missing"), [(Bits(None, 4), "activations"), (Bits(4, None), "weights"), (Bits(None, None), "activations")])
def test_a_network_that_is_half_floating_point_is_refused(bits: Bits, missing: str) -> None:
    net = Net(Everything(), trace(Everything(), SHAPE), bits)
    with pytest.raises(TrainingError) as error:
        freeze(net, "net", {})
    assert str(error.value) == f"{missing} are still floating point; a network of counts needs bits for both"


def test_layers_and_names_are_the_nets_without_dropouts() -> None:
    net, network, layers = frozen(Everything(), Bits(4, 3, 5))
    assert [layer.name for layer in network.layers] == [layer.name for layer in net.layers if layer.kind != "dropout"]
    assert "dropout" not in layers and layers["twice_2"].inputs == ("twice",) and layers["add_1"].inputs == ("twice_2", "twice")
    assert (network.name, network.input_shape, network.input_type, network.input_scale, network.notes) == ("net", SHAPE, IntType(5), 1 / 31, {"seed": 7})


def test_a_layer_holds_its_integers_scale_gain_and_offset() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1, 1), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    norm: Any = model[1]
    with torch.no_grad():
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            values.copy_(torch.rand(4) + 0.1)
    net, _, layers = frozen(model)
    conv, fc = layers["0"], layers["4"]
    gain = norm.weight.double() / (norm.running_var.double() + 1e-3).sqrt()
    np.testing.assert_allclose(conv.gain, gain.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(conv.offset, (norm.bias.double() + gain * (model[0].bias.double() - norm.running_mean.double())).detach().numpy(), rtol=1e-9)
    np.testing.assert_array_equal(conv.weight, net.weight(net.layers[0]).detach().numpy())
    assert (conv.stride, conv.padding, conv.dilation, conv.groups, conv.weight_type) == ((2, 2), (1, 1), (1, 1), 1, IntType(4, signed=True))
    assert conv.activation_type == IntType(4) and conv.activation_scale == float(np.float32(conv.activation_scale))
    assert fc.activation_type is None and fc.gain is not None and fc.gain.tolist() == [1.0] * 3
    np.testing.assert_array_equal(fc.offset, model[4].bias.detach().double().numpy())


def test_the_papers_grid_needs_a_bit_more() -> None:
    torch.manual_seed(0)
    _, _, layers = frozen(Everything(), Bits(4, 4, grid="liu2018"))
    assert layers["fc1"].weight_type == IntType(5, signed=True) and layers["fc1"].weight is not None and np.abs(layers["fc1"].weight).max() == 8


def test_the_norm_of_the_scores_goes_into_their_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        model[2].running_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))
        model[2].bias.fill_(0.5)
    _, network, layers = frozen(model, Bits(8, 8))
    scores = layers["1"]
    assert scores.gain is not None and scores.gain.tolist() == [1.0] * 3
    x = images()
    with torch.no_grad():
        wanted = model.eval()(x.float() / 255).numpy()
    assert scores.weight is not None
    acc = network.pixels.counts(x.numpy(), network.input_type).reshape(6, -1) @ scores.weight.T
    np.testing.assert_allclose(acc * scores.weight_scale * network.input_scale + scores.offset, wanted, atol=0.02 * np.abs(wanted).max())


def test_a_lone_norm_is_synapses_of_weight_one() -> None:
    _, _, layers = frozen(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 3)))
    norm, vector = layers["2"], layers["4"]
    assert norm.weight is not None and norm.weight.shape == (3, 1, 1, 1) and norm.weight.ravel().tolist() == [1, 1, 1]
    assert vector.weight is not None and vector.weight.shape == (108, 1) and vector.groups == 108 and vector.kind == "dense"
    assert norm.weight_type == IntType(2, signed=True) and norm.weight_scale == 1.0 and norm.activation_type == IntType(5, signed=True)


@pytest.mark.parametrize("last", [
    nn.AdaptiveAvgPool2d(1),
    nn.AvgPool2d((3, 2), stride=6),
    nn.Conv2d(4, 3, 6),
    nn.Conv2d(4, 6, (2, 3), stride=7, dilation=(3, 2), groups=2),
    nn.Conv2d(4, 3, 8, padding=1),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dropout", [False, True])
def test_scores_of_a_single_place_are_dense(last: nn.Module, dropout: bool) -> None:
    torch.manual_seed(0)
    between = [nn.Dropout()] if dropout else []
    net, network, layers = frozen(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *between, last, *between, nn.Flatten()), Bits(4, 4))
    flat, scores = network.layers[-2:]
    assert (flat.kind, flat.inputs, scores.kind, scores.inputs) == ("flatten", ("0",), "dense", (flat.name,))
    assert len(layers) == 3 and scores.activation_type is None
    program = compile(network)
    values = program.evaluate_all(program.count_pixels(images().numpy()))
    with torch.no_grad():
        real = net(images()).double().numpy()
    assert scores.gain is not None and scores.offset is not None
    sums = values[f"{scores.name}.sum"] * (scores.gain * scores.weight_scale * layers["0"].activation_scale)
    np.testing.assert_allclose(sums + scores.offset, real, rtol=1e-4, atol=1e-5 * np.abs(real).max())
    np.testing.assert_array_equal(values["scores"].argmax(1), real.argmax(1))
