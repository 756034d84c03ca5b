"""Answers that nobody asked for, on a connection that is idle or about to be written to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from memories_async import CallOptions, ConnectError, Media, Memories
from memories_async._engine.transport import http
from memories_async._engine.transport.sessions import CONNECTIONS_TRIED
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-0123456789"
UNASKED = answer({"text": "of another call"})


def client_of(server: RawServer) -> Memories:
    return Memories(KEY, caption_key=KEY, base_url=server.url, clock=HurriedClock())


async def asked(client: Memories, prompt: str) -> str:
    caption = await client.captions.image("https://example.com/a.png", prompt)
    return caption.text


def echo_then(
    beside: Callable[[Conversation], Awaitable[object]],
) -> Callable[[Conversation], Awaitable[None]]:
    """Answer each request with its own prompt; after the first of all, do something beside."""

    async def serve(conversation: Conversation) -> None:
        while True:
            request = await conversation.request()
            prompt = json.loads(request.body)["user_prompt"]
            await conversation.send_and_be_heard(answer({"text": prompt}))
            if len(conversation.server.requests) == 1:
                await beside(conversation)

    return serve


@pytest.mark.parametrize(
    "unasked",
    [
        UNASKED,
        UNASKED * 3,
        answer(None, 429),
        UNASKED[:40],
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"\0",
    ],
    ids=["an answer", "three", "a throttle answer", "half an answer", "a timeout", "a byte"],
)
async def test_what_came_while_a_connection_was_idle_is_nobody_s_answer(unasked: bytes) -> None:
    heard = asyncio.Event()

    async def speak(conversation: Conversation) -> None:
        await conversation.send_and_be_heard(unasked)
        heard.set()

    async with RawServer(echo_then(speak)) as server, client_of(server) as client:
        prompts = [f"prompt {number}" for number in range(12)]
        texts = []
        for prompt in prompts:
            texts.append(await asked(client, prompt))
            await heard.wait()
        assert texts == prompts
        assert len(server.requests) == len(prompts)  # and none of them went out twice
        assert server.connections == 2


@pytest.mark.parametrize("unasked", [UNASKED, UNASKED * 3, answer(None, 429)])
async def test_what_came_in_one_piece_with_an_answer_is_not_the_next_one(unasked: bytes) -> None:
    async def serve(conversation: Conversation) -> None:
        while True:
            prompt = json.loads((await conversation.request()).body)["user_prompt"]
            first = len(conversation.server.requests) == 1
            await conversation.send(answer({"text": prompt}) + (unasked if first else b""))

    async with RawServer(serve) as server, client_of(server) as client:
        prompts = [f"prompt {number}" for number in range(5)]
        assert [await asked(client, prompt) for prompt in prompts] == prompts
        assert (len(server.requests), server.connections) == (len(prompts), 2)


async def test_each_of_many_idle_connections_is_looked_at() -> None:
    together, heard = asyncio.Barrier(8), asyncio.Barrier(9)

    async def serve(conversation: Conversation) -> None:
        while True:
            request = await conversation.request()
            if conversation.number <= 8:
                await together.wait()  # so that there are eight connections
            await conversation.send(answer({"text": json.loads(request.body)["user_prompt"]}))
            if conversation.number <= 8:
                await conversation.send_and_be_heard(UNASKED)
                await heard.wait()

    async with RawServer(serve) as server, client_of(server) as client:
        for round_number in range(2):
            prompts = [f"{round_number}-{number}" for number in range(8)]
            texts = await asyncio.gather(*(asked(client, prompt) for prompt in prompts))
            assert texts == prompts
            if round_number == 0:
                await heard.wait()
        assert server.connections == 16


async def test_what_comes_between_the_connection_and_the_first_byte_is_nobody_s_answer() -> None:
    chosen, heard = asyncio.Event(), asyncio.Event()

    async def when_chosen(conversation: Conversation) -> None:
        await chosen.wait()
        await conversation.send_and_be_heard(UNASKED)
        heard.set()

    asked_before: list[str] = []

    async def before_sending() -> None:
        asked_before.append("asked")
        chosen.set()
        await heard.wait()

    async with RawServer(echo_then(when_chosen)) as server, client_of(server) as client:
        assert await asked(client, "first") == "first"
        caption = await client.captions.image(
            "https://example.com/a.png",
            "second",
            options=CallOptions(before_sending=before_sending),
        )
        assert caption.text == "second"
        # Once for each connection: with the second one the call is counted, and asked for, anew.
        assert (asked_before, server.connections) == (["asked", "asked"], 2)


@pytest.mark.parametrize("unasked", [UNASKED, answer(None, 429)], ids=["a result", "a throttle"])
async def test_what_comes_while_the_request_is_written_is_not_its_result(
    unasked: bytes, tmp_path: Path
) -> None:
    """No answer is that of a request which no server can have had whole."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(32 << 20))

    async def serve(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.head()
            await conversation.send(unasked)
            await conversation.reader.read()  # until the client leaves
        else:
            await conversation.request()
            await conversation.send(answer({"text": "its own"}))

    async with RawServer(serve) as server, client_of(server) as client:
        caption = await client.captions.video(film, "What?")
        assert (caption.text, caption.attempts) == ("its own", 2)
        assert len(server.requests) == 1  # only one was whole


async def test_a_body_that_waits_for_its_first_bytes_takes_no_answer_meanwhile() -> None:
    waiting = asyncio.Event()
    answered = asyncio.Event()

    async def film() -> AsyncIterator[bytes]:
        waiting.set()
        await answered.wait()
        yield b"\0\0\0\x18ftypmp42"

    async def when_waiting(conversation: Conversation) -> None:
        await waiting.wait()
        await conversation.send_and_be_heard(UNASKED)
        answered.set()

    async with RawServer(echo_then(when_waiting)) as server, client_of(server) as client:
        await asked(client, "first")
        with pytest.raises(ConnectError, match="none to this request") as caught:
            await client.captions.video(Media(film(), name="a.mp4"), "What?")
        assert caught.value.attempts == 1  # what is read once is sent once
        assert len(server.requests) == 1


async def test_a_server_that_speaks_first_is_not_asked_on_that_connection() -> None:
    heard = asyncio.Event()

    async def serve(conversation: Conversation) -> None:
        if conversation.number == 1:
            await conversation.send_and_be_heard(UNASKED)
            heard.set()
        prompt = json.loads((await conversation.request()).body)["user_prompt"]
        await conversation.send(answer({"text": prompt}))

    options = CallOptions(before_sending=heard.wait)
    async with RawServer(serve) as server, client_of(server) as client:
        caption = await client.captions.image("https://example.com/a.png", "mine", options=options)
        assert caption.text == "mine"
        assert (len(server.requests), server.connections) == (1, 2)


async def test_connections_that_die_before_their_first_byte_are_not_made_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()

    monkeypatch.setattr(http, "is_quiet", lambda protocol: False)
    async with RawServer(serve) as server, client_of(server) as client:
        with pytest.raises(ConnectError, match="before anything was asked") as caught:
            await client.library.video("VI1", options=CallOptions(attempts=2))
        assert caught.value.attempts == 2
        assert (server.requests, server.connections) == ([], 2 * CONNECTIONS_TRIED)
