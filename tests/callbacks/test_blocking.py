"""The inbox for code that cannot await: the same calls, from any thread and after a fork."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import (
    CallbackTimeout,
    CaptionTask,
    ConfigurationError,
    InsufficientCredits,
    Memories,
    sync,
)
from memories_async.callbacks import CallbackInbox, SqliteStore, serve
from memories_async.emulator import CallbackFault, Emulator, Held
from tests.callbacks.conftest import SOON, free_port
from tests.emulator.conftest import MP4, KnownEngine, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def blocking(tmp_path: Path, port: int) -> AsyncIterator[sync.CallbackInbox]:
    """An inbox whose callbacks are received by another process of the same application."""
    address, path = f"http://127.0.0.1:{port}", tmp_path / "callbacks.db"
    inbox = sync.CallbackInbox(address, store=SqliteStore(path))
    async with CallbackInbox(address, store=SqliteStore(path)) as other, serve(other, port=port):
        yield inbox
        await asyncio.to_thread(inbox.close)


@pytest.mark.parametrize("colour", [sync.Memories, Memories])
async def test_a_caption_without_await(
    blocking: sync.CallbackInbox, colour: type[sync.Memories] | type[Memories]
) -> None:
    """With either client: the asyncio one's calls run on the inbox's loop."""
    async with Emulator(KnownEngine()) as emulator:
        client = colour("key", caption_key="caption-key", base_url=emulator.url)

        def view() -> str:
            task = blocking.submit(
                lambda url: client.captions.submit_video(MP4, "Who?", callback=url, qa=True)
            )
            return blocking.result(task, timeout=SOON).text

        assert await asyncio.to_thread(view) == f"Who? [{len(MP4)}]"
        assert emulator.ledger[0].fields["qa"] is True
        await asyncio.to_thread(client.close) if isinstance(
            client, sync.Memories
        ) else await client.aclose()


async def test_what_is_no_task_is_refused(blocking: sync.CallbackInbox) -> None:
    with pytest.raises(ConfigurationError, match="returned NoneType"):
        await asyncio.to_thread(blocking.submit, lambda url: None)


async def test_what_handing_in_raises_is_raised(blocking: sync.CallbackInbox) -> None:
    def refuse(url: str) -> CaptionTask:
        raise InsufficientCredits("no more", code="0402", status=200)

    with pytest.raises(InsufficientCredits, match="no more"):
        await asyncio.to_thread(blocking.submit, refuse)


async def test_many_threads_wait_at_once(blocking: sync.CallbackInbox) -> None:
    async with Emulator(KnownEngine()) as emulator:
        client = sync.Memories("key", caption_key="caption-key", base_url=emulator.url)
        emulator.callbacks.add(CallbackFault(None, Held(), times=None))

        def view(number: int) -> str:
            prompt = f"What is {number}?"
            task = blocking.submit(
                lambda url: client.captions.submit_video(MP4, prompt, callback=url)
            )
            return blocking.result(task, timeout=SOON).text.split(" [")[0]

        views = [asyncio.create_task(asyncio.to_thread(view, number)) for number in range(5)]
        await until(lambda: len(emulator.callbacks.held) == 5)
        await emulator.callbacks.release()
        assert await asyncio.gather(*views) == [f"What is {number}?" for number in range(5)]
        await asyncio.to_thread(client.close)


async def test_nothing_in_time(blocking: sync.CallbackInbox) -> None:
    with pytest.raises(CallbackTimeout):
        await asyncio.to_thread(blocking.result, "task-1", timeout=0.01)
