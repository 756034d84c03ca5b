"""A stage for faults: an emulator, a proxy in front of it, a client, and time under control."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from memories_async import CallOptions, Memories, MemoriesError
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from tests.conftest import PatientLoop
from tests.faults.proxy import Proxy
from tests.observe.recorded_events import RecordedEvents
from tests.virtual_clock import HurriedClock

SENTINEL = "sk-mavi-SENTINEL0123456789abcdefKEY0"
CAPTION_SENTINEL = "sk-SENTINELfedcba9876543210CAPTION0"

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(1000)
FILM_SIZE = 50 * 1024 * 1024
"""The 50 MB upload of the matrix: at 75 % more is left than all socket buffers hold."""


PATIENCE = 20.0
"""Real seconds after which a clock leaps though it may not, so that a test that fails ends."""


class LeapingClock(HurriedClock):
    """Wakes sleepers in the order of their times, after a moment in which sockets may move.

    Args:
        chance: What ``random`` returns: the share of the longest backoff.
        moment: Real seconds before time leaps to the earliest sleeper.

    Attributes:
        moment: The same.
        may_leap: Whether what a test wants to happen before has happened.
        on_sleep: Called with the number of each sleep, from 1.
    """

    def __init__(self, chance: float = 0.5, moment: float = 0.001) -> None:
        super().__init__(chance)
        self.on_sleep: Callable[[int], object] = lambda number: None
        self.may_leap: Callable[[], object] = lambda: True
        self.moment = moment
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._leaping = False

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep(len(self.slept))
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), wake))
        self._schedule()
        await wake

    def _schedule(self) -> None:
        if not self._leaping and self._sleepers:
            self._leaping = True
            self._wait(time.monotonic() + PATIENCE)

    def _wait(self, latest: float) -> None:
        asyncio.get_running_loop().call_later(self.moment, self._leap, latest)

    def _leap(self, latest: float) -> None:
        if not self.may_leap() and time.monotonic() < latest:
            self._wait(latest)
            return
        self._leaping = False
        while self._sleepers:
            at, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                self.now = max(self.now, at)
                wake.set_result(None)
                break
        self._schedule()


@attrs.define
class Stage:
    """What one row plays on.

    Attributes:
        emulator: The service, with its ledger and its fault switch.
        proxy: What clients connect to.
        clock: The engine's time.
        recorded: What every client's observer was told.
    """

    emulator: Emulator
    proxy: Proxy
    clock: LeapingClock
    recorded: RecordedEvents = attrs.field(factory=RecordedEvents)
    _clients: list[Memories] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        """The proxy's address."""
        return f"http://localhost:{self.proxy.port}"

    def client(self, **changes: Any) -> Memories:
        """Make a client that is closed with the stage."""
        arguments: dict[str, Any] = {"caption_key": CAPTION_SENTINEL, "base_url": self.url}
        arguments |= {"clock": self.clock, "observers": [self.recorded]}
        client = Memories(SENTINEL, **(arguments | changes))
        self._clients.append(client)
        return client

    async def saw(self, requests: int, billed: int) -> None:
        """Assert what the emulator's ledger holds once every request has come to its end."""
        ledger = self.emulator.ledger
        await until(lambda: all(entry.finished_at is not None for entry in ledger))
        assert (len(ledger), ledger.billed()) == (requests, billed), list(ledger)
        self.check_recorded()

    def check_recorded(self) -> None:
        """Assert that observers were told of all that the ledger holds, and of no more."""
        self.recorded.check()
        certain, perhaps = self.recorded.charged("billed"), self.recorded.charged("perhaps billed")
        assert certain <= self.emulator.ledger.billed() <= certain + perhaps, (
            self.recorded.summary()
        )

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()
        await self.proxy.stop()


@contextlib.asynccontextmanager
async def on_stage() -> AsyncIterator[Stage]:
    """Set a stage, and clear it whatever happens on it."""
    async with Emulator(HashEngine()) as emulator:
        proxy = Proxy(port_of(emulator.url))
        proxy.start()
        stage = Stage(emulator, proxy, LeapingClock())
        try:
            yield stage
        finally:
            await stage.aclose()
        stage.recorded.check()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with on_stage() as stage:
        yield stage


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A film of 50 MB, of which the disk holds one block."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    with open(path, "wb") as file:
        file.write(b"\x00\x00\x00\x18ftypmp42")
        file.truncate(FILM_SIZE)
    yield path
    path.unlink()


def port_of(url: str) -> int:
    """Return the port in an address."""
    return int(url.rpartition(":")[2])


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait for what another task does without telling."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.001)


def pass_time(seconds: float = 1.0) -> None:
    """Let the loop's time go on at once: a limit need neither be short nor be waited for."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    loop.leap(seconds)


async def time_passes(until_then: Callable[[], object]) -> None:
    """Let a second pass each millisecond, until a limit has ended what it is for."""
    while not until_then():
        pass_time()
        await asyncio.sleep(0.001)


async def time_passes_while(call: asyncio.Future[object], moved: Callable[[], object]) -> None:
    """Let a second pass each time that something has moved, until a call has ended."""
    seen = moved()
    while not call.done():
        await asyncio.sleep(0.001)
        if seen != (seen := moved()):
            pass_time()


async def late_failure_of(call: Awaitable[object], once: Callable[[], object]) -> MemoriesError:
    """Return the error that a call ends with after a limit, whose time passes from a moment on."""
    calling = asyncio.ensure_future(failure_of(call))
    await until(lambda: once() or calling.done())
    await time_passes(calling.done)
    return await calling


async def failure_of(call: Awaitable[object]) -> MemoriesError:
    """Return the error that a call ends with."""
    with pytest.raises(MemoriesError) as caught:
        await call
    return caught.value


async def caption(client: Memories, options: CallOptions | None = None) -> object:
    """Make the matrix's light billed call: one small multipart request."""
    return await client.captions.image(PNG, "what", options=options)


async def embed(client: Memories, options: CallOptions | None = None) -> object:
    """Make a billed call on another bucket and host."""
    return await client.embeddings.image(PNG, options=options)


async def stored_video(stage: Stage) -> str:
    """Put a video into the library for free reads, and forget that it took a request."""
    video = await stage.client(base_url=stage.emulator.url).library.add_video(MP4)
    stage.emulator.ledger.clear()
    stage.recorded.events.clear()
    return video.video_no
