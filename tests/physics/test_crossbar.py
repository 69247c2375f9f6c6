"""The effective conductance of a crossbar: closed forms, laws, and every small circuit against Kirchhoff's law solved in fractions."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crossbars import exact
from memspike.errors import ChipError
from memspike.physics import crossbar, effective_conductance

Floats = NDArray[np.float64]

conductances = st.one_of(st.just(0.0), st.floats(-12, 3).map(lambda exponent: 10.0**exponent))
resistances = st.one_of(st.just(0.0), st.floats(-9, 9).map(lambda exponent: 10.0**exponent))


@st.composite
def crossbars(draw: st.DrawFn, max_side: int = 3) -> Floats:
    rows, columns = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    return np.array(draw(st.lists(st.lists(conductances, min_size=columns, max_size=columns), min_size=rows, max_size=rows)))


def cells(*shape: int, seed: int = 0) -> Floats:
    return 10 ** np.random.default_rng(seed).uniform(-6, -3, shape)


@settings(max_examples=150)
@given(crossbars(), resistances, resistances)
def test_currents_are_kirchhoffs(g: Floats, word: float, bit: float) -> None:
    np.testing.assert_allclose(effective_conductance(g, word, bit), exact(g, word, bit), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (1, 6), (6, 1)])
def test_currents_are_kirchhoffs_in_longer_crossbars(rows: int, columns: int) -> None:
    g = cells(rows, columns)
    g[0, 0] = 0.0
    np.testing.assert_allclose(effective_conductance(g, 30.0, 70.0), exact(g, 30.0, 70.0), rtol=1e-12, atol=0)


def test_one_cell_is_a_series_circuit() -> None:
    np.testing.assert_allclose(effective_conductance(np.array([[1e-3]]), 20.0, 300.0), [[1 / (20 + 1000 + 300)]], rtol=1e-15)


def test_one_row_of_open_cells_but_one_is_a_series_circuit() -> None:
    """The cell in column 2 is reached through 3 segments of the word line and left through 1 of the bit line."""
    np.testing.assert_allclose(effective_conductance(np.array([[0, 0, 1e-3, 0]]), 20.0, 300.0), [[0, 0, 1 / (3 * 20 + 1000 + 300), 0]], rtol=1e-15)


def test_a_segment_lies_after_every_cell_of_a_bit_line() -> None:
    np.testing.assert_allclose(effective_conductance(np.array([[0], [1e-3], [0], [0]]), 20.0, 300.0)[1], 1 / (20 + 1000 + 3 * 300), rtol=1e-15)


def test_ideal_wires_give_the_cells_back() -> None:
    g = cells(4, 5)
    np.testing.assert_array_equal(effective_conductance(g, 0.0, 0.0), g)


def test_an_ideal_bit_line_leaves_rows_alone_and_an_ideal_word_line_columns() -> None:
    g = cells(4, 5)
    changed = g.copy()
    changed[2, 3] *= 2
    rows = (effective_conductance(g, 50.0, 0.0) != effective_conductance(changed, 50.0, 0.0)).any(axis=1)
    columns = (effective_conductance(g, 0.0, 50.0) != effective_conductance(changed, 0.0, 50.0)).any(axis=0)
    assert rows.tolist() == [False, False, True, False] and columns.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(("word", "bit"), [(0.0, 5.0), (5.0, 0.0), (5.0, 5.0)])
def test_a_small_resistance_is_close_to_none(word: float, bit: float) -> None:
    g = cells(6, 6)
    np.testing.assert_allclose(effective_conductance(g, word or 1e-9, bit or 1e-9), effective_conductance(g, word, bit), rtol=1e-9)


@pytest.mark.parametrize("open_cells", [np.s_[2, :], np.s_[:, 3], np.s_[:, :], np.s_[1:, 1:]])
@pytest.mark.parametrize(("word", "bit"), [(2.0, 3.0), (0.0, 3.0), (2.0, 0.0)])
def test_open_rows_and_columns_carry_no_current(open_cells: Any, word: float, bit: float) -> None:
    g = cells(5, 6)
    g[open_cells] = 0.0
    a = effective_conductance(g, word, bit)
    assert np.isfinite(a).all()
    assert (a[~g.any(axis=1)] == 0).all() and (a[:, ~g.any(axis=0)] == 0).all()
    assert (a[g > 0] > 0).all()


@pytest.mark.parametrize("side", [3, 33, 96])
def test_driven_from_the_other_side_the_circuit_is_reciprocal(side: int) -> None:
    """Square crossbars are solved from top to bottom; turned ones thus from right to left: two eliminations of the same circuit."""
    g = cells(side, side)
    turned = effective_conductance(g[::-1, ::-1].T, 3.0, 7.0)
    np.testing.assert_allclose(effective_conductance(g, 7.0, 3.0), turned[::-1, ::-1].T, rtol=1e-11)


@settings(max_examples=50)
@given(crossbars(5), resistances, resistances, st.floats(1.1, 10), st.floats(1.1, 10))
def test_more_resistance_never_means_more_total_current(g: Floats, word: float, bit: float, more_word: float, more_bit: float) -> None:
    """Rayleigh: all rows at 1 V are one terminal, all grounds the other, and the conductance between them falls with every resistor."""
    less, more = (effective_conductance(g, *wires).sum() for wires in ((word, bit), (word * more_word, bit * more_bit)))
    assert more <= less * (1 + 1e-12) and less <= g.sum() * (1 + 1e-12)


@settings(max_examples=50)
@given(crossbars(5), resistances, resistances, st.floats(-3, 3).map(lambda exponent: 10.0**exponent))
def test_only_the_ratio_of_wires_to_cells_matters(g: Floats, word: float, bit: float, factor: float) -> None:
    """A circuit of resistors scales: cells conduct `factor` times as much, wires resist so much less, all currents grow by it."""
    scaled = effective_conductance(g * factor, word / factor, bit / factor)
    np.testing.assert_allclose(scaled, effective_conductance(g, word, bit) * factor, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("word", "bit"), [(5.0, 8.0), (0.0, 8.0), (5.0, 0.0)])
def test_wires_cost_every_column_current_when_all_rows_are_driven(word: float, bit: float) -> None:
    """No node is above 1 V or below 0 V, so no cell carries more than between ideal wires."""
    g = cells(20, 10)
    a = effective_conductance(g, word, bit)
    assert (a >= 0).all() and (a.sum(axis=0) < g.sum(axis=0)).all()


@pytest.mark.parametrize("shape", [(70, 6, 6), (3, 40, 9), (3, 9, 40), (5, 150, 140)])
@pytest.mark.parametrize(("word", "bit"), [(2.0, 3.0), (0.0, 3.0), (2.0, 0.0)])
def test_a_batch_is_its_tiles(shape: tuple[int, int, int], word: float, bit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossbar, "_CHUNK_ELEMENTS", 16 * 36)
    g = cells(*shape)
    batched = effective_conductance(g, word, bit)
    for number in {0, 1, shape[0] - 1}:
        np.testing.assert_array_equal(batched[number], effective_conductance(g[number], word, bit))


def test_chunks_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three chunks meet at a barrier: one thread alone would wait for ever, and fail."""
    together, solve = threading.Barrier(3, timeout=20), crossbar._solve

    def meet(*arguments: Any) -> Floats:
        together.wait()
        return solve(*arguments)

    monkeypatch.setattr(crossbar, "_num_cores", lambda: 3)
    monkeypatch.setattr(crossbar, "_CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(crossbar, "_solve", meet)
    assert effective_conductance(cells(3, 4, 4), 1.0, 1.0).shape == (3, 4, 4)


def test_linear_algebra_has_one_thread_while_solving_and_then_its_own_again(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, during = crossbar._solve, []

    def threads() -> list[int]:
        return [library["num_threads"] for library in crossbar._linear_algebra().info() if library["user_api"] == "blas"]

    def watch(*arguments: Any) -> Floats:
        during.extend(threads())
        return solve(*arguments)

    monkeypatch.setattr(crossbar, "_solve", watch)
    before = threads()
    effective_conductance(cells(4, 4), 1.0, 1.0)
    assert during and set(during) == {1} and threads() == before


def test_the_input_stays_as_it_was_and_other_number_types_do() -> None:
    g = cells(6, 4)
    before = g.copy()
    a = effective_conductance(g, 4.0, 0.0)
    a += effective_conductance(g, 0.0, 0.0)
    np.testing.assert_array_equal(g, before)
    ones = np.ones((3, 2))
    np.testing.assert_array_equal(effective_conductance(ones.astype(np.uint8), 0.5, 0.5), effective_conductance(ones, 0.5, 0.5))
    np.testing.assert_array_equal(effective_conductance(g.astype(np.float32), 1.0, 1.0), effective_conductance(g.astype(np.float32).astype(np.float64), 1, 1))


def test_views_in_any_order_of_memory_do() -> None:
    g = cells(12, 8)
    np.testing.assert_array_equal(effective_conductance(g[::2, ::-1], 1.0, 2.0), effective_conductance(g[::2, ::-1].copy(), 1.0, 2.0))
    np.testing.assert_array_equal(effective_conductance(g.T, 1.0, 2.0), effective_conductance(np.ascontiguousarray(g.T), 1.0, 2.0))


def test_no_tiles_give_none() -> None:
    assert effective_conductance(np.zeros((0, 4, 5)), 1.0, 1.0).shape == (0, 4, 5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wires", [(1e12, 1e12), (0.0, 1e12), (1e12, 0.0), (1e-300, 1e-300), (1e12, 1e-300)])
@pytest.mark.parametrize("largest", [0.0, 1e-300, 1e12])
def test_the_largest_and_smallest_numbers_do(wires: tuple[float, float], largest: float) -> None:
    g = np.array([[largest, 0.0, largest], [1e-5, largest, largest], [largest, largest, 0.0]])
    np.testing.assert_allclose(effective_conductance(g, *wires), exact(g, *wires), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("g", "wires", "said"),
    [
        (np.array([[1e-6, -1e-6]]), (1, 1), "row 0, column 1: conductance is -1e-06 S; expected 0 to 1e+12 S\n  an open cell has 0 S"),
        (np.array([[1e-6], [np.nan]]), (1, 1), "row 1, column 0: conductance is nan S; expected 0 to 1e+12 S\n  an open cell has 0 S"),
        (np.array([[[1.0]], [[np.inf]]]), (1, 1), "tile 1, row 0, column 0: conductance is inf S; expected 0 to 1e+12 S\n  an open cell has 0 S"),
        (np.ones((2, 2)), (-1.0, 1), "word line: resistance is -1.0 ohm per segment; expected 0 to 1e+12 ohm\n  an ideal wire has 0 ohm"),
        (np.ones((2, 2)), (1, np.inf), "bit line: resistance is inf ohm per segment; expected 0 to 1e+12 ohm\n  an ideal wire has 0 ohm"),
        (np.ones((2, 2)), (1, float("nan")), "bit line: resistance is nan ohm per segment; expected 0 to 1e+12 ohm\n  an ideal wire has 0 ohm"),
        *(
            (
                np.zeros(shape, dtype),
                (1, 1),
                f"crossbar: conductances are {dtype} {list(shape)}; expected real numbers [rows, columns] or [tiles, rows, columns]\n"
                "  give every crossbar at least one row and one column",
            )
            for shape, dtype in [((3,), "float64"), ((1, 1, 1, 1), "float64"), ((0, 3), "float64"), ((2, 3, 0), "float64"), ((2, 2), "complex128")]
        ),
    ],
)
def test_what_no_crossbar_has_is_refused(g: Any, wires: tuple[float, float], said: str) -> None:
    with pytest.raises(ChipError) as error:
        effective_conductance(g, *wires)
    assert str(error.value) == said


@pytest.mark.parametrize("norm", [0.0019, 0.0021, 0.0049, 0.0051])
def test_what_a_segment_passes_on_is_an_inverse_to_rounding(norm: float) -> None:
    """On both sides of every bound below which a few products stand for the inverse, against solving the equations; for a norm that is really reached."""
    n = 32
    neighbours = np.roll(np.eye(n), 1, axis=0) + np.roll(np.eye(n), -1, axis=0)
    excess = norm / 2 * (np.eye(n) - neighbours / 2)[None]
    a = np.random.default_rng(0).random((1, 3, n))
    passed = a.copy()
    stays = crossbar._pass_down(passed, excess)
    meant = np.linalg.solve(np.eye(n) + excess, excess)
    np.testing.assert_allclose(stays, meant, rtol=0, atol=4e-16 + 1e-14 * norm)
    np.testing.assert_allclose(passed, a - a @ meant, rtol=1e-14)
