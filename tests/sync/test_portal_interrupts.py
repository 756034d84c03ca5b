"""Ctrl-C and other signals while a call is under way: cancelled, unwound, then raised."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from types import FrameType

import pytest

from memories_async import Media, Outcome, OutcomeUnknown, Progress, batches
from memories_async.emulator import Emulator
from memories_async.sync import Memories, _portal
from memories_async.sync._loop_thread import CANCEL_TIMEOUT, LoopThread
from tests.sync.conftest import (
    IMAGE_URL,
    LONG,
    MP4,
    PNG,
    SilentServer,
    client_for,
    open_files,
    signal_when,
    until,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent by number")


@pytest.fixture(autouse=True)
def python_s_own_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_has_closed_the_connection_before_it_is_raised(silent: SilentServer) -> None:
    with client_for(silent.url) as client:
        silent.read_on.set()
        signal_when(silent.received, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.captions.image(IMAGE_URL, "what")
        assert not [name for name in open_files() if _is_client_s(name, silent)]
        assert silent.closed.wait(LONG)
    # The whole request had left: the one thing that the user must know.
    assert any("may have been billed" in note for note in caught.value.__notes__)


def _is_client_s(name: str, silent: SilentServer) -> bool:
    """Tell whether a descriptor is a connection to the server, by the kernel's own list."""
    port = int(silent.url.rpartition(":")[2])
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        established, remote = fields[3] == "01", int(fields[2].rpartition(":")[2], 16)
        if established and remote == port and name == f"socket:[{fields[9]}]":
            return True
    return False


def test_ctrl_c_in_the_middle_of_an_upload(silent: SilentServer, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.write(MP4)
        file.truncate(200_000_000)
    with client_for(silent.url) as client:
        signal_when(silent.received, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.captions.video(film, "what")
        until(lambda: str(film) not in open_files())
    silent.read_on.set()
    assert silent.closed.wait(LONG)
    assert silent.count < 100_000_000
    assert not hasattr(caught.value, "__notes__")  # it never became whole: nothing is billed


def test_ctrl_c_that_does_not_wake_the_main_thread(silent: SilentServer) -> None:
    """It may come just before the wait begins, or be delivered to another thread, as here."""

    def send() -> None:
        assert silent.received.wait(20)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    silent.read_on.set()
    with client_for(silent.url) as client:
        threading.Thread(target=send, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            client.captions.image(IMAGE_URL, "what")
        assert silent.closed.wait(LONG)


class PatienceError(Exception):
    """What a worker's time limit raises."""


def test_any_exception_of_a_signal_s_handler(silent: SilentServer) -> None:
    error = PatienceError()

    def handler(number: int, frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with client_for(silent.url) as client:
            silent.read_on.set()
            signal_when(silent.received, signal.SIGUSR1)
            with pytest.raises(PatienceError) as caught:
                client.captions.image(IMAGE_URL, "what")
            assert silent.closed.wait(LONG)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value is error


def test_a_handler_that_does_not_raise_disturbs_nothing(client: Memories) -> None:
    heard: list[str] = []

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(client.captions.image(PNG, "from the handler").text)

    uploading = threading.Event()
    go_on = threading.Event()

    async def film() -> AsyncIterator[bytes]:
        yield MP4
        uploading.set()
        await asyncio.to_thread(go_on.wait)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal_when(uploading, signal.SIGUSR1)
        threading.Thread(target=_set_when, args=(heard, go_on), daemon=True).start()
        assert client.captions.video(Media(film(), name="film.mp4"), "what").text
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(heard) == 1


def _set_when(heard: list[str], event: threading.Event) -> None:
    while not heard:
        time.sleep(0.001)
    event.set()


def test_the_client_serves_on_after_ctrl_c(client: Memories, emulator: Emulator) -> None:
    uploading = threading.Event()

    async def film() -> AsyncIterator[bytes]:
        yield MP4
        uploading.set()
        await asyncio.Event().wait()

    signal_when(uploading, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        client.captions.video(Media(film(), name="film.mp4"), "what")
    assert client.captions.image(PNG, "what").text
    assert emulator.ledger.billed() == 1


class Stubborn:
    """A stream that does not let itself be cancelled until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.unwinding = threading.Event()
        self._go = threading.Event()

    async def film(self) -> AsyncIterator[bytes]:
        yield MP4
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.unwinding.set()
            while not self._go.is_set():  # noqa: ASYNC110  # set from another thread
                await asyncio.sleep(0.001)

    def let_go(self) -> None:
        self._go.set()


def test_a_second_ctrl_c_leaves_at_once(client: Memories, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the time that unwinding has: the first one alone would be raised then."""
    monkeypatch.setattr(_portal, "CANCEL_TIMEOUT", 60.0)
    stubborn = Stubborn()
    signal_when(stubborn.started, signal.SIGINT)
    signal_when(stubborn.unwinding, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        client.captions.video(Media(stubborn.film(), name="film.mp4"), "what")
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    stubborn.let_go()


def test_unwinding_takes_five_seconds_at_most(
    client: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CANCEL_TIMEOUT == 5.0
    monkeypatch.setattr(_portal, "CANCEL_TIMEOUT", 0.05)
    stubborn = Stubborn()
    signal_when(stubborn.started, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        client.captions.video(Media(stubborn.film(), name="film.mp4"), "what")
    assert caught.value.__context__ is None
    stubborn.let_go()
    monkeypatch.undo()  # closing waits for the stream to end


# --- what is paid for and not returned --------------------------------------------------------


async def nothing() -> None:
    pass


@pytest.fixture
def portal() -> Iterator[_portal.Portal]:
    portal = _portal.Portal(nothing)
    yield portal
    portal.close()


def interrupt(_: object) -> None:
    """Do in the caller's thread what a signal's handler does there."""
    raise KeyboardInterrupt


def test_an_answer_that_was_in_when_the_signal_came_is_told(portal: _portal.Portal) -> None:
    def begin(caller: _portal.Caller) -> Coroutine[None, None, str]:
        hook = caller.hook(interrupt)
        assert hook is not None

        async def answered() -> str:
            hook("the signal")
            return "what was paid for"

        return answered()

    with pytest.raises(KeyboardInterrupt) as caught:
        portal.run(begin)
    assert caught.value.__notes__ == ["the call had succeeded: 'what was paid for'"]


def test_a_failure_that_was_in_when_the_signal_came_is_told(portal: _portal.Portal) -> None:
    def begin(caller: _portal.Caller) -> Coroutine[None, None, str]:
        hook = caller.hook(interrupt)
        assert hook is not None

        async def failed() -> str:
            hook("the signal")
            raise OutcomeUnknown("no answer came")

        return failed()

    with pytest.raises(KeyboardInterrupt) as caught:
        portal.run(begin)
    [note] = caught.value.__notes__
    assert note.startswith("the call had failed meanwhile: OutcomeUnknown: no answer came")
    assert "may have been billed" in note


def test_a_signal_while_the_answer_is_handed_over(
    portal: _portal.Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is over, and the call has yet to return."""

    def result(self: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(_portal._PortalCall, "result", result)

    async def answered() -> str:
        return "what was paid for"

    with pytest.raises(KeyboardInterrupt) as caught:
        portal.run(lambda caller: answered())
    assert caught.value.__notes__ == ["the call had succeeded: 'what was paid for'"]


def test_an_item_that_was_in_when_the_signal_came_is_told(portal: _portal.Portal) -> None:
    def begin(caller: _portal.Caller) -> AsyncIterator[str]:
        hook = caller.hook(interrupt)
        assert hook is not None

        async def items() -> AsyncIterator[str]:
            yield "first"
            hook("the signal")
            yield "what was paid for"

        return items()

    batch = portal.iterate(begin)
    assert next(batch) == "first"
    with pytest.raises(KeyboardInterrupt) as caught:
        next(batch)
    assert caught.value.__notes__ == ["an item had come: 'what was paid for'"]


@pytest.fixture
def cancelling(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the main thread has had a call cancelled; the loop has yet to do so."""
    cancelling, submit = threading.Event(), LoopThread.submit

    def submit_and_tell(self: LoopThread, function: Callable[[], object]) -> None:
        submit(self, function)
        if "_cancel" in repr(function):
            cancelling.set()

    monkeypatch.setattr(LoopThread, "submit", submit_and_tell)
    return cancelling


def test_an_item_that_comes_after_the_signal_is_told(
    portal: _portal.Portal, cancelling: threading.Event
) -> None:
    def begin(caller: _portal.Caller) -> AsyncIterator[str]:
        hook = caller.hook(interrupt)
        assert hook is not None

        async def items() -> AsyncIterator[str]:
            hook("the signal")
            assert cancelling.wait(20)
            yield "what was paid for"

        return items()

    with pytest.raises(KeyboardInterrupt) as caught:
        next(portal.iterate(begin))
    assert caught.value.__notes__ == ["an item had come: 'what was paid for'"]


def test_what_a_batch_leaves_behind_is_told_although_an_item_was_handed_over(
    portal: _portal.Portal, cancelling: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal comes as the first outcome does; the second is in and waits for its turn."""

    def begin(caller: _portal.Caller) -> AsyncIterator[Outcome[str]]:
        hook = caller.hook(interrupt)
        assert hook is not None

        async def answer(item: str) -> str:
            if item == "second":
                hook("the signal")
                assert cancelling.wait(20)
            return f"what was paid for {item}"

        return batches.run(["first", "second"], answer, concurrency=2, ordered=False)

    with pytest.raises(KeyboardInterrupt) as caught:
        list(portal.iterate(begin))
    told = "\n".join(caught.value.__notes__)
    assert "paid for first" in told
    assert "paid for second" in told
    assert not caplog.records


def test_an_interrupted_batch_says_which_calls_may_have_been_billed(silent: SilentServer) -> None:
    silent.read_on.set()
    with client_for(silent.url) as client:
        signal_when(silent.received, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            next(client.captions.images([IMAGE_URL], "what"))
    [note] = caught.value.__notes__
    assert note.startswith("item 0: ")
    assert "may have been billed" in note


def test_on_progress_that_raises_at_the_end_is_told_that_it_may_have_been_billed(
    silent: SilentServer, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(MP4)
    silent.read_on.set()

    def at_the_end(progress: Progress) -> None:
        if progress.sent == progress.total:
            raise ZeroDivisionError

    with client_for(silent.url) as client, pytest.raises(ZeroDivisionError) as caught:
        client.captions.video(film, "what", on_progress=at_the_end)
    assert any("may have been billed" in note for note in caught.value.__notes__)


def test_what_was_not_waited_for_is_told(client: Memories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_portal, "CANCEL_TIMEOUT", 0.05)
    stubborn = Stubborn()
    signal_when(stubborn.started, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        client.captions.video(Media(stubborn.film(), name="film.mp4"), "what")
    assert caught.value.__notes__ == [_portal.NOT_WAITED_FOR]
    stubborn.let_go()
    monkeypatch.undo()  # closing waits for the stream to end


INTERRUPTIONS = 300
WORDS = ("may have been billed", "had succeeded", "had come")


@pytest.mark.slow
@pytest.mark.parametrize("batch", [False, True])
# A signal may come while a weak reference's callback runs: Python reports what it raises there and
# drops it, and the call goes on as if there had been none.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_at_any_moment_lose_no_answer_without_a_word(
    client: Memories, emulator: Emulator, batch: bool
) -> None:
    """What is billed was returned, or the exception says that it may have been."""
    random = Random(7)
    told, returned, interrupted, silent = 0, 0, 0, 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    client.captions.image(PNG, "what")
    emulator.ledger.clear()
    try:
        while interrupted < INTERRUPTIONS:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.02))
                if batch:
                    for outcome in client.captions.images([PNG] * 4, "what", concurrency=4):
                        returned += outcome.error is None
                else:
                    returned += client.captions.image(PNG, "what").text != ""
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt as caught:
                interrupted += 1
                notes = getattr(caught, "__notes__", [])
                told += sum(
                    "billed" in note or "succeeded" in note or "had come" in note for note in notes
                )
                # In this function itself: the answer was returned, and is being counted.
                silent += caught.__traceback__ is not None and caught.__traceback__.tb_next is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.captions.image(PNG, "what")  # whatever is still being answered has been by then
    billed = emulator.ledger.billed() - 1
    print(f"{billed} billed, {returned} returned, {told} told of, {silent} interrupted afterwards")
    assert returned < billed <= returned + told + silent * (4 if batch else 1)


# --- a run that ends by itself ----------------------------------------------------------------


class Run:
    """Work that goes on until it is stopped, and then ends what it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.stopping: asyncio.Event | None = None
        self.stopped = threading.Event()
        self.may_end = threading.Event()
        self.cancelled = False

    async def work(self) -> str:
        self.stopping = asyncio.Event()
        self.begun.set()
        try:
            await self.stopping.wait()
            self.stopped.set()
            while not self.may_end.is_set():  # noqa: ASYNC110  # set from another thread
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "a report"

    def stop(self) -> None:
        assert self.stopping is not None
        self.stopping.set()


def test_the_first_ctrl_c_lets_a_run_end_by_itself(portal: _portal.Portal) -> None:
    run = Run()
    signal_when(run.begun, signal.SIGINT)
    threading.Thread(target=lambda: run.stopped.wait(20) and run.may_end.set()).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        portal.run(lambda caller: run.work(), stop=run.stop)
    assert not run.cancelled
    assert caught.value.__notes__ == ["the call had succeeded: 'a report'"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_ctrl_c_before_the_wait_lets_a_run_end_by_itself(
    portal: _portal.Portal, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """The loop has taken the run, but its thread does not wait yet; or not even that."""
    run, submit = Run(), LoopThread.submit
    run.may_end.set()

    def interrupted(thread: LoopThread, function: Callable[[], object]) -> None:
        monkeypatch.setattr(LoopThread, "submit", submit)
        if begun:
            submit(thread, function)
            assert run.begun.wait(LONG)
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopThread, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        portal.run(lambda caller: run.work(), stop=run.stop)
    assert not run.cancelled
    assert run.begun.is_set() == begun
    notes = ["the call had succeeded: 'a report'"] if begun else []
    assert getattr(caught.value, "__notes__", []) == notes


def test_the_second_ctrl_c_cancels_it(portal: _portal.Portal) -> None:
    run = Run()
    signal_when(run.begun, signal.SIGINT)
    signal_when(run.stopped, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        portal.run(lambda caller: run.work(), stop=run.stop)
    assert run.cancelled


def test_a_run_may_be_stopped_from_another_thread(portal: _portal.Portal) -> None:
    run = Run()
    run.may_end.set()
    threading.Thread(target=lambda: run.begun.wait(20) and portal.tell(run.stop)).start()
    assert portal.run(lambda caller: run.work(), stop=run.stop) == "a report"
