"""What a parameter of a public call may be: by its annotation, and by what a mark says besides."""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from types import NoneType, SimpleNamespace, UnionType
from typing import (
    Any,
    ForwardRef,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from memories_async.checks.kinds import (
    ANY_TEXTS,
    ANYTHING,
    ASYNC_HOOK,
    BYTES,
    DECIMAL,
    FLAG,
    FREE,
    HOOK,
    INTEGER,
    MAPPING,
    NUMBER,
    NUMBERS,
    PATH,
    SEQUENCE,
    TEXT,
    TEXTS,
    Kind,
    Limit,
    Problem,
    instance_of,
    one_of,
    shown,
)
from memories_async.errors import ConfigurationError

_BY_TYPE: dict[object, Kind] = {
    str: TEXT,
    bool: FLAG,
    int: INTEGER,
    float: NUMBER,
    bytes: BYTES,
    object: ANYTHING,
    Any: ANYTHING,
    Decimal: DECIMAL,
    os.PathLike[str]: PATH,
    Sequence[str]: TEXTS,
    Collection[str]: ANY_TEXTS,
    Sequence[float]: NUMBERS,
    Iterable[float]: NUMBERS,
}
_ALIASES: list[tuple[frozenset[object], Kind]] = [(frozenset({str, os.PathLike[str]}), PATH)]


def means(annotation: object, kind: Kind) -> None:
    """Say what an annotation means where one class is not all that there is to say.

    Args:
        annotation: A type, or an alias of several: it may stand in a union with others.
        kind: What its values are.
    """
    if get_origin(annotation) in (UnionType, Union):
        _ALIASES.append((frozenset(get_args(annotation)), kind))
    else:
        _BY_TYPE[annotation] = kind


def kinds_of(annotation: object) -> tuple[Kind, ...]:
    """Return the kinds of argument that an annotation allows, beside None.

    Raises:
        TypeError: It says nothing that is known here.
    """
    if annotation is NoneType or annotation is None:
        return ()
    if isinstance(annotation, TypeVar | ForwardRef):
        return (ANYTHING,)
    if get_origin(annotation) in (UnionType, Union):
        parts = dict.fromkeys(get_args(annotation))
        kinds: list[Kind] = []
        for members, kind in sorted(_ALIASES, key=lambda alias: -len(alias[0])):
            if members <= parts.keys():
                kinds.append(kind)
                parts = dict.fromkeys(part for part in parts if part not in members)
        kinds += [kind for part in parts for kind in kinds_of(part)]
        return tuple(dict.fromkeys(kinds))
    if annotation in _BY_TYPE:
        return (_BY_TYPE[annotation],)
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return (one_of(*get_args(annotation)),)
    if not isinstance(origin, type):
        raise TypeError(f"no kind of argument is known for {annotation}")
    if issubclass(origin, Callable):  # type: ignore[arg-type]  # an ABC
        *_, returned = get_args(annotation) or (object,)
        awaited = issubclass(get_origin(returned) or object, Awaitable)
        return (ASYNC_HOOK if awaited else HOOK,)
    if issubclass(origin, Mapping) and get_args(annotation)[:1] == (str,):
        return (MAPPING,)
    if issubclass(origin, Sequence) and origin is not tuple:
        return (SEQUENCE,)
    known: type[object] = cast("Any", origin)
    return (instance_of(known, wanted=_NAMES.get(known)),)


_NAMES: Mapping[type[object], str] = {Iterable: "an iterable", Mapping: "a mapping"}


def between(low: float, high: float) -> Limit:
    """Refuse a number outside its range."""

    def problem(name: str, value: float) -> Problem:
        if low <= value <= high:
            return None
        if high == math.inf:
            return f"{name} must be at least {low}, not {shown(value)}"
        return f"{name} must be between {low} and {high}, not {shown(value)}"

    return problem


def at_most(limit: int) -> Limit:
    """Refuse a text that is too long, or too many items."""

    def problem(name: str, value: str | Sequence[object]) -> Problem:
        if len(value) <= limit:
            return None
        if isinstance(value, str):
            return f"{name} has {len(value)} characters; the limit is {limit}"
        return f"{name}: {len(value)} given; the limit is {limit}"

    return problem


# --- one parameter, and all of a call ---

_PLAIN = (str, int, float, bool, NoneType)


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
    limit: Limit | None

    def problem(self, value: object) -> Problem:
        """Say what is wrong with a value, if anything."""
        try:
            self.read(value, self.name)
        except ConfigurationError as error:
            return error.message
        return None

    def read(self, value: object, label: str) -> object:
        """Return a value as the call takes it.

        Raises:
            ConfigurationError: It is not what is wanted.
        """
        if value is None and self.optional:
            return value
        for kind in self.kinds:
            if kind.fits(value):
                if kind.plain is not None and type(value) not in _PLAIN:
                    value = kind.plain(value)
                problem = None if self.limit is None else self.limit(self.name, value)
                problem = problem or kind.problem(self.name, value)
                break
        else:
            problem = self._misfit(value)
        if problem is not None:
            raise ConfigurationError(problem, operation=label)
        return value

    def _misfit(self, value: object) -> str:
        if TEXTS in self.kinds and isinstance(value, str):
            return f"{self.name} is a sequence of texts, not one text"
        wanted = " or ".join(kind.wanted for kind in self.kinds) or "None"
        if any(kind.secret for kind in self.kinds):
            # Of the value its kind alone is shown: read from a file, bytes are the key itself.
            return f"{self.name} is of type {type(value).__name__}; {wanted} is wanted"
        return f"{self.name} is {shown(value)}; {wanted} is wanted"


Mark = Kind | Limit
"""What a mark says of a parameter: another kind than its annotation's, or a limit besides."""


def parameters_of(
    function: Callable[..., object],
    label: str,
    marks: Mapping[str, Mark],
    *,
    model: bool = False,
    owner: type | None = None,
) -> dict[str, Parameter]:
    """Return the parameters of a public call, in their order.

    Args:
        function: The method or function.
        label: What it is called in messages, and in ``marks``.
        marks: What more is to be said of a parameter, by ``name`` or by ``label.name``.
        model: Whether it makes a value that comes from the service, texts and numbers of any kind.
        owner: The class that it belongs to.
    """
    given = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "cls")
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    said = {name: marks.get(f"{label}.{name}") or marks.get(name) for name in given}
    # What a mark names may be of a type that only checkers import.
    annotations = {
        name: parameter.annotation
        for name, parameter in given.items()
        if not isinstance(said[name], Kind)
    }
    hints = get_type_hints(
        SimpleNamespace(__annotations__=annotations),
        globalns=_names_in(owner, function),
    )
    found: dict[str, Parameter] = {}
    for name, parameter in given.items():
        mark = said[name]
        kinds = (mark,) if isinstance(mark, Kind) else kinds_of(hints[name])
        if model:
            kinds = tuple(FREE.get(kind, kind) for kind in kinds)
        optional = (
            parameter.default is None
            or str(parameter.annotation).endswith("| None")
            or NoneType in get_args(hints.get(name))
        )
        limit = None if isinstance(mark, Kind) else mark
        found[name] = Parameter(name, kinds, optional, limit)
    return found


def _names_in(owner: type | None, function: Callable[..., object]) -> dict[str, Any]:
    """Return what annotations may name: what attrs inherits, was annotated in another module."""
    names: dict[str, Any] = {}
    for kind in reversed(owner.__mro__ if owner else ()):
        names |= vars(sys.modules[kind.__module__])
    return names | vars(sys.modules[function.__module__])


class CallChecker:
    """The parameters of one public call, read when it is first called."""

    def __init__(
        self,
        function: Callable[..., object],
        label: str,
        marks: Mapping[str, Mark],
        together: tuple[str, ...] = (),
        *,
        model: bool = False,
        owner: type | None = None,
    ) -> None:
        self._model = model
        self._owner = owner
        self._function = function
        self._marks = marks
        self._together = together
        self.label = label

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by its name, in their order."""
        return parameters_of(
            self._function, self.label, self._marks, model=self._model, owner=self._owner
        )

    @functools.cached_property
    def _positional(self) -> tuple[Parameter, ...]:
        signature = inspect.signature(self._function)
        return tuple(
            parameter
            for name, parameter in self.parameters.items()
            if signature.parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY
        )

    @functools.cached_property
    def _pair(self) -> tuple[str, ...]:
        return self._together if self.parameters.keys() >= {*self._together} else ()

    def check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, ...]:
        """Hold what was given against what is wanted.

        Args:
            args: What was given by position.
            kwargs: What was given by name; numbers and texts of other types become Python's own.

        Returns:
            What was given by position, in the same way.

        Raises:
            ConfigurationError: One argument is wrong; call, parameter, value and what is allowed
                are in the message.
        """
        parameters, label = self.parameters, self.label
        if args:
            places = zip(self._positional, args, strict=False)
            taken = [place.read(value, label) for place, value in places]
            args = (*taken, *args[len(taken) :])
        for name, value in kwargs.items():
            parameter = parameters.get(name)
            # An unknown name is for the function itself to refuse, as Python does.
            if parameter is not None:
                kwargs[name] = parameter.read(value, label)
        if pair := self._pair:
            given = [kwargs.get(name) is not None for name in pair]
            if any(given) and not all(given):
                raise ConfigurationError(
                    f"{' and '.join(pair)} are given together or not at all", operation=label
                )
        return args
