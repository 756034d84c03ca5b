"""From what people hand in to a Media whose content is one of a few kinds."""

from __future__ import annotations

import inspect
import io
import os
import weakref
from collections.abc import AsyncIterable, AsyncIterator, MutableMapping
from typing import TYPE_CHECKING, Any

import attrs

from memories_async.checks import unchecked
from memories_async.errors import ConfigurationError, MediaError
from memories_async.media.file_objects import as_bytes, position, unreadable
from memories_async.media.formats import HEAD_SIZE
from memories_async.media.readers import READ_SIZE
from memories_async.media.source import (
    KINDS,
    Media,
    Source,
    attribute,
    is_file,
    is_named,
    is_picture,
    is_upload,
    own_name,
    path_of,
)
from memories_async.media.urls import is_url, shown_url

if TYPE_CHECKING:
    import asyncio


def adapted(source: Source) -> Media:
    """Return a source as Media; a buffer that may change is copied.

    Raises:
        ConfigurationError: It is not a kind of source.
        MediaError: It is a URL.
    """
    if is_named(source):
        name, named, *content_type = source
        media = unchecked(Media, named, name, content_type[0] if content_type else None)
    else:
        media = source if isinstance(source, Media) else unchecked(Media, source)
    content: object = media.content
    if isinstance(content, bytes):
        return media
    if is_url(content):
        raise MediaError(f"{shown_url(content)} is a URL; this takes local files only")
    if isinstance(content, str) or is_picture(content):
        return media
    if isinstance(content, os.PathLike):
        # Of what os.scandir(b"...") yields the path is bytes.
        return attrs.evolve(media, content=path_of(content))
    if is_upload(content) and (is_async_file(content) or not hasattr(content, "read")):
        return attrs.evolve(media, content=content.file, name=media.name or content.filename)
    if is_file(content) or isinstance(content, AsyncIterable):
        return media
    return attrs.evolve(media, content=_copied(content))


def _copied(content: object) -> bytes:
    """Copy a buffer in pieces: one copy of a gigabyte would hold up every thread."""
    try:
        view = memoryview(content)  # type: ignore[arg-type]  # refused where it is no buffer
    except TypeError:
        kind = type(content).__name__
        raise ConfigurationError(f"a source is {KINDS}, not {kind}") from None
    except (ValueError, BufferError) as error:  # released, or closed
        raise unreadable(f"a {type(content).__name__}", error) from None
    if view.ndim > 1:
        raise ConfigurationError(
            f"a {type(content).__name__} of {view.ndim} dimensions is no image file: encode it, "
            "e.g. PIL.Image.fromarray(array)"
        )
    try:
        view = view.cast("B")
    except (TypeError, ValueError):  # not contiguous, or of another machine's numbers
        return view.tobytes()
    copy = io.BytesIO()
    for start in range(0, len(view), READ_SIZE):
        copy.write(view[start : start + READ_SIZE])
    return copy.getvalue()


def is_async_file(content: object) -> bool:
    """Tell whether an object's ``read`` is to be awaited."""
    return inspect.iscoroutinefunction(attribute(content, "read"))


async def opened(media: Media) -> Media:
    """Return a file whose ``read`` is awaited as a stream that starts where it stands now.

    Raises:
        MediaError: It cannot be read.
    """
    file: Any = media.content
    name = media.name or own_name(file)
    label = name or f"a {type(file).__name__}"
    try:
        if getattr(file, "closed", False) is True:
            raise MediaError(f"{label} is closed")
        start, end, head = await _first_bytes(file, label)
    except MediaError:
        raise
    except Exception as error:  # a caller's object may raise anything
        raise unreadable(label, error) from error
    if not head:
        ends = "stands at its end, with nothing left to read: seek(0)" if start else "is empty"
        raise MediaError(f"{label} {ends}")
    size = media.size if end is None else end - (start or 0)
    return attrs.evolve(media, content=AsyncFile(file, label, head, start), name=name, size=size)


async def _first_bytes(file: Any, label: str) -> tuple[int | None, int | None, bytes]:
    """Return where a file stands and ends, None where it can only be read on, and its head."""
    start: int | None = None
    end: int | None = None
    here = 0
    shared = _shared(file)
    async with shared.lock:
        if await _seekable(file):
            here = position(await file.tell(), label)
            start = shared.home if shared.passes else here
            await file.seek(0, os.SEEK_END)
            end = position(await file.tell(), label)
            await file.seek(start)
        head = b""
        while len(head) < HEAD_SIZE:
            if not (data := as_bytes(await file.read(HEAD_SIZE - len(head)), label)):
                break
            head += data
        if end is not None:
            await file.seek(here)
    return start, end, head


async def _seekable(file: Any) -> bool:
    if not hasattr(file, "seek") or not hasattr(file, "tell"):
        return False
    answer = file.seekable() if hasattr(file, "seekable") else True
    return bool(await answer if inspect.isawaitable(answer) else answer)


@attrs.frozen(eq=False)
class AsyncFile:
    """A file whose ``read`` is awaited, as a stream.

    Attributes:
        file: The caller's object; it is never closed.
        label: How messages name it.
        head: Its first bytes.
        start: Where it stands; None where it can only be read on.
    """

    file: Any
    label: str
    head: bytes = attrs.field(repr=False)
    start: int | None

    @property
    def replayable(self) -> bool:
        """Whether a second pass is possible."""
        return self.start is not None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield its bytes, and put its position back at the end."""
        if self.start is None:
            yield self.head
            while data := await self._read():
                yield data
            return
        here, shared = self.start, _shared(self.file)
        async with shared.lock:
            if not shared.passes:
                shared.home = here
            shared.passes += 1
        try:
            while data := await self._read(here):
                here += len(data)
                yield data
        finally:
            shared.passes -= 1
            if not shared.passes:
                await self.file.seek(shared.home)

    async def _read(self, here: int | None = None) -> bytes:
        async with _shared(self.file).lock:  # two calls may send one file
            if here is not None and await self.file.tell() != here:
                await self.file.seek(here)
            return as_bytes(await self.file.read(READ_SIZE), self.label)


@attrs.define(eq=False)
class _SharedAsyncFile:
    """What the calls that send one file at the same time must know of each other; see readers."""

    lock: asyncio.Lock
    passes: int = 0
    home: int = 0


_SHARED: MutableMapping[object, _SharedAsyncFile] = weakref.WeakKeyDictionary()


def _shared(file: object) -> _SharedAsyncFile:
    import asyncio  # late: it is half of what importing this package would cost

    new = _SharedAsyncFile(asyncio.Lock())
    try:
        return _SHARED.setdefault(file, new)
    except TypeError:  # neither hashable nor weakly referable: only one call at a time
        return new
