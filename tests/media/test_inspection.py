"""What users may give as a source, and the checks it passes before anything is sent."""

from __future__ import annotations

import gzip
import io
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from memories_async import (
    ConfigurationError,
    Media,
    MediaChanged,
    MediaTooLarge,
    UnsupportedMedia,
)
from memories_async.media import file_objects
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import FileReader, read_all, whole
from memories_async.media.rules import (
    CAPTION_IMAGE,
    CAPTION_VIDEO,
    LIBRARY_IMAGE,
    MEBIBYTE,
)
from tests.media.containers import mp4
from tests.media.inspecting import PNG, described, refused

# Every kind of source.


def test_a_path_in_any_form(png: Path) -> None:
    for source in (str(png), png, os.path.relpath(png)):
        attachment = inspect_source(source, CAPTION_IMAGE)
        assert described(attachment) == ("a.png", "image/png", len(PNG), PNG)
        assert attachment.replayable
        assert attachment.label == os.fspath(source)


def test_bytes() -> None:
    attachment = inspect_source(PNG, CAPTION_IMAGE)
    assert described(attachment) == ("image.png", "image/png", len(PNG), PNG)
    assert inspect_source(b"GIF89a", LIBRARY_IMAGE).name == "image.gif"
    assert inspect_source(mp4(1), CAPTION_VIDEO).name == "video.mp4"


def test_file_objects_are_read_from_where_they_stand(png: Path) -> None:
    png.write_bytes(b"before" + PNG)
    spooled = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115  # closed below
    named = tempfile.NamedTemporaryFile(suffix=".png")  # noqa: SIM115  # closed below
    for temporary in (spooled, named):
        temporary.write(png.read_bytes())
    files: list[Any] = [
        png.open("rb"),
        png.open("rb", buffering=0),
        png.open("r+b"),
        io.BytesIO(png.read_bytes()),
        io.BufferedReader(io.BytesIO(png.read_bytes())),
        spooled,
        named,
    ]
    for file in files:
        with file:
            file.seek(6)
            attachment = inspect_source(file, CAPTION_IMAGE)
            assert attachment.size == len(PNG)
            assert attachment.content_type == "image/png"
            assert [read_all(attachment), read_all(attachment)] == [PNG, PNG]
            assert file.tell() == 6
            assert not file.closed
            file.seek(0, io.SEEK_END)
            assert "stands at its end, with nothing left to read: seek(0)" in str(refused(file))
    assert inspect_source(io.BytesIO(PNG), CAPTION_IMAGE).name == "image.png"


def test_what_was_written_and_not_yet_flushed_is_sent(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("w+b") as file:
        file.write(PNG)
        file.seek(0)
        assert read_all(inspect_source(file, CAPTION_IMAGE)) == PNG


def test_a_compressed_file_is_sent_as_its_object_reads(tmp_path: Path) -> None:
    """A GzipFile has a descriptor, but of other bytes."""
    path = tmp_path / "a.png"
    path.write_bytes(gzip.compress(PNG))
    with gzip.open(path) as file:
        assert read_all(inspect_source(file, CAPTION_IMAGE)) == PNG  # type: ignore[arg-type]  # reads bytes
    assert "no known format" in str(refused(path))


def test_media_names_and_types_by_hand(png: Path) -> None:
    def named(**how: Any) -> tuple[str, str]:
        attachment = inspect_source(Media(png, **how), CAPTION_IMAGE)
        return attachment.name, attachment.content_type

    assert named() == ("a.png", "image/png")
    assert named(name="b.PNG") == ("b.PNG", "image/png")
    assert named(name="b") == ("b.png", "image/png")
    assert named(name="b.jpg") == ("b.jpg", "image/png")
    assert named(content_type="image/jpeg") == ("a.png", "image/jpeg")
    assert named(content_type="image/heic", name="b.heic") == ("b.heic", "image/heic")
    assert named(content_type="image/heic", name="b") == ("b", "image/heic")
    assert named(content_type="image/jpeg", name="...") == ("image.jpg", "image/jpeg")
    assert named(content_type="image/png; charset=binary")[1] == "image/png; charset=binary"


def test_a_given_type_is_trusted() -> None:
    media = Media(b"no picture at all", content_type="image/png")
    assert described(inspect_source(media, CAPTION_IMAGE))[:2] == ("image.png", "image/png")


@pytest.mark.parametrize(
    "content_type", ["png", "image/", "/png", "image/png\r\nX: y", "image/п", "image png", ""]
)
def test_what_is_no_content_type(content_type: str) -> None:
    with pytest.raises(ConfigurationError, match="is no content type"):
        inspect_source(Media(PNG, content_type=content_type), CAPTION_IMAGE)


def test_streams() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield PNG

    stream = chunks()
    attachment = inspect_source(Media(stream, name="a.png"), CAPTION_IMAGE)
    assert (attachment.name, attachment.content_type) == ("a.png", "image/png")
    assert (attachment.size, attachment.replayable) == (None, False)
    assert attachment.stream is stream
    assert inspect_source(Media(stream, name="a.png", size=5), CAPTION_IMAGE).size == 5
    assert "first bytes show no known format" in str(refused(Media(stream)))
    with pytest.raises(ConfigurationError, match="a stream: an async stream cannot"):
        read_all(inspect_source(Media(stream, content_type="image/png"), CAPTION_IMAGE))
    too_large = Media(stream, name="a.png", size=20 * MEBIBYTE + 1)
    assert isinstance(refused(too_large, LIBRARY_IMAGE), MediaTooLarge)


def test_pipes() -> None:
    def pipe(data: bytes) -> io.BufferedReader:
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        return os.fdopen(reading, "rb")

    with pipe(PNG) as file:
        attachment = inspect_source(Media(file, name="a.png"), CAPTION_IMAGE)
        assert (attachment.size, attachment.replayable) == (None, False)
        assert whole(attachment) == PNG
    with pipe(PNG) as file:
        assert inspect_source(file, CAPTION_IMAGE).name == "image.png"
    with pipe(b"") as file:
        assert "is empty" in str(refused(file))
    with pipe(b"GIF89a") as file:
        assert isinstance(refused(file), UnsupportedMedia)


# What cannot be sent.


def test_missing(tmp_path: Path) -> None:
    assert str(refused(tmp_path / "no.png")).endswith("no.png: no such file")
    assert "no such file" in str(refused(str(tmp_path / "no" / "such.png")))


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "a.png is empty" in str(refused(tmp_path / "a.png"))
    assert str(refused(b"")) == "an image or video of 0 bytes is empty"
    assert str(refused(io.BytesIO())) == "a BytesIO is empty"
    assert str(refused(Media(b"", name="b.png"))) == "b.png is empty"


def test_what_is_no_file(tmp_path: Path) -> None:
    assert str(refused(tmp_path)) == f"{tmp_path} is a directory: give the files in it"
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe.png is no regular file" in str(refused(tmp_path / "pipe.png"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        assert "is no regular file" in str(refused(tmp_path / "socket.png"))
    assert "cannot be read" in str(refused("nul\0.png"))
    assert "cannot be read" in str(refused("x" * 5000 + ".png"))
    named = refused(Media(b"no picture", name="x" * 100_000))
    assert "no known format" in str(named)
    assert len(str(named)) < 400


def test_an_unreadable_file(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("memories_async.media.inspect.os.open", denied)
    assert "a.png' cannot be read: Permission denied" in str(refused(png))


def test_file_objects_that_cannot_be_read(png: Path) -> None:
    with png.open() as text:
        assert "is open in text mode" in str(refused(text))
    assert "is open in text mode" in str(refused(io.StringIO("x")))
    closed = png.open("rb")
    closed.close()
    assert f"{png} is closed" in str(refused(closed))

    class AsyncFile:
        async def read(self, size: int = -1) -> bytes:
            return PNG

    with pytest.raises(ConfigurationError, match="read\\(\\) is async"):
        inspect_source(AsyncFile(), CAPTION_IMAGE)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "source", [None, 7, 1.5, ["a.png"], {"a": 1}, object(), ("a.png", "b.png")]
)
def test_what_is_no_source(source: object) -> None:
    with pytest.raises(ConfigurationError, match="a source is an http"):
        inspect_source(source, CAPTION_IMAGE)  # type: ignore[arg-type]  # that is the point


def test_a_url_is_no_file() -> None:
    assert "'https://example.com/a.png' is a URL" in str(refused("https://example.com/a.png"))
    assert "is a URL" in str(refused(Media("HTTP://example.com/a.png")))
    for signed in ("https://example.com/?token=secret", "https://u:secret@example.com/"):
        assert "secret" not in str(refused(signed))
        assert "secret" not in str(refused(signed.encode()))


# Where the system offers less.


def test_without_pread(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: the descriptor's own position is put back."""
    monkeypatch.delattr("os.pread")
    assert read_all(inspect_source(png, CAPTION_IMAGE)) == PNG
    with png.open("rb", buffering=0) as file:
        file.seek(0)
        attachment = inspect_source(file, CAPTION_IMAGE)
        assert read_all(attachment) == PNG
        assert file.tell() == 0


def test_a_path_that_now_leads_elsewhere(png: Path) -> None:
    attachment = inspect_source(png, CAPTION_IMAGE)
    png.unlink()
    with pytest.raises(MediaChanged, match="is gone: No such file"):
        read_all(attachment)
    png.write_bytes(PNG)
    with pytest.raises(MediaChanged, match="changed while it was being sent"):
        read_all(attachment)


def test_a_descriptor_is_closed_once(png: Path) -> None:
    attachment = inspect_source(png, CAPTION_IMAGE)
    assert attachment.open is not None
    reader = attachment.open()
    assert isinstance(reader, FileReader)
    assert stat.S_ISREG(os.fstat(reader.descriptor).st_mode)
    reader.close()
    reader.close()
    assert reader.descriptor == -1


class _Slotted:
    """A file object that cannot be referred to weakly."""

    __slots__ = ("file",)

    def __init__(self) -> None:
        self.file = io.BytesIO(PNG)

    closed = False

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        return self.file.seek(position, whence)

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def test_objects_that_no_weak_table_takes() -> None:
    source = _Slotted()
    first, second = (inspect_source(source, CAPTION_IMAGE) for _ in range(2))  # type: ignore[arg-type]  # reads bytes
    assert [read_all(first), read_all(second)] == [PNG, PNG]
    assert source.tell() == 0


@pytest.mark.parametrize("kind", [io.BytesIO, _Slotted])
def test_an_object_stands_where_it_stood_for_all_that_send_it(kind: type[Any]) -> None:
    """A second call begins while the first is in the middle of reading."""
    source = io.BytesIO(b"before" + PNG) if kind is io.BytesIO else _Slotted()
    start = 6 if kind is io.BytesIO else 0
    source.seek(start)
    first = inspect_source(source, CAPTION_IMAGE)  # type: ignore[arg-type]  # reads bytes
    assert first.open is not None
    reading = first.open()
    assert reading.read(20) == PNG[:20]
    second = inspect_source(source, CAPTION_IMAGE)  # type: ignore[arg-type]  # reads bytes
    assert read_all(second) == PNG
    assert reading.read(1000) == PNG[20:]
    reading.close()
    reading.close()
    assert source.tell() == start
    assert not file_objects._SHARED
