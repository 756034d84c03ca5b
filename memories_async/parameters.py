"""What public calls are given, checked by the annotations and the names of their parameters.

A namespace is marked with ``@checked`` and writes no check itself: before the body of a method
runs, and so before a file, a thread or a socket is opened, every argument is held against its
annotation (the type) and against ``LIMITS`` (what a parameter of that name may be anywhere).
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import reprlib
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from memories_async.errors import ConfigurationError, MemoriesError
from memories_async.media import Media
from memories_async.media.source import is_source, path_of

C = TypeVar("C", bound=type)

Problem = str | None
"""What is wrong with an argument, by its name; None where nothing is."""


@attrs.frozen
class Kind:
    """One kind of argument.

    Attributes:
        wanted: What it is called in a message.
        fits: Whether a value is of this kind at all.
        problem: What is wrong with a value of this kind, by its name.
    """

    wanted: str
    fits: Callable[[Any], bool]
    problem: Callable[[str, Any], Problem] = lambda name, value: None


# --- the kinds, by annotation -------------------------------------------------------------------


def text_problem(name: str, value: str) -> Problem:
    """Refuse an empty text, and one that cannot be sent."""
    if not value.strip():
        return f"the {name} is empty"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{name} holds a lone surrogate, which UTF-8 cannot carry"
    return None


def _texts_problem(name: str, values: Sequence[object]) -> Problem:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            return f"{name}[{index}] is {shown(value)}; a text is wanted"
        if (problem := text_problem(f"{name}[{index}]", value)) is not None:
            return problem
    return None


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _hook_problem(name: str, hook: object) -> Problem:
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(
        getattr(hook, "__call__", None)  # noqa: B004  # of an object, not of a function
    ):
        return f"{name} is an async function, which is never awaited; give a plain function"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_problem(name: str, value: float) -> Problem:
    return None if math.isfinite(value) else f"{name} is {value}; a finite number is wanted"


def _integer_problem(name: str, value: int) -> Problem:
    return None if -(2**63) <= value < 2**63 else f"{name} is too large: 64 bits are what is sent"


def _source_problem(name: str, value: object) -> Problem:
    # A path may hold what is no UTF-8: only an empty one is refused.
    return f"the {name} is empty" if isinstance(value, str) and not value.strip() else None


def _sources_problem(name: str, values: Iterable[object]) -> Problem:
    if not isinstance(values, Sequence):
        return None  # looked at one by one, as they are taken
    for index, value in enumerate(values):
        if not is_source(value):
            return f"{name}[{index}] is {shown(value)}; {SOURCE.wanted} is wanted"
        if (problem := _source_problem(f"{name}[{index}]", value)) is not None:
            return problem
    return None


def _persons_problem(name: str, persons: Sequence[object]) -> Problem:
    for index, person in enumerate(persons):
        if (problem := _person_problem(f"{name}[{index}]", person)) is not None:
            return problem
    return None


def _person_problem(name: str, person: object) -> Problem:
    if isinstance(person, Mapping):
        given = dict(cast("Mapping[object, object]", person))
    elif hasattr(person, "name") and hasattr(person, "url"):
        given = {"name": getattr(person, "name", None), "url": getattr(person, "url", None)}
    else:
        return f"{name} is {shown(person)}; a Person, or a mapping of name and url, is wanted"
    for field in ("name", "url"):
        value = given.pop(field, None)
        if not isinstance(value, str):
            return f"{name}.{field} is {shown(value)}; a text is wanted"
        if (problem := text_problem(f"{name}.{field}", value)) is not None:
            return problem
    if given:
        return f"{name} has {shown(next(iter(given)))}; name and url are what a person has"
    return None


def _is_many(value: object) -> bool:
    single = isinstance(value, str | bytes | bytearray | memoryview | os.PathLike | Media | Mapping)
    is_file = callable(getattr(value, "read", None))
    return isinstance(value, Iterable | AsyncIterable) and not single and not is_file


TEXT = Kind("a text", lambda value: isinstance(value, str), text_problem)
TEXTS = Kind("a sequence of texts", _is_sequence, _texts_problem)
FLAG = Kind("True or False", lambda value: isinstance(value, bool))
INTEGER = Kind(
    "a whole number",
    lambda value: isinstance(value, int) and not isinstance(value, bool),
    _integer_problem,
)
NUMBER = Kind("a number", _is_number, _number_problem)
PATH = Kind("a path", lambda value: isinstance(value, str | os.PathLike), _source_problem)
HOOK = Kind("a function", callable, _hook_problem)
SOURCE = Kind("an http(s) URL, a path, bytes, a binary file or Media", is_source, _source_problem)
SOURCES = Kind("a sequence of images or videos", _is_many, _sources_problem)
MANY = Kind(SOURCES.wanted, _is_many)  # of any length: looked at one by one, as they are taken

PERSONS = Kind("a sequence of persons", _is_sequence, _persons_problem)

_BY_TYPE: Mapping[object, Kind] = {
    str: TEXT,
    bool: FLAG,
    int: INTEGER,
    float: NUMBER,
    os.PathLike[str]: PATH,
    Sequence[str]: TEXTS,
}

# What a media source is has many types and one meaning: these go by name, not by annotation.
_BY_NAME: Mapping[str, tuple[Kind, ...]] = {
    "source": (SOURCE,),
    "image": (SOURCE,),
    "sources": (MANY,),
    "persons": (PERSONS,),
    "captions.image.source": (SOURCE, SOURCES),
    "library.add_images.sources": (SOURCE, SOURCES),
}


def shown(value: object) -> str:
    """Return a value as a message may hold it: not all of a picture, and no key of a client."""
    return reprlib.repr(value)


def _kinds_of(annotation: object) -> tuple[Kind, ...]:
    if annotation is NoneType:
        return ()
    if get_origin(annotation) in (UnionType, Union):
        return tuple(kind for part in get_args(annotation) for kind in _kinds_of(part))
    if (kind := _BY_TYPE.get(annotation)) is not None:
        return (kind,)
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return (_choice(get_args(annotation)),)
    if isinstance(origin, type) and issubclass(origin, Callable | Awaitable):  # type: ignore[arg-type]  # an ABC
        return (HOOK,)
    if isinstance(origin, type):
        return (Kind(origin.__name__, lambda value: isinstance(value, origin)),)
    raise TypeError(f"no kind of argument is known for {annotation}")


def _choice(words: tuple[str, ...]) -> Kind:
    def problem(name: str, value: str) -> Problem:
        if value in words:
            return None
        return text_problem(name, value) or f"{name} is one of {', '.join(words)}, not {value!r}"

    return Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str), problem)


# --- the limits, by name ------------------------------------------------------------------------


def between(low: float, high: float) -> Callable[[str, Any], Problem]:
    """Refuse a number outside its range."""

    def problem(name: str, value: float) -> Problem:
        if low <= value <= high:
            return None
        if high == math.inf:
            return f"{name} must be at least {low}, not {value}"
        return f"{name} must be between {low} and {high}, not {value}"

    return problem


def at_most(limit: int) -> Callable[[str, Any], Problem]:
    """Refuse a text that is too long, or too many items."""

    def problem(name: str, value: str | Sequence[object]) -> Problem:
        if len(value) <= limit:
            return None
        if isinstance(value, str):
            return f"{name} has {len(value)} characters; the limit is {limit}"
        return f"{name}: {len(value)} given; the limit is {limit}"

    return problem


def efforts(name: str, value: int | str) -> Problem:
    """Refuse what is no effort: the page says "Level 1-10", and -1 is the model's own choice."""
    if str(value) in ("-1", *map(str, range(1, 11))):
        return None
    return f"{name} is 1 to 10, or -1 for the model's own choice, not {shown(value)}"


LONGEST_CAMERA_MODEL = 200
LONGEST_CALLBACK = 299
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


def written_as_documented(name: str, value: datetime | str) -> Problem:
    """Refuse a time that the service would refuse."""
    if isinstance(value, datetime):
        return a_real_moment(name, value)
    try:
        # strptime takes 2025-9-7 as well.
        exact = datetime.strptime(value, TIME_FORMAT).strftime(TIME_FORMAT) == value
    except ValueError:
        exact = False
    return None if exact else f"{name} is yyyy-MM-dd HH:mm:ss, not {shown(value)}"


def a_real_moment(name: str, value: datetime) -> Problem:
    """Refuse a time that cannot be converted: an offset would lead out of the calendar."""
    return None if 1 < value.year < 9999 else f"{name} is {value}; a moment of some year is wanted"


def no_other_place(name: str, value: str) -> Problem:
    """Refuse what means another place in a path."""
    if value.strip() in (".", ".."):
        return f"{shown(value)} is no {name}: in a path it means another place"
    return None


def no_nul(name: str, value: str | os.PathLike[str]) -> Problem:
    """Refuse a path that no file can have."""
    return f"{name} holds a NUL character" if "\0" in path_of(value) else None


LIMITS: Mapping[str, Callable[[str, Any], Problem]] = {
    "asset_id": no_other_place,
    "camera_model": at_most(LONGEST_CAMERA_MODEL),
    "concurrency": between(1, math.inf),
    "datetime_taken": written_as_documented,
    "destination": no_nul,
    "dimensionality": between(1, 2**31 - 1),
    "latitude": between(-90, 90),
    "longitude": between(-180, 180),
    "page_size": between(1, math.inf),
    "persons": at_most(5),
    "reasoning_effort": efforts,
    "similarity": between(0, 1),
    "taken_since": a_real_moment,
    "top_k": between(1, 1000),
    "within": between(0, math.inf),
    "library.add_images.tags": at_most(50),
    "library.add_video.callback": at_most(LONGEST_CALLBACK),
    "library.add_video.tags": at_most(20),
    "library.search.video_nos": at_most(100),
    "library.search_transcripts.page_size": between(1, 500),
}
"""What more is asked of a parameter: in every method, or in the one that is named before it."""


# --- applied ------------------------------------------------------------------------------------


@attrs.frozen
class Parameter:
    """One parameter of a public call.

    Attributes:
        name: Its name.
        kinds: What it may be.
        optional: Whether None says that it is not given.
        limit: What more is asked of it.
    """

    name: str
    kinds: tuple[Kind, ...]
    optional: bool
    limit: Callable[[str, Any], Problem] | None

    def problem(self, value: object) -> Problem:
        """Say what is wrong with a value, if anything."""
        if value is None and self.optional:
            return None
        for kind in self.kinds:
            if kind.fits(value):
                problem = None if self.limit is None else self.limit(self.name, value)
                return problem or kind.problem(self.name, value)
        if TEXTS in self.kinds and isinstance(value, str):
            return f"{self.name} is a sequence of texts, not one text"
        wanted = " or ".join(kind.wanted for kind in self.kinds)
        return f"{self.name} is {shown(value)}; {wanted} is wanted"


def parameters_of(function: Callable[..., object], label: str) -> dict[str, Parameter]:
    """Return the parameters of a public call, in their order.

    Args:
        function: The method.
        label: What it is called in messages, and in the tables above.
    """
    hints = get_type_hints(function)
    found: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        own = f"{label}.{name}"
        by_name = _BY_NAME.get(own) or _BY_NAME.get(name)
        found[name] = Parameter(
            name,
            by_name or _kinds_of(hints[name]),
            parameter.default is None,
            LIMITS.get(own) or LIMITS.get(name),
        )
    return found


class Door:
    """The parameters of one public call, read when it is first called."""

    def __init__(self, function: Callable[..., object], label: str) -> None:
        self._function = function
        self.label = label

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by its name, in their order."""
        return parameters_of(self._function, self.label)

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Hold what was given against what is wanted.

        Raises:
            ConfigurationError: One argument is wrong; call, parameter, value and what is allowed
                are in the message.
        """
        parameters = self.parameters
        for parameter, value in zip(parameters.values(), args, strict=False):
            if (problem := parameter.problem(value)) is not None:
                raise ConfigurationError(problem, operation=self.label)
        for name, value in kwargs.items():
            # An unknown name is for the function itself to refuse, as Python does.
            if name in parameters and (problem := parameters[name].problem(value)) is not None:
                raise ConfigurationError(problem, operation=self.label)
        if "latitude" in parameters and (
            (kwargs.get("latitude") is None) != (kwargs.get("longitude") is None)
        ):
            raise ConfigurationError(
                "latitude and longitude are given together or not at all", operation=self.label
            )


def checked(namespace: C) -> C:
    """Have every public method of a class check what it is given.

    Args:
        namespace: The class; its name in lower case begins the calls' names.
    """
    for name, function in list(vars(namespace).items()):
        if not name.startswith("_") and inspect.isfunction(function):
            door = Door(function, f"{namespace.__name__.lower()}.{name}")
            wrap: Callable[..., Any] = (
                _awaited if inspect.iscoroutinefunction(function) else _called
            )
            setattr(namespace, name, wrap(function, door))
    return namespace


def _awaited(function: Callable[..., Awaitable[Any]], door: Door) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        try:
            door.check(args, kwargs)
            return await function(self, *args, **kwargs)
        except MemoriesError as error:
            elsewhere = error.operation is not None and not error.operation.startswith(door.label)
            if error.attempts or elsewhere:
                raise
            # Nothing was sent: the endpoint's address says nothing, nor do the frames below.
            error.operation = door.label
            raise error.with_traceback(None)  # noqa: B904  # it is the same error

    return call


def _called(
    function: Callable[..., AsyncIterator[Any]], door: Door
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(function)
    def call(self: object, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            door.check(args, kwargs)
        except ConfigurationError as error:
            return _Refused(error)
        return function(self, *args, **kwargs)

    return call


@attrs.frozen
class _Refused(AsyncIterator[Any]):
    """Raises where the iteration begins, as everything else that is wrong with a batch."""

    error: ConfigurationError

    async def __anext__(self) -> Any:
        raise self.error.with_traceback(None)
