"""How something public is announced to go."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def deprecated(
    *, since: str, removed_in: str, instead: str
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Warn whoever calls a function or makes an object of a class.

    Args:
        since: The version that announces it.
        removed_in: The version in which it goes: two minor versions later.
        instead: What to use.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        message = (
            f"{function.__qualname__} is deprecated since {since} and goes in {removed_in}: "
            f"use {instead}"
        )

        @functools.wraps(function)
        def warned(*args: P.args, **kwargs: P.kwargs) -> T:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        warned.__doc__ = f"{function.__doc__ or ''}\n\nDeprecated since {since}: use {instead}."
        return warned

    return decorate
