"""Options that several verbs share, or that are too many for one: a callable's parameters become a command's options."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def takes(made_by: Callable[..., Any], argument: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the parameters of `made_by` as options, and what it makes of them as its argument `argument`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared, own = inspect.signature(made_by).parameters, inspect.signature(command).parameters

        @functools.wraps(command)
        def takes(**options: Any) -> None:
            made = made_by(**{name: options.pop(name) for name in shared})
            command(**{argument: made}, **options)

        both = [p.replace(kind=p.KEYWORD_ONLY) for p in own.values() if p.name != argument]
        both = sorted([*both, *(p.replace(kind=p.KEYWORD_ONLY) for p in shared.values())], key=lambda p: p.default is not p.empty)
        takes.__signature__ = inspect.Signature(both)  # pyright: ignore[reportAttributeAccessIssue]
        takes.__annotations__ = {p.name: p.annotation for p in both}
        return takes

    return decorate
