"""What is measured: reference networks as plain torch modules and as programs, and random images for both."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import memspike as ms
from memspike.trainer import Bits, Training

SHAPES = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32), "alexnet_cifar": (3, 32, 32)}
TITLES = {"lenet": "LeNet", "resnet20": "ResNet-20", "alexnet_cifar": "AlexNet (CIFAR)"}
TRAINED = {"lenet": ("lenet-mnist-4", "mnist"), "resnet20": ("resnet20-cifar10-4", "cifar10")}
DATA = Path(os.environ.get("MEMSPIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
BATCH = 256


def module(name: str) -> nn.Module:
    """The network in fp32, channels last, ready to infer."""
    torch.manual_seed(0)
    return ms.load_model(name, SHAPES[name][0]).eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def training(net: nn.Module | str, shape: tuple[int, int, int], bits: int = 4, **more: Any) -> Training:
    """A training of the network on 64 random images: speed does not depend on what it has learned."""
    rng = np.random.default_rng(0)
    split = SimpleNamespace(images=rng.integers(0, 256, (64, *shape), dtype=np.uint8), labels=np.arange(64) % 10)
    data = SimpleNamespace(name="random", digest="", source="random", train=split, test=split)
    torch.manual_seed(0)
    model = ms.load_model(net, shape[0]) if isinstance(net, str) else net
    return Training(model, data, bits=Bits(bits, min(bits, 8)), **more)  # pyright: ignore[reportArgumentType]


def mapping(name: str, bits: int = 4) -> ms.Mapping:
    """The network rounded without training, on a chip that stacks as many crossbars as it needs."""
    return mapped(training(name, SHAPES[name], bits))


def mapped(trained: Training) -> ms.Mapping:
    """The program of a training as it stands, mapped."""
    return ms.map(ms.compile(trained.rehearsal()), replace(ms.load_chip("predictive"), max_stacked_tiles=1024))


def trained(name: str, number: int) -> tuple[ms.Mapping, NDArray[np.uint8], Tensor] | str:
    """The 4-bit program that comes along, mapped, and test images as counts and as float32, channels last; or in words which data are not there."""
    program, folder = TRAINED[name]
    if not (DATA / folder).is_dir():
        return f"no {folder} in {DATA} (MEMSPIKE_DATA names the folder above it)"
    mapped = ms.map(ms.load_program(program), ms.load_chip("predictive"))
    counts = mapped.program.count_pixels(ms.datasets.load(DATA / folder).test.images[:number]).astype(np.uint8)
    return mapped, counts, torch.from_numpy(counts.astype(np.float32)).to(memory_format=torch.channels_last)


def images(name: str, number: int, bits: int = 4) -> tuple[NDArray[np.uint8], Tensor]:
    """The same random images as counts and as float32, channels last."""
    counts = np.random.default_rng(1).integers(0, 1 << bits, (number, *SHAPES[name]), dtype=np.uint8)
    return counts, torch.from_numpy(counts.astype(np.float32)).to(memory_format=torch.channels_last)


@torch.inference_mode()
def infer(net: nn.Module, pixels: Tensor) -> None:
    """All images in batches of 256."""
    for start in range(0, len(pixels), BATCH):
        net(pixels[start : start + BATCH])
