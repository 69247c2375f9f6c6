"""Encoders: a count comes back from its spikes, and every encoder spikes when its name says."""

import numpy as np
import pytest
import torch

from memspike.errors import SimulationError
from memspike.integer import IntType
from memspike.simulator.encode import ENCODERS, Window, decode, encode, line_keys


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("type", ["u1", "u4", "i5", "u8", "i1", "u13"])
def test_every_count_comes_back(encoder, type):
    type = IntType.parse(type)
    counts = np.arange(type.min, type.max + 1)[:: max(1, type.bits // 2) ** 2][None, :]
    spikes = encode(counts, type.num_timesteps, encoder, seed=3)
    assert spikes.shape == (type.num_timesteps, *counts.shape) and spikes.dtype == np.int8
    assert np.array_equal(decode(spikes), counts)
    assert np.array_equal(np.abs(spikes).sum(axis=0), np.abs(counts)), "a line spikes in one direction, once per timestep"


def test_even_spikes_where_the_floor_steps():
    counts = np.arange(17)
    spikes = encode(counts[None], 16, "even")[:, 0]
    for t in range(16):
        assert np.array_equal(spikes[t], (t + 1) * counts // 16 > t * counts // 16)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("bits", "length"), [(1, 1), (4, 5), (4, 16), (6, 64), (7, 100), (8, 37)])
def test_what_was_sent_is_the_same_in_bytes_and_in_blocks_of_any_length(encoder, bits, length):
    """Images with their channels last, as bytes, in blocks, against one timestep after the other in floats."""
    counts = torch.from_numpy(np.random.default_rng(0).integers(0, 1 << bits, (3, 5, 4, 2)))
    keys = line_keys(7, 0, 3, 1)
    plain = torch.stack(list(Window(counts.to(torch.float32), 1 << bits, encoder, keys).spikes())).cumsum(0)
    sent = list(Window(counts.to(torch.uint8).contiguous(memory_format=torch.channels_last), 1 << bits, encoder, keys).sent(length))
    assert all(block.dtype == torch.uint8 and len(block) <= length for block in sent)
    assert all(block.flatten(0, 1).is_contiguous(memory_format=torch.channels_last) for block in sent)
    assert torch.equal(torch.cat(sent).to(torch.float32), plain) and torch.equal(plain[-1], counts.to(torch.float32))


def test_burst_spikes_first():
    assert encode(np.array([[3, 0, -2]]), 4, "burst")[:, 0].tolist() == [[1, 0, -1], [1, 0, -1], [1, 0, 0], [0, 0, 0]]


def test_random_chooses_every_pattern_equally_often():
    spikes = encode(np.full((1, 12_000), 2), 4, "random", seed=1)[:, 0]
    patterns, times = np.unique(spikes, axis=1, return_counts=True)
    assert patterns.shape[1] == 6, "two of four timesteps"
    assert np.abs(times - 2000).max() < 5 * np.sqrt(2000 * 5 / 6), times


def test_random_depends_on_seed_image_and_value_only():
    counts = torch.full((6, 50), 7.0)

    def spikes(seed: int, first: int, last: int, value: int) -> np.ndarray:
        return torch.stack(list(Window(counts[first:last], 16, "random", line_keys(seed, first, last - first, value)).spikes())).numpy()

    whole = spikes(0, 0, 6, 0)
    assert np.array_equal(whole, np.concatenate([spikes(0, 0, 1, 0), spikes(0, 1, 6, 0)], axis=1))
    assert not np.array_equal(whole[:, 0], whole[:, 1]), "two images draw apart"
    assert not np.array_equal(whole, spikes(1, 0, 6, 0)), "two seeds draw apart"
    assert not np.array_equal(whole, spikes(0, 0, 6, 1)), "two values draw apart"
    assert spikes(-(2**80), 0, 1, 0).shape == (16, 1, 50), "any integer is a seed"


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(SimulationError, match="unknown encoder 'evne'\n  known are: even, burst, random"):
        encode(np.zeros((1, 1), np.int64), 4, "evne")
    with pytest.raises(SimulationError, match="count of 9 does not fit a window of 8 timesteps"):
        encode(np.array([[-9]]), 8)
    with pytest.raises(SimulationError, match="window of 12 timesteps; expected a power of two"):
        encode(np.array([[1]]), 12)
    with pytest.raises(SimulationError, match="at most 65536 are simulated"):
        encode(np.array([[1]]), 1 << 17)
