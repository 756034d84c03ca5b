"""A call that ends while its answer is there, or all is sent: nothing paid for is lost unsaid."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import ClosedError, Media, Memories, MemoriesError, OutcomeUnknown, Progress
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-0123456789"
PNG = b"\x89PNG\r\n\x1a\n"


async def speak(conversation: Conversation) -> None:
    while True:
        await conversation.request()
        await conversation.send(answer({"video_no": "VI1", "text": "A cat.", "id": 1}))


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer(speak) as server:
        yield server


@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_a_hook_that_raises_at_the_end_is_told_of_the_bill(
    size: int, server: RawServer, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(size))

    def raise_at_the_end(progress: Progress) -> None:
        if progress.sent == progress.total:
            raise KeyError("of the caller's own")

    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        with pytest.raises(KeyError) as caught:
            await client.captions.video(film, "What?", on_progress=raise_at_the_end)
    assert "it may have been billed" in str(caught.value.__notes__)


async def test_a_hook_that_raises_before_the_end_has_cost_nothing(
    server: RawServer, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(20_000_000))

    def raise_at_once(progress: Progress) -> None:
        raise KeyError("of the caller's own")

    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        with pytest.raises(KeyError) as caught:
            await client.captions.video(film, "What?", on_progress=raise_at_once)
    assert not hasattr(caught.value, "__notes__")
    assert server.requests == []


@pytest.mark.parametrize("at_the_end", [True, False])
async def test_a_hook_that_raises_a_cancellation_ends_the_call_with_it(
    at_the_end: bool, server: RawServer, tmp_path: Path
) -> None:
    """It is no unknown outcome: nothing but the hook's own exception tells why the call ended."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(2_000_000))

    def cancel(progress: Progress) -> None:
        if not at_the_end or progress.sent == progress.total:
            raise asyncio.CancelledError

    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        with pytest.raises(asyncio.CancelledError) as caught:
            await client.captions.video(film, "What?", on_progress=cancel)
    assert ("billed" in str(getattr(caught.value, "__notes__", ""))) is at_the_end
    assert at_the_end or server.requests == []


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
async def test_a_stream_that_raises_no_common_exception_ends_the_call_with_it(
    kind: type[BaseException], server: RawServer
) -> None:
    """aiohttp, in whose task a stream is read, waits on for the answer to half a request."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"\0\0\0\x18ftypmp42"
        raise kind("of the caller's own")

    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        with pytest.raises(kind, match="of the caller's own"):
            await client.captions.video(Media(stream(), "a.mp4", "video/mp4"), "What?")
    assert server.requests == []


@pytest.mark.parametrize("billed", [True, False])
async def test_a_cancellation_in_the_very_moment_of_the_answer_is_told_of_the_bill(
    billed: bool,
) -> None:
    """At each step of the loop after the answer was sent: either a result, or a note."""
    for steps in range(40):
        sent = asyncio.Event()

        async def serve(conversation: Conversation, sent: asyncio.Event = sent) -> None:
            await conversation.request()
            await conversation.send(answer({"video_no": "VI1", "text": "A cat."}))
            sent.set()
            await conversation.reader.read()

        async with (
            RawServer(serve) as server,
            Memories(KEY, caption_key=KEY, base_url=server.url) as client,
        ):
            call = asyncio.ensure_future(
                client.captions.image(PNG, "?") if billed else client.library.video("VI1")
            )
            await sent.wait()
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            try:
                outcome = await call
            except asyncio.CancelledError as error:
                notes = str(getattr(error, "__notes__", ""))
                assert ("may have been billed" in notes) == billed, steps
                continue
        assert outcome.attempts == 1
        break
    else:
        pytest.fail("the answer never came")


async def test_a_client_that_is_closed_under_its_calls() -> None:
    """At each step of the loop: no error but our own, and no request a second time."""
    for steps in range(25):
        begun = asyncio.Event()

        async def serve(conversation: Conversation, begun: asyncio.Event = begun) -> None:
            begun.set()
            await conversation.request()
            await conversation.reader.read()

        async with RawServer(serve) as server:
            client = Memories(KEY, base_url=server.url, clock=HurriedClock())
            await client._dispatcher.engine()
            calls = [asyncio.ensure_future(client.embeddings.image(PNG)) for _ in range(3)]
            for _ in range(steps):
                await asyncio.sleep(0)
            await client.aclose()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(one, MemoriesError) for one in outcomes), (steps, outcomes)
            assert all(isinstance(one, ClosedError | OutcomeUnknown) for one in outcomes), outcomes
            assert len(server.requests) <= 3


async def test_a_client_that_another_loop_closes(server: RawServer) -> None:
    """Again and again, for it depends on the moment: no error but our own on either side."""
    strange: list[BaseException] = []

    def use(client: Memories, closed: threading.Event) -> None:
        async def calls() -> None:
            async def call() -> None:
                while True:
                    await client.library.video("VI1")

            outcomes = await asyncio.gather(*(call() for _ in range(3)), return_exceptions=True)
            strange.extend(
                outcome  # type: ignore[misc]  # none of them returns
                for outcome in outcomes
                if not isinstance(outcome, MemoriesError)
            )
            # A loop that ends before its connections are closed says so, whoever closes them.
            await asyncio.to_thread(closed.wait)
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run(calls())

    for _ in range(15):
        client = Memories(KEY, base_url=server.url, clock=HurriedClock())
        closed = threading.Event()
        threads = [threading.Thread(target=use, args=(client, closed)) for _ in range(3)]
        for thread in threads:
            thread.start()
        await client.library.video("VI1")
        await client.aclose()
        closed.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    assert strange == []
