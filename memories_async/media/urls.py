"""Addresses that the service fetches or calls by itself."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from memories_async.errors import ConfigurationError


def is_url(source: object) -> bool:
    """Tell whether a source is an ``http(s)://`` string."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))


_USER = re.compile(r"//[^/?#]*@")
_UNCLEAR = re.compile(r"//[^/@]*[?#][^/]*@.*", re.DOTALL)
"""What may be a password with a sign that ends a host, or a query with an @."""
_QUERY = re.compile(r"([?#]).+", re.DOTALL)


def shown_url(address: object) -> str:
    """Return an address as a message may hold it: no password, no signature, not endless."""
    shown = _UNCLEAR.sub("//…", _USER.sub("//…@", str(address)))
    return repr(_QUERY.sub(r"\1…", shown)[:100])


def url_problem(address: str, error: ValueError) -> str:
    """Return why an address cannot be read; what Python says may quote its user and password."""
    return "its host or port is none" if "@" in address else str(error)


_PLAIN_URL = re.compile(r"[hH][tT]{2}[pP][sS]?://[a-zA-Z0-9.-]+(?::[0-9]{1,4})?/[!-~]*")
"""What has a host, no port that cannot be, no user and no strange character: most addresses."""
_UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f]")


def check_url(url: str, field: str) -> str:
    """Return an address that the service may fetch or call.

    Raises:
        ConfigurationError: It is no http(s) address, has control characters or a port that
            cannot be, or carries credentials.
    """
    if _PLAIN_URL.fullmatch(url):
        return url  # to take it apart would cost ten times as much
    if _UNSAFE_IN_URL.search(url):
        raise ConfigurationError(f"{field} has spaces or control characters: {shown_url(url)}")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # read, it is checked: the service would refuse it for money
        url.encode()
    except ValueError as error:  # a lone surrogate's too
        raise ConfigurationError(f"{field} is not a URL: {url_problem(url, error)}") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{field} must be an http(s) URL, not {shown_url(url)}")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{field} must not carry a user name or password")
    return url
