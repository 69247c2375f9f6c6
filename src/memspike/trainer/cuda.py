"""Training on CUDA: products that are what they say, and a step that is launched as one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from memspike.trainer.net import Net

_EAGER_STEPS = 3  # before a step is recorded: they set up moments, workspaces and libraries
Step = Callable[[Tensor, Tensor], Tensor]  # images and labels to the loss, parameters changed on the way


@contextmanager
def own_precision(device: torch.device) -> Generator[None, None, None]:
    """On CUDA, products of single precision are that, not TF32, and cuDNN's sums come in the same order every time. The user's settings come back."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings = [(cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):  # torch 2.9 has both names, and refuses to read the old one where the new one was set
        settings += [(cudnn.conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
    else:
        settings += [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
    before = [getattr(place, name) for place, name, _ in settings]
    for place, name, value in settings:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(settings, before, strict=True):
            setattr(place, name, value)


def is_recordable(net: Net) -> bool:
    """Whether a step of `net` can be a graph: noise copies its stock from the CPU, and a batch norm without momentum asks how many batches there were."""
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]  # pyright: ignore[reportPrivateUsage]
    return net.noise is None and all(norm.momentum is not None for norm in norms)


class Recorded:
    """A step as a CUDA graph: a step of ResNet-20 in counts is about a thousand small kernels, and launching them takes longer than running them.

    The first steps run as they are, the next is recorded, and that one and all that follow are the recording. All batches have one shape.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._left = step, _EAGER_STEPS
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images, self._labels, self._loss = (torch.empty(0),) * 3

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.cuda.device(images.device):
            return self._eager(images, labels) if self._left else self._recorded(images, labels)

    def _eager(self, images: Tensor, labels: Tensor) -> Tensor:
        self._left -= 1
        beside = torch.cuda.Stream()  # what is set up on the stream of a recording must not belong to another one
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            loss = self._step(images, labels)
        torch.cuda.current_stream().wait_stream(beside)
        return loss

    def _recorded(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._graph is None:
            self._images, self._labels, self._graph = images.clone(), labels.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._loss = self._step(self._images, self._labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss
