"""int8 products: equal to the meaning where they are proven, refused where they are not, and never trusted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chips import test_chip
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.ops import Concat, Conv2d, Dense, Fire, Flatten, MaxPool2d, TensorType
from memspike.program import Program
from memspike.simulator import ideal, int8, onednn, real, simulate
from memspike.simulator.floor import line_of, sums_at_steps
from memspike.simulator.kernels import Linear, bounds_of, channels_first, channels_last, exact_arithmetic
from memspike.simulator.walk import pooled_by
from reducing import with_loops, without_loops
from small_programs import small_network

pytestmark = pytest.mark.skipif(not int8.is_available(), reason="this torch has no int8 products for this processor")
U4, U8, I8 = IntType(4), IntType(8), IntType(8, signed=True)


def layer(seed: int, x: IntType, kind: IntType, fraction_bits: int, *, dense: bool, channels: int = 5) -> tuple[Conv2d | Dense, TensorType, Fire]:
    """A random layer whose thresholds lie where its counts vary."""
    rng = np.random.default_rng(seed)
    if dense:
        op, shape = Dense("s", ("x",), rng.integers(-128, 128, (channels, 7)), I8), (7,)
    else:
        groups, inputs = (1, int(rng.integers(1, 4))) if rng.random() < 0.7 else (channels, channels)
        kernel = tuple(int(n) for n in rng.integers(1, 6, 2))
        stride, padding, dilation = (tuple(int(n) for n in rng.integers(low, 3, 2)) for low in (1, 0, 1))
        # as networks have it: no window lies in the padding alone (see UNUSUAL)
        padding = tuple(min(p, d * (k - 1) // 2) for p, d, k in zip(padding, dilation, kernel, strict=True))
        weight = rng.integers(-128, 128, (channels, inputs // groups, *kernel))
        op, shape = Conv2d("s", ("x",), weight, I8, stride, padding, dilation, groups), (inputs, 11, 10)  # pyright: ignore[reportArgumentType]
    reach = bounds_of(op, x).largest * x.max << fraction_bits
    threshold = np.maximum(1, reach / kind.num_timesteps * 2.0 ** rng.uniform(-4, 1, channels)).astype(np.int64)
    charge = rng.integers(-2 * int(threshold.max()), 2 * int(threshold.max()) + 1, channels)
    return op, TensorType(shape, x), Fire("y", ("s",), threshold, charge, fraction_bits, kind)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 8), st.booleans(), st.integers(0, 12), st.booleans())
def test_a_layer_that_is_proven_is_right(seed, bits, out_bits, signed, fraction_bits, dense):
    """Whole layers of every geometry, on images the proof has not seen; most of them are proven."""
    op, x, fire = layer(seed, IntType(bits), IntType(out_bits, signed), fraction_bits, dense=dense)
    images = np.random.default_rng(seed + 1).integers(0, x.type.max + 1, (9, *x.shape))
    with exact_arithmetic():
        product, sums = int8.counts(op, x, fire, fire.type.min, fire.type.max), int8.sums(op, x)
        given = torch.from_numpy(images.astype(np.uint8))
        if product:
            assert np.array_equal(product(given).numpy(), fire.evaluate(op.evaluate(images)))
        assert sums is not None or not int8.fits(op, x.type) or not int8._is_ordinary(op, x)
        if sums:
            assert np.array_equal(sums(given).numpy(), op.evaluate(images))


def test_layers_as_networks_have_them_are_proven():
    """Of 4 bits, with thresholds finer than a sum: all of them, so that no speed is lost in silence."""
    for seed in range(20):
        op, x, fire = layer(seed, U4, U4, 4, dense=seed % 2 == 0)
        op = replace(op, weight=op.weight // 16)
        fire = replace(fire, threshold=np.maximum(1, fire.threshold // 16), charge=fire.charge // 16)
        with exact_arithmetic():
            assert int8.counts(op, x, fire, 0, 15)


def test_a_dense_reads_images_that_were_not_flattened():
    op, x, fire = layer(3, U4, U4, 0, dense=True)
    rng = np.random.default_rng(0)
    op, image = replace(op, weight=rng.integers(-8, 8, (5, 24))), (2, 3, 4)
    images = rng.integers(0, 16, (6, *image))
    with exact_arithmetic():
        product = int8.counts(op, TensorType((24,), U4), replace(fire, threshold=np.full(5, 40)), 0, 15, image)
        assert product
        laid = torch.from_numpy(images.astype(np.uint8)).contiguous(memory_format=torch.channels_last)
        assert np.array_equal(product(laid).numpy(), replace(fire, threshold=np.full(5, 40)).evaluate(op.evaluate(images.reshape(6, -1))))


def test_a_kernel_that_is_off_by_one_somewhere_is_found(monkeypatch):
    """Whatever this machine's kernel does wrong at one step of one channel, the layer takes another route."""
    op, x, fire = layer(5, U4, U4, 0, dense=True)
    op = replace(op, weight=op.weight // 16)
    bounds = bounds_of(op, x.type)
    fire = replace(fire, threshold=np.full(5, max(1, bounds.high // 15)), charge=np.zeros(5, np.int64))
    wanted = sums_at_steps(fire, 0, 15, bounds.low, bounds.high)
    assert wanted.shape == (5, 30) and int8.counts(op, x, fire, 0, 15)
    made, calls = int8.Product.__call__, []

    def wrong(self, counts):
        found = made(self, counts)
        if self.line is not None and not calls:
            calls.append(found.clone())
            found[7, 3] += 1
        return found

    monkeypatch.setattr(int8.Product, "__call__", wrong)
    assert int8.counts(op, x, fire, 0, 15) is None and calls
    result = simulate(map_program(small_network(), test_chip()), np.ones((2, 2, 8, 8), np.int64))
    assert np.array_equal(result.outputs, small_network().evaluate(np.ones((2, 2, 8, 8), np.int64)))


def test_a_layer_whose_sums_are_wrong_is_found(monkeypatch):
    """A kernel that saturates, as pairs of products in 16 bits do, shows where every count is at its most."""
    op, x, _ = layer(5, U8, U4, 0, dense=True)
    made = int8.Product.__call__
    monkeypatch.setattr(int8.Product, "__call__", lambda self, counts: made(self, counts).clamp(-32767, 32767))
    assert int8.sums(replace(op, weight=np.full((5, 7), 100)), x) is None


def test_without_vnni_pairs_of_products_must_fit_16_bits(monkeypatch):
    op = Dense("s", ("x",), np.full((2, 8), 65), I8)
    monkeypatch.setattr(int8, "_has_vnni", lambda: False)
    assert int8.fits(op, IntType(7)) and not int8.fits(op, IntType(8))
    monkeypatch.setattr(int8, "_has_vnni", lambda: True)
    assert int8.fits(op, IntType(8))


def test_what_no_byte_or_float_holds_is_left_to_others():
    wide = Dense("s", ("x",), np.full((1, 131_584), 127), I8)
    assert not int8.fits(wide, IntType(1)) or bounds_of(wide, IntType(1)).largest < 1 << 24
    assert not int8.fits(wide, U8), "sums past 2**24"
    assert not int8.fits(Dense("s", ("x",), np.full((1, 2), 128), IntType(9, signed=True)), U4), "weights past int8"
    assert not int8.fits(Dense("s", ("x",), np.ones((2, 2), np.int64), I8), IntType(5, signed=True)), "counts with a sign"
    assert not int8.fits(Dense("s", ("x",), np.ones((2, 2), np.int64), I8), IntType(9)), "counts past uint8"
    assert not int8.fits(Dense("s", ("x",), np.ones((2, 2), np.int64), I8, groups=2), U4)
    fire = Fire("y", ("s",), np.array([47942]), np.array([27402]), 10, U8)
    op = Dense("s", ("x",), np.full((1, 130), 127), I8)
    assert line_of(fire, 0, 255, 0, 1 << 14, torch.float32, to_nearest=True) is None and int8.counts(op, TensorType((130,), U4), fire, 0, 255) is None


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 4, 8, 16]), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_bands_of_every_width_are_the_convolution(seed: int, inputs: int, pool: tuple[int, int]) -> None:
    """Whatever is fastest on some machine: every width that divides the columns, of any convolution, copied in bytes or longer words, any pool behind it."""
    rng = np.random.default_rng(seed)
    stride, dilation = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(2))
    padding = tuple(int(n) for n in rng.integers(0, 3, 2))
    kernel = tuple(int(n) for n in rng.integers(1, 5, 2))
    op = Conv2d("s", ("x",), rng.integers(-7, 8, (6, inputs, *kernel)), IntType(4, signed=True), stride, padding, dilation)
    images = rng.integers(0, 16, (3, inputs, 14, 12))
    meant = op.evaluate(images)
    meant = meant[:, :, : meant.shape[2] // pool[0] * pool[0], : meant.shape[3] // pool[1] * pool[1]]  # a pool comes behind whole windows alone
    largest = MaxPool2d("p", ("s",), pool, pool).evaluate(meant) if meant.size else meant
    widths = [width for width in range(1, largest.shape[3] + 1) if largest.shape[3] % width == 0] if meant.size else []
    for width in widths:
        banded = onednn.Banded(op, None, torch.float32, images.shape[1:], width, pool)
        found = banded(torch.from_numpy(images.astype(np.uint8)))
        assert np.array_equal(found.numpy(), largest) and channels_last(found).is_contiguous()
        every = banded.all(torch.from_numpy(images.astype(np.uint8))).view(len(images), -1)
        assert np.array_equal(np.sort(every.numpy(), axis=1), np.sort(meant.reshape(len(images), -1), axis=1))


def test_bands_are_proven_in_the_kernel_that_they_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer in bands is a matrix product, so its steps are tried there: one that is wrong by one at a step is found."""
    op, x, fire = layer(6, U4, U4, 0, dense=False)
    op = replace(op, weight=op.weight // 16)
    fire = replace(fire, threshold=np.maximum(1, fire.threshold // 16), charge=fire.charge // 16)
    monkeypatch.setattr(onednn, "_fastest", lambda *_: [(1, (1, 1))])
    assert isinstance(int8.counts(op, x, fire, 0, 15), onednn.Banded)
    made = int8.Product.__call__

    def wrong(self: Any, counts: torch.Tensor) -> torch.Tensor:
        found = made(self, counts)
        return found + (found == 7).to(found.dtype) if self.op.weight.ndim == 2 and len(self.op.weight) == 32 else found  # the probe, not the layer

    monkeypatch.setattr(int8.Product, "__call__", wrong)
    assert int8.counts(op, x, fire, 0, 15) is None


def test_the_width_of_bands_is_the_fastest_of_those_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured once for a geometry; LeNet's first layer has bands that are no waste, a 1 x 1 convolution and one in groups have none."""
    lenet = ((20, 1, 5, 5), (1, 1), (0, 0), (1, 1), 1, (1, 28, 28), (1, 1))
    monkeypatch.setattr(onednn, "_seconds", lambda product, images, pool: 1.0 if getattr(product, "columns", 0) == 6 else 2.0)
    onednn._fastest.cache_clear()
    assert onednn._fastest(*lenet) == [(6, (1, 1)), (0, (1, 1))]
    monkeypatch.setattr(onednn, "_seconds", lambda product, images, pool: 2.0 if isinstance(product, onednn.Banded) else 1.0)
    assert onednn._fastest(*lenet) == [(6, (1, 1)), (0, (1, 1))], "measured once"
    onednn._fastest.cache_clear()
    assert onednn._fastest(*lenet)[0] == (0, (1, 1))
    for kernel, groups in (((4, 4, 1, 1), 1), ((4, 2, 3, 3), 2)):
        op = Conv2d("s", ("x",), np.ones(kernel, np.int64), I8, groups=groups)
        assert onednn._worth_trying(op, (4, 8, 8)) == []
    onednn._fastest.cache_clear()


@pytest.mark.parametrize("taken", [(1, 1), (2, 2)])
def test_a_pool_taken_with_its_convolution_changes_no_count_and_no_activity(monkeypatch: pytest.MonkeyPatch, taken: tuple[int, int]) -> None:
    """Whatever is faster here; counts that are asked for are not lost in the kernel."""
    program = small_network()
    images = np.random.default_rng(0).integers(0, 16, (50, 2, 8, 8))
    mapping = map_program(program, test_chip())
    meant = program.evaluate_all(images)
    plain = simulate(mapping, images, record=["conv"])
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(onednn, "_fastest", lambda *how: asked.append(how[-1]) or [(2, how[-1] if taken != (1, 1) else taken)])
    for record, way in (([], without_loops), ([], with_loops), (["max"], with_loops), (["conv"], with_loops)):
        ideal._ready.clear()
        with way():
            found = simulate(mapping, images, record=record, batch_size=7)
        assert np.array_equal(found.outputs, meant["scores"]) and found.activity == plain.activity
        assert all(np.array_equal(found.spike_counts[name], meant[name]) for name in record)
    assert asked == [(2, 2), (2, 2), (2, 2), (1, 1)], "a pool whose input is kept is taken by nobody"
    ideal._ready.clear()


def test_counts_that_no_maximum_shows_are_proven_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activity counts every spike before the pool; and what exists only inside a kernel cannot be kept."""
    program = small_network()
    monkeypatch.setattr(onednn, "_fastest", lambda *how: [(2, how[-1])])
    conv, fire = program.ops[:2]
    assert isinstance(conv, Conv2d) and isinstance(fire, Fire)
    with exact_arithmetic():
        machine = ideal.Ideal(program)
        for name in ("conv.sum", "conv"):
            with pytest.raises(AssertionError, match="exist only inside a kernel"):
                machine.run(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), {name})
        every = onednn.Banded.all

        def loses(self: onednn.Banded, counts: torch.Tensor) -> torch.Tensor:
            found = every(self, counts)
            return torch.where(found < found.amax(dim=1, keepdim=True), 0, found)

        monkeypatch.setattr(onednn.Banded, "all", loses)
        assert int8.counts(conv, program.input_type, fire, 0, 15, pool=(2, 2)) is None


def test_a_pool_is_taken_only_if_it_reads_every_count_once() -> None:
    def pooled(*pools: MaxPool2d) -> bool:
        conv = Conv2d("c.sum", ("x",), np.ones((2, 1, 3, 3), np.int64), I8)
        fire = Fire("c", ("c.sum",), np.full(2, 9), np.zeros(2, np.int64), 0, U4)
        together = Concat("all", tuple(pool.out for pool in pools))
        program = Program("p", "x", TensorType((1, 10, 12), U4), (conv, fire, *pools, together, Flatten("flat", ("all",))), "flat")
        return pooled_by(program, "c") is pools[0]

    assert pooled(MaxPool2d("p", ("c",), (2, 2), (2, 2))) and pooled(MaxPool2d("p", ("c",), (4, 5), (4, 5)))
    assert not pooled(MaxPool2d("p", ("c",), (3, 3), (3, 3))), "8 x 10 outputs do not end with a window"
    assert not pooled(MaxPool2d("p", ("c",), (2, 2), (1, 2))), "windows overlap"
    assert not pooled(MaxPool2d("p", ("c",), (2, 2), (2, 2), (1, 1))), "padded"
    assert not pooled(MaxPool2d("p", ("c",), (2, 2), (2, 2)), MaxPool2d("q", ("c",), (2, 2), (2, 2))), "two readers"


def test_where_the_fastest_kernel_is_wrong_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's convolutions have been wrong for some geometries; bands are another kernel."""
    op, x, fire = layer(6, U4, U4, 0, dense=False)
    op = replace(op, weight=op.weight // 16)
    fire = replace(fire, threshold=np.maximum(1, fire.threshold // 16), charge=fire.charge // 16)
    monkeypatch.setattr(onednn, "_fastest", lambda *_: [(0, (1, 1)), (1, (1, 1))])
    assert isinstance(int8.sums(op, x), onednn.Product) and isinstance(int8.counts(op, x, fire, 0, 15), onednn.Product)
    made = int8.Product.__call__
    monkeypatch.setattr(int8.Product, "__call__", lambda self, counts: made(self, counts) + (1 if self.op.weight.ndim == 4 else 0))
    assert isinstance(int8.sums(op, x), onednn.Banded) and isinstance(int8.counts(op, x, fire, 0, 15), onednn.Banded)


@pytest.mark.parametrize(
    ("inputs", "size", "channels", "kernel", "stride", "dilation"),
    [
        (1, (33, 2), 32, (4, 2), (1, 3), (1, 1)),  # in float32, of one channel laid out as the last
        (1, (15, 5), 15, (1, 5), (1, 2), (4, 1)),
        (39, (6, 8), 38, (1, 3), (1, 2), (3, 3)),  # in bytes, for AMX
        (3, (11, 10), 5, (3, 5), (2, 2), (1, 2)),
    ],
)
def test_rows_of_one_output_are_right_whatever_their_stride(
    inputs: int, size: tuple[int, int], channels: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    """With a stride some of oneDNN's kernels give other sums there, for some images of a batch."""
    rng = np.random.default_rng(0)
    op = Conv2d("s", ("x",), rng.integers(-7, 8, (channels, inputs, *kernel)), IntType(4, signed=True), stride, (0, 0), dilation)
    images = rng.integers(0, 16, (33, inputs, *size))
    meant, laid = op.evaluate(images), channels_first(torch.from_numpy(images.astype(np.uint8)).movedim(1, -1).contiguous())
    rows = op.weight.reshape(channels, -1).T[None].astype(np.float64)
    with exact_arithmetic():
        assert meant.shape[3] == 1 and int8.sums(op, TensorType((inputs, *size), U4)) is None
        for product in (Linear(op, U4), real.Product(op, rows, U4.max, channels)):
            for _ in range(5):
                assert np.array_equal(product(laid).numpy().astype(np.int64), meant)


UNUSUAL = [  # each crashed oneDNN's kernel: a window lies in the padding alone
    (6, 4, (3, 1), {"stride": (2, 3), "padding": (2, 4), "dilation": (2, 3), "groups": 2}, (4, 2)),
    (2, 10, (5, 1), {"stride": (3, 2), "padding": (2, 3), "dilation": (2, 3), "groups": 2}, (8, 1)),
    (1, 3, (1, 1), {"stride": (1, 3), "padding": (3, 2), "dilation": (3, 2)}, (2, 1)),
    (6, 51, (3, 1), {"stride": (2, 2), "padding": (2, 1), "dilation": (2, 2), "groups": 3}, (6, 1)),
]


@pytest.mark.parametrize(("inputs", "channels", "kernel", "window", "size"), UNUSUAL)
def test_windows_that_lie_in_the_padding_take_another_route(
    inputs: int, channels: int, kernel: tuple[int, int], window: dict[str, Any], size: tuple[int, int]
) -> None:
    rng, count = np.random.default_rng(0), IntType(4)
    weight = rng.integers(-7, 8, (channels, inputs // window.get("groups", 1), *kernel))
    op = Conv2d("a", ("x",), weight, IntType(4, signed=True), **window)
    assert int8.sums(op, TensorType((inputs, *size), count)) is None
