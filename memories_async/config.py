"""Settings, services and keys, from arguments and the environment: the one place they come from."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import attrs

from memories_async.addresses import Proxy, checked_base_url, proxy_from_environment
from memories_async.checks import checked
from memories_async.checks.hooks import BeforeSending, in_turn
from memories_async.checks.kinds import (
    ASYNC_HOOK,
    COUNT,
    SECONDS,
    Kind,
    Problem,
    hook_problem,
    instance_of,
    is_sequence,
    shown,
)
from memories_async.checks.parameters import means
from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket, Service
from memories_async.secret import Secret, checked_secret, secret_from_environment

if TYPE_CHECKING:
    from memories_async.observe.events import Observer

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


def _given_key(value: str | None, variable: str) -> Secret | None:
    """Return the key that an argument holds, else the one of the environment."""
    return checked_secret(value, variable) or secret_from_environment(variable)


@checked({"calls": COUNT, "burst": COUNT, "seconds": SECONDS})
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


def _observers_problem(name: str, observers: Sequence[object]) -> Problem:
    for index, observer in enumerate(observers):
        observe: object = getattr(observer, "observe", None)
        if isinstance(observer, type) or not callable(observe):
            return f"{name}[{index}] is {shown(observer)}, which has no observe()"
        if (problem := hook_problem(f"{name}[{index}].observe", observe)) is not None:
            return problem
    return None


OBSERVERS = Kind("a sequence of observers", is_sequence, _observers_problem)


@checked(
    {
        "deadline": SECONDS,
        "attempts": COUNT,
        "retry_time": SECONDS,
        "connect_timeout": SECONDS,
        "stall_timeout": SECONDS,
        "answer_timeout": SECONDS,
        "before_sending": attrs.evolve(ASYNC_HOOK, wanted="a function to await"),
        "headers": instance_of(Mapping, wanted="a mapping of names to texts"),
        "fields": instance_of(Mapping, wanted="a mapping of wire names to values"),
        "observers": OBSERVERS,
    }
)
@attrs.frozen(kw_only=True)
class CallOptions:
    """How one call waits and retries; what is left None is as the client was told.

    Args:
        deadline: Seconds from the call's start within which it must have finished. By default
            there is none: a slow upload never dies of old age.
        attempts: How often the request may be sent at most, the first time included (default 5).
        retry_time: Seconds within which a further attempt may start (default 120).
        connect_timeout: Seconds to establish a connection: looking the name up, asking a proxy and
            agreeing on TLS included (default 10).
        stall_timeout: Seconds without the peer accepting a single byte (default 60).
        answer_timeout: Seconds from the body's last byte to the answer's last (default 300).
        replay: ``"safe"`` (default) never risks paying twice; ``"accept_double_billing"`` sends a
            billed call again also where its first outcome is unknown.
        before_sending: Awaited before each attempt, with its connection at hand and before its
            first byte leaves: the place to write down what is about to be sent. Where it took long,
            the call's turn is taken anew; it is awaited again if that takes more than 50 ms, or
            if the connection died.
            What it raises ends the call with nothing further sent. The client's comes first, then
            the call's or the job run's.
        headers: HTTP headers to send besides, for what the service learnt after this version. None
            that carry the key, the target or the body: no ``Authorization``, ``Host``,
            ``Content-*`` or such.
        fields: Fields of the request by their wire names, for the same; none that the call names
            itself. Both are part of the request's digest, and neither goes to a signed address.
        observers: Who is told what the call does (``memories_async.observe``), besides those of the
            client.

    Raises:
        ConfigurationError: A value is of another type, not positive, or not allowed.
    """

    deadline: float | None = None
    attempts: int | None = None
    retry_time: float | None = None
    connect_timeout: float | None = None
    stall_timeout: float | None = None
    answer_timeout: float | None = None
    replay: Replaying | None = None
    before_sending: BeforeSending | None = None
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    fields: Mapping[str, object] | None = attrs.field(default=None, repr=False)
    observers: Sequence[Observer] | None = None

    def __attrs_post_init__(self) -> None:
        if self.headers is not None:
            object.__setattr__(self, "headers", _checked_headers(self.headers))
        if self.fields is not None:
            object.__setattr__(self, "fields", _checked_fields(self.fields))
        if self.observers is not None:
            object.__setattr__(self, "observers", tuple(self.observers))


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What carries the key, the target or the body, or belongs to one hop of the way.
_OUR_HEADERS = re.compile(
    r"authorization|host|content-.*|transfer-encoding|connection|keep-alive|proxy-.*|te|trailer"
    r"|upgrade|expect|range|if-range|accept-encoding|cookie",
    re.IGNORECASE,
)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise ConfigurationError(f"CallOptions: headers has {shown(name)}, no header's name")
        if _OUR_HEADERS.fullmatch(name):
            raise ConfigurationError(
                f"CallOptions: headers has {name!r}, which is the client's own to set"
            )
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            # Its value is not shown: it may well be a token.
            raise ConfigurationError(
                f"CallOptions: headers[{name!r}] is not a text of printable ASCII, as is wanted"
            )
    return dict(headers)


def _checked_fields(fields: Mapping[str, object]) -> dict[str, object]:
    for name, value in fields.items():
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise ConfigurationError(f"CallOptions: fields has {shown(name)}, no field's name")
        if not _is_plain(value):
            raise ConfigurationError(
                f"CallOptions: fields[{name!r}] is {shown(value)}; a text, a number, a flag, or a "
                "list or mapping of such is wanted"
            )
    return copy.deepcopy(dict(fields))  # what was checked is what is sent


def _is_plain(value: object, depth: int = 20) -> bool:
    """Tell whether JSON has a value: what is sent is what was meant."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list) and depth:
        return all(_is_plain(item, depth - 1) for item in cast("list[object]", value))
    if isinstance(value, dict) and depth:
        items = cast("dict[object, object]", value).items()
        return all(isinstance(name, str) and _is_plain(item, depth - 1) for name, item in items)
    return False


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
    before_sending: BeforeSending | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    fields: Mapping[str, object] = attrs.field(factory=dict[str, object], repr=False)
    observers: tuple[Observer, ...] = ()

    def with_options(self, options: CallOptions | None) -> Policy:
        """Return this policy as changed by the options that are given.

        Headers, fields and observers add up, and so does what is awaited before sending: what is to
        keep each of a client's calls from being sent holds for those that bring their own.

        Raises:
            ConfigurationError: The options are none.
        """
        if options is None:
            return self
        given = attrs.asdict(options, recurse=False, filter=lambda _, value: value is not None)
        for name in ("headers", "fields"):
            if name in given:
                given[name] = {**getattr(self, name), **given[name]}
        if "observers" in given:
            given["observers"] = (*self.observers, *given["observers"])
        if "before_sending" in given:
            given["before_sending"] = in_turn(self.before_sending, given["before_sending"])
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
    proxy: Proxy | None

    @classmethod
    def gather(
        cls,
        *,
        api_key: str | None,
        caption_key: str | None,
        base_url: str | None,
        options: CallOptions | None,
        rates: Mapping[Bucket, Rate] | Mapping[str, Rate] | None,
        max_connections: int,
        proxy: str | None,
    ) -> Settings:
        """Fill in from the environment what was not given, and check it all.

        Raises:
            ConfigurationError: No key at all, a malformed key or address, or a bad option.
        """
        settings = cls(
            api_key=_given_key(api_key, API_KEY_VARIABLE),
            caption_key=_given_key(caption_key, CAPTION_KEY_VARIABLE),
            base_url=_base_url(base_url),
            policy=Policy().with_options(options),
            rates={} if rates is None else by_bucket(rates),
            max_connections=max_connections,
            proxy=None if proxy is None else Proxy.parse(proxy, "proxy"),
        )
        if settings.api_key is None and settings.caption_key is None:
            raise ConfigurationError(f"no key: pass api_key or set {API_KEY_VARIABLE}")
        if rates is None and settings.base_url is None:
            settings = attrs.evolve(settings, rates=DOCUMENTED_RATES)
        return settings

    def origin(self, service: Service) -> str:
        """Return the address before a service's paths; none where an address brings its own."""
        return self.base_url or ORIGINS.get(service, "")

    def proxy_for(self, origin: str) -> Proxy | None:
        """Return what requests to an address go through: as told, else as the environment says.

        Raises:
            ConfigurationError: What the environment says is no proxy's address.
        """
        return self.proxy or proxy_from_environment(origin)

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


def _base_url(given: str | None) -> str | None:
    name, address = ("base_url", given) if given else (BASE_URL_VARIABLE, None)
    address = address or os.environ.get(BASE_URL_VARIABLE)
    return checked_base_url(address, name) if address else None


def _bucket_of(name: object) -> Bucket | None:
    """Return a bucket, which may be named by a text such as ``"embedding"``."""
    if isinstance(name, Bucket) or not isinstance(name, str):
        return name if isinstance(name, Bucket) else None
    return _BUCKETS.get(name.lower().replace("_", " ").replace("-", " "))


_BUCKETS: Mapping[str, Bucket] = {bucket.value: bucket for bucket in Bucket}


def by_bucket(rates: Mapping[Bucket, Rate] | Mapping[str, Rate]) -> dict[Bucket, Rate]:
    """Return rates by their buckets.

    Args:
        rates: Checked rates, whose buckets may be named by a text.
    """
    return {cast("Bucket", _bucket_of(name)): rate for name, rate in rates.items()}


def _rates_problem(name: str, rates: Mapping[object, object]) -> Problem:
    for bucket, rate in rates.items():
        if _bucket_of(bucket) is None:
            return f"{name} has {shown(bucket)}, no bucket: there are {', '.join(_BUCKETS)}"
        if not isinstance(rate, Rate):
            return f"{name}[{bucket!r}] is {shown(rate)}; a Rate is wanted"
    return None


RATES = Kind(
    "a mapping of buckets to Rate", lambda value: isinstance(value, Mapping), _rates_problem
)
means(Mapping[Bucket, Rate], RATES)
means(Mapping[Bucket, Rate] | Mapping[str, Rate], RATES)
