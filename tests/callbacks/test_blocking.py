"""The inbox for code that cannot await: the same calls, from any thread and after a fork."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import CallbackTimeout, Memories
from memories_async.callbacks import BlockingInbox, CallbackInbox, SqliteStore, serve
from memories_async.emulator import CallbackFault, Emulator, Held
from tests.callbacks.conftest import SOON, free_port
from tests.emulator.conftest import MP4, KnownEngine, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def blocking(tmp_path: Path, port: int) -> AsyncIterator[BlockingInbox]:
    """An inbox whose callbacks are received by another process of the same application."""
    address, path = f"http://127.0.0.1:{port}", tmp_path / "callbacks.db"
    inbox = BlockingInbox(address, store=SqliteStore(path))
    async with CallbackInbox(address, store=SqliteStore(path)) as other, serve(other, port=port):
        yield inbox
        await asyncio.to_thread(inbox.close)


async def test_a_caption_without_await(blocking: BlockingInbox) -> None:
    async with Emulator(KnownEngine()) as emulator:
        client = Memories("key", caption_key="caption-key", base_url=emulator.url)

        def view() -> str:
            task = blocking.submit(client, MP4, "Who appears?", qa=True)
            text = blocking.result(task, timeout=SOON).text
            blocking.run(client.aclose())
            return text

        texts = await asyncio.gather(asyncio.to_thread(view))
        assert texts == [f"Who appears? [{len(MP4)}]"]
        assert emulator.ledger[0].fields["qa"] is True


async def test_many_threads_wait_at_once(blocking: BlockingInbox) -> None:
    async with Emulator(KnownEngine()) as emulator:
        client = Memories("key", caption_key="caption-key", base_url=emulator.url)
        emulator.callbacks.add(CallbackFault(None, Held(), times=None))

        def view(number: int) -> str:
            task = blocking.submit(client, MP4, f"What is {number}?")
            return blocking.result(task, timeout=SOON).text.split(" [")[0]

        views = [asyncio.create_task(asyncio.to_thread(view, number)) for number in range(5)]
        await until(lambda: len(emulator.callbacks.held) == 5)
        await emulator.callbacks.release()
        assert await asyncio.gather(*views) == [f"What is {number}?" for number in range(5)]
        await asyncio.to_thread(blocking.run, client.aclose())


async def test_nothing_in_time(blocking: BlockingInbox) -> None:
    with pytest.raises(CallbackTimeout):
        await asyncio.to_thread(blocking.result, "task-1", timeout=0.01)


def test_the_calls_are_the_inbox_s(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "callbacks.db")
    blocking = BlockingInbox("https://app.example.com/memories", store=store)
    inbox = CallbackInbox("https://app.example.com/memories", store=store)
    for name in ("submit", "result", "address_for_video", "video", "receive"):
        mine, original = getattr(blocking, name), getattr(inbox, name)
        assert inspect.signature(mine) == inspect.signature(original)
        assert mine.__doc__ == original.__doc__
    settings = list(inspect.signature(CallbackInbox).parameters)
    assert list(inspect.signature(BlockingInbox).parameters) == settings[:-1]  # all but the clock
    assert repr(blocking) == f"BlockingInbox({inbox!r})"
