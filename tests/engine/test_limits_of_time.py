"""Each step of an exchange has a limit of its own: making a connection, sending, being answered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler

from memories_async import (
    AnswerTimeout,
    CallOptions,
    ConnectTimeout,
    DeadlineExceeded,
    Memories,
    MemoriesError,
)
from memories_async._engine.transport import http
from tests.engine.raw_server import Conversation, RawServer
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-0123456789"
SOON = 0.25
"""Seconds of a limit that shall pass in a test, and not before a loopback connection is made."""
ONCE = CallOptions(attempts=1, connect_timeout=SOON)


async def silence(conversation: Conversation) -> None:
    await conversation.reader.read()


async def failure_of(call: Awaitable[object]) -> MemoriesError:
    with pytest.raises(MemoriesError) as caught:
        await call
    return caught.value


async def test_a_proxy_that_never_answers_is_no_connection() -> None:
    async with (
        RawServer(silence) as proxy,
        Memories(KEY, proxy=proxy.url, rates={}, clock=HurriedClock()) as client,
    ):
        error = await failure_of(client.library.video("VI1", options=ONCE))
    assert type(error) is ConnectTimeout
    assert (proxy.connections, proxy.requests) == (1, [])


async def test_a_server_that_never_agrees_on_tls_is_no_connection() -> None:
    async with (
        RawServer(silence) as server,
        Memories(KEY, base_url=f"https://127.0.0.1:{server.port}", clock=HurriedClock()) as client,
    ):
        error = await failure_of(client.library.video("VI1", options=ONCE))
    assert type(error) is ConnectTimeout
    assert error.attempts == 1


async def test_a_name_that_is_looked_up_for_ever_is_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def hang(*arguments: Any, **named: Any) -> Any:
        answered.wait(30)
        raise socket.gaierror("never")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with Memories(
            KEY, base_url="https://nowhere.example", clock=HurriedClock()
        ) as client:
            error = await failure_of(client.library.video("VI1", options=ONCE))
            assert type(error) is ConnectTimeout
            sooner = CallOptions(attempts=1, deadline=SOON)
            error = await failure_of(client.library.video("VI1", options=sooner))
            assert type(error) is DeadlineExceeded
    finally:
        answered.set()


async def test_each_attempt_has_the_limit_anew() -> None:
    async with (
        RawServer(silence) as proxy,
        Memories(KEY, proxy=proxy.url, rates={}, clock=HurriedClock()) as client,
    ):
        options = CallOptions(attempts=3, connect_timeout=SOON)
        error = await failure_of(client.library.video("VI1", options=options))
    assert (type(error), error.attempts, proxy.connections) == (ConnectTimeout, 3, 3)


@pytest.mark.parametrize("reads", [True, False])
async def test_no_clock_runs_before_the_first_byte_but_the_caller_s(
    reads: bool, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait for a turn, or for what writes down that it is sent, is neither connect nor answer."""
    running: list[float | None] = []
    exchanges: list[http._Exchange] = []
    real = http._Exchange.ready

    async def ready(self: http._Exchange, protocol: ResponseHandler) -> bool:
        exchanges.append(self)
        return await real(self, protocol)

    async def before_sending() -> None:
        running.append(exchanges[-1].scope.when())

    monkeypatch.setattr(http._Exchange, "ready", ready)

    options = CallOptions(before_sending=before_sending, connect_timeout=1, answer_timeout=1)
    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        for _ in range(2):  # over a new connection, and over one that is there
            if reads:
                await client.library.video("VI1", options=options)
            else:
                await client.captions.image("https://a.example/b.png", "?", options=options)
    assert running == [None, None]


async def test_the_answer_s_clock_starts_with_the_last_byte() -> None:
    """Also where there is no body: it is not the connection that is late."""
    async with (
        RawServer(lambda conversation: wait_for_nothing(conversation)) as server,
        Memories(KEY, base_url=server.url, clock=HurriedClock()) as client,
    ):
        options = CallOptions(attempts=1, answer_timeout=SOON, connect_timeout=60)
        error = await failure_of(client.library.video("VI1", options=options))
    assert type(error) is AnswerTimeout
    assert len(server.requests) == 1


async def wait_for_nothing(conversation: Conversation) -> None:
    await conversation.request()
    await conversation.reader.read()


async def test_the_caller_s_deadline_holds_in_every_step() -> None:
    async with (
        RawServer(wait_for_nothing) as server,
        Memories(KEY, base_url=server.url) as client,
    ):
        options = CallOptions(attempts=1, deadline=SOON)
        error = await failure_of(client.library.video("VI1", options=options))
    assert type(error) is AnswerTimeout
    assert "before the deadline" in str(error)


def test_a_watch_over_a_closed_socket_ends_quietly() -> None:
    """A closed socket has the descriptor -1, which ioctl refuses with a ValueError."""
    from memories_async._engine.transport import payload

    closed = socket.socket()
    closed.close()
    assert payload._unacknowledged(closed) == 0
