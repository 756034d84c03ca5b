"""Options and fields of the user's own, as the journal keeps them: what JSON can say, exactly."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import cast
from uuid import UUID

from memories_async.captions import Person
from memories_async.checks.kinds import shown
from memories_async.errors import ConfigurationError
from memories_async.request_limits import TIME_FORMAT


def kept(values: Mapping[str, object]) -> dict[str, object]:
    """Return values as the journal keeps them.

    Raises:
        ConfigurationError: One of them is nothing that JSON can say.
    """
    if not isinstance(cast("object", values), Mapping):
        raise ConfigurationError(f"options are a mapping of names and values, not {shown(values)}")
    found: dict[str, object] = {}
    for name, value in values.items():
        try:
            found[_text(name)] = _kept(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"a job cannot keep {name!r}: {error}") from None
    return found


def _object(values: Mapping[object, object]) -> dict[str, object]:
    return {_text(name): _kept(value) for name, value in values.items()}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is a text, not {shown(value)}")
    value.encode()  # half a character is no text
    return str(value)


def _kept(value: object) -> object:
    match value:
        case None | bool():
            return value
        case enum.Enum():
            return _kept(value.value)
        case str():
            return _text(value)
        case int():
            str(value)  # one of thousands of digits could be written and not be read again
            return int(value)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is no number in JSON")
            return float(value)
        case datetime():
            return value.strftime(TIME_FORMAT)
        case date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case Person():
            return {"name": value.name, "url": value.url}
        case Mapping():
            return _object(cast("Mapping[object, object]", value))
        case list() | tuple():
            return [_kept(one) for one in cast("list[object]", value)]
        case _:
            raise TypeError(f"{type(value).__name__} is no type of JSON")
