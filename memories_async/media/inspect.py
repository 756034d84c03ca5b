"""The checks that a source passes before anything is sent."""

from __future__ import annotations

import functools
import inspect
import io
import os
import re
import stat
import threading
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Protocol, TypeVar, cast

import attrs

from memories_async.checks.files import is_open_in_sqlite
from memories_async.errors import (
    ConfigurationError,
    MediaError,
    MediaTooLong,
    UnsupportedMedia,
)
from memories_async.media.adapt import AsyncFile, adapted, is_async_file, opened
from memories_async.media.durations import duration
from memories_async.media.file_objects import (
    alone_with,
    as_bytes,
    end_of,
    plain_file,
    pread,
    seek,
    tell,
    unreadable,
)
from memories_async.media.formats import HEAD_SIZE, JPEG, PNG, by_extension, detect
from memories_async.media.names import clipped, name_and_type
from memories_async.media.readers import (
    OPEN_FLAGS,
    PREFETCH_SIZE,
    Attachment,
    FileReader,
    Fingerprint,
    ObjectReader,
    PipeReader,
    Prefetched,
)
from memories_async.media.rules import MediaRule
from memories_async.media.source import Media, Picture, Readable, Source, is_picture, own_name
from memories_async.media.urls import shown_url

T = TypeVar("T")


class CheckingThreads(Protocol):
    """Where sources are checked."""

    async def check(self, function: Callable[[], T], *, waits: bool = False) -> T:
        """Run what looks at sources; in a thread of its own where that may wait long."""
        ...


async def inspect_sources(
    sources: Sequence[Source], rule: MediaRule, threads: CheckingThreads
) -> tuple[Attachment, ...]:
    """Check every source of one request, off the loop but for what is awaited.

    Raises:
        MediaError: At least one source cannot be sent; the message names each.
        ConfigurationError: One of them is not a kind of source.
    """
    medias = [adapted(source) for source in sources]
    for index, media in enumerate(medias):
        if is_async_file(media.content):
            medias[index] = await opened(media)
    if not any(_waits(media.content) for media in medias):
        return await threads.check(functools.partial(inspect_all, medias, rule))
    abandoned = threading.Event()
    try:
        return await threads.check(
            functools.partial(inspect_all, medias, rule, abandoned), waits=True
        )
    except BaseException:
        abandoned.set()
        raise


def _waits(content: object) -> bool:
    """Tell whether looking at a source may wait for more than a disk."""
    path = isinstance(content, str | bytes | os.PathLike | AsyncIterable)
    return not path and type(content) is not io.BytesIO


def inspect_all(
    sources: Sequence[Source], rule: MediaRule, abandoned: threading.Event | None = None
) -> tuple[Attachment, ...]:
    """Check every source of one request; blocks on file I/O.

    Args:
        sources: What the caller gave.
        rule: What the endpoint takes.
        abandoned: Set when nobody waits for the result any more.

    Raises:
        MediaError: At least one source cannot be sent; the message names each. It is the
            subclass that fits where all have the same trouble.
        ConfigurationError: One of them is not a kind of source.
    """
    attachments: list[Attachment] = []
    refusals: list[MediaError] = []
    for source in sources:
        try:
            # Many small files are no small memory.
            attachments.append(
                inspect_source(source, rule, prefetch=len(sources) == 1, abandoned=abandoned)
            )
        except MediaError as error:
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        problems = [problem for refusal in refusals for problem in refusal.problems]
        kinds = {type(refusal) for refusal in refusals}
        kind = kinds.pop() if len(kinds) == 1 else MediaError
        raise kind(
            f"{len(problems)} of {len(sources)} files cannot be sent: {'; '.join(problems)}",
            problems=problems,
        )
    return tuple(attachments)


def inspect_source(
    source: Source,
    rule: MediaRule,
    *,
    prefetch: bool = True,
    abandoned: threading.Event | None = None,
) -> Attachment:
    """Check one source against an endpoint's rule; blocks on file I/O.

    Args:
        source: What the caller gave.
        rule: What the endpoint takes.
        prefetch: Whether a small file is read at once.
        abandoned: Set when nobody waits for the result any more.

    Raises:
        MediaError: It cannot be sent; the message names the source and the limit.
        ConfigurationError: It is not a kind of source.
    """
    media = adapted(source)
    found = _inspect(media, rule, PREFETCH_SIZE if prefetch else 0, abandoned)
    try:
        return _checked(found, media.content_type, rule)
    finally:
        found.close()


@attrs.frozen
class _Inspection:
    """What looking at a source shows: an attachment as yet without its final name and type."""

    attachment: Attachment
    head: bytes
    read_at: Callable[[int, int], bytes] | None = None
    close: Callable[[], None] = lambda: None


def _checked(found: _Inspection, content_type: str | None, rule: MediaRule) -> Attachment:
    attachment = found.attachment
    if attachment.size == 0:
        raise MediaError(f"{attachment.label} is empty")
    rule.check_size(attachment.label, attachment.size or 0)
    name, content_type = name_and_type(
        attachment.name, content_type, found.head, attachment.label, rule
    )
    if rule.max_duration is not None:
        _check_duration(found, rule.noun, rule.max_duration)
    return attrs.evolve(
        attachment,
        name=name,
        content_type=content_type,
        rule=rule if attachment.size is None else None,
    )


def _check_duration(found: _Inspection, noun: str, limit: float) -> None:
    format = detect(found.head)
    size = found.attachment.size
    if format is None or found.read_at is None or size is None:
        return
    seconds = duration(found.read_at, size, format)
    if seconds is not None and seconds > limit:
        raise MediaTooLong(
            f"{found.attachment.label} lasts {seconds / 60:,.1f} minutes; "
            f"the limit for {noun} is {limit / 60:g} minutes"
        )


def _inspect(
    media: Media, rule: MediaRule, prefetch: int, abandoned: threading.Event | None
) -> _Inspection:
    content = media.content
    if is_picture(content):
        encoded, name = _encoded(content, media, rule)
        media = attrs.evolve(media, content=encoded, name=name)
        content = encoded
    if isinstance(content, bytes):
        return _inspect_bytes(media, content)
    if isinstance(content, str | os.PathLike):
        return _inspect_path(media, os.fspath(content), prefetch)
    if isinstance(content, AsyncIterable):
        name = media.name or ""
        file = content if isinstance(content, AsyncFile) else None
        attachment = Attachment(
            name,
            "",
            media.size,
            name or "a stream",
            stream=content,
            replayable=file is not None and file.replayable,
        )
        return _Inspection(attachment, b"" if file is None else file.head)
    try:
        return _inspect_file(media, content, abandoned)
    except (MediaError, ConfigurationError):
        raise
    except Exception as error:  # a caller's object may raise anything
        raise unreadable(_label(media, content), error) from error


def _inspect_bytes(media: Media, content: bytes) -> _Inspection:
    label = clipped(media.name or "") or f"an image or video of {len(content)} bytes"
    if content.startswith((b"http://", b"https://")):
        raise MediaError(
            f"{shown_url(content[:200].decode('latin-1'))} is a URL in bytes: give it as a str"
        )
    attachment = Attachment(media.name or "", "", len(content), label, content=content)
    return _Inspection(attachment, content[:HEAD_SIZE], lambda at, size: content[at : at + size])


def _inspect_path(media: Media, path: str, prefetch: int) -> _Inspection:
    label = clipped(media.name or path)
    if not path:
        raise MediaError("the path is empty")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{label} is a directory: give the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{label} is no regular file: open it and pass the file object")
        if is_open_in_sqlite(status):
            raise MediaError(f"{label} is an SQLite file that this process has open, e.g. a job's")
        return _inspect_regular_file(media, path, label, Fingerprint.of(status), prefetch)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"{label}: {_why_missing(path)}") from None
    except (OSError, ValueError) as error:
        raise unreadable(repr(label), error) from None


def _inspect_regular_file(
    media: Media, path: str, label: str, seen: Fingerprint, prefetch: int
) -> _Inspection:
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        whole: bytes | None = None
        if seen.size <= prefetch:
            whole = pread(descriptor, seen.size, 0)
            if len(whole) != seen.size or Fingerprint.of(os.fstat(descriptor)) != seen:
                whole = None  # not the file that was seen, or not at rest
        head = pread(descriptor, HEAD_SIZE, 0) if whole is None else whole[:HEAD_SIZE]
    except BaseException:
        os.close(descriptor)
        raise
    attachment = Attachment(
        media.name or os.path.basename(path),
        "",
        seen.size,
        label,
        open=functools.partial(FileReader.at_path, path, seen, label),
        prefetched=None if whole is None else Prefetched(whole),
    )
    return _Inspection(
        attachment,
        head,
        lambda at, size: pread(descriptor, size, at),
        functools.partial(os.close, descriptor),
    )


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)
_SCHEME_HINTS = {
    "file": "give the path itself",
    "data": "decode it and give the bytes",
    "s3": "give a presigned https URL where URLs are taken, or download it",
    "gs": "give a signed https URL where URLs are taken, or download it",
    "http": "a URL is given as a str with both slashes, where URLs are taken",
    "https": "a URL is given as a str with both slashes, where URLs are taken",
}


def _why_missing(path: str) -> str:
    """Say that there is no such file, and what may have been meant."""
    scheme = found[1].lower() if (found := _SCHEME.match(path.lstrip())) else ""
    if scheme in _SCHEME_HINTS or path[len(scheme) :].startswith("://"):
        hint = _SCHEME_HINTS.get(
            scheme, "give an http(s) URL where URLs are taken, or a local file"
        )
        return f"no such file, and a {scheme}: address is not taken: {hint}"
    if path != path.strip():
        return "no such file: there are spaces or line ends around the name"
    if path.startswith("~"):
        return "no such file: ~ is not expanded, os.path.expanduser does that"
    if " " in path and by_extension(os.path.splitext(path)[1]) is None:
        return "no such file: were source and prompt swapped?"
    return "no such file"


def _label(media: Media, file: object) -> str:
    return clipped(media.name or own_name(file) or "") or f"a {type(file).__name__}"


def _inspect_file(media: Media, given: object, abandoned: threading.Event | None) -> _Inspection:
    label = _label(media, given)
    name = media.name or own_name(given) or ""
    if isinstance(given, io.TextIOBase):
        raise MediaError(f"{label} is open in text mode: open it with 'rb'")
    file = cast("Readable", given)
    if inspect.iscoroutinefunction(file.read):
        raise ConfigurationError(f"{label}: its read() is async; pass the file object beneath it")
    if getattr(file, "closed", False) is True:
        raise MediaError(f"{label} is closed")
    if not _capable(file, "readable"):
        raise MediaError(f"{label} is not open for reading: open it with 'rb'")
    start = _start(file, label)
    if start is None:
        return _inspect_pipe(
            media, PipeReader(file, label, media.size, abandoned or threading.Event()), name
        )
    if (descriptor := _regular_descriptor(file)) is not None:
        seen = Fingerprint.of(os.fstat(descriptor))
        end = seen.size
        attachment = Attachment(
            name,
            "",
            max(end - start, 0),
            label,
            open=lambda: FileReader(descriptor, start, seen, label),
        )

        def read_at(position: int, size: int) -> bytes:
            return pread(descriptor, size, start + position)
    else:
        if _is_device(file):
            raise MediaError(f"{label} is a device, which has no size and perhaps no end")
        with alone_with(file):
            end = end_of(file, label)
        attachment = Attachment(
            name,
            "",
            max(end - start, 0),
            label,
            open=lambda: ObjectReader(file, start, end, label),
            waits=_waits(file),
        )

        def read_at(position: int, size: int) -> bytes:
            return _read_object(file, start + position, size, label)

    if end <= start > 0:
        raise MediaError(f"{label} stands at its end, with nothing left to read: seek(0)")
    return _Inspection(attachment, read_at(0, HEAD_SIZE), read_at)


def _inspect_pipe(media: Media, pipe: PipeReader, name: str) -> _Inspection:
    head = pipe.peek(HEAD_SIZE)
    attachment = Attachment(
        name,
        "",
        media.size if head else 0,
        pipe.label,
        open=lambda: pipe,
        replayable=False,
        waits=True,
    )
    return _Inspection(attachment, head)


def _capable(file: object, method: str) -> bool:
    """Ask a file object about itself; what it does not know, it can."""
    answer = getattr(file, method, None)
    return bool(answer()) if callable(answer) else True


def _start(file: object, label: str) -> int | None:
    """Return where a file object stands; None if it can only be read on."""
    if not callable(getattr(file, "seek", None)) or not callable(getattr(file, "tell", None)):
        return None
    if not _capable(file, "seekable"):
        return None
    try:
        with alone_with(file) as shared:
            here = tell(file, label)
            return shared.home if shared.passes else here
    except (OSError, NotImplementedError):
        if callable(getattr(file, "seekable", None)):
            raise
        return None  # it has the methods and no use for them


def _read_object(file: Readable, position: int, size: int, label: str) -> bytes:
    """Read so many bytes, fewer only at the end, and put the object's position back."""
    data = b""
    with alone_with(file):
        here = tell(file, label)
        try:
            while len(data) < size:
                seek(file, position + len(data), label)
                if not (more := as_bytes(file.read(size - len(data)), label)):
                    break
                data += more
        finally:
            seek(file, here, label)
    return data[:size]


def _regular_descriptor(file: object) -> int | None:
    raw = plain_file(file)
    if raw is None:
        return None
    if type(file) is not io.FileIO:
        file.flush()  # type: ignore[attr-defined]  # what was written is read, too
    descriptor = raw.fileno()
    return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _is_device(file: object) -> bool:
    """Tell whether a file that says it can seek is a device of bytes, such as /dev/zero."""
    raw = plain_file(file)
    return raw is not None and stat.S_ISCHR(os.fstat(raw.fileno()).st_mode)


def _encoded(picture: Picture, media: Media, rule: MediaRule) -> tuple[bytes, str]:
    """Encode an image of Pillow: without loss, unless it is to be a JPEG."""
    named = by_extension(os.path.splitext(media.name or "")[1])
    format = JPEG if named is JPEG or media.content_type == JPEG.content_type else PNG
    if format not in rule.formats:
        raise UnsupportedMedia(f"a PIL image cannot be sent: {rule.noun} takes {rule.extensions}")
    file = io.BytesIO()
    try:
        picture.save(file, "JPEG" if format is JPEG else "PNG")
    except Exception as error:  # Pillow and its plugins may raise anything
        raise MediaError(
            f"a PIL image cannot be encoded: {error}; convert it first: image.convert('RGB')"
        ) from error
    return file.getvalue(), media.name or f"image{format.extensions[0]}"
