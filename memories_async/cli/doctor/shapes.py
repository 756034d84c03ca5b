"""The shape of an answer, and where it differs from the one that this version knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from memories_async import _json

Shape: TypeAlias = "str | Mapping[str, Shape] | Sequence[Shape]"
"""The word for a value's kind, the fields of an object, or the one shape of a list's items."""

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "number"),
    (float, "number"),
    (str, "text"),
)


def shape_of(value: object) -> Shape:
    """Return the shape of a JSON value."""
    if _json.is_object(value):
        return {name: shape_of(inner) for name, inner in value.items()}
    if _json.is_array(value):
        return [shape_of(value[0])] if value else []
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")


def differences(expected: Shape, came: object, path: str = "") -> Iterator[str]:
    """Say by field how an answer differs.

    Args:
        expected: The known shape; ``null`` stands for anything, and a field that ends in ``?``
            may be missing.
        came: The JSON value that came.
        path: Where it stands.
    """
    where = path or "the answer"
    if expected == "null":
        return
    if isinstance(expected, Mapping) and _json.is_object(came):
        known = {name.removesuffix("?"): shape for name, shape in expected.items()}
        for name in expected.keys() - came.keys():
            if not name.endswith("?"):
                yield f"{_below(path, name)}: is missing"
        for name in came.keys() - known.keys():
            yield f"{_below(path, name)}: is new ({_kind(came[name])})"
        for name in came.keys() & known.keys():
            yield from differences(known[name], came[name], _below(path, name))
    elif isinstance(expected, list) and _json.is_array(came):
        seen: set[str] = set()
        for item in came if expected else ():
            for difference in differences(expected[0], item, f"{path}[]"):
                if difference not in seen:
                    seen.add(difference)
                    yield difference
    elif _kind_of_shape(expected) != _kind(came):
        yield f"{where}: {_kind(came)} came, {_kind_of_shape(expected)} was expected"


def read(body: bytes) -> object:
    """Return the JSON of a body; None if it is none."""
    try:
        answer: object = _json.loads(body)
    except _json.JSONDecodeError:
        return None
    return answer


def _kind(value: object) -> str:
    return _kind_of_shape(shape_of(value))


def _kind_of_shape(shape: Shape) -> str:
    if isinstance(shape, str):
        return shape
    return "an object" if isinstance(shape, Mapping) else "a list"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
