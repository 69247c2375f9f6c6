"""Net: a traced network that runs in floating point or in counts, with gradients through both."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.errors import TrainingError
from memspike.integer import IntType
from memspike.trainer import between, compiled
from memspike.trainer.bits import Bits
from memspike.trainer.layers import Layer, Trace
from memspike.trainer.noise import DeviceNoise
from memspike.trainer.roles import check_pixels, pools_of_neurons, score_layer, separate_image, types

FLOAT = Bits(None, None)
_TAKEN = frozenset(dir(nn.ParameterDict()))  # what it has for itself: its entries are its attributes


class Net(nn.Module):
    """The layers of a trace over a copy of the user's model, in single precision.

    Images are uint8 `[n, channels, height, width]`. With bits, every value that travels between layers is a count held in a float tensor,
    every weight an integer, and sums are exact (while training but for `is_mixed`, or CUDA's own ways), so the forward pass is the integer
    program's own arithmetic; the real value of a count is `count * step`. Steps and weight scales are learned as logarithms, so that a
    learning rate means percent; the logarithms are double, so that a step comes back as the single-precision number it was set to.
    """

    _pixel_addend: Tensor

    def __init__(self, model: nn.Module, trace: Trace, bits: Bits = FLOAT) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).float()
        self.conversion = trace.conversion
        self.input_shape = trace.input_shape
        self.layers, self.groups = separate_image(trace.layers, trace.input_shape)
        self.scores = score_layer(self.layers)
        self._pools = pools_of_neurons(self.layers, self.scores)
        self.log_steps = nn.ParameterDict()
        self.log_scales = nn.ParameterDict()
        self.is_mixed = False  # whether products are taken in bfloat16 while training; what is evaluated and frozen never is
        self.teaches = False  # whether its scores only say to another net in training where to go: they need be no better than that one's own
        self._exponentials: dict[tuple[int, int], Tensor] = {}  # of the forward pass that runs now
        self.noise: Callable[[int], DeviceNoise] | None = None  # of the device that is trained for, by the largest weight
        self.set_bits(bits)

    @property
    def precision(self) -> str:
        """That of products while training: "bf16" or "fp32"."""
        return "bf16" if self.is_mixed else "fp32"

    def set_bits(self, bits: Bits) -> None:
        """Change the bits; steps and scales start at 1 and want to be set."""
        counted = [layer.name for layer in self.layers if layer.clips and layer is not self.scores]
        bits.check_overrides(counted, [layer.name for layer in self.layers if layer.module])
        check_pixels(self.layers, self.groups, bits)
        _check_shared(self.layers, bits)
        self.bits = bits
        self.types = types(self.layers, bits)
        fired = {self.groups[layer.name] for layer in self.layers if layer.is_neuron and layer is not self.scores}
        device = next(self.model.parameters()).device
        one = torch.zeros((), device=device, dtype=torch.float64)
        self.log_steps = nn.ParameterDict({_key(group): nn.Parameter(one.clone()) for group in sorted(fired) if bits.activation})
        modules = {layer.module for layer in self.layers if layer.module}
        self.log_scales = nn.ParameterDict({_key(path): nn.Parameter(one.clone()) for path in sorted(modules) if bits.weight})
        if bits.image_type is not None:
            self._set_rounding(bits.image_type, device)

    def _set_rounding(self, image_type: IntType, device: torch.device) -> None:
        self._pixel_factor, addend, self._pixel_divisor = self.bits.pixels.rounding(self.input_shape, image_type)
        self._pixel_most = self.bits.pixels.most(image_type)
        # The quotient's integer part is exact while the dividend is.
        dtype = torch.float32 if 255 * self._pixel_factor + int(np.abs(addend).max()) < 2**24 else torch.float64
        self.register_buffer("_pixel_addend", torch.as_tensor(addend, dtype=dtype, device=device), persistent=False)

    def teacher(self) -> "Net":
        """A copy as it stands, whose scores another net follows."""
        found = copy.deepcopy(self).eval().requires_grad_(False)
        found.teaches = True
        return found

    # -- scales

    def step(self, name: str) -> Tensor | float:
        """The real value of one count of the value `name`; 1 where nothing is counted."""
        if self.bits.image_type is None or self.bits.activation is None:
            return 1.0
        if self.groups[name] == "image":
            return (self.bits.pixels.high - self.bits.pixels.low) / 255 / self._pixel_most
        return self._exponential(self.log_steps[_key(self.groups[name])])

    def set_step(self, name: str, step: float) -> None:
        with torch.no_grad():
            self.log_steps[_key(self.groups[name])].fill_(step).log_()

    def weight_scale(self, layer: Layer) -> Tensor | float:
        return self._exponential(self.log_scales[_key(layer.module)]) if layer.module and self.bits.weight else 1.0

    def set_weight_scale(self, layer: Layer, scale: float) -> None:
        with torch.no_grad():
            self.log_scales[_key(layer.module or "")].fill_(scale).log_()

    def _exponential(self, log: Tensor, sign: int = 1) -> Tensor:
        found = self._exponentials.get((id(log), sign))
        return (log if sign == 1 else -log).exp().float() if found is None else found

    # -- the forward pass

    def forward(self, images: Tensor, keep: dict[str, Tensor] | None = None) -> Tensor:
        """Real-valued scores `[n, classes]`; `keep`, if given, receives the real signals of every layer that clips, before it does."""
        if torch.compiler.is_compiling():
            return self._forward(images, keep)
        # All steps and scales at once: each is read several times, and would be four small operations every time, there and back.
        for logs in (list(self.log_steps.values()), list(self.log_scales.values())):
            for sign in (1, -1) if logs else ():
                found = (torch.stack(logs) * sign).exp().float().unbind()
                self._exponentials |= {(id(log), sign): value for log, value in zip(logs, found, strict=True)}
        try:
            return self._forward(images, keep)
        finally:
            self._exponentials = {}

    def _forward(self, images: Tensor, keep: dict[str, Tensor] | None) -> Tensor:
        values = {"image": self._image(images)}
        for layer in self.layers:
            pool = self._pools.get(layer.name) if keep is None else None
            if pool is not None:
                values[pool.name] = self._neurons(layer, values[layer.inputs[0]], None, pool)
            elif layer.name not in values:
                values[layer.name] = self._run(layer, [values[name] for name in layer.inputs], keep)
        last = self.layers[-1].name
        scores = values[last] if self.scores is not None else values[last] * self.step(last)
        return scores.float() if scores.dtype == torch.bfloat16 else scores

    def _image(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            raise TrainingError(f"images must be uint8 pixels, got {images.dtype}")
        if self.bits.activation is None or self.bits.image_type is None:
            return images.float() / 255
        # The same integers as PixelCode.counts, all lines of a pixel together.
        scaled = images.to(self._pixel_addend.dtype) * self._pixel_factor
        counts = ((scaled + self._pixel_addend) / self._pixel_divisor).floor().float()
        return counts.clamp(0, self._pixel_most) if self.bits.pixels.clips else counts

    def _run(self, layer: Layer, inputs: list[Tensor], keep: dict[str, Tensor] | None) -> Tensor:
        if layer.is_neuron:
            return self._neurons(layer, inputs[0], keep)
        if layer.kind == "max_pool":
            return between.largest(layer, inputs[0])
        if layer.kind == "flatten":
            return inputs[0].flatten(1)
        if layer.kind == "concat":
            return torch.cat(inputs, dim=1)
        if layer.kind == "dropout":
            drop = F.dropout2d if layer.whole_channels else F.dropout
            return drop(inputs[0], layer.probability, self.training and self.bits.activation is None)
        total = sum(inputs[1:], start=inputs[0])
        signal = F.relu(total) if layer.relu and (keep is not None or self.bits.activation is None) else total
        if keep is not None:
            keep[layer.name] = signal if self.bits.activation is None else signal * self.step(layer.name)
        if self.bits.activation is None:
            return signal
        type = self.types[layer.name]
        return between.clipped(total, type.min, type.max)

    def _neurons(self, layer: Layer, x: Tensor, keep: dict[str, Tensor] | None, pool: Layer | None = None) -> Tensor:
        """What the neurons fire, or with `pool` the largest of it: found before they fire, where it is a quarter of the work and no count differs,
        because a neuron's count never falls as its potential grows."""
        counts = self.bits.activation is not None and layer is not self.scores
        if counts and not torch.is_grad_enabled() and keep is None and not self.training:
            return self._count(layer, x, pool)
        acc = self.accumulate(layer, x)
        if counts and keep is None:
            return between.floored(self._potential(layer, acc, self.step(layer.name), pool, half=0.5), *_range(self.types[layer.name]))
        potential = self._potential(layer, acc, 1.0, pool)
        signal = F.relu(potential) if layer.relu else potential
        if keep is not None and layer is not self.scores:
            keep[layer.name] = signal
        return between.rounded(potential / self.step(layer.name), *_range(self.types[layer.name])) if counts else signal

    def _count(self, layer: Layer, x: Tensor, pool: Layer | None) -> Tensor:
        """The counts as the compiled program has them: sums exact, thresholds in double precision."""
        acc = self.accumulate(layer, x.double() if self._largest_sum(layer) >= 2**24 else x)
        is_normed = self._is_normed(layer)
        gain, offset = self.affine(layer)
        step, scale = float(self.step(layer.name)), float(self.step(layer.inputs[0])) * float(self.weight_scale(layer))
        acc = acc if is_normed else between.largest(pool, acc)
        counts = between.counted(acc, gain * scale / step, offset / step + 0.5, *_range(self.types[layer.name]))
        return between.largest(pool, counts) if is_normed else counts

    def _largest_sum(self, layer: Layer) -> int:
        """A bound on the layer's integer sums; single precision is exact below 2**24."""
        largest = self.bits.largest_weight(layer.name)
        if layer.module is None or largest is None:
            return 0
        counts = max(-self.types[layer.inputs[0]].min, self.types[layer.inputs[0]].max) * self._lines(layer)
        weight: Any = self.model.get_submodule(layer.module).weight
        return weight[0].numel() * largest * counts

    def accumulate(self, layer: Layer, x: Tensor) -> Tensor:
        """What the crossbar integrates: integer sums when weights and activations are integers."""
        if layer.kind == "average_pool":
            return F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, divisor_override=1)
        if layer.module is None:
            return x
        weight, noise = self.weight(layer), self._noise(layer)
        if noise is not None:
            x, weight = self._on_lines(layer, x, weight)
            weight = weight + noise.deviation(weight.detach())
        dtype = self._dtype(layer, x)
        sums = _sums(layer, x.to(dtype), weight.to(dtype))
        if self._counts_nothing:
            return sums
        sums = sums.to(x.dtype)
        return sums if noise is None else sums + noise.current(layer, x, weight, sums)

    @property
    def _counts_nothing(self) -> bool:
        """Whether all is floating point: signals may then stay as narrow as the products, where a count would meet wrong halves (decision 16)."""
        return self.bits.activation is None and self.bits.weight is None

    def _lines(self, layer: Layer) -> int:
        """How many lines carry each count that the layer reads."""
        return self.bits.pixels.lines if self.groups[layer.inputs[0]] == "image" else 1

    def _on_lines(self, layer: Layer, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Counts and weights line by line, as they lie on the crossbar: the same sums, but each weight has cells of its own on every line."""
        lines = self._lines(layer)
        if lines == 1:
            return x, weight
        own = torch.arange(lines, device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 2))
        return ((x.unsqueeze(2) + own) / lines).floor().flatten(1, 2), weight.repeat_interleave(lines, dim=1)

    def _dtype(self, layer: Layer, x: Tensor) -> torch.dtype:
        """Of the factors: bfloat16 in mixed training; for integer sums on CUDA double, because single precision there may come by Winograd's way, which
        rounds."""
        if self.training or self.teaches:
            return torch.bfloat16 if self.is_mixed and x.dtype == torch.float32 else x.dtype
        return torch.float64 if x.is_cuda and self.bits.activation is not None and self._largest_sum(layer) else x.dtype

    def _noise(self, layer: Layer) -> DeviceNoise | None:
        largest = self.bits.largest_weight(layer.name)
        return self.noise(largest) if self.noise is not None and largest is not None and self.bits.activation is not None else None

    def weight(self, layer: Layer) -> Tensor:
        """The layer's weights, as integers (with straight-through gradients) when weights have bits."""
        weight = self.weight_before_rounding(layer)
        largest = self.bits.largest_weight(layer.name)
        if largest is None:
            return weight
        return between.rounded(between.affine(weight, self._exponential(self.log_scales[_key(layer.module)], -1), None), -largest, largest)

    def weight_before_rounding(self, layer: Layer) -> Tensor:
        module: Any = self.model.get_submodule(layer.module or "")
        if self._folds_norm_into_weight(layer):
            gain, _ = self._norm_affine(layer)
            return module.weight * gain.float().reshape(-1, *[1] * (module.weight.ndim - 1))
        return module.weight

    def _folds_norm_into_weight(self, layer: Layer) -> bool:
        """Scores are compared, so their gain must be one for all classes: once weights are integers, a batch norm's gain goes into them."""
        return layer is self.scores and layer.norm is not None and self.bits.weight is not None

    def _is_normed(self, layer: Layer) -> bool:
        """Whether a batch norm stands between the sums and the neurons: its gains may be negative, where larger sums mean smaller potentials."""
        return layer.norm is not None and not self._folds_norm_into_weight(layer)

    def _potential(self, layer: Layer, acc: Tensor, step: Tensor | float, pool: Layer | None = None, half: float = 0.0) -> Tensor:
        """The real signal of the layer's neurons in units of `step`, plus `half`, the largest of each window of `pool`; batch norm by this batch's statistics
        while training."""
        if self._is_normed(layer):
            return between.largest(pool, self._normed_potential(layer, acc, step, half))
        acc, gain = between.largest(pool, acc), self.step(layer.inputs[0]) * self.weight_scale(layer)
        if layer.kind == "average_pool":
            return acc * (gain / (layer.kernel[0] * layer.kernel[1]) / step) + half
        offset = self.affine(layer)[1].float() if layer.norm else self._bias(layer)
        if isinstance(gain, float) and isinstance(step, float) and gain == step == 1.0:  # in floating point, where nothing has a scale
            return acc if offset is None else acc + between.along(acc, offset if layer is self.scores else offset.to(acc.dtype))
        if offset is not None:
            offset = offset / step + half
        elif half:
            offset = acc.new_full((layer.shape[0],), half)
        return between.affine(acc, between.scalar(gain / step, acc), offset)

    def _normed_potential(self, layer: Layer, acc: Tensor, step: Tensor | float, half: float) -> Tensor:
        gain, bias = self.step(layer.inputs[0]) * self.weight_scale(layer), self._bias(layer)
        per_step = 1 / step if isinstance(step, float) else self._exponential(self.log_steps[_key(self.groups[layer.name])], -1)
        found = acc if bias is None else acc + between.along(acc, (bias / gain).to(acc.dtype))
        return between.normalized(self.model.get_submodule(layer.norm or ""), found, gain, per_step, half, self.training)

    def _bias(self, layer: Layer) -> Tensor | None:
        own, brought = self._own_bias(layer), self._brought(layer)
        if brought is None:
            return own
        return brought.float() if own is None else own + brought.float()

    def _own_bias(self, layer: Layer) -> Tensor | None:
        return self.model.get_submodule(layer.module).bias if layer.module else None  # pyright: ignore[reportReturnType]

    def _brought(self, layer: Layer) -> Tensor | None:
        """What pixels of a range that begins above black bring along when they count 0, per channel in double precision."""
        if not self.bits.pixels.low or self.bits.activation is None or self.groups[layer.inputs[0]] != "image":
            return None
        return self.weight(layer).double().flatten(1).sum(1) * self.weight_scale(layer) * (self.bits.pixels.low / 255)

    def affine(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Per channel (gain, offset) in double precision such that the real signal is `gain * (scale * acc) + offset`, where `scale` is the
        input's step times the weight scale; batch norm by its running statistics."""
        device = next(self.model.parameters()).device
        gain = torch.ones(layer.shape[0], dtype=torch.float64, device=device)
        offset = torch.zeros_like(gain)
        if layer.kind == "average_pool":
            return gain / (layer.kernel[0] * layer.kernel[1]), offset
        if layer.norm:
            gain, offset = self._norm_affine(layer)
        bias, brought = self._own_bias(layer), self._brought(layer)
        if bias is not None:
            offset = offset + gain * bias.double()
        gain = torch.ones_like(gain) if self._folds_norm_into_weight(layer) else gain
        return gain, offset if brought is None else offset + gain * brought

    def _norm_affine(self, layer: Layer) -> tuple[Tensor, Tensor]:
        norm: Any = self.model.get_submodule(layer.norm or "")
        gain = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            gain = gain * norm.weight.double()
        offset = -norm.running_mean.double() * gain
        return gain, offset if norm.bias is None else offset + norm.bias.double()


def _check_shared(layers: Sequence[Layer], bits: Bits) -> None:
    """A module that is called twice has one set of weights, one scale, and so as many bits each time."""
    first: dict[str, Layer] = {}
    for layer in layers:
        other = first.setdefault(layer.module, layer) if layer.module else layer
        both = [bits.weight_of(each.name) for each in (other, layer)]
        if both[0] != both[1]:
            what = f"{other.name} and {layer.name} are one module, but would have weights of {both[0]} and {both[1]} bits"
            raise TrainingError(what, cure=f"give both the same, as in {other.name}* if no other layer is called so")


def _sums(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    if layer.kind == "dense":
        return F.linear(x, weight)
    if torch.compiler.is_compiling() and x.shape[1] == 1 and not x.requires_grad:
        return compiled.convolved(x, weight, layer.stride, layer.padding, layer.dilation)
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _key(name: str | None) -> str:
    """The name as a ParameterDict takes it."""
    key = (name or "").replace("/", "//").replace(".", "/")
    return f"{key}/" if key in _TAKEN else key


def _range(type: IntType) -> tuple[int, int]:
    return type.min, type.max
