"""Errors: what, where and cure in one message, and the exit code of each kind."""

import inspect

import pytest

from memspike import errors
from memspike.errors import CheckFailed, FileRefused, MemspikeError, ProgramError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemspikeError("needs 800 rows"), "needs 800 rows"),
        (MemspikeError("needs 800 rows", where="op fc1"), "op fc1: needs 800 rows"),
        (MemspikeError("needs 800 rows", cure="use digital partial sums"), "needs 800 rows\n  use digital partial sums"),
        (MemspikeError("needs 800 rows", where="op fc1", cure="use more"), "op fc1: needs 800 rows\n  use more"),
    ],
)
def test_a_message_says_where_what_and_how_to_cure(error: MemspikeError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_memspike_error_with_an_exit_code_and_a_meaning(kind: type[MemspikeError]) -> None:
    assert issubclass(kind, MemspikeError) and inspect.getdoc(kind)
    assert kind("x").exit_code == {FileRefused: 3, CheckFailed: 4}.get(kind, 2)


def test_where_can_be_added_later() -> None:
    error = ProgramError("overflows", cure="use fewer bits")
    error.where = "program lenet"
    assert str(error) == "program lenet: overflows\n  use fewer bits"
