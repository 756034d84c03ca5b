"""TLS over the network in memory: asyncio's own, on both sides of a connection."""

from __future__ import annotations

import asyncio
import functools
import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from tests.simulation.network import End


class _Protocol(sslproto.SSLProtocol):
    """Shows the network what is written, before it is encrypted."""

    end: End

    def _write_appdata(self, list_of_data: list[Any]) -> None:
        self.end._network.note(self.end, list_of_data[0])
        super()._write_appdata(list_of_data)  # type: ignore[misc]  # asyncio's own, unnamed


class Encryption:
    """A certificate for the service, and those who trust it.

    Attributes:
        trusted: What a client goes by.
    """

    def __init__(self) -> None:
        # Signatures of one length: with those of elliptic curves, no two handshakes are alike.
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self.trusted = ssl.create_default_context()
        authority.configure_trust(self.trusted)
        self._own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._own.num_tickets = 0  # their lengths are not the same twice
        jobs = [f"127.0.1.{number}" for number in range(1, 9)]
        names = ("localhost", *jobs)
        authority.issue_cert(*names, key_type=trustme.KeyType.RSA).configure_cert(self._own)

    async def agree(
        self,
        client: End,
        server: End,
        protocol: asyncio.BaseProtocol,
        theirs: asyncio.BaseProtocol,
        *,
        ssl: ssl.SSLContext,
        server_hostname: str,
        **_: Any,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Put TLS between two ends and their protocols.

        Raises:
            OSError: The other side went away meanwhile.
        """
        loop = client._loop
        agreed = loop.create_future()
        client.agreeing = True
        for end, above, context, waiter, name in (
            (server, theirs, self._own, loop.create_future(), None),
            (client, protocol, ssl, agreed, server_hostname),
        ):
            between = _Protocol(loop, above, context, waiter, name is None, name)
            between.end, end.protocol = end, between
            end.upper = between._get_app_transport()  # type: ignore[attr-defined]  # asyncio's own
            waiter.add_done_callback(_looked_at)
        server.protocol.connection_made(server)
        client.protocol.connection_made(client)
        try:
            await agreed
        except BaseException:
            client.close()
            raise
        finally:
            client.agreeing = False
        return client.upper, protocol


def _looked_at(waiter: asyncio.Future[None]) -> None:
    if not waiter.cancelled():
        waiter.exception()


@functools.cache
def encryption() -> Encryption:
    """Return this process's certificates."""
    return Encryption()
