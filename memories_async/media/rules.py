"""What each endpoint takes: the documented formats, sizes and durations."""

from __future__ import annotations

import attrs

from memories_async.errors import MediaTooLarge
from memories_async.media.formats import (
    AVI,
    BMP,
    FLV,
    FORMATS,
    GIF,
    JPEG,
    MATROSKA,
    MP4,
    MPEG,
    PNG,
    QUICKTIME,
    THREE_GPP,
    TIFF,
    WEBM,
    WEBP,
    WMV,
    Format,
)

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


def readable_size(size: int) -> str:
    """Return a limit in the unit that its documentation has."""
    return f"{size // GIBIBYTE} GB" if size >= GIBIBYTE else f"{size // MEBIBYTE} MB"


@attrs.frozen
class MediaRule:
    """What one endpoint takes.

    Attributes:
        noun: What it takes, for messages.
        formats: The documented formats.
        max_size: Bytes per file; None where no limit is documented.
        max_duration: Seconds; None where no limit is documented.
    """

    noun: str
    formats: frozenset[Format]
    max_size: int | None = None
    max_duration: float | None = None

    @property
    def extensions(self) -> str:
        """The allowed extensions, for messages."""
        return " ".join(sorted(name for format in self.formats for name in format.extensions))

    def check_size(self, label: str, size: int, *, known: bool = True) -> None:
        """Refuse a file that is larger than documented.

        Args:
            label: How messages name it.
            size: Its bytes, or as many as have come of it.
            known: Whether that is all of it.

        Raises:
            MediaTooLarge: It is.
        """
        if self.max_size is not None and size > self.max_size:
            raise MediaTooLarge(
                f"{label} has {size:,} bytes{'' if known else ' or more'}; "
                f"the limit for {self.noun} is {readable_size(self.max_size)}"
            )


_LIBRARY_FORMATS = frozenset({JPEG, PNG, GIF, BMP, WEBP})

CAPTION_IMAGE = MediaRule("an image to caption", frozenset({PNG, JPEG}))
CAPTION_VIDEO = MediaRule(
    "a video to caption",
    frozenset({MP4, QUICKTIME, THREE_GPP, MATROSKA, WEBM, AVI, FLV, WMV, MPEG}),
    max_size=8 * GIBIBYTE,
    max_duration=2 * 60 * 60,
)
LIBRARY_IMAGE = MediaRule("a library image", _LIBRARY_FORMATS, max_size=20 * MEBIBYTE)
QUERY_IMAGE = MediaRule("a query image", _LIBRARY_FORMATS, max_size=20 * MEBIBYTE)
LIBRARY_VIDEO = MediaRule(
    "a library video", frozenset({MP4, AVI, MATROSKA, QUICKTIME}), max_size=3 * GIBIBYTE
)
EMBEDDED_IMAGE = MediaRule("an image to embed", frozenset({JPEG, PNG, GIF, WEBP, BMP, TIFF}))
ASSET = MediaRule("an asset", frozenset(FORMATS) - {THREE_GPP})
