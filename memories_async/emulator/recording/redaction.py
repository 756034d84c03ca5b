"""What must not get into a recording: keys, signed addresses, and where somebody's files lie."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import quote

from memories_async import _json

KEY = "<key>"
SIGNED = "<signed>"
CALLBACK = "<callback>"

_ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)
_SIGNED = re.compile(
    r"[?&#;](?:x-(?:goog|amz|oss)-[\w-]*|\w*(?:sign|sig|token|secret|credential|key|auth|expire|"
    r"policy|password)\w*)=",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"//[^/@\s]*@")
_FOLDERS = re.compile(
    r"(?<![\w.:/-])(?:~|/(?:home|Users|root|mnt|media|private|tmp|var|opt|data|srv|Volumes|work))/"
    r"(?:[^\"'<>|:*?\r\n\\/]+/)*|[A-Za-z]:\\{1,2}(?:[^\"'<>|:*?\r\n\\/]+\\{1,2})*"
)
_CREDENTIALS = re.compile(r"\b(?:sk-[A-Za-z0-9_-]{8,}|AKIA[0-9A-Z]{12,}|ya29\.[\w.-]+)")


class Redaction:
    """Takes secrets out of texts and JSON values; told of each key as it goes by."""

    def __init__(self) -> None:
        self._spellings: set[str] = set()

    def learn(self, key: str) -> None:
        """Hide a key from now on, however it is escaped or encoded."""
        key = key.strip()
        for secret in {key, key.rpartition(" ")[2]}:
            if not secret:
                continue
            self._spellings |= {
                secret,
                quote(secret, safe=""),
                secret.replace("+", " "),  # as a form reads it
                json.dumps(secret)[1:-1],
                json.dumps(secret)[1:-1].replace("/", "\\/"),
                base64.b64encode(secret.encode()).decode().rstrip("="),
            }

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in sorted(self._spellings, key=len, reverse=True):
            text = text.replace(secret, KEY)
        text = _CREDENTIALS.sub(KEY, text)
        text = _ADDRESS.sub(_address, text)
        return _FOLDERS.sub("", text)

    def value(self, value: object) -> object:
        """Return a JSON value without secrets, in its fields' names neither."""
        match value:
            case str():
                return self.text(value)
            case _ if _json.is_array(value):
                return [self.value(item) for item in value]
            case _ if _json.is_object(value):
                return self._object(value)
            case _:
                return value

    def _object(self, fields: Mapping[str, object]) -> dict[str, object]:
        return {self.text(name): self.value(item) for name, item in fields.items()}

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return a request's fields without secrets and without the address of a callback."""
        found = self._object(fields)
        return found | {
            name: CALLBACK if name == "callback" else SIGNED
            for name in ("callback", "signature")
            if name in found
        }

    def file_name(self, name: str) -> str:
        """Return a file's own name, without the folders that some clients send with it."""
        return self.text(PureWindowsPath(PurePosixPath(name).name).name)

    def headers(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return the headers of an answer that a client goes by."""
        kept = {"content-type", "content-disposition", "retry-after"}
        return {name.lower(): self.text(text) for name, text in headers if name.lower() in kept}


def _address(found: re.Match[str]) -> str:
    address = _LOGIN.sub("//", found[0])
    if signed := _SIGNED.search(address):
        start = re.search(r"[?#;]", address)
        address = f"{address[: start.start() if start else signed.start()]}?{SIGNED}"
    return address
