"""Addresses that the service may be given, and file names that it may be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from memories_async import (
    ConfigurationError,
    Memories,
)
from memories_async.fields import callback_address
from memories_async.media.names import safe_name
from memories_async.media.urls import check_url, is_url

# URLs.


def test_is_url() -> None:
    for url in ("http://a", "https://a", "HTTPS://a", "Http://"):
        assert is_url(url)
    for other in ("ftp://a", "http:/a", "a.png", b"http://a", Path("http://a"), None, "", "httpx"):
        assert not is_url(other)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "http://example.com",
        "HTTPS://EXAMPLE.COM/?a=b&c=d#e",
        "http://127.0.0.1:8000/callback",
        "http://[::1]:8000/",
        "https://пример.рф/фильм.mp4",
        "https://example.com/a%20b@c",
    ],
)
def test_good_urls_pass_unchanged(url: str) -> None:
    assert check_url(url, "url") == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must be an http"),
        ("example.com/a.png", "must be an http"),
        ("ftp://example.com/", "must be an http"),
        ("file:///etc/passwd", "must be an http"),
        ("javascript:alert(1)", "must be an http"),
        ("https://", "must be an http"),
        ("https:///path", "must be an http"),
        ("https://user@example.com/", "user name or password"),
        ("https://user:secret@example.com/", "user name or password"),
        ("https://:secret@example.com/", "user name or password"),
        ("https://example.com/a b", "spaces or control characters"),
        ("https://example.com/\r\nX: y", "spaces or control characters"),
        ("https://example.com/\0", "spaces or control characters"),
        (" https://example.com/", "spaces or control characters"),
        ("https://user:secret@example.com/a b?token=secret", "spaces or control characters"),
        ("ftp://user:secret@example.com/?token=secret#secret", "must be an http"),
        ("ftp://user:not@secret@example.com/", "must be an http"),
        ("ftp://example.com?mail=a@b.com&token=secret", "must be an http"),
        ("ftp://user?secret@example.com", "must be an http"),
        ("https://user:secret@exa\u2100mple.com/", "is not a URL"),
        ("https://user:secret/a@example.com/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
    ],
)
def test_bad_urls(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        check_url(url, "callback")
    assert caught.value.message.startswith("callback ")
    assert "secret" not in str(caught.value)


# Names.


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.png", "a.png"),
        ("/x/y/a.png", "a.png"),
        ("..\\..\\a.png", "a.png"),
        ("a\0b\r\nc.png", "a_b__c.png"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("фильм 日本.mp4", "фильм 日本.mp4"),
        ("\udcff.png", "?.png"),
        ("x" * 300 + ".jpeg", "x" * 195 + ".jpeg"),
        ("...", ""),
        ("dir/", ""),
        ("", ""),
        (".png", ".png"),
    ],
)
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    "address",
    ["http://localhost:8000/x", "http://127.0.0.1/x", "http://192.168.1.5/x", "http://a.local"],
)
def test_a_callback_that_the_real_service_cannot_reach_is_warned_of(address: str) -> None:
    client = Memories("key", caption_key="key")
    with pytest.warns(UserWarning, match="where the service cannot call"):
        assert callback_address(address, client._settings) == address
    emulated = Memories("key", base_url="http://127.0.0.1:1")
    assert callback_address(address, emulated._settings) == address


def test_a_callback_that_can_be_reached() -> None:
    client = Memories("key")
    assert callback_address("https://example.com/x", client._settings) == "https://example.com/x"


@pytest.mark.parametrize(
    "url", ["https://example.com:99999/a.png", "https://example.com:a/", "https://a/\udcff.png"]
)
def test_an_address_that_nobody_can_fetch_is_not_sent_to_be_billed(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the url is not a URL"):
        check_url(url, "the url")
