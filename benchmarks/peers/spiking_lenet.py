"""One spiking framework's own process: LeNet over T timesteps of a constant image, its best way of running, beside fp32 torch in the same rounds."""

import json
import os
import sys
import time
from statistics import median

import torch
from torch import Tensor, nn

asked = json.loads(sys.argv[1])
T, NUMBER, BATCH = asked["timesteps"], asked["images"], asked["batch"]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def lenet(neuron) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), neuron(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), neuron(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), neuron(), nn.Linear(500, 10),
    ).eval()  # fmt: skip


def norse():
    from norse.torch import IAFCell, SequentialState

    net = SequentialState(*lenet(IAFCell))

    def run(x: Tensor) -> Tensor:
        state, total = None, 0
        for _ in range(T):
            out, state = net(x, state)
            total = total + out
        return total

    return run


def summed(net: nn.Module, x: Tensor) -> Tensor:
    """What a network that keeps its state gives over all timesteps of a constant input."""
    total = net(x)
    for _ in range(T - 1):
        total = total + net(x)
    return total


def spikingjelly(step_mode: str):
    from spikingjelly.activation_based import ann2snn, functional

    recipe = ann2snn.RateCodingRecipe([torch.rand(64, 1, 28, 28)], mode="99.9%", channel_wise=True, half_threshold=True)
    net = ann2snn.FXConverter(recipe=recipe).convert(lenet(nn.ReLU)).eval()
    functional.set_step_mode(net, step_mode)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(net)
        if step_mode == "m":
            return net(x.unsqueeze(0).expand(T, *x.shape)).sum(0)
        return summed(net, x)

    return run


def snntorch():
    import snntorch as snn

    net = lenet(lambda: snn.Leaky(beta=1.0, init_hidden=True, reset_mechanism="subtract"))
    from snntorch import utils

    def run(x: Tensor) -> Tensor:
        utils.reset(net)
        return summed(net, x)

    return run


def sinabs():
    from sinabs.from_torch import from_model

    net = from_model(lenet(nn.ReLU), input_shape=(1, 28, 28), num_timesteps=T).spiking_model.eval()

    def run(x: Tensor) -> Tensor:
        for layer in net.modules():
            if hasattr(layer, "reset_states"):
                layer.reset_states()
        return net(x.repeat_interleave(T, dim=0)).unflatten(0, (-1, T)).sum(1)

    return run


WAYS = {
    "norse": norse,
    "SpikingJelly, single step": lambda: spikingjelly("s"),
    "SpikingJelly, multi step": lambda: spikingjelly("m"),
    "snnTorch": snntorch,
    "sinabs": sinabs,
}
with torch.inference_mode():
    run, fp32 = WAYS[asked["system"]](), lenet(nn.ReLU).to(memory_format=torch.channels_last)
    images = torch.rand(NUMBER, 1, 28, 28)
    seconds: dict[str, list[float]] = {"ours": [], "fp32": []}
    for turn in range(asked["rounds"] + 1):
        for name, go in (("ours", run), ("fp32", fp32)):
            started = time.perf_counter()
            for start in range(0, NUMBER, BATCH):
                out = go(images[start : start + BATCH])
            if turn:
                seconds[name].append((time.perf_counter() - started) / NUMBER)
    assert out.shape[1] == 10
ratios = sorted(a / b for a, b in zip(seconds["ours"], seconds["fp32"], strict=True))
print(json.dumps({"seconds_per_image": median(seconds["ours"]), "ratio": median(ratios), "low": ratios[0], "high": ratios[-1]}))
