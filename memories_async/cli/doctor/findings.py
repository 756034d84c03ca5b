"""What a check found."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs


class Health(enum.StrEnum):
    """How what was looked at is."""

    OK = "ok"
    """As it should be."""
    MISSING = "missing"
    """Not there, which matters only to some calls."""
    SKIPPED = "skipped"
    """Not looked at."""
    DRIFT = "drift"
    """The service answers differently from what this version knows."""
    PROBLEM = "problem"
    """Calls will fail."""


@attrs.frozen
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        health: How it is.
        message: More about it, in words; never a key.
        differences: For drift: each by its field.
    """

    check: str
    health: Health
    message: str
    differences: Sequence[str] = ()
