"""Other event loops: around the blocking client, its own, and several under the asyncio client."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator

import pytest

from memories_async import Caption, Media
from memories_async import Memories as AsyncMemories
from memories_async.emulator import Emulator
from memories_async.sync import Memories
from tests.sync.conftest import KEY, MP4, PNG


def test_inside_a_running_loop(client: Memories) -> None:
    async def handler() -> tuple[str, int]:
        text = client.captions.image(PNG, "what").text
        return text, len([outcome.unwrap() for outcome in client.embeddings.images([PNG, PNG])])

    text, count = asyncio.run(handler())
    assert text
    assert count == 2


def test_on_its_own_loop_it_refuses_instead_of_waiting_for_itself(client: Memories) -> None:
    async def film() -> AsyncIterator[bytes]:
        yield MP4
        client.captions.image(PNG, "what")

    with pytest.raises(RuntimeError, match="await the asyncio client there"):
        client.captions.video(Media(film(), name="film.mp4"), "what")

    async def pictures() -> AsyncIterator[bytes]:
        yield PNG
        next(client.captions.images([PNG], "what"))

    with pytest.raises(RuntimeError, match="await the asyncio client there"):
        list(client.captions.images(pictures(), "what", concurrency=1))


def test_another_client_may_be_called_on_a_client_s_loop(emulator: Emulator) -> None:
    with (
        Memories(KEY, caption_key=KEY, base_url=emulator.url) as inner,
        Memories(KEY, caption_key=KEY, base_url=emulator.url) as outer,
    ):

        async def film() -> AsyncIterator[bytes]:
            inner.captions.image(PNG, "what")
            yield MP4

        assert outer.captions.video(Media(film(), name="film.mp4"), "what").text


@pytest.fixture
def asyncio_client(emulator: Emulator) -> AsyncMemories:
    return AsyncMemories(KEY, caption_key=KEY, base_url=emulator.url)


def test_asyncio_run_after_asyncio_run(asyncio_client: AsyncMemories) -> None:
    for _ in range(3):
        assert asyncio.run(_caption(asyncio_client)).text
    gc.collect()  # and nothing was left open: warnings are errors

    async def last() -> None:
        assert (await _caption(asyncio_client)).text
        await asyncio_client.aclose()

    asyncio.run(last())


async def _caption(client: AsyncMemories) -> Caption:
    return await client.captions.image(PNG, "what")


def test_a_client_that_is_never_closed(asyncio_client: AsyncMemories) -> None:
    asyncio.run(_caption(asyncio_client))
    del asyncio_client
    gc.collect()


def test_two_loops_at_once(asyncio_client: AsyncMemories) -> None:
    async def first() -> None:
        await _caption(asyncio_client)
        assert (await asyncio.to_thread(asyncio.run, _caption(asyncio_client))).text
        assert (await _caption(asyncio_client)).text
        await asyncio_client.aclose()

    asyncio.run(first())


def test_a_loop_that_was_closed_by_hand(
    asyncio_client: AsyncMemories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections are left to the garbage collector, which is told to expect them."""
    unraisable: list[BaseException | None] = []

    def note(args: sys.UnraisableHookArgs) -> None:
        unraisable.append(args.exc_value)

    monkeypatch.setattr(sys, "unraisablehook", note)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_caption(asyncio_client))
    loop.close()
    asyncio.run(_caption(asyncio_client))
    del loop
    gc.collect()
    # "unclosed transport" is the truth; "Event loop is closed" would be noise.
    assert all(isinstance(error, ResourceWarning) for error in unraisable)
    asyncio.run(asyncio_client.aclose())
