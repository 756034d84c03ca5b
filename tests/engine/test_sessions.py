"""Connections and threads that a client may have, and what tells one request from another."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import threading
from collections.abc import Mapping

import attrs
import orjson
import pytest

from memories_async import Caption
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.threads import Threads
from memories_async._engine.request import LONG_BODY, Request
from memories_async._engine.transport.payload import _unacknowledged
from memories_async._engine.transport.sessions import OTHER_FILES, affordable
from memories_async.config import Policy
from memories_async.operations import CAPTION_IMAGE_BASE64


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(resource.RLIM_INFINITY, 100), (1024, 100), (64, 20), (OTHER_FILES + 2, 1), (3, 1)],
)
def test_each_connection_may_open_a_file_too(
    limit: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert affordable(100) == connections


def test_where_there_is_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert affordable(100) == 100


def test_without_a_socket_nothing_is_unacknowledged() -> None:
    assert _unacknowledged(None) == 0


def asked(fields: Mapping[str, object]) -> Request[Caption]:
    body = Recipe("application/json", (orjson.dumps(dict(fields)),))
    url = "https://a.example/v1/x"
    return Request(
        CAPTION_IMAGE_BASE64,
        url,
        None,
        fields,
        policy=Policy(),
        body=body,
    )


def test_a_fingerprint_tells_long_bodies_apart_by_both_ends_and_their_length() -> None:
    middle = "m" * 3 * LONG_BODY
    digests = {
        asked({"prompt": prompt, "image": picture, "last": last}).digest()
        for prompt, picture, last in (
            ("a", middle, "z"),
            ("b", middle, "z"),
            ("a", middle + "m", "z"),
            ("a", middle, "y"),
        )
    }
    assert len(digests) == 4
    assert asked({"image": middle}).digest() == asked({"image": middle}).digest()
    elsewhere = attrs.evolve(asked({"image": middle}), url="https://b.example/v1/x")
    assert elsewhere.digest() == asked({"image": middle}).digest(), "one request at two addresses"


def test_a_thread_outlives_the_loop_that_waited_for_it() -> None:
    """What it brings then is nobody's, and the next loop gets its own."""
    threads = Threads(1, "test")
    entered, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        let_go.wait(20)

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(threads.run(hang))
    while not entered.is_set():
        loop.run_until_complete(asyncio.sleep(0.001))
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()
    let_go.set()
    assert asyncio.run(threads.run(lambda: 7)) == 7
    assert not threads._results
    threads.close()
