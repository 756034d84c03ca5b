"""How long a video lasts, by its container's own header; nothing that a file says can do harm."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator

from memories_async.media.formats import (
    AVI,
    MATROSKA,
    MP4,
    QUICKTIME,
    THREE_GPP,
    WEBM,
    Format,
)

ReadAt = Callable[[int, int], bytes]
"""Reads at most so many bytes from an offset: ``read_at(offset, size)``."""

MOST_ELEMENTS = 1000
"""Boxes or elements looked at per file. Films have a dozen before their duration; a file of
16 MiB can hold two million empty ones, and reading them all takes seconds."""


class _TooManyElementsError(Exception):
    pass


def duration(read_at: ReadAt, size: int, format: Format) -> float | None:
    """Return how long a video lasts in seconds, where its container says so cheaply.

    None also where the header is damaged or absurd: the service will say so.

    Args:
        read_at: Reads the file.
        size: Bytes in the file.
        format: What ``detect`` said.
    """
    reader = _DURATION_READERS.get(format)
    if reader is None:
        return None
    try:
        seconds = reader(_Container(read_at), size)
    except (_TooManyElementsError, struct.error, ArithmeticError, LookupError, ValueError, OSError):
        return None
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None


class _Container:
    """A file to read headers from, so many and no more."""

    def __init__(self, read_at: ReadAt) -> None:
        self.read_at = read_at
        self._left = MOST_ELEMENTS

    def header(self, position: int, size: int) -> bytes:
        """Read the header of one more element."""
        if not self._left:
            raise _TooManyElementsError
        self._left -= 1
        return self.read_at(position, size)


def _mp4_duration(file: _Container, size: int) -> float | None:
    # ISO/IEC 14496-12: boxes of (size, type); moov may lie behind gigabytes of mdat.
    for kind, start, end in _boxes(file, 0, size):
        if kind == b"moov":
            for inner, body, _ in _boxes(file, start, end):
                if inner == b"mvhd":
                    return _movie_header_duration(file.read_at(body, 32))
    return None


def _movie_header_duration(data: bytes) -> float | None:
    if data[0] == 1:
        timescale, units = struct.unpack_from(">IQ", data, 20)
        unknown = (1 << 64) - 1
    else:
        timescale, units = struct.unpack_from(">II", data, 12)
        unknown = (1 << 32) - 1
    return None if units == unknown else float(units) / float(timescale)


def _boxes(file: _Container, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of content, end) of each box between two offsets, none beyond them."""
    while start + 8 <= end:
        header = file.header(start, 16)
        length, kind = struct.unpack_from(">I4s", header)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", header, 8)
            content += 8
        elif length == 0:
            length = end - start
        if length < content - start:
            return
        stop = min(start + length, end)
        yield kind, content, stop
        start = stop


_SEGMENT, _INFO, _CLUSTER = 0x18538067, 0x1549A966, 0x1F43B675
_TIMECODE_SCALE, _DURATION = 0x2AD7B1, 0x4489


def _matroska_duration(file: _Container, size: int) -> float | None:
    # RFC 9559: Segment > Info > TimestampScale and Duration, before the first Cluster.
    for identifier, start, end in _elements(file, 0, size):
        if identifier == _SEGMENT:
            for inner, body, stop in _elements(file, start, end):
                if inner == _INFO:
                    return _info_duration(file, body, stop)
                if inner == _CLUSTER:
                    return None
    return None


def _info_duration(file: _Container, start: int, end: int) -> float | None:
    scale, length = 1_000_000, None
    for identifier, body, stop in _elements(file, start, end):
        if identifier == _TIMECODE_SCALE:
            scale = int.from_bytes(file.read_at(body, min(stop - body, 8)))
        elif identifier == _DURATION:
            data = file.read_at(body, min(stop - body, 8))
            (length,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return None if length is None else float(length) * scale / 1e9


def _elements(file: _Container, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (identifier, start of content, end) of each EBML element between two offsets."""
    while start < end:
        header = file.header(start, 12)
        id_width = 9 - header[0].bit_length()
        identifier = int.from_bytes(header[:id_width])
        first = header[id_width]
        width = 9 - first.bit_length()
        if width > 8 or id_width > 4:
            return
        length = int.from_bytes(header[id_width : id_width + width]) & ((1 << 7 * width) - 1)
        content = min(start + id_width + width, end)
        unknown = length == (1 << 7 * width) - 1
        stop = end if unknown else min(content + length, end)
        yield identifier, content, stop
        start = stop


def _avi_duration(file: _Container, size: int) -> float | None:
    # The main header stands first: RIFF, AVI, LIST, hdrl, avih.
    header = file.header(0, 56)
    if header[24:28] != b"avih":
        return None
    (microseconds,) = struct.unpack_from("<I", header, 32)
    (frames,) = struct.unpack_from("<I", header, 48)
    return float(microseconds) * float(frames) / 1e6


_DURATION_READERS: dict[Format, Callable[[_Container, int], float | None]] = {
    MP4: _mp4_duration,
    QUICKTIME: _mp4_duration,
    THREE_GPP: _mp4_duration,
    MATROSKA: _matroska_duration,
    WEBM: _matroska_duration,
    AVI: _avi_duration,
}
