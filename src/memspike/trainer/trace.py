"""Trace: any feed-forward nn.Module (torch.fx) becomes the layers we know, or an error that names the node."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg
from torch.nn import functional as F

from memspike.errors import ModelError
from memspike.trainer.capture import capture, measure, where

SUPPORTED = (
    "Conv2d (stride, padding, dilation, groups), Linear, BatchNorm1d/2d, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, "
    "mean over height and width, flatten/view/reshape to vectors, add, concat along channels, Dropout, Identity, and a final Softmax or LogSoftmax"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a traced network; `inputs` name earlier layers or "image".

    kind: conv2d, dense, average_pool, max_pool, add, concat, flatten, dropout (while reading also norm, relu and output).
    A conv2d or dense without `module` is a batch norm that stands alone: one synapse of weight 1 per channel. `norm` is a
    batch norm that belongs to the layer, `relu` says that its output is rectified. A dropout of `whole_channels` is a Dropout2d.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    module: str | None = None
    norm: str | None = None
    relu: bool = False
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    probability: float = 0.0
    whole_channels: bool = False

    @property
    def is_neuron(self) -> bool:
        """Whether the layer sums and fires, and so has a step of its own."""
        return self.kind in ("conv2d", "dense", "average_pool")

    @property
    def clips(self) -> bool:
        """Whether the layer's values are cut off at a largest count of its own: neurons and adds."""
        return self.is_neuron or self.kind == "add"


@dataclass(frozen=True, slots=True)
class Trace:
    """The layers of a network in order, the last one giving the scores; `conversion` tells what became of each module.

    `final` is "softmax" or "log_softmax" when the model ends with one: the layers leave it out, since it changes no ranking.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    conversion: tuple[dict[str, str], ...]
    final: str = ""


def trace(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """The layers of `model` for images of `input_shape` [channels, height, width].

    Raises ModelError naming the node, its source line and what is supported, for anything that spikes cannot carry.
    """
    graph_module = capture(model)
    reader = _Reader(graph_module)
    for node in graph_module.graph.nodes:
        reader.check(node)
    measure(graph_module, input_shape)
    for node in graph_module.graph.nodes:
        reader.read(node)
    layers = _simplify(reader.layers, reader.output)
    if not any(layer.module for layer in layers):
        raise ModelError("the network has no Conv2d or Linear layer", where=reader.end, cure="there is nothing to train or to map")
    if len(layers[-1].shape) != 1:
        shape = list(layers[-1].shape)
        raise ModelError(f"the network gives {shape} per image; expected a vector of class scores", where=reader.end, cure="flatten or pool the last layer")
    return Trace(tuple(layers), input_shape, _conversion(reader.read_as, reader.layers, layers), reader.final)


_FATES = {
    "conv2d": "synapses on crossbars, then neurons",
    "dense": "synapses on crossbars, then neurons",
    "average_pool": "counts summed, then neurons",
    "max_pool": "maximum of counts",
    "add": "counts added, clipped",
    "concat": "counts side by side",
    "flatten": "counts in a row",
    "dropout": "only while training in floating point",
    "norm": "folded into thresholds and charges",
    "relu": "folded: neurons that count upwards only",
}


def _conversion(read_as: list[tuple[str, str, str]], read: list[Layer], kept: list[Layer]) -> tuple[dict[str, str], ...]:
    """What became of each module and call, one row each, for the report."""
    by_name = {layer.name: layer for layer in read} | {layer.name: layer for layer in kept}
    rows, seen = [], set[str]()
    for label, was, name in read_as:
        layer = by_name.get(name)
        became = "dropped: changes no count" if layer is None or name in seen else _FATES[layer.kind]
        if layer is not None and layer.norm and layer.module is None and layer.kind != "norm":
            became = "one synapse of weight 1 per channel, then neurons"
        seen.add(name)
        rows.append({"layer": label, "was": was, "became": became})
    return tuple(rows)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class _Reader:
    """Reads fx nodes one by one into layers; `values` says which layer holds a node's value."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.modules = dict(graph_module.named_modules())
        self.order = {node: position for position, node in enumerate(graph_module.graph.nodes)}
        self.layers: list[Layer] = []
        self.values: dict[fx.Node, str] = {}
        self.read_as: list[tuple[str, str, str]] = []
        self.output, self.end = "", ""
        self.final = ""
        self.ended_by: fx.Node | None = None

    def check(self, node: fx.Node) -> None:
        """Refuse what can be no layer before anything is run."""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            if type(module) not in _MODULES:
                self.refuse(node)
            if module._forward_hooks or module._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
                cure = "remove them first (remove_weight_norm, prune.remove): what they do would be lost"
                raise ModelError(f"{type(module).__name__} has forward hooks", where=where(node), cure=cure)
        elif (node.op == "call_function" and node.target not in _CALLS and node.target not in _ARITHMETIC) or (
            node.op == "call_method" and f".{node.target}" not in _CALLS and node.target not in _SHAPE_METHODS
        ):
            self.refuse(node)

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node] = "image"
        elif node.op == "output":
            self._finish(node)
        elif node.op == "get_attr" or (node.meta["shape"] is None and node.op != "call_module"):
            return  # a parameter or a number: whoever uses it as an activation is refused
        elif self.ended_by is not None:
            raise ModelError(f"a softmax is followed by {node.name}", where=where(self.ended_by), cure="softmax is supported as the last step only")
        else:
            self._convert(node)

    def _finish(self, node: fx.Node) -> None:
        (result,) = node.args
        nodes = node.all_input_nodes
        self.end = where(nodes[-1]) if nodes else where(node)
        if not isinstance(result, fx.Node) or result not in self.values:
            raise ModelError("the network does not return one tensor of class scores that it computed from its image", where=self.end)
        self.output = self.values[result]

    def _convert(self, node: fx.Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        reader = _MODULES[type(module)] if module is not None else _CALLS.get(_called(node))
        if reader is None or "out" in node.kwargs:
            self.refuse(node)
        else:
            self.values[node] = reader(self, node, module)
            self.read_as.append((str(node.target if module is not None else node.name), self.word(node), self.values[node]))
            if _is_in_place(node, module):
                self._overwrite(node)

    def _overwrite(self, node: fx.Node) -> None:
        """After an op in place, everything that is the same tensor has the new value."""
        changed = self.values[node.all_input_nodes[0]]
        for other in [n for n in self.values if n is not node and n.meta["storage"] == node.meta["storage"]]:
            if self.values[other] == changed:
                self.values[other] = self.values[node]
            elif any(self.order[user] > self.order[node] for user in other.users):
                what = f"{self.word(node)} changes in place what {other.name} shares its memory with"
                raise ModelError(what, where=where(node), cure="write it without inplace=True, a trailing underscore or +=")

    def refuse(self, node: fx.Node) -> None:
        if node.target in _AS_MODULES:
            what, cure = f"{self.word(node)} as a function is not supported", f"write it as {_AS_MODULES[node.target]}, a module that holds its weights"
            raise ModelError(what, where=where(node), cure=cure)
        raise ModelError(f"{self.word(node)} has no meaning in counts of spikes", where=where(node), cure=f"supported: {SUPPORTED}")

    def word(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(self.modules[str(node.target)]).__name__
        return str(getattr(node.target, "__name__", node.target))

    # -- what the readers below use

    def add(self, node: fx.Node, kind: str, inputs: tuple[str, ...], **numbers: Any) -> str:
        name = self._unique(str(node.target) if node.op == "call_module" else node.name)
        every: dict[str, Any] = {"shape": tuple(node.meta["shape"][1:]), **numbers}
        self.layers.append(Layer(name, kind, inputs, **every))
        return name

    def source(self, node: fx.Node, position: int = 0) -> str:
        argument = _argument(node, position, "input", None)
        if not isinstance(argument, fx.Node) or argument not in self.values:
            raise ModelError(f"{node.name} works on {argument!r}, which is no activation", where=where(node), cure=f"supported: {SUPPORTED}")
        return self.values[argument]

    def _unique(self, name: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)[:150] or "layer"
        taken = {layer.name for layer in self.layers} | _RESERVED
        count = 1
        unique = safe
        while unique in taken:
            count += 1
            unique = f"{safe}_{count}"
        return unique


def _called(node: fx.Node) -> Any:
    """What the tables below know a call by: the function, or the method's name with a dot."""
    return f".{node.target}" if node.op == "call_method" else node.target


def _is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.target is operator.iadd or name.endswith("_") or bool(node.kwargs.get("inplace"))  # torch names it, however it was passed


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument by position or name; what was computed from shapes stands as its value, an activation as its node."""
    argument = node.args[position] if position < len(node.args) else node.kwargs.get(name, default)
    return map_arg(argument, lambda n: n.meta.get("value", n))


def _conv2d(reader: _Reader, node: fx.Node, module: nn.Conv2d) -> str:
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
    return reader.add(
        node, "conv2d", (reader.source(node),), module=str(node.target), kernel=_pair(module.kernel_size), stride=_pair(module.stride),
        padding=_pair(padding), dilation=_pair(module.dilation), groups=module.groups,
    )  # fmt: skip


def _linear(reader: _Reader, node: fx.Node, module: nn.Linear) -> str:
    if len(node.meta["shape"]) != 2:
        raise ModelError(f"Linear on {list(node.meta['shape'][1:])} per image; expected a vector", where=where(node), cure="flatten first")
    return reader.add(node, "dense", (reader.source(node),), module=str(node.target))


def _batch_norm(reader: _Reader, node: fx.Node, module: nn.BatchNorm2d) -> str:
    if module.running_mean is None:
        raise ModelError("a batch norm without running statistics cannot be folded", where=where(node), cure="use track_running_stats=True")
    return reader.add(node, "norm", (reader.source(node),), norm=str(node.target))


def _relu(reader: _Reader, node: fx.Node, module: Any) -> str:
    return reader.add(node, "relu", (reader.source(node),), relu=True)


def _max_pool(reader: _Reader, node: fx.Node, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> str:
    if _pair(dilation) != (1, 1) or ceil_mode:
        raise ModelError("max pooling with dilation or ceil_mode is not supported", where=where(node), cure="use dilation=1, ceil_mode=False")
    return reader.add(node, "max_pool", (reader.source(node),), kernel=_pair(kernel), stride=_pair(stride or kernel), padding=_pair(padding))


def _max_pool_module(reader: _Reader, node: fx.Node, m: nn.MaxPool2d) -> str:
    if m.return_indices:
        raise ModelError("max pooling with return_indices is not supported", where=where(node))
    return _max_pool(reader, node, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


def _max_pool_call(reader: _Reader, node: fx.Node, _: Any) -> str:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1), ("ceil_mode", False))
    return _max_pool(reader, node, *(_argument(node, i, name, default) for i, (name, default) in enumerate(names, start=1)))


def _average_pool(reader: _Reader, node: fx.Node, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, divisor: Any) -> str:
    if ceil_mode or divisor or (not include_pad and _pair(padding) != (0, 0)):
        unsupported = "average pooling with ceil_mode, divisor_override or padding that does not count is not supported"
        raise ModelError(unsupported, where=where(node), cure="use ceil_mode=False, count_include_pad=True")
    kernel, stride = _pair(kernel), _pair(stride or kernel)
    if kernel == stride == (1, 1) and _pair(padding) == (0, 0):
        return reader.source(node)
    return reader.add(node, "average_pool", (reader.source(node),), kernel=kernel, stride=stride, padding=_pair(padding))


def _average_pool_module(reader: _Reader, node: fx.Node, m: nn.AvgPool2d) -> str:
    return _average_pool(reader, node, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)


def _average_pool_call(reader: _Reader, node: fx.Node, _: Any) -> str:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False), ("count_include_pad", True), ("divisor_override", None))
    return _average_pool(reader, node, *(_argument(node, i, name, default) for i, (name, default) in enumerate(names, start=1)))


def _adaptive_average_pool(reader: _Reader, node: fx.Node, module: Any) -> str:
    size = _input_shape(node)[-2:]
    wanted = node.meta["shape"][-2:]
    if len(_input_shape(node)) != 4 or any(n % w for n, w in zip(size, wanted, strict=True)):
        raise ModelError(
            f"adaptive pooling of {list(size)} to {list(wanted)} uses windows of different sizes",
            where=where(node),
            cure="choose an output size that divides the input",
        )
    kernel = (size[0] // wanted[0], size[1] // wanted[1])
    return _average_pool(reader, node, kernel, kernel, 0, False, True, None)


def _mean(reader: _Reader, node: fx.Node, _: Any) -> str:
    axes = _argument(node, 1, "dim", None)
    shape = _input_shape(node)
    if len(shape) != 4 or not isinstance(axes, list | tuple) or {a % 4 for a in axes} != {2, 3}:
        raise ModelError("mean is supported over height and width together", where=where(node), cure="write x.mean([2, 3]) or use AdaptiveAvgPool2d(1)")
    name = reader.add(node, "average_pool", (reader.source(node),), shape=(shape[1], 1, 1), kernel=shape[2:], stride=shape[2:])
    return name if len(node.meta["shape"]) == 4 else reader.add(node, "flatten", (name,))


def _reshape(reader: _Reader, node: fx.Node, module: Any) -> str:
    before, after = _input_shape(node), tuple(node.meta["shape"])
    if before == after:
        return reader.source(node)
    if len(after) != 2 or after[0] != before[0]:
        what = f"turns two images {list(before)} into {list(after)}"
        raise ModelError(what, where=where(node), cure="only flattening to one vector per image is supported, as in x.flatten(1)")
    return reader.add(node, "flatten", (reader.source(node),))


def _identity(reader: _Reader, node: fx.Node, module: Any) -> str:
    return reader.source(node)


def _dropout(reader: _Reader, node: fx.Node, module: Any) -> str:
    probability = module.p if module is not None else _argument(node, 1, "p", 0.5)
    if module is None and _argument(node, 2, "training", True):
        raise ModelError(f"{node.name} drops activations in evaluation too", where=where(node), cure="pass training=self.training, or use nn.Dropout")
    whole = isinstance(module, nn.Dropout2d) or node.target is F.dropout2d
    return reader.add(node, "dropout", (reader.source(node),), probability=float(probability), whole_channels=whole)


def _softmax(reader: _Reader, node: fx.Node, module: Any) -> str:
    axis = module.dim if module is not None else _argument(node, 1, "dim", None)
    if axis not in (1, -1):
        raise ModelError(f"softmax over axis {axis}; expected the scores of one image, axis 1", where=where(node), cure="pass dim=1")
    reader.ended_by = node
    reader.final = "log_softmax" if "log" in reader.word(node).lower() else "softmax"
    return reader.source(node)


def _add(reader: _Reader, node: fx.Node, _: Any) -> str:
    if node.kwargs.get("alpha", 1) != 1:
        raise ModelError("add with alpha is not supported", where=where(node), cure="scale the weights of that branch instead")
    terms = [_argument(node, 0, "input", None), _argument(node, 1, "other", None)]
    terms = [term for term in terms if isinstance(term, fx.Node) or term != 0]  # Python's sum() starts from 0
    strange = [term for term in terms if term not in reader.values]
    if strange:
        raise ModelError(f"adds {strange[0]}, which is no activation", where=where(node), cure="only activations of one shape can be added")
    if len(terms) == 1:
        return reader.values[terms[0]]
    if terms[0].meta["shape"] != terms[1].meta["shape"]:
        shapes = " and ".join(str(list(term.meta["shape"][1:])) for term in terms)
        raise ModelError(f"adds activations of different shapes: {shapes} per image", where=where(node), cure="only activations of one shape can be added")
    return reader.add(node, "add", tuple(reader.values[term] for term in terms))


def _concat(reader: _Reader, node: fx.Node, _: Any) -> str:
    tensors, axis = _argument(node, 0, "tensors", ()), _argument(node, 1, "dim", 0)
    if axis % len(node.meta["shape"]) != 1 or not isinstance(tensors, list | tuple):
        raise ModelError(f"concat along axis {axis}; only channels (axis 1) can be joined", where=where(node))
    strange = [tensor for tensor in tensors if tensor not in reader.values]
    if strange:
        raise ModelError(f"joins {strange[0]}, which is no activation", where=where(node), cure="only activations can be joined")
    return reader.add(node, "concat", tuple(reader.values[t] for t in tensors))


def _input_shape(node: fx.Node) -> tuple[int, ...]:
    source = node.args[0] if node.args else node.kwargs["input"]
    return tuple(source.meta["shape"])  # pyright: ignore


# Names that a compiled program has for itself, and the neurons that count the image (net.py).
_RESERVED = {"image", "image.counts", "scores"}

# What may be computed from shapes; on activations only what is in _CALLS.
_ARITHMETIC = {
    getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg,
}  # fmt: skip
_SHAPE_METHODS = {"size", "dim", "numel"}

_AS_MODULES: dict[Any, str] = {F.conv2d: "nn.Conv2d", F.linear: "nn.Linear", F.batch_norm: "nn.BatchNorm2d", torch.batch_norm: "nn.BatchNorm2d"}

_MODULES: dict[type, Callable[..., str]] = {
    nn.Conv2d: _conv2d, nn.Linear: _linear, nn.BatchNorm2d: _batch_norm, nn.BatchNorm1d: _batch_norm, nn.ReLU: _relu,
    nn.MaxPool2d: _max_pool_module, nn.AvgPool2d: _average_pool_module, nn.AdaptiveAvgPool2d: _adaptive_average_pool, nn.Flatten: _reshape,
    nn.Identity: _identity, nn.Dropout: _dropout, nn.Dropout2d: _dropout, nn.Softmax: _softmax, nn.LogSoftmax: _softmax,
}  # fmt: skip

_CALLS: dict[Any, Callable[..., str]] = {
    F.relu: _relu, torch.relu: _relu, torch.relu_: _relu, F.relu_: _relu, ".relu": _relu, ".relu_": _relu,
    F.max_pool2d: _max_pool_call, torch.max_pool2d: _max_pool_call, F.avg_pool2d: _average_pool_call, F.adaptive_avg_pool2d: _adaptive_average_pool,
    torch.mean: _mean, ".mean": _mean, torch.flatten: _reshape, torch.reshape: _reshape, torch.squeeze: _reshape,
    ".flatten": _reshape, ".view": _reshape, ".reshape": _reshape, ".squeeze": _reshape, ".contiguous": _identity,
    operator.add: _add, operator.iadd: _add, torch.add: _add, ".add": _add, ".add_": _add,
    torch.cat: _concat, torch.concat: _concat, torch.concatenate: _concat,
    F.dropout: _dropout, F.dropout2d: _dropout, torch.softmax: _softmax, torch.log_softmax: _softmax, F.softmax: _softmax, F.log_softmax: _softmax,
    ".softmax": _softmax, ".log_softmax": _softmax,
}  # fmt: skip


def _simplify(layers: list[Layer], output: str) -> list[Layer]:
    """Fold batch norms and ReLUs, and leave out what the output does not need."""
    end = Layer("", "output", (output,), ())
    needed = {""}
    for layer in (end, *reversed(layers)):
        if layer.name in needed:
            needed.update(layer.inputs)
    layers = _fold_relus(_fold_norms([*(layer for layer in layers if layer.name in needed), end]))
    return layers[:-1]


def _fold_norms(layers: list[Layer]) -> list[Layer]:
    """A batch norm right behind a convolution or Linear that only it reads becomes that layer's own gain and offset; one that
    stands alone becomes a layer of single synapses."""
    while norm := next((layer for layer in layers if layer.kind == "norm"), None):
        before = _by_name(layers, norm.inputs[0])
        if before and before.kind in ("conv2d", "dense") and not before.norm and _uses(layers, before.name) == 1:
            layers = _bypass([replace(layer, norm=norm.norm) if layer is before else layer for layer in layers], norm)
        else:
            alone = replace(norm, kind="conv2d" if len(norm.shape) == 3 else "dense", groups=norm.shape[0])
            layers = [alone if layer.name == norm.name else layer for layer in layers]
    return layers


def _fold_relus(layers: list[Layer]) -> list[Layer]:
    """A ReLU goes into the neurons before it, also past a max pool or flatten (they commute, and unsigned counts use all
    their bits); behind values that are never negative it goes away; otherwise it becomes an add of one input, which clips."""
    while relu := next((layer for layer in layers if layer.kind == "relu"), None):
        name = relu.inputs[0]
        if name in _never_negative(layers):
            layers = _bypass(layers, relu)
            continue
        while (before := _by_name(layers, name)) and before.kind in ("max_pool", "flatten", "dropout") and _uses(layers, name) == 1:
            name = before.inputs[0]
        if before and (before.is_neuron or before.kind == "add") and _uses(layers, name) == 1:
            layers = _bypass([replace(layer, relu=True) if layer is before else layer for layer in layers], relu)
        else:
            layers = [replace(layer, kind="add") if layer.name == relu.name else layer for layer in layers]
    return layers


def _never_negative(layers: list[Layer]) -> set[str]:
    """Names of the values that no image makes negative. The image itself is not among them: it may have come with mean and std."""
    names: set[str] = set()
    for layer in layers:
        if layer.relu or (layer.kind not in ("conv2d", "dense", "norm") and names.issuperset(layer.inputs)):
            names.add(layer.name)
    return names


def _by_name(layers: list[Layer], name: str) -> Layer | None:
    return next((layer for layer in layers if layer.name == name), None)


def _uses(layers: list[Layer], name: str) -> int:
    return sum(layer.inputs.count(name) for layer in layers)


def _bypass(layers: list[Layer], gone: Layer) -> list[Layer]:
    """The layers without `gone`; who read it now reads its input."""
    return [replace(layer, inputs=tuple(gone.inputs[0] if name == gone.name else name for name in layer.inputs)) for layer in layers if layer.name != gone.name]
