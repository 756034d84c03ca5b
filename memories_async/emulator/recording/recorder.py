"""A proxy between an application and the real service, that keeps what the service answers."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
import attrs
from aiohttp import web
from anyio import to_thread
from yarl import URL

from memories_async import _json
from memories_async.emulator.http.auth import is_loopback
from memories_async.emulator.http.envelopes import HttpResponse, gateway
from memories_async.emulator.http.request_bodies import READ_SIZE, Received, receive
from memories_async.emulator.http.routes import SIGNED_PATH, Route
from memories_async.emulator.ledger import shortened
from memories_async.emulator.recording.fingerprints import fingerprint
from memories_async.emulator.recording.recordings import (
    RecordedAnswer,
    RecordedExchange,
    Recordings,
)
from memories_async.emulator.recording.redaction import Redaction
from memories_async.emulator.recording.replayer import ORIGIN
from memories_async.emulator.recording.streams import Pipe, TeedStream
from memories_async.operations import Answer, Operation, Service

if TYPE_CHECKING:
    from memories_async.emulator.spool import Spool

logger = logging.getLogger(__name__)

HOSTS = {
    Service.CAPTION: "https://security.memories.ai",
    Service.VISUAL_SEARCH: "https://api.memories.ai",
    Service.VISUAL_INTELLIGENCE: "https://mavi-backend.memories.ai",
}
"""Where the real services are."""

_FORWARDED = ("Authorization", "Content-Type", "Content-Length", "Accept", "User-Agent")
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=3600)
_LONGEST_ANSWER = 64 << 20
_NOTHING_KEPT = -1
_SUCCESSES = frozenset({0, 200, "0", "200", "0000"})


@attrs.frozen
class TeedRequest:
    """A request whose body goes on while it is read."""

    request: web.Request
    content: TeedStream

    @property
    def match_info(self) -> Mapping[str, str]:
        """The fields in the path."""
        return self.request.match_info

    @property
    def query(self) -> Any:
        """The fields in the query."""
        return self.request.query

    @property
    def headers(self) -> Any:
        """The headers."""
        return self.request.headers

    async def multipart(self) -> aiohttp.MultipartReader:
        """Return a reader of the parts."""
        return aiohttp.MultipartReader(self.request.headers, cast("Any", self.content))


class Recorder:
    """Sends requests on, and keeps the answers without keys and signed addresses.

    Args:
        recordings: Where they are kept.
        upstream: One address of all services; by default their real ones.
    """

    def __init__(self, recordings: Recordings, upstream: str | None = None) -> None:
        self._recordings = recordings
        self._upstream = upstream
        self._redaction = Redaction()
        self._signed: dict[str, str] = {}
        self._seen: set[str] = set()
        self._session: aiohttp.ClientSession | None = None
        self._saving = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def exchange(
        self, request: web.Request, route: Route, spool: Spool
    ) -> tuple[Received | None, HttpResponse]:
        """Send a request on; return what it brought and what was answered.

        Files are hashed on their way and never stored. What was not received whole is not
        recorded, nor is an answer that never came.

        Raises:
            Refusal: The body cannot be read.
            ConnectionError: The client has gone.
        """
        self._redaction.learn(request.headers.get("Authorization", ""))
        pipe = Pipe()
        forwarding = asyncio.create_task(self._forward(request, route.row, pipe))
        forwarding.add_done_callback(lambda _: pipe.drop())
        received: Received | None = None
        try:
            teed = TeedRequest(request, TeedStream(request.content, pipe.put))
            reading = asyncio.create_task(receive(teed, route, spool, keep=_NOTHING_KEPT))
            try:
                await asyncio.wait((reading, forwarding), return_when=asyncio.FIRST_COMPLETED)
                if request.content.is_eof():
                    # All of it went on, and the service may be quicker than what is done here.
                    await asyncio.wait((reading,))
                if reading.done():
                    received = reading.result()
                    await pipe.end()
                elif forwarding.done() and not forwarding.exception():
                    logger.warning("An answer came before the whole request: it is not recorded")
                answer, downloaded = await forwarding
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        except aiohttp.ClientError as error:
            message = self._redaction.text(str(error))
            logger.warning("%s could not be sent on: %r", route.row.call, message)
            return received, gateway(502, request.path)
        finally:
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
        if received is not None:
            try:
                downloaded = await self._record(request, route.row, received, answer, downloaded)
            except OSError as error:  # it is paid for: whoever asked shall have it
                logger.warning("%s is not recorded: %s", route.row.call, error)
        return received, self._returned(request, route.row, answer, downloaded)

    async def _forward(
        self, request: web.Request, row: Operation[Any], pipe: Pipe
    ) -> tuple[RecordedAnswer, Path | None]:
        target, headers = self._target(request, row)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        body = pipe if request.body_exists else None
        async with self._session.request(
            request.method,
            target,
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=_proxy_to(target),
        ) as response:
            found = {name.lower(): text for name, text in response.headers.items()}
            is_file = row.answer is Answer.FILE and "json" not in response.content_type
            if not is_file:
                content = await response.content.read(_LONGEST_ANSWER)
                while piece := await response.content.read(READ_SIZE):
                    content += piece
                    if len(content) > _LONGEST_ANSWER:
                        raise aiohttp.ClientPayloadError("the answer is too long to be recorded")
                return RecordedAnswer(status=response.status, headers=found, body=content), None
            path = self._recordings.new_file(f".{secrets.token_hex(8)}", 0)
            async with await anyio.open_file(path, "wb") as file:
                async for piece in response.content.iter_chunked(READ_SIZE):
                    await file.write(piece)
            return RecordedAnswer(status=response.status, headers=found), path

    def _target(self, request: web.Request, row: Operation[Any]) -> tuple[URL, dict[str, str]]:
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        headers["Accept-Encoding"] = "identity"
        if row.service is Service.STORAGE:
            headers.pop("Authorization", None)
            address = self._signed.get(request.match_info["asset_id"])
            if address is None:
                raise aiohttp.ClientError("this signed address was not given out here")
            return URL(address, encoded=True), headers
        base = self._upstream or HOSTS[row.service]
        return URL(base.rstrip("/") + request.raw_path, encoded=True), headers

    def _returned(
        self,
        request: web.Request,
        row: Operation[Any],
        answer: RecordedAnswer,
        downloaded: Path | None,
    ) -> HttpResponse:
        """Return what the application gets: a signed address leads through here as well."""
        headers = self._redaction.headers(answer.headers.items())
        headers.setdefault("content-type", "application/json")
        names = {name.title(): text for name, text in headers.items()}
        if downloaded is not None:
            return HttpResponse(status=answer.status, headers=names, file=downloaded)
        body, address = self._own_address(row, answer.body, f"{request.scheme}://{request.host}")
        if address:
            asset_id, signed_url = address
            self._signed[asset_id] = signed_url
        return HttpResponse(status=answer.status, headers=names, body=body)

    @staticmethod
    def _own_address(
        row: Operation[Any], body: bytes, origin: str
    ) -> tuple[bytes, tuple[str, str] | None]:
        """Put our own address in place of a signed one; return what it stands for."""
        try:
            document = _json.loads(body)
            data = document["data"]
            asset_id, signed_url = str(data["asset_id"]), str(data["signed_url"])
        except (ValueError, TypeError, KeyError):
            return body, None
        data["signed_url"] = f"{origin}{SIGNED_PATH.format(asset_id=asset_id)}?signature=recorded"
        return _json.dumps(document), (asset_id, signed_url)

    async def _record(
        self,
        request: web.Request,
        row: Operation[Any],
        received: Received,
        answer: RecordedAnswer,
        downloaded: Path | None,
    ) -> Path | None:
        """Keep an answer; return where a download lies now."""
        digest = fingerprint(request.method, request.path, received.fields, received.files)
        asked: dict[str, object] = {
            "method": request.method,
            "path": request.path,
            "fields": self._redaction.fields(shortened(received.fields)),
            "files": [
                {
                    "part": file.part,
                    "name": self._redaction.file_name(file.name),
                    "content_type": file.content_type,
                    "size": file.size,
                    "sha256": file.sha256,
                }
                for file in received.files
            ],
        }
        body, _ = self._own_address(row, self._redacted(answer.body), ORIGIN)
        kept = attrs.evolve(
            answer,
            headers=self._redaction.headers(answer.headers.items()),
            body=body,
        )
        async with self._saving:  # of two answers to one request neither is lost
            before = self._recordings.get(digest) if digest in self._seen else None
            answers = before.answers if before else ()
            self._seen.add(digest)
            exchange = RecordedExchange(
                operation=row.name, fingerprint=digest, request=asked, answers=answers
            )
            if downloaded is not None:
                copy = self._recordings.new_file(exchange.stem, len(answers) + 1)
                await to_thread.run_sync(os.replace, downloaded, copy)
                downloaded = copy
                kept = attrs.evolve(kept, file=copy.name)
            exchange = attrs.evolve(exchange, answers=(*answers, kept))
            await to_thread.run_sync(self._recordings.save, exchange)
        return downloaded

    def _redacted(self, body: bytes) -> bytes:
        """Return a body without secrets; the same bytes where it has none."""
        try:
            value: object = _json.loads(body)
        except ValueError:
            try:
                return self._redaction.text(body.decode()).encode()
            except ValueError:
                return body
        redacted = self._redaction.value(value)
        return body if redacted == value else _json.dumps(redacted)


def _proxy_to(target: URL) -> str | None:
    """Return the environment's proxy for an address; aiohttp's own way would read ``~/.netrc``."""
    host = target.host or ""
    return None if is_loopback(host) or proxy_bypass(host) else getproxies().get(target.scheme)


def succeeded(answer: HttpResponse) -> bool:
    """Return whether the real service says yes, and so bills."""
    if answer.status >= 300:
        return False
    if answer.file is not None:
        return True
    try:
        document = _json.loads(answer.payload())
    except ValueError:
        return answer.status == 204
    if not _json.is_object(document):
        return False
    code = document.get("code", 0)
    return code in _SUCCESSES and document.get("failed") is not True
