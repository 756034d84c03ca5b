"""The options that commands share."""

from __future__ import annotations

import attrs
from cyclopts import Parameter


@Parameter(name="*", group="Every command")
@attrs.frozen(kw_only=True)
class Shared:
    """What every command understands.

    Attributes:
        profile: Take address and keys from this profile alone.
        json: Print results as JSON, one object per line.
        quiet: Show no progress.
        debug: Log what is sent, and show where an error came from.
    """

    profile: str | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False


SHARED = Shared()
