"""Refusals: what no training can end well with is refused before the first step."""

import re

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from memspike.errors import ModelError, ProgramError, TrainingError, first_line
from memspike.integer import IntType
from memspike.ops import TensorType
from memspike.program import Program
from memspike.trainer.data import Data
from memspike.trainer.layers import Trace
from memspike.trainer.net import Net


@torch.no_grad()
def check_same(net: Net, model: nn.Module, traced: Trace) -> None:
    """The layers that were read must compute what the model does: the last defence against what torch.fx does not see."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, *traced.input_shape), dtype=np.uint8))
    found = net.eval()(images)
    if traced.final:
        found = getattr(F, traced.final)(found, 1)
    cure = "take the number of images from the batch, as x.flatten(1) and x.view(x.size(0), -1) do"
    try:
        wanted = model.eval()(images.float() / 255)
    except (Exception, SystemExit) as error:  # whatever a user's own forward raises
        what = f"{type(model).__name__} gives scores for two images at once, but not for {len(images)}: {first_line(error)}"
        raise ModelError(what, cure=cure) from error
    if wanted.shape != found.shape:
        raise ModelError(f"{type(model).__name__} gives scores {list(wanted.shape)} for {len(images)} images", cure=cure)
    if not wanted.isfinite().all():
        raise ModelError(f"{type(model).__name__} gives scores that are not finite numbers", cure="initialise it with smaller weights")
    if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        what = f"{type(model).__name__} computes something else than the layers torch.fx has seen: {found[0, 0]:.4g} where it gives {wanted[0, 0]:.4g}"
        raise ModelError(what, cure="write its forward with modules and calls that change nothing outside their result")


def check_name(name: str) -> None:
    """Raises TrainingError for what no program may be called, nor that of the longest-named baseline: programs alone say what is a name."""
    try:
        for each in (name, f"{name}-dynamic-fixed-point-8"):
            Program(each, "image", TensorType((1,), IntType(1)), (), "image")
    except ProgramError as error:
        cure = "pass another as name=; from the command line it is the module and function that --model names"
        raise TrainingError(error.what, cure=cure) from error


def check_seed(seed: int) -> None:
    """Raises TrainingError for a seed that torch does not take."""
    if not 0 <= seed < 2**63:
        raise TrainingError(f"seed must lie between 0 and 2**63 - 1, got {seed}")


def check_device(device: str) -> None:
    """Raises TrainingError unless torch can train on it here."""
    kind, _, index = device.partition(":")
    if not re.fullmatch(r"(cpu|cuda)(:[0-9]{1,3})?", device):
        raise TrainingError(f"no device {device!r}", cure="devices: cpu, cuda")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise TrainingError("torch finds no CUDA device here", cure="use --device cpu; `memspike doctor` shows what torch can use")


def check_scores(net: Net, data: Data) -> None:
    """Raises ModelError when the data has classes that the network does not score."""
    classes = int(max(data.train.labels.max(), data.test.labels.max())) + 1
    scores = net.layers[-1].shape[0]
    if scores < classes:
        raise ModelError(f"the network gives {scores} scores, {data.name} has {classes} classes", cure="match the last layer to the data")
