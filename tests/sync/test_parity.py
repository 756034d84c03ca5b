"""The two colours are one API: the same names, parameters, defaults, annotations and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memories_async import Memories as AsyncMemories
from memories_async.sync import Memories

RENAMED = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}


def namespaces(client: type[object]) -> dict[str, str]:
    """Return the attributes that a client class declares, and their types."""
    return dict(inspect.get_annotations(client))


def pairs() -> Iterator[tuple[str, type[object], type[object]]]:
    """Yield every class of the asyncio colour with its blocking twin."""
    yield "Memories", AsyncMemories, Memories
    ours, theirs = AsyncMemories("key"), Memories("key")
    for name in namespaces(AsyncMemories):
        yield name, type(getattr(ours, name)), type(getattr(theirs, name))


def public(kind: type[object]) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


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
    assert set(public(blocking_class)) == expected
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


def assert_same_signature(ours: Callable[..., object], twin: Callable[..., object]) -> None:
    asyncio_signature, signature = inspect.signature(ours), inspect.signature(twin)
    assert list(signature.parameters.values()) == list(asyncio_signature.parameters.values())
    returned = str(asyncio_signature.return_annotation)
    assert signature.return_annotation == returned.replace("AsyncIterator[", "Iterator[")


def test_the_constructors_are_the_same() -> None:
    assert_same_signature(AsyncMemories.__init__, Memories.__init__)


@pytest.mark.parametrize("name", ["__repr__", "__aenter__", "__aexit__"])
def test_the_protocols_are_the_same(name: str) -> None:
    assert_same_signature(getattr(AsyncMemories, name), getattr(Memories, RENAMED.get(name, name)))
