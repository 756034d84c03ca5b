"""Bodies: exact length, boundaries, and names that try to break out of their part."""

from __future__ import annotations

import asyncio
import io
import json
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from memories_async import Media
from memories_async._engine.body.layout import SMALL, Recipe, _joined, recipe
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import Attachment, whole
from memories_async.media.rules import CAPTION_VIDEO, LIBRARY_IMAGE
from memories_async.operations import (
    ADD_IMAGES,
    ADD_VIDEO_URL,
    CAPTION_IMAGE_FILE,
    CAPTION_IMAGE_URL,
    GET_VIDEO,
    Operation,
)
from tests.recorder import Part, parts_of

PNG = b"\x89PNG\r\n\x1a\n"


def laid_out(
    operation: Operation[Any],
    fields: Mapping[str, object] | None = None,
    files: Sequence[Attachment] = (),
) -> Recipe:
    body = recipe(operation, fields or {}, files)
    assert body is not None
    return body


def attachment(name: str = "a.png", data: bytes = PNG, kind: str = "image/png") -> Attachment:
    return Attachment(name, kind, len(data), name, content=data)


def written(body: Recipe) -> bytes:
    return b"".join(piece if isinstance(piece, bytes) else whole(piece) for piece in body.pieces)


def parts(body: Recipe) -> list[Part]:
    """Parse with the standard library; the length must be what is written."""
    data = written(body)
    assert body.length == len(data)
    return parts_of(body.content_type, data)


async def read_by_aiohttp(body: Recipe) -> list[Part]:
    """Parse with a second parser, which reads names as servers do."""
    loop = asyncio.get_running_loop()
    stream = aiohttp.StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    stream.feed_data(written(body))
    stream.feed_eof()
    found = []
    async for part in aiohttp.MultipartReader({"Content-Type": body.content_type}, stream):
        assert isinstance(part, aiohttp.BodyPartReader)
        data = bytes(await part.read())
        kind = part.headers.get("Content-Type")
        found.append(Part(part.name or "", data, part.filename, kind))
    return found


def test_no_body_for_a_query() -> None:
    assert recipe(GET_VIDEO, {"video_no": "VI1"}) is None


def test_json() -> None:
    body = laid_out(CAPTION_IMAGE_URL, {"url": "https://a/b", "user_prompt": "Что? 日本"})
    assert body.content_type == "application/json"
    assert json.loads(written(body)) == {"url": "https://a/b", "user_prompt": "Что? 日本"}
    assert body.length == len(written(body))


def test_the_part_req_comes_first_and_is_a_file_of_json() -> None:
    body = laid_out(CAPTION_IMAGE_FILE, {"user_prompt": "«Что?»\r\n", "qa": True}, [attachment()])
    req, file = parts(body)
    assert (req.name, req.filename, req.content_type) == ("req", "req.json", "application/json")
    assert json.loads(req.content) == {"user_prompt": "«Что?»\r\n", "qa": True}
    assert file == Part("file", PNG, "a.png", "image/png")


def test_fields_come_before_files_and_lists_are_repeated() -> None:
    body = laid_out(
        ADD_IMAGES,
        {"latitude": 1.5, "tags": ["x", "ж", ""], "unique_id": "a\r\nb"},
        [attachment("a.png"), attachment("b.png", b"BM", "image/bmp")],
    )
    assert parts(body) == [
        Part("latitude", b"1.5"),
        Part("tags", b"x"),
        Part("tags", "ж".encode()),
        Part("tags", b""),
        Part("unique_id", b"a\r\nb"),
        Part("files", PNG, "a.png", "image/png"),
        Part("files", b"BM", "b.png", "image/bmp"),
    ]


def test_each_body_has_a_boundary_of_its_own_that_no_file_can_know() -> None:
    bodies = [laid_out(ADD_IMAGES, files=[attachment()]) for _ in range(50)]
    boundaries = {body.content_type.partition("boundary=")[2] for body in bodies}
    assert len(boundaries) == 50
    for boundary in boundaries:
        assert 32 < len(boundary) <= 70  # RFC 2046 allows 70
        assert boundary.replace("-", "").isalnum()


@pytest.mark.parametrize("data", [b"--", b"\r\n--", b"\r\n----\r\n", b"\n\n", bytes(range(256))])
def test_content_that_looks_like_a_boundary(data: bytes) -> None:
    assert parts(laid_out(ADD_IMAGES, files=[attachment(data=data)]))[0].content == data


def test_small_pieces_are_joined_and_large_ones_are_not_copied() -> None:
    small, large = bytes(SMALL), bytes(SMALL + 1)
    assert len(laid_out(ADD_IMAGES, {"tags": ["a"]}, [attachment(data=small)]).pieces) == 1
    body = laid_out(ADD_IMAGES, {"tags": ["a"]}, [attachment(data=large)])
    assert len(body.pieces) == 3
    assert body.pieces[1] is large
    assert len(laid_out(ADD_IMAGES, files=[attachment(data=large)] * 2).pieces) == 5


def test_laying_out_a_large_body_copies_nothing() -> None:
    data = bytes(64 << 20)
    tracemalloc.start()
    try:
        body = laid_out(ADD_IMAGES, files=[attachment(data=data)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert body.length is not None
    assert body.length > 64 << 20


def test_the_length_is_unknown_where_a_file_s_is() -> None:
    async def stream() -> None: ...

    unknown = Attachment("a.mp4", "video/mp4", None, "a stream", stream=stream())  # type: ignore[arg-type]  # not read here
    assert laid_out(ADD_IMAGES, files=[attachment(), unknown]).length is None
    unknown.stream.close()  # type: ignore[union-attr]  # the coroutine that stands for a stream


# S8: names.

HOSTILE = (
    'a"; name="req"; x=".png',
    'x.png"\r\nContent-Type: text/html\r\n\r\n<script>',
    "x\r\n\r\n--boundary\r\n.png",
    "nul\0byte.png",
    "tab\tname.png",
    "\r.png",
    "\n.png",
    "\x7f\x85\u2028\u2029.png",
    "semi;colon=1;.png",
    "back\\slash\\name.png",
    "../../../etc/passwd.png",
    "/absolute/name.png",
    "C:\\Windows\\name.png",
    "bidi \u202egnp.exe\u2066\u200f.png",
    "percent%0D%0A%22.png",
    "quote%22.png",
    "ends with \\.png",
    "'single'.png",
    "=?utf-8?B?aGk=?=.png",
    "long" * 1000 + ".png",
    "日" * 4000 + ".png",
    "surrogate\udc80.png",
    "a" * 300 + "." + "b" * 300,
    "...",
    "",
    "/",
)


def _short(name: str) -> str:
    return ascii(name)[:40]


WHOLE = (
    "фильм 日本 — ñandú.png",
    "emoji 🎬🏳️‍🌈.png",
    "שלום.png",
    "combining é.png",
    "space in name.png",
    "semi;colon=1;.png",
    "percent%20.png",
    "'single'.png",
    "plus+&amp.png",
)


def _assert_our_parts(found: list[Part], data: bytes) -> str:
    """Check that the hostile name added no part, field or header; return the name that came."""
    [file] = found
    assert (file.name, file.content, file.content_type) == ("files", data, "image/png")
    name = file.filename
    assert name is not None
    assert name
    assert len(name) <= 220
    assert not any(character in name for character in '\r\n\0/\\"')
    assert not any("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in name)
    return name


@pytest.mark.anyio
@pytest.mark.parametrize("name", HOSTILE, ids=_short)
async def test_hostile_names(name: str) -> None:
    media = Media(PNG, name=name, content_type="image/png")
    body = laid_out(ADD_IMAGES, files=[inspect_source(media, LIBRARY_IMAGE)])
    by_email = _assert_our_parts(parts(body), PNG)
    if name.count(";") < 2:  # aiohttp's parser takes a name apart at its semicolons
        assert _assert_our_parts(await read_by_aiohttp(body), PNG) == by_email


@pytest.mark.anyio
@pytest.mark.parametrize("name", HOSTILE, ids=_short)
async def test_hostile_names_that_reach_the_body_unchecked(name: str) -> None:
    """The second lock: what lays out the body trusts no name either."""
    body = laid_out(ADD_IMAGES, files=[attachment(name), attachment("b.png", kind=name)])
    head = written(body).partition(PNG)[0].decode()
    assert head.count("\r\n") == 4
    first, second = head.split("\r\n")[1:3]
    assert first.startswith('Content-Disposition: form-data; name="files"; filename="')
    assert first.count('"') == 4
    assert second == "Content-Type: image/png"
    assert [part.content for part in parts_of(body.content_type, written(body))] == [PNG, PNG]


@pytest.mark.anyio
@pytest.mark.parametrize("name", WHOLE)
async def test_names_in_utf_8_arrive_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PNG)
    body = laid_out(ADD_IMAGES, files=[inspect_source(path, LIBRARY_IMAGE)])
    assert parts(body) == [Part("files", PNG, name, "image/png")]
    if name.count(";") < 2:
        [part] = await read_by_aiohttp(body)
        assert part.filename == name


def test_field_names_and_values_cannot_break_out() -> None:
    body = laid_out(ADD_IMAGES, {'a"\r\nX: y': 'v"\r\n\r\nContent-Type: text/html\r\n'})
    [part] = parts(body)
    assert part.name == "a%22%0D%0AX: y"
    assert part.content == b'v"\r\n\r\nContent-Type: text/html\r\n'


@given(
    name=st.text(max_size=40),
    data=st.binary(max_size=60).filter(lambda data: not data.startswith(b"http")),
    tag=st.text(max_size=20),
)
def test_any_name_content_and_tag(name: str, data: bytes, tag: str) -> None:
    media = Media(data or PNG, name=name, content_type="image/png")
    file = inspect_source(media, LIBRARY_IMAGE)
    found = parts(laid_out(ADD_IMAGES, {"tags": [tag]}, [file]))
    assert found[0] == Part("tags", tag.encode())
    assert found[1:] == [Part("files", data or PNG, file.name.replace('"', "%22"), "image/png")]


def test_a_file_object_is_a_piece_and_can_be_written_again() -> None:
    data = b"\0\0\0\x18ftypmp42" + bytes(100)
    source = io.BytesIO(b"before" + data)
    source.seek(6)
    body = laid_out(CAPTION_IMAGE_FILE, {"qa": False}, [inspect_source(source, CAPTION_VIDEO)])
    first, second = written(body), written(body)
    assert first == second
    assert parts(body)[1].content == data
    assert source.tell() == 6


def test_a_form() -> None:
    body = laid_out(ADD_VIDEO_URL, {"url": "https://a.example/b c&d", "tags": ["a", "b"]})
    assert body.content_type == "application/x-www-form-urlencoded"
    assert written(body) == b"url=https%3A%2F%2Fa.example%2Fb+c%26d&tags=a&tags=b"


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        (["a", "b", "L", "c"], ["ab", "L", "c"]),
        (["L", "L"], ["L", "L"]),
        (["L", "a", "b"], ["L", "ab"]),
        ([], []),
    ],
)
def test_small_pieces_are_joined_and_no_large_one_is_copied(
    pieces: list[str], joined: list[str]
) -> None:
    large = bytes(SMALL + 1)
    made = [large if piece == "L" else piece.encode() for piece in pieces]
    found = list(_joined(iter(made)))
    assert found == [large if piece == "L" else piece.encode() for piece in joined]
    assert all(piece is large for piece in found if isinstance(piece, bytes) and piece == large)
