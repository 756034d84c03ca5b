"""An address holds 128 random bits and a signature; whatever is changed, it is ours no longer."""

from __future__ import annotations

import base64
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memories_async.callbacks.tokens import CallbackKind, last_segment, new_token, sign, verify

SECRET = b"0123456789abcdef"


@pytest.mark.parametrize("kind", CallbackKind)
def test_a_token_has_128_random_bits(kind: CallbackKind) -> None:
    tokens = {new_token(kind) for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        name, _, random = token.partition("-")
        assert CallbackKind(name) is kind
        assert len(base64.urlsafe_b64decode(f"{random}==")) == 16


@pytest.mark.parametrize("kind", CallbackKind)
def test_a_signature_is_read_by_who_has_the_secret(kind: CallbackKind) -> None:
    token = new_token(kind)
    segment = sign(token, SECRET)
    assert re.fullmatch(r"[a-z]+-[\w-]{22}\.[\w-]{43}", segment)
    assert verify(segment, SECRET) == (kind, token)
    assert verify(segment, b"another secret") is None


def test_every_character_counts() -> None:
    segment = sign(new_token(CallbackKind.CAPTION), SECRET)
    for position, character in enumerate(segment):
        other = "A" if character != "A" else "B"
        assert verify(segment[:position] + other + segment[position + 1 :], SECRET) is None
        assert verify(segment[:position] + segment[position + 1 :], SECRET) is None
    assert verify(segment.replace("caption", "video"), SECRET) is None


@given(st.text())
def test_nothing_that_anybody_sends_is_ours_or_an_error(text: str) -> None:
    assert verify(text, SECRET) is None


def test_the_comparison_takes_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ours = sign(new_token(CallbackKind.CAPTION), SECRET)
    for segment in (ours, f"{ours}x", "", "x", "a.b", "\udcff.é"):
        verify(segment, SECRET)
    assert len(compared) == 6


@pytest.mark.parametrize(
    "path", ["abc.def", "/abc.def", "/memories/abc.def", "https://x.example/a/b/abc.def"]
)
def test_only_the_last_segment_counts(path: str) -> None:
    assert last_segment(path) == "abc.def"
