"""The options of bulk jobs: what each may be, checked when a job is planned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import cast

import attrs

from memories_async.errors import ConfigurationError
from memories_async.media.urls import is_url
from memories_async.request_limits import TIME_FORMAT


@attrs.frozen
class OptionType:
    """What an option may be.

    Attributes:
        wanted: In words.
        accepts: Tells whether a value, as JSON has it, is that.
    """

    wanted: str
    accepts: Callable[[object], bool]


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(_text(one) for one in cast("list[object]", value))


def _number(low: float, high: float) -> Callable[[object], bool]:
    def accepts(value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (
            number and math.isfinite(cast("float", value)) and low <= cast("float", value) <= high
        )

    return accepts


def _effort(value: object) -> bool:
    return _text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _time(value: object) -> bool:
    try:
        return datetime.strptime(str(value), TIME_FORMAT).strftime(TIME_FORMAT) == value
    except ValueError:
        return False


def _persons(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and set(cast("dict[str, object]", one)) == {"name", "url"}
        and all(_text(text) for text in cast("dict[str, object]", one).values())
        and is_url(str(cast("dict[str, object]", one)["url"]))
        for one in cast("list[object]", value)
    )


OPTION_TYPES: Mapping[str, OptionType] = {
    "as_base64": OptionType("true or false", _flag),
    "camera_model": OptionType("a text", _text),
    "datetime_taken": OptionType("a time like 2025-09-07 22:52:00", _time),
    "latitude": OptionType("a number of degrees from -90 to 90", _number(-90, 90)),
    "longitude": OptionType("a number of degrees from -180 to 180", _number(-180, 180)),
    "model": OptionType("a text", _text),
    "persons": OptionType("a list of objects with a name and the URL of a picture", _persons),
    "prompt": OptionType("a text", _text),
    "qa": OptionType("true or false", _flag),
    "reasoning_effort": OptionType("a whole number, or a text", _effort),
    "searchable_within": OptionType("a number of seconds", _number(0, 1e9)),
    "system_prompt": OptionType("a text", _text),
    "tags": OptionType("a list of texts", _texts),
    "thinking": OptionType("true or false", _flag),
    "unique_id": OptionType("a text", _text),
}
"""By name: an option means the same for every kind of job."""

_TOGETHER = ("latitude", "longitude")


def check_options(
    kind: str,
    allowed: Sequence[str],
    options: Mapping[str, object],
    given: Mapping[str, object],
) -> None:
    """Refuse options that the call does not have, or that are not what they should be.

    Args:
        kind: Whose options they are, for the message.
        allowed: The options that there are.
        options: What is set.
        given: What holds besides.

    Raises:
        ConfigurationError: The message names the option, its value and what is wanted.
    """
    if unknown := sorted(options.keys() - set(allowed)):
        raise ConfigurationError(
            f"{kind} has no option {', '.join(unknown)}, only {', '.join(sorted(allowed))} "
            "(fields of your own belong into 'extra')"
        )
    for name, value in options.items():
        wanted = OPTION_TYPES[name]
        if not wanted.accepts(value):
            shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
            raise ConfigurationError(f"{kind}: {name} is {shown}; {wanted.wanted} is wanted")
    merged = {**given, **options}
    if sum(name in merged for name in _TOGETHER) == 1 and not options.keys().isdisjoint(_TOGETHER):
        raise ConfigurationError(f"{kind}: latitude and longitude belong together")
