"""What a model is read as, and every refusal with its text, its node and its source line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from memspike.errors import ModelError
from memspike.trainer.layers import Layer
from memspike.trainer.readers import SUPPORTED
from memspike.trainer.trace import trace
from networks import Everything

SHAPE = (1, 8, 8)


class Net(nn.Module):
    """A network whose forward is a function of it and the image."""

    def __init__(self, forward: Callable[["Net", Tensor], Any], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = forward
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 64, 3)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def layers(forward: Callable[[Any, Tensor], Any], **modules: nn.Module) -> dict[str, Layer]:
    return {layer.name: layer for layer in trace(Net(forward, **modules), SHAPE).layers}


def summary(forward: Callable[[Any, Tensor], Any], **modules: nn.Module) -> list[tuple[str, str, tuple[str, ...], bool]]:
    return [(layer.name, layer.kind, layer.inputs, layer.relu) for layer in layers(forward, **modules).values()]


# -- what is read


def test_norms_and_relus_fold_into_the_layer_before_them() -> None:
    found = layers(lambda m, x: m.fc(F.relu(m.norm(m.conv(x))).flatten(1)), norm=nn.BatchNorm2d(4))
    assert [*found] == ["conv", "flatten", "fc"]
    assert found["conv"] == Layer("conv", "conv2d", ("image",), (4, 8, 8), "conv", "norm", True, (3, 3), padding=(1, 1))
    assert found["fc"] == Layer("fc", "dense", ("flatten",), (3,), "fc")


def test_a_relu_behind_a_max_pool_goes_into_the_neurons_before_it() -> None:
    found = summary(lambda m, x: m.out(F.relu(F.max_pool2d(m.conv(x), 2)).flatten(1)), out=nn.Linear(64, 3))
    assert found == [
        ("conv", "conv2d", ("image",), True),
        ("max_pool2d", "max_pool", ("conv",), False),
        ("flatten", "flatten", ("max_pool2d",), False),
        ("out", "dense", ("flatten",), False),
    ]


def test_a_relu_that_one_reader_of_two_sees_is_an_add_of_one() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        return m.fc((F.relu(x) + x).flatten(1))

    assert summary(forward)[:3] == [("conv", "conv2d", ("image",), False), ("relu", "add", ("conv",), True), ("add", "add", ("relu", "conv"), False)]


def test_a_relu_of_what_is_never_negative_goes_away() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.conv(x))
        y = F.avg_pool2d(torch.cat([x, x + x], 1), 2)
        return m.out(F.relu(y).flatten(1) + F.relu(y.flatten(1)))

    assert [name for name, *_ in summary(forward, out=nn.Linear(128, 3))] == ["conv", "add", "cat", "avg_pool2d", "flatten", "flatten_1", "add_1", "out"]


def test_a_norm_that_stands_alone_is_a_layer_of_single_synapses() -> None:
    found = layers(lambda m, x: m.fc(m.vector(m.norm(F.relu(m.conv(x))).flatten(1))), norm=nn.BatchNorm2d(4), vector=nn.BatchNorm1d(256))
    assert found["norm"] == Layer("norm", "conv2d", ("conv",), (4, 8, 8), None, "norm", groups=4)
    assert found["vector"] == Layer("vector", "dense", ("flatten",), (256,), None, "vector", groups=256)


def test_a_second_norm_and_the_norm_of_a_convolution_read_twice_stand_alone() -> None:
    found = layers(lambda m, x: m.fc(m.b(m.a(m.conv(x))).flatten(1)), a=nn.BatchNorm2d(4), b=nn.BatchNorm2d(4))
    assert (found["conv"].norm, found["b"].norm, found["b"].module) == ("a", "b", None)

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        return m.fc((m.a(x) + x).flatten(1))

    assert layers(forward, a=nn.BatchNorm2d(4))["a"].inputs == ("conv",)


def test_what_the_scores_do_not_need_is_left_out() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        m.aside(x)
        return m.fc(F.relu(x).flatten(1))

    assert summary(forward, aside=nn.Conv2d(4, 4, 1)) == [
        ("conv", "conv2d", ("image",), True),
        ("flatten", "flatten", ("conv",), False),
        ("fc", "dense", ("flatten",), False),
    ]


def test_a_module_used_twice_has_two_layers() -> None:
    found = layers(lambda m, x: m.fc(m.same(m.same(m.conv(x))).flatten(1)), same=nn.Conv2d(4, 4, 1))
    assert [(layer.name, layer.module) for layer in found.values()][1:3] == [("same", "same"), ("same_2", "same")]


def test_names_that_a_program_has_for_itself_are_changed() -> None:
    found = summary(lambda m, x: m.out(m.scores(F.relu(m.image(x))).flatten(1)), image=nn.Conv2d(1, 1, 1), scores=nn.Conv2d(1, 1, 1), out=nn.Linear(64, 3))
    assert [name for name, *_ in found] == ["image_2", "scores_2", "flatten", "out"]


def test_no_layer_is_called_as_the_sum_of_another() -> None:
    inner = nn.Module()
    inner.sum = nn.Conv2d(4, 4, 1)
    before = layers(lambda m, x: m.fc(m.avg_pool2d.sum(F.avg_pool2d(m.conv(x), 3, 1, 1)).flatten(1)), avg_pool2d=inner)
    behind = layers(lambda m, x: m.fc(F.avg_pool2d(m.avg_pool2d.sum(m.conv(x)), 3, 1, 1).flatten(1)), avg_pool2d=inner)
    assert [*before][1:3] == ["avg_pool2d", "avg_pool2d.sum_2"] and [*behind][1:3] == ["avg_pool2d.sum", "avg_pool2d_2"]


def test_a_layer_may_be_called_what_torch_fx_calls_something_of_its_own() -> None:
    names = {name for name in set(dir(fx.symbolic_trace(nn.Identity()))) - set(dir(nn.Module())) if not name.startswith("__")}
    assert {"graph", "code", "meta", "recompile"} <= names
    for name in sorted(names):
        found = layers(lambda m, x, name=name: m.fc(getattr(m, name)(m.conv(x)).flatten(1)), **{name: nn.Conv2d(4, 4, 1)})
        assert [layer.module for layer in found.values()] == ["conv", name, None, "fc"]


NAMED: list[tuple[Callable[[Any, Tensor], Any], list[str]]] = [
    (lambda m, x: m.out(torch.cat([m.conv(x), m.conv(x)], axis=1).flatten(1)), ["concat"]),
    (lambda m, x: m.out(torch.concat([m.conv(x), m.conv(x)], axis=-3).flatten(1)), ["concat"]),
    (lambda m, x: m.out(torch.concatenate(tensors=[m.conv(x), m.conv(x)], axis=1).flatten(1)), ["concat"]),
    (lambda m, x: m.four(torch.mean(m.conv(x), axis=(2, 3))), ["average_pool"]),
    (lambda m, x: m.four(m.conv(x).mean(axis=(-1, -2), keepdims=True).flatten(1)), ["average_pool"]),
    (lambda m, x: torch.softmax(m.fc(torch.flatten(input=m.conv(input=x), start_dim=1)), axis=1), []),
    (lambda m, x: m.fc(torch.flatten(x=torch.relu(a=m.conv(x)), start_dim=1)).log_softmax(axis=-1), []),
    (lambda m, x: m.fc(torch.add(x1=m.conv(x), x2=m.conv(x)).flatten(1)), ["add"]),
    (lambda m, x: m.fc(m.conv(x).add(other=m.conv(x)).flatten(1)), ["add"]),
]


@pytest.mark.parametrize(("forward", "kinds"), NAMED)
def test_arguments_are_read_by_every_name_that_torch_has_for_them(forward: Callable[[Any, Tensor], Any], kinds: list[str]) -> None:
    found = layers(forward, out=nn.Linear(2 * 256, 3), four=nn.Linear(4, 3))
    assert [layer.kind for layer in found.values() if layer.kind not in ("conv2d", "dense", "flatten")] == kinds


def test_concat_along_another_axis_is_refused_by_either_name() -> None:
    for name in ("dim", "axis"):
        with pytest.raises(ModelError, match="concat along axis 2; only channels"):
            layers(lambda m, x, name=name: m.fc(torch.cat([m.conv(x), m.conv(x)], **{name: 2}).flatten(1)), fc=nn.Linear(512, 3))


def test_a_model_that_ends_python_is_refused_as_any_other_that_fails() -> None:
    def ends(m: Any, x: Tensor) -> Tensor:
        raise SystemExit(3)

    with pytest.raises(ModelError, match="torch.fx cannot trace Net: 3"):
        layers(ends)


def test_shapes_may_be_computed_with() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.conv(x))
        n, c, h, w = x.shape
        x = F.avg_pool2d(x, kernel_size=x.shape[-1] // 4)
        return m.out(x.view(n, c * h // 2 * w // 2))

    found = layers(forward, out=nn.Linear(64, 3))
    assert (found["avg_pool2d"].kernel, found["avg_pool2d"].stride, found["view"].shape) == ((2, 2), (2, 2), (64,))


def test_pools_over_the_whole_image_are_average_pools() -> None:
    for pool in (lambda x: x.mean([2, 3]), lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), lambda x: F.avg_pool2d(x, x.size()[2:]).squeeze()):
        found = list(layers(lambda m, x, pool=pool: m.out(pool(F.relu(m.conv(x)))), out=nn.Linear(4, 3)).values())
        assert [layer.kind for layer in found] == ["conv2d", "average_pool", "flatten", "dense"]
        assert (found[1].kernel, found[1].shape) == ((8, 8), (4, 1, 1))


def test_pools_of_single_places_are_nothing() -> None:
    found = summary(lambda m, x: m.fc(m.b(m.a(m.conv(x))).flatten(1)), a=nn.AdaptiveAvgPool2d((8, 8)), b=nn.AvgPool2d(1))
    assert [name for name, *_ in found] == ["conv", "flatten", "fc"]
    thinned = layers(lambda m, x: m.out(m.a(m.conv(x)).flatten(1)), a=nn.AvgPool2d(1, 2), out=nn.Linear(64, 3))["a"]
    assert (thinned.kind, thinned.kernel, thinned.stride) == ("average_pool", (1, 1), (2, 2))


def test_windows_are_read_with_stride_padding_dilation_and_groups() -> None:
    modules = {
        "a": nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
        "b": nn.Conv2d(8, 4, (5, 3), padding="same", dilation=(1, 3)),
        "c": nn.MaxPool2d((2, 3), (1, 2), (1, 0)),
        "d": nn.AvgPool2d(2, 1, 1),
    }
    found = layers(lambda m, x: m.out(m.d(m.c(m.b(m.a(m.conv(x))))).flatten(1)), **modules, out=nn.Linear(4 * 6 * 3, 3))
    keys = ("kernel", "stride", "padding", "dilation", "groups")
    assert {name: tuple(getattr(layer, key) for key in keys) for name, layer in found.items() if name in modules} == {
        "a": ((3, 2), (2, 1), (1, 0), (1, 2), 2),
        "b": ((5, 3), (1, 1), (2, 3), (1, 3), 1),
        "c": ((2, 3), (1, 2), (1, 0), (1, 1), 1),
        "d": ((2, 2), (1, 1), (1, 1), (1, 1), 1),
    }


def test_a_final_softmax_is_left_out_and_remembered() -> None:
    for ending, final in ((lambda x: x, ""), (lambda x: F.log_softmax(x, 1), "log_softmax"), (lambda x: x.softmax(-1), "softmax")):
        traced = trace(Net(lambda m, x, ending=ending: ending(m.fc(m.conv(x).flatten(1)))), SHAPE)
        assert (traced.layers[-1].name, traced.final) == ("fc", final)


def test_everything_that_becomes_something_is_told() -> None:
    rows = {row["layer"]: (row["was"], row["became"]) for row in trace(Everything(), SHAPE).conversion}
    assert rows["stem.0"] == ("Conv2d", "synapses on crossbars, then neurons")
    assert rows["stem.1"] == ("BatchNorm2d", "folded into thresholds and charges")
    assert rows["stem.2"] == ("ReLU", "folded: neurons that count upwards only")
    assert rows["cat"] == ("cat", "counts side by side")
    assert rows["dropout"] == ("Dropout", "only while training in floating point")
    assert rows["log_softmax"] == ("log_softmax", "dropped: changes no count")
    assert set(rows) >= {"add", "add_1", "max_pool2d", "avg_pool2d", "pool", "flatten", "fc1", "fc2", "twice"}


# -- what an op in place changes


def test_after_an_op_in_place_all_names_of_the_tensor_have_the_new_value() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        skip = m.same(x)
        m.rectify(m, x)
        return m.fc((m.other(x) + skip).flatten(1))

    ways = (lambda m, x: m.relu(x), lambda m, x: F.relu(x, True), lambda m, x: F.relu(x, inplace=True), lambda m, x: F.relu_(x), lambda m, x: x.relu_())
    for rectify in ways:
        modules = {"relu": nn.ReLU(inplace=True), "same": nn.Identity(), "other": nn.Conv2d(4, 4, 1), "rectify": rectify}
        found = summary(forward, **modules)
        assert found[:3] == [("conv", "conv2d", ("image",), True), ("other", "conv2d", ("conv",), False), ("add", "add", ("other", "conv"), False)]


def test_plus_equals_changes_every_name_of_the_sum() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        y = x
        y += m.other(x)
        return m.fc((x + y).flatten(1))

    assert summary(forward, other=nn.Conv2d(4, 4, 1))[2:4] == [("iadd", "add", ("conv", "other"), False), ("add", "add", ("iadd", "iadd"), False)]


def test_a_copy_is_not_changed_by_an_op_in_place() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        y = F.relu(x)
        y.add_(x)
        return m.fc((x + y).flatten(1))

    assert summary(forward)[1:4] == [("relu", "add", ("conv",), True), ("add_", "add", ("relu", "conv"), False), ("add", "add", ("conv", "add_"), False)]


def overwrites_a_view(m: Any, x: Tensor) -> Tensor:
    x = m.conv(x)
    flat = x.flatten(1)
    F.relu_(x)  # refused
    return m.fc(flat)


# -- what is refused


def has_no_meaning(name: str, cure: str = f"supported: {SUPPORTED}") -> str:
    return f"{name} has no meaning in counts of spikes\n  {cure}"


def fx_fails(why: str) -> str:
    return f"torch.fx cannot trace Net: {why}\n  a feed-forward network is needed: no branches, loops or asserts that depend on the image's values or its shape"


TRAINED, CUT_OFF = "use ReLU, and train with it", "use ReLU: counts are cut off at their largest anyway"
PAD = "put the padding into what comes next: nn.Conv2d(..., padding=1), which pads both sides alike"
LEAVE = "leave it out: images come in single precision, and nothing changes them"


def normalises(what: str) -> str:
    cure = "leave the normalisation out of forward, and say it as mean and std of pixels from 0 to 1, one for each channel (--mean, --std)"
    return f"{what} has no meaning in counts of spikes, not even on the image\n  {cure}"


def uses_lstm(m: Any, x: Tensor) -> Tensor:
    return m.fc(m.lstm(m.conv(x).flatten(1))[0])  # refused


def attends(m: Any, x: Tensor) -> Tensor:
    x = m.conv(x).flatten(2)
    return m.fc(m.attention(x, x, x)[0].flatten(1))  # refused


def branches(m: Any, x: Tensor) -> Tensor:
    if x.sum() > 0:  # refused
        x = m.conv(x)
    return m.fc(x.flatten(1))


def softmax_inside(m: Any, x: Tensor) -> Tensor:
    x = torch.softmax(m.conv(x).flatten(1), 1)  # refused
    return m.fc(x)


def two_outputs(m: Any, x: Tensor) -> Any:
    x = m.conv(x)
    return m.fc(x.flatten(1)), x.mean([2, 3])  # refused


def counts_pixels(m: Any, x: Tensor) -> Tensor:
    return m.fc(m.conv(x).flatten(1)[: len(x)])  # refused


REFUSED: list[tuple[str, Callable[[Any, Tensor], Any], dict[str, Any]]] = [
    ("node gelu, HERE: " + has_no_meaning("gelu", TRAINED), lambda m, x: m.fc(F.gelu(m.conv(x)).flatten(1)), {}),  # refused
    ("node act (act), HERE: " + has_no_meaning("GELU", TRAINED), lambda m, x: m.fc(m.act(m.conv(x)).flatten(1)), {"act": nn.GELU()}),  # refused
    ("node act (act), HERE: " + has_no_meaning("Sigmoid", TRAINED), lambda m, x: m.fc(m.act(m.conv(x)).flatten(1)), {"act": nn.Sigmoid()}),  # refused
    ("node sigmoid, HERE: " + has_no_meaning("sigmoid", TRAINED), lambda m, x: m.fc(m.conv(x).sigmoid().flatten(1)), {}),  # refused
    ("node act (act), HERE: " + has_no_meaning("ReLU6", CUT_OFF), lambda m, x: m.fc(m.act(m.conv(x)).flatten(1)), {"act": nn.ReLU6()}),  # refused
    ("node clamp, HERE: " + has_no_meaning("clamp", CUT_OFF), lambda m, x: m.fc(m.conv(x).clamp(min=0).flatten(1)), {}),  # refused
    ("node pad, HERE: " + has_no_meaning("pad", PAD), lambda m, x: m.fc(m.conv(F.pad(x, (1, 1, 1, 1))).flatten(1)), {}),  # refused
    ("node float_1, HERE: " + has_no_meaning("float", LEAVE), lambda m, x: m.fc(m.conv(x.float()).flatten(1)), {}),  # refused
    ("node lstm (lstm), HERE: " + has_no_meaning("LSTM"), uses_lstm, {"lstm": nn.LSTM(256, 256)}),
    ("node attention (attention), HERE: " + has_no_meaning("MultiheadAttention"), attends, {"attention": nn.MultiheadAttention(64, 1)}),
    ("node mul, HERE: " + has_no_meaning("mul"), lambda m, x: m.fc((m.conv(x) * m.gain).flatten(1)), {"gain": nn.Parameter(torch.ones(1))}),  # refused
    ("node mul, HERE: " + has_no_meaning("mul"), lambda m, x: m.fc((m.conv(x) * 0.5).flatten(1)), {}),  # refused
    ("node truediv, HERE: " + normalises("truediv"), lambda m, x: m.fc(m.conv(x / 255).flatten(1)), {}),  # refused
    ("node sub, HERE: " + normalises("sub"), lambda m, x: m.fc(m.conv((x - 0.5) / 0.5).flatten(1)), {}),  # refused
    ("node mul, HERE: " + normalises("mul"), lambda m, x: m.fc(m.conv(2 * x - 1).flatten(1)), {}),  # refused
    ("node sub, HERE: " + normalises("sub"), lambda m, x: m.fc(m.conv(x.sub(m.mean)).flatten(1)), {"mean": nn.Parameter(torch.ones(1))}),  # refused
    ("node getitem, HERE: " + has_no_meaning("getitem"), lambda m, x: m.fc(m.conv(x)[:, :4].flatten(1)), {}),  # refused
    ("node interpolate, HERE: " + has_no_meaning("interpolate"), lambda m, x: m.fc(F.interpolate(m.conv(x), (8, 8)).flatten(1)), {}),  # refused
    ("node up (up), HERE: " + has_no_meaning("ConvTranspose2d"), lambda m, x: m.fc(m.up(m.conv(x)).flatten(1)), {"up": nn.ConvTranspose2d(4, 4, 1)}),  # refused
    ("node lazy (lazy), HERE: " + has_no_meaning("LazyConv2d"), lambda m, x: m.fc(m.lazy(m.conv(x)).flatten(1)), {"lazy": nn.LazyConv2d(4, 1)}),  # refused
    (
        "node w (w), HERE: " + has_no_meaning("ParametrizedConv2d"),
        lambda m, x: m.fc(m.w(m.conv(x)).flatten(1)),  # refused
        {"w": parametrizations.weight_norm(nn.Conv2d(4, 4, 1))},
    ),
    (
        "node pruned (pruned), HERE: Conv2d has forward hooks\n  remove them first (remove_weight_norm, prune.remove): what they do would be lost",
        lambda m, x: m.fc(m.pruned(m.conv(x)).flatten(1)),  # refused
        {"pruned": prune.l1_unstructured(nn.Conv2d(4, 4, 1), "weight", 0.5)},
    ),
    (
        "node conv2d, HERE: conv2d as a function is not supported\n  write it as nn.Conv2d, a module that holds its weights",
        lambda m, x: m.fc(F.conv2d(x, m.conv.weight, padding=1).flatten(1)),  # refused
        {},
    ),
    (
        "node conv (conv), HERE: padding_mode 'reflect' is not supported\n  use zeros",
        lambda m, x: m.fc(m.conv(x).flatten(1)),  # refused
        {"conv": nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")},
    ),
    (
        "node conv (conv), HERE: padding='same' with an even kernel pads one side more\n  use an odd kernel or padding numbers",
        lambda m, x: m.fc(m.conv(x).flatten(1)),  # refused
        {"conv": nn.Conv2d(1, 4, 2, padding="same")},
    ),
    (
        "node norm (norm), HERE: a batch norm without running statistics cannot be folded\n  use track_running_stats=True",
        lambda m, x: m.fc(m.norm(m.conv(x)).flatten(1)),  # refused
        {"norm": nn.BatchNorm2d(4, track_running_stats=False)},
    ),
    (
        "node max_pool2d, HERE: max pooling with dilation or ceil_mode is not supported\n  use dilation=1, ceil_mode=False",
        lambda m, x: m.fc(F.max_pool2d(m.conv(x), 2, dilation=2).flatten(1)),  # refused
        {"fc": nn.Linear(36, 3)},
    ),
    (
        "node pool (pool), HERE: max pooling with dilation or ceil_mode is not supported\n  use dilation=1, ceil_mode=False",
        lambda m, x: m.fc(m.pool(m.conv(x)).flatten(1)),  # refused
        {"pool": nn.MaxPool2d(3, ceil_mode=True), "fc": nn.Linear(36, 3)},
    ),
    (
        "node pool (pool), HERE: max pooling with return_indices is not supported",
        lambda m, x: m.fc(m.pool(m.conv(x))[0].flatten(1)),  # refused
        {"pool": nn.MaxPool2d(2, return_indices=True), "fc": nn.Linear(64, 3)},
    ),
    (
        "node pool (pool), HERE: average pooling with ceil_mode, divisor_override or padding that does not count is not supported\n"
        "  use ceil_mode=False, count_include_pad=True",
        lambda m, x: m.fc(m.pool(m.conv(x)).flatten(1)),  # refused
        {"pool": nn.AvgPool2d(2, padding=1, count_include_pad=False), "fc": nn.Linear(100, 3)},
    ),
    (
        "node adaptive_avg_pool2d, HERE: adaptive pooling of [8, 8] to [3, 3] uses windows of different sizes\n  choose an output size that divides the input",
        lambda m, x: m.fc(F.adaptive_avg_pool2d(m.conv(x), 3).flatten(1)),  # refused
        {"fc": nn.Linear(36, 3)},
    ),
    (
        "node mean, HERE: mean is supported over height and width together\n  write x.mean([2, 3]) or use AdaptiveAvgPool2d(1)",
        lambda m, x: m.fc(m.conv(x).mean(1).flatten(1)),  # refused
        {"fc": nn.Linear(64, 3)},
    ),
    ("node fc (fc), HERE: Linear on [4, 8, 3] per image; expected a vector\n  flatten first", lambda m, x: m.fc(m.conv(x)), {"fc": nn.Linear(8, 3)}),  # refused
    (
        "node dropout, HERE: dropout drops activations in evaluation too\n  pass training=self.training, or use nn.Dropout",
        lambda m, x: m.fc(F.dropout(m.conv(x)).flatten(1)),  # refused
        {},
    ),
    (
        "node view, HERE: turns two images [2, 4, 8, 8] into [4, 128]\n  only flattening to one vector per image is supported, as in x.flatten(1)",
        lambda m, x: m.fc(m.conv(x).view(-1, 128)),  # refused
        {"fc": nn.Linear(128, 3)},
    ),
    (
        "node flatten, HERE: turns two images [2, 4, 8, 8] into [2, 4, 64]\n  only flattening to one vector per image is supported, as in x.flatten(1)",
        lambda m, x: m.fc(m.conv(x).flatten(2)),  # refused
        {"fc": nn.Linear(64, 3)},
    ),
    (
        "node cat, HERE: concat along axis 2; only channels (axis 1) can be joined",
        lambda m, x: m.fc(torch.cat([m.conv(x), m.conv(x)], 2).flatten(1)),  # refused
        {"fc": nn.Linear(512, 3)},
    ),
    (
        "node cat, HERE: joins other, which is no activation\n  only activations can be joined",
        lambda m, x: m.fc(torch.cat([m.conv(x), m.other], 1).flatten(1)),  # refused
        {"fc": nn.Linear(512, 3), "other": nn.Parameter(torch.ones(2, 4, 8, 8))},
    ),
    (
        "node add, HERE: adds shift, which is no activation\n  only activations of one shape can be added",
        lambda m, x: m.fc((m.conv(x) + m.shift).flatten(1)),  # refused
        {"shift": nn.Parameter(torch.ones(1))},
    ),
    (
        "node add, HERE: adds 1, which is no activation\n  only activations of one shape can be added",
        lambda m, x: m.fc((m.conv(x) + 1).flatten(1)),  # refused
        {},
    ),
    (
        "node add, HERE: adds activations of different shapes: [4, 8, 8] and [1, 8, 8] per image\n  only activations of one shape can be added",
        lambda m, x: m.fc((m.conv(x) + x).flatten(1)),  # refused
        {},
    ),
    (
        "node add, HERE: add with alpha is not supported\n  scale the weights of that branch instead",
        lambda m, x: m.fc(torch.add(m.conv(x), m.conv(x), alpha=2).flatten(1)),  # refused
        {},
    ),
    (
        "node softmax, HERE: a softmax is followed by fc\n  softmax is supported as the last step only",
        softmax_inside,
        {},
    ),
    (
        "node softmax, HERE: softmax over axis 0; expected the scores of one image, axis 1\n  pass dim=1",
        lambda m, x: m.fc(m.conv(x).flatten(1)).softmax(0),  # refused
        {},
    ),
    (
        "node relu_, HERE: relu_ changes in place what flatten shares its memory with\n  write it without inplace=True, a trailing underscore or +=",
        overwrites_a_view,
        {},
    ),
    ("node mean, HERE: the network does not return one tensor of class scores that it computed from its image", two_outputs, {}),
    (
        "node conv (conv), HERE: the network gives [4, 8, 8] per image; expected a vector of class scores\n  flatten or pool the last layer",
        lambda m, x: m.conv(x),  # refused
        {},
    ),
    (
        "node flatten, HERE: the network has no Conv2d or Linear layer\n  there is nothing to train or to map",
        lambda m, x: F.relu(x).flatten(1),  # refused
        {},
    ),
    (
        "node fc (fc), HERE: fails on an image of [1, 8, 8]: mat1 and mat2 shapes cannot be multiplied (2x256 and 100x3)\n"
        "  the network and the data must agree on channels and size; any number of images must do, here two",
        lambda m, x: m.fc(m.conv(x).flatten(1)),  # refused
        {"fc": nn.Linear(100, 3)},
    ),
    (
        "node conv (conv), HERE: fails on an image of [1, 8, 8]: Given groups=1, weight of size [4, 3, 3, 3], expected input[2, 1, 8, 8] to have 3 channels, "
        "but got 1 channels instead\n  the network and the data must agree on channels and size; any number of images must do, here two",
        lambda m, x: m.fc(m.conv(x).flatten(1)),  # refused
        {"conv": nn.Conv2d(3, 4, 3, padding=1)},
    ),
    ("HERE: " + fx_fails("symbolically traced variables cannot be used as inputs to control flow"), branches, {}),
    (
        "HERE: "
        + fx_fails(
            "'len' is not supported in symbolic tracing by default. If you want this call to be recorded, please call torch.fx.wrap('len') at module scope"
        ),
        counts_pixels,
        {},
    ),
    ("HERE: " + fx_fails("'Net' object has no attribute 'missing'"), lambda m, x: m.missing(x), {}),  # refused
]


def said(model: nn.Module) -> str:
    """The refusal, its file and line, which must be marked as the one refused, written as HERE."""
    with pytest.raises(ModelError) as error:
        trace(model, SHAPE)
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    file, line = re.findall(r"(\S+\.py):(\d+)", str(error.value))[0]
    assert file == __file__ and source[int(line) - 1].endswith("# refused"), str(error.value)
    return str(error.value).replace(f"{file}:{line}", "HERE")


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
@pytest.mark.parametrize(("message", "forward", "modules"), REFUSED, ids=[f"{i}" for i in range(len(REFUSED))])
def test_refusals(message: str, forward: Callable[[Any, Tensor], Any], modules: dict[str, Any]) -> None:
    assert said(Net(forward, **modules)) == message


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # refused
        return x.flatten(1)


def test_two_inputs_are_refused() -> None:
    assert said(TwoInputs()) == "node mask, HERE: TwoInputs takes 2 inputs; expected one, the image"


@pytest.mark.parametrize(("wrap", "name", "inside"), [
    (nn.DataParallel, "DataParallel", "network itself: model.module"),
    (torch.compile, "OptimizedModule", "network itself: model._orig_mod"),
    (lambda model: torch.jit.trace(model, torch.zeros(1, 1, 8, 8)), "TopLevelTracedModule", "module before scripting"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrappers_are_refused_with_what_is_inside(wrap: Any, name: str, inside: str) -> None:
    with pytest.raises(ModelError) as error:
        trace(wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), SHAPE)
    assert str(error.value) == f"{name} is a wrapper that torch.fx does not look into\n  bring the {inside}"


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = Everything().train()
    model.after.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, SHAPE)
    assert model.training and model.stem.training and not model.after.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_branch_on_training_is_read_as_in_evaluation() -> None:
    model = Net(lambda m, x: (m.fc(m.conv(x).flatten(1)), x) if m.training else m.fc(m.conv(x).flatten(1))).train()
    assert [layer.name for layer in trace(model, SHAPE).layers] == ["conv", "flatten", "fc"]
