"""The documented formats, sizes and durations of each endpoint, and batches that break them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import cast

import attrs
import pytest

from memories_async import (
    ConfigurationError,
    Media,
    MediaError,
    MediaTooLarge,
    MediaTooLong,
    UnsupportedMedia,
)
from memories_async.media import readers
from memories_async.media.inspect import inspect_all, inspect_source
from memories_async.media.readers import Attachment, read_all
from memories_async.media.rules import (
    CAPTION_IMAGE,
    CAPTION_VIDEO,
    EMBEDDED_IMAGE,
    GIBIBYTE,
    LIBRARY_IMAGE,
    LIBRARY_VIDEO,
    MEBIBYTE,
    QUERY_IMAGE,
    MediaRule,
)
from memories_async.media.source import Source
from tests.media.containers import mp4
from tests.media.inspecting import JPEG, PNG, refused

# Formats.


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (CAPTION_IMAGE, "png jpg"),
        (LIBRARY_IMAGE, "png jpg gif bmp webp"),
        (QUERY_IMAGE, "png jpg gif bmp webp"),
        (EMBEDDED_IMAGE, "png jpg gif bmp webp tif"),
        (CAPTION_VIDEO, "mp4 mov 3gp mkv webm avi flv wmv mpg"),
        (LIBRARY_VIDEO, "mp4 mov mkv avi"),
    ],
)
def test_each_endpoint_takes_what_its_page_documents(rule: MediaRule, names: str) -> None:
    heads = {
        "png": PNG,
        "jpg": JPEG,
        "gif": b"GIF89a",
        "bmp": b"BM",
        "webp": b"RIFF\0\0\0\0WEBP",
        "tif": b"II*\0",
        "mp4": b"\0\0\0\x18ftypmp42",
        "mov": b"\0\0\0\x14ftypqt  ",
        "3gp": b"\0\0\0\x14ftyp3gp5",
        "mkv": b"\x1a\x45\xdf\xa3\x42\x82matroska",
        "webm": b"\x1a\x45\xdf\xa3\x42\x82webm",
        "avi": b"RIFF\0\0\0\0AVI ",
        "flv": b"FLV\x01",
        "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        "mpg": b"\0\0\x01\xba",
        "txt": b"text",
    }
    for name, head in heads.items():
        for media in (head, Media(head, name=f"a.{name}"), Media(head, name=f"A.{name.upper()}")):
            if name in names.split():
                assert inspect_source(media, rule).content_type
            else:
                assert isinstance(refused(media, rule), UnsupportedMedia)


def test_the_message_names_file_and_formats(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hi")
    assert str(refused(path)) == f"{path}: an image to caption takes .jpeg .jpg .png"
    path = tmp_path / "film.png"
    path.write_bytes(mp4(1))
    assert str(refused(path)) == (
        f"{path}: its first bytes show video/mp4; an image to caption takes .jpeg .jpg .png"
    )
    assert "no known format" in str(refused(Media(b"hello", name="a.png")))


# Sizes and durations.


def sparse(path: Path, size: int, head: bytes) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    assert file.closed
    return path


@pytest.mark.parametrize(
    ("rule", "name", "head", "limit", "words"),
    [
        (LIBRARY_IMAGE, "a.png", PNG, 20 * MEBIBYTE, "20,971,521 bytes; the limit for a library"),
        (QUERY_IMAGE, "a.png", PNG, 20 * MEBIBYTE, "the limit for a query image is 20 MB"),
        (CAPTION_VIDEO, "a.flv", b"FLV\x01", 8 * GIBIBYTE, "8,589,934,593 bytes; the limit"),
        (CAPTION_VIDEO, "a.mp4", mp4(60), 8 * GIBIBYTE, "for a video to caption is 8 GB"),
        (LIBRARY_VIDEO, "a.mp4", mp4(60), 3 * GIBIBYTE, "the limit for a library video is 3 GB"),
    ],
)
def test_the_largest_file(
    rule: MediaRule, name: str, head: bytes, limit: int, words: str, tmp_path: Path
) -> None:
    path = sparse(tmp_path / name, limit, head)
    assert inspect_source(path, rule).size == limit
    os.truncate(path, limit + 1)
    error = refused(path, rule)
    assert isinstance(error, MediaTooLarge)
    assert words in str(error)
    assert name in str(error)
    with path.open("rb") as file:
        assert isinstance(refused(file, rule), MediaTooLarge)
        file.seek(1)
        assert not isinstance(_outcome(file, rule), MediaTooLarge)


def _outcome(source: Source, rule: MediaRule) -> object:
    try:
        return inspect_source(source, rule)
    except MediaError as error:
        return error


def test_no_limit_where_none_is_documented(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a.png", GIBIBYTE, PNG)
    for rule in (CAPTION_IMAGE, EMBEDDED_IMAGE):
        assert inspect_source(path, rule).size == GIBIBYTE


class Endless:
    """What can be read for ever."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int, /) -> bytes:
        data = bytes(size) if self.given else PNG[:size]
        self.given += len(data)
        return data


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CAPTION_IMAGE, "of unknown size, 3 MB are the most that is read into memory"),
        (attrs.evolve(CAPTION_IMAGE, max_size=MEBIBYTE), "the limit for an image to caption is 1"),
    ],
)
def test_what_has_no_end_is_not_read_to_it(
    rule: MediaRule, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MOST_IN_MEMORY", 3 * MEBIBYTE)
    endless = Endless()
    attachment = inspect_source(endless, rule)
    with pytest.raises(MediaTooLarge, match=words):
        read_all(attachment)
    assert endless.given <= 4 * MEBIBYTE


def test_what_is_known_to_end_is_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_IN_MEMORY", 3)
    assert read_all(inspect_source(io.BytesIO(PNG), CAPTION_IMAGE)) == PNG


@pytest.mark.parametrize("given", ["path", "file", "bytes", "memory"])
def test_the_longest_video(given: str, tmp_path: Path) -> None:
    def look_at(seconds: float, rule: MediaRule) -> object:
        path = tmp_path / "a.mp4"
        path.write_bytes(mp4(seconds))
        with path.open("rb") as file:
            given_as: dict[str, Source] = {
                "path": path,
                "file": file,
                "bytes": path.read_bytes(),
                "memory": io.BytesIO(path.read_bytes()),
            }
            return _outcome(given_as[given], rule)

    assert isinstance(look_at(7200, CAPTION_VIDEO), Attachment)
    assert isinstance(look_at(100_000, LIBRARY_VIDEO), Attachment)  # no limit is documented there
    error = look_at(7300, CAPTION_VIDEO)
    assert isinstance(error, MediaTooLong)
    assert "lasts 121.7 minutes; the limit for a video to caption is 120 minutes" in str(error)


def test_a_video_that_does_not_say_how_long_it_lasts() -> None:
    assert inspect_source(b"FLV\x01" + bytes(100), CAPTION_VIDEO)
    assert inspect_source(mp4(1)[:30], CAPTION_VIDEO)


# Batches.


def test_a_batch_names_every_bad_file(png: Path, tmp_path: Path) -> None:
    sources: list[Source] = [png, tmp_path / "1.png", b"GIF", tmp_path, png]
    with pytest.raises(MediaError) as caught:
        inspect_all(sources, CAPTION_IMAGE)
    assert type(caught.value) is MediaError
    assert caught.value.message.startswith("3 of 5 files cannot be sent: ")
    assert len(caught.value.problems) == 3
    for problem in caught.value.problems:
        assert problem in str(caught.value)


def test_a_batch_with_one_kind_of_trouble_raises_that(png: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="2 of 3 files"):
        inspect_all([png, b"GIF89a", b"BM"], CAPTION_IMAGE)
    with pytest.raises(UnsupportedMedia) as caught:
        inspect_all([png, b"GIF89a"], CAPTION_IMAGE)
    assert caught.value.problems == (caught.value.message,)
    with pytest.raises(ConfigurationError):
        inspect_all([b"GIF89a", cast("bytes", 7)], CAPTION_IMAGE)


def test_a_good_batch_keeps_its_order(png: Path) -> None:
    attachments = inspect_all([png, JPEG, Media(PNG, name="c.png")], CAPTION_IMAGE)
    assert [attachment.name for attachment in attachments] == ["a.png", "image.jpg", "c.png"]
