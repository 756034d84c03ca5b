"""From decoded JSON to our models: wire names, numbers sent as text, unknown fields kept."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

import attrs
import cattrs

from memories_async.errors import UnexpectedShape
from memories_async.models import Result, Results

T = TypeVar("T")

_EXACT_FLOATS = 2**53
"""From here on a float no longer holds every integer, so it is refused where an id is expected."""

_NOTHING = frozenset({"", "null", "None"})
"""Text that the service sends where it means null."""


def structure(data: object, target: type[T], known: Mapping[str, object] | None = None) -> T:
    """Turn the ``data`` of an answer into a model.

    Args:
        data: What the envelope held.
        target: A model, or ``Results[model]``.
        known: Fields that the answer does not repeat, in our names.

    Raises:
        UnexpectedShape: A required field is missing or has a value that cannot be read.
    """
    if known:
        data = _with_known(data, known)
    try:
        return _CONVERTER.structure(data, target)
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise UnexpectedShape(f"the answer does not fit {_name(target)}: {error}") from None


def _with_known(data: object, known: Mapping[str, object]) -> object:
    if isinstance(data, Mapping):
        return {**known, **cast("Mapping[str, object]", data)}
    if isinstance(data, list):
        return [_with_known(item, known) for item in cast("list[object]", data)]
    return data


def _name(target: object) -> str:
    return getattr(target, "__name__", None) or str(target)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_snake = functools.lru_cache(maxsize=1024)(_snake_case)


_WRAPPERS = ("item", "items", "results", "videos", "images", "clips")


def _integer(value: object, _: object = int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS:
        return int(value)
    raise ValueError(f"{value!r} is not an exact integer")


def _real(value: object, _: object = float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return float(value)
    raise ValueError(f"{value!r} is not a number")


def _string(value: object, _: object = str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # identifiers are documented as text and have been seen as numbers
    raise ValueError(f"{value!r} is not text")


def _moment(value: object, _: object = datetime) -> datetime:
    return datetime.fromtimestamp(_integer(value) / 1000, UTC)


def _vector(value: object, _: object = list[float]) -> list[float]:
    # Handed on as it came: structuring 1,408 floats one by one costs 60 times as much as this
    # sum, which fails on anything that is not a number.
    if not isinstance(value, list):
        raise ValueError("the vector is not a list")
    numbers = cast("list[float]", value)
    sum(numbers)
    return numbers


def _results_hook(target: object) -> Callable[[object, object], object]:
    (item,) = get_args(target)
    structure_item = _CONVERTER.get_structure_hook(item)

    def structure_results(value: object, _: object) -> object:
        if isinstance(value, Mapping):
            # The library's image search and older answers wrap the list, beside page numbers.
            inside = cast("Mapping[str, object]", value)
            value = next((inside[name] for name in _WRAPPERS if name in inside), None)
        if not isinstance(value, list):
            raise ValueError("the answer is not a list")
        items = cast("list[object]", value)
        return Results(structure_item(element, item) for element in items)

    return structure_results


def _result_hook(model: type[Result]) -> Callable[[object, object], Result]:
    """Build the reader of one model: a table from wire names to fields, made once."""
    hints = get_type_hints(model)
    fields: dict[str, tuple[str, Callable[[object, object], object], object]] = {}
    required: list[str] = []
    for field in attrs.fields(model):
        if field.name in ("extra", "attempts"):
            continue
        kind = hints[field.name]
        hook = _CONVERTER.get_structure_hook(kind)
        for spelling in (field.name, *field.metadata.get("wire", ())):
            fields[spelling] = (field.name, hook, kind)
        if field.default is attrs.NOTHING:
            required.append(field.name)

    def structure_result(value: object, _: object) -> Result:
        if not isinstance(value, Mapping):
            raise ValueError(f"{model.__name__} expects an object, not {type(value).__name__}")
        arguments: dict[str, object] = {}
        extra: dict[str, object] = {}
        for key, item in cast("Mapping[str, object]", value).items():
            entry = fields.get(key) or fields.get(_snake(key))
            if entry is None:
                extra[key] = item
            elif entry[0] not in arguments or arguments[entry[0]] is None:
                name, hook, kind = entry
                try:
                    arguments[name] = hook(item, kind)
                except (TypeError, ValueError, OverflowError) as error:
                    raise ValueError(f"{key}: {error}") from None
        missing = [name for name in required if arguments.get(name) is None]
        if missing:
            raise ValueError(f"{model.__name__} lacks {', '.join(missing)}")
        return model(extra=extra, **arguments)  # type: ignore[arg-type]  # read field by field above

    return structure_result


def _optional_hook(target: object) -> Callable[[object, object], object]:
    (kind,) = [part for part in get_args(target) if part is not type(None)]
    hook = _CONVERTER.get_structure_hook(kind)

    def structure_optional(value: object, _: object) -> object:
        if value is None or (isinstance(value, str) and value in _NOTHING):
            return None
        return hook(value, kind)

    return structure_optional


def _is_optional(target: object) -> bool:
    return type(None) in get_args(target)


def _is_results(target: object) -> bool:
    return get_origin(target) is Results


def _is_result(target: object) -> bool:
    return isinstance(target, type) and issubclass(target, Result)


_CONVERTER = cattrs.Converter(detailed_validation=False)
_CONVERTER.register_structure_hook(int, _integer)
_CONVERTER.register_structure_hook(float, _real)
_CONVERTER.register_structure_hook(str, _string)
_CONVERTER.register_structure_hook(datetime, _moment)
_CONVERTER.register_structure_hook(type(None), lambda value, _: None)
_CONVERTER.register_structure_hook_factory(_is_optional, _optional_hook)
_CONVERTER.register_structure_hook_factory(_is_results, _results_hook)
_CONVERTER.register_structure_hook_factory(_is_result, _result_hook)
_CONVERTER.register_structure_hook_func(lambda target: target == list[float], _vector)
