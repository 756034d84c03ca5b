"""Downloads that come packed although they were asked for as they are: whole, or not taken."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from memories_async import (
    AnswerTooLarge,
    AuthenticationError,
    CallOptions,
    DecodeError,
    NotFound,
    OutcomeUnknown,
    Progress,
)
from tests.engine.raw_server import Conversation, RawServer
from tests.engine.test_cut_downloads import downloaded, head, reset

pytestmark = pytest.mark.anyio

FILM = os.urandom(100_000) + bytes(5_000_000) + os.urandom(100_000)
HALF = len(FILM) // 2


def headless(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def framed(body: bytes, status: str = "200 OK", **headers: object) -> bytes:
    return head(status, Content_Length=len(body), **headers) + body


def chunked(body: bytes, status: str = "200 OK", **headers: object) -> bytes:
    pieces = (body[start : start + 5000] for start in range(0, len(body), 5000))
    said = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head(status, Transfer_Encoding="chunked", **headers) + said + b"0\r\n\r\n"


FRAMINGS = pytest.mark.parametrize("frame", [framed, chunked])


async def answered(answer: bytes, folder: Path) -> tuple[RawServer, Path, list[Progress]]:
    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(answer)

    return await downloaded(serve, folder)


@FRAMINGS
@pytest.mark.parametrize(
    ("packing", "packed"),
    [
        ("gzip", gzip.compress(FILM)),
        ("GZip", gzip.compress(FILM[:HALF]) + gzip.compress(FILM[HALF:])),
        ("gzip", b"".join(gzip.compress(b"") for _ in range(2000)) + gzip.compress(FILM)),
        ("deflate", zlib.compress(FILM)),
        ("deflate", headless(FILM)),
        ("aws-chunked", FILM),
        ("identity", FILM),
        ("x-gzip", gzip.compress(FILM)),
        ("identity, gzip", gzip.compress(FILM)),
        ("aws-chunked\r\nContent-Encoding: gzip", gzip.compress(FILM)),
    ],
    ids=[
        *("gzip", "two members", "2001 members", "deflate", "headless", "no packing", "identity"),
        *("x-gzip", "of two", "of two headers"),
    ],
)
async def test_a_whole_one_is_unpacked(
    frame: Callable[..., bytes], packing: str, packed: bytes, tmp_path: Path
) -> None:
    _, target, told = await answered(frame(packed, Content_Encoding=packing), tmp_path)
    whole = target.read_bytes() == FILM  # pytest would compare millions of bytes line by line
    assert whole
    assert {progress.total for progress in told} <= {None, len(FILM)}
    assert max(progress.sent for progress in told) <= len(FILM)
    assert os.listdir(tmp_path) == ["a.mp4"]


@FRAMINGS
@pytest.mark.parametrize(
    ("packing", "packed"),
    [
        ("gzip", gzip.compress(FILM)[:150_000]),
        ("gzip", gzip.compress(FILM)[:-1]),
        ("gzip", gzip.compress(FILM)[:-8] + bytes(8)),
        ("gzip", gzip.compress(FILM[:HALF]) + gzip.compress(FILM[HALF:])[:-9]),
        ("gzip", FILM),
        ("deflate", zlib.compress(FILM)[:-1]),
        ("deflate", headless(FILM)[:-1]),
        ("deflate", zlib.compress(FILM) + zlib.compress(FILM)),
        ("br", FILM),
        ("zstd", FILM),
        ("gzip, gzip", gzip.compress(gzip.compress(FILM))),
    ],
    ids=[
        *("cut", "a byte", "checksum", "second", "not gzip", "deflate", "headless", "two of it"),
        *("br", "zstd", "packed twice"),
    ],
)
async def test_one_that_is_not_whole_is_not_taken_and_not_asked_for_again(
    frame: Callable[..., bytes], packing: str, packed: bytes, tmp_path: Path
) -> None:
    answer = frame(packed, Content_Encoding=packing, Accept_Ranges="bytes", ETag='"abc"')
    requests = 0

    async def serve(conversation: Conversation) -> None:
        nonlocal requests
        await conversation.request()
        requests += 1
        await conversation.send(answer)

    with pytest.raises(DecodeError, match=rf"came packed, .*\({packing}[,:]") as caught:
        await downloaded(serve, tmp_path)
    assert (caught.value.status, caught.value.attempts, requests) == (200, 1, 1)
    assert os.listdir(tmp_path) == []


async def test_the_rest_of_a_packed_one_is_not_asked_for(tmp_path: Path) -> None:
    """Its ranges count packed bytes."""
    packed = gzip.compress(FILM)
    said = {"Content_Encoding": "gzip", "Accept_Ranges": "bytes", "ETag": '"abc"'}
    cut = framed(packed, **said)[:-5]
    with pytest.raises(OutcomeUnknown, match=r"bytes had come and may be billed") as caught:
        await answered(cut, tmp_path)
    assert caught.value.attempts == 1
    assert os.listdir(tmp_path) == []


async def test_a_rest_that_comes_packed_is_not_taken(tmp_path: Path) -> None:
    async def serve(conversation: Conversation) -> None:
        request = await conversation.request()
        if (asked := request.headers.get("range")) is None:
            await conversation.send(framed(FILM, ETag='"abc"')[:-HALF])
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        rest = gzip.compress(FILM[start:])
        span = f"bytes {start}-{len(FILM) - 1}/{len(FILM)}"
        said = {"Content_Range": span, "Content_Encoding": "gzip"}
        await conversation.send(framed(rest, "206 Partial Content", **said))

    with pytest.raises(OutcomeUnknown, match="does not go on where it was cut off"):
        await downloaded(serve, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
@pytest.mark.parametrize("packed", [True, False])
async def test_a_refusal_is_read_packed_or_not(kind: str, packed: bool, tmp_path: Path) -> None:
    body = json.dumps({"code": "404", "msg": "there is none"}).encode()
    said = {"Content_Type": kind} | ({"Content_Encoding": "gzip"} if packed else {})
    answer = framed(gzip.compress(body) if packed else body, **said)
    with pytest.raises(NotFound, match="there is none"):
        await answered(answer, tmp_path)
    assert os.listdir(tmp_path) == []


async def test_an_empty_refusal_that_calls_itself_packed_is_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await answered(framed(b"", "404 Not Found", Content_Encoding="gzip"), tmp_path)


@pytest.mark.parametrize("packed", [True, False])
async def test_a_refusal_without_an_end_is_not_read_to_it(packed: bool, tmp_path: Path) -> None:
    body = b"[" + bytes(16 * 1024 * 1024)
    said = {"Content_Type": "application/json"} | ({"Content_Encoding": "gzip"} if packed else {})
    answer = framed(gzip.compress(body, 1) if packed else body, "404 Not Found", **said)
    with pytest.raises(AnswerTooLarge):
        await answered(answer, tmp_path)
    assert os.listdir(tmp_path) == []


BROKEN = [("gzip", b"busy"), ("gzip", gzip.compress(b"{}")[:-5]), ("br", b"")]


@pytest.mark.parametrize("status", [401, 404, 429, 503])
@pytest.mark.parametrize(
    "said", [("gzip", b"busy"), ("gzip", gzip.compress(b"{}")[:-5]), ("br", b"")]
)
async def test_a_refusal_that_cannot_be_unpacked_is_told_by_its_status(
    status: int, said: tuple[str, bytes], tmp_path: Path
) -> None:
    packing, body = said

    async def serve(conversation: Conversation) -> None:
        await conversation.request()
        if len(conversation.server.requests) == 1:
            refusal = framed(body, f"{status} Said", Content_Encoding=packing)
            await conversation.send(refusal)
        await conversation.request()
        await conversation.send(framed(FILM))

    if status in (401, 404):
        with pytest.raises(AuthenticationError if status == 401 else NotFound) as caught:
            await downloaded(serve, tmp_path)
        assert caught.value.status == status
    else:  # a free read is asked for again
        server, target, _ = await downloaded(serve, tmp_path)
        assert (len(server.requests), target.stat().st_size) == (2, len(FILM))


async def test_json_that_cannot_be_unpacked_and_calls_itself_well_is_no_answer(
    tmp_path: Path,
) -> None:
    said = {"Content_Type": "application/json", "Content_Encoding": "gzip"}
    with pytest.raises(DecodeError, match=r"came packed, .*cut off before its end"):
        await answered(framed(gzip.compress(b"{}")[:-5], **said), tmp_path)


@pytest.mark.parametrize("came", [5, 50_000])
async def test_a_packed_one_that_is_reset_is_no_bad_packing(came: int, tmp_path: Path) -> None:
    """Nor is the rest asked for: what lies here is not what the ranges count."""
    packed = gzip.compress(FILM)
    requests = []

    async def serve(conversation: Conversation) -> None:
        requests.append(await conversation.request())
        if conversation.number == 1:
            said = {"Content_Encoding": "gzip", "Accept_Ranges": "bytes", "ETag": '"abc"'}
            await conversation.send(head("200 OK", Connection="close", **said) + packed[:came])
            await reset(conversation)
        else:
            await conversation.send(framed(FILM))

    options = CallOptions(replay="accept_double_billing")
    _, target, _ = await downloaded(serve, tmp_path, options)
    whole = target.read_bytes() == FILM
    assert whole
    assert [request.headers.get("range") for request in requests] == [None, None]


async def test_what_came_of_a_bad_packing_may_be_billed(tmp_path: Path) -> None:
    packed = gzip.compress(FILM)
    with pytest.raises(DecodeError) as caught:
        await answered(framed(packed[:-8] + bytes(8), Content_Encoding="gzip"), tmp_path)
    assert "bytes had come and may be billed" in str(caught.value)
