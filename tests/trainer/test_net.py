"""Net: the forward pass in floating point and in counts, its gradients, its steps, and normalised images."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.errors import ModelError, TrainingError
from memspike.integer import IntType
from memspike.pixels import PixelCode
from memspike.trainer import between
from memspike.trainer.bits import Bits
from memspike.trainer.models import MODELS
from memspike.trainer.net import Net
from memspike.trainer.normalize import PADDED, normalize
from memspike.trainer.trace import trace
from networks import Everything
from random_models import counted, pixels, values_of

ONE = (1, 8, 8)


def images(n: int = 4, shape: tuple[int, ...] = ONE) -> Tensor:
    return pixels(np.random.default_rng(0), n, shape)


def net_of(model: nn.Module, shape: tuple[int, ...] = ONE) -> Net:
    return Net(model, trace(model, shape)).eval()


def scores_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x.float() / 255)


def small(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, bias=bias), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 4))


# -- floating point


@pytest.mark.parametrize("name", MODELS)
def test_reference_networks_compute_what_they_computed(name: str) -> None:
    shape = {"digits_net": (1, 8, 8), "lenet": (1, 28, 28)}.get(name, (3, 32, 32))
    model = MODELS[name](shape[0], 10)
    x = images(2, shape)
    torch.testing.assert_close(net_of(model, shape)(x), scores_of(model, x), rtol=1e-4, atol=1e-5)


def test_gradients_and_statistics_are_the_models() -> None:
    torch.manual_seed(0)
    model, x = Everything(), images(8)
    model.dropout.p = 0.0
    net = net_of(model).train()
    F.log_softmax(net(x), 1)[:, 0].sum().backward()
    model.train()(x.float() / 255)[:, 0].sum().backward()
    for (name, wanted), found in zip(model.named_parameters(), net.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, wanted), found in zip(model.named_buffers(), net.model.buffers(), strict=True):
        torch.testing.assert_close(found, wanted, msg=name)


@pytest.mark.parametrize("bits", [Bits(None, None), Bits(3, 3), Bits(4, None), Bits(None, 4)])
@pytest.mark.parametrize("norm", [False, True])
def test_the_largest_of_a_window_may_fire_alone(bits: Bits, norm: bool) -> None:
    """A max_pool goes before the neurons it alone reads; every value behind it is what it is layer by layer, where a batch norm turns signs around too."""
    torch.manual_seed(0)
    steps = [nn.Conv2d(1, 6, 3), *([nn.BatchNorm2d(6)] if norm else []), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(54, 4)]
    if norm:
        nn.init.normal_(steps[1].weight)  # pyright: ignore[reportArgumentType]
    net, x = net_of(nn.Sequential(*steps)), images(16)
    net.set_bits(bits)
    for name in net.log_steps:
        net.set_step(name, 0.05)
    for layer in net.layers:
        if layer.module and bits.weight:
            net.set_weight_scale(layer, 0.06)
    for is_training, has_gradients in ((False, False), (False, True), (True, True)):
        net.train(is_training)
        with torch.set_grad_enabled(has_gradients):
            found, value = net(x), net._image(x)
            for layer in net.layers:
                value = net._run(layer, [value], None)
        assert torch.equal(found, value) and found.std() > 0
        if not is_training:
            torch.testing.assert_close(net(x, keep={}), found)


def test_dropout_drops_in_floating_point_training_alone() -> None:
    for dropout in (nn.Dropout(0.5), nn.Dropout2d(0.5)):
        net = net_of(nn.Sequential(nn.Conv2d(1, 64, 1), dropout, nn.Flatten(), nn.Linear(64 * 64, 2)))
        layer = next(layer for layer in net.layers if layer.kind == "dropout")
        x = torch.ones(2, 64, 8, 8)
        assert torch.equal(net._run(layer, [x], None), x)
        dropped = net.train()._run(layer, [x], None)
        assert 0.3 < (dropped == 0).float().mean() < 0.7
        whole = (dropped.flatten(2).std(2) == 0).all()
        assert whole == isinstance(dropout, nn.Dropout2d)
        net.set_bits(Bits(4, 4))
        assert torch.equal(net._run(layer, [x], None), x)


def test_what_people_bring() -> None:
    """Double weights, whole-number parameters, frozen ones, modules that nothing uses, batch norms without affine or momentum."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=False), nn.ReLU(), nn.BatchNorm2d(3, momentum=None), nn.Flatten(), nn.Linear(108, 4))
    model.double().requires_grad_(False)
    model.register_parameter("seen", nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
    model[0].aside = nn.Linear(2, 2)
    x = images()
    with torch.no_grad():
        wanted = model.eval()(x.double() / 255)
    net = net_of(model)
    torch.testing.assert_close(net(x).double(), wanted, rtol=1e-5, atol=1e-5)
    assert model[0].weight.dtype == torch.float64 and net.model[0].weight.dtype == torch.float32
    assert not net.model[0].weight.requires_grad
    net.train()(x)
    assert int(net.model[3].num_batches_tracked) == 1


def test_the_model_stays_as_it_was() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net_of(model).train()(images())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_must_be_pixels() -> None:
    with pytest.raises(TrainingError, match="images must be uint8 pixels, got torch.float32"):
        net_of(small())(images().float())


# -- bits and types


def types(model: nn.Module, bits: Bits, shape: tuple[int, ...] = ONE) -> dict[str, str]:
    net = net_of(model, shape)
    net.set_bits(bits)
    return {name: str(type) for name, type in net.types.items()}


def test_types_are_unsigned_behind_a_relu_and_one_bit_more_without() -> None:
    found = types(Everything(), Bits(4, 4, 3, overrides=(("left", 5, None), ("fc1", 2, 8))))
    assert found["image"] == "u3" and found["stem.0"] == "u4" and found["pointwise"] == "i5" and found["add"] == "u4"
    assert found["left"] == "u5" and found["max_pool2d"] == "u5" and found["cat"] == "u5" and found["fc1"] == "u2"


def test_what_meets_counts_in_one_step() -> None:
    net = net_of(Everything())
    assert net.groups["add"] == net.groups["stem.0"] == net.groups["pointwise"]
    assert net.groups["left"] == net.groups["max_pool2d"] == net.groups["avg_pool2d"] == net.groups["cat"] != net.groups["right"]
    net.set_bits(Bits(4, 4))
    net.set_step("add", 0.25)
    assert net.step("pointwise").item() == 0.25


@pytest.mark.parametrize("number", [0.1, 1.0, 2.0**-7, 3e-5, 1 / 15])
def test_a_step_comes_back_as_it_was_set(number: float) -> None:
    net = net_of(small())
    net.set_bits(Bits(4, 4))
    net.set_step("0", number)
    net.set_weight_scale(net.layers[0], number)
    assert net.step("0").item() == net.weight_scale(net.layers[0]).item() == float(np.float32(number))


def test_a_fold_of_the_image_gets_neurons_of_its_own() -> None:
    class Skip(nn.Module):
        def __init__(self, read: Any) -> None:
            super().__init__()
            self.conv, self.fc, self.read = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 3), read

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.read(self, x).flatten(1))

    reads: list[Any] = [
        lambda m, x: m.conv(x) + x,
        lambda m, x: F.relu(m.conv(F.relu(x))),
        lambda m, x: x + x,
        lambda m, x: F.max_pool2d(x, 3, 1, 1) + m.conv(x),
    ]
    for read in reads:
        model, x = Skip(read), images()
        net = net_of(model)
        assert (net.layers[0].name, net.layers[0].inputs, net.layers[0].relu) == ("image.counts", ("image",), True)
        assert all(layer.name == "image.counts" or layer.is_neuron or "image" not in layer.inputs for layer in net.layers)
        torch.testing.assert_close(net(x), scores_of(model, x), rtol=1e-4, atol=1e-5)
        found = types(model, Bits(3, 4, 8))
        assert found["image"] == "u8" and found["image.counts"] == "u3"
    pooled = net_of(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)))
    assert [layer.name for layer in pooled.layers] == ["0", "1", "2"] and {*pooled.groups.values()} == {"image", "2"}


def test_the_scores_are_charges_of_the_last_synapses_alone() -> None:
    def scores(*modules: nn.Module) -> str | None:
        net = net_of(nn.Sequential(nn.Conv2d(1, 3, 8), *modules))
        return net.scores.name if net.scores else None

    assert scores(nn.Flatten()) == "0"
    assert scores(nn.Flatten(), nn.Dropout()) == "0"
    assert scores(nn.Flatten(), nn.Linear(3, 3), nn.BatchNorm1d(3)) == "2"
    assert scores(nn.Flatten(), nn.Linear(3, 3), nn.ReLU()) is None
    assert scores(nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(3)) is None  # gains that differ from class to class


# -- counts


@pytest.mark.parametrize("layers", [[nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2)], [nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 2)]])
def test_what_reads_pixels_without_weights_of_its_own_takes_one_line(layers: list[nn.Module]) -> None:
    net = net_of(nn.Sequential(*layers), (2, 4, 4))
    net.set_bits(Bits(2, 2, pixels=PixelCode(2)))
    with pytest.raises(TrainingError, match="cannot read pixels on 3 lines\n  use one line for a pixel, or put a convolution"):
        net.set_bits(Bits(2, 2, pixels=PixelCode(lines=3)))
    assert net.bits.pixels.lines == 1


def test_one_neuron_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.5, -0.25, 0.74, 0.0]]))
        model[1].bias.fill_(0.1)
        model[3].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    net = net_of(model, (1, 2, 2))
    net.set_bits(Bits(3, 4))
    net.set_step("1", 0.125)
    for layer in net.layers[1::2]:
        net.set_weight_scale(layer, 0.25)
    x = torch.tensor([[[[255, 128], [40, 7]]]], dtype=torch.uint8)
    counts = PixelCode().counts(x.numpy(), IntType(3))
    assert counts.ravel().tolist() == [7, 4, 1, 0]
    # weights 2, -1, 3, 0: the sum is 2 * 7 - 4 + 3 = 13; real 13 / 7 * 0.25 + 0.1 = 0.564; count round(4.514) = 5; score 5 * 0.125
    with torch.no_grad():
        assert values_of(net, x)["1"].tolist() == [[5.0]]
        assert net(x)[0].tolist() == [0.625, -0.625]
        assert net.train()(x)[0].tolist() == [0.625, -0.625]


def test_signals_before_rounding_can_be_kept() -> None:
    model, x = Everything(), images(3)
    net = net_of(model)
    kept: dict[str, Tensor] = {}
    net(x, keep=kept)
    assert set(kept) == {"stem.0", "depthwise", "pointwise", "add", "left", "right", "avg_pool2d", "twice", "twice_2", "add_1", "after", "pool", "fc1"}
    torch.testing.assert_close(kept["stem.0"], model.eval().stem(x.float() / 255), rtol=1e-4, atol=1e-5)
    counting = counted(model, Bits(8, 8), x)
    rounded: dict[str, Tensor] = {}
    counting(x, keep=rounded)
    assert set(rounded) == set(kept)
    for name in kept:  # eight bits lie close to floating point
        assert (rounded[name] - kept[name]).abs().mean() < 0.05 * kept[name].abs().mean() + 0.02, name


def test_a_range_of_pixels_leaves_what_the_network_means() -> None:
    """Within the range, with bits enough, the scores are the model's, whether a batch norm stands behind the image's reader or not."""
    deep = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = torch.from_numpy(np.random.default_rng(0).integers(40, 221, (50, 2, 8, 8), dtype=np.uint8))
    with torch.no_grad():
        deep.train()(x.float() / 255)
        for model in (deep, nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), nn.Sequential(nn.Flatten(), nn.Linear(128, 3), nn.BatchNorm1d(3))):
            meant = counted(model, Bits(None, None), x)(x)
            plain, ranged = (counted(model, Bits(8, 8, pixels=code), x)(x) for code in (PixelCode(), PixelCode(0, 1, 40, 220)))
            assert (ranged - meant).abs().mean() < 2 * (plain - meant).abs().mean() + 1e-3 * meant.abs().mean()
            plain, ranged = (counted(model, Bits(8, 8, pixels=code), x).train()(x) for code in (PixelCode(), PixelCode(0, 1, 40, 220)))
            assert (ranged - plain).abs().mean() < 0.02 * plain.abs().mean()


@pytest.mark.parametrize("bits", [Bits(8, 8), Bits(8, 8, 4, pixels=PixelCode(lines=17))])
def test_long_sums_of_eight_bits_are_exact(bits: Bits) -> None:
    """599 * 255 * 127 lies beyond 2**24, where single precision knows even numbers only."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(600, 1), nn.ReLU(), nn.Linear(1, 2))
    net = net_of(model, (1, 20, 30))
    net.set_bits(bits)
    with torch.no_grad():
        net.model[1].weight.fill_(127)[0, 0] = 1
        net.model[1].bias.fill_(-(599 * 255 * 127 + 1) / 255)
    net.set_weight_scale(net.layers[1], 1.0)
    net.set_step("1", 1 / 255)
    x = torch.full((6, 1, 20, 30), 255, dtype=torch.uint8)
    x[:, 0, 0, 0] = torch.arange(10, 16)
    first = values_of(net, x)["1"].ravel()
    assert (first - first[0]).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_near_tie_falls_where_exact_arithmetic_has_it_fall() -> None:
    """Two white pixels of four are half a count of 1 / 15; the nearest single-precision step is a little larger, so less than half."""
    net = net_of(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1, 2)), (1, 2, 2))
    net.set_bits(Bits(4, 4))
    x = torch.tensor([[[[17, 17], [0, 0]]]], dtype=torch.uint8)
    assert PixelCode().counts(x.numpy(), IntType(4)).ravel().tolist() == [1, 1, 0, 0]
    step = float(np.float32(1 / 15))
    assert step > 1 / 15
    net.set_step("0", step)
    assert values_of(net, x)["0"].item() == 0
    net.set_step("0", float(np.nextafter(np.float32(step), np.float32(0))))
    assert values_of(net, x)["0"].item() == 1


# -- gradients


def test_the_gradient_of_rounding_is_that_of_learned_steps() -> None:
    """Esser et al. 2020, equations 1 to 3 and 5, with the range taken to the rounding edges: y = round(clip(v / s)) * s."""
    v = torch.tensor([-3.0, -0.9, -0.31, -0.2, 0.0, 0.04, 0.32, 0.81, 1.49, 1.51, 1.76, 9.0], requires_grad=True)
    for low, high in ((0, 7), (-4, 3), (-7, 7)):
        step = torch.tensor(0.2, requires_grad=True)
        weight = torch.linspace(-1, 2, len(v))
        (between.rounded(between.affine(v, 1 / step, None), low, high) * step * weight).sum().backward()
        assert v.grad is not None and step.grad is not None
        x = v.detach() / 0.2
        inside = (x > low - 0.5) & (x < high + 0.5)
        of_step = torch.where(inside, (x + 0.5).floor() - x, x.clamp(low, high))
        torch.testing.assert_close(v.grad, weight * inside)
        torch.testing.assert_close(step.grad, (weight * of_step).sum())
        v.grad = None


def test_gradients_reach_weights_steps_scales_and_batch_norms() -> None:
    net = counted(small(), Bits(3, 3), images(16)).train()
    F.cross_entropy(net(images(16)), torch.arange(16) % 4).backward()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert silent == ["model.0.bias"] or silent == []  # a batch norm takes any bias away


# -- Neuron Convergence alone, Weight Clustering alone


@pytest.mark.parametrize("bits", [Bits(4, None), Bits(None, 4), Bits(None, None)])
def test_either_half_may_stay_floating_point(bits: Bits) -> None:
    x = images(16)
    net = counted(Everything(), bits, x)
    values = values_of(net, x)
    whole = all(np.array_equal(value, value.round()) for name, value in values.items() if name != "fc2")
    weights = [net.weight(layer) for layer in net.layers if layer.module]
    assert whole == (bits.activation is not None)
    assert all(torch.equal(w, w.round()) for w in weights) == (bits.weight is not None)
    net.train()(x).sum().backward()


# -- normalised images


MEAN, STD = (0.4, 0.1), (0.25, 0.5)


@pytest.mark.parametrize("make", [
    lambda: nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)),
    lambda: nn.Sequential(nn.Conv2d(2, 4, 3, 2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3)),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.ReLU(), nn.Linear(7, 3)),
])  # fmt: skip
def test_mean_and_std_fold_into_the_first_layer(make: Any) -> None:
    torch.manual_seed(0)
    model, x = make(), images(5, (2, 8, 8))
    folded, note = normalize(model, trace(model, (2, 8, 8)), MEAN, STD)
    mean, std = torch.tensor(MEAN).reshape(1, 2, 1, 1), torch.tensor(STD).reshape(1, 2, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(folded(x / 255), model((x / 255 - mean) / std), rtol=1e-4, atol=1e-4)
    assert note == "mean and std folded into the first layer"


def test_padding_of_normalised_images_is_told() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 3)), images(5, (2, 8, 8))
    folded, note = normalize(model, trace(model, (2, 8, 8)), MEAN, STD)
    assert note == "mean and std folded into the first layer; " + PADDED
    mean, std = torch.tensor(MEAN).reshape(1, 2, 1, 1), torch.tensor(STD).reshape(1, 2, 1, 1)
    with torch.no_grad():
        inside, wanted = folded[0](x / 255), model[0]((x / 255 - mean) / std)
    torch.testing.assert_close(inside[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_normalisation_that_cannot_be_folded_is_refused() -> None:
    def refused(model: nn.Module, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,), shape: tuple[int, ...] = ONE) -> str:
        with pytest.raises(ModelError) as error:
            normalize(model, trace(model, shape), mean, std)
        return str(error.value)

    cure = "\n  only a Conv2d or Linear that reads nothing else can take mean and std into its weights"
    assert refused(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))) == "0 reads the normalised image" + cure
    conv = nn.Conv2d(1, 1, 3, padding=1)
    assert (
        refused(nn.Sequential(conv, nn.ReLU(), conv, nn.Flatten(), nn.Linear(64, 3)))
        == "0 reads the normalised image, and 0_2 reads counts with the same weight" + cure
    )
    tied = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(16, 3))
    tied[2].weight = tied[0].weight
    assert refused(tied) == "0 reads the normalised image, and 2 reads counts with the same weight" + cure
    assert refused(small(), "half", (1,)).startswith("mean and std are numbers, one for each channel; got 'half'")  # pyright: ignore[reportArgumentType]
    assert refused(small(), (None,), (1,)).startswith("mean and std are numbers, one for each channel; got (None,)")  # pyright: ignore[reportArgumentType]
    numbers = "\n  give one mean and one positive std per channel"
    assert refused(small(), (0.5, 0.5), (1, 1)) == "mean (0.5, 0.5) and std (1.0, 1.0) do not fit 1 channels" + numbers
    assert refused(small(), (0.5,), (0.0,)) == "mean (0.5,) and std (0.0,) do not fit 1 channels" + numbers
    assert refused(small(), (float("nan"),), (1.0,)) == "mean (nan,) and std (1.0,) do not fit 1 channels" + numbers
    limits = "\n  give those of pixels between 0 and 1; a mean may reach 1e+06, a std from 1e-06 to 1e+06"
    for mean, std in (((1e300,), (1.0,)), ((-1e7,), (1.0,)), ((0.0,), (1e-45,)), ((0.0,), (1e-30,)), ((0.0,), (1e300,))):
        assert refused(small(), mean, std) == f"mean {mean} and std {std} are out of range" + limits


# -- the fast forms of the training step say what the plain ones say


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("half", [0.0, 0.5])
@pytest.mark.parametrize("waits", [True, False])
def test_sums_are_normalised_in_their_own_units(
    half: float, affine: bool, momentum: float | None, training: bool, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(between, "_waits", lambda acc: waits)  # as on CUDA, and as on a processor
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, affine=affine, momentum=momentum)
    norm(torch.randn(8, 5, 3, 3))
    norm.train(training)
    plain, acc = copy.deepcopy(norm), torch.randint(-90, 90, (8, 5, 3, 3)).float()
    gain, step = torch.tensor(0.013), torch.tensor(0.21, requires_grad=True)
    fast, slow = acc.clone().requires_grad_(), acc.clone().requires_grad_()
    weight = torch.randn(8, 5, 3, 3)
    found = between.normalized(norm, fast, gain, 1 / step, half, training)
    (of_step,) = torch.autograd.grad((found * weight).sum(), step, retain_graph=True)
    (found * weight).sum().backward()
    wanted = plain(slow * gain) / step + half
    (wanted_of_step,) = torch.autograd.grad((wanted * weight).sum(), step, retain_graph=True)
    (wanted * weight).sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of_step, wanted_of_step, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dict(norm.named_buffers()), dict(plain.named_buffers()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradients_of_an_affine_are_right(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    gain, offset = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(between.affine, (x, gain, offset))
    assert torch.autograd.gradcheck(lambda x, gain: between.affine(x, gain, None), (x, gain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("cached", [1, 70, 1 << 17])
def test_counts_are_taken_a_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch, cached: int, layout: torch.memory_format, dtype: torch.dtype) -> None:
    """As many as fit; the last ones too, and nothing is changed that was given."""
    monkeypatch.setattr(between, "_CACHED", cached)
    torch.manual_seed(0)
    gain, offset = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    for shape in ((7, 4, 2, 3), (7, 4)):
        acc = torch.randint(-50, 50, shape).to(dtype)
        acc = acc.to(memory_format=layout) if len(shape) == 4 else acc
        before = acc.clone()
        wanted = (acc.double() * between.along(acc, gain) + between.along(acc, offset)).floor().clamp(-3, 15)
        found = between.counted(acc, gain, offset, -3, 15)
        assert found.dtype == torch.float32 and found.stride() == acc.stride()
        assert torch.equal(found.double(), wanted) and torch.equal(acc, before)


def test_products_in_bfloat16_are_for_training_alone() -> None:
    exact = counted(small(), Bits(4, 4), images(64))
    mixed = copy.deepcopy(exact)
    mixed.is_mixed = True
    with torch.no_grad():
        assert torch.equal(mixed.eval()(images(64)), exact.eval()(images(64)))
    found, wanted = mixed.train()(images(64)), exact.train()(images(64))
    assert not torch.equal(found, wanted)
    assert (found - wanted).square().mean() < 0.02 * wanted.square().mean()


def test_signals_in_floating_point_are_as_narrow_as_their_products() -> None:
    """While training, or where another net only follows the scores; never where counts lie between, which would meet wrong halves."""
    for bits in (Bits(None, None), Bits(4, None), Bits(None, 4), Bits(4, 4)):
        exact = counted(small(), bits, images(64))
        mixed = copy.deepcopy(exact)
        mixed.is_mixed = True
        kept: dict[str, Tensor] = {}
        found, wanted = mixed.train()(images(64), keep=kept), exact.train()(images(64))
        assert {signal.dtype for signal in kept.values()} == {torch.bfloat16 if bits == Bits(None, None) else torch.float32}
        assert found.dtype == torch.float32 and (found - wanted).square().mean() < 0.02 * wanted.square().mean()
        found.sum().backward()
        assert all(parameter.grad is not None and parameter.grad.dtype == parameter.dtype for parameter in mixed.parameters())


def test_who_teaches_is_mixed_in_evaluation_too() -> None:
    exact = net_of(small())
    teacher = exact.teacher()
    teacher.is_mixed = True
    with torch.no_grad():
        found, wanted = teacher(images(64)), exact(images(64))
    assert not torch.equal(found, wanted) and found.dtype == torch.float32
    assert (found - wanted).square().mean() < 0.001 * wanted.square().mean()


def test_channels_come_last_from_the_first_layer_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind an image of one channel, whose stride says nothing: pools and convolutions take several times as long otherwise."""
    net = counted(MODELS["lenet"](), Bits(4, 4), images(8, (1, 28, 28))).to(memory_format=torch.channels_last)
    strides = list[bool]()
    largest = between.largest
    monkeypatch.setattr(between, "largest", lambda pool, x: strides.append(x.stride(1) == 1) or largest(pool, x))
    net.train()(images(8, (1, 28, 28)))
    assert strides and all(strides)


@pytest.mark.parametrize(("low", "high"), [(0, 15), (-16, 15)])
def test_whole_counts_are_clipped_as_if_they_were_rounded(low: int, high: int) -> None:
    """Values and gradients, at the edges too: a sum of counts needs no rounding."""
    counts = torch.arange(low - 4.0, high + 5, requires_grad=True)
    found, wanted = between.clipped(counts, low, high), between.rounded(counts, low, high)
    assert torch.equal(found, wanted)
    assert torch.equal(*(torch.autograd.grad((values * (counts.detach() + 40)).sum(), counts)[0] for values in (found, wanted)))


def test_training_rounds_where_no_bias_or_batch_norm_holds_the_half() -> None:
    """Layers that have neither: their counts while training are those of the program, but where single precision meets a threshold."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 12, bias=False), nn.ReLU(), nn.Linear(12, 5))
    net, x = counted(model, Bits(4, 4), images(64, (1, 8, 8))), images(64, (1, 8, 8))
    found, wanted = (values_of(mode, x) for mode in (copy.deepcopy(net).train(), net))
    hidden = [layer.name for layer in net.layers[:-1]]
    assert [name for name in hidden if (found[name] != wanted[name]).mean() > 0.001] == []
