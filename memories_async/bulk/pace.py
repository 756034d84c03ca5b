"""What a run asks of a client besides its calls: the account's limit, and a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from memories_async.config import Rate
from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket, Service

if TYPE_CHECKING:
    from memories_async.client import Memories


class _Settings(Protocol):
    rates: Mapping[Bucket, Rate]

    def key(self, service: Service) -> object: ...


def rate_of(client: Memories, bucket: Bucket) -> Rate | None:
    """Return what limit paces a client's calls; None if there is none."""
    settings = _settings(client)
    return None if settings is None else settings.rates.get(bucket)


def missing_key(client: Memories, service: Service) -> ConfigurationError | None:
    """Return why a client can make no call to a service, before any item is held against it."""
    settings = _settings(client)
    try:
        if settings is not None:
            settings.key(service)
    except ConfigurationError as error:
        return error
    return None


def _settings(client: Memories) -> _Settings | None:
    # A stand-in for a client, as tests make them, has none.
    return cast("_Settings | None", getattr(client, "_settings", None))
