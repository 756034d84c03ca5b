"""Fixtures for the tests of applications: they cost nothing, need no network and no event loop.

What loads with every pytest run imports nothing but pytest: the emulator comes with the first
test that asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from memories_async import Memories
    from memories_async.emulator import Emulator
    from memories_async.sync import Memories as BlockingMemories

KEY = "a-key-for-tests"
"""What stands in ``MEMORIES_API_KEY`` and ``MEMORIES_CAPTION_KEY``; the emulator takes any."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting of the engine."""
    parser.addini(
        "memories_engine",
        "What the emulator of the fixtures answers with: 'hash' (at once, any bytes will do) "
        "or 'pixels' (real media, needs memories-async[emulator])",
        default="hash",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line(
        "markers",
        "memories_fault(operation, reason, *, nth=1, times=1, ...): "
        "let a call fail in the emulator; reason is an effect, or the name of a Reason",
    )


@pytest.fixture(scope="session")
def memories_emulator_server(pytestconfig: pytest.Config) -> Iterator[Emulator]:
    """One running emulator for the whole session, in a thread of its own.

    Overwrite it to run another one: with an engine of your own, or with limits.
    """
    from memories_async.emulator import Emulator

    with Emulator(_engine(pytestconfig.getini("memories_engine"))) as emulator:
        yield emulator


@pytest.fixture
def memories_emulator(
    memories_emulator_server: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Emulator]:
    """The emulator, with an empty ledger and library, no faults and no chosen answers.

    The environment is set so that an application that makes its own ``Memories()`` reaches it.
    """
    emulator = memories_emulator_server
    emulator.reset()
    monkeypatch.setenv("MEMORIES_BASE_URL", emulator.url)
    monkeypatch.setenv("MEMORIES_API_KEY", KEY)
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", KEY)
    for mark in request.node.iter_markers("memories_fault"):
        emulator.faults.add(_fault(*mark.args, **mark.kwargs))
    yield emulator
    emulator.reset()


@pytest.fixture
def memories(memories_emulator: Emulator) -> Iterator[Memories]:
    """An asyncio client of the emulator; closed after the test, whichever loop that ran on."""
    from memories_async import Memories

    client = Memories()
    yield client
    # A loop of its own: the test's may have ended, and whose it was no plugin need tell.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(client.aclose())
    finally:
        loop.close()


@pytest.fixture
def blocking_memories(memories_emulator: Emulator) -> Iterator[BlockingMemories]:
    """A blocking client of the emulator."""
    from memories_async.sync import Memories

    with Memories() as client:
        yield client


def _engine(name: str) -> Any:
    match name:
        case "hash":
            from memories_async.emulator.engines.hashing import HashEngine

            return HashEngine()
        case "pixels":
            from memories_async.emulator.engines.pixels import PixelEngine

            return PixelEngine()
        case _:
            raise pytest.UsageError(f"memories_engine is {name!r}: 'hash' or 'pixels' is wanted")


def _fault(operation: str | None = None, effect: Any = None, **options: Any) -> Any:
    from memories_async.emulator import InjectedFault, Reason

    if isinstance(effect, str):
        try:
            effect = Reason[effect.upper()]
        except KeyError:
            names = ", ".join(reason.name for reason in Reason)
            raise pytest.UsageError(f"no reason is called {effect!r}: one of {names}") from None
    return InjectedFault(operation, effect, **options)
