"""Moments that come once in thousands of calls: steps that meet, and sources that fail midway."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import io
import os
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from memories_async import (
    BadRequest,
    CallOptions,
    ClosedError,
    DeadlineExceeded,
    Media,
    MediaChanged,
    MediaError,
    Memories,
    OutcomeUnknown,
)
from memories_async._engine.body.budget import UploadBudget, UploadTurn
from memories_async._engine.body.threads import Threads
from memories_async._engine.body.writer import Transfer
from memories_async._engine.dispatch import Dispatcher
from memories_async._engine.transport import downloads, http, sessions
from memories_async._engine.transport.downloads import PartialFile
from memories_async._engine.watch import notify
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import PREFETCH_SIZE
from memories_async.media.rules import EMBEDDED_IMAGE
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.engine.uploads import body_of, checked, film, send
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-0123456789"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
SOON = 0.05
"""Seconds of a deadline that shall pass in a test."""


def client_of(server: RawServer, **options: Any) -> Memories:
    return Memories(KEY, caption_key=KEY, base_url=server.url, clock=HurriedClock(), **options)


# Sources and files.


async def test_a_picture_beside_a_film_needs_no_file_either(
    budget: UploadBudget, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    picture = inspect_source(str(path), EMBEDDED_IMAGE)
    path.unlink()
    content = film(1 << 20)
    arrived, _ = await send(body_of(picture, checked(io.BytesIO(content))), budget)
    assert arrived == PNG + content


async def test_a_source_that_changes_before_it_is_encoded_names_the_call(
    server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG.ljust(2 * PREFETCH_SIZE, b"."))
    prepare = Dispatcher.prepare

    async def change_and_prepare(*arguments: Any) -> object:
        path.write_bytes(PNG)
        return await prepare(*arguments)

    monkeypatch.setattr(Dispatcher, "prepare", change_and_prepare)
    async with client_of(server) as client:
        with pytest.raises(MediaChanged, match=r"a\.png") as caught:
            await client.captions.image(path, "What?", as_base64=True)
    assert caught.value.operation.startswith("captions.image")
    assert server.requests == []


async def test_a_deadline_that_passes_while_a_source_is_looked_at(server: RawServer) -> None:
    reading, writing = os.pipe()
    try:
        with os.fdopen(reading, "rb") as pipe:
            async with client_of(server) as client:
                with pytest.raises(DeadlineExceeded, match="files were looked at") as caught:
                    await client.captions.video(pipe, "What?", options=CallOptions(deadline=SOON))
    finally:
        os.close(writing)
    assert caught.value.attempts == 0
    assert server.connections == 0


async def test_a_timeout_of_a_source_s_own_is_not_the_caller_s_deadline(server: RawServer) -> None:
    def late() -> None:
        raise TimeoutError("a network mount that does not answer")

    async with client_of(server) as client:
        pipeline = await client._dispatcher.engine()
        with pytest.raises(TimeoutError, match="a network mount"):
            await pipeline.run(late, until=pipeline.clock.monotonic() + 600)


async def test_a_full_disk_ends_a_download_and_leaves_nothing(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(1 << 20)
        yield bytes(1 << 20)

    monkeypatch.setattr(downloads.os, "write", full)
    file = PartialFile(str(tmp_path / "a.mp4"), budget)
    with pytest.raises(MediaError, match=r"a\.mp4\.part cannot be written: No space left"):
        await file.save(chunks(), Transfer(None))
    monkeypatch.undo()
    file.abandon()
    assert (file.received, os.listdir(tmp_path)) == (0, [])
    assert budget.active == 0


async def test_what_was_withdrawn_before_its_turn_is_not_done() -> None:
    threads, begun, let_go = Threads(1, "test-withdrawn"), threading.Event(), threading.Event()
    done: list[str] = []

    def hold() -> None:
        begun.set()
        assert let_go.wait(30)

    first = threads.submit(hold)
    await asyncio.to_thread(begun.wait)
    second = threads.submit(lambda: done.append("second"))
    third = threads.submit(lambda: done.append("third"))
    assert second.cancel()
    let_go.set()
    await asyncio.wrap_future(third)
    assert (first.result(), done) == (None, ["third"])
    threads.close()


# Closing, loops and forks.


async def test_a_call_that_waits_for_a_connection_when_its_client_is_closed() -> None:
    asked = asyncio.Event()

    async def silence(conversation: Conversation) -> None:
        await conversation.request()
        asked.set()
        await conversation.reader.read()

    async with RawServer(silence) as server:
        client = client_of(server, max_connections=1)
        first = asyncio.ensure_future(client.embeddings.image(PNG))
        await asked.wait()
        second = asyncio.ensure_future(client.library.video("VI1"))
        here = await (await client._dispatcher.engine()).http._sessions.current()
        while not here.permits._waiters:  # noqa: ASYNC110  # nobody tells who waits
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(OutcomeUnknown):
            await first
        with pytest.raises(ClosedError):
            await second
        assert len(server.requests) == 1


async def test_a_loop_that_cannot_go_on_is_no_closed_client(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*arguments: object, **named: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(socket, "getaddrinfo", ended)
    async with Memories(KEY, base_url="https://a.example", clock=HurriedClock()) as client:
        with pytest.raises(RuntimeError, match="after shutdown"):
            await client.library.video("VI1")


async def test_a_copy_that_is_entered_does_not_open_its_owner_again(server: RawServer) -> None:
    client = client_of(server)
    copy = client.with_options(CallOptions(attempts=1))
    await client.aclose()
    async with copy:
        with pytest.raises(ClosedError):
            await copy.library.video("VI1")
    assert server.requests == []


async def test_a_loop_that_rests_closes_its_connections_when_it_ends(server: RawServer) -> None:
    """Another loop can do nothing for them."""
    client = client_of(server)
    loop = asyncio.new_event_loop()
    await asyncio.to_thread(loop.run_until_complete, client.library.video("VI1"))
    (opened,) = (await client._dispatcher.engine()).http._sessions._open.values()
    await client.aclose()
    assert not opened.session.closed
    await asyncio.to_thread(loop.run_until_complete, loop.shutdown_asyncgens())
    assert opened.session.closed
    await asyncio.to_thread(loop.run_until_complete, loop.shutdown_default_executor())
    loop.close()


async def test_a_loop_that_ends_while_another_closes_the_client(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(closing: object, loop: object) -> None:
        raise RuntimeError("Event loop is closed")

    client = client_of(server)
    engine = await client._dispatcher.engine()
    there = asyncio.new_event_loop()
    abandoned: list[str] = []
    opened = SimpleNamespace(
        session=SimpleNamespace(close=lambda: asyncio.sleep(0)),
        abandon=lambda: abandoned.append("abandoned"),
    )
    engine.http._sessions._open[there] = opened  # type: ignore[assignment]  # a stand-in
    with monkeypatch.context() as patch:
        patch.setattr(there, "is_running", lambda: True)
        patch.setattr(asyncio, "run_coroutine_threadsafe", ended)
        await client.aclose()
    assert abandoned == ["abandoned"]
    there.close()
    gc.collect()  # and no complaint of a coroutine that nobody awaited


async def test_what_a_child_inherits_by_fork_is_given_up_and_it_connects_anew(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a fork calls in the child; here without one, so that the parent is the child."""
    async with client_of(server) as client:
        await client.library.video("VI1")
        opened = await (await client._dispatcher.engine()).http._sessions.current()
        connector: Any = opened.session.connector
        monkeypatch.setattr(sessions, "_ALL_OPEN", weakref.WeakSet([opened]))
        sessions._abandon_inherited()
        assert connector.abandoned
        assert opened.session.closed
        await client.library.video("VI1")
        assert server.connections == 2
        await connector.close()


# Requests that are answered, or late, in the moment in which they leave.


async def test_a_chunked_body_is_not_ended_in_the_moment_in_which_its_answer_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ends it would make the request whole, and the server might take it after all."""
    gone, rest, written = asyncio.Event(), bytearray(), 0

    async def source() -> AsyncIterator[bytes]:
        yield film(1000)

    async def give_way(budget: UploadBudget, turn: UploadTurn) -> None:
        nonlocal written
        written += 1
        if written == 4:  # its first turn; what comes before the film, the film, what comes after
            here = await (await client._dispatcher.engine()).http._sessions.current()
            connector: Any = here.session.connector
            while not any(protocol.should_close for protocol in connector._acquired):  # noqa: ASYNC110
                await asyncio.sleep(0)  # the reader's next turn is after this one's

    async def refuse(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.reader.readuntil(b"--\r\n")
        await conversation.send(answer(None, 413))
        with contextlib.suppress(ConnectionError):
            while data := await conversation.reader.read(1000):
                rest.extend(data)
        gone.set()

    monkeypatch.setattr(UploadBudget, "time_slice", 0.0)
    monkeypatch.setattr(UploadBudget, "give_way", give_way)
    async with RawServer(refuse) as server, client_of(server) as client:
        with pytest.raises(BadRequest):
            await client.captions.video(Media(source(), name="a.mp4"), "What?")
        await gone.wait()
    assert written == 4
    assert b"0\r\n\r\n" not in rest


@attrs.define(eq=False)
class Protocol:
    """A connection, as far as an exchange looks at it before its first byte."""

    should_close: bool = False

    def is_connected(self) -> bool:
        return True


@attrs.define(eq=False)
class Departure:
    """What a request asks before it leaves, and what it heard."""

    first: Protocol
    stale: bool = True
    asked: list[str] = attrs.field(factory=list)

    async def confirm(self) -> None:
        self.asked.append("confirm")

    async def renew(self) -> None:
        self.asked.append("renew")
        self.first.should_close = True  # it dies while the turn is waited for anew
        self.stale = False

    def leave(self) -> None:
        self.asked.append("leave")


@pytest.fixture
async def exchange() -> Any:
    request = SimpleNamespace(policy=SimpleNamespace(answer_timeout=60.0), body=None)
    departure = Departure(Protocol())
    exchange: Any = http._Exchange(request, Transfer(0), None, None, departure)  # type: ignore[arg-type]  # stand-ins
    exchange.scope = asyncio.timeout(None)
    return exchange


async def test_a_connection_that_dies_after_the_count_is_counted_anew_and_told_once(
    exchange: Any,
) -> None:
    async with exchange.scope:
        assert not await exchange.ready(exchange.departure.first)
        assert await exchange.ready(second := Protocol())
    assert exchange.departure.asked == ["confirm", "leave", "renew", "confirm"]
    assert exchange.protocol is second


async def test_a_limit_that_has_passed_is_not_set_anew(exchange: Any) -> None:
    """The body's task may write its last byte in the turn in which the caller's time is up."""
    exchange.scope = asyncio.timeout(0)
    with pytest.raises(TimeoutError):
        async with exchange.scope:
            await asyncio.Event().wait()
    passed = exchange.scope.when()
    exchange._limit(60.0)
    assert exchange.scope.when() == passed


async def test_an_observer_that_ends_the_program_ends_it() -> None:
    class Ending:
        def observe(self, event: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        notify([Ending()], None)  # type: ignore[arg-type]  # no event is looked at
