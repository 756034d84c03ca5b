"""What the sources on the command line are: images or videos, one thing or many."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import IO, cast
from urllib.parse import urlsplit

from memories_async._lines import LONGEST
from memories_async.bulk import Input
from memories_async.bulk.inputs.lists import JSON_LINES, LIST
from memories_async.cli.interrupts import interruptible
from memories_async.cli.options import MediaKind
from memories_async.errors import ConfigurationError, MediaError
from memories_async.media.formats import HEAD_SIZE, by_extension, detect
from memories_async.media.urls import is_url

STDIN = "-"
"""Stands for names on standard input."""

_LISTS = (*JSON_LINES, *LIST)
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")
_PIECE = 1 << 20
_IN_MEMORY = 1 << 22


def one_of(sources: Sequence[str]) -> str | None:
    """Return the only source if it is one file or URL; None if there are or may be many."""
    source = sources[0]
    many = len(sources) > 1 or os.path.isdir(source) or source.lower().endswith(_LISTS)
    is_pattern = any(sign in source for sign in "*?[") and not (
        is_url(source) or os.path.exists(source)
    )
    return None if many or is_pattern or source == STDIN else source


@contextlib.contextmanager
def inputs_of(sources: Sequence[str], *, null: bool) -> Generator[Iterator[str | Input]]:
    """Give what the sources name, those that stand on standard input among them.

    All of standard input is read before anything is sent, so that whoever writes it is not held
    up, and Ctrl-C while waiting for it ends the command at once.

    Args:
        sources: Files, URLs, folders, patterns, lists, and ``-`` for standard input.
        null: Names on standard input are separated by NUL instead of line feeds.

    Raises:
        ConfigurationError: Standard input is named twice, is closed, is in UTF-16, or never ends a
            name.
    """
    if sources.count(STDIN) > 1:
        raise ConfigurationError("- is standard input, which can be read only once")
    if STDIN not in sources:
        if null:
            raise ConfigurationError("--null is for names on standard input: give - as a source")
        yield iter(sources)
        return
    if sys.stdin is None:
        raise ConfigurationError("- is standard input, which is closed")
    separator = b"\0" if null else b"\n"
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as names:
        length = 0
        with interruptible():
            while piece := sys.stdin.buffer.read(_PIECE):
                _, ended, begun = piece.rpartition(separator)
                length = len(begun) + (0 if ended else length)
                if length > LONGEST:
                    most = f"{LONGEST >> 20} MiB"
                    raise ConfigurationError(f"a name on standard input has more than {most}")
                names.write(piece)
        names.seek(0)
        beginning = names.read(len(_BOM))
        if beginning.startswith(_OTHER_BOMS):  # otherwise a name has bytes that are no UTF-8
            raise ConfigurationError("standard input is in UTF-16: write it as UTF-8")
        if beginning != _BOM:  # as PowerShell writes it
            names.seek(0)
        yield _expanded(sources, names, separator)


def _expanded(sources: Sequence[str], names: IO[bytes], separator: bytes) -> Iterator[str | Input]:
    for source in sources:
        if source == STDIN:
            yield from _names(names, separator)
        else:
            yield source


def _names(names: IO[bytes], separator: bytes) -> Iterator[str | Input]:
    rest = b""
    while piece := names.read(_PIECE):
        *whole, rest = (rest + piece).split(separator)
        for raw in whole:
            yield from _named(raw, separator)
    yield from _named(rest, separator)


def _named(raw: bytes, separator: bytes) -> Iterator[str | Input]:
    if separator == b"\n":
        raw = raw.removesuffix(b"\r")
        if b"\0" in raw:
            raise ConfigurationError("a name on standard input has a NUL in it: add --null")
    if name := os.fsdecode(raw):
        # A name is a name: only of a folder, the files in it are meant.
        yield name if os.path.isdir(name) else Input(name)


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
