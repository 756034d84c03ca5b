"""What an item of ``Once`` is known by: a digest of what is asked for it, and of its content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from typing import BinaryIO, TypeAlias, cast

import attrs

from memories_async import _json, sqlite
from memories_async._engine.body.threads import in_thread
from memories_async.bulk.journal.rows import FileState
from memories_async.bulk.preflight import fingerprint
from memories_async.checks import checked
from memories_async.config import Policy
from memories_async.errors import ConfigurationError, MediaError, quoted
from memories_async.media.urls import is_url

READ = 1024 * 1024


@checked
@attrs.frozen
class Openable:
    """Something that can be opened as often as needed, e.g. an object in a store.

    Args:
        name: Its file name, with the extension.
        open: Returns a binary file that can be sought; it is closed after use. It may block.
    """

    name: str
    open: Callable[[], BinaryIO]


OnceSource: TypeAlias = str | os.PathLike[str] | bytes | Openable
"""What can be sent once: something whose content can be looked at before it is sent."""


async def key_of(
    kind: str,
    source: OnceSource,
    given: Mapping[str, object],
    additions: Mapping[str, object] | None = None,
) -> str:
    """Return the digest of a kind, its options and a content.

    Args:
        kind: A kind of job.
        source: What is sent.
        given: The call's arguments.
        additions: What ``additions_of`` returned.
    """
    if not isinstance(cast("object", source), str | os.PathLike | bytes | Openable):
        raise ConfigurationError(f"Once: {type(source).__name__} given; a path or bytes is wanted")
    if isinstance(source, str) and is_url(source):
        content = f"url:{source}"
    elif isinstance(source, bytes):
        content = hashlib.sha256(source).hexdigest()
    else:
        content = await in_thread(_content_digest, source)
    options = {name: value for name, value in given.items() if value is not None}
    # What has no additions keeps the digest that it had before they were part of it.
    named = [kind, options, content, *([additions] if additions else [])]
    asked = _json.dumps(named, option=_json.OPT_SORT_KEYS, default=_plain)
    return hashlib.sha256(asked).hexdigest()


def additions_of(policy: Policy) -> dict[str, object]:
    """Return the headers and fields that each request of a policy has besides its own."""
    additions: dict[str, object] = {}
    if policy.headers:
        headers = ((name.lower(), value) for name, value in policy.headers.items())
        additions["headers"] = sorted(headers)
    if policy.fields:
        additions["fields"] = policy.fields
    return additions


def fingerprint_of(source: OnceSource) -> FileState | None:
    """Return what tells that a file is still the same; None for what is no file."""
    if isinstance(source, os.PathLike) or (isinstance(source, str) and not is_url(source)):
        return fingerprint(os.fspath(source))
    return None


def shown(source: object) -> str:
    """Return a source as a message may hold it."""
    return quoted(f"{source!r}")


def _content_digest(source: str | os.PathLike[str] | Openable) -> str:
    if not isinstance(source, Openable):
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{shown(source)} is no regular file")
        if sqlite.in_use(status):  # to close it here would take SQLite's locks away
            raise MediaError(f"{shown(source)} is an SQLite file that this process has open")
    with source.open() if isinstance(source, Openable) else open(source, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(READ):
            digest.update(piece)
        return digest.hexdigest()


def _plain(value: object) -> object:
    if attrs.has(type(value)):
        return attrs.asdict(cast("attrs.AttrsInstance", value))
    raise TypeError(f"{type(value).__name__} is no option")
