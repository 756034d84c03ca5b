"""Small video containers: some made by FFmpeg, some written byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import av


def encode(path: Path, seconds: int = 3, container: str | None = None) -> bytes:
    """Encode a black film of some seconds, two pictures a second; return the file."""
    codec = {".webm": "vp8", ".flv": "flv1", ".wmv": "wmv2", ".mpg": "mpeg1video"}
    with av.open(str(path), "w", format=container) as output:
        # MPEG-1 knows only the rates of television.
        rate = 25 if path.suffix == ".mpg" else 2
        stream = output.add_stream(codec.get(path.suffix, "mpeg4"), rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(seconds * rate):
            output.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        output.mux(stream.encode())
    return path.read_bytes()


def box(kind: bytes, content: bytes = b"", *, wide: bool = False) -> bytes:
    """Write an MP4 box, with a 64-bit length if so told."""
    if wide:
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), kind) + content


def movie_header(seconds: float, *, version: int = 0, timescale: int = 1000) -> bytes:
    """Write the box that says how long a film lasts."""
    if version == 1:
        times = struct.pack(">QQIQ", 0, 0, timescale, round(seconds * timescale))
    else:
        times = struct.pack(">IIII", 0, 0, timescale, round(seconds * timescale))
    return box(b"mvhd", bytes([version, 0, 0, 0]) + times + bytes(80))


FILE_TYPE = box(b"ftyp", b"mp42\0\0\0\0mp42isom")


def mp4(seconds: float, *, version: int = 0) -> bytes:
    """Write an MP4 that says how long it lasts and holds nothing else."""
    return FILE_TYPE + box(b"free") + box(b"moov", movie_header(seconds, version=version))


def element(identifier: int, content: bytes) -> bytes:
    """Write an EBML element with an 8-byte length."""
    width = (identifier.bit_length() + 7) // 8
    return identifier.to_bytes(width) + struct.pack(">Q", len(content) | 1 << 56) + content


def matroska(*info: bytes, kind: bytes = b"matroska") -> bytes:
    """Write a Matroska or WebM file with these elements in its Info."""
    segment = element(0x114D9B74, b"seek") + element(0x1549A966, b"".join(info))
    return element(0x1A45DFA3, element(0x4282, kind)) + element(0x18538067, segment)
