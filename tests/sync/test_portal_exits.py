"""An exit that a caller's own code asks for is that caller's: the loop serves the others on."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memories_async import CallOptions, ClosedError, Media, Progress
from memories_async.emulator import Emulator
from memories_async.media.formats import HEAD_SIZE
from memories_async.observe.events import Event
from memories_async.sync import Job, Memories
from memories_async.sync._portal import Portal
from tests.sync.conftest import LONG, MP4, PNG, loop_threads, until


class LeavingObserver:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def observe(self, event: Event) -> None:
        raise self.error


class LeavingFile(io.BytesIO):
    error: BaseException

    leave_at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size > self.leave_at:
            raise self.error
        return super().read(size)


def in_an_observer(client: Memories, error: BaseException) -> None:
    client.captions.image(PNG, "what", options=CallOptions(observers=[LeavingObserver(error)]))


def in_an_observer_of_a_batch(client: Memories, error: BaseException) -> None:
    options = CallOptions(observers=[LeavingObserver(error)])
    list(client.captions.images([PNG], "what", options=options))


def before_sending(client: Memories, error: BaseException) -> None:
    async def leave() -> None:
        raise error

    client.captions.image(PNG, "what", options=CallOptions(before_sending=leave))


def in_a_file(client: Memories, error: BaseException) -> None:
    file = LeavingFile(PNG)
    file.error = error
    client.captions.image(file, "what")


def in_a_file_that_is_being_sent(client: Memories, error: BaseException) -> None:
    file = LeavingFile(PNG + bytes(1_000_000))
    file.error = error
    file.leave_at = HEAD_SIZE
    client.captions.image(file, "what")


def in_a_stream(client: Memories, error: BaseException) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield MP4
        raise error

    client.captions.video(Media(stream(), "a.mp4", "video/mp4"), "what")


def in_an_async_iterable(client: Memories, error: BaseException) -> None:
    async def pictures() -> AsyncIterator[bytes]:
        raise error
        yield PNG

    list(client.captions.images(pictures(), "what"))


PLACES: list[Callable[[Memories, BaseException], None]] = [
    in_an_observer,
    in_an_observer_of_a_batch,
    before_sending,
    in_a_file,
    in_a_file_that_is_being_sent,
    in_a_stream,
    in_an_async_iterable,
]


OTHERWISE = [
    # Logged, as whatever else an observer raises.
    (in_an_observer, GeneratorExit),
    (in_an_observer_of_a_batch, GeneratorExit),
    # From a thread it cannot pass through a coroutine that awaits anything: a RuntimeError.
    (in_a_file_that_is_being_sent, GeneratorExit),
]


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (place, kind)
        for place in PLACES
        for kind in (SystemExit, KeyboardInterrupt, GeneratorExit)
        if (place, kind) not in OTHERWISE
    ],
)
def test_an_exit_ends_one_call_and_none_of_another_thread_s(
    client: Memories,
    emulator: Emulator,
    place: Callable[[Memories, BaseException], None],
    kind: type[BaseException],
) -> None:
    emulator.latency = 0.1
    sent = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.sent == progress.total:
            sent.set()

    with ThreadPoolExecutor(1) as callers:
        other = callers.submit(client.captions.image, PNG, "what", on_progress=tell)
        assert sent.wait(LONG)
        error = kind("of the caller")
        with pytest.raises(kind) as caught:
            place(client, error)
        assert caught.value is error
        assert other.result(LONG).text
    assert client.captions.image(PNG, "what").text
    assert emulator.ledger.billed() == 2


@pytest.mark.parametrize(
    "place", [before_sending, in_a_file_that_is_being_sent, in_a_stream, in_an_async_iterable]
)
def test_a_cancellation_of_the_caller_s_own_is_no_closed_client(
    client: Memories, place: Callable[[Memories, BaseException], None]
) -> None:
    with pytest.raises(asyncio.CancelledError, match="a future of another loop"):
        place(client, asyncio.CancelledError("a future of another loop"))
    assert client.captions.image(PNG, "what").text


def test_an_exit_within_a_job_ends_its_run_alone(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    path = tmp_path / "pictures.db"
    with Job.create(path, "caption_images", [picture], options={"prompt": "what"}) as job:
        options = CallOptions(observers=[LeavingObserver(SystemExit("of the caller"))])
        with pytest.raises(SystemExit, match="of the caller"):
            job.run(client, options=options)
        assert job.counts().planned == 1
        assert job.run(client).counts.done == 1
    assert emulator.ledger.billed() == 1


@pytest.fixture
def portal() -> Portal:
    async def aclose() -> None:
        pass

    return Portal(aclose)


async def answer() -> str:
    return "an answer"


def test_a_callback_that_exits_ends_nothing(portal: Portal) -> None:
    portal.tell(sys.exit)
    assert portal.run(lambda _: answer()) == "an answer"
    portal.close()


def test_a_call_that_exits_as_it_is_cancelled_leaves_nothing_open() -> None:
    begun = threading.Event()
    closed: list[bool] = []

    async def aclose() -> None:
        await asyncio.sleep(0)
        closed.append(True)

    async def call(error: BaseException | None) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            await asyncio.sleep(0)
            raise

    def run(error: BaseException | None) -> BaseException | None:
        try:
            portal.run(lambda _: call(error))
        except BaseException as raised:
            return raised
        return None

    portal = Portal(aclose)
    with ThreadPoolExecutor(2) as callers:
        leaving = callers.submit(run, SystemExit("of the caller"))
        assert begun.wait(LONG)
        begun.clear()
        other = callers.submit(run, None)
        assert begun.wait(LONG)
        portal.close()
        assert isinstance(leaving.result(LONG), SystemExit)
        assert isinstance(other.result(LONG), ClosedError)
    until(lambda: not loop_threads())
    assert closed == [True]
