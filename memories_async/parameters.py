"""What public calls and constructors are given, checked by the annotations of their parameters.

A class or a function is marked with ``@checked`` and writes no check itself: before its body runs,
and so before a file, a thread or a socket is opened, every argument is held against its annotation
(the type) and against what the mark says besides (its limit). The annotations are read once.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import NoneType, SimpleNamespace
from typing import Any, TypeVar, cast, get_args, get_type_hints, overload

import attrs

from memories_async.arguments import FREE, TEXTS, Kind, Limit, Problem, kinds_of, shown
from memories_async.errors import ConfigurationError, MemoriesError

C = TypeVar("C", bound=Callable[..., object])
"""A class or a function."""

T = TypeVar("T")

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


class Door:
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


@overload
def checked(marked: C, /) -> C: ...
@overload
def checked(
    marks: Mapping[str, Mark] = ...,
    /,
    *,
    namespace: bool = ...,
    model: bool = ...,
    together: tuple[str, ...] = ...,
) -> Callable[[C], C]: ...
def checked(
    marks: Any = None,
    /,
    *,
    namespace: bool = False,
    model: bool = False,
    together: tuple[str, ...] = (),
) -> Any:
    """Have a function, or a class's constructor and every public method, check what it is given.

    Args:
        marks: What more is to be said of parameters, by ``name`` or by ``method.name``; or what is
            to be checked itself, where there is no more to be said.
        namespace: Whether the class is made by its client alone; its name in lower case begins the
            calls' names, and what its methods raise before anything was sent is named after them.
        model: Whether it is a value that comes from the service, texts and numbers of any kind.
        together: Parameters that are given together or not at all.
    """
    if callable(marks):
        return checked({})(marks)

    def mark(target: C) -> C:
        make = functools.partial(_checked_call, marks=marks or {}, together=together, model=model)
        if not isinstance(target, type):
            label = target.__qualname__.removesuffix(".__init__").removesuffix(".__new__")
            return cast("C", make(target, label=label))
        label = target.__name__.lower() if namespace else target.__name__
        make = functools.partial(make, owner=target)
        for name, member in list(vars(target).items()):
            own = f"{label}.{name}"
            if name == "__init__" and not namespace:
                setattr(target, name, make(member, label=target.__name__))
            elif name.startswith("_"):
                continue
            elif isinstance(member, classmethod | staticmethod):
                kind: Any = type(cast("object", member))
                setattr(target, name, kind(make(cast("Any", member).__func__, label=own)))
            elif isinstance(member, property) and member.fset is not None:
                setattr(target, name, member.setter(make(member.fset, label=own)))
            elif inspect.isfunction(member):
                setattr(target, name, make(member, label=own, named=namespace))
        return cast("C", target)

    return mark


def unchecked(model: type[T], /, *args: object, **fields: object) -> T:
    """Make an instance of a checked class of what is known to be right, past the door."""
    made = object.__new__(model)
    init: Any = model.__init__
    getattr(init, "__wrapped__", init)(made, *args, **fields)
    return made


def _checked_call(
    function: Callable[..., Any],
    *,
    label: str,
    marks: Mapping[str, Mark],
    together: tuple[str, ...],
    model: bool,
    owner: type | None = None,
    named: bool = False,
) -> Callable[..., Any]:
    door = Door(function, label, marks, together, model=model, owner=owner)
    returned = str(getattr(function, "__annotations__", {}).get("return", ""))
    if inspect.iscoroutinefunction(function):
        return _named(function, door) if named else _awaited(function, door)
    if returned.startswith(("AsyncIterator", "collections.abc.AsyncIterator")):
        return _iterated(function, door)
    return _called(function, door)


def _called(function: Callable[..., Any], door: Door) -> Callable[..., Any]:
    first = int(_is_method(function))  # where what is checked begins

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            args = (*args[:first], *door.check(args[first:], kwargs))
        except ConfigurationError as error:
            raise error.with_traceback(None)  # noqa: B904  # it is the same error
        return function(*args, **kwargs)

    return call


def _is_method(function: Callable[..., Any]) -> bool:
    return next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def _awaited(function: Callable[..., Awaitable[Any]], door: Door) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        try:
            args = door.check(args, kwargs)
        except ConfigurationError as error:
            raise error.with_traceback(None)  # noqa: B904  # it is the same error
        return await function(self, *args, **kwargs)

    return call


def _named(function: Callable[..., Awaitable[Any]], door: Door) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return await function(self, *door.check(args, kwargs), **kwargs)
        except MemoriesError as error:
            elsewhere = error.operation is not None and not error.operation.startswith(door.label)
            if error.attempts or elsewhere:
                raise
            # Nothing was sent: the endpoint's address says nothing, nor do the frames below.
            error.operation = door.label
            raise error.with_traceback(None)  # noqa: B904  # it is the same error

    return call


def _iterated(
    function: Callable[..., AsyncIterator[Any]], door: Door
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(function)
    def call(self: object, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            args = door.check(args, kwargs)
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
