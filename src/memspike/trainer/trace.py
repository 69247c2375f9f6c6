"""Trace: any feed-forward nn.Module (torch.fx) becomes the layers we know, or an error that names the node."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from memspike.errors import ModelError

SUPPORTED = (
    "Conv2d (stride, padding, dilation, groups), Linear, BatchNorm1d/2d, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, "
    "mean over height and width, flatten/view/reshape to vectors, add, concat along channels, Dropout, Identity, and a final Softmax or LogSoftmax"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a traced network; `inputs` name earlier layers or "image".

    kind: conv2d, dense, average_pool, max_pool, add, concat, flatten, dropout (while reading also norm, relu and output).
    A conv2d or dense without `module` is a batch norm that stands alone: one synapse of weight 1 per channel. `norm` is a
    batch norm that belongs to the layer, `relu` says that its output is rectified.
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

    @property
    def is_neuron(self) -> bool:
        """Whether the layer sums and fires, and so has a step of its own."""
        return self.kind in ("conv2d", "dense", "average_pool")


@dataclass(frozen=True, slots=True)
class Trace:
    """The layers of a network in order, the last one giving the scores; `conversion` tells what became of each module."""

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...]
    conversion: tuple[dict[str, str], ...]


def trace(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """The layers of `model` for images of `input_shape` [channels, height, width].

    Raises ModelError naming the node, its source line and what is supported, for anything that spikes cannot carry.
    """
    graph_module = _capture(model, input_shape)
    reader = _Reader(graph_module)
    for node in graph_module.graph.nodes:
        reader.read(node)
    layers = _simplify(reader.layers, reader.output)
    if not layers:
        raise ModelError("the network computes nothing from its image", cure=f"supported: {SUPPORTED}")
    if len(layers[-1].shape) != 1:
        raise ModelError(f"the network gives {list(layers[-1].shape)} per image; expected a vector of class scores", cure="flatten or pool the last layer")
    if not any(layer.module for layer in layers):
        raise ModelError("the network has no Conv2d or Linear layer", cure="there is nothing to train or to map")
    return Trace(tuple(layers), input_shape, _conversion(reader.read_as, reader.layers, layers))


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


class _Tracer(fx.Tracer):
    record_stack_traces = True


def _capture(model: nn.Module, input_shape: tuple[int, ...]) -> fx.GraphModule:
    try:
        graph = _Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"torch.fx cannot trace {type(model).__name__}: {error}",
            where=_source_of_exception(error),
            cure="a feed-forward network is needed: no branches or loops that depend on the image's values",
        ) from error
    graph_module = fx.GraphModule(model, graph)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ModelError(f"{type(model).__name__} takes {len(inputs)} inputs; expected one, the image")
    parameter = next(iter(model.parameters()), None)
    # Two images: what mixes images shows up as a wrong first axis.
    images = torch.zeros(2, *input_shape, device=parameter.device if parameter is not None else "cpu")
    was_training = graph_module.training
    graph_module.eval()
    interpreter = _ShapeRecorder(graph_module)
    with torch.inference_mode():
        interpreter.run(images)
    graph_module.train(was_training)
    return graph_module


class _ShapeRecorder(fx.Interpreter):
    """Runs the network once and writes the shape of each value beside its node."""

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:  # whatever a user's own forward raises belongs to its node
            raise ModelError(
                f"fails on an image of {list(self._image_shape())}: {error}", where=_where(n), cure="the network and the data must agree on channels and size"
            ) from error
        n.meta["shape"] = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        return value

    def _image_shape(self) -> tuple[int, ...]:
        return next(node.meta["shape"][1:] for node in self.module.graph.nodes if node.op == "placeholder")  # pyright: ignore


def _source_of_exception(error: BaseException) -> str:
    frames = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if "/torch/" not in code.co_filename and "memspike" not in code.co_filename:
            frames.append(f"{code.co_filename}:{step.tb_lineno}")
        step = step.tb_next
    return frames[-1] if frames else ""


def _where(node: fx.Node) -> str:
    label = f"node {node.name}" + (f" ({node.target})" if node.op == "call_module" else "")
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or node.stack_trace or "")
    lines = [(file, line) for file, line in lines if "/torch/" not in file]
    return f"{label}, {lines[-1][0]}:{lines[-1][1]}" if lines else label


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class _Reader:
    """Reads fx nodes one by one into layers; `values` says which layer holds a node's value."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.modules = dict(graph_module.named_modules())
        self.layers: list[Layer] = []
        self.values: dict[fx.Node, str] = {}
        self.read_as: list[tuple[str, str, str]] = []
        self.output = ""
        self.ended_by: fx.Node | None = None

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.values[node] = "image"
        elif node.op == "output":
            self._finish(node)
        elif node.meta.get("shape") is None:
            self._shape_arithmetic(node)
        else:
            if self.ended_by is not None:
                raise ModelError(f"a softmax is followed by {node.name}", where=_where(self.ended_by), cure="softmax is supported as the last step only")
            self._convert(node)

    def _finish(self, node: fx.Node) -> None:
        (result,) = node.args
        if not isinstance(result, fx.Node) or result not in self.values:
            raise ModelError("the network returns several values; expected one tensor of class scores", where=_where(node))
        self.output = self.values[result]

    def _shape_arithmetic(self, node: fx.Node) -> None:
        known = (operator.getitem, getattr, operator.mul, operator.floordiv, len)
        if not (node.op == "call_method" and node.target in ("size", "dim", "numel", "__len__")) and node.target not in known:
            self._refuse(node)

    def _convert(self, node: fx.Node) -> None:
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            reader = _MODULES.get(type(module))
            name = type(module).__name__
        else:
            module = None
            reader = _CALLS.get(node.target if node.op == "call_function" else f".{node.target}")
            name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
        if reader is None or node.op == "get_attr":
            self._refuse(node, name)
        self.values[node] = reader(self, node, module)  # pyright: ignore[reportOptionalCall]
        self.read_as.append((str(node.target if node.op == "call_module" else node.name), name, self.values[node]))

    def _refuse(self, node: fx.Node, name: str | None = None) -> None:
        name = name or str(getattr(node.target, "__name__", node.target))
        raise ModelError(f"{name} has no meaning in counts of spikes", where=_where(node), cure=f"supported: {SUPPORTED}")

    # -- what the readers below use

    def add(self, node: fx.Node, kind: str, inputs: tuple[str, ...], **numbers: Any) -> str:
        name = self._unique(str(node.target) if node.op == "call_module" else node.name)
        self.layers.append(Layer(name, kind, inputs, **{"shape": tuple(node.meta["shape"][1:]), **numbers}))
        return name

    def source(self, node: fx.Node, position: int = 0) -> str:
        argument = node.args[position] if position < len(node.args) else node.kwargs.get("input")
        if not isinstance(argument, fx.Node) or argument not in self.values:
            raise ModelError(f"{node.name} works on {argument!r}, which is no activation", where=_where(node), cure=f"supported: {SUPPORTED}")
        return self.values[argument]

    def _unique(self, name: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)[:150] or "layer"
        taken = {layer.name for layer in self.layers} | {"image"}
        count = 1
        unique = safe
        while unique in taken:
            count += 1
            unique = f"{safe}_{count}"
        return unique


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)


def _conv2d(reader: _Reader, node: fx.Node, module: nn.Conv2d) -> str:
    if module.padding_mode != "zeros":
        raise ModelError(f"padding_mode {module.padding_mode!r} is not supported", where=_where(node), cure="use zeros")
    padding: Any = module.padding
    if isinstance(padding, str):
        sides = [
            (0, 0) if padding == "valid" else ((d * (k - 1)) // 2, d * (k - 1) - (d * (k - 1)) // 2)
            for d, k in zip(module.dilation, module.kernel_size, strict=True)
        ]
        if any(low != high for low, high in sides):
            raise ModelError("padding='same' with an even kernel pads one side more", where=_where(node), cure="use an odd kernel or padding numbers")
        padding = (sides[0][0], sides[1][0])
    return reader.add(
        node, "conv2d", (reader.source(node),), module=str(node.target), kernel=_pair(module.kernel_size), stride=_pair(module.stride),
        padding=_pair(padding), dilation=_pair(module.dilation), groups=module.groups,
    )  # fmt: skip


def _linear(reader: _Reader, node: fx.Node, module: nn.Linear) -> str:
    if len(node.meta["shape"]) != 2:
        raise ModelError(f"Linear on {list(node.meta['shape'][1:])} per image; expected a vector", where=_where(node), cure="flatten first")
    return reader.add(node, "dense", (reader.source(node),), module=str(node.target))


def _batch_norm(reader: _Reader, node: fx.Node, module: nn.BatchNorm2d) -> str:
    if module.running_mean is None:
        raise ModelError("a batch norm without running statistics cannot be folded", where=_where(node), cure="use track_running_stats=True")
    return reader.add(node, "norm", (reader.source(node),), norm=str(node.target))


def _relu(reader: _Reader, node: fx.Node, module: Any) -> str:
    return reader.add(node, "relu", (reader.source(node),), relu=True)


def _max_pool(reader: _Reader, node: fx.Node, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> str:
    if _pair(dilation) != (1, 1) or ceil_mode:
        raise ModelError("max pooling with dilation or ceil_mode is not supported", where=_where(node), cure="use dilation=1, ceil_mode=False")
    return reader.add(node, "max_pool", (reader.source(node),), kernel=_pair(kernel), stride=_pair(stride or kernel), padding=_pair(padding))


def _max_pool_module(reader: _Reader, node: fx.Node, m: nn.MaxPool2d) -> str:
    if m.return_indices:
        raise ModelError("max pooling with return_indices is not supported", where=_where(node))
    return _max_pool(reader, node, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


def _max_pool_call(reader: _Reader, node: fx.Node, _: Any) -> str:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1), ("ceil_mode", False))
    return _max_pool(reader, node, *(_argument(node, i, name, default) for i, (name, default) in enumerate(names, start=1)))


def _average_pool(reader: _Reader, node: fx.Node, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, divisor: Any) -> str:
    if ceil_mode or divisor or (not include_pad and _pair(padding) != (0, 0)):
        unsupported = "average pooling with ceil_mode, divisor_override or padding that does not count is not supported"
        raise ModelError(unsupported, where=_where(node), cure="use ceil_mode=False, count_include_pad=True")
    return reader.add(node, "average_pool", (reader.source(node),), kernel=_pair(kernel), stride=_pair(stride or kernel), padding=_pair(padding))


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
            where=_where(node),
            cure="choose an output size that divides the input",
        )
    kernel = (size[0] // wanted[0], size[1] // wanted[1])
    return reader.add(node, "average_pool", (reader.source(node),), kernel=kernel, stride=kernel)


def _mean(reader: _Reader, node: fx.Node, _: Any) -> str:
    axes = _argument(node, 1, "dim", None)
    shape = _input_shape(node)
    if len(shape) != 4 or not isinstance(axes, list | tuple) or {a % 4 for a in axes} != {2, 3}:
        raise ModelError("mean is supported over height and width together", where=_where(node), cure="write x.mean([2, 3]) or use AdaptiveAvgPool2d(1)")
    name = reader.add(node, "average_pool", (reader.source(node),), shape=(shape[1], 1, 1), kernel=shape[2:], stride=shape[2:])
    return name if len(node.meta["shape"]) == 4 else reader.add(node, "flatten", (name,))


def _reshape(reader: _Reader, node: fx.Node, module: Any) -> str:
    before, after = _input_shape(node), tuple(node.meta["shape"])
    if before == after:
        return reader.source(node)
    if len(after) != 2 or after[0] != before[0]:
        raise ModelError(f"reshapes {list(before[1:])} to {list(after[1:])}; only flattening to one vector per image is supported", where=_where(node))
    return reader.add(node, "flatten", (reader.source(node),))


def _identity(reader: _Reader, node: fx.Node, module: Any) -> str:
    return reader.source(node)


def _dropout(reader: _Reader, node: fx.Node, module: Any) -> str:
    probability = module.p if module is not None else _argument(node, 1, "p", 0.5)
    return reader.add(node, "dropout", (reader.source(node),), probability=float(probability))


def _softmax(reader: _Reader, node: fx.Node, module: Any) -> str:
    reader.ended_by = node
    return reader.source(node)


def _add(reader: _Reader, node: fx.Node, _: Any) -> str:
    if node.kwargs.get("alpha", 1) != 1:
        raise ModelError("add with alpha is not supported", where=_where(node), cure="scale the weights of that branch instead")
    shapes = {tuple(a.meta["shape"]) for a in node.args if isinstance(a, fx.Node)}
    if len(shapes) != 1:
        raise ModelError(f"adds values that are not activations of one shape: {node.args}", where=_where(node), cure=f"supported: {SUPPORTED}")
    return reader.add(node, "add", (reader.source(node, 0), reader.source(node, 1)))


def _concat(reader: _Reader, node: fx.Node, _: Any) -> str:
    tensors, axis = _argument(node, 0, "tensors", ()), _argument(node, 1, "dim", 0)
    if axis % len(node.meta["shape"]) != 1 or not isinstance(tensors, list | tuple):
        raise ModelError(f"concat along axis {axis}; only channels (axis 1) can be joined", where=_where(node))
    missing = [t for t in tensors if t not in reader.values]
    if missing:
        raise ModelError(f"concat of {missing[0]!r}, which is no activation", where=_where(node))
    return reader.add(node, "concat", tuple(reader.values[t] for t in tensors))


def _input_shape(node: fx.Node) -> tuple[int, ...]:
    source = node.args[0] if node.args else node.kwargs["input"]
    return tuple(source.meta["shape"])  # pyright: ignore


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
    layers = _fold_relus(_fold_norms([*layers, end]))
    needed = {""}
    for layer in reversed(layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    return [layer for layer in layers if layer.name in needed and layer.kind != "output"]


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
    their bits); one that cannot becomes an add of one input, which clips."""
    while relu := next((layer for layer in layers if layer.kind == "relu"), None):
        name = relu.inputs[0]
        while (before := _by_name(layers, name)) and before.kind in ("max_pool", "flatten", "dropout") and _uses(layers, name) == 1:
            name = before.inputs[0]
        if before and (before.is_neuron or before.kind == "add") and _uses(layers, name) == 1:
            layers = _bypass([replace(layer, relu=True) if layer is before else layer for layer in layers], relu)
        else:
            layers = [replace(layer, kind="add") if layer.name == relu.name else layer for layer in layers]
    return layers


def _by_name(layers: list[Layer], name: str) -> Layer | None:
    return next((layer for layer in layers if layer.name == name), None)


def _uses(layers: list[Layer], name: str) -> int:
    return sum(layer.inputs.count(name) for layer in layers)


def _bypass(layers: list[Layer], gone: Layer) -> list[Layer]:
    """The layers without `gone`; who read it now reads its input."""
    return [replace(layer, inputs=tuple(gone.inputs[0] if name == gone.name else name for name in layer.inputs)) for layer in layers if layer.name != gone.name]
