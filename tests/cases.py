"""The rows that say what each call sends and returns, and what their sources are made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs

from memories_async import ConfigurationError, Media, MemoriesError
from tests.recorder import Part

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


HOSTS = {
    "/v1/understand/": "security.memories.ai",
    "/serve/api/v1/": "api.memories.ai",
    "/serve/api/v2/": "mavi-backend.memories.ai",
}
V1, V2 = "/serve/api/v1/", "/serve/api/v2/"


def v1(data: str) -> str:
    """Wrap JSON as the library does."""
    return f'{{"code":"0000","msg":"success","data":{data},"success":true,"failed":false}}'


def v2(data: str) -> str:
    """Wrap JSON as the newest host does."""
    return f'{{"code":200,"msg":"success","data":{data},"success":true,"failed":false}}'


@attrs.frozen
class Call:
    """A public call with its arguments; sources are made when it is due.

    Attributes:
        call: Namespace and method.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    call: str
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = attrs.field(factory=dict[str, object])

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


@attrs.frozen(kw_only=True)
class Case(Call):
    """One call, what it must send, what is answered and what it must return.

    Attributes:
        name: What the row is about, and whether it is a page's own example.
        sends: Method and path, with the query where there is one.
        json: The body, where it is JSON.
        parts: The body, where it is multipart: every part in its order.
        form: The body, where it is a form in one line.
        answer: What is answered, on a page that has one its sample.
        result: What the call must return, all of it where it iterates.
    """

    name: str
    sends: str
    json: object = None
    parts: Sequence[Req | Part] | None = None
    form: bytes | None = None
    answer: str
    result: object

    @property
    def host(self) -> str:
        """The service's own host."""
        return next(host for path, host in HOSTS.items() if f" {path}" in self.sends)

    @property
    def key(self) -> str:
        """What ``Authorization`` must be."""
        return CAPTION_KEY if self.host.startswith("security") else GENERAL_KEY


def _given(value: object, folder: Path, opened_files: ExitStack) -> object:
    if isinstance(value, Local):
        source = value.made(folder / value.name)
        if isinstance(source, io.IOBase):
            opened_files.enter_context(source)
        return source
    if isinstance(value, list | tuple):
        return type(value)(_given(item, folder, opened_files) for item in value)
    return value


@attrs.frozen
class Refusal(Call):
    """A call that is refused before anything is sent, the exception and words of its message."""

    error: type[MemoriesError] = ConfigurationError
    says: tuple[str, ...] = ()


def refusal(
    call: str,
    *args: object,
    says: str | tuple[str, ...],
    error: type[MemoriesError] = ConfigurationError,
    **kwargs: object,
) -> Refusal:
    return Refusal(call, args, kwargs, error, (says,) if isinstance(says, str) else says)
