"""What the values of options may be: each check says what is wanted."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from memories_async.errors import ConfigurationError
from memories_async.request_limits import TIME_FORMAT

if TYPE_CHECKING:
    from cyclopts import Token

MOST = 10**9
"""More of anything than a command can have."""

LOCAL_CLUSTER = "local"
"""What ``--ray`` without an address stands for: a cluster of this machine, for this command."""
_CLUSTER = r"local|auto|ray://\S+|[\w.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}"

Check = Callable[[object, object], None]
"""What cyclopts calls with a value's type and the value."""


class UnfitError(ValueError):
    """A value that an option cannot have; the message says what is wanted.

    Attributes:
        value: Which, of several.
    """

    def __init__(self, value: object, wanted: str) -> None:
        super().__init__(wanted)
        self.value = value


class NoSuchOptionError(ValueError):
    """What looks like an option and is none."""


def between(low: float, high: float = MOST, *, above: bool = False) -> Check:
    """Return a check of a number.

    Args:
        low: The least that is allowed.
        high: The most that is allowed.
        above: Whether the least itself is not allowed.
    """
    least = f"more than {low}" if above else f"at least {low}"
    wanted = f"a number of {least} is wanted" if high == MOST else f"{low} to {high} is wanted"

    def unfit(value: object) -> str | None:
        # What is no number at all (nan) compares as false.
        fits = isinstance(value, int | float) and low <= value <= high
        if isinstance(value, int | float) and value > high == MOST:
            return f"a number of at most {MOST:,} is wanted"
        return None if fits and not (above and value == low) else wanted

    return _check(unfit)


def whole(_: object, tokens: Sequence[Token]) -> int:
    """Convert to a whole number, and nothing that is merely near one."""
    return int(_digits(tokens[0].value, r"[+-]?[0-9]{1,18}", "a whole number is wanted"))


def number(_: object, tokens: Sequence[Token]) -> float:
    """Convert to a number."""
    form = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
    return float(_digits(tokens[0].value, form, "a number is wanted"))


def _digits(text: str, form: str, wanted: str) -> str:
    """Refuse what Python takes for a number besides: 1_0, digits of other scripts, spaces, nan."""
    if not re.fullmatch(form, text):
        raise UnfitError(text, wanted)
    return text


def matches(pattern: str, wanted: str) -> Check:
    """Return a check of text that has a form.

    Args:
        pattern: The form, of the whole text.
        wanted: What is wanted, in words.
    """
    form = re.compile(pattern)

    def unfit(value: object) -> str | None:
        fits = form.fullmatch(str(value))
        return _no_text(value) or (None if fits else f"{wanted} is wanted")

    return _check(unfit)


def at_most(length: int) -> Check:
    """Return a check of text that may have so many characters."""
    wanted = f"a text of at most {length} characters is wanted"
    return _check(lambda value: _no_text(value) or (wanted if len(str(value)) > length else None))


def _check(unfit: Callable[[object], str | None]) -> Check:
    """Return a check of each value that is given.

    Args:
        unfit: Says what is wanted where a value is not; None where it is.
    """

    def check(_: object, value: object) -> None:
        several = isinstance(value, list | tuple)
        for one in cast("Sequence[object]", value) if several else (value,):
            if one is not None and (wanted := unfit(one)):
                raise UnfitError(one, wanted)

    return check


def _no_text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return "a text that is not empty is wanted"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "it is no UTF-8, and text is wanted"
    return "it has a NUL in it, and text is wanted" if "\x00" in value else None


def _no_effort(value: object) -> str | None:
    fits = value == -1 or value in range(1, 11)
    return None if fits else "1 to 10 is wanted, or -1 to let the model decide"


def _no_moment(value: object) -> str | None:
    try:
        fits = f"{datetime.strptime(str(value), TIME_FORMAT):{TIME_FORMAT}}" == value
    except ValueError:
        fits = False
    return None if fits else "a time as 2025-09-07 22:52:00 is wanted"


def _no_shard(value: object) -> str | None:
    match = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", str(value))
    fits = match and int(match[1]) <= int(match[2])
    return None if fits else "a part and the number of parts, as 3/10, is wanted"


def _no_path(value: object) -> str | None:
    """Of which bytes a name is, is the file system's business; a blank one must be there."""
    name = str(value)
    fits = "\x00" not in name and (name.strip() or (name and os.path.lexists(name)))
    return None if fits else "a name of a file is wanted"


text = _check(_no_text)
effort = _check(_no_effort)
moment = _check(_no_moment)
shard = _check(_no_shard)
path = _check(_no_path)
cluster = matches(_CLUSTER, "auto, HOST:PORT or ray://HOST:PORT, or no address at all,")


def sources(kind: object, value: object) -> None:
    """Check names of files, which may be ``-`` and begin with a hyphen, but must be no option."""
    path(kind, value)
    for one in cast("list[str]", value) if isinstance(value, list) else ():
        if one.startswith("-") and one != "-" and not os.path.lexists(one):
            raise NoSuchOptionError(one.partition("=")[0])


def with_address(tokens: Sequence[str]) -> list[str]:
    """Return arguments in which every ``--ray`` has a value: its address may be left out."""
    ours = list(tokens[: tokens.index("--")] if "--" in tokens else tokens)
    given = [
        f"{word}={LOCAL_CLUSTER}"
        if word == "--ray" and not re.fullmatch(_CLUSTER, following)
        else word
        for word, following in itertools.zip_longest(ours, ours[1:], fillvalue="")
    ]
    return given + list(tokens[len(ours) :])


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
