"""What one endpoint takes, as a value."""

from __future__ import annotations

import attrs

from memories_async.media.formats import Format


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
