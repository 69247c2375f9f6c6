"""JSON of things, strictly: what cannot be read back as it was is not written, and what is read names the first key that is wrong."""

import difflib
import json
import math
from collections.abc import Iterator
from collections.abc import Mapping as MappingABC
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from memspike.cell import Device, Law, Stuck, Verify
from memspike.chip import Chip, Component, Crossbar, NeuronCircuit
from memspike.errors import FileRefused, an
from memspike.quantity import Quantity

T = TypeVar("T")

MAX_DESCRIPTION = 1 << 24  # bytes of a JSON or TOML file
# People write these, so a misspelt key is answered with the one that was meant.
_WRITTEN_BY_HAND = (Chip, Crossbar, Device, Law, Verify, Stuck, NeuronCircuit, Component, Quantity)
_KEYS = tuple(dict.fromkeys(f.name for kind in _WRITTEN_BY_HAND for f in fields(kind)))


def to_json(value: Any, name: str) -> str:
    """JSON that reads back as it was; FileRefused names the first number or object for which that cannot be."""
    for place, what in _strangers(value, name):
        raise FileRefused(f"{what} cannot be written as JSON", where=place, cure="text, finite numbers, true and false, lists, and dicts with text as keys can")
    return json.dumps(value, default=lambda number: number.item())


def _strangers(value: Any, place: str) -> Iterator[tuple[str, str]]:
    value = cast(Any, value).item() if isinstance(value, np.generic) else value
    if isinstance(value, dict | MappingABC):
        for key, inner in cast(dict[Any, Any], value).items():
            yield from _strangers(inner, f"{place}.{key}") if isinstance(key, str) else [(place, f"the key {key!r}")]
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(cast(list[Any], value)):
            yield from _strangers(inner, f"{place}.{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, str(value)
    elif isinstance(value, str) and not _is_text(value):
        yield place, f"{value[:40]!r}, which is no text,"
    elif value is not None and not isinstance(value, str | int | float):
        yield place, an(type(value).__name__)


def _is_text(value: str) -> bool:
    """Whether it can be encoded; names of files that are no UTF-8 hold halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Inside a tuple, since a configuration is refused beside a bare dataclass; it holds for every dataclass within.
    # Arrays are never JSON: `arbitrary_types_allowed` lets their fields stand empty until they are put in.
    wrapped: Any = tuple[kind]  # pyright: ignore[reportInvalidTypeForm, reportUnknownVariableType]
    return TypeAdapter(wrapped, config=ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True))


def from_json(kind: type[T], text: str) -> T:
    """A value of the type `kind`, strictly; FileRefused names the first key that is unknown, missing or wrong."""
    try:
        return _adapter(kind).validate_json(f"[{text}]")[0]
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = next((e for e in errors if e["type"] in _UNKNOWN), errors[0])  # a misspelt key says more than the one that it leaves missing
        place = place_of(first["loc"][1:], None if first["type"] == "json_invalid" else json.loads(text))
        what, cure = _said(first)
        raise FileRefused(what, where=place, cure=cure) from error


def _said(error: Any) -> tuple[str, str]:
    """What and cure of pydantic's error."""
    if error["type"] == "missing":
        return "is missing", ""
    if error["type"] in _UNKNOWN:
        close = difflib.get_close_matches(str(error["loc"][-1]), _KEYS, n=1)
        return "is no known key", f"did you mean {close[0]!r}?" if close else ""
    if error["type"] == "json_invalid":
        return error["msg"], ""
    return f"is {error['input']!r:.60}; expected {error['msg'].removeprefix('Input should be ')}", ""


def place_of(keys: tuple[int | str, ...], tree: Any) -> str:
    """The path of a key; an item that has a name is called by it: `components.neuron.area`."""
    words: list[str] = []
    for key in keys:
        try:
            tree = tree[key]
            words.append(str(tree["name"] if isinstance(key, int) else key))
        except (LookupError, TypeError):
            tree = None
            words.append(str(key))
    return ".".join(words)
