"""What orjson does, by the standard library: slower, and otherwise the same."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from json import JSONDecodeError
from typing import cast

OPT_SORT_KEYS = 1
OPT_PASSTHROUGH_DATETIME = 2

DEEPEST_READ = 1024
DEEPEST_WRITTEN = 254
_INT64_DIGITS = 20
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes | bytearray | memoryview | str, /) -> object:
    """Return the value of a JSON document.

    Args:
        data: UTF-8 without a byte order mark, or text.

    Raises:
        JSONDecodeError: It is no JSON (NaN and lone surrogates are none), has a number that no
            float holds, or is nested more than 1,024 deep.
    """
    text = _text(data)
    try:
        value: object = _DECODER.decode(text)
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except JSONDecodeError:
        raise
    except RecursionError:
        raise JSONDecodeError("depth limit exceeded", text, 0) from None
    except UnicodeEncodeError:
        raise JSONDecodeError("a lone surrogate in a string", text, 0) from None
    except ValueError as error:
        raise JSONDecodeError(str(error), text, 0) from None
    if text.count("[") + text.count("{") > DEEPEST_READ and _depth(text) > DEEPEST_READ:
        raise JSONDecodeError("depth limit exceeded", text, 0)
    return value


def _text(data: object) -> str:
    try:
        match data:
            case str():
                data.encode()
                return data
            case bytes() | bytearray():
                return data.decode()
            case memoryview():
                return cast("memoryview[int]", data).tobytes().decode()
            case _:
                raise JSONDecodeError("Input must be bytes, bytearray, memoryview, or str", "", 0)
    except UnicodeError:
        raise JSONDecodeError("str is not valid UTF-8", "", 0) from None


def _int(digits: str) -> int | float:
    if len(digits) <= _INT64_DIGITS and -(2**63) <= (value := int(digits)) < 2**64:
        return value
    return _float(digits)


def _float(digits: str) -> float:
    if (value := float(digits)) in (float("inf"), float("-inf")):
        raise ValueError("number is infinity when parsed as double")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_int=_int, parse_float=_float, parse_constant=_refuse)


def _depth(text: str) -> int:
    """Return how deep a valid document is nested."""
    deepest = depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def dumps(
    value: object,
    /,
    default: Callable[[object], object] | None = None,
    option: int | None = None,
) -> bytes:
    """Return a value as compact JSON in UTF-8; NaN and infinity as null.

    Args:
        value: What JSON knows, enumerations, UUIDs, dates, dataclasses.
        default: Returns something else in place of a value that is none of these.
        option: ``OPT_SORT_KEYS``, ``OPT_PASSTHROUGH_DATETIME`` (dates go to ``default``), or both.

    Raises:
        TypeError: A value is none of these, an int of more than 64 bits, text that is no UTF-8, or
            nested more than 254 deep; a key is no str.
    """
    pieces: list[str] = []
    _write(value, pieces.append, default, option or 0, 0, 0)
    try:
        return "".join(pieces).encode()
    except UnicodeEncodeError:
        raise TypeError("str is not valid UTF-8: surrogates not allowed") from None


def _write(
    value: object,
    put: Callable[[str], None],
    default: Callable[[object], object] | None,
    option: int,
    depth: int,
    replaced: int,
) -> None:
    dates = () if option & OPT_PASSTHROUGH_DATETIME else (date, time)
    match value:
        case None:
            put("null")
        case bool():
            put("true" if value else "false")
        case Enum():
            _write(value.value, put, default, option, depth, replaced)
        case str():
            put(json.dumps(value, ensure_ascii=False))
        case int():
            if not -(2**63) <= value < 2**64:
                raise TypeError("Integer exceeds 64-bit range")
            put(int.__repr__(value))
        case float() if type(value) is float:
            put(_written(value))
        case dict() | list() | tuple() if depth >= DEEPEST_WRITTEN:
            raise TypeError("Recursion limit reached")
        case dict():
            items = cast("dict[object, object]", value)
            _write_object(items, put, default, option, depth, replaced)
        case _ if isinstance(value, list) or type(value) is tuple:
            put("[")
            for number, item in enumerate(cast("list[object]", value)):
                put("," if number else "")
                _write(item, put, default, option, depth + 1, replaced)
            put("]")
        case uuid.UUID():
            put(f'"{value}"')
        case _ if isinstance(value, dates) and type(value) in (date, datetime, time):
            put(f'"{value.isoformat()}"')
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            said: dict[object, object] = {n: getattr(value, n) for n in names if n[0] != "_"}
            _write_object(said, put, default, option & ~OPT_SORT_KEYS, depth, replaced)
        case _:
            unknown = TypeError(f"Type is not JSON serializable: {type(value).__name__}")
            if default is None:
                raise unknown
            if replaced >= DEEPEST_WRITTEN:
                raise TypeError("default serializer exceeds recursion limit")
            try:
                instead = default(value)
            except Exception as error:
                raise unknown from error
            _write(instead, put, default, option, depth, replaced + 1)


def _write_object(
    items: dict[object, object],
    put: Callable[[str], None],
    default: Callable[[object], object] | None,
    option: int,
    depth: int,
    replaced: int,
) -> None:
    if not all(type(name) is str for name in items):
        raise TypeError("Dict key must be str")
    named = cast("dict[str, object]", items)
    put("{")
    for number, name in enumerate(sorted(named) if option & OPT_SORT_KEYS else named):
        put("," if number else "")
        put(json.dumps(name, ensure_ascii=False) + ":")
        _write(named[name], put, default, option, depth + 1, replaced)
    put("}")


def _written(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return "null"
    text = repr(value)
    if text.endswith("e-05"):
        return format(Decimal(text), "f")
    return text.replace("e-0", "e-")
