"""What a failed exchange came to: aiohttp's exceptions read once, so that none goes further."""

from __future__ import annotations

import enum
import re
import ssl

import aiohttp
import attrs

from memories_async.secret import Secret


class Fault(enum.Enum):
    """Why no answer came."""

    DNS = "the host name did not resolve"
    CERTIFICATE = "the server's certificate or TLS version was refused"
    CONNECT = "no connection could be made"
    CONNECT_TIMEOUT = "the connection was not established in time"
    STALLED = "the peer stopped moving bytes"
    LOST = "the connection was lost"
    NOT_HTTP = "what came back is not HTTP"
    TIMED_OUT = "time ran out"
    NOT_CONTINUED = "the file does not go on where it was cut off"
    PACKED = "the file came packed, which was not asked for, and cannot be had whole"
    TOO_LARGE = "the answer is too large"


@attrs.frozen
class Failure:
    """No usable answer.

    Attributes:
        fault: What went wrong.
        detail: What the library below said, in one line.
        status: The HTTP status, if the answer had begun.
    """

    fault: Fault
    detail: str = ""
    status: int | None = None


_FAULTS: tuple[tuple[type[BaseException], Fault], ...] = (
    (aiohttp.ClientConnectorDNSError, Fault.DNS),
    (aiohttp.ClientConnectorCertificateError, Fault.CERTIFICATE),
    (aiohttp.ClientConnectorSSLError, Fault.CERTIFICATE),
    (aiohttp.ConnectionTimeoutError, Fault.CONNECT_TIMEOUT),
    (aiohttp.ClientProxyConnectionError, Fault.CONNECT),
    (aiohttp.ClientHttpProxyError, Fault.CONNECT),
    (aiohttp.ClientConnectorError, Fault.CONNECT),
    (aiohttp.ClientResponseError, Fault.NOT_HTTP),
    (TimeoutError, Fault.STALLED),
)

_USER_IN_ADDRESS = re.compile(r"//[^/@\s]*@")
LONGEST_DETAIL = 200


def read(error: Exception, *secrets: Secret | None) -> Failure:
    """Say what an exception means, without the key or a proxy's password in its text."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    # aiohttp quotes what it could not parse, over several lines and at any length.
    quoted = _USER_IN_ADDRESS.sub("//…@", str(cause))
    for secret in secrets:
        quoted = hidden(secret, quoted)
    detail = " ".join(f"{type(cause).__name__}: {quoted}".split())[:LONGEST_DETAIL]
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        # The handshake was cut, which says nothing against the certificate.
        connecting = isinstance(error, aiohttp.ClientConnectorError)
        return Failure(Fault.CONNECT if connecting else Fault.LOST, detail)
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return Failure(fault, detail)
    return Failure(Fault.LOST, detail)


def hidden(key: Secret | None, text: str) -> str:
    """Return a text that came from outside without the key, should it echo it."""
    return text if key is None else key.hide(text.encode("utf-8", "replace")).decode()


def readable(value: str) -> str:
    """Return a header's value as text that can be printed and sent on, whatever its bytes were."""
    if value.isascii():
        return value
    text = value.encode("utf-8", "surrogateescape").decode("latin-1")
    return "".join(character if character.isprintable() else " " for character in text)
