"""What arrives is exactly what the source reads, or the call fails: never other bytes, reported as
success."""

from __future__ import annotations

import array
import asyncio
import bz2
import codecs
import gzip
import io
import mmap
import os
import select
import tempfile
import threading
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from memories_async import Media, MediaChanged, MediaError
from memories_async._engine.body.budget import UploadBudget
from memories_async.media.inspect import inspect_sources
from memories_async.media.readers import READ_SIZE
from memories_async.media.rules import CAPTION_VIDEO
from tests.engine.uploads import body_of, film, send

pytestmark = pytest.mark.anyio

LARGE = 2 * READ_SIZE + 12345


async def sent(source: Any, budget: UploadBudget, attempts: int = 1, **media: Any) -> bytes:
    """Check and send a source as a call does; return what arrived last."""
    media = {"name": "a.mp4", **media}
    (attachment,) = await inspect_sources([Media(source, **media)], CAPTION_VIDEO, budget)
    arrived = b""
    for attempt in range(1, attempts + 1):
        data, _ = await send(body_of(b"<", attachment, b">"), budget, attempt=attempt)
        arrived = data[1:-1]
    return arrived


def pipe(*parts: bytes, pause: threading.Event | None = None) -> int:
    """Return the reading end of a pipe that a thread fills, with a pause before the last part."""
    reading, writing = os.pipe()

    def fill() -> None:
        with os.fdopen(writing, "wb", buffering=0) as end:
            for part in parts[:-1]:
                end.write(part)
            if pause is not None:
                pause.wait(60)
            end.write(parts[-1])

    threading.Thread(target=fill, daemon=True).start()
    return reading


# Pipes.


@pytest.mark.parametrize("buffering", [0, -1])
async def test_a_pipe_that_does_not_block(
    buffering: int, budget: UploadBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its read() gives None while it is empty, which is not its end."""
    data, waited_for = film(10_008), threading.Event()

    class Poll:
        """Lets the rest be written once the reader waits for it."""

        def __init__(self) -> None:
            self._poll = real_poll()
            self.register = self._poll.register

        def poll(self, timeout: int) -> list[tuple[int, int]]:
            if not self._poll.poll(0):
                waited_for.set()
            return self._poll.poll(timeout)

    real_poll = select.poll
    monkeypatch.setattr(select, "poll", Poll)
    reading = pipe(data[:5008], data[5008:], pause=waited_for)
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=buffering) as file:
        assert await sent(file, budget) == data
    assert waited_for.is_set()


async def test_what_its_buffer_already_holds_comes_first(budget: UploadBudget) -> None:
    data = film(LARGE)
    with os.fdopen(pipe(data[:5000], data[5000:]), "rb", buffering=3 * READ_SIZE) as file:
        assert data.startswith(file.peek(10))
        assert await sent(file, budget) == data


async def test_a_pipe_longer_than_was_said(budget: UploadBudget) -> None:
    for size in (1000, LARGE):
        file = os.fdopen(pipe(film(size), b"more"), "rb")
        with file, pytest.raises(MediaChanged, match="more than the"):
            await sent(file, budget, size=size)


async def test_a_pipe_shorter_than_was_said(budget: UploadBudget) -> None:
    file = os.fdopen(pipe(film(1000)), "rb")
    with file, pytest.raises(MediaChanged, match="became shorter"):
        await sent(file, budget, size=1001)


# Objects that have a descriptor, or lie above one, and read other bytes.


class Decrypting(io.FileIO):
    """Reads what its file holds in another way."""

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        view = memoryview(buffer)
        view[:count] = bytes(byte ^ 1 for byte in view[:count])
        return count

    def read(self, size: int | None = -1) -> bytes:
        return bytes(byte ^ 1 for byte in super().read(size) or b"")


class DecryptingReader(io.BufferedReader):
    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(byte ^ 1 for byte in super().read(size))


def in_zip(path: Path, data: bytes) -> Any:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mp4", data)
    return zipfile.ZipFile(path).open("a.mp4")


def spooled(path: Path, data: bytes) -> Any:
    file = tempfile.SpooledTemporaryFile(max_size=100)  # noqa: SIM115  # the test closes it
    file.write(data)
    file.seek(0)
    return file


def written(path: Path, data: bytes) -> Any:
    file = path.open("w+b")
    file.write(data)
    file.seek(0)
    return file


def mapped(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def compressed(opening: Any) -> Callable[[Path, bytes], Any]:
    def opened(path: Path, data: bytes) -> Any:
        with opening(path, "wb") as file:
            file.write(data)
        return opening(path, "rb")

    return opened


def below(wrapper: Callable[[Any], Any]) -> Callable[[Path, bytes], Any]:
    return lambda path, data: wrapper(compressed(gzip.open)(path, data))


def encrypted(kind: Any) -> Callable[[Path, bytes], Any]:
    def opened(path: Path, data: bytes) -> Any:
        path.write_bytes(bytes(byte ^ 1 for byte in data))
        return kind(path)

    return opened


OBJECTS: dict[str, Callable[[Path, bytes], Any]] = {
    "gzip": compressed(gzip.open),
    "bzip2": compressed(bz2.open),
    "a buffer above gzip": below(lambda file: io.BufferedReader(file)),
    "two buffers above gzip": below(lambda file: io.BufferedReader(io.BufferedReader(file))),
    "a FileIO that decrypts": encrypted(Decrypting),
    "a buffer above a FileIO that decrypts": encrypted(
        lambda path: io.BufferedReader(Decrypting(path))
    ),
    "a BufferedReader that decrypts": encrypted(lambda path: DecryptingReader(io.FileIO(path))),
    "a member of a zip archive": in_zip,
    "a spooled file, on disk": spooled,
    "written and not flushed": written,
    "a mapped file": mapped,
}


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("size", [1000, LARGE])
async def test_what_an_object_reads_is_what_arrives(
    kind: str, size: int, budget: UploadBudget, tmp_path: Path
) -> None:
    data = film(size)
    with await asyncio.to_thread(OBJECTS[kind], tmp_path / "a.mp4", data) as file:
        assert await sent(file, budget, attempts=2) == data
        assert file.tell() == 0


async def test_two_calls_may_send_one_object(budget: UploadBudget, tmp_path: Path) -> None:
    data = film(LARGE)
    with await asyncio.to_thread(compressed(gzip.open), tmp_path / "a.gz", data) as file:
        arrived = await asyncio.gather(*(sent(file, budget) for _ in range(3)))
        assert arrived == [data] * 3
        assert file.tell() == 0


async def test_a_compressed_file_is_unpacked_twice_and_no_more(
    budget: UploadBudget, tmp_path: Path
) -> None:
    """Once for its length, once to send it; going back for each piece would unpack it each time."""

    class Counting(io.BytesIO):
        rewound = 0

        def seek(self, position: int, whence: int = 0, /) -> int:
            self.rewound += position == 0
            return super().seek(position, whence)

    data = film(8 * READ_SIZE)
    packed = Counting(gzip.compress(data, 1))
    with gzip.GzipFile(fileobj=packed) as file:
        assert await sent(file, budget) == data
    assert packed.rewound <= 4


class Odd:
    """A file object made by hand, in which nothing is as the standard library has it."""

    def __init__(self, data: bytes, **oddities: Any) -> None:
        self._file = io.BytesIO(data)
        vars(self).update(oddities)

    def read(self, size: int = -1) -> Any:
        return self._file.read(size)


class OddSeekable(Odd):
    def seek(self, position: int, whence: int = 0) -> None:
        """Move, and tell nobody where to."""
        self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


def reading(kind: type[Odd], gives: Callable[[bytes], Any]) -> Callable[[bytes], Odd]:
    """Make an object whose read gives something else than bytes of the length asked for."""

    def made(data: bytes) -> Odd:
        odd = kind(data)
        plain = odd.read
        odd.read = lambda size=-1: gives(plain(size))  # type: ignore[method-assign]  # the oddity
        return odd

    return made


STILL_BYTES: dict[str, Callable[[bytes], Odd]] = {
    "nothing but read": Odd,
    "seek gives None, no closed, no seekable": OddSeekable,
    "cannot seek although it has the methods": lambda data: OddSeekable(
        data, seekable=lambda: False
    ),
    "bytearrays": reading(OddSeekable, bytearray),
    "memoryviews": reading(Odd, memoryview),
    "memoryviews of two-byte items": reading(
        Odd, lambda data: memoryview(data).cast("H") if len(data) % 2 == 0 else data
    ),
}


@pytest.mark.parametrize("kind", STILL_BYTES)
async def test_an_odd_object_arrives_whole(kind: str, budget: UploadBudget) -> None:
    for size in (1000, LARGE):
        assert await sent(STILL_BYTES[kind](film(size)), budget) == film(size)


@pytest.mark.parametrize("kind", [Odd, OddSeekable])
async def test_short_reads_are_no_end(kind: type[Odd], budget: UploadBudget) -> None:
    data = film(5000)
    odd = kind(data)
    plain = odd.read
    odd.read = lambda size=-1: plain(min(size, 7))  # type: ignore[method-assign]  # the oddity
    assert await sent(odd, budget) == data


async def test_more_than_asked_for_is_not_lost(budget: UploadBudget) -> None:
    data = film(5000)
    odd = Odd(data)
    plain = odd.read
    odd.read = lambda size=-1: plain(size + 3)  # type: ignore[method-assign]  # the oddity
    assert await sent(odd, budget, size=5000) == data
    assert await sent(io.BytesIO(data), budget) == data


NOT_BYTES: dict[str, tuple[Callable[[bytes], Any], str]] = {
    "None": (lambda data: None, "gave None instead of bytes, as a non-blocking file does"),
    "text": (lambda data: data.decode("latin-1"), "gives text: open it in binary mode"),
    "a number": (lambda data: -1, "gave int instead of bytes"),
    "a list": (list, "gave list instead of bytes"),
}


@pytest.mark.parametrize("moment", ["at once", "midway"])
@pytest.mark.parametrize("kind", [Odd, OddSeekable])
@pytest.mark.parametrize("what", NOT_BYTES)
async def test_what_is_not_bytes_is_refused(
    what: str, kind: type[Odd], moment: str, budget: UploadBudget
) -> None:
    gives, message = NOT_BYTES[what]
    reads = 0

    def odd(data: bytes) -> Any:
        nonlocal reads
        reads += 1
        return gives(data) if moment == "at once" or reads > 2 else data

    with pytest.raises(MediaError, match=message):
        await sent(reading(kind, odd)(film(LARGE)), budget)


@pytest.mark.parametrize(
    "error", [EOFError("cut"), zlib.error("bad"), KeyError("x"), OSError(5, "I/O")]
)
@pytest.mark.parametrize("kind", [Odd, OddSeekable])
async def test_whatever_an_object_raises_is_a_media_error(
    kind: type[Odd], error: Exception, budget: UploadBudget
) -> None:
    def broken(data: bytes) -> bytes:
        raise error

    with pytest.raises(MediaError, match="cannot be read") as caught:
        await sent(reading(kind, broken)(film(1000)), budget)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("oddity", "message"),
    [
        ({"tell": lambda: -1}, "its tell.. gave -1"),
        ({"tell": lambda: None}, "its tell.. gave None"),
        ({"tell": lambda: "0"}, "its tell.. gave '0'"),
        ({"seek": lambda position, whence=0: None}, "stands at its end|led to|is empty"),
        ({"readable": lambda: False}, "not open for reading"),
        ({"closed": True}, "is closed"),
    ],
)
async def test_objects_that_say_what_cannot_be(
    oddity: dict[str, Any], message: str, budget: UploadBudget
) -> None:
    odd = OddSeekable(film(1000), **oddity)
    with pytest.raises(MediaError, match=message):
        await sent(odd, budget)


async def test_files_open_for_writing_or_as_text(budget: UploadBudget, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(1000))
    for file, message in (
        (path.open("ab"), "not open for reading"),
        (path.open(encoding="latin-1"), "open it with 'rb'"),
        (codecs.open(str(path), encoding="latin-1"), "binary mode"),  # noqa: SIM115  # closed below
    ):
        with file, pytest.raises(MediaError, match=message):
            await sent(file, budget)


# Streams.


async def stream(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (None, "gave None instead of bytes"),
        ("more", "gives text"),
        (7, "gave int instead of bytes"),
    ],
)
@pytest.mark.parametrize("size", [None, 4])
async def test_a_stream_that_yields_no_bytes_midway(
    chunk: object, message: str, size: int | None, budget: UploadBudget
) -> None:
    with pytest.raises(MediaError, match=message):
        await sent(stream(b"abcd", chunk, b"efgh"), budget, size=size, content_type="video/mp4")


async def test_a_stream_of_other_items_than_bytes(budget: UploadBudget) -> None:
    numbers = array.array("H", range(1 << 16))
    data = numbers.tobytes()
    chunks = [memoryview(numbers), bytearray(b"ab"), memoryview(b"abcdef")[::2]]
    expected = data + b"ab" + b"ace"
    for size in (None, len(expected)):
        arrived = await sent(stream(*chunks), budget, size=size, content_type="video/mp4")
        assert arrived == expected
