"""Brevitas' own process: fine-tunes a floating-point network that memspike trained, in the same loop as memspike's, and writes its predictions.

Takes JSON: network, bits, epochs, batch_size, learning_rate, distillation, temperature, warmup, shift, flip, num_statistics, seed, and the files `state`,
`data` and `out`. Prints one line of JSON.
"""

import copy
import json
import math
import os
import sys
import time

import brevitas
import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.quant import Int8WeightPerTensorFloatMSE, Uint8ActPerTensorFloatMSE
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F


class Weight(Int8WeightPerTensorFloatMSE):
    """A weight's scale starts where the squared error is least, as memspike's does. It is learned as Brevitas does by default: itself, not its logarithm."""


class Activation(Uint8ActPerTensorFloatMSE):
    """A signal's scale likewise, from the first batches; until then it only follows them."""

    collect_stats_steps = 10


class Layers:
    """Convolution, dense layer and ReLU: torch's own with `bits` None, else Brevitas'."""

    def __init__(self, bits: int | None) -> None:
        self.bits = bits
        self.weight = {"weight_quant": Weight, "weight_bit_width": bits}
        self.activation = {"act_quant": Activation, "bit_width": bits}

    def conv(self, *args: int, **more: object) -> nn.Module:
        return qnn.QuantConv2d(*args, **more, **self.weight) if self.bits else nn.Conv2d(*args, **more)

    def dense(self, *args: int) -> nn.Module:
        return qnn.QuantLinear(*args, bias=True, **self.weight) if self.bits else nn.Linear(*args)

    def relu(self) -> nn.Module:
        return qnn.QuantReLU(**self.activation) if self.bits else nn.ReLU()


class LeNet(nn.Module):
    """memspike's `lenet`, with the same names of weights."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        self.conv1, self.relu1 = layers.conv(channels, 20, 5), layers.relu()
        self.conv2, self.relu2 = layers.conv(20, 50, 5), layers.relu()
        self.fc1, self.relu3 = layers.dense(800, 500), layers.relu()
        self.fc2 = layers.dense(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu1(self.conv1(x)), 2)
        x = F.max_pool2d(self.relu2(self.conv2(x)), 2)
        return self.fc2(self.relu3(self.fc1(torch.flatten(x, 1))))


class AlexNetCifar(nn.Module):
    """memspike's `alexnet_cifar`, with the same names of weights; in counts it drops nothing out, as memspike's does not."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i, width in enumerate((64, 64, 128, 128, 128)):
            parts += [layers.conv(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), layers.relu()]
            parts += [nn.MaxPool2d(2)] if i in (0, 1, 4) else []
            channels = width
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Flatten(), layers.dense(2048, 384), layers.relu(), nn.Dropout(0.0 if layers.bits else 0.3), layers.dense(384, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


NETWORKS = {"lenet": LeNet, "alexnet_cifar": AlexNetCifar}


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(asked["seed"])
    data = np.load(asked["data"])
    images, labels, test = (torch.from_numpy(data[name]) for name in ("images", "labels", "test"))
    teacher = _network(asked, None)
    student = _network(asked, asked["bits"])
    started = time.monotonic()
    _train(student, teacher, images, labels, asked)
    student.eval()
    with torch.no_grad():
        found = torch.cat([student(_counted(test[i : i + 500], asked["bits"])).argmax(1) for i in range(0, len(test), 500)])
    np.save(asked["out"], found.numpy())
    print(json.dumps({"seconds": time.monotonic() - started, "version": brevitas.__version__}))


def _network(asked: dict[str, object], bits: int | None) -> nn.Module:
    state = load_file(asked["state"])
    channels = 3 if asked["network"] == "alexnet_cifar" else 1
    net = NETWORKS[asked["network"]](Layers(bits), channels)
    # A learned weight scale is set from the weights, so those come first; what is missing then are the quantisers' own parameters.
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all("quant" in name for name in missing), (missing, unexpected)
    net = net.to(memory_format=torch.channels_last)
    return net if bits else copy.deepcopy(net).eval().requires_grad_(False)


def _counted(pixels: Tensor, bits: int) -> Tensor:
    """Pixels rounded half up to counts of so many bits, in integers, and those as shares of the largest: what a memspike program is shown."""
    largest = 2**bits - 1
    return _whole((2 * largest * pixels.int() + 255) // 510, largest)


def _whole(values: Tensor, largest: int = 255) -> Tensor:
    return (values.float() / largest).contiguous(memory_format=torch.channels_last)


def _train(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor, asked: dict[str, object]) -> None:
    size, epochs, peak = asked["batch_size"], asked["epochs"], asked["learning_rate"]
    steps = len(images) // size
    warm = max(1, int(asked["warmup"] * epochs * steps))
    optimizer = torch.optim.AdamW(student.parameters(), lr=peak, weight_decay=0.0)
    rng = np.random.default_rng(asked["seed"])
    student.train()
    for epoch in range(epochs):
        order = torch.from_numpy(rng.permutation(len(images)))
        total = 0.0
        for step in range(steps):
            now = epoch * steps + step
            rate = peak * (now + 1) / warm if now < warm else peak * 0.5 * (1 + math.cos(math.pi * (now - warm) / max(1, epochs * steps - warm)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * size : (step + 1) * size]
            batch = _augmented(images[chosen], asked["shift"], asked["flip"], rng)
            scores, heat, share = student(_counted(batch, asked["bits"])), asked["temperature"], asked["distillation"]
            with torch.no_grad():
                taught = F.log_softmax(teacher(_whole(batch)) / heat, dim=1)
            followed = F.kl_div(F.log_softmax(scores / heat, dim=1), taught, reduction="batchmean", log_target=True)
            loss = (1 - share) * F.cross_entropy(scores, labels[chosen]) + share * heat**2 * followed
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"brevitas {asked['network']} {asked['bits']} bits: epoch {epoch + 1}/{epochs}, loss {total / steps:.4f}", file=sys.stderr, flush=True)
    _settle(student, images, rng, asked)


@torch.no_grad()
def _settle(student: nn.Module, images: Tensor, rng: np.random.Generator, asked: dict[str, object]) -> None:
    """Statistics of batch norms anew, over as many batches as memspike takes at the end of a stage."""
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
    for _ in range(asked["num_statistics"] if norms else 0):
        chosen = torch.from_numpy(rng.choice(len(images), asked["batch_size"], replace=False))
        student(_counted(_augmented(images[chosen], asked["shift"], asked["flip"], rng), asked["bits"]))


def _augmented(images: Tensor, shift: int, flip: bool, rng: np.random.Generator) -> Tensor:
    """Moved by up to `shift` pixels both ways, black moving in, and mirrored at random if `flip`."""
    n, channels, height, width = images.shape
    down, right = torch.from_numpy(rng.integers(0, 2 * shift + 1, (2, n)))
    rows = (down[:, None] + torch.arange(height)).reshape(n, 1, height, 1)
    columns = (right[:, None] + torch.arange(width)).reshape(n, 1, 1, width)
    images = F.pad(images, (shift,) * 4)[torch.arange(n).reshape(n, 1, 1, 1), torch.arange(channels).reshape(1, channels, 1, 1), rows, columns]
    if flip:
        mirrored = torch.from_numpy(rng.random(n) < 0.5).reshape(-1, 1, 1, 1)
        images = torch.where(mirrored, images.flip(3), images)
    return images


if __name__ == "__main__":
    main()
