"""Random feed-forward modules, written in the many ways people write them, and data to train them on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.trainer import signals, weights
from memspike.trainer.bits import Bits
from memspike.trainer.net import Net
from memspike.trainer.trace import trace

SHAPE = (2, 8, 8)


@dataclass(frozen=True)
class NoiseSplit:
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Noise:
    """A data set of noise: `train` and `test`, classes that can be told apart by the mean of a corner."""

    train: NoiseSplit
    test: NoiseSplit
    name: str = "noise"
    source: str = "random numbers"
    digest: str = "0"

    @classmethod
    def of(cls, num_train: int = 96, num_test: int = 32, shape: tuple[int, ...] = SHAPE, classes: int = 3, seed: int = 0, digest: str = "0") -> "Noise":
        rng = np.random.default_rng(seed)

        def split(n: int) -> NoiseSplit:
            labels = rng.integers(0, classes, n)
            labels[:classes] = range(classes)
            images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
            images[:, :, :4, :4] = (images[:, :, :4, :4] // 2 + (labels * 100 // classes)[:, None, None, None]).astype(np.uint8)
            return NoiseSplit(images, labels)

        return cls(split(num_train), split(num_test), digest=digest)


def pixels(rng: np.random.Generator, n: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """`n` images of noise, uint8."""
    return torch.from_numpy(rng.integers(0, 256, (n, *shape), dtype=np.uint8))


def random_model(seed: int, num_steps: int = 4, *, in_place: bool = True, shape: tuple[int, ...] = SHAPE, classes: int = 3) -> nn.Module:
    """A module of `num_steps` random steps and a random head, its batch norms with random statistics; without `in_place` no tensor is changed."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draft = _Draft(rng, shape, in_place)
        for _ in range(num_steps):
            _STEPS[int(rng.integers(len(_STEPS)))](draft)
        _HEADS[int(rng.integers(len(_HEADS)))](draft, classes)
        model = _Steps(draft.modules, draft.steps)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                _stir(module, rng)
    return model


@torch.no_grad()
def counted(model: nn.Module, bits: Bits, images: Tensor, *, clustering: bool = True) -> Net:
    """The model as a Net of counts, its steps and scales found but nothing trained; ready to evaluate."""
    net = Net(model, trace(model, tuple(images.shape[1:])))
    seen = signals.observe(net, images)
    net.set_bits(bits)
    for group, step in (signals.best_steps(net, seen) if bits.activation else {}).items():
        net.set_step(group, step)
    weights.set_scales(net, clustering=clustering)
    return net.eval()


@torch.no_grad()
def values_of(net: Net, images: Tensor) -> dict[str, np.ndarray]:
    """Every value of the net's forward pass by layer."""
    return {name: value.numpy() for name, value in _values(net, net._image(images)).items()}


def scores_in_double(net: Net, images: Tensor) -> Tensor:
    """What the net computes in double precision and floating point, where rounding plays no part even behind the batch norm of a constant."""
    return _values(net.double(), images.double() / 255)[net.layers[-1].name]


def _values(net: Net, image: Tensor) -> dict[str, Tensor]:
    values = {"image": image}
    for layer in net.layers:
        values[layer.name] = net._run(layer, [values[name] for name in layer.inputs], None)
    return values


class _Steps(nn.Module):
    """Runs its steps one after the other over a list of tensors; torch.fx unrolls the loop."""

    def __init__(self, modules: dict[str, nn.Module], steps: list[Callable[["_Steps", Tensor], Tensor]]) -> None:
        super().__init__()
        self.m = nn.ModuleDict(modules)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(self, x)
        return x


@dataclass
class _Draft:
    rng: np.random.Generator
    shape: tuple[int, ...]
    in_place: bool
    modules: dict[str, nn.Module] = field(default_factory=dict)
    steps: list[Callable[[_Steps, Tensor], Tensor]] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return self.shape[0]

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def maybe(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def module(self, module: nn.Module) -> str:
        name = f"{type(module).__name__.lower()}{len(self.modules)}"
        self.modules[name] = module
        return name

    def conv(self, outputs: int | None = None, *, same: bool = False) -> str:
        """A convolution of the current shape; with `same`, one that keeps it."""
        groups = self.pick(*(g for g in range(1, self.channels + 1) if self.channels % g == 0))
        outputs = outputs or (self.channels if same else groups * self.between(1, 3))
        groups = groups if outputs % groups == 0 else 1
        kernel, dilation = self.pick((1, 1), (3, 1), (3, 2))
        stride = 1 if same or min(self.shape[1:]) < 6 else self.pick(1, 1, 2)
        size = dilation * (kernel - 1) // 2
        padding: Any = size if same or min(self.shape[1:]) < 6 else self.pick(size, 0, (size, 0))
        if same and self.maybe():
            padding = "same"
        module = nn.Conv2d(self.channels, outputs, kernel, stride, padding, dilation, groups, bias=self.maybe())
        name = self.module(module)
        if not same:
            with torch.no_grad():
                self.shape = tuple(module(torch.zeros(1, *self.shape)).shape[1:])
        return name

    def norm(self) -> str:
        return self.module(_NORMS[len(self.shape)](self.channels, momentum=self.pick(0.1, None), affine=self.pick(True, True, False)))

    def relu(self) -> Callable[[_Steps, Tensor], Tensor]:
        """A ReLU in one of the ways to write it; in place only where nothing else reads the tensor."""
        name = self.module(nn.ReLU(inplace=self.in_place))
        ways = [lambda s, x: s.m[name](x), lambda s, x: F.relu(x), lambda s, x: torch.relu(x), lambda s, x: x.relu()]
        return self.pick(*ways, *([lambda s, x: F.relu_(x), lambda s, x: x.relu_(), lambda s, x: F.relu(x, inplace=True)] if self.in_place else []))

    def plain_relu(self) -> Callable[[_Steps, Tensor], Tensor]:
        return self.pick(lambda s, x: F.relu(x), lambda s, x: torch.relu(x), lambda s, x: x.relu())


_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 3: nn.BatchNorm2d}


def _conv(draft: _Draft) -> None:
    conv, norm, relu = draft.conv(), draft.norm() if draft.maybe() else None, draft.relu() if draft.rng.random() < 0.8 else None
    draft.steps.append(lambda s, x: s.m[conv](x))
    if norm:
        draft.steps.append(lambda s, x: s.m[norm](x))
    if relu:
        draft.steps.append(relu)


def _residual(draft: _Draft) -> None:
    conv, norm, inner, outer = draft.conv(same=True), draft.norm(), draft.conv(same=True), draft.plain_relu()

    def branch(s: _Steps, x: Tensor) -> Tensor:
        return s.m[norm](s.m[conv](F.relu(s.m[inner](x))))

    def with_iadd(s: _Steps, x: Tensor) -> Tensor:
        y = branch(s, x)
        y += x
        return outer(s, y)

    ways: list[Any] = [lambda s, x: outer(s, branch(s, x) + x), lambda s, x: outer(s, torch.add(x, branch(s, x))), lambda s, x: sum([branch(s, x), x])]
    draft.steps.append(draft.pick(*ways, *([with_iadd, lambda s, x: branch(s, x).add_(x)] if draft.in_place else [])))


def _pre_activation(draft: _Draft) -> None:
    norm, conv, relu = draft.norm(), draft.conv(same=True), draft.relu()
    draft.steps.append(lambda s, x: s.m[conv](relu(s, s.m[norm](x))) + x)


def _overwriting(draft: _Draft) -> None:
    """The ReLU changes what the skip reads afterwards; then a sum changes what is another name of it."""
    if not draft.in_place:
        return
    conv, after = draft.conv(), draft.conv(same=True)

    def step(s: _Steps, x: Tensor) -> Tensor:
        x = s.m[conv](x)
        skip = x
        y = F.relu(x, inplace=True)
        y = s.m[after](y)
        y += skip  # the rectified one
        again = y
        again += skip
        return y

    draft.steps.append(step)


def _twice(draft: _Draft) -> None:
    conv, relu = draft.conv(same=True), draft.relu()
    draft.steps.append(lambda s, x: s.m[conv](relu(s, s.m[conv](x))))


def _concat(draft: _Draft) -> None:
    shape = draft.shape
    left, right = draft.conv(draft.between(1, 3), same=True), draft.conv(draft.between(1, 3), same=True)
    channels = draft.modules[left].out_channels + draft.modules[right].out_channels
    relu, with_x = draft.relu(), draft.maybe()
    draft.shape = (channels + (shape[0] if with_x else 0), *shape[1:])
    draft.steps.append(lambda s, x: torch.cat([relu(s, s.m[left](x)), s.m[right](x), *([x] if with_x else [])], dim=1))


def _pool(draft: _Draft) -> None:
    if min(draft.shape[1:]) < 4:
        return
    size, padding = draft.pick((2, 0), (3, 1), ((2, 3), (0, 1)))
    maximum, average = draft.module(nn.MaxPool2d(size, 2, padding)), draft.module(nn.AvgPool2d(size, 2, padding))
    way = draft.pick(
        lambda s, x: s.m[maximum](x),
        lambda s, x: s.m[average](x),
        lambda s, x: F.max_pool2d(x, size, 2, padding),
        lambda s, x: F.relu(F.max_pool2d(x, kernel_size=size, stride=2, padding=padding)),
        lambda s, x: F.avg_pool2d(x, size, stride=2, padding=padding),
    )
    draft.shape = tuple(way(_Steps(draft.modules, []), torch.zeros(1, *draft.shape)).shape[1:])
    draft.steps.append(way)


def _lone_norm(draft: _Draft) -> None:
    norm = draft.norm()
    draft.steps.append(lambda s, x: s.m[norm](F.relu(x)))


def _nothing(draft: _Draft) -> None:
    name = draft.module(draft.pick(nn.Identity(), nn.Dropout(0.3), nn.Dropout2d(0.3), nn.ReLU()))
    draft.steps.append(draft.pick(lambda s, x: s.m[name](x), lambda s, x: F.dropout(x, 0.2, s.training), lambda s, x: s.m[name](x).contiguous()))


_STEPS = (_conv, _conv, _residual, _pre_activation, _overwriting, _twice, _concat, _pool, _lone_norm, _nothing)


def _flat(draft: _Draft) -> Callable[[_Steps, Tensor], Tensor]:
    """The current tensor as vectors, in one of the ways to write it; the draft's shape follows."""
    flatten, pool, size = draft.module(nn.Flatten()), draft.module(nn.AdaptiveAvgPool2d(1)), int(np.prod(draft.shape))
    if draft.maybe():
        draft.shape = (draft.channels,)
        squeezes = [lambda s, x: s.m[pool](x).squeeze()] if draft.channels > 1 else []  # a single channel would be squeezed too
        return draft.pick(
            *squeezes,
            lambda s, x: x.mean([2, 3]),
            lambda s, x: torch.flatten(s.m[pool](x), 1),
            lambda s, x: F.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), -1),
            lambda s, x: F.avg_pool2d(x, x.size()[2:]).flatten(1),
            lambda s, x: x.mean((-1, -2), keepdim=True).reshape(x.shape[0], x.shape[1]),
        )
    draft.shape = (size,)
    return draft.pick(
        lambda s, x: s.m[flatten](x),
        lambda s, x: x.view(-1, size),
        lambda s, x: x.reshape(x.size(0), x.size(1) * x.size(2) * x.shape[3]),
        lambda s, x: torch.flatten(x, start_dim=1),
    )


def _linear_head(draft: _Draft, classes: int) -> None:
    flat = _flat(draft)
    last = draft.module(nn.Linear(draft.channels, classes))
    final = draft.pick(lambda x: x, lambda x: F.log_softmax(x, dim=1), lambda x: x.softmax(-1))
    draft.steps.append(lambda s, x: final(s.m[last](flat(s, F.relu(x)))))


def _deep_head(draft: _Draft, classes: int) -> None:
    flat, relu = _flat(draft), draft.relu()
    hidden, norm = draft.module(nn.Linear(draft.channels, 6)), draft.module(nn.BatchNorm1d(6))
    last, after = draft.module(nn.Linear(6, classes, bias=False)), draft.module(nn.BatchNorm1d(classes))
    with_norm = draft.maybe()
    draft.steps.append(lambda s, x: s.m[last](relu(s, s.m[norm](s.m[hidden](flat(s, x))))))
    if with_norm:
        draft.steps.append(lambda s, x: s.m[after](x))


def _lone_norm_head(draft: _Draft, classes: int) -> None:
    flat = _flat(draft)
    norm, last = draft.norm(), draft.module(nn.Linear(draft.channels, classes))
    scores = draft.module(nn.BatchNorm1d(classes))
    draft.steps.append(lambda s, x: s.m[scores](F.relu(s.m[last](s.m[norm](flat(s, x))))))


def _convolutional_head(draft: _Draft, classes: int) -> None:
    """Scores from a convolution that is then averaged, or from one that sees the whole image."""
    if draft.maybe():
        conv, pool = draft.conv(classes), draft.module(nn.AdaptiveAvgPool2d(1))
        draft.steps.append(lambda s, x: s.m[pool](s.m[conv](x)).flatten(1))
    else:
        conv = draft.module(nn.Conv2d(draft.channels, classes, draft.shape[1:], padding=draft.pick(0, "valid")))
        draft.steps.append(lambda s, x: torch.flatten(s.m[conv](F.relu(x)), 1))


def _two_heads(draft: _Draft, classes: int) -> None:
    flat = _flat(draft)
    left, right = draft.module(nn.Linear(draft.channels, classes)), draft.module(nn.Linear(draft.channels, classes))

    def step(s: _Steps, x: Tensor) -> Tensor:
        x = flat(s, x)
        return s.m[left](x) + s.m[right](F.relu(x))

    draft.steps.append(step)


_HEADS = (_linear_head, _deep_head, _lone_norm_head, _convolutional_head, _two_heads)


@torch.no_grad()
def _stir(norm: nn.BatchNorm1d | nn.BatchNorm2d, rng: np.random.Generator) -> None:
    """Random statistics, and gains of both signs and zero, as training may leave them."""
    n = norm.num_features
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(torch.from_numpy(rng.normal(0, 0.2, n)))
    norm.running_var.copy_(torch.from_numpy(rng.uniform(0.2, 2, n)))
    if norm.affine:
        norm.weight.copy_(torch.from_numpy(rng.choice([1.0, 0.5, -1.0, 1.5, 0.0], n, p=[0.4, 0.25, 0.15, 0.15, 0.05])))
        norm.bias.copy_(torch.from_numpy(rng.normal(0, 0.3, n)))
