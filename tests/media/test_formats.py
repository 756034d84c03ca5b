"""Formats by extension and by first bytes, and how long small containers last."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories_async.media.durations import MOST_ELEMENTS, duration
from memories_async.media.formats import (
    AAC,
    AVI,
    BMP,
    FLAC,
    FLV,
    FORMATS,
    GIF,
    HEAD_SIZE,
    JPEG,
    M4A,
    MATROSKA,
    MP3,
    MP4,
    MPEG,
    OGG,
    PNG,
    QUICKTIME,
    THREE_GPP,
    TIFF,
    WAV,
    WEBM,
    WEBP,
    WMV,
    Format,
    by_extension,
    detect,
)
from tests.media.containers import FILE_TYPE, box, element, encode, matroska, movie_header, mp4


@pytest.mark.parametrize(
    ("extensions", "content_type"),
    [
        (".png", "image/png"),
        (".jpg .jpeg", "image/jpeg"),
        (".gif", "image/gif"),
        (".bmp", "image/bmp"),
        (".webp", "image/webp"),
        (".tif .tiff", "image/tiff"),
        (".mp4 .m4v", "video/mp4"),
        (".mov", "video/quicktime"),
        (".3gp", "video/3gpp"),
        (".mkv", "video/x-matroska"),
        (".webm", "video/webm"),
        (".avi", "video/x-msvideo"),
        (".flv", "video/x-flv"),
        (".wmv", "video/x-ms-wmv"),
        (".mpeg .mpg", "video/mpeg"),
        (".mp3", "audio/mpeg"),
        (".wav", "audio/wav"),
        (".aac", "audio/aac"),
        (".flac", "audio/flac"),
        (".ogg", "audio/ogg"),
        (".m4a", "audio/mp4"),
    ],
)
def test_by_extension(extensions: str, content_type: str) -> None:
    for extension in extensions.split():
        for spelling in (extension, extension.upper(), extension.title()):
            assert by_extension(spelling) == Format(content_type, tuple(extensions.split()))


def test_no_format_by_extension() -> None:
    for extension in ("", ".", "png", ".txt", ".mid", ".png ", ".heic"):
        assert by_extension(extension) is None


HEADS = [
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff\xe0", JPEG),
    (b"\xff\xd8\xff\xe1", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM\0\0\0\0", BMP),
    (b"RIFF\x10\0\0\0WEBPVP8 ", WEBP),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"\0\0\0\x18ftypmp42", MP4),
    (b"\0\0\0\x18ftypisom", MP4),
    (b"\0\0\0\x18ftypM4V ", MP4),
    (b"\0\0\0\x14ftypqt  ", QUICKTIME),
    (b"\0\0\0\x14ftyp3gp5", THREE_GPP),
    (b"\0\0\0\x14ftyp3g2a", THREE_GPP),
    *((b"\0\0\1\0" + atom, QUICKTIME) for atom in (b"moov", b"mdat", b"wide", b"free", b"skip")),
    (b"RIFF\x10\0\0\0AVI LIST", AVI),
    (b"FLV\x01\x05", FLV),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", WMV),
    (b"\0\0\x01\xba", MPEG),
    (b"\0\0\x01\xb3", MPEG),
    (b"ID3\x04", MP3),
    (b"\xff\xfb\x90", MP3),
    (b"RIFF\x10\0\0\0WAVEfmt ", WAV),
    (b"\xff\xf1\x50", AAC),
    (b"fLaC\0", FLAC),
    (b"OggS\0", OGG),
    (b"\0\0\0\x18ftypM4A ", M4A),
    (matroska(), MATROSKA),
    (matroska(kind=b"webm"), WEBM),
]


@pytest.mark.parametrize(("head", "format"), HEADS, ids=lambda value: repr(value)[:40])
def test_detect(head: bytes, format: Format) -> None:
    assert detect(head[:HEAD_SIZE]) == format
    assert detect((head + bytes(HEAD_SIZE))[:HEAD_SIZE]) == format
    assert detect(b"\x20" + head) != format


def test_every_format_is_detected() -> None:
    assert {format for _, format in HEADS} == set(FORMATS)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x89PN",
        b"<html>",
        b"%PDF-1.7",
        b"RIFF\x10\0\0\0",
        b"XXXX\0\0\0\0????",
        b"GIF88a",
        b"FLV\x02",
        b"\0\0\0\x18ftxpmp42",
    ],
)
def test_detects_nothing(head: bytes) -> None:
    assert detect(head) is None


@given(st.binary(max_size=HEAD_SIZE))
def test_detect_takes_any_bytes(head: bytes) -> None:
    assert detect(head) in (None, *FORMATS)


# Durations.


def lasts(data: bytes, format: Format | None = None) -> float | None:
    """Return the duration that is read from bytes."""
    found = format or detect(data[:HEAD_SIZE])
    assert found is not None
    return duration(lambda at, size: data[at : at + size], len(data), found)


@pytest.mark.parametrize(
    ("extension", "container", "format"),
    [
        (".mp4", None, MP4),
        (".mov", None, QUICKTIME),
        (".3gp", None, THREE_GPP),
        (".mkv", None, MATROSKA),
        (".webm", None, WEBM),
        (".avi", None, AVI),
        (".flv", None, FLV),
        (".wmv", "asf", WMV),
        (".mpg", "mpeg", MPEG),
    ],
)
def test_containers_made_by_ffmpeg(
    extension: str, container: str | None, format: Format, tmp_path: Path
) -> None:
    data = encode(tmp_path / f"film{extension}", 3, container)
    assert detect(data[:HEAD_SIZE]) == format == by_extension(extension)
    if format in (FLV, WMV, MPEG):
        assert lasts(data) is None  # would take reading much of the file
    else:
        assert lasts(data) == pytest.approx(3.0, abs=0.51)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("seconds", [0, 1.5, 7200, 7200.001, 100_000])
def test_mp4_header(version: int, seconds: float) -> None:
    assert lasts(mp4(seconds, version=version)) == pytest.approx(seconds)


def test_mp4_header_behind_the_pictures_and_within_other_boxes() -> None:
    header = box(b"moov", box(b"iods") + movie_header(5, timescale=600))
    assert lasts(FILE_TYPE + box(b"mdat", bytes(5000)) + header) == 5
    assert lasts(FILE_TYPE + box(b"mdat", bytes(5000), wide=True) + header) == 5
    open_ended = struct.pack(">I4s", 0, b"moov") + movie_header(5)
    assert lasts(FILE_TYPE + open_ended) == 5


def test_mp4_behind_gigabytes_is_found_without_reading_them() -> None:
    pictures = struct.pack(">I4sQ", 1, b"mdat", 5 << 30)
    header = box(b"moov", movie_header(60))
    start = len(FILE_TYPE)
    reads: list[int] = []

    def read_at(position: int, size: int) -> bytes:
        reads.append(size)
        if position < start + 16:
            return (FILE_TYPE + pictures)[position : position + size]
        return header[position - start - (5 << 30) :][:size]

    assert duration(read_at, start + (5 << 30) + len(header), MP4) == 60
    assert sum(reads) < 200


@pytest.mark.parametrize(
    "data",
    [
        FILE_TYPE,
        FILE_TYPE + box(b"moov"),
        FILE_TYPE + box(b"moov", box(b"mvhd")),
        FILE_TYPE + box(b"moov", box(b"mvhd", b"\0" * 10)),
        FILE_TYPE + box(b"moov", movie_header(5, timescale=1)[:-90]),
        FILE_TYPE + box(b"moov", box(b"mvhd", bytes(100))),  # a timescale of 0
        FILE_TYPE + struct.pack(">I4s", 4, b"moov") + movie_header(5),  # shorter than its head
        FILE_TYPE + struct.pack(">I4sQ", 1, b"moov", 3) + movie_header(5),
        FILE_TYPE + box(b"mdat", bytes(100))[:50],
        FILE_TYPE + struct.pack(">I4s", 1, b"moov"),  # cut off within a wide length
    ],
)
def test_damaged_mp4(data: bytes) -> None:
    assert lasts(data) is None


SCALE, LENGTH = 0x2AD7B1, 0x4489


def test_matroska_header() -> None:
    assert lasts(matroska(element(LENGTH, struct.pack(">d", 5000.0)))) == 5
    assert lasts(matroska(element(LENGTH, struct.pack(">f", 5000.0)))) == 5
    scale = element(SCALE, (2_000_000).to_bytes(3))
    assert lasts(matroska(scale, element(LENGTH, struct.pack(">d", 5000.0)))) == 10
    assert lasts(matroska(kind=b"webm")) is None
    # One-byte lengths, as other writers make them.
    short = bytes.fromhex("1549a966 86 4489 84") + struct.pack(">f", 2000.0)[:3]
    assert lasts(element(0x1A45DFA3, b"") + element(0x18538067, short)) is None
    whole = bytes.fromhex("1549a966 87 4489 84") + struct.pack(">f", 2000.0)
    assert lasts(element(0x1A45DFA3, b"") + element(0x18538067, whole)) == 2


def test_matroska_of_unknown_length() -> None:
    """As live recordings are written."""
    info = element(0x1549A966, element(LENGTH, struct.pack(">d", 1000.0)))
    segment = b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    assert lasts(element(0x1A45DFA3, b"") + segment + info) == 1
    cluster = element(0x1F43B675, b"")
    assert lasts(element(0x1A45DFA3, b"") + segment + cluster + info) is None


@pytest.mark.parametrize(
    "data",
    [
        element(0x1A45DFA3, b""),
        element(0x1A45DFA3, b"") + element(0x18538067, b""),
        element(0x1A45DFA3, b"") + b"\0" * 20,
        element(0x1A45DFA3, b"") + b"\x01\x02\x03\x04\x05\x06\x07\x08" * 3,
        element(0x1A45DFA3, b"") + element(0x18538067, b"\x15\x49\xa9\x66"),
        matroska(element(LENGTH, b"\0\0\0")),
        matroska(element(LENGTH, b"")),
    ],
)
def test_damaged_matroska(data: bytes) -> None:
    assert lasts(data, MATROSKA) is None


def avi(microseconds: int, frames: int) -> bytes:
    header = struct.pack("<IIIII", microseconds, 0, 0, 0, frames) + bytes(36)
    listed = b"hdrlavih" + struct.pack("<I", 56) + header
    content = b"AVI LIST" + struct.pack("<I", len(listed)) + listed
    return b"RIFF" + struct.pack("<I", len(content)) + content


def test_avi_header() -> None:
    assert lasts(avi(40_000, 250)) == 10
    assert lasts(avi(40_000, 0)) == 0
    assert lasts(avi(40_000, 250)[:50], AVI) is None
    assert lasts(avi(40_000, 250).replace(b"avih", b"junk")) is None


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.content_type)
@given(data=st.binary(max_size=100))
def test_no_bytes_break_the_reader(format: Format, data: bytes) -> None:
    assert lasts(data, format) is None or isinstance(lasts(data, format), float)


WHOLE: tuple[bytes, ...] = (
    mp4(5),
    mp4(5, version=1),
    FILE_TYPE + box(b"mdat", bytes(40), wide=True) + box(b"moov", movie_header(5)),
    matroska(element(LENGTH, bytes(8))),
    matroska(element(SCALE, (2_000_000).to_bytes(3)), element(LENGTH, struct.pack(">d", 5.0))),
    avi(40_000, 250),
)


class Counted:
    """A file of which is counted what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0

    def read_at(self, position: int, size: int) -> bytes:
        self.reads += 1
        # As the kernel has it: what lies beyond its numbers is an error.
        if not (0 <= position < 1 << 63 and 0 <= size <= 64):
            raise OverflowError(f"{size} bytes at {position}")
        return self.data[position : position + size]


def is_sound(data: bytes, format: Format) -> bool:
    """Tell whether reading a duration stays within bounds and gives a number that is one."""
    file = Counted(data)
    seconds = duration(file.read_at, len(data), format)
    sane = seconds is None or (math.isfinite(seconds) and seconds >= 0)
    return sane and file.reads <= MOST_ELEMENTS + 10


@settings(max_examples=5 * settings().max_examples)
@given(data=st.data())
def test_no_damage_breaks_the_reader(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(WHOLE))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        kind = data.draw(st.sampled_from(["bytes", "ones", "cut", "repeat"]))
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        if kind == "bytes":
            damaged[place : place + 8] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "ones":  # the largest of all lengths and numbers, infinities, not-a-numbers
            damaged[place : place + 8] = b"\x7f\xf0" + b"\xff" * data.draw(st.integers(0, 7))
        elif kind == "cut":
            del damaged[place:]
        else:
            damaged[place:place] = damaged[place : place + 16] * data.draw(st.integers(1, 200))
    format = detect(whole[:HEAD_SIZE])
    assert format is not None
    assert is_sound(bytes(damaged), format)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (FILE_TYPE + box(b"free") * 2_000_000, MP4),
        (FILE_TYPE + box(b"moov", box(b"free") * 100_000), MP4),
        (element(0x1A45DFA3, b"") + b"\xec\x80" * 1_000_000, MATROSKA),
        (matroska(b"\xec\x80" * 1_000_000, element(LENGTH, struct.pack(">d", 1.0))), MATROSKA),
    ],
    ids=["boxes", "boxes in a box", "elements", "elements in an element"],
)
def test_a_million_of_elements_cost_no_more_than_a_thousand(data: bytes, format: Format) -> None:
    assert is_sound(data, format)
    assert lasts(data, format) is None


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "-1", "1e308"])
def test_a_duration_that_is_none(number: str) -> None:
    length = element(LENGTH, struct.pack(">d", float(number)))
    scale = element(SCALE, b"\xff" * 8)
    assert lasts(matroska(scale, length)) is None


def test_a_length_beyond_the_file_ends_with_it() -> None:
    info = element(LENGTH, struct.pack(">d", 5000.0))
    beyond = b"\x15\x49\xa9\x66\x01" + b"\xff" * 6 + b"\xfe" + info
    data = element(0x1A45DFA3, b"") + element(0x18538067, beyond)
    assert is_sound(data, MATROSKA)
    assert lasts(data, MATROSKA) == 5
    header = struct.pack(">I4sQ", 1, b"moov", (1 << 64) - 1) + movie_header(5)
    assert is_sound(FILE_TYPE + header, MP4)
    assert lasts(FILE_TYPE + header) == 5


@pytest.mark.parametrize("version", [0, 1])
def test_an_mp4_of_unknown_length(version: int) -> None:
    """All ones say that the writer did not know."""
    width = 8 if version else 4
    whole = mp4(5, version=version)
    units = (5000).to_bytes(width)
    assert whole.count(units) == 1
    assert lasts(whole.replace(units, b"\xff" * width)) is None
