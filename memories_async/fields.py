"""The fields of requests: checked against the documented limits before anything is sent."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from memories_async.config import Settings, is_private
from memories_async.errors import ConfigurationError
from memories_async.media.urls import check_url

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


def callback_address(url: str, settings: Settings) -> str:
    """Refuse what is no address, and warn of one that the real service cannot reach."""
    check_url(url, "callback")
    host = urlsplit(url).hostname or ""
    if settings.base_url is None and is_private(host):
        warnings.warn(
            f"callback: {host} is on this machine or network, where the service cannot call",
            UserWarning,
            stacklevel=3,
        )
    return url


def drop_none(**fields: object) -> dict[str, object]:
    """Keep the fields that were given, in this order: the service tells absent from empty."""
    return {name: value for name, value in fields.items() if value is not None}


def non_empty(field: str, value: str) -> str:
    """Refuse an empty text."""
    if not value.strip():
        raise ConfigurationError(f"{field} is empty")
    return value


def limited(field: str, value: str | None, limit: int) -> str | None:
    """Refuse a text that is too long."""
    if value is not None and len(value) > limit:
        raise ConfigurationError(f"{field} has {len(value)} characters; the limit is {limit}")
    return value


def at_most(field: str, values: Sequence[str], limit: int | None = None) -> list[str] | None:
    """Refuse too many texts, or one text where several are meant; an empty list is no field."""
    if isinstance(values, str):
        raise ConfigurationError(f"{field} is a sequence of texts, not one text")
    if limit is not None and len(values) > limit:
        raise ConfigurationError(f"{field}: {len(values)} given; the limit is {limit}")
    return list(values) or None


def one_of(field: str, value: str | None, choices: Iterable[str]) -> str | None:
    """Refuse a word that the service does not know."""
    if value is not None and value not in (known := list(choices)):
        raise ConfigurationError(f"{field} is one of {', '.join(known)}, not {value!r}")
    return value


def in_range(field: str, value: float | None, low: float, high: float) -> float | None:
    """Refuse a number outside its range."""
    if value is not None and not low <= value <= high:
        raise ConfigurationError(f"{field} must be between {low} and {high}, not {value}")
    return value


def date_and_time(field: str, value: datetime | str | None) -> str | None:
    """Write a time as the service wants it: ``yyyy-MM-dd HH:mm:ss``, which has no offset.

    What has one is sent as UTC; what has none is sent as it stands.
    """
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).strftime(TIME_FORMAT)
    if value is not None:
        # strptime takes 2025-9-7 as well, which the service refuses.
        try:
            exact = datetime.strptime(value, TIME_FORMAT).strftime(TIME_FORMAT) == value
        except ValueError:
            exact = False
        if not exact:
            raise ConfigurationError(f"{field} is yyyy-MM-dd HH:mm:ss, not {value!r}")
    return value


def epoch_ms(value: datetime | None) -> int | None:
    """Write a time as milliseconds since 1970; a naive one is local time."""
    return None if value is None else round(value.timestamp() * 1000)
