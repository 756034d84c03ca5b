"""The mark by which public calls and constructors are checked before they do anything.

A class or a function is marked with ``@checked`` and writes no check itself: before its body runs,
and so before a file, a thread or a socket is opened, every argument is held against its annotation
(the type) and against what the mark says besides (its limit). The annotations are read once.

May import errors.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast, overload

import attrs

from memories_async.checks.parameters import CallChecker, Mark
from memories_async.errors import ConfigurationError as ConfigurationError  # what it raises
from memories_async.errors import MemoriesError

C = TypeVar("C", bound=Callable[..., object])
"""A class or a function."""

T = TypeVar("T")


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
    """Make an instance of a checked class of what is known to be right, without the checks."""
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
    checker = CallChecker(function, label, marks, together, model=model, owner=owner)
    returned = str(getattr(function, "__annotations__", {}).get("return", ""))
    if inspect.iscoroutinefunction(function):
        return _named(function, checker) if named else _awaited(function, checker)
    if returned.startswith(("AsyncIterator", "collections.abc.AsyncIterator")):
        return _iterated(function, checker)
    return _called(function, checker)


def _called(function: Callable[..., Any], checker: CallChecker) -> Callable[..., Any]:
    first = int(_is_method(function))  # where what is checked begins

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            args = (*args[:first], *checker.check(args[first:], kwargs))
        except ConfigurationError as error:
            raise error.with_traceback(None)  # noqa: B904  # it is the same error
        return function(*args, **kwargs)

    return call


def _is_method(function: Callable[..., Any]) -> bool:
    return next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def _awaited(function: Callable[..., Awaitable[Any]], checker: CallChecker) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        try:
            args = checker.check(args, kwargs)
        except ConfigurationError as error:
            raise error.with_traceback(None)  # noqa: B904  # it is the same error
        return await function(self, *args, **kwargs)

    return call


def _named(function: Callable[..., Awaitable[Any]], checker: CallChecker) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return await function(self, *checker.check(args, kwargs), **kwargs)
        except MemoriesError as error:
            elsewhere = error.operation is not None and not error.operation.startswith(
                checker.label
            )
            if error.attempts or elsewhere:
                raise
            # Nothing was sent: the endpoint's address says nothing, nor do the frames below.
            error.operation = checker.label
            raise error.with_traceback(None)  # noqa: B904  # it is the same error

    return call


def _iterated(
    function: Callable[..., AsyncIterator[Any]], checker: CallChecker
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(function)
    def call(self: object, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            args = checker.check(args, kwargs)
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
