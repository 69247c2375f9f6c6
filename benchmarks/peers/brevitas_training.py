"""Brevitas' own process: one training step of LeNet or ResNet-20 with 4-bit weights and activations, beside the fp32 step in the same rounds."""

import json
import os
import sys
import time
from statistics import median

import brevitas.nn as qnn
import torch
from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import Tensor, nn
from torch.nn import functional as F

asked = json.loads(sys.argv[1])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
BITS, BATCH = asked["bits"], asked["batch"]
weight, activation = {"weight_quant": Int8WeightPerTensorFloat, "weight_bit_width": BITS}, {"act_quant": Uint8ActPerTensorFloat, "bit_width": BITS}


def parts(quantised: bool):
    """Convolution, dense layer and ReLU, quantised or not."""
    if quantised:
        return (
            lambda *args, **more: qnn.QuantConv2d(*args, **more, **weight),
            lambda *args: qnn.QuantLinear(*args, bias=True, **weight),
            lambda: qnn.QuantReLU(**activation),
        )
    return nn.Conv2d, nn.Linear, nn.ReLU


def lenet(quantised: bool) -> nn.Module:
    conv, dense, relu = parts(quantised)
    return nn.Sequential(
        conv(1, 20, 5), relu(), nn.MaxPool2d(2), conv(20, 50, 5), relu(), nn.MaxPool2d(2), nn.Flatten(), dense(800, 500), relu(), dense(500, 10)
    )


class Block(nn.Module):
    def __init__(self, quantised: bool, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        conv, _, relu = parts(quantised)
        self.first = nn.Sequential(conv(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), relu())
        self.second = nn.Sequential(conv(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else nn.Sequential(conv(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.first(x)) + self.skip(x))


def resnet20(quantised: bool) -> nn.Module:
    conv, dense, relu = parts(quantised)
    widths = (16, 16, 16, 32, 32, 32, 64, 64, 64)
    blocks = [Block(quantised, a, b, 1 if a == b else 2) for a, b in zip((16, *widths[:-1]), widths, strict=True)]
    first = (conv(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), relu())
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense(64, 10))


make, shape = {"lenet": (lenet, (1, 28, 28)), "resnet20": (resnet20, (3, 32, 32))}[asked["network"]]
images, labels = torch.rand(BATCH, *shape).to(memory_format=torch.channels_last), torch.arange(BATCH) % 10
seconds: dict[str, list[float]] = {"quantised": [], "fp32": []}
steps = {}
for name in seconds:
    torch.manual_seed(0)
    net = make(name == "quantised").to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step(net=net, optimizer=optimizer) -> None:
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    steps[name] = step
for turn in range(asked["rounds"] + 1):
    for name, step in steps.items():
        started = time.perf_counter()
        for _ in range(asked["steps"]):
            step()
        if turn:
            seconds[name].append((time.perf_counter() - started) / asked["steps"])
ratios = sorted(a / b for a, b in zip(seconds["quantised"], seconds["fp32"], strict=True))
print(json.dumps({"seconds_per_step": median(seconds["quantised"]), "ratio": median(ratios), "low": ratios[0], "high": ratios[-1]}))
