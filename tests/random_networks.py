"""Random trained networks, and what their layers compute in exact rational numbers: the compiler's independent judge."""

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from memspike.integer import Integers, IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.pixels import DITHERS, PixelCode


def random_network(rng: np.random.Generator, kind: str = "any") -> QuantizedNetwork:
    """Conv with skip, pools, concat and dense layers; `kind` "powers" has scales that are powers of two, so that sums lie on breakpoints."""
    make = _Numbers(rng, powers=kind == "powers")
    image = IntType(make.between(2, 5))
    channels = make.between(1, 3)
    width = make.between(2, 4)
    step, bits = make.scale(), make.between(2, 6)
    count, branch = IntType(bits), IntType(bits + 1, signed=True)
    layers = [
        make.layer("conv", "conv2d", "image", (width, channels, 3, 3), count, step, padding=(1, 1)),
        make.layer("branch", "conv2d", "conv", (width, width, 3, 3), branch, step, padding=(1, 1)),
        QuantizedLayer("skip", "add", ("branch", "conv"), count),
        make.layer("down", "conv2d", "skip", (width, 1, 3, 2), IntType(make.between(2, 6)), make.scale(), stride=(2, 1), groups=width),
        QuantizedLayer("max", "max_pool", ("skip",), kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        QuantizedLayer("mean", "average_pool", ("max",), count, make.scale(), kernel=(2, 2), stride=(1, 1)),
        QuantizedLayer("flat", "flatten", ("mean",)),
        QuantizedLayer("flat2", "flatten", ("down",)),
        make.layer("left", "dense", "flat", (4, 4 * width), count, step),
        make.layer("right", "dense", "flat2", (3, 10 * width), branch, step),
        QuantizedLayer("join", "concat", ("left", "right")),
        make.layer("last", "dense", "join", (make.between(2, 5), 7), None, 1.0),
    ]
    return QuantizedNetwork(
        "random", (channels, 6, 6), image, make.scale(), tuple(layers), {"seed": 1}, PixelCode(int(rng.choice(DITHERS)), make.between(1, 4))
    )


def real_counts(network: QuantizedNetwork, images: Integers) -> dict[str, Any]:
    """Every layer's counts `[n, ...]` for whole counts of pixels, computed from its docstring in Fractions; the scores as Fractions."""
    values: dict[str, Any] = {"image": images}
    scales = {"image": Fraction(network.input_scale)}
    for layer in network.layers:
        inputs = [values[name] for name in layer.inputs]
        scale = scales[layer.inputs[0]]
        if layer.kind in ("conv2d", "dense"):
            acc = _sums(layer, inputs[0])
            reals = _along(layer.gain, acc) * (Fraction(layer.weight_scale) * scale) * acc + _along(layer.offset, acc)
        elif layer.kind == "average_pool":
            pooled = torch.nn.functional.avg_pool2d(torch.tensor(inputs[0], dtype=torch.float64), layer.kernel, layer.stride, layer.padding, divisor_override=1)
            reals = _exact(pooled.numpy().astype(np.int64)) * scale / (layer.kernel[0] * layer.kernel[1])
        else:
            values[layer.name], scales[layer.name] = _digital(layer, inputs), scale
            continue
        if layer.activation_type is None:
            values[layer.name] = reals
            continue
        scales[layer.name] = Fraction(layer.activation_scale)
        values[layer.name] = np.clip(_round_half_up(reals / scales[layer.name]), layer.activation_type.min, layer.activation_type.max)
    return values


class _Numbers:
    def __init__(self, rng: np.random.Generator, *, powers: bool) -> None:
        self.rng, self.powers = rng, powers

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def scale(self) -> float:
        return 2.0 ** self.between(-4, 1) if self.powers else float(np.exp(self.rng.uniform(-3, 1)))

    def layer(self, name: str, kind: Any, read: str, shape: tuple[int, ...], type: IntType | None, step: float, **numbers: Any) -> QuantizedLayer:
        weight_type = IntType(self.between(2, 8), signed=True)
        weight = self.rng.integers(-weight_type.max, weight_type.max + 1, shape)
        # The layer's sums should spread over its counts, whatever the scales are.
        spread = step * (type.num_timesteps if type else 16) / (weight_type.max * 8 * np.sqrt(np.prod(shape[1:])))
        weight_scale = 2.0 ** round(np.log2(spread)) if self.powers else float(spread)
        gain, offset = self._gain(shape[0]), self.rng.normal(0, 4 * step, shape[0])
        if self.powers:
            offset = np.round(offset / step * 4) * step / 4
        if type is None:
            gain = np.full(shape[0], gain[0] or 1.0).clip(0.25)
        return QuantizedLayer(name, kind, (read,), type, step, weight, weight_type, weight_scale, gain, offset, **numbers)

    def _gain(self, channels: int) -> np.ndarray[Any, Any]:
        gain = self.rng.choice([1.0, 0.5, -2.0], channels) if self.powers else self.rng.normal(1, 1, channels)
        return np.where(self.rng.random(channels) < 0.1, 0.0, gain)


def _sums(layer: QuantizedLayer, counts: Integers) -> Any:
    x, weight = torch.tensor(counts, dtype=torch.float64), torch.tensor(layer.weight, dtype=torch.float64)
    if layer.kind == "dense":
        return _exact((x @ weight.T).numpy().astype(np.int64))
    acc = torch.nn.functional.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return _exact(acc.numpy().astype(np.int64))


def _digital(layer: QuantizedLayer, inputs: list[Integers]) -> Integers:
    if layer.kind == "add":
        assert layer.activation_type is not None
        return np.clip(sum(inputs), layer.activation_type.min, layer.activation_type.max)
    if layer.kind == "max_pool":
        x = torch.tensor(inputs[0], dtype=torch.float64)
        return torch.nn.functional.max_pool2d(x, layer.kernel, layer.stride, layer.padding).numpy().astype(np.int64)
    if layer.kind == "flatten":
        return inputs[0].reshape(len(inputs[0]), -1)
    return np.concatenate(inputs, axis=1)


def _exact(integers: Integers) -> Any:
    return np.array([Fraction(v) for v in integers.ravel().tolist()], dtype=object).reshape(integers.shape)


def _along(values: Any, like: Any) -> Any:
    return np.array([Fraction(v) for v in values.tolist()], dtype=object).reshape(1, -1, *[1] * (like.ndim - 2))


def _round_half_up(values: Any) -> Integers:
    return np.array([(v + Fraction(1, 2)).__floor__() for v in values.ravel()], np.int64).reshape(values.shape)
