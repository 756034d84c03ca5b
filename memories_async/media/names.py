"""The name and type that a file is sent under."""

from __future__ import annotations

import os
import re

from memories_async.errors import ConfigurationError, UnsupportedMedia
from memories_async.media.formats import by_extension, detect
from memories_async.media.rules import MediaRule

_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:; ?[\w-]+=[\w.-]+)*", re.ASCII)


def clipped(name: str) -> str:
    """Return a path or a name as a message may hold it: not all of a hundred thousand letters."""
    return name if len(name) <= 200 else f"{name[:80]}… ({len(name)} characters)"


def name_and_type(
    given_name: str, given_type: str | None, head: bytes, label: str, rule: MediaRule
) -> tuple[str, str]:
    """Agree on the name and type to send.

    Args:
        given_name: What the caller or the file says; may be empty.
        given_type: What the caller says; it is trusted.
        head: The first bytes; empty where they cannot be looked at.
        label: How messages name the source.
        rule: What the endpoint takes.

    Raises:
        UnsupportedMedia: The endpoint does not take it.
        ConfigurationError: The given type is none.
    """
    name = safe_name(given_name)
    extension = os.path.splitext(name)[1]
    named = by_extension(extension)
    if given_type is not None:
        if not _CONTENT_TYPE.fullmatch(given_type):
            raise ConfigurationError(f"{label}: {given_type!r} is no content type")
        known = (format for format in rule.formats if format.content_type == given_type)
        content_type, format = given_type, next(known, None)
    else:
        if extension and named not in rule.formats:
            raise UnsupportedMedia(f"{label}: {rule.noun} takes {rule.extensions}")
        format = detect(head) if head else named
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
