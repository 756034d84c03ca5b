"""Settings, services and keys, from arguments and the environment: the one place they come from."""

from __future__ import annotations

import functools
import ipaddress
import math
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal
from urllib.parse import urlsplit

import attrs

from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket, Service

API_KEY_VARIABLE = "MEMORIES_API_KEY"
CAPTION_KEY_VARIABLE = "MEMORIES_CAPTION_KEY"
BASE_URL_VARIABLE = "MEMORIES_BASE_URL"

ORIGINS: Mapping[Service, str] = {
    Service.CAPTION: "https://security.memories.ai",
    Service.VISUAL_SEARCH: "https://api.memories.ai",
    Service.VISUAL_INTELLIGENCE: "https://mavi-backend.memories.ai",
}


_KEYS: Mapping[Service, tuple[str, str]] = {
    Service.CAPTION: ("caption_key", CAPTION_KEY_VARIABLE),
    Service.VISUAL_SEARCH: ("api_key", API_KEY_VARIABLE),
    Service.VISUAL_INTELLIGENCE: ("api_key", API_KEY_VARIABLE),
}
"""The argument and the variable of the key that a service wants."""


class Secret:
    """A key that shows itself to nobody but ``reveal``, and that no pickle carries."""

    __slots__ = ("_value", "_variable")

    def __init__(self, value: str, variable: str) -> None:
        self._value = value
        self._variable = variable

    def reveal(self) -> str:
        """Return the key, for the header of a request to its own service and nothing else."""
        return self._value

    def hide(self, data: bytes) -> bytes:
        """Return what came back without the key, which a gateway may have echoed into it."""
        if len(self._value) <= 8:
            return data  # a key of a few letters, as tests use, would take words apart
        data = data.replace(self._value.encode(), _MASK)
        # Echoed in JSON, a URL or a page, any of its characters may be spelled in another way.
        escaped = b"\\" in data or b"%" in data or b"&" in data
        return _spellings(self._value).sub(_MASK, data) if escaped else data

    def __repr__(self) -> str:
        return (
            f"Secret('{self._value[:3]}…{self._value[-4:]}')"
            if len(self._value) > 16
            else "Secret('…')"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        # Where the pickle is loaded, the key is looked up again: it never travels.
        return secret_from_environment, (self._variable,)


_MASK = "…".encode()


@functools.lru_cache(maxsize=16)
def _spellings(key: str) -> re.Pattern[bytes]:
    """Match a key of which any character may be escaped, as JSON, URLs and HTML do it."""

    def spelled(character: str) -> str:
        number = ord(character)
        digits = "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in f"{number:02x}")
        itself = re.escape(character)
        return (
            rf"(?:{itself}|\\{{1,4}}(?:{itself}|u00{digits})|%{digits}"
            rf"|&#(?:0?0?{number}|[xX]0?0?{digits});)"
        )

    return re.compile("".join(map(spelled, key)).encode())


def secret_from_environment(variable: str) -> Secret | None:
    """Return the key that an environment variable holds, or None."""
    return _secret(os.environ.get(variable), variable)


def _secret(value: str | None, variable: str) -> Secret | None:
    value = (value or "").strip()
    if not value:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(
            f"the key for {variable} has spaces or characters that no header can carry; "
            "pass the bare key, without 'Bearer'"
        )
    return Secret(value, variable)


@attrs.frozen
class Rate:
    """So many calls in so many seconds, however the period is laid.

    Calls are spaced evenly, a little wider than the rate says, so that no period holds more of them
    by the service's clock either.

    Args:
        calls: How many calls may start within any period.
        seconds: The length of the period.
        burst: How many of them may start together after a rest, from 1 (default: none but evenly
            spaced) to ``calls``. A burst costs spacing: no period ever holds more than ``calls``,
            so without a rest only ``calls - burst + 1`` go in each.

    Raises:
        ConfigurationError: A number is none, or allows no call at all.
    """

    calls: int
    seconds: float = 1.0
    burst: int = 1

    def __attrs_post_init__(self) -> None:
        for name, least in (("calls", 1), ("burst", 1)):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(
                    f"Rate: {name} is {value!r}; a whole number from 1 is wanted"
                )
        seconds: object = self.seconds
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 < self.seconds < math.inf:
            raise ConfigurationError(
                f"Rate: seconds is {seconds!r}; a positive number of seconds is wanted"
            )
        if self.burst > self.calls:
            raise ConfigurationError(
                f"Rate: burst is {self.burst}, more than the {self.calls} calls of a period"
            )


# The documented limits, per account; where two pages disagree, the lower one. Nothing is written of
# image uploads and clip search but that a limit exists, so they get the lowest that others have.
DOCUMENTED_RATES: Mapping[Bucket, Rate] = {
    Bucket.CAPTION_IMAGE: Rate(5),
    Bucket.CAPTION_VIDEO: Rate(1),
    Bucket.IMAGE_UPLOAD: Rate(1),
    Bucket.VIDEO_UPLOAD: Rate(1, 60),
    Bucket.SEARCH: Rate(1),
    Bucket.METADATA: Rate(1),
    Bucket.LIST: Rate(5),
    Bucket.DELETE: Rate(5),
    Bucket.DOWNLOAD: Rate(12, 60),
    Bucket.TRANSCRIPTION: Rate(1),
    Bucket.ASSET_UPLOAD: Rate(1),
    Bucket.ASSET: Rate(1),
    Bucket.EMBEDDING: Rate(1),
}

Replaying = Literal["safe", "accept_double_billing"]


@attrs.frozen(kw_only=True)
class CallOptions:
    """How one call waits and retries; what is left None is as the client was told.

    Args:
        deadline: Seconds from the call's start within which it must have finished. By default
            there is none: a slow upload never dies of old age.
        attempts: How often the request may be sent at most, the first time included (default 5).
        retry_time: Seconds within which a further attempt may start (default 120).
        connect_timeout: Seconds to establish a connection (default 10).
        stall_timeout: Seconds without the peer accepting a single byte (default 60).
        answer_timeout: Seconds from the body's last byte to the answer's last (default 300).
        replay: ``"safe"`` (default) never risks paying twice; ``"accept_double_billing"`` sends a
            billed call again also where its first outcome is unknown.
        before_sending: Awaited before each attempt, once its turn has come and before its first
            byte leaves: the place to write down what is about to be sent. What it raises ends
            the call with nothing further sent.

    Raises:
        ConfigurationError: A value is not positive, or ``replay`` is neither word.
    """

    deadline: float | None = None
    attempts: int | None = None
    retry_time: float | None = None
    connect_timeout: float | None = None
    stall_timeout: float | None = None
    answer_timeout: float | None = None
    replay: Replaying | None = None
    before_sending: Callable[[], Awaitable[object]] | None = None

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if name == "before_sending":
                continue
            if name == "replay":
                if value not in (None, "safe", "accept_double_billing"):
                    raise ConfigurationError(f"replay is not {value!r}; see CallOptions")
            elif value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be positive, not {value!r}")


@attrs.frozen(kw_only=True)
class Policy:
    """Call options with every blank filled in."""

    deadline: float | None = None
    attempts: int = 5
    retry_time: float = 120.0
    connect_timeout: float = 10.0
    stall_timeout: float = 60.0
    answer_timeout: float = 300.0
    replay: Replaying = "safe"
    before_sending: Callable[[], Awaitable[object]] | None = None

    def with_options(self, options: CallOptions | None) -> Policy:
        """Return this policy as changed by the options that are given."""
        if options is None:
            return self
        given = attrs.asdict(options, filter=lambda _, value: value is not None)
        return attrs.evolve(self, **given)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything a client was told, checked; holds no connection and no loop."""

    api_key: Secret | None
    caption_key: Secret | None
    base_url: str | None
    policy: Policy
    rates: Mapping[Bucket, Rate]
    max_connections: int

    @classmethod
    def gather(
        cls,
        *,
        api_key: str | None,
        caption_key: str | None,
        base_url: str | None,
        options: CallOptions | None,
        rates: Mapping[Bucket, Rate] | None,
        max_connections: int,
    ) -> Settings:
        """Fill in from the environment what was not given, and check it all.

        Raises:
            ConfigurationError: No key at all, a malformed key or address, or a bad option.
        """
        settings = cls(
            api_key=_secret(api_key, API_KEY_VARIABLE) or secret_from_environment(API_KEY_VARIABLE),
            caption_key=_secret(caption_key, CAPTION_KEY_VARIABLE)
            or secret_from_environment(CAPTION_KEY_VARIABLE),
            base_url=_checked_base_url(base_url or os.environ.get(BASE_URL_VARIABLE)),
            policy=Policy().with_options(options),
            rates=rates if rates is not None else {},
            max_connections=max_connections,
        )
        if settings.api_key is None and settings.caption_key is None:
            raise ConfigurationError(f"no key: pass api_key or set {API_KEY_VARIABLE}")
        if max_connections < 1:
            raise ConfigurationError(f"max_connections must be at least 1, not {max_connections}")
        if rates is None and settings.base_url is None:
            settings = attrs.evolve(settings, rates=DOCUMENTED_RATES)
        return settings

    def origin(self, service: Service) -> str:
        """Return the address before a service's paths; none where an address brings its own."""
        return self.base_url or ORIGINS.get(service, "")

    def key(self, service: Service) -> Secret | None:
        """Return the key that a service wants; None where an address alone is the permission.

        Raises:
            ConfigurationError: It was not given.
        """
        argument, variable = _KEYS.get(service, (None, None))
        if argument is None:
            return None
        key: Secret | None = getattr(self, argument)
        if key is None:
            raise ConfigurationError(
                f"the {service.value} service needs a key of its own: "
                f"pass {argument} or set {variable}"
            )
        return key


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stays on this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool:
    """Tell whether a host name or address means nothing outside this machine or network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return is_loopback(host) or host.lower().endswith((".local", ".internal", ".localhost"))


def _checked_base_url(base_url: str | None) -> str | None:
    if not base_url:
        return None
    shown = re.sub(r"//[^/@]*@", "//…@", base_url)
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url {shown!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"base_url must be an http(s) address, not {shown!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"base_url {shown!r} must have no user, query or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"base_url {shown!r} would send the key in the clear: use https (http is for loopback)"
        )
    return base_url.rstrip("/")
