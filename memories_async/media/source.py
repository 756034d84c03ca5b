"""What users may hand in to be sent."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping, Sequence
from typing import BinaryIO, Protocol, TypeAlias, TypeGuard, cast

import attrs

from memories_async.checks import checked
from memories_async.checks.kinds import INTEGER, Kind, Problem, is_blank, shown
from memories_async.checks.parameters import means
from memories_async.errors import ConfigurationError

KINDS = (
    "an http(s) URL, a path, bytes or another buffer, a binary file object, a (name, content) "
    "tuple, an upload with .file, a PIL image or Media"
)


class Readable(Protocol):
    """A binary file object, as far as it is needed: ``tell`` and ``seek`` are used if they work."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""
        ...


class AsyncReadable(Protocol):
    """A binary file whose ``read`` is awaited, such as those of aiofiles and anyio."""

    def read(self, size: int, /) -> Awaitable[bytes]:
        """Return at most so many bytes; none at the end."""
        ...


class Upload(Protocol):
    """A file that came in by a form, as Starlette, FastAPI, Litestar and aiohttp hand it on."""

    @property
    def file(self) -> Readable:
        """The bytes."""
        ...

    @property
    def filename(self) -> str | None:
        """What the sender called it."""
        ...


class Picture(Protocol):
    """An image of Pillow, which encodes itself."""

    def save(self, file: BinaryIO, /, format: str | None = None) -> None:
        """Encode the image into a file."""
        ...


Buffer: TypeAlias = bytes | bytearray | memoryview
Content: TypeAlias = (
    str | os.PathLike[str] | Buffer | BinaryIO | Readable | AsyncReadable | Upload | Picture
)


def attribute(value: object, name: str) -> object:
    """Return what a caller's object has by a name; None where that fails, in whatever way."""
    try:
        return getattr(value, name, None)
    except Exception:  # a caller's object may raise anything
        return None


def _is_content(value: object) -> bool:
    return is_source(value) and not isinstance(value, Media | tuple)


def _source_problem(name: str, value: object) -> Problem:
    # A path may hold what is no UTF-8: only an empty one is refused.
    return f"the {name} is empty" if isinstance(value, str) and is_blank(value) else None


def _plain_source(value: object) -> object:
    return str.__str__(value) if isinstance(value, str) else value


def _plain_sources(values: Iterable[object]) -> Iterable[object]:
    if not isinstance(values, Sequence):
        return values  # it can be gone through only once, where it is used
    own = any(isinstance(value, str) and type(value) is not str for value in values)
    return [_plain_source(value) for value in values] if own else values


def _sources_problem(name: str, values: Iterable[object]) -> Problem:
    if not isinstance(values, Sequence):
        return None  # looked at one by one, as they are taken
    for index, value in enumerate(values):
        if not is_source(value):
            return f"{name}[{index}] is {shown(value)}; {SOURCE.wanted} is wanted"
        if (problem := _source_problem(f"{name}[{index}]", value)) is not None:
            return problem
    return None


def _is_many(value: object) -> bool:
    single = isinstance(value, (str, bytes, bytearray, memoryview, os.PathLike, Media, Mapping))
    is_file = callable(attribute(value, "read"))
    return isinstance(value, Iterable | AsyncIterable) and not single and not is_file


_CONTENT = Kind(
    "a path, bytes or another buffer, a binary file object, an upload with .file, a PIL image or "
    "an async iterable of bytes",
    _is_content,
)
_NAME = Kind("a text", lambda value: isinstance(value, str), plain=str.__str__)  # cleaned when sent
_SIZE = Kind("a number of bytes", lambda value: INTEGER.fits(value) and value >= 0, plain=int)


@checked({"content": _CONTENT, "name": _NAME, "content_type": _NAME, "size": _SIZE})
@attrs.frozen
class Media:
    """Something to upload whose name and type are given by hand.

    Args:
        content: Any other source but a URL, or an async iterable of bytes, which can be read, and
            so sent, only once.
        name: The file name to send; by default the path's, or one made from the type.
        content_type: The MIME type to send. It is trusted: the first bytes are not checked.
        size: How many bytes a stream or pipe will yield, to its end. Without it the body is sent
            chunked.
    """

    content: Content | AsyncIterable[bytes] = attrs.field(repr=False)
    name: str | None = None
    content_type: str | None = None
    size: int | None = None


Named: TypeAlias = (
    tuple[str | None, Buffer | BinaryIO | Readable | AsyncReadable | Upload | Picture]
    | tuple[str | None, Buffer | BinaryIO | Readable | AsyncReadable | Upload | Picture, str | None]
)
"""``(name, content)`` or ``(name, content, content type)``, as requests and openai take it."""

Source: TypeAlias = Content | Named | Media
"""What may be sent.

- an ``http(s)://`` string, or a local path
- ``bytes``; another buffer is copied when the call begins, so later changes do no harm
- a binary file object: read from where it stands, its position put back, never closed
- an upload with ``.file`` and ``.filename``, or a file whose ``read`` is awaited
- a ``PIL.Image.Image``: encoded as PNG, in a worker thread
- ``(name, content)`` or ``(name, content, content type)``, whose content is bytes or a file
- :class:`Media`
"""


SOURCE = Kind(
    "an http(s) URL, a path, bytes, a binary file or Media",
    lambda value: is_source(value),
    _source_problem,
    _plain_source,
)
SOURCES = Kind("a sequence of images or videos", _is_many, _sources_problem, _plain_sources)
MANY = Kind(SOURCES.wanted, _is_many)
"""Of any length: looked at one by one, as they are taken."""

means(Source, SOURCE)
means(Sequence[Source], SOURCES)
means(Iterable[Source], SOURCES)
means(Iterable[Source] | AsyncIterable[Source], MANY)


_KNOWN = (str, bytes, bytearray, memoryview, os.PathLike, Media, AsyncIterable)


def is_named(source: object) -> TypeGuard[Named]:
    """Tell whether a tuple is one file with its name; any other tuple is a sequence of sources."""
    if not isinstance(source, tuple):
        return False
    name, *rest = cast("tuple[object, ...]", source) or (0,)
    return (
        isinstance(name, str | None)
        and len(rest) in (1, 2)
        and (isinstance(rest[0], Buffer) or is_file(rest[0]) or is_picture(rest[0]))
        and isinstance(rest[-1], str | None) is (len(rest) == 2)
    )


def is_file(source: object) -> bool:
    """Tell whether an object is something to read from, or wraps that."""
    return callable(attribute(source, "read")) or is_upload(source)


def is_upload(source: object) -> TypeGuard[Upload]:
    """Tell whether an object is a form's file, which holds its bytes in ``file``."""
    file = attribute(source, "file")
    return callable(attribute(file, "read")) and hasattr(source, "filename")


def is_picture(content: object) -> TypeGuard[Picture]:
    """Tell whether a source is an image of Pillow, which is never imported here."""
    # A module that another thread is just importing is listed, but not yet whole: nobody has an
    # image of it then.
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return image is not None and isinstance(content, image)


def own_name(file: object) -> str | None:
    """Return the name that a file object gives itself, if any."""
    # A web framework's upload has a filename, and its name may be that of the form's field.
    name = None if isinstance(file, io.IOBase) else attribute(file, "filename")
    name = name or attribute(file, "name")
    return name if isinstance(name, str) else None


def is_source(value: object) -> bool:
    """Tell whether a value is of a kind that may be sent, without touching what it stands for."""
    if isinstance(value, type):
        return False
    known = isinstance(value, _KNOWN)
    return known or is_named(value) or is_file(value) or is_picture(value) or _is_buffer(value)


def path_of(path: str | os.PathLike[str]) -> str:
    """Return a path as text, also where it gives itself as bytes.

    Raises:
        ConfigurationError: It gives itself as neither, or fails to.
    """
    try:
        return os.fsdecode(path)
    except Exception as error:  # a caller's object may raise anything
        raise ConfigurationError(
            f"a {type(path).__name__} is no path: {type(error).__name__}: {error}"
        ) from error


def listed(sources: Source | Iterable[Source]) -> list[Source]:
    """Return one source, or all that an iterable yields, as a list."""
    if (
        not is_source(sources)
        and isinstance(sources, Iterable)
        and not isinstance(sources, Mapping)
    ):
        return list(cast("Iterable[Source]", sources))
    return [cast("Source", sources)]  # what is neither, the call refuses by its name


def _is_buffer(source: object) -> bool:
    try:
        memoryview(source)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return False
    return True
