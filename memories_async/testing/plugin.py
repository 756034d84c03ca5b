"""Fixtures for the tests of applications: they cost nothing, need no network and no event loop.

What loads with every pytest run imports nothing but pytest: the emulator comes with the first
test that asks for it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from memories_async import Memories
    from memories_async.emulator import Emulator, InjectedFault
    from memories_async.sync import Memories as BlockingMemories

KEY = "a-key-for-tests"
"""What stands in ``MEMORIES_API_KEY`` and ``MEMORIES_CAPTION_KEY``; the emulator takes any."""

MARKER = "memories_fault(operation, effect, *, nth=1, times=1, moment='body', latency=0.0)"
"""The marker, as InjectedFault takes it; written out, for that comes only with the emulator."""


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
        f"{MARKER}: let a call fail in the emulator; what it takes is what InjectedFault takes, "
        "and effect may be the name of a Reason",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse the marker on a test that has no emulator: nothing would go wrong there."""
    fixtures: Collection[str] = getattr(item, "fixturenames", ())
    if "memories_emulator" not in fixtures and item.get_closest_marker("memories_fault"):
        raise pytest.UsageError(
            "memories_fault: the test uses neither memories_emulator nor a client of it; "
            "where it is only needed behind it: @pytest.mark.usefixtures('memories_emulator')"
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
        emulator.faults.add(_fault(mark))
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


def _fault(mark: pytest.Mark) -> InjectedFault:
    from memories_async.emulator import InjectedFault
    from memories_async.errors import ConfigurationError

    try:
        inspect.signature(InjectedFault).bind(*mark.args, **mark.kwargs)
        return InjectedFault(*mark.args, **mark.kwargs)
    except (ConfigurationError, TypeError) as error:
        raise pytest.UsageError(f"{MARKER}: {error}") from None
