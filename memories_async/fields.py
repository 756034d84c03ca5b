"""The fields of requests, from checked parameters to what goes on the wire."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from urllib.parse import urlsplit

from memories_async.addresses import is_private
from memories_async.config import Settings
from memories_async.media.urls import check_url


def callback_address(url: str, settings: Settings) -> str:
    """Refuse what is no address, and warn of one that the real service cannot reach."""
    check_url(url, "callback")
    host = urlsplit(url).hostname or ""
    if settings.base_url is None and is_private(host):
        warnings.warn(
            f"callback: {host} is on this machine or network, where the service cannot call",
            UserWarning,
            stacklevel=4,  # the method, and the check around it, are between
        )
    return url


def drop_none(**fields: object) -> dict[str, object]:
    """Keep the fields that were given, in this order: the service tells absent from empty."""
    return {name: value for name, value in fields.items() if value is not None}


def date_and_time(value: datetime | str | None) -> str | None:
    """Write a time as the service wants it: ``yyyy-MM-dd HH:mm:ss``, which has no offset.

    What has one is sent as UTC; what has none is sent as it stands.
    """
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment.isoformat(" ", "seconds")
    return value


def epoch_ms(value: datetime | None) -> int | None:
    """Write a time as milliseconds since 1970; a naive one is local time."""
    return None if value is None else round(value.timestamp() * 1000)
