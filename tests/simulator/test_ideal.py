"""Fidelity ideal: equal to the program's meaning in every arithmetic that it may choose."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chips import test_chip
from memspike.errors import ProgramError, SimulationError
from memspike.integer import IntType
from memspike.mapper import map as map_program
from memspike.ops import Add, Charge, Conv2d, Dense, Fire, Flatten, TensorType
from memspike.program import Program
from memspike.simulator import check, simulate
from memspike.simulator.floor import Floor
from memspike.simulator.ideal import Ideal, ready
from memspike.simulator.kernels import exact_arithmetic
from random_programs import programs
from small_programs import fire, small_network, weights


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([1.0, 2.0**4, 2.0**12, 2.0**22]))
def test_floor_equals_fire_at_every_sum(seed, fraction_bits, span):
    """Every sum in reach, thresholds from 1 to far beyond it, charges of both signs: exhaustive."""
    rng = np.random.default_rng(seed)
    limit = int(rng.integers(1, 3000))
    threshold = np.maximum(1, (limit << fraction_bits) / span * 2.0 ** rng.uniform(-3, 3, 3)).astype(np.int64)
    charge = rng.integers(-limit << fraction_bits, limit << fraction_bits, 3)
    op = Fire("y", ("x",), threshold, charge, fraction_bits, IntType(int(rng.integers(1, 9)), signed=bool(rng.integers(2))))
    acc = np.repeat(np.arange(-limit, limit + 1)[:, None], 3, axis=1)
    floor = Floor(op, op.type.min, op.type.max, -limit, limit, axes=1)
    assert np.array_equal(floor(torch.from_numpy(acc).to(torch.float32)).numpy(), op.evaluate(acc)), floor.dtype


@pytest.mark.parametrize(
    ("threshold", "charge", "fraction_bits", "type", "dtype"),
    [
        (1000, 0, 0, "i8", torch.float32),
        (47942, 27402, 10, "u8", torch.float64),  # float32 happens to be right when it rounds twice or once, but no margin proves it
        ((1 << 30) + 1, 0, 25, "i8", torch.float64),
        ((1 << 53) + 1, 0, 47, "i8", torch.int64),
    ],
)
def test_floor_takes_the_fastest_arithmetic_that_is_proven(threshold, charge, fraction_bits, type, dtype):
    """The finer a threshold's fraction, the closer some sum comes to a step: float32 gives up first, then float64."""
    op = Fire("y", ("x",), np.array([threshold]), np.array([charge]), fraction_bits, IntType.parse(type))
    floor = Floor(op, op.type.min, op.type.max, -(1 << 14), 1 << 14, axes=1)
    acc = np.arange(-(1 << 14), (1 << 14) + 1)[:, None]
    assert floor.dtype == dtype
    assert np.array_equal(floor(torch.from_numpy(acc)).numpy(), op.evaluate(acc))


@pytest.mark.parametrize(
    ("bits", "route"), [(4, "sums of int8 products"), (9, "sums exact in float32"), (16, "sums exact in float64"), (28, "sums exact in int64")]
)
def test_wide_sums_stay_exact(bits, route):
    """What does not fit bytes leaves int8, sums past 2**24 leave float32, sums past 2**53 leave floats."""
    type = IntType(bits, signed=True)
    op = Conv2d("sum", ("x",), weights(0, 2, 3, 3, 3, type=type) | 1, type)
    program = Program("wide", "x", TensorType((3, 3, 3), IntType(bits)), (op, Flatten("flat", ("sum",))), "flat")
    images = np.random.default_rng(1).integers(0, 1 << bits, (4, 3, 3, 3)) | 1
    machine = Ideal(program)
    assert machine.notes()[0] == f"sum: {route}"
    with exact_arithmetic():
        values = machine.run(torch.from_numpy(images), {"sum", "flat"}).values
    assert np.array_equal(values["sum"].to(torch.int64).numpy(), op.evaluate(images))


def test_short_cuts_that_a_user_allows_elsewhere_change_nothing():
    """Products in bfloat16, where a processor has them, would lose the low bits of 12-bit weights; the user's setting is given back."""
    type = IntType(12, signed=True)
    op = Dense("scores.sum", ("x",), weights(0, 8, 512, type=type), type)
    program = Program("dense", "x", TensorType((512,), IntType(3)), (op, Charge("scores", ("scores.sum",), np.zeros(8, np.int64), 0)), "scores")
    images, inside = np.random.default_rng(1).integers(0, 8, (64, 512)), []
    torch.set_float32_matmul_precision("medium")
    try:
        mapping = map_program(program, test_chip(64, 64))
        result = simulate(mapping, images, progress=lambda done, total: inside.append(torch.get_float32_matmul_precision()))
        assert inside == ["highest"] and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert np.array_equal(result.outputs, program.evaluate(images))


@settings(max_examples=40)
@given(programs(), st.integers(1, 5))
def test_nothing_is_left_behind_on_another_device(program, number):
    """On torch's device "meta", which computes no values but refuses to mix: every constant and intermediate lies where the images do, as on CUDA."""
    images = torch.zeros((number, *program.input_type.shape), dtype=torch.uint8, device="meta")
    with exact_arithmetic():
        machine = Ideal(program, device="meta")
        values = machine.run(images, set(program.types)).values
    assert not any("int8" in note for note in machine.notes())
    for name, type in program.types.items():
        assert values[name].device.type == "meta" and values[name].shape == (number, *type.shape)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    mapping, images = map_program(small_network(), test_chip()), np.zeros((1, 2, 8, 8), np.int64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SimulationError, match="no CUDA device is available\n  install a CUDA build of torch"):
        simulate(mapping, images, device="cuda")
    with pytest.raises(SimulationError, match="unknown device 'tpu'\n  known are: cpu, cuda"):
        check(mapping, images, device="tpu")
    with pytest.raises(SimulationError, match="fidelity 'analog' runs on the processor only"):
        simulate(mapping, images, fidelity="analog", device="cuda")


def test_cuda_gets_no_transforms():
    """cuDNN may choose Winograd's or Fourier's, which round; it comes back afterwards."""
    before = torch.backends.cudnn.enabled
    with exact_arithmetic():
        assert not torch.backends.cudnn.enabled and torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.enabled == before


def test_result_keeps_what_was_asked_for():
    mapping = map_program(small_network(), test_chip())
    images = np.random.default_rng(0).integers(0, 16, (5, 2, 8, 8))
    seen = []
    result = simulate(mapping, images, record=["conv", "scores.sum"], batch_size=2, progress=lambda done, total: seen.append((done, total)))
    meant = mapping.program.evaluate_all(images)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert set(result.spike_counts) == {"conv", "scores.sum"} and not result.rasters
    assert np.array_equal(result.spike_counts["conv"], meant["conv"]) and result.spike_counts["conv"].dtype == np.int8
    assert np.array_equal(result.spike_counts["scores.sum"], meant["scores.sum"]) and result.spike_counts["scores.sum"].dtype == np.int16
    assert np.array_equal(result.outputs, meant["scores"])
    assert result.provenance.fidelity == "ideal" and result.provenance.program == mapping.program.digest() and result.provenance.chip == mapping.chip.digest()
    assert "scores.sum: sums of int8 products" in result.notes
    assert result.notes[0] == "conv.sum, conv: fired in the kernel of its int8 products, proven at every step"
    kept = simulate(mapping, images, record=["conv.sum"]).notes
    assert kept[:2] == ("conv.sum: sums of int8 products", "conv: counts exact in float32"), "what is kept has to be made"


def test_no_images_give_no_scores():
    result = simulate(map_program(small_network(), test_chip()), np.zeros((0, 2, 8, 8), np.int64))
    assert result.outputs.shape == (0, 4) and result.activity.num_images == 0 and set(result.activity.counts.values()) == {0}


def test_what_does_not_fit_is_refused():
    mapping = map_program(small_network(), test_chip())
    images = np.zeros((2, 2, 8, 8), np.int64)
    with pytest.raises(SimulationError, match=r"images are \[n, 2, 8, 8\], got \[2, 8, 8\]"):
        simulate(mapping, images[0])
    with pytest.raises(ProgramError, match=r"takes images u4\[2, 8, 8\], got int64 \[2, 8, 7\]"):
        simulate(mapping, images[..., 1:])
    with pytest.raises(ProgramError, match="float64"):
        simulate(mapping, images / 2)
    late = np.zeros((600, 2, 8, 8), np.int64)
    late[-1] = 16
    done = []
    with pytest.raises(ProgramError, match="takes counts from 0 to 15, got 0 to 16"):
        simulate(mapping, late, progress=lambda *at: done.append(at))
    assert not done, "images are refused before the first one is run"
    with pytest.raises(SimulationError, match="no value is called 'conv9'(.|\n)*values are: x, conv.sum, conv, max"):
        simulate(mapping, images, record=["conv9"])
    with pytest.raises(SimulationError, match="unknown fidelity 'exact'\n  known are: ideal, spike, analog"):
        simulate(mapping, images, fidelity="exact")
    with pytest.raises(SimulationError, match="batch_size is 0"):
        simulate(mapping, images, batch_size=0)
    with pytest.raises(SimulationError, match="a raster of 'conv' without spikes"):
        simulate(mapping, images, raster=["conv"])


def test_a_sum_may_be_read_in_any_way():
    """The integers have a meaning even where no circuit could read a charge twice."""
    ops = (
        Dense("a.sum", ("x",), weights(0, 4, 6), IntType(4, signed=True)),
        fire("a", 4),
        Add("both", ("a", "a.sum"), IntType(6, signed=True)),
    )
    program = Program("twice", "x", TensorType((6,), IntType(4)), ops, "both")
    images = np.random.default_rng(0).integers(0, 16, (7, 6))
    values = Ideal(program).run(torch.from_numpy(images).to(torch.float32), {"both"}).values
    assert np.array_equal(values["both"].numpy(), program.evaluate(images))


def test_adding_signed_and_unsigned_bytes_alters_neither():
    """What is added in place must be the sum's own: with one input there is none, and signs are read from the same bytes."""
    ops = (
        Add("narrow", ("x",), IntType(2)),
        Dense("a.sum", ("x",), weights(0, 6, 6), IntType(4, signed=True)),
        fire("a", 6, IntType(5, signed=True)),
        Add("both", ("a", "x", "narrow"), IntType(4)),
        Add("again", ("both", "a", "x"), IntType(7, signed=True)),
    )
    program = Program("sums", "x", TensorType((6,), IntType(4)), ops, "again")
    images = np.random.default_rng(0).integers(0, 16, (9, 6))
    names = [op.out for op in ops]
    found = simulate(map_program(program, test_chip()), images, record=names)
    meant = program.evaluate_all(images)
    assert all(np.array_equal(found.spike_counts[name], meant[name]) for name in names)


def test_a_program_is_proven_once_for_all_its_chips():
    """The machine is the same for the same program and values, another for others; its program's arrays cannot change under it."""
    program, other = small_network(), small_network()
    assert ready(program, frozenset({"a"}), "cpu") is ready(program, frozenset({"a"}), "cpu")
    assert ready(program, frozenset(), "cpu") is not ready(program, frozenset({"a"}), "cpu")
    assert ready(other, frozenset(), "cpu") is not ready(program, frozenset(), "cpu")
    assert not any(array.flags.writeable for array in program.constants().values())
