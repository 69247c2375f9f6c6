"""Training for a device: what a step sees is what the device does, and a network that has seen it bears it better."""

import math

import numpy as np
import pytest
import torch

from devices import chip, device, law, number, stuck
from memspike import datasets
from memspike.errors import TrainingError
from memspike.mapper import map as map_program
from memspike.pixels import PixelCode
from memspike.simulator import written
from memspike.trainer import Bits, Hardening, Recipe, Training, weights
from memspike.trainer.layers import Layer
from memspike.trainer.models import DigitsNet
from memspike.trainer.noise import DeviceNoise
from random_models import counted
from small_programs import one_dense

NOISY = device(programming=law("constant", std=0.12))
NOISIER = device(programming=law("constant", std=0.2))


def noise(cell, largest: int = 7, bits_per_cell: int = 4, time: float = 0.0) -> DeviceNoise:
    return DeviceNoise(cell, time, bits_per_cell, largest, seed=0)


def test_a_perfect_device_changes_no_weight():
    weight = torch.arange(-7, 8).repeat(20).float()
    assert not noise(device()).deviation(weight).any() and noise(device()).variance == 0


@pytest.mark.parametrize("cell", [NOISY, device(programming=law("wan2022")), device(stuck=stuck(0.09, 0.02)), device(drift=law("cmo_hfox"))])
def test_training_sees_the_errors_that_chips_have(cell):
    """For each weight, mean and spread of the deviation, against the simulator's own crossbars."""
    weight = np.repeat(np.arange(-7, 8), 60)
    program = one_dense(30, 30, weight=weight.reshape(30, 30))
    mapping = map_program(program, chip(32, 64).with_device(cell))
    found = np.stack([written(mapping, seed, 1000.0)["scores.sum"].deviation[0].T.ravel() for seed in range(30)])
    seen = np.stack([noise(cell, time=1000.0).deviation(torch.from_numpy(weight).float()).numpy() for _ in range(30)])
    for k in range(-7, 8):
        a, b = found[:, weight == k], seen[:, weight == k]
        assert b.mean() == pytest.approx(a.mean(), abs=5 * a.std() / np.sqrt(a.size) * 1.5 + 0.02)
        assert b.std() == pytest.approx(a.std(), rel=0.25, abs=0.02)  # stuck cells are few and far off


def test_pixels_on_several_lines_have_cells_on_each():
    """No error, no difference; and of errors that are each cell's own, three lines average out the root of three."""
    bits, images = Bits(2, 4, pixels=PixelCode(lines=3)), torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    net = counted(DigitsNet(), bits, images)
    first, x = net.layers[0], net._image(images)
    meant = net.accumulate(first, x)
    net.noise = lambda largest: noise(device(), largest)
    assert torch.equal(net.accumulate(first, x), meant)

    @torch.no_grad()
    def spread(lines: int) -> float:
        net.set_bits(Bits(2, 4, 2 if lines > 1 else 4, pixels=PixelCode(lines=lines)))
        weights.set_scales(net, clustering=True)
        scale, x = (15 if lines == 1 else 9), torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
        net.noise = None
        meant = net.accumulate(first, net._image(x)) / scale
        net.noise = lambda largest: noise(NOISY, largest)
        return float(torch.stack([net.accumulate(first, net._image(x)) / scale - meant for _ in range(200)]).std())

    assert spread(3) == pytest.approx(spread(1) / np.sqrt(3), rel=0.1)


def test_slices_weigh_as_much_as_their_place():
    errors = noise(device(programming=law("constant", std=0.005)), largest=127).deviation(torch.full((20_000,), 100.0))
    step = 39e-6 / 15
    assert errors.std() == pytest.approx(np.sqrt(2 * (1 + 16**2)) * 0.005 * 39e-6 / step, rel=0.05)
    assert noise(device(read_noise=number(0.01)), largest=127).variance == pytest.approx(2 * (0.01 * 40e-6 / step) ** 2 * (1 + 16**2))


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_read_noise_grows_with_the_spikes_that_a_neuron_sees(groups):
    """Its spread is the root of those spikes times one spike's variance: a dense layer (0 groups), and convolutions with padding and stride."""
    found = noise(device(read_noise=number(0.01)))
    rng = torch.Generator().manual_seed(0)
    if groups:
        layer = Layer("y", "conv2d", ("x",), (4, 3, 3), stride=(2, 2), padding=(1, 1), groups=groups)
        x, weight = torch.randint(0, 16, (1, 4, 5, 5), generator=rng).float(), torch.ones(4, 4 // groups, 3, 3)
        seen = torch.nn.functional.conv2d(x, weight, None, 2, 1, 1, groups)
    else:
        layer = Layer("y", "dense", ("x",), (4,))
        x, weight = torch.randint(0, 16, (1, 30), generator=rng).float(), torch.ones(4, 30)
        seen = x @ weight.T
    many = x.expand(4000, *x.shape[1:])
    drawn = found.current(layer, many, weight, torch.zeros(4000, *seen.shape[1:]))
    np.testing.assert_allclose(drawn.std(0) / found.variance**0.5, seen[0].sqrt(), rtol=0.08)
    assert drawn.flatten(1).T.corrcoef().fill_diagonal_(0).abs().max() < 0.1


@pytest.fixture(scope="module")
def hardened():
    """Digits, briefly trained, then for a noisy device."""

    def start(folder=None):
        recipe = Recipe(epochs=12, convergence_epochs=1, finetune_epochs=5, batch_size=64)
        torch.manual_seed(0)
        return Training(DigitsNet(), datasets.load("digits"), bits=Bits(4, 4), recipe=recipe, seed=0, folder=folder)

    training = start()
    floating = training.floating()
    counts = training.counts(floating)
    return start, training, floating, counts, training.harden(counts, floating, Hardening(NOISIER, epochs=8, learning_rate=1e-3))


def test_a_network_trained_for_a_device_loses_less_on_its_chips(hardened):
    """Not by chance: both are measured on the same test images, with another chip for each batch."""
    _, training, _, counts, after = hardened
    assert after.noise is None and counts.noise is None
    notes = training.notes["hardening"]
    assert notes["device"] == "test-cell"
    assert notes["accuracy_after"] > notes["accuracy_before"] + 0.005
    network = training.freeze(after)
    assert all(np.issubdtype(layer.weight.dtype, np.integer) for layer in network.layers if layer.weight is not None)


def test_training_for_a_device_begins_from_the_finished_counts_and_can_be_repeated(hardened, tmp_path):
    start, _, floating, counts, _ = hardened
    found = []
    for _ in range(2):
        training = start(tmp_path)
        net = training.harden(counts, floating, Hardening(NOISY, epochs=1))
        found.append(training.freeze(net))
    assert list(tmp_path.glob("hardening-*.safetensors"))
    for a, b in zip(found[0].layers, found[1].layers, strict=True):
        assert a.weight is None or np.array_equal(a.weight, b.weight)


NOT = [("epochs", 2.5), ("epochs", -1), ("bits_per_cell", 0), ("time", math.inf), ("time", math.nan), ("learning_rate", 0.0), ("learning_rate", math.inf)]


@pytest.mark.parametrize(("option", "value"), NOT)
def test_a_training_for_a_device_that_makes_no_sense_is_refused(option, value):
    with pytest.raises(TrainingError, match="must be (a whole number|0 or more|1 or more|a finite number above zero), got"):
        Hardening(NOISY, **{option: value})
