"""The address made for one task: a random token, and a signature that only we can make."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import re
import secrets

TOKEN_BYTES = 16
"""128 random bits: nobody guesses an address."""


class CallbackKind(enum.Enum):
    """What a callback tells."""

    CAPTION = "caption"
    VIDEO = "video"


_SIGNED_TOKEN = re.compile(
    rf"({'|'.join(kind.value for kind in CallbackKind)})-[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}"
)


def new_token(kind: CallbackKind) -> str:
    """Return a token that nobody has seen, e.g. ``caption-M0wLl9xNTQ2bVg4S1Z0d2c``."""
    return f"{kind.value}-{secrets.token_urlsafe(TOKEN_BYTES)}"


def token_for(kind: CallbackKind, key: str, secret: bytes) -> str:
    """Return the one token that a key stands for; nobody without the secret guesses it either."""
    digest = hmac.new(secret, f"key:{key}".encode("utf-8", "replace"), hashlib.sha256).digest()
    return f"{kind.value}-{base64.urlsafe_b64encode(digest[:TOKEN_BYTES]).rstrip(b'=').decode()}"


def sign(token: str, secret: bytes) -> str:
    """Return the last segment of an address: the token and its HMAC-SHA256."""
    digest = hmac.new(secret, token.encode("utf-8", "replace"), hashlib.sha256).digest()
    return f"{token}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def looks_signed(segment: str) -> bool:
    """Tell whether a segment has the form of a signed token, whoever made it."""
    return _SIGNED_TOKEN.fullmatch(segment) is not None


def verify(segment: str, secret: bytes) -> tuple[CallbackKind, str] | None:
    """Return what a signed segment is for and its token, or None if the signature is not ours."""
    token = segment.rpartition(".")[0]
    given, ours = segment.encode("utf-8", "replace"), sign(token, secret).encode("utf-8", "replace")
    if not hmac.compare_digest(given, ours):
        return None
    return CallbackKind(token.partition("-")[0]), token


def last_segment(path: str) -> str:
    """Return what follows the last slash: all of an address that matters, wherever it leads."""
    return path.rpartition("/")[2]
