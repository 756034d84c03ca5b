"""Downloads that break off: what has come is paid for, so only the rest is asked for."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from memories_async import (
    ApiError,
    CallOptions,
    MediaError,
    Memories,
    MemoriesError,
    NotFound,
    NotJson,
    OutcomeUnknown,
    Progress,
)
from memories_async.observe import AttemptEnded
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.observe.recorded_events import RecordedEvents
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-0123456789"
FILM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 16_000
HALF = len(FILM) // 2
Serve = Callable[[Conversation], Awaitable[None]]


def head(status: str, **headers: object) -> bytes:
    lines = {"Content-Type": "video/mp4"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{said}\r\n".encode()


async def reset(conversation: Conversation) -> None:
    """Break off with a reset, once the client's kernel has everything that was sent."""
    await conversation.send_and_be_heard(b"")
    sock = conversation.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conversation.writer.transport.abort()


def a_service(*, rest: Callable[[int], bytes] | None, cuts: int = 1, **headers: object) -> Serve:
    """Send half of the film and break off; then what ``rest`` says from where it shall go on."""

    async def serve(conversation: Conversation) -> None:
        request = await conversation.request()
        asked = request.headers.get("range")
        if rest is None or asked is None:
            await conversation.send(head("200 OK", Content_Length=len(FILM), **headers))
            if conversation.number <= cuts:
                await conversation.send(FILM[:HALF])  # and the connection is closed
            else:
                await conversation.send(FILM)
        else:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            await conversation.send(rest(start))

    return serve


def the_rest(start: int) -> bytes:
    said = head(
        "206 Partial Content",
        Content_Length=len(FILM) - start,
        Content_Range=f"bytes {start}-{len(FILM) - 1}/{len(FILM)}",
    )
    return said + FILM[start:]


def from_the_start() -> bytes:
    return head("200 OK", Content_Length=len(FILM)) + FILM


async def downloaded(
    serve: Serve, folder: Path, options: CallOptions | None = None, kind: str = "video"
) -> tuple[RawServer, Path, list[Progress]]:
    told: list[Progress] = []
    target = folder / "a.mp4"
    async with (
        RawServer(serve) as server,
        Memories(KEY, base_url=server.url, clock=HurriedClock()) as client,
    ):
        call = client.library.download if kind == "video" else client.assets.download
        await call("VI1", target, on_progress=told.append, options=options)
    return server, target, told


async def test_observers_are_told_that_the_rest_came(tmp_path: Path) -> None:
    recorded = RecordedEvents()
    serve = a_service(rest=the_rest, Accept_Ranges="bytes")
    await downloaded(serve, tmp_path, CallOptions(observers=[recorded]))
    ended = [event for event in recorded.events if isinstance(event, AttemptEnded)]
    assert [(event.verdict, event.status) for event in ended] == [("retry", 200), ("ok", 206)]


@pytest.mark.parametrize("kind", ["video", "asset"])
@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        ({"Accept_Ranges": "bytes"}, None),
        ({"ETag": '"abc"'}, '"abc"'),
        ({"ETag": 'W/"abc"', "Accept_Ranges": "bytes"}, None),
        ({"Last_Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}, "Sat, 21 Nov 2026 10:00:00 GMT"),
    ],
)
async def test_only_the_rest_is_asked_for(
    headers: dict[str, object], if_range: str | None, kind: str, tmp_path: Path
) -> None:
    serve = a_service(rest=the_rest, **headers)
    server, target, told = await downloaded(serve, tmp_path, kind=kind)
    assert target.read_bytes() == FILM
    first, second = server.requests
    assert "range" not in first.headers
    # What had reached this side and had not been read is lost with its connection.
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert HALF // 2 < start <= HALF
    assert second.headers.get("if-range") == if_range
    assert told[-1] == Progress(len(FILM), len(FILM), 2)
    assert min(progress.sent for progress in told if progress.attempt == 2) > start
    assert os.listdir(tmp_path) == ["a.mp4"]


async def test_a_download_may_break_off_again_and_again(tmp_path: Path) -> None:
    async def serve(conversation: Conversation) -> None:
        request = await conversation.request()
        start = int(request.headers.get("range", "bytes=0-").strip("bytes=-"))
        end = min(start + len(FILM) // 4 + 1, len(FILM))
        status = "206 Partial Content" if start else "200 OK"
        said: dict[str, object] = {"ETag": '"abc"', "Content_Length": len(FILM) - start}
        if start:
            said["Content_Range"] = f"bytes {start}-{len(FILM) - 1}/{len(FILM)}"
        await conversation.send(head(status, **said) + FILM[start:end])

    server, target, _ = await downloaded(serve, tmp_path)
    assert target.read_bytes() == FILM
    assert 4 <= len(server.requests) <= 5


@pytest.mark.parametrize(
    "rest",
    [
        lambda start: from_the_start(),
        lambda start: the_rest(start - 1),
        lambda start: the_rest(start).replace(b"/%d" % len(FILM), b"/%d" % (len(FILM) + 1)),
        lambda start: head("206 Partial Content", Content_Length=len(FILM) - start) + FILM[start:],
    ],
    ids=["from the start", "from elsewhere", "another file", "without a range"],
)
async def test_what_does_not_go_on_is_not_taken_and_its_price_is_said(
    rest: Callable[[int], bytes], tmp_path: Path
) -> None:
    with pytest.raises(OutcomeUnknown, match="does not go on where it was cut off") as caught:
        await downloaded(a_service(rest=rest, ETag='"abc"'), tmp_path)
    assert f" of {len(FILM):,} bytes had come and may be billed" in str(caught.value)
    assert "$0.12 per GB, here up to $0.0005" in str(caught.value)
    assert caught.value.attempts == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("headers", [{}, {"Accept_Ranges": "none", "ETag": '"abc"'}])
async def test_where_the_server_cannot_go_on_nothing_is_paid_twice(
    headers: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(OutcomeUnknown, match="calling again begins anew and may bill") as caught:
        await downloaded(a_service(rest=None, **headers), tmp_path)
    assert caught.value.attempts == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "rest", [None, lambda start: head("200 OK", Content_Length=len(FILM)) + FILM]
)
async def test_but_for_who_accepts_to_pay_twice(
    rest: Callable[[int], bytes] | None, tmp_path: Path
) -> None:
    twice = CallOptions(replay="accept_double_billing")
    serve = a_service(rest=rest, ETag='"abc"' if rest else "")
    server, target, _ = await downloaded(serve, tmp_path, options=twice)
    assert target.read_bytes() == FILM
    assert len(server.requests) == 2


async def test_what_has_not_begun_is_asked_for_again(tmp_path: Path) -> None:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        if conversation.number > 2:
            await conversation.send(head("200 OK", Content_Length=len(FILM)) + FILM)

    server, target, _ = await downloaded(serve, tmp_path)
    assert (target.read_bytes(), len(server.requests)) == (FILM, 3)


async def test_a_file_of_unknown_length_that_is_reset_is_not_whole(tmp_path: Path) -> None:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(head("200 OK", Connection="close") + FILM[:HALF])
        await reset(conversation)

    with pytest.raises(OutcomeUnknown, match=r"[\d,]+ bytes had come"):
        await downloaded(serve, tmp_path)
    assert os.listdir(tmp_path) == []


async def test_a_file_of_unknown_length_ends_with_its_connection(tmp_path: Path) -> None:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(head("200 OK", Connection="close") + FILM)

    _, target, _ = await downloaded(serve, tmp_path)
    assert target.read_bytes() == FILM


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "video/mp4", "binary"])
@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (answer(None, 404).partition(b"\r\n\r\n")[2], NotFound, "said"),
        (b'  {"code": "0402", "msg": "no credits"}', ApiError, "no credits"),
        (b"<!DOCTYPE html><p>Log in", NotJson, "not JSON"),
        (b"<html><p>Log in", NotJson, "not JSON"),
    ],
)
async def test_a_refusal_is_one_whatever_its_type_says(
    body: bytes, error: type[MemoriesError], says: str, kind: str, tmp_path: Path
) -> None:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        said = {"Content_Type": kind, "Content_Length": len(body)}
        await conversation.send(head("200 OK", **said) + body)

    with pytest.raises(error, match=says):
        await downloaded(serve, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("body", [b"{", b"<", b"{}", b"", b"{" * 70_000, b"<svg>", b'{"a":1}'])
async def test_what_only_looks_like_one_is_a_file(body: bytes, tmp_path: Path) -> None:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(head("200 OK", Content_Length=len(body)) + body)

    _, target, _ = await downloaded(serve, tmp_path)
    assert target.read_bytes() == body


async def test_two_downloads_to_one_place_do_not_mix(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(head("200 OK", Content_Length=len(FILM)) + FILM[:HALF])
        begun.set()
        await go_on.wait()
        await conversation.send(FILM[HALF:])

    async with RawServer(serve) as server, Memories(KEY, base_url=server.url) as client:
        first = asyncio.ensure_future(client.assets.download("re_1", tmp_path / "a.mp4"))
        await begun.wait()
        # A thread makes the file, locks it, and only then writes to it.
        while not sum(part.stat().st_size for part in os.scandir(tmp_path)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(MediaError, match="another download is writing it"):
            await client.assets.download("re_2", tmp_path / "a.mp4")
        go_on.set()
        await first
    assert (tmp_path / "a.mp4").read_bytes() == FILM
    assert os.listdir(tmp_path) == ["a.mp4"]


async def test_what_a_killed_download_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.part").write_bytes(b"x" * (len(FILM) + 100))
    _, target, _ = await downloaded(a_service(rest=None, cuts=0), tmp_path)
    assert target.read_bytes() == FILM
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("kind", [ValueError, OSError, KeyError])
async def test_what_the_hook_raises_is_no_lost_connection(
    kind: type[Exception], tmp_path: Path
) -> None:
    def stumble(progress: Progress) -> None:
        raise kind("mine")

    serve = a_service(rest=the_rest, cuts=0, Accept_Ranges="bytes")
    async with (
        RawServer(serve) as server,
        Memories(KEY, base_url=server.url, clock=HurriedClock()) as client,
    ):
        with pytest.raises(kind, match="mine"):
            await client.library.download("VI1", tmp_path / "a.mp4", on_progress=stumble)
    assert len(server.requests) == 1
    assert os.listdir(tmp_path) == []


async def test_a_deadline_amid_a_download_does_not_say_that_it_was_free(tmp_path: Path) -> None:
    async def dawdle(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(head("200 OK", Content_Length=len(FILM)) + FILM[:1000])
        await asyncio.Event().wait()

    async with RawServer(dawdle) as server, Memories(KEY, base_url=server.url) as client:
        with pytest.raises(OutcomeUnknown, match=r"1,000 of .* bytes had come and may be billed"):
            await client.library.download(
                "VI1", tmp_path / "a.mp4", options=CallOptions(deadline=1)
            )
