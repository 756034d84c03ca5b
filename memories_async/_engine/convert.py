"""From the ``data`` of an answer to the operation's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from memories_async._json import is_array, is_object
from memories_async.decoding import decode, snake_case

T = TypeVar("T")


def structure(data: object, target: type[T], known: Mapping[str, object] | None = None) -> T:
    """Turn the ``data`` of an answer into a model.

    Args:
        data: What the envelope held.
        target: A model, or ``Results[model]``.
        known: Fields that the answer does not repeat, in our names.

    Raises:
        UnexpectedShape: A required field is missing or has a value that cannot be read.
    """
    return decode(_with_known(data, known) if known else data, target)


def _with_known(data: object, known: Mapping[str, object]) -> object:
    """Add what is known; where the answer says it too, the answer counts."""
    if is_object(data):
        names = {snake_case(name) for name, value in data.items() if value is not None}
        return {**data, **{name: value for name, value in known.items() if name not in names}}
    if is_array(data):
        return [_with_known(item, known) for item in data]
    return data
