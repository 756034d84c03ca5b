"""How clients end: closed, collected, with the interpreter; no thread stays, nothing complains."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from anyio.from_thread import start_blocking_portal

from memories_async import ClosedError, NotFound
from memories_async.emulator import Emulator
from memories_async.sync import Memories
from memories_async.sync._loop_thread import EXIT_TIMEOUT
from tests.recorder import Recorder
from tests.sync.conftest import (
    IMAGE_URL,
    KEY,
    LONG,
    PNG,
    Child,
    SilentServer,
    client_for,
    loop_threads,
)

AT_EXIT = 60.0
"""Seconds that an exit may take on a machine that is busy: one that waited for calls to unwind, or
for a thread, would take minutes (children.py) or for ever."""


def test_an_exit_is_promised_within_a_second() -> None:
    assert EXIT_TIMEOUT < 1


@pytest.mark.parametrize("program", ["leave_unclosed", "leave_closed"])
def test_the_interpreter_s_exit(emulator: Emulator, program: str) -> None:
    with Child(program, emulator.url) as child:
        assert child.listen() == "captioned"
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")


def test_the_interpreter_s_exit_within_a_batch(emulator: Emulator) -> None:
    """Nothing complains, but whoever left is told of calls that may have been billed."""
    with Child("leave_in_a_batch", emulator.url) as child:
        assert child.listen() == "captioned"
        assert child.listen() == "leaving"
        status, complaints = child.end(AT_EXIT)
    assert status == 0
    for line in complaints.splitlines():
        assert line.startswith("A batch was ended early")


def test_a_client_and_a_batch_that_are_garbage_together(emulator: Emulator) -> None:
    with Child("be_collected_in_a_cycle_with_a_batch", emulator.url) as child:
        assert [child.listen() for _ in range(3)] == ["captioned", "at once", "leaving"]
        status, complaints = child.end(AT_EXIT)
    assert status == 0
    assert "Event loop is closed" not in complaints
    assert "destroyed" not in complaints


def test_the_interpreter_s_exit_with_a_call_in_a_daemon_thread(silent: SilentServer) -> None:
    silent.read_on.set()
    with Child("leave_with_a_call_in_a_daemon_thread", silent.url) as child:
        assert silent.received.wait(20)
        child.say("leave")
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")
    assert silent.closed.wait(LONG)


def test_a_program_that_ends_by_an_exception(emulator: Emulator) -> None:
    with Child("leave_by_an_exception", emulator.url) as child:
        assert child.listen() == "captioned"
        assert child.end(AT_EXIT) == (3, "")


@pytest.mark.skipif(os.name == "nt", reason="signals are sent by number")
def test_a_program_that_ends_by_ctrl_c(silent: SilentServer) -> None:
    silent.read_on.set()
    with Child("leave_by_ctrl_c", silent.url) as child:
        assert child.listen() == "calling"
        assert silent.received.wait(20)
        child.process.send_signal(signal.SIGINT)
        assert silent.closed.wait(LONG)
        status, complaints = child.end(AT_EXIT)
    assert status == -signal.SIGINT
    lines = complaints.splitlines()
    assert "KeyboardInterrupt" in lines
    assert "may have been billed" in lines[-1]  # the user sees it below the traceback


def test_a_client_that_nobody_holds_any_more(emulator: Emulator) -> None:
    with Child("be_collected", emulator.url) as child:
        assert child.listen() == "captioned"
        assert child.listen() == "ended"
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")


def test_close_ends_the_thread_and_may_be_repeated(client: Memories) -> None:
    client.captions.image(PNG, "what")
    client.close()
    assert loop_threads() == []
    client.close()
    for call in (client.captions.image, client.captions.video):
        with pytest.raises(ClosedError, match="has been closed"):
            call(PNG, "what")
    with client:  # entered again, it is open again
        assert client.captions.image(PNG, "what").text
    with pytest.raises(ClosedError):
        client.library.video("VI0")


def test_a_client_that_never_called(client: Memories) -> None:
    client.close()
    assert loop_threads() == []
    with pytest.raises(ClosedError):
        client.library.video("VI0")


def test_with_closes_also_after_an_error(emulator: Emulator) -> None:
    with pytest.raises(NotFound), client_for(emulator.url) as client:
        client.library.video("VI0")
    assert loop_threads() == []


def test_a_namespace_keeps_its_client_alive(emulator: Emulator) -> None:
    captions = client_for(emulator.url).captions
    assert captions.image(PNG, "what").text
    assert captions.image(PNG, "what").text
    assert len(loop_threads()) == 1
    del captions  # and the last reference ends it, as every test's end checks


def test_closing_ends_the_calls_of_other_threads(silent: SilentServer) -> None:
    silent.read_on.set()
    with ThreadPoolExecutor(1) as callers:
        client = client_for(silent.url)
        call = callers.submit(client.captions.image, IMAGE_URL, "what")
        assert silent.received.wait(20)
        client.close()
        with pytest.raises(ClosedError, match="while the call was under way") as caught:
            call.result(20)
        assert silent.closed.wait(LONG)
    assert any("may have been billed" in note for note in caught.value.__notes__)


def test_calls_and_closing_at_the_same_time(emulator: Emulator) -> None:
    """Whatever the order, every call returns or says that the client was closed."""
    for _ in range(20):
        client = client_for(emulator.url)
        together = threading.Barrier(5)

        def call(client: Memories = client, together: threading.Barrier = together) -> bool:
            together.wait()
            try:
                return bool(client.embeddings.image(PNG).vector)
            except ClosedError:
                return True

        with ThreadPoolExecutor(4) as callers:
            calls = [callers.submit(call) for _ in range(4)]
            together.wait()
            client.close()
            assert all(each.result(20) for each in calls)


@pytest.fixture
def secure() -> Iterator[tuple[str, ssl.SSLContext]]:
    """A server with a certificate, and what trusts it."""
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def start() -> Recorder:
        return await Recorder(serving).__aenter__()

    with start_blocking_portal() as portal:
        recorder = portal.call(start)
        recorder.answer('{"code":"0000","data":{"text":"in secret"}}')
        yield f"https://localhost:{recorder.port}", trusting
        portal.call(recorder.__aexit__, None, None, None)


def test_tls_connections_are_closed_in_full(secure: tuple[str, ssl.SSLContext]) -> None:
    url, trusting = secure
    with Memories(KEY, caption_key=KEY, base_url=url, ssl_context=trusting) as client:
        assert client.captions.image(IMAGE_URL, "what").text == "in secret"
