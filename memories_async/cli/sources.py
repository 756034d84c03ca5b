"""What the sources on the command line are: images or videos, one thing or many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

from memories_async.bulk.inputs import JSON_LINES, LIST
from memories_async.cli.options import MediaKind
from memories_async.errors import ConfigurationError, MediaError
from memories_async.media.formats import HEAD_SIZE, by_extension, detect
from memories_async.media.urls import is_url

_LISTS = (*JSON_LINES, *LIST)


def one_of(sources: Sequence[str]) -> str | None:
    """Return the only source if it is one file or URL; None if there are or may be many."""
    source = sources[0]
    many = len(sources) > 1 or os.path.isdir(source) or source.lower().endswith(_LISTS)
    is_pattern = any(sign in source for sign in "*?[") and not (
        is_url(source) or os.path.exists(source)
    )
    return None if many or is_pattern else source


def kind_of(sources: Sequence[str]) -> MediaKind:
    """Tell images from videos.

    Raises:
        ConfigurationError: The sources do not say, or are of both kinds.
        MediaError: A file cannot be read.
    """
    kinds: set[MediaKind] = {_kind(source) for source in sources}
    if len(kinds) > 1:
        raise ConfigurationError("these are images and videos: give them in two commands")
    return kinds.pop()


def _kind(source: str) -> MediaKind:
    name = urlsplit(source).path if is_url(source) else source
    format = by_extension(os.path.splitext(name)[1])
    if format is None and os.path.isfile(source) and not source.lower().endswith(_LISTS):
        try:
            with open(source, "rb") as file:
                format = detect(file.read(HEAD_SIZE))
        except OSError as error:
            raise MediaError(f"{source}: {error.strerror}") from None
    if format is not None:
        kind, _, _ = format.content_type.partition("/")
        return cast("MediaKind", kind)  # the table has no others
    if not is_url(source) and one_of([source]) and not os.path.exists(source):
        raise MediaError(f"{source}: no such file")
    raise ConfigurationError(f"{source} does not say what it is: add --as image or --as video")
