"""Readers: what each kind of module or call that spikes can carry becomes as a layer, or the error that says why not."""

import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import fx, nn
from torch.fx.node import map_arg
from torch.nn import functional as F

from memspike.errors import ModelError
from memspike.trainer.capture import where

SUPPORTED = (
    "Conv2d (stride, padding, dilation, groups), Linear, BatchNorm1d/2d, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, "
    "mean over height and width, flatten/view/reshape to vectors, add, concat along channels, Dropout, Identity, and a final Softmax or LogSoftmax"
)


class Reading(Protocol):
    """What a reader may use: the layers so far, and the values that they hold."""

    values: dict[fx.Node, str]
    final: str
    ended_by: fx.Node | None

    def add(self, node: fx.Node, kind: str, inputs: tuple[str, ...], **numbers: Any) -> str: ...
    def source(self, node: fx.Node, position: int = 0) -> str: ...
    def word(self, node: fx.Node) -> str: ...


def called(node: fx.Node) -> Any:
    """What the tables below know a call by: the function, or the method's name with a dot."""
    return f".{node.target}" if node.op == "call_method" else node.target


# What torch's own functions let arguments be called too, as numpy does.
_ALSO = {"dim": ("axis",), "input": ("x", "a", "x1"), "other": ("x2",)}


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument by position or name; what was computed from shapes stands as its value, an activation as its node."""
    named = [node.kwargs[also] for also in (name, *_ALSO.get(name, ())) if also in node.kwargs]
    given = node.args[position] if position < len(node.args) else named[0] if named else default
    return map_arg(given, lambda n: n.meta.get("value", n))


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _conv2d(reading: Reading, node: fx.Node, module: nn.Conv2d) -> str:
    if module.padding_mode != "zeros":
        raise ModelError(f"padding_mode {module.padding_mode!r} is not supported", where=where(node), cure="use zeros")
    padding: Any = module.padding
    if isinstance(padding, str):
        sides = [
            (0, 0) if padding == "valid" else ((d * (k - 1)) // 2, d * (k - 1) - (d * (k - 1)) // 2)
            for d, k in zip(module.dilation, module.kernel_size, strict=True)
        ]
        if any(low != high for low, high in sides):
            raise ModelError("padding='same' with an even kernel pads one side more", where=where(node), cure="use an odd kernel or padding numbers")
        padding = (sides[0][0], sides[1][0])
    return reading.add(
        node, "conv2d", (reading.source(node),), module=str(node.target), kernel=_pair(module.kernel_size), stride=_pair(module.stride),
        padding=_pair(padding), dilation=_pair(module.dilation), groups=module.groups,
    )  # fmt: skip


def _linear(reading: Reading, node: fx.Node, module: nn.Linear) -> str:
    if len(node.meta["shape"]) != 2:
        raise ModelError(f"Linear on {list(node.meta['shape'][1:])} per image; expected a vector", where=where(node), cure="flatten first")
    return reading.add(node, "dense", (reading.source(node),), module=str(node.target))


def _batch_norm(reading: Reading, node: fx.Node, module: nn.BatchNorm2d) -> str:
    if module.running_mean is None:
        raise ModelError("a batch norm without running statistics cannot be folded", where=where(node), cure="use track_running_stats=True")
    return reading.add(node, "norm", (reading.source(node),), norm=str(node.target))


def _relu(reading: Reading, node: fx.Node, module: Any) -> str:
    return reading.add(node, "relu", (reading.source(node),), relu=True)


def _max_pool(reading: Reading, node: fx.Node, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> str:
    if _pair(dilation) != (1, 1) or ceil_mode:
        raise ModelError("max pooling with dilation or ceil_mode is not supported", where=where(node), cure="use dilation=1, ceil_mode=False")
    return reading.add(node, "max_pool", (reading.source(node),), kernel=_pair(kernel), stride=_pair(stride or kernel), padding=_pair(padding))


def _max_pool_module(reading: Reading, node: fx.Node, m: nn.MaxPool2d) -> str:
    if m.return_indices:
        raise ModelError("max pooling with return_indices is not supported", where=where(node))
    return _max_pool(reading, node, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


def _max_pool_call(reading: Reading, node: fx.Node, _: Any) -> str:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1), ("ceil_mode", False))
    return _max_pool(reading, node, *(argument(node, i, name, default) for i, (name, default) in enumerate(names, start=1)))


def _average_pool(reading: Reading, node: fx.Node, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, divisor: Any) -> str:
    if ceil_mode or divisor or (not include_pad and _pair(padding) != (0, 0)):
        unsupported = "average pooling with ceil_mode, divisor_override or padding that does not count is not supported"
        raise ModelError(unsupported, where=where(node), cure="use ceil_mode=False, count_include_pad=True")
    kernel, stride = _pair(kernel), _pair(stride or kernel)
    if kernel == stride == (1, 1) and _pair(padding) == (0, 0):
        return reading.source(node)
    return reading.add(node, "average_pool", (reading.source(node),), kernel=kernel, stride=stride, padding=_pair(padding))


def _average_pool_module(reading: Reading, node: fx.Node, m: nn.AvgPool2d) -> str:
    return _average_pool(reading, node, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)


def _average_pool_call(reading: Reading, node: fx.Node, _: Any) -> str:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False), ("count_include_pad", True), ("divisor_override", None))
    return _average_pool(reading, node, *(argument(node, i, name, default) for i, (name, default) in enumerate(names, start=1)))


def _adaptive_average_pool(reading: Reading, node: fx.Node, module: Any) -> str:
    size = _input_shape(node)[-2:]
    wanted = node.meta["shape"][-2:]
    if len(_input_shape(node)) != 4 or any(n % w for n, w in zip(size, wanted, strict=True)):
        raise ModelError(
            f"adaptive pooling of {list(size)} to {list(wanted)} uses windows of different sizes",
            where=where(node),
            cure="choose an output size that divides the input",
        )
    kernel = (size[0] // wanted[0], size[1] // wanted[1])
    return _average_pool(reading, node, kernel, kernel, 0, False, True, None)


def _mean(reading: Reading, node: fx.Node, _: Any) -> str:
    axes = argument(node, 1, "dim", None)
    shape = _input_shape(node)
    if len(shape) != 4 or not isinstance(axes, list | tuple) or {a % 4 for a in axes} != {2, 3}:
        raise ModelError("mean is supported over height and width together", where=where(node), cure="write x.mean([2, 3]) or use AdaptiveAvgPool2d(1)")
    name = reading.add(node, "average_pool", (reading.source(node),), shape=(shape[1], 1, 1), kernel=shape[2:], stride=shape[2:])
    return name if len(node.meta["shape"]) == 4 else reading.add(node, "flatten", (name,))


def _reshape(reading: Reading, node: fx.Node, module: Any) -> str:
    before, after = _input_shape(node), tuple(node.meta["shape"])
    if before == after:
        return reading.source(node)
    if len(after) != 2 or after[0] != before[0]:
        what = f"turns two images {list(before)} into {list(after)}"
        raise ModelError(what, where=where(node), cure="only flattening to one vector per image is supported, as in x.flatten(1)")
    return reading.add(node, "flatten", (reading.source(node),))


def _identity(reading: Reading, node: fx.Node, module: Any) -> str:
    return reading.source(node)


def _dropout(reading: Reading, node: fx.Node, module: Any) -> str:
    probability = module.p if module is not None else argument(node, 1, "p", 0.5)
    if module is None and argument(node, 2, "training", True):
        raise ModelError(f"{node.name} drops activations in evaluation too", where=where(node), cure="pass training=self.training, or use nn.Dropout")
    whole = isinstance(module, nn.Dropout2d) or node.target is F.dropout2d
    return reading.add(node, "dropout", (reading.source(node),), probability=float(probability), whole_channels=whole)


def _softmax(reading: Reading, node: fx.Node, module: Any) -> str:
    axis = module.dim if module is not None else argument(node, 1, "dim", None)
    if axis not in (1, -1):
        raise ModelError(f"softmax over axis {axis}; expected the scores of one image, axis 1", where=where(node), cure="pass dim=1")
    reading.ended_by = node
    reading.final = "log_softmax" if "log" in reading.word(node).lower() else "softmax"
    return reading.source(node)


def _add(reading: Reading, node: fx.Node, _: Any) -> str:
    if node.kwargs.get("alpha", 1) != 1:
        raise ModelError("add with alpha is not supported", where=where(node), cure="scale the weights of that branch instead")
    terms = [argument(node, 0, "input", None), argument(node, 1, "other", None)]
    terms = [term for term in terms if isinstance(term, fx.Node) or term != 0]  # Python's sum() starts from 0
    strange = [term for term in terms if term not in reading.values]
    if strange:
        raise ModelError(f"adds {strange[0]}, which is no activation", where=where(node), cure="only activations of one shape can be added")
    if len(terms) == 1:
        return reading.values[terms[0]]
    if terms[0].meta["shape"] != terms[1].meta["shape"]:
        shapes = " and ".join(str(list(term.meta["shape"][1:])) for term in terms)
        raise ModelError(f"adds activations of different shapes: {shapes} per image", where=where(node), cure="only activations of one shape can be added")
    return reading.add(node, "add", tuple(reading.values[term] for term in terms))


def _concat(reading: Reading, node: fx.Node, _: Any) -> str:
    tensors, axis = argument(node, 0, "tensors", ()), argument(node, 1, "dim", 0)
    if axis % len(node.meta["shape"]) != 1 or not isinstance(tensors, list | tuple):
        raise ModelError(f"concat along axis {axis}; only channels (axis 1) can be joined", where=where(node))
    strange = [tensor for tensor in tensors if tensor not in reading.values]
    if strange:
        raise ModelError(f"joins {strange[0]}, which is no activation", where=where(node), cure="only activations can be joined")
    return reading.add(node, "concat", tuple(reading.values[t] for t in tensors))


def _input_shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(argument(node, 0, "input", None).meta["shape"])


# What may be computed from shapes; on activations only what is in CALLS.
ARITHMETIC = {
    getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg,
}  # fmt: skip
SHAPE_METHODS = {"size", "dim", "numel"}

AS_MODULES: dict[Any, str] = {F.conv2d: "nn.Conv2d", F.linear: "nn.Linear", F.batch_norm: "nn.BatchNorm2d", torch.batch_norm: "nn.BatchNorm2d"}

# How to write what people write most and spikes cannot carry, by its name in lower case.
_CUT_OFF, _TRAINED = "use ReLU: counts are cut off at their largest anyway", "use ReLU, and train with it"
REWRITTEN = {
    **dict.fromkeys(("relu6", "hardtanh", "clamp", "clamp_min", "clip"), _CUT_OFF),
    **dict.fromkeys(("gelu", "silu", "elu", "leaky_relu", "leakyrelu", "sigmoid", "tanh", "hardswish", "mish", "prelu", "softplus"), _TRAINED),
    **dict.fromkeys(("zeropad2d", "pad"), "put the padding into what comes next: nn.Conv2d(..., padding=1), which pads both sides alike"),
    **dict.fromkeys(("adaptivemaxpool2d", "adaptive_max_pool2d"), "use nn.MaxPool2d with the window that it takes on these images"),
    **dict.fromkeys(("float", "double", "to", "clone", "detach", "half"), "leave it out: images come in single precision, and nothing changes them"),
}

MODULES: dict[type, Callable[..., str]] = {
    nn.Conv2d: _conv2d, nn.Linear: _linear, nn.BatchNorm2d: _batch_norm, nn.BatchNorm1d: _batch_norm, nn.ReLU: _relu,
    nn.MaxPool2d: _max_pool_module, nn.AvgPool2d: _average_pool_module, nn.AdaptiveAvgPool2d: _adaptive_average_pool, nn.Flatten: _reshape,
    nn.Identity: _identity, nn.Dropout: _dropout, nn.Dropout2d: _dropout, nn.Softmax: _softmax, nn.LogSoftmax: _softmax,
}  # fmt: skip

CALLS: dict[Any, Callable[..., str]] = {
    F.relu: _relu, torch.relu: _relu, torch.relu_: _relu, F.relu_: _relu, ".relu": _relu, ".relu_": _relu,
    F.max_pool2d: _max_pool_call, torch.max_pool2d: _max_pool_call, F.avg_pool2d: _average_pool_call, F.adaptive_avg_pool2d: _adaptive_average_pool,
    torch.mean: _mean, ".mean": _mean, torch.flatten: _reshape, torch.reshape: _reshape, torch.squeeze: _reshape,
    ".flatten": _reshape, ".view": _reshape, ".reshape": _reshape, ".squeeze": _reshape, ".contiguous": _identity,
    operator.add: _add, operator.iadd: _add, torch.add: _add, ".add": _add, ".add_": _add,
    torch.cat: _concat, torch.concat: _concat, torch.concatenate: _concat,
    F.dropout: _dropout, F.dropout2d: _dropout, torch.softmax: _softmax, torch.log_softmax: _softmax, F.softmax: _softmax, F.log_softmax: _softmax,
    ".softmax": _softmax, ".log_softmax": _softmax,
}  # fmt: skip
