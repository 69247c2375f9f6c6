"""Layers of a traced network, and how batch norms and ReLUs fold into them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


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


def simplify(layers: list[Layer], output: str) -> list[Layer]:
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
        if before and before.kind in ("conv2d", "dense") and not before.norm and num_uses(layers, before.name) == 1:
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
        while (before := _by_name(layers, name)) and before.kind in ("max_pool", "flatten", "dropout") and num_uses(layers, name) == 1:
            name = before.inputs[0]
        if before and (before.is_neuron or before.kind == "add") and num_uses(layers, name) == 1:
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


def num_uses(layers: Sequence[Layer], name: str) -> int:
    """How often the value `name` is read."""
    return sum(layer.inputs.count(name) for layer in layers)


def _bypass(layers: list[Layer], gone: Layer) -> list[Layer]:
    """The layers without `gone`; who read it now reads its input."""
    return [replace(layer, inputs=tuple(gone.inputs[0] if name == gone.name else name for name in layer.inputs)) for layer in layers if layer.name != gone.name]
