"""Spike by spike: every geometry, width and rule, against the route that takes timestep after timestep as products."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memspike.integer import IntType
from memspike.ops import Conv2d, Dense, Fire, TensorType
from memspike.simulator import events, loops
from memspike.simulator.encode import Window, line_keys
from memspike.simulator.events import SpikeBySpike
from memspike.simulator.kernels import bounds_of, exact_arithmetic
from memspike.simulator.layer import Layer
from memspike.simulator.neuron import NEURONS
from memspike.simulator.scan import Rule, TimestepByTimestep

I8 = IntType(8, signed=True)


def layer(rng: np.random.Generator, bits: int, *, signed: bool) -> tuple[Layer, torch.Tensor]:
    """Crossbars of any geometry, and counts that they are given."""
    x, groups = IntType(bits, signed), int(rng.integers(1, 4))
    if rng.random() < 0.3:
        op, shape = Dense("s", ("x",), rng.integers(-9, 10, (3 * groups, 5)), I8, groups), (5 * groups,)
    else:
        kernel, stride, dilation = (tuple(int(n) for n in rng.integers(1, high, 2)) for high in (5, 4, 3))
        padding = tuple(int(n) for n in rng.integers(0, 3, 2))
        weight = rng.integers(-9, 10, (2 * groups, int(rng.integers(1, 3)), *kernel))
        op, shape = Conv2d("s", ("x",), weight, I8, stride, padding, dilation, groups), (weight.shape[1] * groups, 9, 8)  # pyright: ignore[reportArgumentType]
    counts = torch.from_numpy(rng.integers(x.min, x.max + 1, (3, *shape)) * (rng.random((3, *shape)) < 0.7))
    type = TensorType(shape, x)
    return Layer(op, type, op.infer(type).shape), counts.to(torch.int8 if signed else torch.uint8) if bits <= 8 else counts


def fire_of(rng: np.random.Generator, layer: Layer, fraction_bits: int, bits: int, *, signed: bool) -> Fire:
    reach = max(1, bounds_of(layer.op, layer.x.type).largest * layer.x.type.max << fraction_bits)
    channels = len(layer.op.weight)
    threshold = np.maximum(1, reach / 2**bits * 2.0 ** rng.uniform(-4, 1, channels)).astype(np.int64)
    return Fire("y", ("s",), threshold, rng.integers(-2 * int(threshold.max()), 2 * int(threshold.max()) + 1, channels), fraction_bits, IntType(bits, signed))


@pytest.mark.parametrize("route", ["by count", "spike by spike"])
@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(1, 7),
    signed=st.booleans(),
    fires_signed=st.booleans(),
    fraction_bits=st.sampled_from([0, 3, 12, 26]),
    max_spikes=st.integers(1, 3),
    encoder=st.sampled_from(["even", "burst", "random"]),
    kind=st.sampled_from(["up_down", "fire_only", "dual"]),
)
def test_both_routes_do_the_same(route, seed, bits, signed, fires_signed, fraction_bits, max_spikes, encoder, kind):
    """Counts, spikes, timesteps of draining, and the raster; in 16, 32 and 64 bits."""
    rng = np.random.default_rng(seed)
    bits = max(bits, 1 + signed)
    crossbars, counts = layer(rng, bits, signed=signed)
    fire = fire_of(rng, crossbars, fraction_bits, int(rng.integers(2, 7)), signed=fires_signed)
    window = Window(counts, crossbars.num_timesteps, encoder, line_keys(seed, 0, len(counts), 0))
    with exact_arithmetic(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "WORTH", 1 << 62 if route == "by count" else 0)
        fast = NEURONS[kind](crossbars, fire, max_spikes)
        assert "spike by spike" in fast.note
        found = fast.run(window, keep_raster=True)
        patch.setattr(events, "SpikeBySpike", _refuse)
        slow = NEURONS[kind](crossbars, fire, max_spikes)
        assert "spike by spike" not in slow.note
        meant = slow.run(window, keep_raster=True)
    assert torch.equal(found.counts, meant.counts)
    assert (found.num_fires, found.num_extra_timesteps) == (meant.num_fires, meant.num_extra_timesteps)
    assert len(found.raster) == len(meant.raster)
    assert all(torch.equal(one.long(), other.long()) for one, other in zip(found.raster, meant.raster, strict=True))


def _refuse(*_):
    raise OverflowError


@pytest.mark.parametrize("route", ["spike by spike", "timestep by timestep"])
def test_a_side_without_weights_is_reached_through_the_other_ones(route, monkeypatch):
    """One weight of -1: negative counts raise the raising side, whose own weights are all zero."""
    if route == "timestep by timestep":
        monkeypatch.setattr(events, "SpikeBySpike", _refuse)
    op, x = Dense("s", ("x",), np.array([[-1]]), I8), TensorType((1,), IntType(5, signed=True))
    counts = np.arange(-16, 16)
    fire = Fire("y", ("s",), np.array([64]), np.array([44]), 3, IntType(4, signed=True))
    window = Window(torch.from_numpy(counts[:, None]).to(torch.int8), x.type.num_timesteps, "even", line_keys(0, 0, len(counts), 0))
    with exact_arithmetic():
        found = NEURONS["dual"](Layer(op, x, (1,)), fire, 1).run(window, keep_raster=False).counts[:, 0]
    raised, lowered = (-counts).clip(min=0), counts.clip(min=0)
    assert found.tolist() == ((raised * 8 + 44) // 64 - lowered * 8 // 64).tolist()


def test_integers_are_as_wide_as_the_bounds_ask_for():
    """The first sum past each width takes the next; past int64 the other route is taken."""
    notes = {}
    for weight, fraction_bits in ((2184, 0), (2185, 0), (2184, 20), (2184, 48)):
        op = Dense("s", ("x",), np.full((1, 1), weight), IntType(20, signed=True))
        fire = Fire("y", ("s",), np.array([1 << fraction_bits]), np.array([0]), fraction_bits, IntType(4))
        notes[weight, fraction_bits] = NEURONS["up_down"](Layer(op, TensorType((1,), IntType(4)), (1,)), fire, 1).note
    assert list(notes.values()) == [
        "spike by spike, charge in int16, potential in int32",
        "spike by spike, charge in int32, potential in int32",
        "spike by spike, charge in int32, potential in int64",
        "charge in float32",
    ]


def test_long_windows_take_every_spike_by_itself(monkeypatch):
    """Eight bits through few weights: what 255 counts have charged would have to be added up again in each of 256 timesteps."""
    monkeypatch.setattr(loops, "run_counts", _refuse)
    rng = np.random.default_rng(0)
    op = Conv2d("s", ("x",), rng.integers(-7, 8, (4, 1, 3, 3)), I8)
    counts = torch.from_numpy(rng.integers(0, 256, (2, 1, 12, 12))).to(torch.uint8)
    fire = Fire("y", ("s",), np.full(4, 40), np.full(4, 20), 0, IntType(8))
    crossbars = Layer(op, TensorType((1, 12, 12), IntType(8)), (4, 10, 10))
    rule = Rule(1, fires_down=True, drains=True, low=0, high=255)
    window = Window(counts, 256, "even", line_keys(0, 0, 2, 0))
    with exact_arithmetic():
        fast = SpikeBySpike(crossbars, fire, rule)
        found, meant = (scan.run(window, keep_raster=False) for scan in (fast, TimestepByTimestep(crossbars, fire, rule)))
    assert np.array_equal(found.counts.numpy(), fire.evaluate(op.evaluate(counts.numpy().astype(np.int64))))
    assert torch.equal(found.counts.long(), meant.counts.long()) and found.num_fires == meant.num_fires


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch):
    """numba refuses to keep what it compiles where neither the package's folder nor the user's can be written to."""
    njit = loops.numba.njit

    def nowhere(*, cache: bool = False, **options):
        if not cache:
            return njit(**options)

        def refuse(function):
            raise RuntimeError(f"cannot cache function {function.__name__!r}: no locator available")

        return refuse

    monkeypatch.setattr(loops.numba, "njit", nowhere)
    assert loops.compiled(lambda x: x + 1)(1) == 2
