"""The two colours are one API: the same names, parameters, defaults, annotations and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memories_async import Memories as AsyncMemories
from memories_async.bulk import Job as AsyncJob
from memories_async.callbacks import CallbackInbox as AsyncInbox
from memories_async.sync import CallbackInbox, Job, Memories

RENAMED = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}


def namespaces(client: type[object]) -> dict[str, str]:
    """Return the attributes that a client class declares, and their types."""
    return dict(inspect.get_annotations(client))


def pairs() -> Iterator[tuple[str, type[object], type[object]]]:
    """Yield every class of the asyncio client with its blocking twin."""
    yield "Memories", AsyncMemories, Memories
    yield "CallbackInbox", AsyncInbox, CallbackInbox
    yield "Job", AsyncJob, Job
    ours, theirs = AsyncMemories("key"), Memories("key")
    for name in namespaces(AsyncMemories):
        yield name, type(getattr(ours, name)), type(getattr(theirs, name))


def public(kind: type[object]) -> dict[str, Any]:
    """Return what a class says that it has, but for attributes that every instance sets."""
    return {
        name: getattr(kind, name) if isinstance(value, classmethod) else value
        for name, value in vars(kind).items()
        if not name.startswith("_")
    }


EACH_CLASS = pytest.mark.parametrize(
    ("asyncio_class", "blocking_class"),
    [pytest.param(*classes, id=name) for name, *classes in pairs()],
)
EACH_METHOD = pytest.mark.parametrize(
    ("ours", "twin"),
    [
        pytest.param(
            function,
            getattr(blocking_class, RENAMED.get(name, name), None),
            id=f"{label}.{name}",
        )
        for label, asyncio_class, blocking_class in pairs()
        for name, function in public(asyncio_class).items()
        if callable(function)
    ],
)


def test_the_namespaces_are_the_same() -> None:
    assert namespaces(AsyncMemories) == namespaces(Memories)
    assert namespaces(AsyncMemories)


@EACH_CLASS
def test_the_names_are_the_same(asyncio_class: type[object], blocking_class: type[object]) -> None:
    expected = {RENAMED.get(name, name) for name in public(asyncio_class)}
    attributes = set(blocking_class.__annotations__) | {
        name
        for name, value in public(blocking_class).items()
        if isinstance(value, property) and "As the class says" in (value.__doc__ or "")
    }
    assert set(public(blocking_class)) - attributes == expected - attributes
    assert blocking_class.__name__ == asyncio_class.__name__


@EACH_CLASS
def test_the_classes_say_the_same(
    asyncio_class: type[object], blocking_class: type[object]
) -> None:
    assert blocking_class.__doc__ == asyncio_class.__doc__


@EACH_METHOD
def test_each_method_is_the_same(
    ours: Callable[..., object], twin: Callable[..., object] | None
) -> None:
    assert twin is not None
    assert twin.__doc__ == ours.__doc__
    assert_same_signature(ours, twin)
    assert not inspect.iscoroutinefunction(twin)


def blocking(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter as the blocking twin has it: what is awaited there is called here."""
    if parameter.annotation is parameter.empty:
        return parameter
    spelled = re.sub(r"\bAwaitable\[([^\[\]]+)\]", r"\1", str(parameter.annotation))
    return parameter.replace(annotation=spelled)


def assert_same_signature(ours: Callable[..., object], twin: Callable[..., object]) -> None:
    asyncio_signature, signature = inspect.signature(ours), inspect.signature(twin)
    assert [blocking(parameter) for parameter in asyncio_signature.parameters.values()] == list(
        signature.parameters.values()
    )
    returned = str(asyncio_signature.return_annotation)
    assert signature.return_annotation == returned.replace("AsyncIterator[", "Iterator[")


def test_the_constructors_are_the_same() -> None:
    assert_same_signature(AsyncMemories.__init__, Memories.__init__)
    assert_same_signature(AsyncInbox.__init__, CallbackInbox.__init__)


def test_which_colour_it_is_can_be_seen() -> None:
    assert repr(Memories("key")) == f"sync.{AsyncMemories('key')!r}"


@pytest.mark.parametrize("name", ["__repr__", "__aenter__", "__aexit__"])
def test_the_protocols_are_the_same(name: str) -> None:
    assert_same_signature(getattr(AsyncMemories, name), getattr(Memories, RENAMED.get(name, name)))
