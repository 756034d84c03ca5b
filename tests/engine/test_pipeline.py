"""The retry loop over a real socket: what a call returns, raises, logs and waits."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from memories_async import (
    AnswerTimeout,
    ApiError,
    CallOptions,
    Caption,
    ClosedError,
    ConnectError,
    InsufficientCredits,
    Media,
    MediaError,
    Memories,
    MemoriesError,
    NotJson,
    OutcomeUnknown,
    RateLimited,
    Results,
    ServerError,
    Video,
)
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import PIECE
from memories_async._engine.request import Request, address
from memories_async._engine.transport import http
from memories_async._engine.transport.payload import Connection, Payload
from memories_async.addresses import Proxy, proxy_from_environment
from memories_async.config import Policy
from memories_async.media.readers import Attachment
from memories_async.operations import CAPTION_IMAGE_URL, GET_VIDEO, Operation
from tests.recorder import Answer, Recorder
from tests.virtual_clock import HurriedClock

if TYPE_CHECKING:  # the first call loads it, which a test of these sees
    from memories_async._engine.pipeline import Pipeline

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-SENTINEL-0123456789"
IMAGE = "https://example.com/a.png"
PNG = b"\x89PNG\r\n\x1a\n"

CAPTION = Answer('{"code":0,"data":{"text":"A cat."}}')
IMAGES = Answer('{"code":"0000","data":[{"id":1}]}')
VIDEO = Answer('{"code":"0000","data":{"video_no":"VI1","status":"PARSE"}}')
THROTTLED = Answer('{"code":"0429","msg":"Request has exceeded the limit."}')
BROKEN = Answer("<html>Bad Gateway</html>", 502)
PORTAL = Answer("<html>Sign in</html>")


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    async with Recorder() as recorder:
        yield recorder


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()


@pytest.fixture
async def client(recorder: Recorder, clock: HurriedClock) -> AsyncIterator[Memories]:
    async with Memories(KEY, caption_key=KEY, base_url=recorder.url, clock=clock) as client:
        yield client


async def test_a_result_says_how_many_attempts_it_took(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answers = [THROTTLED, THROTTLED, CAPTION]
    caption = await client.captions.image(IMAGE, "What?")
    assert caption == Caption(text="A cat.")
    assert caption.attempts == 3
    assert len(recorder.requests) == 3
    assert {request.body for request in recorder.requests} == {recorder.requests[0].body}
    assert sum(clock.slept) == 3.0  # pauses of 1 s and 2 s, each of the whole lane
    recorder.answers = [THROTTLED, IMAGES]
    images = await client.library.add_images(PNG)
    assert type(images) is Results
    assert images.attempts == 2
    recorder.answers = [BROKEN, VIDEO]
    assert (await client.library.video("VI1")).attempts == 2
    assert (await client.library.video("VI1")).attempts == 1


async def test_a_free_read_is_asked_again_with_backoff(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answers = [BROKEN]
    with pytest.raises(ServerError) as caught:
        await client.library.video("VI1")
    assert caught.value.attempts == len(recorder.requests) == 5
    assert [seconds for seconds in clock.slept if seconds] == [1.0, 2.0, 4.0, 8.0]
    assert str(caught.value).startswith(
        "library.video (GET /serve/api/v1/get_metadata): HTTP 502: <html>Bad Gateway</html> (5 att"
    )


async def test_a_billed_call_is_not(recorder: Recorder, client: Memories) -> None:
    recorder.answers = [BROKEN]
    before = datetime.now(UTC)
    with pytest.raises(OutcomeUnknown) as caught:
        await client.captions.image(IMAGE, "What?")
    error = caught.value
    assert len(recorder.requests) == 1
    assert error.operation == "captions.image (POST /v1/understand/uploadImg)"
    assert (error.state, error.status, error.attempts) == ("ANSWERED", 502, 1)
    assert error.bytes_sent == len(recorder.requests[0].body)
    assert error.sent_at is not None
    assert before <= error.sent_at <= datetime.now(UTC)
    assert len(error.request_digest) == 16
    assert isinstance(error.__cause__, ServerError)
    assert "It may have been billed" in str(error)


async def test_unless_the_caller_accepts_to_pay_twice(recorder: Recorder, client: Memories) -> None:
    recorder.answers = [BROKEN, CAPTION]
    options = CallOptions(replay="accept_double_billing")
    caption = await client.captions.image(IMAGE, "What?", options=options)
    assert caption.attempts == 2


@pytest.mark.parametrize("last", [BROKEN, Answer('{"code":"0402","msg":"no credits"}')])
async def test_what_may_have_been_billed_is_told_however_the_last_attempt_ends(
    recorder: Recorder, client: Memories, last: Answer
) -> None:
    recorder.answers = [BROKEN, last]
    options = CallOptions(replay="accept_double_billing", attempts=2)
    with pytest.raises(OutcomeUnknown, match="It may have been billed") as caught:
        await client.captions.image(IMAGE, "What?", options=options)
    assert (caught.value.attempts, len(recorder.requests)) == (2, 2)
    assert caught.value.operation == "captions.image (POST /v1/understand/uploadImg)"
    assert isinstance(
        caught.value.__cause__, ServerError if last is BROKEN else InsufficientCredits
    )


@pytest.mark.parametrize("billed", [True, False])
@pytest.mark.parametrize("how", ["cancelled", "not let through"])
async def test_what_may_have_been_billed_is_told_whatever_ends_the_call_before_it_goes_again(
    recorder: Recorder, how: str, billed: bool
) -> None:
    """A bill is not undone by a cancellation in the backoff, or a hook that raises after it."""

    class Cancelling(HurriedClock):
        async def sleep(self, seconds: float) -> None:
            if how == "cancelled":
                raise asyncio.CancelledError
            await super().sleep(seconds)

    asked = 0

    async def let_through_once() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise KeyError("not again")

    recorder.answers = [BROKEN, CAPTION if billed else VIDEO]
    options = CallOptions(replay="accept_double_billing", before_sending=let_through_once)
    async with Memories(KEY, caption_key=KEY, base_url=recorder.url, clock=Cancelling()) as client:
        call: Awaitable[object] = (
            client.captions.image(IMAGE, "What?", options=options)
            if billed
            else client.library.video("VI1", options=options)
        )
        with pytest.raises((asyncio.CancelledError, KeyError)) as caught:
            await call
    notes = getattr(caught.value, "__notes__", [])
    assert ["may have been billed" in note for note in notes] == [True] * billed
    assert all(note.startswith("captions.image (POST /v1") for note in notes)
    assert len(recorder.requests) == 1


async def test_a_free_call_that_is_sent_again_was_not_billed(
    recorder: Recorder, client: Memories
) -> None:
    recorder.answers = [BROKEN]
    options = CallOptions(replay="accept_double_billing", attempts=2)
    with pytest.raises(ServerError):
        await client.library.video("VI1", options=options)


async def test_attempts_and_time_are_limited(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answers = [BROKEN]
    for options, requests in (
        (CallOptions(attempts=1), 1),
        (CallOptions(attempts=2), 2),
        (CallOptions(attempts=100, retry_time=6.9), 3),
        (CallOptions(attempts=100, deadline=6.9), 3),
    ):
        recorder.requests.clear()
        with pytest.raises(ServerError):
            await client.library.video("VI1", options=options)
        assert len(recorder.requests) == requests


async def test_throttling_that_outlasts_the_patience(recorder: Recorder, client: Memories) -> None:
    recorder.answers = [THROTTLED]
    with pytest.raises(RateLimited) as caught:
        await client.captions.image(IMAGE, "What?", options=CallOptions(attempts=3))
    assert caught.value.attempts == len(recorder.requests) == 3
    assert caught.value.retry_after == 4.0
    assert "Throttled calls are not billed" in str(caught.value)


async def test_a_refusal_is_final(recorder: Recorder, client: Memories) -> None:
    recorder.answers = [Answer('{"code":"0402","msg":"no credits"}')]
    with pytest.raises(InsufficientCredits, match="no credits"):
        await client.captions.image(IMAGE, "What?")
    assert len(recorder.requests) == 1


async def test_a_source_that_can_be_read_once_is_sent_once(
    recorder: Recorder, client: Memories
) -> None:
    async def film() -> AsyncIterator[bytes]:
        yield b"\0\0\0\x18ftypmp42"

    recorder.answers = [THROTTLED, CAPTION]
    with pytest.raises(RateLimited):
        await client.captions.video(Media(film(), name="a.mp4"), "What?")
    [request] = recorder.requests
    assert request.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in request.headers


@pytest.mark.parametrize("error", [ConnectionResetError("upstream"), OSError("camera"), KeyError()])
async def test_what_a_stream_raises_reaches_the_caller(
    error: Exception, recorder: Recorder, client: Memories
) -> None:
    async def film() -> AsyncIterator[bytes]:
        yield b"\0\0\0\x18ftypmp42"
        raise error

    recorder.answers = [CAPTION]
    for size in (None, 1000):
        with pytest.raises(type(error)) as caught:
            await client.captions.video(Media(film(), name="a.mp4", size=size), "What?")
        assert caught.value is error
    assert recorder.requests == []


async def test_a_file_that_vanishes_between_attempts(
    recorder: Recorder, client: Memories, tmp_path: Path, clock: HurriedClock
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    real_sleep = clock.sleep

    async def sleep(seconds: float) -> None:
        path.unlink(missing_ok=True)
        await real_sleep(seconds)

    clock.sleep = sleep  # type: ignore[method-assign]  # while the call waits
    recorder.answers = [THROTTLED, CAPTION]
    with pytest.raises(MediaError, match=r"a\.png is gone") as caught:
        await client.captions.image(path, "What?")
    assert caught.value.attempts == 2
    assert caught.value.operation == "captions.image (POST /v1/understand/uploadImgFile)"


# The key stays home: S1 and S2.


async def test_an_echoed_key_is_taken_out_of_every_text(
    recorder: Recorder, client: Memories, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for answer, kind in (
        (Answer(f'{{"code":"0003","msg":"bad header {KEY}"}}'), ApiError),
        (Answer(f"<html>Authorization: {KEY}</html>"), NotJson),
        (Answer(f"<html>Authorization: {KEY}</html>", 404), ApiError),
    ):
        recorder.answers = [answer]
        with pytest.raises(kind) as caught:
            await client.captions.image(IMAGE, "What?")
        error = caught.value
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown = [str(error), repr(error), repr(vars(error)), repr(pickle.dumps(error))]
        ours = [frame for frame in report.stack if frame.filename != __file__]
        assert ours
        assert "SENTINEL" not in "".join([*shown, *map(repr, (frame.locals for frame in ours))])
        assert "…" in error.message or "…" in getattr(error, "snippet", "")
    assert "SENTINEL" not in caplog.text
    assert "attempt 1" in caplog.text


async def test_retries_are_logged(
    recorder: Recorder, client: Memories, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "memories_async")
    recorder.answers = [BROKEN, VIDEO]
    await client.library.video("VI1")
    [record] = [record for record in caplog.records if record.name == "memories_async"]
    assert "library.video" in record.getMessage()
    assert "again in 1.0 s" in record.getMessage()
    assert "502" in record.getMessage()


async def test_a_free_read_whose_answer_never_came(recorder: Recorder, client: Memories) -> None:
    recorder.answers = [Answer('{"code":', headers={"Content-Length": "999"})]
    options = CallOptions(answer_timeout=0.25, attempts=2)
    with pytest.raises(AnswerTimeout) as caught:
        await client.library.video("VI1", options=options)
    assert caught.value.attempts == 2
    assert caught.value.status == 200
    assert "The call is free and changes nothing: call again" in str(caught.value)
    assert "billed" not in str(caught.value)


# Lifecycle.


async def test_a_client_that_was_pickled_connects_anew(
    recorder: Recorder, client: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORIES_API_KEY", KEY)
    async with Memories(KEY, base_url=recorder.url) as first:
        recorder.answers = [VIDEO]
        assert isinstance(await first.library.video("VI1"), Video)
        content = pickle.dumps(first)
    assert b"SENTINEL" not in content
    with pytest.raises(ClosedError):
        await first.library.video("VI1")
    async with pickle.loads(content) as second:  # our own content
        assert isinstance(await second.library.video("VI1"), Video)
    assert {request.headers["Authorization"] for request in recorder.requests} == {KEY}


async def test_a_child_process_connects_anew(
    recorder: Recorder, client: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.answers = [VIDEO]
    await client.library.video("VI1")
    [parent] = client._dispatcher._engine._pipelines.values()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    await client.library.video("VI1")
    monkeypatch.undo()
    [child] = client._dispatcher._engine._pipelines.values()
    assert child is not parent
    await parent.aclose()
    await child.aclose()


def test_threads_that_call_first_at_once_have_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two, one would be dropped with its connections, in the middle of its call."""
    engine = Memories(KEY)._dispatcher._engine
    asyncio.run(engine.pipeline())  # what is imported is imported
    engine._pipelines.clear()
    assemble, at_once = engine._assemble, threading.Barrier(2)

    def slowly() -> Pipeline:
        at_once.wait(60)
        return assemble()

    monkeypatch.setattr(engine, "_assemble", slowly)
    with ThreadPoolExecutor(2) as threads:
        made = [threads.submit(asyncio.run, engine.pipeline()) for _ in range(2)]
    assert made[0].result() is made[1].result()


# Parts of the engine that no server can see.


def asked(
    operation: Operation[Any], fields: Mapping[str, object], files: Sequence[Attachment] = ()
) -> Request[Any]:
    url, left = address(operation, fields, "https://api.test")
    return Request(operation, url, None, left, Policy(), files=files)


def test_requests_have_a_digest_of_what_was_asked() -> None:
    def digest(prompt: str = "What?", name: str = "a.png") -> str:
        file = Attachment(name, "image/png", 3, "label", content=b"abc")
        return asked(CAPTION_IMAGE_URL, {"user_prompt": prompt}, [file]).digest()

    assert digest() == digest()
    assert len({digest(), digest("Who?"), digest(name="b.png")}) == 3
    assert asked(CAPTION_IMAGE_URL, {"when": datetime(2026, 1, 1, tzinfo=UTC)}).digest()
    assert len({asked(GET_VIDEO, {"video_no": number}).digest() for number in ("VI1", "VI2")}) == 2


async def test_a_streamed_body_is_no_text() -> None:
    async def send(connection: Connection) -> None: ...

    payload = Payload(Recipe("text/plain", (b"a",)), send, stall_timeout=60)
    with pytest.raises(TypeError, match="is no text"):
        payload.decode()


async def test_a_body_is_written_by_either_entrance_that_aiohttp_knows() -> None:
    transport = SimpleNamespace(
        is_closing=lambda: False,
        set_write_buffer_limits=lambda high, low: None,
        get_extra_info=lambda name: None,
    )
    writer: Any = SimpleNamespace(transport=transport, protocol=None)
    written: list[int] = []

    async def send(connection: Connection) -> None:
        written.append(connection.piece)

    recipe = Recipe("text/plain", (b"a",))
    await Payload(recipe, send, stall_timeout=60).write(writer)
    await Payload(recipe, send, stall_timeout=60).write_with_length(writer, 1)
    assert written == [PIECE, PIECE]

    transport.is_closing = lambda: True  # lost between its making and the first byte
    with pytest.raises(aiohttp.ClientConnectionResetError, match="before the first byte"):
        await Payload(recipe, send, stall_timeout=60).write(writer)
    assert len(written) == 2


def test_a_key_in_a_header_shows_itself_to_nobody() -> None:
    key = http._HeaderSecret(KEY)
    assert repr({"Authorization": key}) == "{'Authorization': '…'}"
    assert key.encode() == KEY.encode()


@pytest.mark.parametrize(
    ("origin", "environment", "proxy"),
    [
        ("https://api.memories.ai", {}, None),
        ("https://api.memories.ai", {"https_proxy": "http://p:3128"}, "http://p:3128"),
        ("https://api.memories.ai", {"http_proxy": "http://p:3128"}, None),
        ("https://api.memories.ai", {"https_proxy": "http://p", "no_proxy": "memories.ai"}, None),
        ("http://127.0.0.1:8765", {"http_proxy": "http://p:3128"}, None),
    ],
)
def test_proxies_come_from_the_environment(
    origin: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(origin) == (proxy and Proxy(proxy))


async def test_a_proxy_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, clock: HurriedClock, closed_port: int
) -> None:
    """Nothing goes past a proxy that is told of, and its absence is a ConnectError."""
    for name in ("no_proxy", "NO_PROXY", "MEMORIES_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port}")
    async with Memories(KEY, clock=clock, rates={}) as client:
        with pytest.raises(ConnectError) as caught:
            await client.library.video("VI1", options=CallOptions(attempts=2))
    assert caught.value.attempts == 2
    assert isinstance(caught.value, MemoriesError)


async def test_netrc_never_replaces_the_key(
    recorder: Recorder, client: Memories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    recorder.answers = [
        Answer(VIDEO.body, headers={"Content-Type": "application/json", "Set-Cookie": "a=b"})
    ]
    await client.library.video("VI1")
    await client.library.video("VI1")
    for request in recorder.requests:
        assert request.headers["Authorization"] == KEY
        assert "Cookie" not in request.headers
