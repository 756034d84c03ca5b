"""The emulator's own requests: media fetched and callbacks posted, to loopback unless allowed."""

from __future__ import annotations

import logging
import mimetypes
import re
import socket
from typing import TYPE_CHECKING

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from memories_async import _json
from memories_async.checks import ConfigurationError
from memories_async.checks.kinds import shown
from memories_async.emulator.http.auth import is_loopback
from memories_async.emulator.http.envelopes import Reason, Refusal
from memories_async.emulator.http.request_bodies import READ_SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from memories_async.emulator.spool import Spool, SpooledFile

logger = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
_CALLBACK_TIMEOUT = aiohttp.ClientTimeout(total=30)
_MOST_ANSWERED = 64 << 10
_LONGEST_SHOWN = 300
_HOST = re.compile(r"[^\s/?#@:]+|[0-9A-Fa-f:.]+")


def is_http(url: str) -> bool:
    """Return whether an address can be asked."""
    try:
        target = URL(url)
    except ValueError:
        return False
    return target.scheme in {"http", "https"} and bool(target.host)


class OutboundClient:
    """Requests to addresses that a client of the emulator has named.

    Without this guard, whoever may call the emulator could make it call anything that this
    machine can reach. A name is resolved once, and the connection goes to the checked address.

    Args:
        allowed: Host names and addresses that may be other than loopback.
        option: The constructor argument that allows more, for the message.
    """

    def __init__(self, allowed: Collection[str], option: str) -> None:
        for host in allowed:
            if not _HOST.fullmatch(host):  # it would allow nothing, ever
                raise ConfigurationError(
                    f"{option} names {shown(host)}; a host's name or address alone is wanted"
                )
        self._guard = _Guard(frozenset(host.lower() for host in allowed), option)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, url: str, spool: Spool, *, part: str, limit: int) -> SpooledFile:
        """Spool what is at an address, named after it.

        Raises:
            Refusal: It may not be fetched, cannot be fetched, or is larger than ``limit`` bytes.
        """
        try:
            target = self._checked(url)
            async with self._open().get(target, allow_redirects=False) as response:
                if response.status != 200:
                    raise ValueError(f"HTTP {response.status}")
                content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
                if content_type in {"", "application/octet-stream", "binary/octet-stream"}:
                    content_type = mimetypes.guess_type(target.path)[0] or content_type
                pieces = _capped(response.content.iter_chunked(READ_SIZE), limit)
                return await spool.save(pieces, part=part, name=url, content_type=content_type)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            message = f"Failed to fetch file size from URL: {url} ({error})"
            raise Refusal(Reason.BAD_REQUEST, message) from error

    async def post(self, url: str, body: object) -> int | None:
        """Post JSON, or bytes as they are, once; return the status of the answer.

        A failure is logged and returns None, as nobody waits for it.
        """
        content = body if isinstance(body, bytes) else _json.dumps(body)
        headers = {"Content-Type": "application/json"}
        try:
            target = self._checked(url)
            async with self._open().post(
                target,
                data=content,
                headers=headers,
                allow_redirects=False,
                timeout=_CALLBACK_TIMEOUT,
            ) as response:
                await response.content.read(_MOST_ANSWERED)  # the status is all that counts
                return response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            logger.warning("The callback to %s was not delivered: %s", _shown(url), _shown(error))
            return None

    def check(self, url: str) -> None:
        """Raise ``Refusal`` for an address that would be refused without resolving its name."""
        try:
            self._checked(url)
        except ValueError as error:
            raise Refusal(Reason.BAD_REQUEST, f"{url}: {error}") from error

    def _checked(self, url: str) -> URL:
        target = URL(url)
        if target.scheme not in {"http", "https"} or not target.host:
            raise ValueError("only http and https addresses will do")
        if target.user is not None:
            raise ValueError("an address must not hold a user name")
        if _is_address(target.host):  # names are checked by the resolver
            self._guard.pass_on(target.host, [target.host])
        return target

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._guard), use_dns_cache=False, force_close=True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=_TIMEOUT,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


@attrs.frozen
class _Guard:
    """Knows which addresses may be connected to."""

    allowed: frozenset[str]
    option: str

    def pass_on(self, host: str, addresses: Sequence[str]) -> None:
        """Raise ``ValueError`` unless a host is allowed or all its addresses are loopback."""
        if host.lower() not in self.allowed and not all(map(is_loopback, addresses)):
            advice = f"allow it with Emulator({self.option}={{{host!r}}})"
            raise ValueError(f"{host} is not loopback; {advice}")


class _CheckedResolver(AbstractResolver):
    """Resolves a name once, and hands on only addresses that have been checked."""

    def __init__(self, guard: _Guard) -> None:
        self._guard = guard
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        self._guard.pass_on(host, [result["host"] for result in results])
        return results

    async def close(self) -> None:
        await self._resolver.close()


def _shown(value: object) -> str:
    """Return a text for the log: of one line, and without anything that a terminal obeys."""
    text = str(value)
    return ascii(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")[1:-1]


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


async def _capped(pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ValueError(f"more than {limit} bytes")
        yield piece
