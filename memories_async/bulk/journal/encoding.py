"""What SQLite can hold of names, texts and JSON values: exactly, and the same for the same."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime


def stored_path(source: str) -> str | bytes:
    """Return a name as it is stored: one that is no UTF-8 has no text."""
    try:
        source.encode()
    except UnicodeEncodeError:
        return os.fsencode(source)
    return source


def safe_text(text: str) -> str:
    """Return a text with whatever UTF-8 cannot say spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def as_json(value: Mapping[str, object]) -> str:
    """Return JSON text: exact integers of any size, times in ISO 8601, the same for the same."""
    return safe_text(
        json.dumps(
            dict(value),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            default=_as_json,
        )
    )


def from_json(text: str | None) -> dict[str, object]:
    """Return what a JSON text says; an empty object for none."""
    found: dict[str, object] = json.loads(text or "{}")
    return found


def _as_json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
