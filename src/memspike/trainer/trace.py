"""Trace: any feed-forward nn.Module (torch.fx) becomes the layers we know, or an error that names the node."""

import operator
import re
from typing import Any

from torch import fx, nn

from memspike.errors import ModelError
from memspike.trainer.capture import capture, measure, where
from memspike.trainer.layers import Layer, Trace, simplify
from memspike.trainer.readers import ARITHMETIC, AS_MODULES, CALLS, MODULES, REWRITTEN, SHAPE_METHODS, SUPPORTED, argument, called

# Names that a compiled program has for itself, and the neurons that count the image (roles.py).
_RESERVED = {"image", "image.counts", "scores"}
_ARITHMETIC = {"sub", "mul", "truediv", "div", "true_divide", "neg"}  # what normalises an image


def trace(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """The layers of `model` for images of `input_shape` [channels, height, width].

    Raises ModelError naming the node, its source line and what is supported, for anything that spikes cannot carry.
    """
    graph = capture(model)
    reader = _Reader(model, graph)
    for node in graph.nodes:
        reader.check(node)
    measure(model, graph, input_shape)
    for node in graph.nodes:
        reader.read(node)
    layers = simplify(reader.layers, reader.output)
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


class _Reader:
    """Reads fx nodes one by one into layers; `values` says which layer holds a node's value."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.modules = dict(model.named_modules())
        self.order = {node: position for position, node in enumerate(graph.nodes)}
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
            if type(module) not in MODULES:
                self.refuse(node)
            if module._forward_hooks or module._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
                cure = "remove them first (remove_weight_norm, prune.remove): what they do would be lost"
                raise ModelError(f"{type(module).__name__} has forward hooks", where=where(node), cure=cure)
        elif (node.op == "call_function" and node.target not in CALLS and node.target not in ARITHMETIC) or (
            node.op == "call_method" and f".{node.target}" not in CALLS and node.target not in SHAPE_METHODS
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
        reader = MODULES[type(module)] if module is not None else CALLS.get(called(node))
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
        if node.target in AS_MODULES:
            what, cure = f"{self.word(node)} as a function is not supported", f"write it as {AS_MODULES[node.target]}, a module that holds its weights"
            raise ModelError(what, where=where(node), cure=cure)
        what = f"{self.word(node)} has no meaning in counts of spikes"
        if self.word(node) in _ARITHMETIC and any(given.op == "placeholder" for given in node.all_input_nodes):
            cure = "leave the normalisation out of forward, and say it as mean and std of pixels from 0 to 1, one for each channel (--mean, --std)"
            raise ModelError(f"{what}, not even on the image", where=where(node), cure=cure)
        raise ModelError(what, where=where(node), cure=REWRITTEN.get(self.word(node).lower(), f"supported: {SUPPORTED}"))

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
        given = argument(node, position, "input", None)
        if not isinstance(given, fx.Node) or given not in self.values:
            raise ModelError(f"{node.name} works on {given!r}, which is no activation", where=where(node), cure=f"supported: {SUPPORTED}")
        return self.values[given]

    def _unique(self, name: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)[:150] or "layer"
        # Neurons have their sum beside them, as <name>.sum.
        taken = _RESERVED.union(*({layer.name, f"{layer.name}.sum"} for layer in self.layers))
        count = 1
        unique = safe
        while not taken.isdisjoint({unique, f"{unique}.sum"}):
            count += 1
            unique = f"{safe}_{count}"
        return unique


def _is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.target is operator.iadd or name.endswith("_") or bool(node.kwargs.get("inplace"))  # torch names it, however it was passed
