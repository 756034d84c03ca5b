"""Recorded answers, given again in their order."""

from __future__ import annotations

import collections

from memories_async.emulator.handlers.request import HandlerRequest
from memories_async.emulator.http.envelopes import HttpResponse
from memories_async.emulator.recording.fingerprints import fingerprint
from memories_async.emulator.recording.recordings import Recordings

ORIGIN = "http://emulator.invalid"
"""Stands in recordings for the address at which the emulator itself can be reached."""


NOT_RECORDED = "not recorded"
"""How the refusal of what was never asked begins."""


class Replayer:
    """Answers from recordings: of several answers to one request the next, and then the last.

    Args:
        recordings: What was recorded.
        otherwise: Whether the engine answers what was not.
    """

    def __init__(self, recordings: Recordings, *, otherwise: bool) -> None:
        self.otherwise = otherwise
        self._recordings = recordings
        self._given: collections.Counter[str] = collections.Counter()

    def reset(self) -> None:
        """Begin again with the first answers."""
        self._given.clear()

    def answer(self, method: str, path: str, request: HandlerRequest) -> HttpResponse | None:
        """Return what was answered to the same request; None if it was never asked."""
        digest = fingerprint(method, path, request.fields, request.files)
        exchange = self._recordings.get(digest)
        if exchange is None:
            return None
        number = min(self._given[digest], len(exchange.answers) - 1)
        self._given[digest] += 1
        answer = exchange.answers[number]
        headers = dict(answer.headers)
        if answer.file:
            file = self._recordings.folder / answer.file
            return HttpResponse(status=answer.status, headers=headers, file=file)
        body = answer.body.replace(ORIGIN.encode(), request.origin.encode())
        return HttpResponse(status=answer.status, headers=headers, body=body)

    def missing(self, method: str, path: str, request: HandlerRequest, call: str) -> str:
        """Say what was not recorded."""
        digest = fingerprint(method, path, request.fields, request.files)[:16]
        files = "".join(f", {file.part} {file.sha256[:12]}" for file in request.files)
        return (
            f"{NOT_RECORDED}: {call} ({method} {path}, fingerprint {digest}{files}); "
            "record it, or let the engine answer what is not recorded"
        )
