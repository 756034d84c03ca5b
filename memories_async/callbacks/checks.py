"""What is asked of the arguments of an inbox and its stores, before anything is opened."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from typing import TypeVar, cast

from memories_async.errors import ConfigurationError
from memories_async.parameters import shown

T = TypeVar("T")


def check(
    call: str, name: str, value: object, kinds: type[T] | tuple[type, ...], what: str
) -> None:
    """Refuse an argument of another type.

    Raises:
        ConfigurationError: Says which call, which parameter, what it is and what is wanted.
    """
    if not isinstance(value, kinds):
        raise ConfigurationError(f"{call}: {name} is {shown(value)}; {what} is wanted")


def check_text(call: str, name: str, value: object) -> None:
    """Refuse what is no text, or an empty one."""
    check(call, name, value, str, "a text")
    if not str(value).strip():
        raise ConfigurationError(f"{call}: {name} is empty")


def check_texts(call: str, name: str, values: object) -> None:
    """Refuse what is no collection of texts; a single text is none."""
    if not isinstance(values, Collection) or isinstance(values, str | bytes):
        raise ConfigurationError(f"{call}: {name} is {shown(values)}; a list of texts is wanted")
    for value in cast("Collection[object]", values):
        check_text(call, name, value)


def check_seconds(
    call: str, name: str, value: object, *, least: float = 0.0, optional: bool = False
) -> None:
    """Refuse what is no number of seconds, or too small a one."""
    if value is None and optional:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or math.isnan(float(str(value))) or float(str(value)) < least:
        or_none = ", or None to wait for ever" if optional else ""
        raise ConfigurationError(
            f"{call}: {name} is {shown(value)}; seconds are wanted, at least {least:g}{or_none}"
        )


def check_path(call: str, name: str, value: object) -> None:
    """Refuse what names no file."""
    check(call, name, value, (str, os.PathLike), "a path")
    if not os.fspath(value) or "\0" in str(os.fspath(value)):  # type: ignore[call-overload]  # checked above
        raise ConfigurationError(f"{call}: {name} is {shown(value)}; no file can be called so")
