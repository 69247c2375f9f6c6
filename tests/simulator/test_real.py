"""Real weights: sums are exact on their grid in any order, and noise is normal, image by image, however images are batched."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memspike.ops import Conv2d, Dense
from memspike.simulator.kernels import exact_arithmetic
from memspike.simulator.real import Normals, Product, ReadNoise
from small_programs import I4


def dense(rows: int, channels: int, groups: int = 1) -> Dense:
    return Dense("y", ("x",), np.ones((groups * channels, rows), np.int64), I4, groups)


def product(op, matrix, magnitude, counts):
    with exact_arithmetic():
        return Product(op, matrix, magnitude, len(op.weight))(torch.from_numpy(counts).to(torch.float32)).to(torch.float64).numpy()


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 9), st.sampled_from([15, 255]))
def test_no_order_of_summation_changes_a_sum(seed, rows, channels, magnitude):
    """Rows shuffled, images one by one: the same bits; and the weights have moved by less than a thousandth of the largest."""
    rng = np.random.default_rng(seed)
    matrix, counts = 3 * rng.standard_normal((1, rows, channels)), rng.integers(0, magnitude + 1, (7, rows))
    order = rng.permutation(rows)
    found = product(dense(rows, channels), matrix, magnitude, counts)
    assert np.array_equal(found, product(dense(rows, channels), matrix[:, order], magnitude, counts[:, order]))
    assert np.array_equal(found, np.concatenate([product(dense(rows, channels), matrix, magnitude, one[None]) for one in counts]))
    assert (np.abs(found - counts @ matrix[0]) <= counts.sum(axis=1, keepdims=True) * np.abs(matrix).max() * 2.0**-11 + 1e-9).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 2000), st.sampled_from([1, 7, 127, 20_000]))
def test_integer_weights_stay_integers_beside_real_ones(seed, rows, largest):
    rng = np.random.default_rng(seed)
    matrix, counts = rng.integers(-largest, largest + 1, (1, rows, 2)).astype(float), rng.integers(0, 256, (3, rows))
    matrix[0, :, 1] += rng.standard_normal(rows)
    assert np.array_equal(product(dense(rows, 2), matrix, 255, counts)[:, 0], counts @ matrix[0, :, 0])


def test_sums_take_double_precision_where_single_would_be_coarse():
    matrix = np.random.default_rng(0).standard_normal((1, 800, 4))
    assert Product(dense(800, 4), matrix, 15, 4).dtype == torch.float32
    assert Product(dense(800, 4), matrix, 255, 4).dtype == torch.float64


@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_blocks_of_groups_are_the_matrix_they_stand_for(together):
    """Five groups in blocks of some: the last block may be part empty. Dense and convolution against the sum written out."""
    rng = np.random.default_rng(together)
    blocks = -(-5 // together)
    for op, counts in (
        (dense(3, 2, groups=5), rng.integers(0, 16, (4, 15))),
        (Conv2d("y", ("x",), np.ones((10, 3, 2, 2), np.int64), I4, groups=5), rng.integers(0, 16, (4, 15, 2, 2))),
    ):
        matrix = rng.integers(-9, 10, (blocks, together * (60 if counts.ndim > 2 else 15) // 5, together * 2)) / 4
        rows = counts.reshape(4, -1)
        padded = np.zeros((4, blocks, matrix.shape[1]))
        padded.reshape(4, -1)[:, : rows.shape[1]] = rows
        by_hand = np.einsum("nbr,brk->nbk", padded, matrix).reshape(4, -1)[:, :10]
        assert np.array_equal(product(op, matrix, 15, counts).reshape(4, -1), by_hand)


def test_normals_are_normal():
    drawn = Normals((1, 2), 0).like(torch.empty(500, 1000)).numpy().ravel().astype(float)
    assert drawn.mean() == pytest.approx(0, abs=5e-3) and drawn.std() == pytest.approx(1, abs=5e-3)
    assert (drawn**4).mean() == pytest.approx(3, abs=0.05)
    for z, share in ((1.0, 0.158655), (2.0, 0.022750), (3.0, 0.001350)):
        assert np.mean(drawn > z) == pytest.approx(share, abs=4 * np.sqrt(share / len(drawn)))
    rows = drawn.reshape(500, 1000)
    assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 0.01


@given(st.integers(1, 40), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_every_image_has_its_stretch_of_every_call(size, cuts):
    """A second call draws anew; an image draws the same alone and in company."""

    def calls(first: int, number: int) -> np.ndarray:
        normals = Normals((3,), first)
        return np.stack([normals.like(torch.empty(number, size)).numpy() for _ in range(2)])

    whole = calls(0, 10)
    edges = [0, *sorted(cuts), 10]
    parts = [calls(first, last - first) for first, last in zip(edges, edges[1:], strict=False)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert size < 8 or not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("is_product", [True, False])
@pytest.mark.parametrize("groups", [1, 3])
def test_noise_has_the_variance_of_its_cells(is_product, groups):
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.5, 1.5, (groups, 6, 1)) * rng.uniform(0.8, 1.2, (groups, 1, 4)) if is_product else rng.uniform(0.1, 1.5, (groups, 6, 4))
    noise = ReadNoise(dense(6, 4, groups), variance, 15)
    counts = rng.integers(-15, 16, (1, groups, 6))
    many = torch.from_numpy(np.repeat(counts.reshape(1, -1), 20_000, axis=0)).to(torch.float32)
    with exact_arithmetic():
        found = noise.of(many, torch.zeros(20_000, groups * 4), Normals((1,), 0)).numpy()
    wanted = np.sqrt(np.einsum("nbr,brk->nbk", np.abs(counts), variance)).ravel()
    assert found.std(axis=0) == pytest.approx(wanted, rel=4 / np.sqrt(2 * 20_000))
    assert np.abs(np.corrcoef(found.T) - np.eye(groups * 4)).max() < 0.04
