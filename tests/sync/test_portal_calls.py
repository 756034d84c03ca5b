"""Plain calls: one thread, one pool, one pacer; the caller's context, the original error."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from aiohttp import web
from anyio.from_thread import start_blocking_portal

from memories_async import Bucket, ClosedError, ConfigurationError, Media, NotFound, Rate
from memories_async.emulator import Emulator
from memories_async.limiters import MemoryLimiter
from memories_async.sync import Memories
from tests.sync.conftest import IMAGE_URL, KEY, MP4, PNG, client_for, loop_threads
from tests.virtual_clock import HurriedClock


class Crowd:
    """A server that answers nobody until so many are there at once, and counts them."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.here = 0
        self.most = 0
        self.url = ""

    async def __aenter__(self) -> Crowd:
        self._complete = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        self.here += 1
        self.most = max(self.most, self.here)
        if self.here == self.expected:
            self._complete.set()
        await self._complete.wait()
        self.here -= 1
        return web.json_response({"code": "0000", "data": {"text": "a crowd"}})


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Crowd(4)) as crowd,
    ):
        yield crowd


def test_the_thread_starts_with_the_first_call_and_serves_all(client: Memories) -> None:
    assert loop_threads() == []
    client.captions.image(PNG, "what")
    (thread,) = loop_threads()
    client.embeddings.image(PNG)
    assert loop_threads() == [thread]
    client.close()
    assert not thread.is_alive()


def test_many_threads_use_one_loop_and_one_pool(crowd: Crowd) -> None:
    with (
        Memories(KEY, caption_key=KEY, base_url=crowd.url, max_connections=4) as client,
        ThreadPoolExecutor(12) as callers,
    ):
        together = threading.Barrier(12)

        def call(number: int) -> str:
            together.wait()
            return client.captions.image(IMAGE_URL, f"what {number}").text

        assert list(callers.map(call, range(12))) == ["a crowd"] * 12
        assert len(loop_threads()) == 1
    assert crowd.most == 4  # twelve pools would have brought all twelve at once


def test_many_threads_use_one_pacer(emulator: Emulator) -> None:
    clock = HurriedClock()
    with (
        Memories(
            KEY,
            caption_key=KEY,
            base_url=emulator.url,
            rates={Bucket.CAPTION_IMAGE: Rate(1, 60)},
            limiter=MemoryLimiter(),
            clock=clock,
        ) as client,
        ThreadPoolExecutor(3) as callers,
    ):
        began = clock.now
        calls = [callers.submit(client.captions.image, PNG, "what") for _ in range(3)]
        assert all(call.result(20).text for call in calls)
        assert clock.now - began >= 120
    assert emulator.ledger.billed() == 3


TENANT: ContextVar[str] = ContextVar("TENANT")


def test_the_caller_s_context_variables_are_seen(client: Memories) -> None:
    seen: list[str] = []

    async def film() -> AsyncIterator[bytes]:
        seen.append(TENANT.get())
        yield MP4

    def call(tenant: str) -> None:
        TENANT.set(tenant)
        client.captions.video(Media(film(), name="film.mp4"), "what")

    with ThreadPoolExecutor(2) as callers:
        list(callers.map(call, ["red", "blue"]))
    assert sorted(seen) == ["blue", "red"]


def test_an_error_is_the_original_object(client: Memories) -> None:
    boom = ZeroDivisionError("in the caller's stream")

    async def film() -> AsyncIterator[bytes]:
        yield MP4
        raise boom

    with pytest.raises(ZeroDivisionError) as caught:
        client.captions.video(Media(film(), name="film.mp4"), "what")
    assert caught.value is boom
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "film"  # what is not ours keeps the frames it came from


def test_the_traceback_is_short(client: Memories) -> None:
    with pytest.raises(NotFound) as caught:
        client.library.video("VI0")
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames == ["test_the_traceback_is_short", "video", "run", "result"]
    assert caught.value.__context__ is None


def test_an_error_leaves_no_cycle_behind(client: Memories) -> None:
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ConfigurationError) as caught:
            client.captions.image(PNG, " ")
        error = weakref.ref(caught.value)
        del caught
        assert error() is None
    finally:
        gc.enable()


def test_results_are_the_asyncio_client_s(client: Memories, emulator: Emulator) -> None:
    images = client.library.add_images([PNG, PNG], tags=["a"])
    assert [type(image.id) for image in images] == [int, int]
    assert [entry.operation for entry in emulator.ledger] == ["add_images"]


def test_no_call_leaves_an_unawaited_coroutine(client: Memories) -> None:
    client.close()
    with pytest.raises(ClosedError):
        client.captions.image(PNG, "what")
    with pytest.raises(ClosedError):
        next(client.captions.images([PNG], "what"))


def test_repr_shows_no_key() -> None:
    client = client_for("http://127.0.0.1:1")
    assert repr(client) == "sync.Memories(base_url='http://127.0.0.1:1')"
    assert KEY not in repr(vars(client))
