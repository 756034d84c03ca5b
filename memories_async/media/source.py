"""What users may hand in to be sent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import BinaryIO, TypeAlias, cast

import attrs


@attrs.frozen
class Media:
    """Something to upload whose name and type are given by hand.

    Args:
        content: A path, bytes, a binary file object, or an async iterable of bytes, which can be
            read, and so sent, only once.
        name: The file name to send; by default the path's, or one made from the type.
        content_type: The MIME type to send. It is trusted: the first bytes are not checked.
        size: How many bytes a stream will yield. Without it the body is sent chunked.
    """

    content: str | os.PathLike[str] | bytes | BinaryIO | AsyncIterable[bytes] = attrs.field(
        repr=False
    )
    name: str | None = None
    content_type: str | None = None
    size: int | None = None


Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Media
"""An ``http(s)://`` string, a local path, bytes, a binary file object, or :class:`Media`.

A file object is read from where it stands, its position is put back, and it is never closed.
"""


def listed(sources: Source | Iterable[Source]) -> list[Source]:
    """Return one source, or all that an iterable yields, as a list."""
    if isinstance(sources, str | bytes | os.PathLike | Media) or hasattr(sources, "read"):
        return [cast("Source", sources)]
    if isinstance(sources, Mapping) or not isinstance(sources, Iterable):
        return [cast("Source", sources)]  # none: the call will refuse it by its name
    return list(sources)
