"""A network in memory: names, listeners, and connections that split, delay, stall and break."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from tests.simulation.encryption import Encryption

REFUSED = ConnectionRefusedError(111, "refused")
WINDOW = 256 * 1024
"""Bytes that a peer which does not read lets a sender have under way."""


@attrs.frozen
class Weather:
    """How likely what is on this network, from 0 to 1 for each connection.

    Attributes:
        latency: Seconds that bytes take at most.
        resets: The connection is reset after a drawn number of bytes, up or down.
        stalls: Bytes stop moving for some seconds or for ever.
        unasked: The server's side says something that nobody asked for while it is idle.
        half_closes: The server closes its side while the connection is idle.
        refusals: A connection is refused.
        black_holes: Nothing ever answers a connection's first packet.
        lost_names: The resolver fails.
        slow_readers: A connection's end takes in only some kilobytes a second.
        broken_handshakes: TLS is never agreed on: the other side resets, or says nothing more.
        outage: From when to when no connection's first packet is answered.
        splits: Bytes arrive in pieces of a drawn size instead of as they were written.
    """

    latency: float = 0.02
    resets: float = 0.0
    stalls: float = 0.0
    unasked: float = 0.0
    half_closes: float = 0.0
    refusals: float = 0.0
    black_holes: float = 0.0
    lost_names: float = 0.0
    slow_readers: float = 0.0
    broken_handshakes: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    splits: float = 0.5


UNASKED_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 82\r\n\r\n"
    b'{"code":"0000","msg":"success","data":{"text":"unasked","embedding":[1.0]}}       '
)
UNASKED_THROTTLE = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 67\r\n"
    b'\r\n{"code":"0429","msg":"Request has exceeded the limit.","data":null}'
)


_feed: Any = asyncio.protocols._feed_data_to_buffered_proto  # type: ignore[attr-defined]  # TLS's


class Network:
    """Everything between two sockets."""

    def __init__(self, loop: Any, chance: random.Random, tell: Callable[[str], None]) -> None:
        self.weather = Weather()
        self.names: dict[str, list[str]] = {}
        self.on_request: Callable[[str, int, str], None] = lambda host, port, line: None
        """Told of each request whose first byte is written: where to, and its first line."""
        self._loop = loop
        self._chance = chance
        self._tell = tell
        self._listeners: dict[int, Callable[[], asyncio.Protocol]] = {}
        self._targets: dict[int, tuple[str, int]] = {}
        self._encrypted: dict[int, Encryption] = {}
        self._cut_off: set[str] = set()
        self._ports = iter(range(20_000, 60_000))
        self._numbers = iter(range(1, 1_000_000))
        self.ends: set[End] = set()
        """Open ends of connections."""

    def happens(self, likelihood: float) -> bool:
        """Draw whether something happens."""
        return self._chance.random() < likelihood

    async def resolve(self, host: Any, port: Any) -> list[Any]:
        """Answer for the resolver."""
        host = host.decode() if isinstance(host, bytes) else host
        if host.replace(".", "").isdigit():
            addresses = [host]
        else:
            await asyncio.sleep(self._chance.random() * self.weather.latency)
            if host not in self.names or self.happens(self.weather.lost_names):
                self._tell(f"resolver: {host} unknown")
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            addresses = self.names[host]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, int(port)))
            for address in addresses
        ]

    async def connect(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Make the first contact with a listener."""
        await asyncio.sleep(self._chance.random() * self.weather.latency)
        begins, ends = self.weather.outage
        outage = begins <= self._loop.now < ends
        if outage or self.happens(self.weather.black_holes):
            self._tell("network: a connection meets a black hole")
            await asyncio.sleep(1e6)
        host, port = address[:2]
        refused = host in self._cut_off or port not in self._listeners
        if refused or self.happens(self.weather.refusals):
            self._tell("network: a connection is refused")
            raise ConnectionRefusedError(111, "refused")
        self._targets[sock.fileno()] = host, port

    async def open(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, **named: Any
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Join a socket that has made contact to its listener, and agree on TLS if asked to."""
        host, port = self._targets.pop(sock.fileno())
        if port not in self._listeners:
            raise ConnectionRefusedError(111, "refused")
        name = f"connection {next(self._numbers)}"
        protocol, theirs = protocol_factory(), self._listeners[port]()
        client = End(self, name, protocol, sock, (host, port))
        server = End(self, f"{name}, server", theirs, None, (host, port))
        client.peer, server.peer = server, client
        self._plan(client, server)
        self.ends |= {client, server}
        if port not in self._encrypted:
            server.protocol.connection_made(server)
            client.protocol.connection_made(client)
            return client, client.protocol
        return await self._encrypted[port].agree(client, server, protocol, theirs, **named)

    def encrypt(self, port: int, encryption: Encryption) -> None:
        """Let a listener be reached by TLS alone."""
        self._encrypted[port] = encryption

    def cut_off(self, host: str) -> None:
        """Lose whoever talks to a host, as if their process had been killed."""
        self._cut_off.add(host)
        for end in sorted(self.ends, key=lambda end: end.name):
            if end.host == host and end.is_client:
                end.abort()

    def note(self, end: End, data: Any) -> None:
        """Look at what a client's end is to send, as it was before it was encrypted."""
        head = bytes(data[:200])
        if end.is_client and head.startswith((b"GET /", b"POST /")):
            line = head.partition(b"\r\n")[0].decode("ascii", "replace")
            self._tell(f"{end.name}: {line}")
            self.on_request(end.host, end.port, line)

    def _plan(self, client: End, server: End) -> None:
        if self.happens(self.weather.resets):
            victim = self._chance.choice([client, server])
            victim.breaks_after = int(self._chance.expovariate(1 / 30_000))
        if self.happens(self.weather.stalls):
            victim = self._chance.choice([client, server])
            victim.stalls_after = int(self._chance.expovariate(1 / 30_000))
            victim.stall = self._chance.choice([3.0, 30.0, 90.0, 1e5])
        if self.happens(self.weather.unasked):
            server.unasked = self._chance.choice([UNASKED_ANSWER, UNASKED_THROTTLE])
        if self.happens(self.weather.half_closes):
            server.half_closes = True
        if self.happens(self.weather.slow_readers):
            slow = self._chance.choice([client, server])
            slow.bytes_a_second = self._chance.choice([2_000, 20_000])
        if self.happens(self.weather.broken_handshakes):
            client.breaks_handshake = self._chance.choice(["reset", "silence"])

    def listen(self, protocol_factory: Any, host: str, port: int = 0) -> Listener:
        """Take connections from now on."""
        port = port or next(self._ports)
        self._listeners[port] = protocol_factory
        return Listener(self, host, port)

    def stop_listening(self, port: int) -> None:
        """Refuse connections from now on."""
        self._listeners.pop(port, None)


class Listener:
    """What ``create_server`` returns."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self._network = network
        self._address = host, port
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def close(self) -> None:
        self._network.stop_listening(self._address[1])

    async def wait_closed(self) -> None:
        pass

    def is_serving(self) -> bool:
        return True


class End(asyncio.Transport):
    """One end of a connection: what is written here arrives at the peer, later and in pieces."""

    def __init__(
        self,
        network: Network,
        name: str,
        protocol: Any,
        sock: socket.socket | None,
        address: tuple[str, int],
    ) -> None:
        super().__init__()
        self.peer: End
        self.protocol = protocol
        self.handler = protocol
        """What the connection is for, above TLS."""
        self.name = name
        self.host, self.port = address
        self.is_client = sock is not None
        self.upper: asyncio.WriteTransport = self
        """What the protocol writes to: another one where TLS lies between."""
        self.agreeing = False
        self.breaks_handshake = ""
        self.bytes_a_second: int | None = None
        self.breaks_after: int | None = None
        self.stalls_after: int | None = None
        self.stall = 0.0
        self.unasked = b""
        self.half_closes = False
        self._network = network
        self._loop = network._loop
        self._socket = sock
        self._outgoing = bytearray()
        self._arrived = bytearray()
        self._moved = 0
        self._reading = True
        self._closing = False
        self._ended = False
        self._end_of_file = False
        self._paused = False
        self._high, self._low = 64 * 1024, 16 * 1024
        self._moving: asyncio.TimerHandle | None = None
        self._idle = True

    # --- what asyncio's transports have -------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {
            "peername": ("127.0.0.1", 1),
            "sockname": ("127.0.0.1", 2),
            "socket": self._socket,
        }
        return known.get(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._deliver)
        self.peer._move_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._outgoing)

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        self._idle = False
        if self.upper is self:
            self._network.note(self, data)
        self._outgoing += data
        if len(self._outgoing) > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()
        self._move_soon()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(bytes(piece) for piece in list_of_data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._reading = False
            self._move_soon()

    def abort(self) -> None:
        if not self._ended:
            self._end(None)
            self.peer._break(_reset())

    def _force_close(self, error: Exception | None) -> None:
        self.abort()  # what asyncio's TLS asks of the transport beneath it

    # --- how bytes travel ---------------------------------------------------------------------

    def _move_soon(self, delay: float | None = None) -> None:
        if self._moving is None and not self._ended:
            if delay is None:
                delay = self._network._chance.random() * self._network.weather.latency
            self._moving = self._loop.call_later(delay, self._move)

    def _move(self) -> None:
        self._moving = None
        if self._ended:
            return
        room = WINDOW - len(self.peer._arrived) if not self.peer._reading else len(self._outgoing)
        size = min(len(self._outgoing), max(room, 0))
        if self._outgoing and not size and self.peer._ended:
            self._break(_reset())  # nobody will ever read it: that is what a host answers
            return
        if self.agreeing or self.peer.agreeing:
            # Its records' lengths are not the same twice, so neither are parts of them.
            self._agree(size)
            return
        if self.peer.bytes_a_second is not None:
            size = min(size, self.peer.bytes_a_second)
        if size and self._network.happens(self._network.weather.splits):
            size = self._network._chance.randint(1, size)
        if self.stalls_after is not None and self._moved + size > self.stalls_after:
            self.stalls_after = None
            self._network._tell(f"{self.name}: nothing moves for {self.stall:g} s")
            self._move_soon(self.stall)
            return
        if self.breaks_after is not None and self._moved + size > self.breaks_after:
            self._network._tell(f"{self.name}: reset")
            self._break(_reset())
            self.peer._break(_reset())
            return
        self._moved += size
        self._hand_over(size)

    def _agree(self, size: int) -> None:
        """Let a step of the handshake pass, unless it is one of those that come to nothing."""
        if self.is_client or not self.peer.breaks_handshake:
            self._hand_over(size)
        elif self.peer.breaks_handshake == "reset" or self._closing:
            self._network._tell(f"{self.name}: reset while TLS is agreed on")
            self._break(_reset())
            self.peer._break(_reset())

    def _hand_over(self, size: int) -> None:
        if size:
            self.peer._arrived += self._outgoing[:size]
            del self._outgoing[:size]
            self._loop.call_soon(self.peer._deliver)
            if self._paused and len(self._outgoing) <= self._low:
                self._paused = False
                self.protocol.resume_writing()
        if self._outgoing:
            if size:
                self._move_soon(None if self.peer.bytes_a_second is None else 1.0)
            return  # a peer that does not read wakes us when it does
        if self._closing:
            self.peer._end_of_file = True
            self._loop.call_soon(self.peer._deliver)
            self._end(None)

    def _deliver(self) -> None:
        """Hand over what has arrived."""
        if self._ended or not (self._reading or self._end_of_file):
            return
        if self._arrived and self._reading:
            data = bytes(self._arrived)
            self._arrived.clear()
            self._idle = True  # an answer has begun: what we write next is a request
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                _feed(self.protocol, data)
            else:
                self.protocol.data_received(data)
            self.peer._move_soon()
            if not (self.agreeing or self.peer.agreeing):
                self._mischief()
        if self._end_of_file and not (self._arrived or self._closing):
            if self.protocol.eof_received():
                return
            self.close()

    def _mischief(self) -> None:
        """A server that has said all it was asked for says more, or closes."""
        server = self.peer
        if server._socket is None and self._socket is not None:
            if server.unasked:
                data, server.unasked = server.unasked, b""
                delay = self._network._chance.random() * 0.5
                self._loop.call_later(delay, server._say_unasked, data)
            if server.half_closes:
                server.half_closes = False
                self._loop.call_later(self._network._chance.random() * 3, server.close)

    def _say_unasked(self, data: bytes) -> None:
        client = self.peer
        answering = self.handler._waiter is None  # aiohttp's own: it waits for the next request
        busy = client._outgoing or self._outgoing or self._arrived or not client._idle or answering
        # Only where the client is idle: what comes while a request is under way is its answer,
        # as far as anybody can know.
        if not (busy or self._closing or client._closing):
            self._network._tell(f"{self.name}: says something unasked")
            self.upper.write(data)
            client._arrived += self._outgoing
            self._outgoing.clear()
            client._deliver()

    def _break(self, error: Exception) -> None:
        if not self._ended:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._ended = self._closing = True
        if self.peer._outgoing and len(self._arrived) >= WINDOW:
            self.peer._break(_reset())
        self._outgoing.clear()
        self._network.ends.discard(self)
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        if self._socket is not None:
            self._socket.close()


def _reset() -> ConnectionResetError:
    return ConnectionResetError(104, "Connection reset by peer")
