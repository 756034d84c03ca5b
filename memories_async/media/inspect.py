"""The checks that a source passes before anything is sent."""

from __future__ import annotations

import functools
import inspect
import io
import os
import re
import stat
from collections.abc import AsyncIterable, Callable, Sequence
from typing import BinaryIO

import attrs

from memories_async.errors import (
    ConfigurationError,
    MediaError,
    MediaTooLarge,
    MediaTooLong,
    UnsupportedMedia,
)
from memories_async.media.durations import duration
from memories_async.media.formats import HEAD_SIZE, by_extension, detect
from memories_async.media.readers import (
    EARLY_READ,
    OPEN_FLAGS,
    Attachment,
    FileReader,
    Fingerprint,
    ObjectReader,
    PipeReader,
    pread,
    read_object,
)
from memories_async.media.rules import GIBIBYTE, MEBIBYTE, MediaRule
from memories_async.media.source import Media, Source
from memories_async.media.urls import is_url


def inspect_all(sources: Sequence[Source], rule: MediaRule) -> tuple[Attachment, ...]:
    """Check every source of one request; blocks on file I/O.

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
            attachments.append(inspect_source(source, rule, early=len(sources) == 1))
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


def inspect_source(source: Source, rule: MediaRule, *, early: bool = True) -> Attachment:
    """Check one source against an endpoint's rule; blocks on file I/O.

    Args:
        source: What the caller gave.
        rule: What the endpoint takes.
        early: Whether a small file is read at once.

    Raises:
        MediaError: It cannot be sent; the message names the source and the limit.
        ConfigurationError: It is not a kind of source.
    """
    media = source if isinstance(source, Media) else Media(source)
    found = _look_at(media, EARLY_READ if early else 0)
    attachment = found.attachment
    if attachment.size == 0:
        raise MediaError(f"{attachment.label} is empty")
    if rule.max_size is not None and (attachment.size or 0) > rule.max_size:
        raise MediaTooLarge(
            f"{attachment.label} has {attachment.size:,} bytes; "
            f"the limit for {rule.noun} is {_readable(rule.max_size)}"
        )
    name, content_type = _name_and_type(media, found, rule)
    if rule.max_duration is not None:
        _check_duration(found, rule.noun, rule.max_duration)
    return attrs.evolve(attachment, name=name, content_type=content_type)


@attrs.frozen
class _Found:
    """What looking at a source shows: an attachment as yet without its final name and type."""

    attachment: Attachment
    head: bytes
    read_at: Callable[[int, int], bytes] | None = None


def _look_at(media: Media, early: int) -> _Found:
    content = media.content
    if isinstance(content, bytes):
        label = media.name or f"an image or video of {len(content)} bytes"
        attachment = Attachment(media.name or "", "", len(content), label, content=content)
        return _Found(attachment, content[:HEAD_SIZE], lambda at, size: content[at : at + size])
    if is_url(content):
        raise MediaError(f"{str(content)[:80]!r} is a URL; this takes local files only")
    if isinstance(content, str | os.PathLike):
        return _look_at_path(media, os.fspath(content), early)
    if isinstance(content, AsyncIterable):
        name = media.name or ""
        attachment = Attachment(
            name, "", media.size, name or "a stream", stream=content, replayable=False
        )
        return _Found(attachment, b"")
    if callable(getattr(content, "read", None)):
        return _look_at_file_object(media, content)
    raise ConfigurationError(
        "a source is an http(s) URL, a path, bytes, a binary file object or Media, "
        f"not {type(content).__name__}"
    )


def _look_at_path(media: Media, path: str, early: int) -> _Found:
    label = media.name or path
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{label} is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{label} is no regular file: open it and pass the file object")
        seen = Fingerprint.of(status)
        whole_file = _read_small(path, seen) if seen.size <= early else None
        head = _read_path(path, 0, HEAD_SIZE) if whole_file is None else whole_file[:HEAD_SIZE]
    except FileNotFoundError:
        raise MediaError(f"{label}: no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MediaError(f"{label!r} cannot be read: {reason}") from None
    attachment = Attachment(
        media.name or os.path.basename(path),
        "",
        seen.size,
        label,
        open=functools.partial(FileReader.at_path, path, seen, label),
        early=whole_file,
    )
    return _Found(attachment, head, functools.partial(_read_path, path))


def _read_small(path: str, seen: Fingerprint) -> bytes | None:
    """Read a whole file; None if it is not the file that was seen, or not at rest."""
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        data = pread(descriptor, seen.size, 0)
        at_rest = len(data) == seen.size and Fingerprint.of(os.fstat(descriptor)) == seen
        return data if at_rest else None
    finally:
        os.close(descriptor)


def _read_path(path: str, position: int, size: int) -> bytes:
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        return pread(descriptor, size, position)
    finally:
        os.close(descriptor)


def _look_at_file_object(media: Media, file: BinaryIO | io.TextIOBase) -> _Found:
    own_name = getattr(file, "name", None)
    name = media.name or (own_name if isinstance(own_name, str) else "")
    label = name or f"a {type(file).__name__}"
    if isinstance(file, io.TextIOBase):
        raise MediaError(f"{label} is open in text mode: open it with 'rb'")
    if inspect.iscoroutinefunction(file.read):
        raise ConfigurationError(f"{label}: its read() is async; pass the file object beneath it")
    if file.closed:
        raise MediaError(f"{label} is closed")
    if not file.seekable():
        head = file.read(HEAD_SIZE)
        attachment = Attachment(
            name,
            "",
            media.size if head else 0,
            label,
            open=lambda: PipeReader(head, file),
            replayable=False,
        )
        return _Found(attachment, head)
    start = file.tell()
    if (descriptor := _regular_descriptor(file)) is not None:
        seen = Fingerprint.of(os.fstat(descriptor))
        attachment = Attachment(
            name,
            "",
            max(seen.size - start, 0),
            label,
            open=lambda: FileReader(descriptor, start, seen, label),
        )

        def read_at(position: int, size: int) -> bytes:
            return pread(descriptor, size, start + position)
    else:
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
        attachment = Attachment(
            name,
            "",
            max(end - start, 0),
            label,
            open=lambda: ObjectReader(file, start, end, label),
        )

        def read_at(position: int, size: int) -> bytes:
            return read_object(file, size, start + position)

    return _Found(attachment, read_at(0, HEAD_SIZE), read_at)


def _regular_descriptor(file: BinaryIO) -> int | None:
    """Return the descriptor whose bytes are exactly what the object reads, if there is one.

    Only the standard library's plain files qualify: a GzipFile has a descriptor too, but of
    other bytes, and asking a SpooledTemporaryFile for one would write it to disk.
    """
    plain = getattr(file, "file", file)  # tempfile's named files wrap a plain one
    if not isinstance(plain, io.BufferedReader | io.BufferedRandom | io.FileIO):
        return None
    if isinstance(plain, io.BufferedRandom):
        plain.flush()
    try:
        descriptor = plain.fileno()
    except OSError:
        return None
    return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _check_duration(found: _Found, noun: str, limit: float) -> None:
    format = detect(found.head)
    size = found.attachment.size
    if format is None or found.read_at is None or size is None:
        return
    seconds = duration(found.read_at, size, format)
    if seconds is not None and seconds > limit:
        raise MediaTooLong(
            f"{found.attachment.label} lasts {seconds / 60:.1f} minutes; "
            f"the limit for {noun} is {limit / 60:g} minutes"
        )


_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:; ?[\w-]+=[\w.-]+)*", re.ASCII)


def _name_and_type(media: Media, found: _Found, rule: MediaRule) -> tuple[str, str]:
    """Agree on name and type from what was given, the extension and the first bytes."""
    label = found.attachment.label
    name = safe_name(found.attachment.name)
    extension = os.path.splitext(name)[1]
    named = by_extension(extension)
    if media.content_type is not None:
        if not _CONTENT_TYPE.fullmatch(media.content_type):
            raise ConfigurationError(f"{label}: {media.content_type!r} is no content type")
        known = (format for format in rule.formats if format.content_type == media.content_type)
        content_type, format = media.content_type, next(known, None)
    else:
        if extension and named not in rule.formats:
            raise UnsupportedMedia(f"{label}: {rule.noun} takes {rule.extensions}")
        format = detect(found.head) if found.head else named
        if format is None or format not in rule.formats:
            shows = format.content_type if format else "no known format"
            raise UnsupportedMedia(
                f"{label}: its first bytes show {shows}; {rule.noun} takes {rule.extensions}"
            )
        content_type = format.content_type
    if not name:
        name = content_type.partition("/")[0]
    if not extension and format is not None:
        name += format.extensions[0]
    return name, content_type


_NEVER_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LONGEST_NAME = 200


def safe_name(name: str) -> str:
    """Return a bare file name: no directories, no control or direction characters, not too long."""
    bare = _NEVER_IN_NAMES.sub("_", re.split(r"[/\\]", name)[-1])
    stem, extension = os.path.splitext(bare)
    extension = extension[:20]
    bare = stem[: _LONGEST_NAME - len(extension)] + extension
    # A name from a POSIX file system may hold lone surrogates, which UTF-8 cannot carry.
    return bare.encode("utf-8", "replace").decode() if bare.strip(".") else ""


def _readable(size: int) -> str:
    return f"{size // GIBIBYTE} GB" if size >= GIBIBYTE else f"{size // MEBIBYTE} MB"
