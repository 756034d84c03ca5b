"""What people hand in as a source: accepted where it is natural, else told what to do instead."""

from __future__ import annotations

import array
import asyncio
import errno
import io
import mmap
import os
import resource
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import numpy as np
import pytest
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile
from PIL import Image
from starlette.datastructures import UploadFile
from werkzeug.datastructures import FileStorage

from memories_async import ConfigurationError, Media, MediaChanged, MediaError, UnsupportedMedia
from memories_async._engine.body import writer
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import Transfer
from memories_async._engine.transport.sessions import affordable
from memories_async.emulator import Emulator
from memories_async.media import readers
from memories_async.media.adapt import adapted
from memories_async.media.inspect import inspect_source, inspect_sources
from memories_async.media.readers import READ_SIZE, Attachment
from memories_async.media.rules import CAPTION_IMAGE, CAPTION_VIDEO, EMBEDDED_IMAGE
from memories_async.media.source import is_picture, is_source, listed
from tests import forks
from tests.engine.uploads import Sink

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(250))
LONG = PNG + bytes(3 * READ_SIZE)


@pytest.fixture
def budget() -> Iterator[UploadBudget]:
    budget = UploadBudget()
    yield budget
    budget.close()


def piece_of(attachment: Attachment) -> Attachment | bytes:
    """Return what the layout puts into a body."""
    return attachment if attachment.content is None else attachment.content


async def sent(
    source: Any, budget: UploadBudget, attempts: int = 2
) -> tuple[Attachment, list[bytes]]:
    """Check a source and send it as often as that is possible."""
    (attachment,) = await inspect_sources([source], CAPTION_IMAGE, budget)
    arrived: list[bytes] = []
    for attempt in range(1, attempts + 1 if attachment.replayable else 2):
        sink, recipe = Sink(), Recipe("multipart/form-data", (b"<", piece_of(attachment), b">"))
        await writer.write(recipe, sink, Transfer(recipe.length, attempt), budget)
        arrived.append(sink.data[1:-1])
    return attachment, arrived


# Buffers.


def mapped(data: bytes) -> mmap.mmap:
    anonymous = mmap.mmap(-1, len(data))
    anonymous[:] = data
    return anonymous


BUFFERS: dict[str, Callable[[bytes], Any]] = {
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview of two-byte items": lambda data: memoryview(data).cast("H"),
    "every second byte of a memoryview": lambda data: memoryview(
        np.repeat(np.frombuffer(data, np.uint8), 2).tobytes()
    )[::2],
    "array": lambda data: array.array("H", data),
    "numpy array": lambda data: np.frombuffer(data, np.uint8),
    "mapped memory": mapped,
}


@pytest.mark.parametrize("kind", BUFFERS)
@pytest.mark.parametrize("data", [PNG, LONG], ids=["small", "large"])
async def test_a_buffer_is_sent_byte_by_byte(kind: str, data: bytes, budget: UploadBudget) -> None:
    source = BUFFERS[kind](data)
    assert is_source(source)
    assert len(listed(source)) == 1
    attachment, arrived = await sent(source, budget)
    assert arrived == [data, data]
    assert (attachment.name, attachment.size) == ("image.png", len(data))


async def test_a_buffer_may_change_after_the_check(budget: UploadBudget) -> None:
    """It was copied: every attempt sends what was there when the call began."""
    source = bytearray(LONG)
    (attachment,) = await inspect_sources([source], CAPTION_IMAGE, budget)
    source[:] = bytes(len(source))
    source.clear()  # and no view of it is left that would forbid this
    sink = Sink()
    await writer.write(Recipe("a/b", (piece_of(attachment),)), sink, Transfer(len(LONG)), budget)
    assert sink.data == LONG


# A name beside the content.


@pytest.mark.parametrize("content", [PNG, bytearray(PNG), io.BytesIO(PNG)], ids=lambda it: type(it))
async def test_a_tuple_names_its_content(content: Any, budget: UploadBudget) -> None:
    for source, expected in (
        (("b.png", content), ("b.png", "image/png")),
        ((None, content), ("image.png", "image/png")),
        (("b.png", content, "image/x-own"), ("b.png", "image/x-own")),
        (("b.png", content, None), ("b.png", "image/png")),
    ):
        assert listed(source) == [source]
        attachment, arrived = await sent(source, budget)
        assert (attachment.name, attachment.content_type) == expected
        assert arrived == [PNG, PNG]


@pytest.mark.parametrize(
    "several", [("a.png", "b.png"), ("a.png", Path("b.png")), [b"a", b"b"], (b"a", b"b"), ()]
)
def test_other_tuples_are_several_sources(several: Any) -> None:
    assert listed(several) == list(several)
    assert listed(iter(several)) == list(several)


# Uploads of web frameworks, and files whose read is awaited.


@attrs.define
class FileField:
    """As aiohttp.web hands on a form's file."""

    name: str
    filename: str
    file: io.BufferedIOBase


def starlette(data: bytes) -> Any:
    return UploadFile(io.BytesIO(data), filename="b.png")


def django(data: bytes) -> Any:
    return SimpleUploadedFile("b.png", data)


def django_in_memory(data: bytes) -> Any:
    return InMemoryUploadedFile(io.BytesIO(data), "field", "b.png", "x/y", len(data), None)


def flask(data: bytes) -> Any:
    return FileStorage(io.BytesIO(data), filename="b.png", name="field", content_type="x/y")


def aiohttp(data: bytes) -> Any:
    return FileField("field", "b.png", io.BytesIO(data))


@pytest.mark.parametrize("upload", [starlette, django, django_in_memory, flask, aiohttp])
@pytest.mark.parametrize("data", [PNG, LONG], ids=["small", "large"])
async def test_a_web_framework_s_upload(
    upload: Callable[[bytes], Any], data: bytes, budget: UploadBudget
) -> None:
    source = upload(data)
    assert is_source(source)
    assert listed(source) == [source]
    attachment, arrived = await sent(source, budget)
    assert (attachment.name, attachment.content_type) == ("b.png", "image/png")
    assert arrived == [data, data]


class Decrypting:
    """Reads other bytes than its ``file`` holds, and that is what must be sent."""

    filename = "b.png"

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(bytes(byte ^ 1 for byte in data))

    def read(self, size: int = -1) -> bytes:
        return bytes(byte ^ 1 for byte in self.file.read(size))


async def test_an_upload_s_own_read_goes_before_its_file(budget: UploadBudget) -> None:
    _, arrived = await sent(Decrypting(PNG), budget)
    assert arrived == [PNG]


@pytest.mark.parametrize("data", [PNG, LONG], ids=["small", "large"])
async def test_a_file_whose_read_is_awaited(
    data: bytes, budget: UploadBudget, tmp_path: Path
) -> None:
    (tmp_path / "b.png").write_bytes(b"before" + data)
    async with await anyio.open_file(tmp_path / "b.png", "rb") as file:
        await file.seek(6)
        attachment, arrived = await sent(file, budget)
        assert arrived == [data, data]
        assert (attachment.name, attachment.size) == ("b.png", len(data))
        assert await file.tell() == 6
        assert not file.closed
        first, second = [await inspect_sources([file], CAPTION_IMAGE, budget) for _ in range(2)]
        sinks = [Sink(), Sink()]
        async with anyio.create_task_group() as group:
            for (one,), sink in zip((first, second), sinks, strict=True):
                recipe = Recipe("a/b", (one,))
                group.start_soon(writer.write, recipe, sink, Transfer(len(data)), budget)
        assert [sink.data for sink in sinks] == [data, data]


async def test_an_async_file_that_a_call_is_just_reading(
    budget: UploadBudget, tmp_path: Path
) -> None:
    """A second call begins where the file stood before the first, not in its middle."""
    (tmp_path / "b.png").write_bytes(LONG)
    async with await anyio.open_file(tmp_path / "b.png", "rb") as file:
        (first,) = await inspect_sources([file], CAPTION_IMAGE, budget)
        assert first.stream is not None
        chunks = aiter(first.stream)
        arrived = await anext(chunks)
        assert (await sent(file, budget, attempts=1))[1] == [LONG]
        async for chunk in chunks:
            arrived += chunk
        assert arrived == LONG
        assert await file.tell() == 0


class OnlyAsyncRead:
    """An async file that can only be read on, as the body of a request."""

    def __init__(self, *chunks: Any) -> None:
        self.chunks = list(chunks)

    async def read(self, size: int) -> Any:
        return self.chunks.pop(0) if self.chunks else b""


async def test_an_async_file_that_can_only_be_read_on(budget: UploadBudget) -> None:
    attachment, arrived = await sent(OnlyAsyncRead(PNG[:5], PNG[5:80], PNG[80:]), budget)
    assert (attachment.size, attachment.replayable) == (None, False)
    assert arrived == [PNG]


@pytest.mark.parametrize(
    ("chunk", "message"),
    [(None, "gave None"), ("text", "gives text"), (7, "gave int")],
)
async def test_an_async_file_that_gives_no_bytes(
    chunk: object, message: str, budget: UploadBudget
) -> None:
    for chunks in ([chunk], [PNG, chunk]):
        with pytest.raises(MediaError, match=message):
            await sent(OnlyAsyncRead(*chunks), budget)


async def test_an_async_file_at_its_end(budget: UploadBudget, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(PNG)
    async with await anyio.open_file(tmp_path / "b.png", "rb") as file:
        await file.read()
        with pytest.raises(MediaError, match="stands at its end"):
            await sent(file, budget)
    with pytest.raises(MediaError, match="is closed"):
        await sent(file, budget)
    with pytest.raises(MediaError, match="is empty"):
        await sent(OnlyAsyncRead(), budget)


# Pillow's images.


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
async def test_an_image_of_pillow_arrives_pixel_by_pixel(mode: str, budget: UploadBudget) -> None:
    image = Image.effect_noise((40, 30), 50).convert("L")
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    assert listed(image) == [image]
    attachment, arrived = await sent(image, budget)
    assert (attachment.name, attachment.content_type) == ("image.png", "image/png")
    assert len(arrived) == 2
    for data in arrived:
        with Image.open(io.BytesIO(data)) as received:
            assert (received.mode, received.size) == (image.mode, image.size)
            assert received.tobytes() == image.tobytes()


async def test_an_image_of_pillow_as_jpeg_where_that_is_asked_for(budget: UploadBudget) -> None:
    image = Image.new("RGB", (40, 30), "red")
    for media in (Media(image, name="b.jpg"), Media(image, content_type="image/jpeg")):  # type: ignore[arg-type]  # what Pillow's own save takes differs by version
        attachment, arrived = await sent(media, budget)
        assert attachment.content_type == "image/jpeg"
        assert arrived[0].startswith(b"\xff\xd8\xff")


async def test_images_that_cannot_be_encoded_or_are_not_wanted(budget: UploadBudget) -> None:
    with pytest.raises(MediaError, match=r"cannot be encoded.*convert\('RGB'\)"):
        await sent(Image.new("CMYK", (4, 3)), budget)
    with pytest.raises(UnsupportedMedia, match="a PIL image cannot be sent: a video to caption"):
        await inspect_sources([Image.new("RGB", (4, 3))], CAPTION_VIDEO, budget)  # type: ignore[list-item]  # as above


def test_pillow_is_not_imported_by_us() -> None:
    code = (
        "import sys; from memories_async.media.inspect import inspect_source\n"
        "from memories_async.media.rules import EMBEDDED_IMAGE\n"
        f"inspect_source({PNG!r}, EMBEDDED_IMAGE)\n"
        "sys.exit('PIL' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# What is told instead.


def generator() -> Iterator[bytes]:
    yield PNG


async def async_generator() -> AsyncIterator[bytes]:
    yield PNG


REFUSED: list[tuple[str, Any, str]] = [
    ("at its end", lambda: end_of(io.BytesIO(PNG)), "stands at its end, .*: seek\\(0\\)"),
    ("empty memory", io.BytesIO, "is empty"),
    ("empty path", lambda: "", "the path is empty"),
    ("directory", lambda: "/", "/ is a directory: give the files in it"),
    ("s3", lambda: "s3://bucket/a.png", "a s3: address is not taken: give a presigned https URL"),
    ("gs", lambda: "gs://bucket/a.png", "a gs: address is not taken"),
    ("file URL", lambda: "file:///tmp/a.png", "a file: address is not taken: give the path itself"),
    ("data URL", lambda: "data:image/png;base64,iVBO", "decode it and give the bytes"),
    ("ftp", lambda: "ftp://host/a.png", "a ftp: address is not taken: give an http"),
    ("a path of a URL", lambda: Path("https://host/a.png"), "a URL is given as a str"),
    ("URL in bytes", lambda: b"https://host/a.png", "is a URL in bytes: give it as a str"),
    ("URL after a space", lambda: " https://host/a.png", "a URL is given as a str"),
    ("prompt", lambda: "What is in the picture?", "were source and prompt swapped\\?"),
    ("a missing file with spaces", lambda: "my own.png", "my own.png: no such file$"),
    ("home", lambda: "~/a.png", "~ is not expanded, os.path.expanduser does that"),
    ("line end", lambda: "a.png\n", "spaces or line ends around the name"),
    ("base64", lambda: "iVBORw0KGgo" * 500, "cannot be read: File name too long"),
    ("below a file", lambda: f"{__file__}/a.png", "no such file"),
    ("text", lambda: io.StringIO("x"), "is open in text mode: open it with 'rb'"),
    ("stream without a name", async_generator, "first bytes show no known format"),
]


@pytest.mark.parametrize("buffering", [0, -1])
async def test_a_device_is_named_as_one(buffering: int, budget: UploadBudget) -> None:
    with open("/dev/zero", "rb", buffering) as device:  # noqa: ASYNC230  # opening it never waits
        for _ in range(2):
            with pytest.raises(MediaError, match=r"^/dev/zero is a device, which has no size"):
                await sent(device, budget)


def end_of(file: io.BytesIO) -> io.BytesIO:
    file.seek(0, io.SEEK_END)
    return file


@pytest.mark.parametrize(
    ("source", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_what_is_told_instead(source: Any, message: str, budget: UploadBudget) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        await sent(source(), budget)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "not NoneType"),
        (7, "not int"),
        (generator(), "not generator"),
        ({"file": b""}, "not dict"),
        (object(), "not object"),
        (("a.png", "b.png"), "not tuple"),
        (("a.png", b"", "c", "d"), "not tuple"),
        (np.zeros((4, 3, 3), np.uint8), "of 3 dimensions is no image file: encode it"),
    ],
)
async def test_what_is_no_source(source: Any, message: str, budget: UploadBudget) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await sent(source, budget)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": 5}, "Media: name is 5; a text is wanted"),
        ({"content_type": b"image/png"}, "Media: content_type is b'image/png'"),
        ({"size": -1}, "Media: size is -1"),
        ({"size": "10"}, "Media: size is '10'"),
        ({"size": True}, "Media: size is True"),
        ({"size": 1.0}, "Media: size is 1.0"),
    ],
)
def test_media_is_checked_where_it_is_made(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Media(PNG, **given)


# Too many open files.


@pytest.mark.parametrize("moment", ["check", "open", "verify"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES])
def test_trouble_with_the_system_is_not_a_file_that_is_gone(
    number: int, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)

    def fail(*args: object, **named: object) -> int:
        raise OSError(number, os.strerror(number))

    def check_and_open() -> None:
        if moment == "check":
            monkeypatch.setattr(os, "open", fail)
        attachment = inspect_source(path, EMBEDDED_IMAGE)
        if moment == "open":
            monkeypatch.setattr(os, "open", fail)
        assert attachment.open is not None
        reader = attachment.open()
        monkeypatch.setattr(os, "stat", fail)
        try:
            reader.verify()
        finally:
            reader.close()

    with pytest.raises(MediaError, match=f"cannot be read: {os.strerror(number)}") as caught:
        check_and_open()
    assert not isinstance(caught.value, MediaChanged)
    assert ("ulimit -n" in str(caught.value)) is (number in (errno.EMFILE, errno.ENFILE))


@pytest.mark.parametrize("moved", ["removed", "its folder is a file now"])
def test_a_file_is_gone_where_the_system_says_so(moved: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a.png"
    path.write_bytes(PNG)
    attachment = inspect_source(path, EMBEDDED_IMAGE)
    path.unlink()
    if moved != "removed":
        folder.rmdir()
        folder.touch()
    with pytest.raises(MediaChanged, match="is gone"):
        readers.whole(attachment)


def test_a_check_opens_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(LONG)
    opened: list[object] = []
    real_open = os.open

    def counting(*args: Any) -> int:
        opened.append(args)
        return real_open(*args)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "open", counting)
    inspect_source(path, EMBEDDED_IMAGE)
    assert len(opened) == 1
    assert len(os.listdir("/proc/self/fd")) == before


MANY = """
import asyncio, collections, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from memories_async import Memories

async def main():
    client = Memories("key", caption_key="key", base_url=sys.argv[1])
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(client.assets.upload(sys.argv[2]))
    await client.aclose()

asyncio.run(main())
"""


async def test_a_hundred_uploads_where_64_files_may_be_open(tmp_path: Path) -> None:
    """No more connections than leave each a file to send."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(READ_SIZE + 1))
    async with Emulator() as emulator:
        ended = await asyncio.to_thread(forks.completed, ["-c", MANY, emulator.url, str(path)])
        assert ended.returncode == 0, ended.stderr
        assert len(emulator.ledger) == 100


def test_no_more_connections_than_files_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((64, 20), (1024, 100), (24, 1), (10, 1), (resource.RLIM_INFINITY, 100)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert affordable(100) == most


class OddPath:
    """A path that gives itself as it is told."""

    def __init__(self, said: object) -> None:
        self.said = said

    def __fspath__(self) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.mark.parametrize("said", [5, None, ValueError("mine")])
def test_a_path_that_is_none(said: object) -> None:
    with pytest.raises(ConfigurationError, match="a OddPath is no path: "):
        adapted(cast("os.PathLike[str]", OddPath(said)))


def test_a_path_of_bytes_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    [entry] = os.scandir(os.fsencode(tmp_path))
    assert adapted(cast("os.PathLike[str]", entry)).content == str(tmp_path / "a.png")


def test_pillow_may_just_be_imported_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", types.ModuleType("PIL.Image"))
    assert not is_picture(b"no picture")


class _Broken:
    """Whatever it is asked for, it raises."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"nothing to say of {name}")


class _BrokenRead:
    @property
    def read(self) -> object:
        raise RuntimeError("not now")


def _released() -> memoryview:
    view = memoryview(PNG)
    view.release()
    return view


@pytest.mark.parametrize("make", [_Broken, _BrokenRead, _released])
async def test_objects_that_raise_when_they_are_looked_at(
    make: Callable[[], Any], budget: UploadBudget
) -> None:
    with pytest.raises((ConfigurationError, MediaError)):
        await sent(make(), budget)
