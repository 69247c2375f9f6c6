"""Random programs that are always right, and images for them: what the laws are tested on."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from memspike.integer import Integers, IntType
from memspike.ops import Add, Charge, Concat, Conv2d, Dense, Fire, Flatten, MaxPool2d, Op, Slice, SumPool2d, TensorType
from memspike.pixels import DITHERS, PixelCode
from memspike.program import Program

MAX_VALUES = 300  # elements of one value; keeps evaluating a program a matter of milliseconds


def programs(max_steps: int = 6) -> st.SearchStrategy[Program]:
    """Right programs of up to `max_steps` random steps that use every op; the scores are a Charge, a signed Fire, or an Add of signed Fires."""
    return st.builds(_program_of_seed, st.integers(0, 2**32 - 1), st.integers(1, max_steps))


def random_program(rng: np.random.Generator, num_steps: int = 4, *, symmetric_weights: bool = False) -> Program:
    """One right program of `num_steps` random steps and a head that gives the scores.

    Every weighted or pooled sum is read by exactly one Fire, or by the final Charge. Weights fill their type; with `symmetric_weights`
    the one value that has no opposite (-8 in i4) is left out.
    """
    if rng.random() < 0.2:
        shape: tuple[int, ...] = (int(rng.integers(1, 13)),)
    else:
        shape = (int(rng.integers(1, 5)), int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    draft = _Draft(rng, symmetric_weights, {"image": TensorType(shape, IntType(int(rng.integers(2, 9))))})
    for _ in range(num_steps):
        step = _STEPS[int(rng.integers(len(_STEPS)))]
        step(draft)
    output = _scores(draft)
    return Program("random", "image", draft.types["image"], tuple(draft.ops), output, pixels=_pixel_code(draft.types["image"], rng))


def _pixel_code(image: TensorType, rng: np.random.Generator) -> PixelCode:
    """One that images of this shape may have."""
    if len(image.shape) != 3:
        return PixelCode()
    lines = [lines for lines in range(1, image.shape[0] + 1) if image.shape[0] % lines == 0 and lines * image.type.max <= 255]
    return PixelCode(int(rng.choice(DITHERS)), int(rng.choice(lines)))


def images_for(program: Program, seed: int, n: int) -> Integers:
    """`n` images of random counts `[n, ...]`; the first is all zero, the second all at the highest count."""
    top = program.input_type.type.max
    images = np.random.default_rng(seed).integers(0, top + 1, size=(n, *program.input_type.shape), dtype=np.int64)
    images[:1] = 0
    images[1:2] = top
    return images


def _program_of_seed(seed: int, num_steps: int) -> Program:
    return random_program(np.random.default_rng(seed), num_steps)


@dataclass
class _Draft:
    """A program in the making: `counts` are the values that any op may read, `sums` those that wait for their neuron."""

    rng: np.random.Generator
    symmetric_weights: bool
    types: dict[str, TensorType]
    ops: list[Op] = field(default_factory=list)
    counts: list[str] = field(default_factory=lambda: ["image"])

    def add(self, op: Op, *, is_count: bool = True) -> str:
        self.types[op.out] = op.infer(*(self.types[name] for name in op.inputs))
        self.ops.append(op)
        if is_count:
            self.counts.append(op.out)
        return op.out

    def name(self, word: str) -> str:
        return f"{word}{len(self.ops)}"

    def pick(self, *, axes: int | None = None) -> str | None:
        """A value that may be read, the latest ones more often; None when none has that many axes."""
        found = [name for name in self.counts if axes is None or len(self.types[name].shape) == axes]
        return found[-1 - int(min(self.rng.geometric(0.5) - 1, len(found) - 1))] if found else None

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def unread(self) -> list[str]:
        read = {name for op in self.ops for name in op.inputs}
        return [name for name in self.types if name not in read]


def _conv_layer(draft: _Draft) -> None:
    name = draft.pick(axes=3)
    if name is None:
        return
    channels, height, width = draft.types[name].shape
    groups = int(draft.rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    out_channels = groups * draft.between(1, max(1, 6 // groups))
    window = [_window(draft, n, dilate=True) for n in (height, width)]
    (kh, sh, ph, dh), (kw, sw, pw, dw) = window
    weight, weight_type = _weights(draft, (out_channels, channels // groups, kh, kw))
    out = draft.name("conv")
    draft.add(Conv2d(out + ".sum", (name,), weight, weight_type, (sh, sw), (ph, pw), (dh, dw), groups), is_count=False)
    _fire(draft, out)


def _dense_layer(draft: _Draft) -> None:
    name = draft.pick(axes=1)
    if name is None:
        return
    channels = draft.types[name].shape[0]
    groups = int(draft.rng.choice([g for g in range(1, min(channels, 6) + 1) if channels % g == 0]))
    out = draft.name("dense")
    weight, weight_type = _weights(draft, (groups * draft.between(1, max(1, 8 // groups)), channels // groups))
    draft.add(Dense(out + ".sum", (name,), weight, weight_type, groups), is_count=False)
    _fire(draft, out)


def _residual_block(draft: _Draft) -> None:
    """`add(fire(conv(x)), x)`, the branch fired into a signed type, the Add clipping to an unsigned one."""
    name = draft.pick(axes=3)
    if name is None:
        return
    channels = draft.types[name].shape[0]
    bits = draft.types[name].type.bits
    weight, weight_type = _weights(draft, (channels, channels, 3, 3))
    out = draft.name("branch")
    draft.add(Conv2d(out + ".sum", (name,), weight, weight_type, padding=(1, 1)), is_count=False)
    _fire(draft, out, IntType(min(bits + 1, 8), signed=True))
    draft.add(Add(draft.name("add"), (out, name), IntType(min(bits, 8))))


def _add(draft: _Draft) -> None:
    first = draft.pick()
    assert first is not None
    same = [name for name in draft.counts if draft.types[name].shape == draft.types[first].shape]
    others = [same[int(i)] for i in draft.rng.integers(len(same), size=draft.between(0, 2))]
    draft.add(Add(draft.name("add"), (first, *others), _any_type(draft)))


def _partial_sums(draft: _Draft) -> None:
    """What digital partial sums look like: counts added into a wide type, then divided by a Fire that no crossbar feeds."""
    name = draft.pick()
    assert name is not None
    out, extra_bits = draft.name("total"), draft.between(0, 3)
    bits = draft.types[name].type.bits + 2
    draft.add(Add(out + ".sum", (name, name, name), IntType(bits, signed=True)), is_count=False)
    channels = draft.types[name].shape[0]
    draft.add(Fire(out, (out + ".sum",), np.full(channels, 1 << extra_bits), _charges(draft, channels, 4), 0, _any_type(draft)))


def _average_pool(draft: _Draft) -> None:
    name = draft.pick(axes=3)
    if name is None:
        return
    (kh, sh, ph, _), (kw, sw, pw, _) = (_window(draft, n) for n in draft.types[name].shape[1:])
    out = draft.name("pool")
    draft.add(SumPool2d(out + ".sum", (name,), (kh, kw), (sh, sw), (ph, pw)), is_count=False)
    _fire(draft, out)


def _max_pool(draft: _Draft) -> None:
    name = draft.pick(axes=3)
    if name is None:
        return
    (kh, sh, ph, _), (kw, sw, pw, _) = (_window(draft, n) for n in draft.types[name].shape[1:])
    draft.add(MaxPool2d(draft.name("max"), (name,), (kh, kw), (sh, sw), (min(ph, kh // 2), min(pw, kw // 2))))


def _flatten(draft: _Draft) -> None:
    name = draft.pick()
    assert name is not None
    draft.add(Flatten(draft.name("flat"), (name,)))


def _concat(draft: _Draft) -> None:
    first = draft.pick()
    assert first is not None
    fitting = [name for name in draft.counts if draft.types[name].shape[1:] == draft.types[first].shape[1:]]
    chosen = [first, *(fitting[int(i)] for i in draft.rng.integers(len(fitting), size=draft.between(0, 2)))]
    if sum(int(np.prod(draft.types[name].shape)) for name in chosen) <= MAX_VALUES:
        draft.add(Concat(draft.name("concat"), tuple(chosen)))


def _slice(draft: _Draft) -> None:
    name = draft.pick()
    assert name is not None
    channels = draft.types[name].shape[0]
    start = draft.between(0, channels - 1)
    draft.add(Slice(draft.name("slice"), (name,), start, draft.between(start + 1, channels)))


_STEPS = (
    *(_conv_layer, _conv_layer, _dense_layer, _dense_layer, _residual_block),
    *(_add, _partial_sums, _average_pool, _max_pool, _flatten, _concat, _slice),
)


def _scores(draft: _Draft) -> str:
    """Read every value that nobody has read yet, and turn them into scores."""
    vectors = []
    for name in draft.unread():
        is_vector = len(draft.types[name].shape) == 1 and draft.rng.random() < 0.8
        vectors.append(name if is_vector else draft.add(Flatten(draft.name("flat"), (name,))))
    joined = vectors[0] if len(vectors) == 1 else draft.add(Concat(draft.name("concat"), tuple(vectors)))
    kind = draft.rng.choice(["charge", "charge", "charge", "fire", "add"])
    num_classes, channels = draft.between(1, 6), draft.types[joined].shape[0]
    signed = IntType(draft.between(2, 8), signed=True)
    for part in range(2 if kind == "add" else 1):
        weight, weight_type = _weights(draft, (num_classes, channels))
        out = f"scores{part}" if kind == "add" else "scores"
        draft.add(Dense(out + ".sum", (joined,), weight, weight_type), is_count=False)
        if kind != "charge":
            _fire(draft, out, signed)
    if kind == "add":
        return draft.add(Add("scores", ("scores0", "scores1"), IntType(signed.bits + 1, signed=True)))
    if kind == "charge":
        fraction_bits = draft.between(0, 20)
        return draft.add(Charge("scores", ("scores.sum",), _charges(draft, num_classes, 64 << fraction_bits), fraction_bits))
    return "scores"


def _fire(draft: _Draft, out: str, type: IntType | None = None) -> None:
    """The neurons `out` of the sum `<out>.sum`; thresholds mostly where counts vary, now and then 1 or huge."""
    type = type or _any_type(draft)
    x = draft.types[out + ".sum"]
    channels, fraction_bits = x.shape[0], draft.between(0, 20)
    step = max(1.0, (x.type.max << fraction_bits) / type.num_timesteps)
    threshold = np.maximum(1, step * 2.0 ** draft.rng.uniform(-5, 2, channels)).astype(np.int64)
    extreme = draft.rng.random(channels)
    threshold[extreme < 0.05] = 1
    threshold[extreme > 0.95] = 1 << 50
    draft.add(Fire(out, (out + ".sum",), threshold, _charges(draft, channels, 2 * int(step)), fraction_bits, type))


def _charges(draft: _Draft, channels: int, size: int) -> Integers:
    return np.where(draft.rng.random(channels) < 0.2, 0, draft.rng.integers(-size, size + 1, channels))


def _weights(draft: _Draft, shape: tuple[int, ...]) -> tuple[Integers, IntType]:
    type = IntType(draft.between(2, 8), signed=True)
    lowest = -type.max if draft.symmetric_weights else type.min
    weight = draft.rng.integers(lowest, type.max + 1, size=shape)
    return np.where(draft.rng.random(shape) < 0.2, 0, weight), type


def _any_type(draft: _Draft) -> IntType:
    return IntType(draft.between(2, 8), signed=draft.rng.random() < 0.3)


def _window(draft: _Draft, size: int, *, dilate: bool = False) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation along one axis of `size`, such that at least one window fits."""
    kernel, padding = draft.between(1, 3), draft.between(0, 2)
    dilation = draft.between(1, 2) if dilate else 1
    if size + 2 * padding - dilation * (kernel - 1) < 1:
        kernel, padding, dilation = min(size, kernel), 0, 1
    return kernel, draft.between(1, 3), padding, dilation
