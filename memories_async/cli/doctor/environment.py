"""The free checks that need no key: versions, keys, names, proxies, TLS and the clock."""

from __future__ import annotations

import http.client
import importlib.metadata
import platform
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from memories_async._version import __version__
from memories_async.cli.credentials import VARIABLES, Account
from memories_async.cli.doctor.findings import Finding, Health
from memories_async.cli.profiles import KeyName
from memories_async.config import ORIGINS
from memories_async.operations import Service

PACKAGES = ("aiohttp", "anyio", "attrs", "cattrs", "cyclopts", "orjson", "tenacity")
OPTIONAL = ("keyring", "redis", "pyarrow", "numpy", "av", "pillow", "tomlkit")
PATIENCE = 10.0
"""Seconds for each step of the way to a host."""
CLOCK_TOLERANCE = 60.0
"""Seconds by which this machine's clock may differ: signed addresses live for minutes."""

SERVICES: Mapping[KeyName, Sequence[Service]] = {
    "api_key": (Service.VISUAL_SEARCH, Service.VISUAL_INTELLIGENCE),
    "caption_key": (Service.CAPTION,),
}


def versions() -> Iterator[Finding]:
    """Say what is installed."""
    yield Finding("memories-async", Health.OK, f"{__version__} in {sys.prefix}")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("python", Health.OK, f"{python}, {ssl.OPENSSL_VERSION}, {system}")
    required = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    yield Finding("packages", Health.OK, ", ".join(required))
    optional = [f"{name} {_version(name) or '-'}" for name in OPTIONAL]
    yield Finding("optional packages", Health.OK, ", ".join(optional))


def keys(account: Account) -> Iterator[Finding]:
    """Say which keys there are and for which hosts, and nothing of the keys themselves."""
    for name, services in SERVICES.items():
        where = ", ".join(sorted({account.base_url or ORIGINS[service] for service in services}))
        if name in account.keys:
            message = f"present, from {account.origin}; it goes to {where} only"
            yield Finding(name, Health.OK, message)
        else:
            advice = f"set {VARIABLES[name]} or run memories-async config key {name}"
            yield Finding(name, Health.MISSING, f"{where} cannot be called: {advice}")


def origins(account: Account) -> list[str]:
    """Return the addresses that are called."""
    return [account.base_url] if account.base_url else sorted(set(ORIGINS.values()))


def check_connection(
    origin: str, proxy: str | None, headers: Mapping[str, str]
) -> Iterator[Finding]:
    """Try the connection to a host step by step, without a key; blocks.

    Args:
        origin: The host's address.
        proxy: Address of a proxy, without user and password; None where there is none.
        headers: What the proxy wants to be told.
    """
    parts = urlsplit(origin)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    if proxy is None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            yield Finding(f"name {host}", Health.PROBLEM, f"cannot be resolved: {error.strerror}")
            return
        addresses = sorted({str(entry[4][0]) for entry in found})
        yield Finding(f"name {host}", Health.OK, ", ".join(addresses))
    else:
        yield Finding(f"proxy for {host}", Health.OK, proxy)
    connection = _connection(host, port, proxy, headers, secure=secure)
    try:
        connection.request("HEAD", "/", headers={"User-Agent": f"memories-async/{__version__}"})
        answer = connection.getresponse()
        yield Finding(f"connection to {host}", Health.OK, _secured(connection) or "not encrypted")
        yield clock(host, answer.headers.get("Date"))
    except ssl.SSLCertVerificationError as error:
        message = f"its certificate is refused: {error.verify_message}"
        yield Finding(f"connection to {host}", Health.PROBLEM, message)
    except (OSError, http.client.HTTPException) as error:
        refused = "nothing listens there: " if isinstance(error, ConnectionRefusedError) else ""
        message = f"{refused}{type(error).__name__}: {error}"
        yield Finding(f"connection to {host}", Health.PROBLEM, message)
    finally:
        connection.close()


def _connection(
    host: str, port: int, proxy: str | None, headers: Mapping[str, str], *, secure: bool
) -> http.client.HTTPConnection:
    by = urlsplit(proxy) if proxy else None
    there = (by.hostname or "", by.port or 80) if by else (host, port)
    if secure:
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            *there, timeout=PATIENCE, context=context
        )
    else:
        connection = http.client.HTTPConnection(*there, timeout=PATIENCE)
    if by:
        connection.set_tunnel(host, port, dict(headers))
    return connection


def _secured(connection: http.client.HTTPConnection) -> str:
    channel: object = connection.sock
    if not isinstance(channel, ssl.SSLSocket):
        return ""
    certificate = channel.getpeercert() or {}
    return f"{channel.version()}, certificate until {certificate.get('notAfter', 'unknown')}"


def clock(host: str, date: str | None) -> Finding:
    """Compare this machine's clock with what a host says in its Date header."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return Finding("clock", Health.SKIPPED, f"{host} does not say what time it is")
    ahead = (datetime.now(UTC) - theirs).total_seconds()
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding("clock", Health.OK, f"as {host} has it, within {CLOCK_TOLERANCE:.0f} s")
    behind = "ahead of" if ahead > 0 else "behind"
    return Finding("clock", Health.PROBLEM, f"{abs(ahead):.0f} s {behind} that of {host}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
