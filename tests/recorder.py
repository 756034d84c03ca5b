"""A server that answers what it was told to and keeps every request as it came."""

from __future__ import annotations

import email
import re
import ssl
from collections.abc import Mapping
from email.message import Message
from types import TracebackType
from typing import Self, cast

import attrs
from aiohttp import web


@attrs.frozen
class Answer:
    """What to answer with."""

    body: str | bytes
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=lambda: {"Content-Type": "application/json"})


@attrs.frozen
class Recorded:
    """A request: the body in the very bytes that came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Recorder:
    """Answers one after the other as told, the last one for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Recorded] = []
        self.answers: list[Answer] = []
        self.port = 0
        self._tls = tls
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, *bodies: str | bytes) -> None:
        """Answer with these bodies, in this order."""
        self.answers = [Answer(body) for body in bodies]

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.requests.append(Recorded(request.method, request.raw_path, request.headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        content = answer.body.encode() if isinstance(answer.body, str) else answer.body
        return web.Response(body=content, status=answer.status, headers=answer.headers)


@attrs.frozen
class Part:
    """One part of a multipart body."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None


_DISPOSITION = re.compile(r'form-data; name="([^"]*)"(?:; filename="([^"]*)")?')


def parts_of(content_type: str, body: bytes) -> list[Part]:
    """Take a multipart body apart with the standard library's e-mail parser.

    It shares no code with the package or with aiohttp, so no common mistake can hide.
    """
    message = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    assert message.get_content_type() == "multipart/form-data"
    assert not message.defects, message.defects
    assert message.epilogue in (None, ""), "something follows the last boundary"
    assert not message.preamble, "something precedes the first boundary"
    return [_part(part) for part in cast("list[Message]", message.get_payload())]


def _part(message: Message) -> Part:
    # In the bytes as they came: what the parser makes of UTF-8 names is not in question.
    head = {
        name: value.encode("ascii", "surrogateescape").decode("utf-8")
        for name, value in message.raw_items()
    }
    assert set(head) <= {"Content-Disposition", "Content-Type"}, head
    disposition = _DISPOSITION.fullmatch(head["Content-Disposition"])
    assert disposition is not None, head
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    return Part(disposition[1], content, disposition[2], head.get("Content-Type"))
