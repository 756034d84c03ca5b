"""How an answer, or what a fault puts in its place, leaves the socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from multidict import CIMultiDict

from memories_async.emulator.faults import ConnectionEffect, Cut, Drip, Hang, Raw
from memories_async.emulator.http.envelopes import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_JSON = {"Content-Type": "application/json"}


async def deliver(
    request: web.Request,
    outcome: ConnectionEffect | None,
    sleep: Callable[[float], Awaitable[object]],
    stopped: asyncio.Event,
) -> web.StreamResponse:
    """Send an outcome to its end; return what aiohttp wants to have back.

    Args:
        request: The request to answer.
        outcome: What goes out; None when the client has gone.
        sleep: Waits between dripping bytes.
        stopped: Ends what hangs.
    """
    try:
        match outcome:
            case HttpResponse(file=Path() as file):
                return web.FileResponse(file, status=outcome.status, headers=outcome.headers)
            case HttpResponse():
                return await _send(request, outcome)
            case Raw(data):
                _write(request, data)
            case Cut("nothing"):
                _reset(request)
            case Cut(after, HttpResponse() as answer):
                head, body = _rendered(answer)
                status_line = head[: head.index(b"\r\n") + 2]
                _write(request, status_line if after == "status" else head + body[: len(body) // 2])
            case Drip(seconds, HttpResponse() as answer):
                head, body = _rendered(answer)
                _write(request, head)
                for position in range(len(body)):
                    await sleep(seconds)
                    _write(request, body[position : position + 1])
            case Hang():
                await stopped.wait()
            case _:
                pass
    except ConnectionError:
        pass  # the client has gone, and there is nobody to tell
    return _NoAnswer()


class _NoAnswer(web.StreamResponse):
    """Tells aiohttp that nothing more is to be sent: it closes the connection."""

    async def prepare(self, request: web.BaseRequest) -> None:
        raise ConnectionResetError("nothing is to be sent")


async def _send(request: web.Request, answer: HttpResponse) -> web.StreamResponse:
    headers = _headers(answer)
    response = (
        web.Response(status=answer.status, headers=headers, body=answer.payload())
        if answer.chunks is None
        else web.StreamResponse(status=answer.status, headers=headers)
    )
    await response.prepare(request)
    for chunk in answer.chunks or ():
        await response.write(chunk)
        await asyncio.sleep(0)  # an endless answer must not starve the rest
    await response.write_eof()
    return response


def _headers(answer: HttpResponse) -> CIMultiDict[str]:
    """Return an answer's headers, whose names may be in any case: two of one name are no HTTP."""
    headers = CIMultiDict(_JSON)
    headers.update(answer.headers)
    return headers


def _rendered(answer: HttpResponse) -> tuple[bytes, bytes]:
    body = answer.payload()
    headers = _headers(answer)
    headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode(), body


def _write(request: web.Request, data: bytes) -> None:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    transport.write(data)


def _reset(request: web.Request) -> None:
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None:  # no lingering: the kernel sends RST in place of FIN
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
