"""The FastAPI example tested as its own author would: with the kit, without a port."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from memories_async.emulator import CallbackFault, Dropped, Emulator, Rewritten

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILM = {"content": b"a film", "headers": {"Content-Type": "video/mp4"}}
ASKED = "/captions?name=film.mp4&prompt=Who+appears&key=one"


@pytest.fixture
def browser(
    memories_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[TestClient]:
    monkeypatch.setenv("CALLBACK_STORE", str(tmp_path / "callbacks.db"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("fastapi_app", "pages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with TestClient(importlib.import_module("fastapi_app").app) as browser:
        idle = threading.Lock()
        closing = False

        def deliver(url: str, body: bytes) -> int:
            with idle:
                return 503 if closing else browser.post(url, content=body).status_code

        memories_emulator.callbacks.deliver_to(deliver)
        yield browser
        # A test client that is closed under the request of another thread never ends; a callback
        # may already be on its way to it, and so whoever comes from now on is sent away.
        with idle:
            closing = True


def shown(browser: TestClient, page: str) -> str:
    """Look at a page as often as it asks for it."""
    while 'http-equiv="refresh"' in (text := browser.get(page).text):
        pass
    return text


def test_a_video_is_submitted(browser: TestClient, memories_emulator: Emulator) -> None:
    page = browser.post(ASKED, **FILM).json()["page"]
    assert page.startswith("/captions/")
    memories_emulator.assert_billed(1, "captions.submit_video")
    [entry] = memories_emulator.ledger
    assert entry.fields["user_prompt"] == "Who appears"
    assert entry.files[0].name == "film.mp4"


def test_its_caption_comes_by_callback(browser: TestClient, memories_emulator: Emulator) -> None:
    memories_emulator.answers.add("captions.submit_video", text="A <b>rabbit</b>.")
    page = browser.post(ASKED, **FILM).json()["page"]
    assert "A &lt;b&gt;rabbit&lt;/b&gt;." in shown(browser, page)


def test_the_service_fails(browser: TestClient, memories_emulator: Emulator) -> None:
    memories_emulator.callbacks.add(CallbackFault(None, Rewritten(lambda b: {**b, "status": -1})))
    page = browser.post(ASKED, **FILM).json()["page"]
    assert "could not describe" in shown(browser, page)


@pytest.mark.memories_fault("captions.submit_video", "no_credits")
def test_the_service_refuses(browser: TestClient, memories_emulator: Emulator) -> None:
    answer = browser.post(ASKED, **FILM)
    assert answer.status_code >= 400
    assert answer.json()["error"]
    memories_emulator.assert_billed(0)


def test_someone_waits(
    browser: TestClient, memories_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories_emulator.callbacks.add(CallbackFault(None, Dropped()))
    page = browser.post(ASKED, **FILM).json()["page"]
    application = sys.modules["fastapi_app"]
    result = application.inbox.result
    monkeypatch.setattr(application.inbox, "result", lambda task, timeout: result(task, timeout=0))
    assert "refresh" in browser.get(page).text


def test_each_test_is_short() -> None:
    """What the kit is for: the tests above have at most 15 lines each."""
    source = Path(__file__).read_text()
    for body in source.split("\n\n\n"):
        if body.lstrip("@").partition("\n")[0].startswith(("def test", "pytest.mark")):
            assert len(body.splitlines()) <= 15
