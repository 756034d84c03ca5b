"""How long a video lasts, by its container's own header."""

from __future__ import annotations

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


def duration(read_at: ReadAt, size: int, format: Format) -> float | None:
    """Return how long a video lasts in seconds, where its container says so cheaply.

    Args:
        read_at: Reads the file.
        size: Bytes in the file.
        format: What ``detect`` said.
    """
    reader = _DURATION_READERS.get(format)
    if reader is None:
        return None
    try:
        return reader(read_at, size)
    except (struct.error, IndexError, ZeroDivisionError):
        return None  # a damaged header: the service will say so


def _mp4_duration(read_at: ReadAt, size: int) -> float | None:
    # ISO/IEC 14496-12: boxes of (size, type); moov may lie behind gigabytes of mdat.
    for kind, start, end in _boxes(read_at, 0, size):
        if kind == b"moov":
            for inner, body, _ in _boxes(read_at, start, end):
                if inner == b"mvhd":
                    data = read_at(body, 32)
                    if data[0] == 1:
                        timescale, units = struct.unpack_from(">IQ", data, 20)
                    else:
                        timescale, units = struct.unpack_from(">II", data, 12)
                    return float(units) / float(timescale)
    return None


def _boxes(read_at: ReadAt, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of content, end) of each box between two offsets."""
    while start + 8 <= end:
        header = read_at(start, 16)
        length, kind = struct.unpack_from(">I4s", header)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", header, 8)
            content += 8
        elif length == 0:
            length = end - start
        if length < content - start:
            return
        yield kind, content, start + length
        start += length


_SEGMENT, _INFO, _CLUSTER = 0x18538067, 0x1549A966, 0x1F43B675
_TIMECODE_SCALE, _DURATION = 0x2AD7B1, 0x4489


def _matroska_duration(read_at: ReadAt, size: int) -> float | None:
    # RFC 9559: Segment > Info > TimestampScale and Duration, before the first Cluster.
    for identifier, start, end in _elements(read_at, 0, size):
        if identifier == _SEGMENT:
            for inner, body, stop in _elements(read_at, start, end):
                if inner == _INFO:
                    return _info_duration(read_at, body, stop)
                if inner == _CLUSTER:
                    return None
    return None


def _info_duration(read_at: ReadAt, start: int, end: int) -> float | None:
    scale, length = 1_000_000, None
    for identifier, body, stop in _elements(read_at, start, end):
        data = read_at(body, min(stop - body, 8))
        if identifier == _TIMECODE_SCALE:
            scale = int.from_bytes(data)
        elif identifier == _DURATION:
            (length,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return None if length is None else float(length) * scale / 1e9


def _elements(read_at: ReadAt, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (identifier, start of content, end) of each EBML element between two offsets."""
    while start < end:
        header = read_at(start, 12)
        id_width = 9 - header[0].bit_length()
        identifier = int.from_bytes(header[:id_width])
        first = header[id_width]
        width = 9 - first.bit_length()
        if width > 8 or id_width > 4:
            return
        length = int.from_bytes(header[id_width : id_width + width]) & ((1 << 7 * width) - 1)
        content = start + id_width + width
        unknown = length == (1 << 7 * width) - 1
        stop = end if unknown else content + length
        yield identifier, content, stop
        start = stop


def _avi_duration(read_at: ReadAt, size: int) -> float | None:
    # The main header stands first: RIFF, AVI, LIST, hdrl, avih.
    header = read_at(0, 56)
    if header[24:28] != b"avih":
        return None
    microseconds, frames = (
        struct.unpack_from("<I", header, 32)[0],
        struct.unpack_from("<I", header, 48)[0],
    )
    return float(microseconds) * float(frames) / 1e6


_DURATION_READERS: dict[Format, Callable[[ReadAt, int], float | None]] = {
    MP4: _mp4_duration,
    QUICKTIME: _mp4_duration,
    THREE_GPP: _mp4_duration,
    MATROSKA: _matroska_duration,
    WEBM: _matroska_duration,
    AVI: _avi_duration,
}
