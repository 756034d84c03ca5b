"""A file that comes packed although it was asked for as it is: unpacked up to its own end."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from multidict import MultiMapping

_UNPACKED_HERE = ("gzip", "x-gzip", "deflate")
_NOT_UNPACKED = ("br", "zstd")

_PIECE = 4096
"""Bytes unpacked at once: they become 4 MB at most, and little is copied for each short member."""

_EITHER_HEADER = 32 + zlib.MAX_WBITS
_NO_HEADER = -zlib.MAX_WBITS


class PackedError(Exception):
    """A file came packed and cannot be unpacked, or ends before its packing does."""


def packing_of(headers: MultiMapping[str]) -> str:
    """Return how an answer is packed; of what is no packing, such as ``aws-chunked``, nothing."""
    said = ",".join(headers.getall("Content-Encoding", ())).lower().split(",")
    packings = (word.strip() for word in said)
    return ", ".join(word for word in packings if word in _UNPACKED_HERE + _NOT_UNPACKED)


async def unpacked(chunks: AsyncIterator[bytes], packing: str) -> AsyncIterator[bytes]:
    """Unpack a file as it comes.

    aiohttp, which unpacks answers, looks for the end of ``deflate`` alone: what was cut off before
    it was packed into a well-framed answer would be taken for the whole file.

    Args:
        chunks: What comes.
        packing: As ``packing_of`` says it.

    Raises:
        PackedError: It cannot be unpacked, or what came ends before its packing does.
    """
    if packing not in _UNPACKED_HERE:  # among them what was packed twice
        raise PackedError(f"{packing}, which is not unpacked here")
    member = None
    async for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            rest = chunk[start : start + _PIECE]
            while rest:
                if member is not None and member.eof and packing == "deflate":
                    raise PackedError(f"{packing}, and more after its end")
                if member is None or member.eof:  # gzip's, one after another, are one file
                    headless = packing == "deflate" and rest[0] & 0xF != zlib.DEFLATED
                    member = zlib.decompressobj(_NO_HEADER if headless else _EITHER_HEADER)
                try:
                    piece = member.decompress(rest)
                except zlib.error as error:
                    raise PackedError(f"{packing}: {error}") from None
                if piece:
                    yield piece
                rest = member.unused_data
    if member is not None and not member.eof:
        raise PackedError(f"{packing}, cut off before its end")
