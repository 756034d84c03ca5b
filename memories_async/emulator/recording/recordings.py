"""A folder of recorded answers: a readable file for each request, to review, diff and commit."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from memories_async import _json

FORMAT = 1

_COMPACT: Mapping[str, Callable[[object], bytes]] = {
    "compact": _json.dumps,
    "spaced": lambda value: json.dumps(value, ensure_ascii=False).encode(),
    "escaped": lambda value: json.dumps(value, separators=(",", ":")).encode(),
    "spaced and escaped": lambda value: json.dumps(value).encode(),
}
"""How JSON may have been written: what is kept readable must come out byte by byte the same."""


@attrs.frozen(kw_only=True)
class RecordedAnswer:
    """One answer.

    Attributes:
        status: The HTTP status.
        headers: Those that a client goes by.
        body: The bytes, where they are not in a file.
        file: The file beside the recording that has them.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    file: str = ""


@attrs.frozen(kw_only=True)
class RecordedExchange:
    """A request, and every answer that it got, in their order.

    Attributes:
        operation: The row of the table.
        fingerprint: What tells it from other requests.
        request: What was asked, redacted.
        answers: What was answered, redacted.
    """

    operation: str
    fingerprint: str
    request: Mapping[str, object]
    answers: tuple[RecordedAnswer, ...]

    @property
    def stem(self) -> str:
        """The recording's file name without its ending."""
        return f"{self.operation}-{self.fingerprint[:16]}"


class Recordings:
    """The recordings in a folder. All calls block.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._exchanges: dict[str, RecordedExchange] = {}

    def load(self) -> None:
        """Read all recordings.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: A file in it is no recording of this version.
        """
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}: no folder of recordings")
        for path in sorted(self.folder.glob("*.json")):
            try:
                exchange = _parsed(json.loads(path.read_bytes()))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is no recording: {error}") from error
            self._exchanges[exchange.fingerprint] = exchange

    def prepare(self) -> None:
        """Make the folder, and write to it: an answer that is paid for shall find its place.

        Raises:
            OSError: It cannot be made, or not be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        trial = self.folder / f".{secrets.token_hex(8)}"
        try:
            trial.write_bytes(b"\n")
        finally:
            trial.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._exchanges)

    def get(self, fingerprint: str) -> RecordedExchange | None:
        """Return what was recorded of a request, or None."""
        return self._exchanges.get(fingerprint)

    def save(self, exchange: RecordedExchange) -> None:
        """Write an exchange in place of what was recorded of the same request."""
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {
            "format": FORMAT,
            "operation": exchange.operation,
            "fingerprint": exchange.fingerprint,
            "request": exchange.request,
            "answers": [_readable(answer) for answer in exchange.answers],
        }
        content = json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
        path = self.folder / f"{exchange.stem}.json"
        new = self.folder / f".{exchange.stem}.{secrets.token_hex(4)}"
        new.write_bytes(content)
        os.replace(new, path)
        self._exchanges[exchange.fingerprint] = exchange

    def new_file(self, stem: str, number: int) -> Path:
        """Return where the bytes of a download go."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{stem}.{number}.bin"


def _readable(answer: RecordedAnswer) -> dict[str, object]:
    """Return an answer for a reader, that gives back the same bytes."""
    found: dict[str, object] = {"status": answer.status, "headers": dict(answer.headers)}
    if answer.file:
        return {**found, "file": answer.file}
    try:
        value: object = json.loads(answer.body)
        text = answer.body.decode()
    except ValueError:
        try:
            return {**found, "text": answer.body.decode()}
        except ValueError:
            return {**found, "base64": base64.b64encode(answer.body).decode()}
    for name, dumps in _COMPACT.items():
        try:
            same = dumps(value) == answer.body
        except (TypeError, ValueError):  # a number that this way of writing does not know
            continue
        if same:
            written = {} if name == "compact" else {"written": name}
            return {**found, **written, "json": value}
    return {**found, "text": text}


def _parsed(document: Mapping[str, Any]) -> RecordedExchange:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, not {FORMAT}")
    return RecordedExchange(
        operation=str(document["operation"]),
        fingerprint=str(document["fingerprint"]),
        request=document["request"],
        answers=tuple(_answer(one) for one in document["answers"]),
    )


def _answer(document: Mapping[str, Any]) -> RecordedAnswer:
    body, file = b"", ""
    match document:
        case {"file": str(file)}:
            if not re.fullmatch(r"[\w.-]+", file) or file.startswith("."):
                raise ValueError(f"{file!r} is no file of this folder")
        case {"text": str(text)}:
            body = text.encode()
        case {"base64": str(encoded)}:
            body = base64.b64decode(encoded)
        case _:
            body = _COMPACT[document.get("written", "compact")](document["json"])
    return RecordedAnswer(
        status=int(document["status"]),
        headers=document["headers"],
        body=body,
        file=file,
    )
