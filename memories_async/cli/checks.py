"""What the values of options may be: each check says what is wanted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from memories_async.errors import ConfigurationError
from memories_async.parameters import TIME_FORMAT

if TYPE_CHECKING:
    from cyclopts import Token

MOST = 10**9
"""More of anything than a command can have."""

Check = Callable[[object, object], None]
"""What cyclopts calls with a value's type and the value."""


def between(low: float, high: float = MOST, *, above: bool = False) -> Check:
    """Return a check of a number.

    Args:
        low: The least that is allowed.
        high: The most that is allowed.
        above: Whether the least itself is not allowed.
    """
    least = f"more than {low}" if above else f"at least {low}"
    wanted = f"a number of {least} is wanted" if high == MOST else f"{low} to {high} is wanted"

    def check(_: object, value: object) -> None:
        for number in _each(value):
            fits = isinstance(number, int | float) and low <= number <= high
            if not fits or (above and number == low):
                raise ValueError(wanted)  # also where it is no number at all: nan

    return check


def whole(_: object, tokens: Sequence[Token]) -> int:
    """Convert to a whole number, and nothing that is merely near one."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("a whole number is wanted") from None


def text(_: object, value: object) -> None:
    """Check text that goes to the service: not empty, and text at all."""
    for one in _each(value):
        if not isinstance(one, str) or not one.strip():
            raise ValueError("a text that is not empty is wanted")
        try:
            one.encode()
        except UnicodeEncodeError:
            raise ValueError("it is no UTF-8, and text is wanted") from None
        if "\x00" in one:
            raise ValueError("it has a NUL in it, and text is wanted")


def effort(_: object, value: object) -> None:
    """Check how hard a model shall think."""
    if value is not None and value != -1 and value not in range(1, 11):
        raise ValueError("1 to 10 is wanted, or -1 to let the model decide")


def moment(_: object, value: object) -> None:
    """Check a time as the service writes it."""
    for one in _each(value):
        try:
            fits = f"{datetime.strptime(str(one), TIME_FORMAT):{TIME_FORMAT}}" == one
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("a time as 2025-09-07 22:52:00 is wanted")


def at_most(length: int) -> Check:
    """Return a check of text that may have so many characters."""

    def check(kind: object, value: object) -> None:
        text(kind, value)
        if any(len(str(one)) > length for one in _each(value)):
            raise ValueError(f"a text of at most {length} characters is wanted")

    return check


def matches(pattern: str, wanted: str) -> Check:
    """Return a check of text that has a form.

    Args:
        pattern: The form, of the whole text.
        wanted: What is wanted, in words.
    """
    form = re.compile(pattern)

    def check(kind: object, value: object) -> None:
        text(kind, value)
        if not all(form.fullmatch(str(one)) for one in _each(value)):
            raise ValueError(f"{wanted} is wanted")

    return check


def shard(kind: object, value: object) -> None:
    """Check which part of how many is wanted."""
    _parts(kind, value)
    for one in _each(value):
        part, _, of = str(one).partition("/")
        if int(part) > int(of):
            raise ValueError(f"{_PARTS} is wanted")


_PARTS = "a part and the number of parts, as 3/10,"
_parts = matches(r"[1-9]\d{0,8}/[1-9]\d{0,8}", _PARTS)


def together(first: str, one: object, second: str, other: object) -> None:
    """Refuse one of two options that belong together.

    Raises:
        ConfigurationError: Only one of them is given.
    """
    if (one is None) != (other is None):
        given, missing = (first, second) if other is None else (second, first)
        raise ConfigurationError(f"{given} is given without {missing}; they belong together")


def free(path: str, *, force: bool) -> None:
    """Refuse to replace a file unless that is asked for.

    Raises:
        ConfigurationError: There is one.
    """
    if not force and os.path.lexists(path):
        raise ConfigurationError(f"{path} is there already: name another file, or add --force")


def path(_: object, value: object) -> None:
    """Check a name of a file; of which bytes it is, is the file system's business."""
    for one in _each(value):
        if not one or "\x00" in str(one):
            raise ValueError("a name of a file is wanted")


def _each(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
