"""From JSON to our values: wire names, numbers sent as text, unknown fields kept."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

import attrs
import cattrs

from memories_async import _json
from memories_async.checks import unchecked
from memories_async.checks.kinds import shown
from memories_async.errors import UnexpectedShape, quoted
from memories_async.vectors import Vector

T = TypeVar("T")

_EXACT_FLOATS = 2**53
"""From here on a float no longer holds every integer, so it is refused where an id is expected."""

_NOTHING = frozenset({"", "null", "None"})
"""Text that the service sends where it means null."""

_WRAPPERS = ("item", "items", "results", "videos", "images", "clips", "resource")
"""Where a list stands that does not stand by itself."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape in JSON; in the group half of a surrogate pair that stands alone."""
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A text in JSON. One without an end goes on to the last character: each is looked at once."""
_CONTROL = re.compile(r"\\.|([\0-\x1f])", re.DOTALL)
"""An escape in a text; in the group a character that should have been one."""


_CHARSETS = frozenset(
    {"big5", "euc-jp", "euc-kr", "gb18030", "gb2312", "gbk"}
    | {"iso-8859-1", "shift_jis", "windows-1252"}
)
"""What an answer may say that it is written in, and be believed where it is no UTF-8."""
_CHARSET = re.compile(r"charset=[\"']?([\w-]+)", re.IGNORECASE)


def read_json(body: bytes, content_type: str = "") -> object:
    """Read JSON; what no text can hold in it becomes U+FFFD, as the rest has been paid for.

    A caption that was cut in the middle of an emoji ends in half a surrogate pair, and a gateway
    may have cut a character's bytes. A byte order mark, UTF-16 and UTF-32 are read, as Python's own
    reader does, and what calls itself one of a few older encodings. A line feed or another control
    character within a text may stand there unescaped. Nothing else is forgiven.

    Args:
        body: The bytes.
        content_type: The header, which may say what they are written in.

    Raises:
        JSONDecodeError: It is not JSON.
    """
    try:
        return _json.loads(body)
    except _json.JSONDecodeError:
        charset = _CHARSET.search(content_type)
        text = _text_of(body, charset[1] if charset else "")
        mended = _ESCAPE.sub(lambda found: "\\ufffd" if found[1] else found[0], text)
        mended = _STRING.sub(lambda string: _CONTROL.sub(_escaped, string[0]), mended)
        return _json.loads(mended.encode())


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[1]):04x}" if found[1] else found[0]


def _text_of(body: bytes, charset: str) -> str:
    encoding = json.detect_encoding(body)
    for name in (encoding, charset.lower() if charset.lower() in _CHARSETS else encoding):
        try:
            return body.decode(name)
        except UnicodeDecodeError:
            pass
    return body.decode(encoding, "replace")


def decode(data: object, target: type[T]) -> T:
    """Read a value of one of our types.

    Args:
        data: Decoded JSON.
        target: A model, or a list of them (``Results[model]``).

    Raises:
        UnexpectedShape: A required field is missing or has a value that cannot be read; what
            came is in its ``answer``.
    """
    try:
        return _CONVERTER.structure(data, target)
    except (TypeError, ValueError, OverflowError, KeyError, RecursionError) as error:
        reason = quoted(str(error), 500)
        raise UnexpectedShape(
            f"the answer does not fit {_name(target)}: {reason}", answer=data
        ) from None


def snake_case(name: str) -> str:
    """Return a name of the wire as we spell it: ``videoNo`` is ``video_no``."""
    if name.isascii() and name.islower():
        return name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_snake = functools.lru_cache(maxsize=1024)(snake_case)


def _name(target: object) -> str:
    return getattr(target, "__name__", None) or str(target)


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value in _NOTHING)


def _integer(value: object, _: object = int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,100}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS:
        return int(value)
    raise ValueError(f"{shown(value)} is not an exact integer")


def _real(value: object, _: object = float) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"{shown(value)} is not a number")


def _string(value: object, _: object = str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # identifiers are documented as text and have been seen as numbers
    raise ValueError(f"{shown(value)} is not text")


def _moment(value: object, _: object = datetime) -> datetime:
    """Read milliseconds since 1970, or a date as text; without an offset it stays as it is."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and "-" in value[1:]:
        return datetime.fromisoformat(value)
    return _EPOCH + timedelta(milliseconds=_integer(value))


def _vector(value: object, _: object = Vector) -> Vector:
    if isinstance(value, Vector):
        return value
    if not isinstance(value, (list, tuple)):
        raise ValueError("the vector is not a list")
    return Vector.read(cast("list[object]", value))


def _list_hook(target: object) -> Callable[[object, object], object]:
    """Build the reader of a list of models, which may stand inside an object."""
    make = cast("Callable[..., object]", get_origin(target))
    (item,) = get_args(target)
    structure_item = _CONVERTER.get_structure_hook(item)

    def structure_list(value: object, _: object) -> object:
        extra: Mapping[str, object] = {}
        if isinstance(value, Mapping):
            # The library's image search and older answers wrap the list, beside page numbers.
            inside = dict(cast("Mapping[str, object]", value))
            wrapper = next((name for name in _WRAPPERS if name in inside), None)
            if wrapper is not None or not inside:
                value, extra = inside.pop(wrapper, None) if wrapper else None, inside
        if value is None or value == "":
            value = []  # found nothing: official clients write ``envelope.get("data") or []``
        if not isinstance(value, (list, tuple)):
            raise ValueError("the answer is not a list")
        items = cast("list[object]", value)
        return make((structure_item(element, item) for element in items), extra=extra)

    return structure_list


def _model_hook(model: type[object]) -> Callable[[object, object], object]:
    """Build the reader of one model: a table from wire names to fields, made once."""
    hints = get_type_hints(model)
    fields: dict[str, tuple[str, bool, Callable[[object, object], object], object]] = {}
    required: list[str] = []
    lists: set[str] = set()
    for field in attrs.fields(model):  # type: ignore[arg-type]  # an attrs class: see _is_model
        if field.metadata.get("of_the_call"):
            continue
        kind = hints[field.name]
        hook = _CONVERTER.get_structure_hook(kind)
        optional = field.default is not attrs.NOTHING
        may_be_nothing = optional or bool(field.metadata.get("identifier"))  # which it lacks then
        for spelling in (field.name, *field.metadata.get("wire", ())):
            fields[spelling] = (field.name, may_be_nothing, hook, kind)
        if not optional:
            required.append(field.name)
        if _is_list(kind):
            lists.add(field.name)
    may_be_empty = bool(required) and lists.issuperset(required)

    def structure_model(value: object, _: object) -> object:
        if not isinstance(value, dict):  # what JSON has; to ask for a Mapping costs ten times that
            if isinstance(value, model):
                return value
            if may_be_empty and value in (None, "", []):
                value = {}
            if not isinstance(value, Mapping):
                raise ValueError(f"{model.__name__} expects an object, not {type(value).__name__}")
        said = cast("Mapping[str, object]", value)
        arguments: dict[str, object] = {}
        extra: dict[str, object] = {}
        for key, item in said.items():
            entry = fields.get(key) or fields.get(_snake(key[:100]))
            if entry is None:
                extra[key] = item
                continue
            name, may_be_nothing, hook, kind = entry
            if may_be_nothing and _is_nothing(item):
                continue
            if arguments.get(name) is None:  # of two spellings the first with a value counts
                try:
                    arguments[name] = hook(item, kind)
                except (TypeError, ValueError, OverflowError) as error:
                    raise ValueError(f"{quoted(key, 40)}: {error}") from None
        if not said and may_be_empty:
            arguments = {name: _CONVERTER.structure(None, hints[name]) for name in required}
        missing = [name for name in required if arguments.get(name) is None]
        if missing:
            raise ValueError(f"{model.__name__} lacks {', '.join(missing)}")
        if extra:
            arguments["extra"] = extra
        return unchecked(model, **arguments)  # read field by field above

    return structure_model


def _optional_hook(target: object) -> Callable[[object, object], object]:
    (kind,) = [part for part in get_args(target) if part is not type(None)]
    hook = _CONVERTER.get_structure_hook(kind)

    def structure_optional(value: object, _: object) -> object:
        return None if _is_nothing(value) else hook(value, kind)

    return structure_optional


def _texts(value: object, _: object) -> tuple[str, ...]:
    if _is_nothing(value):
        return ()
    if not isinstance(value, list | tuple):
        raise ValueError(f"{shown(value)} is not a list of texts")
    return tuple(_string(item) for item in cast("list[object]", value))


def _is_optional(target: object) -> bool:
    return type(None) in get_args(target)


def _is_list(target: object) -> bool:
    origin = get_origin(target)
    return isinstance(origin, type) and origin is not tuple and issubclass(origin, tuple)


def _is_model(target: object) -> bool:
    return isinstance(target, type) and attrs.has(target)


_CONVERTER = cattrs.Converter(detailed_validation=False)
_CONVERTER.register_structure_hook(int, _integer)
_CONVERTER.register_structure_hook(float, _real)
_CONVERTER.register_structure_hook(str, _string)
_CONVERTER.register_structure_hook(datetime, _moment)
_CONVERTER.register_structure_hook(Vector, _vector)
_CONVERTER.register_structure_hook(type(None), lambda value, _: None)
_CONVERTER.register_structure_hook_factory(_is_model, _model_hook)
_CONVERTER.register_structure_hook_factory(_is_optional, _optional_hook)
_CONVERTER.register_structure_hook_factory(_is_list, _list_hook)
_CONVERTER.register_structure_hook_func(lambda target: target == tuple[str, ...], _texts)
