"""The rows that say what each call sends and returns, and what their sources are made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import attrs

from memories_async import Media
from tests.operations.recorder import Part

GENERAL_KEY = "sk-mavi-general-0123456789"
CAPTION_KEY = "caption-key-0123456789"

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR first \r\n--\r\n\r\nContent-Type: not/a-header\r\n\r\n"
PNG_3 = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR third \n\r\r\n\xff\x00"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF second \xe2\x80\x8f"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08free" + bytes(range(256)) * 64

FILES: Mapping[str, bytes] = {
    "test.png": PNG,
    "test1.png": PNG,
    "test2.jpg": JPEG,
    "test3.png": PNG_3,
    "photo1.jpg": JPEG,
    "photo2.png": PNG,
    "query.png": PNG,
    "video.mp4": MP4,
    "фильм 日本.mp4": MP4,
}
"""What lies in the folder that sources are taken from; each begins as its format does."""


@attrs.frozen
class Local:
    """A file of that folder, in one of the ways in which a caller may give it."""

    name: str
    made: Callable[[Path], object]


def path(name: str) -> Local:
    return Local(name, str)


def path_object(name: str) -> Local:
    return Local(name, lambda path: path)


def content(name: str) -> Local:
    return Local(name, Path.read_bytes)


def opened(name: str) -> Local:
    return Local(name, lambda path: path.open("rb"))


def in_memory(name: str) -> Local:
    return Local(name, lambda path: io.BytesIO(path.read_bytes()))


def named(file: str, name: str, content_type: str) -> Local:
    return Local(file, lambda path: Media(path.read_bytes(), name=name, content_type=content_type))


@attrs.frozen
class Req:
    """The part ``req`` of the caption pages: a file of JSON."""

    fields: Mapping[str, object]


@attrs.frozen(kw_only=True)
class Case:
    """One call, what it must send, what is answered and what it must return.

    Attributes:
        name: What the row is about.
        call: Namespace and method.
        args: Positional arguments.
        kwargs: Keyword arguments.
        method: HTTP method.
        host: The service's own host.
        path: Path, with the query where there is one.
        key: What ``Authorization`` must be.
        json: The body, where it is JSON.
        parts: The body, where it is multipart: every part in its order.
        answer: The documentation's sample answer.
        result: What the call must return.
    """

    name: str
    call: str
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = attrs.field(factory=dict[str, object])
    method: str = "POST"
    host: str
    path: str
    key: str
    json: Mapping[str, object] | None = None
    parts: tuple[Req | Part, ...] | None = None
    answer: str
    result: object

    def arguments(
        self, folder: Path, opened_files: ExitStack
    ) -> tuple[list[object], dict[str, object]]:
        """Return the call's arguments, with real sources in the place of what stands for them.

        Args:
            folder: Where the files lie.
            opened_files: Closes what was opened, after the call.
        """
        args = [_given(value, folder, opened_files) for value in self.args]
        kwargs = {name: _given(value, folder, opened_files) for name, value in self.kwargs.items()}
        return args, kwargs


def _given(value: object, folder: Path, opened_files: ExitStack) -> object:
    if isinstance(value, Local):
        source = value.made(folder / value.name)
        if isinstance(source, io.IOBase):
            opened_files.enter_context(source)
        return source
    if isinstance(value, list | tuple):
        return type(value)(_given(item, folder, opened_files) for item in value)
    return value
