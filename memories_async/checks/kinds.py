"""The kinds of argument that there are: what fits, what is wrong with it, what it is called."""

from __future__ import annotations

import inspect
import math
import numbers
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import (
    Any,
    TypeGuard,
    TypeVar,
    cast,
)

import attrs

C = TypeVar("C", bound=Callable[..., object])
"""A class or a function."""

Problem = str | None
"""What is wrong with an argument, by its name; None where nothing is."""

Limit = Callable[[str, Any], Problem]


def shown(value: object) -> str:
    """Return a value as a message may hold it: not all of a picture, and no key of a client."""
    try:
        return reprlib.repr(value)
    except Exception:  # a caller's object may raise anything, as Python's int of 5,000 digits does
        return f"<{type(value).__name__}>"


def _nothing(name: str, value: object) -> Problem:
    return None


@attrs.frozen
class Kind:
    """One kind of argument.

    Attributes:
        wanted: What it is called in a message.
        fits: Whether a value is of this kind at all.
        problem: What is wrong with a value of this kind, by its name.
        plain: Returns a value of a subclass, or of another library's type, as Python's own.
        secret: Whether a value that does not fit may be the secret itself, and is not shown.
    """

    wanted: str
    fits: Callable[[Any], bool]
    problem: Limit = _nothing
    plain: Callable[[Any], Any] | None = None
    secret: bool = False


def is_blank(text: str) -> bool:
    """Tell whether there is nothing to be seen in a text: spaces, or what has no width."""
    return not text.strip() or (
        not text.isascii() and not any(c.isprintable() and not c.isspace() for c in text)
    )


def text_problem(name: str, value: str) -> Problem:
    """Refuse an empty text, and one that cannot be sent."""
    if value.isascii() and value.strip():
        return None
    if (problem := any_text_problem(name, value)) is not None:
        return problem
    return f"the {name} is empty" if is_blank(value) else None


def any_text_problem(name: str, value: str) -> Problem:
    """Refuse a text that cannot be written or sent."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{name} holds a lone surrogate, which UTF-8 cannot carry"
    return None


def _no_texts_problem(name: str, values: Collection[object]) -> Problem:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            return f"{name}[{index}] is {shown(value)}; a text is wanted"
    return None


def _texts_problem(name: str, values: Collection[object]) -> Problem:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            return f"{name}[{index}] is {shown(value)}; a text is wanted"
        if (problem := text_problem(f"{name}[{index}]", value)) is not None:
            return problem
    return None


def is_sequence(value: object) -> bool:
    """Tell whether a value is a sequence of things, which a text or a buffer is not."""
    return isinstance(value, Sequence) and not isinstance(
        value, str | bytes | bytearray | memoryview
    )


def _is_collection(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(
        value, str | bytes | bytearray | memoryview | Mapping
    )


def _plain_texts(values: Collection[str]) -> Collection[str]:
    if all(type(value) is str for value in values):
        return values
    return [str.__str__(value) if isinstance(value, str) else value for value in values]


def hook_problem(name: str, hook: object) -> Problem:
    """Refuse a function whose result would have to be awaited."""
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(
        getattr(hook, "__call__", None)  # noqa: B004  # of an object, not of a function
    ):
        return f"{name} is an async function, which is never awaited; give a plain function"
    return None


def _is_integer(value: object) -> TypeGuard[int]:
    # numpy's integers say that they are some; True is one to Python only.
    return type(value) is int or (
        isinstance(value, numbers.Integral) and not isinstance(value, bool)
    )


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a real number, which True and False are not."""
    return type(value) in (int, float) or (
        isinstance(value, numbers.Real) and not isinstance(value, bool)
    )


def _plain_number(value: numbers.Real) -> int | float:
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def number_problem(name: str, value: float) -> Problem:
    """Refuse infinities, NaN, and what is too large to reckon with."""
    return None if _is_finite(value) else f"{name} is {shown(value)}; a finite number is wanted"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number may be larger than any float: adding it to one raises
        return False


def _integer_problem(name: str, value: int) -> Problem:
    return None if -(2**63) <= value < 2**63 else f"{name} is too large: 64 bits are what is sent"


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def path_problem(name: str, value: object) -> Problem:
    """Refuse a path that no file can have; it may hold what is no UTF-8."""
    try:
        # There and back: half a character is in no name, but for what stands for a byte.
        path = os.fsdecode(os.fsencode(cast("str | os.PathLike[str]", value)))
    except Exception as error:  # a caller's object may raise anything
        return f"{name} is {shown(value)}, which is no path: {type(error).__name__}: {error}"
    if not path.strip():
        return f"the {name} is empty"
    return f"{name} holds a NUL character" if "\0" in path else None


_LARGEST_FLOAT32 = 3.4028235677973366e38
"""From here on a number is rounded to infinity."""


def _numbers_problem(name: str, values: Iterable[object]) -> Problem:
    for index, value in enumerate(values):
        if not is_number(value):
            return f"{name}[{index}] is {shown(value)}; a number is wanted"
        if not abs(value) < _LARGEST_FLOAT32:
            return f"{name}[{index}] is {shown(value)}; a finite number is wanted"
    return None


def _is_numbers(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping)


def _plain_numbers(values: Iterable[object]) -> Iterable[object]:
    return values if isinstance(values, Sequence) else list(values)


def _mapping_problem(name: str, value: Mapping[object, object]) -> Problem:
    for key in value:
        if not isinstance(key, str):
            return f"{name} has {shown(key)}; its keys are texts"
    return None


TEXT = Kind("a text", lambda value: isinstance(value, str), text_problem, str.__str__)
ANY_TEXT = attrs.evolve(TEXT, problem=any_text_problem)
"""A text that may be empty."""
SECRET = attrs.evolve(ANY_TEXT, secret=True)
TEXTS = Kind("a sequence of texts", is_sequence, _texts_problem, _plain_texts)
ANY_TEXTS = attrs.evolve(TEXTS, wanted="a list of texts", fits=_is_collection)
"""Texts in any order: a set will do."""
FLAG = Kind("True or False", lambda value: isinstance(value, bool))
INTEGER = Kind("a whole number", _is_integer, _integer_problem, int)
NUMBER = Kind("a number", is_number, number_problem, _plain_number)
DECIMAL = Kind(
    "a number",
    lambda value: isinstance(value, Decimal),
    lambda n, v: None if v.is_finite() else f"{n} is {v}; a finite number is wanted",
)
PATH = Kind("a path", _is_path, path_problem)
HOOK = Kind("a function", callable, hook_problem)
ASYNC_HOOK = Kind("an async function", callable)
BYTES = Kind("bytes", lambda value: isinstance(value, bytes))
NUMBERS = Kind(
    "numbers",
    _is_numbers,
    _numbers_problem,
    _plain_numbers,
)
MAPPING = Kind("a mapping", lambda value: isinstance(value, Mapping), _mapping_problem)
SEQUENCE = Kind("a sequence", is_sequence)
ANYTHING = Kind("anything", lambda value: True)


def instance_of(*classes: type, wanted: str | None = None) -> Kind:
    """Return the kind of what is an instance of a class."""
    return Kind(
        wanted or " or ".join(kind.__name__ for kind in classes),
        lambda value: isinstance(value, classes) and not isinstance(value, type),
    )


def with_methods(*methods: str, wanted: str) -> Kind:
    """Return the kind of what has some methods."""

    def fits(value: object) -> bool:
        has_all = all(callable(getattr(value, method, None)) for method in methods)
        return has_all and not isinstance(value, type)

    return Kind(wanted, fits)


def one_of(*words: str) -> Kind:
    """Return the kind of what is one of some words."""

    def problem(name: str, value: str) -> Problem:
        if value in words:
            return None
        return (
            text_problem(name, value) or f"{name} is one of {', '.join(words)}, not {shown(value)}"
        )

    return Kind(
        f"one of {', '.join(words)}", lambda value: isinstance(value, str), problem, str.__str__
    )


def _is_count(value: object) -> bool:
    return _is_integer(value) and value >= 1


def _is_positive(value: object) -> bool:
    return is_number(value) and value > 0 and _is_finite(value)


def _is_amount(value: object) -> bool:
    try:
        number = isinstance(value, Decimal | str) or is_number(value)
        said = str(value) if number else "NaN"
        # Python takes more for a number than anybody means: 1_0, digits of other scripts, spaces.
        amount = Decimal(said if said.isascii() and not set(said) & set("_ \t\n") else "NaN")
    except (InvalidOperation, ValueError):
        return False
    return amount.is_finite() and amount >= 0


AMOUNT = Kind(
    "a number of dollars from 0",
    _is_amount,
    plain=lambda value: value if isinstance(value, Decimal | str) else _plain_number(value),
)
"""Dollars: a number, or a number as text."""
COUNT = Kind("a whole number from 1", _is_count, _integer_problem, int)
SECONDS = Kind("a positive number of seconds", _is_positive, plain=_plain_number)


def seconds_from(least: float) -> Kind:
    """Return the kind of a number of seconds that is not too small; it may be infinite."""
    return Kind(
        f"a number of seconds from {least:g}",
        lambda value: (
            is_number(value) and value >= least and (_is_finite(value) or value == math.inf)
        ),
        plain=_plain_number,
    )


FREE_TEXT = Kind("a text", lambda value: isinstance(value, str), plain=str.__str__)
"""A text as it came: nothing is asked of it."""
FREE = {
    TEXT: FREE_TEXT,
    TEXTS: attrs.evolve(TEXTS, problem=_no_texts_problem),
    INTEGER: attrs.evolve(INTEGER, problem=_nothing),
}
"""What a kind is where a value comes from the service."""
PORT = Kind("0 to 65535", lambda value: _is_integer(value) and 0 <= value < 1 << 16, plain=int)
CLOCK = with_methods("monotonic", "wall", "sleep", "random", wanted="a Clock")
