"""Picture, video and audio formats: by extension and by first bytes."""

from __future__ import annotations

import attrs

HEAD_SIZE = 64
"""How many first bytes ``detect`` wants to see."""


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
