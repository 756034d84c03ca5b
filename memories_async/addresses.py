"""The addresses that a client goes by: the service's, a gateway's, a proxy's; checked, no I/O."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import quote, unquote, urlsplit

import attrs

from memories_async.errors import ConfigurationError
from memories_async.media.urls import shown_url, url_problem
from memories_async.operations import OPERATIONS

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_FIRST_SEGMENTS = {row.path.split("/")[1] for row in OPERATIONS if row.path.startswith("/")}


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


def checked_base_url(base_url: str, name: str) -> str:
    """Return the address before the service's own paths, as it goes on the wire.

    Args:
        base_url: What was given.
        name: The argument or variable that it was given in.

    Raises:
        ConfigurationError: It is no address for this API, or would send the key in the clear.
    """
    shown = shown_url(base_url)
    scheme, host, port = _parts(base_url, name)
    parts = urlsplit(base_url)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"{name} is {shown}; it has no user, query or fragment")
    if scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{name} is {shown}, which would send the key in the clear: "
            "use https (http is for loopback)"
        )
    path = parts.path.rstrip("/")
    if "datalake" in path.lower():
        raise ConfigurationError(
            f"{name} is {shown}: the Video Datalake (API 2.0) is another product, with other calls "
            "than these; give the address without a path, or none for the service's own hosts"
        )
    if path.lstrip("/").split("/")[0] in _FIRST_SEGMENTS or (path and _is_the_service(host)):
        raise ConfigurationError(
            f"{name} is {shown}: the paths are the service's own and are added to it; "
            f"leave out {path}"
        )
    return f"{scheme}://{_bracketed(host)}{port}{quote(path, safe='/%:@!$&()*+,;=~-._')}"


def _is_the_service(host: str) -> bool:
    return f".{host.rstrip('.')}".endswith(".memories.ai")


def _parts(address: str, name: str) -> tuple[str, str, str]:
    """Return scheme, host and port (with its colon), as they go on the wire."""
    shown = shown_url(address)
    if not isinstance(address, str):
        raise ConfigurationError(f"{name} is {shown}; an http(s) address is wanted")
    if _UNSAFE.search(address):
        raise ConfigurationError(f"{name} is {shown}; it has spaces or control characters")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        host = host.encode("idna").decode()  # of ASCII it only looks at the labels' lengths
    except ValueError as error:  # UnicodeError is one
        raise ConfigurationError(f"{name} is {shown}: {url_problem(address, error)}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{name} is {shown}; an http(s) address is wanted")
    return parts.scheme, host, "" if port is None else f":{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@attrs.frozen
class Proxy:
    """What requests are sent through.

    Attributes:
        address: Its address, without user and password.
        login: What it is told of the user, as its header wants it; in no pickle and no repr.
    """

    address: str
    login: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, address: str, name: str) -> Proxy:
        """Read a proxy's address.

        Args:
            address: ``http://host:port`` or ``http://user:password@host:port``.
            name: The argument or variable that it was given in.

        Raises:
            ConfigurationError: It is no such address.
        """
        if isinstance(address, str) and "://" not in address:
            address = f"http://{address}"  # as curl and others take it
        scheme, host, port = _parts(address, name)
        parts = urlsplit(address)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigurationError(
                f"{name} is {shown_url(address)}; it has no path, query or such"
            )
        login = None
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            login = f"Basic {base64.b64encode(user.encode()).decode()}"
        return cls(f"{scheme}://{_bracketed(host)}{port}", login)

    def __reduce__(self) -> tuple[object, ...]:
        return Proxy, (self.address,)


def proxy_from_environment(origin: str) -> Proxy | None:
    """Return the proxy that the environment names for an address; none for loopback.

    Raises:
        ConfigurationError: What the environment names is no proxy's address.
    """
    import urllib.request  # late: it loads http.client, ssl and what not

    parts = urlsplit(origin)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    address = urllib.request.getproxies().get(parts.scheme)
    return Proxy.parse(address, f"{parts.scheme}_proxy") if address else None
