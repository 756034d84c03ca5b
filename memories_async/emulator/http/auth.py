"""Who may come in: loopback names, keys and rate limits."""

from __future__ import annotations

import collections
import hashlib
import hmac
import ipaddress
import math
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from memories_async.checks import ConfigurationError, checked
from memories_async.checks.kinds import SECONDS, shown
from memories_async.checks.parameters import between
from memories_async.operations import Bucket, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_loopback(host_header: str) -> bool:
    """Return whether a ``Host`` header names loopback: a page rebound by DNS names its own host."""
    try:
        return is_loopback(urlsplit(f"//{host_header}").hostname or "")
    except ValueError:
        return False


class Keys:
    """The keys that are asked for, kept as digests: no repr, log or traceback can show one."""

    def __init__(self, api_key: str | None, caption_key: str | None) -> None:
        self._salt = secrets.token_bytes(16)
        self._required = {
            Service.CAPTION: caption_key and self.account(caption_key),
            Service.VISUAL_SEARCH: api_key and self.account(api_key),
            Service.VISUAL_INTELLIGENCE: api_key and self.account(api_key),
        }

    def account(self, authorization: str) -> str:
        """Return a name for the account behind a key that does not tell the key."""
        data = authorization.encode(errors="surrogateescape")
        return hashlib.blake2b(data, digest_size=16, key=self._salt).hexdigest()

    def accept(self, service: Service, authorization: str) -> bool:
        """Return whether this is the service's key: bare, and without ``Bearer``.

        A signed address is its own permission: a key that comes there has leaked.
        """
        if service is Service.STORAGE:
            return not authorization
        required = self._required[service]
        if required:
            return hmac.compare_digest(self.account(authorization), required)
        return bool(authorization) and not any(letter.isspace() for letter in authorization)

    def accept_any(self, authorization: str) -> bool:
        """Return whether this is a key that some service requires."""
        account = self.account(authorization)
        return any(key and hmac.compare_digest(account, key) for key in self._required.values())


@checked({"count": between(0, math.inf), "seconds": SECONDS})
@attrs.frozen
class RateLimit:
    """At most ``count`` calls in any ``seconds``, per account."""

    count: int
    seconds: float = 1.0


class RateLimits(collections.UserDict[Bucket, RateLimit]):
    """The limits in force: one of no bucket would limit nothing."""

    def __setitem__(self, bucket: Bucket, limit: RateLimit) -> None:
        if not isinstance(bucket, Bucket) or not isinstance(limit, RateLimit):
            raise ConfigurationError(
                f"limits[{shown(bucket)}] is {shown(limit)}; a RateLimit of a Bucket is wanted"
            )
        super().__setitem__(bucket, limit)


class RateLimiter:
    """Sliding windows, one per account and bucket; a refused call does not count."""

    def __init__(self, limits: Mapping[Bucket, RateLimit], clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._calls: dict[tuple[str, Bucket], collections.deque[float]] = {}

    def admit(self, account: str, bucket: Bucket) -> bool:
        """Count a call, or return False if its window is full."""
        limit = self._limits.get(bucket)
        if limit is None:
            return True
        now = self._clock()
        calls = self._calls.setdefault((account, bucket), collections.deque())
        while calls and calls[0] <= now - limit.seconds:
            calls.popleft()
        if len(calls) >= limit.count:
            return False
        calls.append(now)
        return True
