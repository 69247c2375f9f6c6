"""Capture: torch.fx writes a model's forward pass down as a graph, node by node, each with its shape and its source line."""

import operator
import os
import re
from typing import Any

import torch
from torch import Tensor, fx, nn

from memspike.errors import ModelError

_NOT_THE_USERS = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)


def capture(model: nn.Module) -> fx.Graph:
    """The graph of the model as it evaluates images; raises ModelError where torch.fx cannot follow, and for more inputs than the image.

    Traced in evaluation, so that branches on `self.training` give what inference does. Every module keeps its own training flag.
    """
    if cure := _unwrapped(model):
        raise ModelError(f"{type(model).__name__} is a wrapper that torch.fx does not look into", cure=cure)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        graph = _Tracer().trace(model)
    except (Exception, SystemExit) as error:  # fx runs the user's forward, which may raise anything
        cure = "a feed-forward network is needed: no branches, loops or asserts that depend on the image's values or its shape"
        raise ModelError(f"torch.fx cannot trace {type(model).__name__}: {error}", where=_source_of_exception(error), cure=cure) from error
    finally:
        for module, training in modes:
            module.training = training
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        code = type(model).forward.__code__
        where = f"node {inputs[1]}, {code.co_filename}:{code.co_firstlineno}" if inputs else f"{code.co_filename}:{code.co_firstlineno}"
        raise ModelError(f"{type(model).__name__} takes {len(inputs)} inputs; expected one, the image", where=where)
    return graph


def _unwrapped(model: nn.Module) -> str:
    """How to come by the network inside of a wrapper; empty where it is none."""
    if isinstance(model, torch.jit.ScriptModule):
        return "bring the module before scripting"
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "bring the network itself: model.module"
    return "bring the network itself: model._orig_mod" if isinstance(getattr(model, "_orig_mod", None), nn.Module) else ""


def measure(model: nn.Module, graph: fx.Graph, image_shape: tuple[int, ...]) -> None:
    """Run two black images through the model's graph and write into each node's `meta`: `shape` and `storage` of a tensor, `value` of anything else.

    Two images: what mixes images shows up as a wrong first axis. Nodes of one storage share their memory. Raises ModelError naming the node that fails.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    images = torch.zeros(2, *image_shape, device=parameter.device, dtype=parameter.dtype)
    model.eval()
    try:
        with torch.no_grad():
            _Meter(model, graph, image_shape).run(images)
    finally:
        for module, training in modes:
            module.training = training


def where(node: fx.Node) -> str:
    """The node's name and the last line of the user's source that led to it."""
    label = f"node {node.name}" + (f" ({node.target})" if node.op == "call_module" else "")
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.stack_trace or "")
    lines = [(file, line) for file, line in lines if not file.startswith(_NOT_THE_USERS)]
    return f"{label}, {lines[-1][0]}:{lines[-1][1]}" if lines else label


class _Proxy(fx.Proxy):
    """`x += y` changes x itself, and whatever else is x; fx alone would write it down as `x = x + y`."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    record_stack_traces = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Meter(fx.Interpreter):
    def __init__(self, model: nn.Module, graph: fx.Graph, image_shape: tuple[int, ...]) -> None:
        # The model itself: a GraphModule has names of its own, and layers may be called `graph` or `code`. Memory that is used again would look shared.
        super().__init__(model, garbage_collect_values=False, graph=graph)
        self.image_shape = image_shape

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except (Exception, SystemExit) as error:  # whatever a user's own forward raises belongs to its node
            cure = "the network and the data must agree on channels and size; any number of images must do, here two"
            raise ModelError(f"fails on an image of {list(self.image_shape)}: {error}", where=where(n), cure=cure) from error
        if isinstance(value, Tensor):
            n.meta["shape"], n.meta["storage"] = tuple(value.shape), value.untyped_storage().data_ptr()
        else:
            n.meta["shape"], n.meta["value"] = None, value
        return value


def _source_of_exception(error: BaseException) -> str:
    """The last line of the user's source that the exception passed through."""
    lines: list[str] = []
    step = error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if not file.startswith(_NOT_THE_USERS):
            lines.append(f"{file}:{step.tb_lineno}")
        step = step.tb_next
    return lines[-1] if lines else ""
