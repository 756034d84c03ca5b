"""Picture, video and audio formats: by extension, by first bytes, and how long a video lasts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import attrs

HEAD_SIZE = 64
"""How many first bytes ``detect`` wants to see."""

ReadAt = Callable[[int, int], bytes]
"""Reads at most so many bytes from an offset: ``read_at(offset, size)``."""


@attrs.frozen
class Format:
    """One file format.

    Attributes:
        content_type: The MIME type to send.
        extensions: Its extensions, lower case, the usual one first.
    """

    content_type: str
    extensions: tuple[str, ...]


PNG = Format("image/png", (".png",))
JPEG = Format("image/jpeg", (".jpg", ".jpeg"))
GIF = Format("image/gif", (".gif",))
BMP = Format("image/bmp", (".bmp",))
WEBP = Format("image/webp", (".webp",))
TIFF = Format("image/tiff", (".tif", ".tiff"))
MP4 = Format("video/mp4", (".mp4", ".m4v"))
QUICKTIME = Format("video/quicktime", (".mov",))
THREE_GPP = Format("video/3gpp", (".3gp",))
MATROSKA = Format("video/x-matroska", (".mkv",))
WEBM = Format("video/webm", (".webm",))
AVI = Format("video/x-msvideo", (".avi",))
FLV = Format("video/x-flv", (".flv",))
WMV = Format("video/x-ms-wmv", (".wmv",))
MPEG = Format("video/mpeg", (".mpeg", ".mpg"))
MP3 = Format("audio/mpeg", (".mp3",))
WAV = Format("audio/wav", (".wav",))
AAC = Format("audio/aac", (".aac",))
FLAC = Format("audio/flac", (".flac",))
OGG = Format("audio/ogg", (".ogg",))
M4A = Format("audio/mp4", (".m4a",))

FORMATS = (
    PNG, JPEG, GIF, BMP, WEBP, TIFF,
    MP4, QUICKTIME, THREE_GPP, MATROSKA, WEBM, AVI, FLV, WMV, MPEG,
    MP3, WAV, AAC, FLAC, OGG, M4A,
)  # fmt: skip
_BY_EXTENSION = {extension: format for format in FORMATS for extension in format.extensions}


def by_extension(extension: str) -> Format | None:
    """Return the format that uses this extension (any case, with the dot), if one is known."""
    return _BY_EXTENSION.get(extension.lower())


# Only what every file of the format begins with; the atom types that may open a QuickTime file
# without ``ftyp`` are those that its specification names for the top level.
_SIGNATURES: tuple[tuple[int, bytes, Format], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (0, b"BM", BMP),
    (8, b"WEBP", WEBP),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (4, b"ftypqt  ", QUICKTIME),
    (4, b"ftyp3g", THREE_GPP),
    (4, b"ftypM4A", M4A),
    (4, b"ftyp", MP4),
    (4, b"moov", QUICKTIME),
    (4, b"mdat", QUICKTIME),
    (4, b"wide", QUICKTIME),
    (4, b"free", QUICKTIME),
    (4, b"skip", QUICKTIME),
    (8, b"AVI ", AVI),
    (0, b"FLV\x01", FLV),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", WMV),
    (0, b"\0\0\x01\xba", MPEG),
    (0, b"\0\0\x01\xb3", MPEG),
    (0, b"ID3", MP3),
    *((0, bytes([0xFF, second]), MP3) for second in b"\xfb\xfa\xf3\xf2\xe3\xe2"),
    (8, b"WAVE", WAV),
    *((0, bytes([0xFF, second]), AAC) for second in b"\xf1\xf0\xf9\xf8"),
    (0, b"fLaC", FLAC),
    (0, b"OggS", OGG),
)
_EBML = b"\x1a\x45\xdf\xa3"


def detect(head: bytes) -> Format | None:
    """Return the format that the first bytes of a file show, if it is a known one."""
    if head.startswith(_EBML):
        return WEBM if b"webm" in head else MATROSKA
    if head.startswith(b"RIFF") and head[8:12] not in (b"WEBP", b"AVI ", b"WAVE"):
        return None
    for offset, signature, format in _SIGNATURES:
        if head.startswith(signature, offset):
            return format
    return None


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
