"""Training on CUDA: products that are what they say, and a step that is launched as one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from memspike.trainer.net import Net

_EAGER_STEPS = 3  # before a step is recorded: they set up moments, workspaces and libraries
Step = Callable[[Tensor, Tensor], Tensor]  # images and labels to the loss, parameters changed on the way


@contextmanager
def own_precision() -> Generator[None, None, None]:
    """Convolutions of single precision are that, not TF32, and sums come in the same order every time; on a CPU nothing changes."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def is_recordable(net: Net) -> bool:
    """Whether a step of `net` can be a graph: noise draws on the CPU, and a batch norm without momentum asks how many batches there were."""
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]  # pyright: ignore[reportPrivateUsage]
    return net.noise is None and all(norm.momentum is not None for norm in norms)


class Recorded:
    """A step as a CUDA graph: a step of ResNet-20 in counts is 1400 small kernels, and launching them takes longer than running them.

    The first steps run as they are, the next is recorded, and that one and all that follow are the recording, on the same values.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._stream, self._left = step, torch.cuda.Stream(), _EAGER_STEPS
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images, self._labels, self._loss = (torch.empty(0),) * 3

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._left:
            self._left -= 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                loss = self._step(images, labels)
            torch.cuda.current_stream().wait_stream(self._stream)
            return loss
        if self._graph is None:
            self._images, self._labels, self._graph = images.clone(), labels.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._loss = self._step(self._images, self._labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss
