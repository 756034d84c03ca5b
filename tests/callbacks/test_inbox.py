"""The inbox against the emulator: rows 56 to 60 of the fault matrix, and what lies around them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import pickle
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import attrs
import pytest

from memories_async import (
    ApiError,
    CallbackTimeout,
    CaptionTask,
    ConfigurationError,
    Media,
    Memories,
    OutcomeUnknown,
    StoreUnavailable,
    TaskFailed,
    _json,
)
from memories_async import sync as blocking
from memories_async.callbacks import (
    CallbackInbox,
    MemoryStore,
    RedisStore,
    SqliteStore,
    aiohttp_app,
    asgi_app,
    serve,
    wsgi_app,
)
from memories_async.callbacks import inbox as inbox_module
from memories_async.emulator import (
    CallbackFault,
    Cut,
    Dropped,
    Early,
    Emulator,
    Forged,
    Held,
    Overtaken,
    Reason,
    Repeated,
    Rewritten,
)
from memories_async.emulator import (
    InjectedFault as Fault,
)
from tests.callbacks.conftest import (
    ADDRESS,
    IN_EVERY_STORE,
    SOON,
    StoppedClock,
    StorePlace,
    free_port,
    submit,
)
from tests.emulator.conftest import MP4, KnownEngine, until

pytestmark = pytest.mark.anyio


@attrs.frozen
class World:
    """A web application with an inbox, and the service."""

    place: StorePlace
    clock: StoppedClock
    client: Memories
    emulator: Emulator
    address: str
    inbox: CallbackInbox

    def worker(self) -> CallbackInbox:
        """Return the inbox as another worker, or this one after a restart, makes it."""
        return CallbackInbox(self.address, store=self.place.store(), clock=self.clock)

    async def submit(self, prompt: str = "What?") -> str:
        return (await submit(self.inbox, self.client, prompt)).task_id

    def address_of(self, number: int) -> str:
        """Return the callback address that a request asked for."""
        return str(self.emulator.ledger[number].fields["callback"])


@pytest.fixture
async def world(place: StorePlace, clock: StoppedClock) -> AsyncIterator[World]:
    port = free_port()
    address = f"http://127.0.0.1:{port}/memories"
    inbox = CallbackInbox(address, store=place.store(), clock=clock)
    async with (
        serve(inbox, port=port),
        Emulator(KnownEngine()) as emulator,
        Memories("key", caption_key="caption-key", base_url=emulator.url) as client,
    ):
        yield World(place, clock, client, emulator, address, inbox)


async def statuses(world: World, count: int) -> list[int | None]:
    """Wait for so many callbacks to be answered; return what was answered."""
    async with asyncio.timeout(SOON):
        await until(lambda: len(world.emulator.callbacks.posted) >= count)
    return [callback.status for callback in world.emulator.callbacks.posted]


async def held(world: World, count: int = 1) -> None:
    """Wait until the emulator holds so many callbacks."""
    async with asyncio.timeout(SOON):
        await until(lambda: len(world.emulator.callbacks.held) == count)


async def post(address: str, body: object) -> tuple[int, object]:
    """Post what somebody might; return the status and the answer."""
    data = io.BytesIO(body if isinstance(body, bytes) else _json.dumps(body))
    async with aiohttp.ClientSession() as session, session.post(address, data=data) as response:
        return response.status, await response.json()


# --- the plain way ----------------------------------------------------------------------------


@IN_EVERY_STORE
async def test_a_caption_is_awaited_in_any_worker(world: World) -> None:
    task = await submit(world.inbox, world.client, "Who appears?", qa=True)
    caption = await world.worker().result(task, timeout=SOON)
    assert caption.text == f"Who appears? [{len(MP4)}]"
    assert caption.tokens is not None
    assert await world.inbox.result(task.task_id, timeout=0) == caption
    [sent] = world.emulator.ledger
    assert sent.fields["qa"] is True
    assert world.address_of(0).startswith(f"{world.address}/caption-")
    assert await statuses(world, 1) == [200]
    assert world.emulator.ledger.billed() == 1


@IN_EVERY_STORE
async def test_who_already_waits_is_woken(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Held(), times=None))
    tasks = [await world.submit(f"What is {number}?") for number in range(3)]
    other = world.worker()
    waits = [
        asyncio.create_task(inbox.result(task, timeout=SOON))
        for task in tasks
        for inbox in (world.inbox, other)
    ]
    await held(world, 3)
    await world.emulator.callbacks.release()
    texts = [caption.text.split(" [")[0] for caption in await asyncio.gather(*waits)]
    assert texts == [f"What is {number}?" for number in (0, 0, 1, 1, 2, 2)]


async def test_what_is_answered_is_what_the_service_takes_for_good(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Held()))
    task_id = await world.submit()
    answer = await post(
        world.address_of(0), {"status": 0, "task_id": task_id, "data": {"text": "x"}}
    )
    assert answer == (200, {"code": 0, "msg": "success", "data": None})


# --- rows 56 to 60 ----------------------------------------------------------------------------


@IN_EVERY_STORE
async def test_row_56_the_callback_comes_before_the_answer(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Early()))
    task_id = await world.submit()
    assert len(world.emulator.callbacks.posted) == 1
    assert (await world.worker().result(task_id, timeout=0)).text.startswith("What?")
    assert len(world.emulator.ledger) == world.emulator.ledger.billed() == 1


async def test_row_57_it_comes_twice_and_the_second_time_with_other_words(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Repeated()))
    task_id = await world.submit()
    assert await statuses(world, 2) == [200, 200]
    first = await world.inbox.result(task_id, timeout=0)
    assert not caplog.records

    changed = {"status": 0, "task_id": task_id, "data": {"text": "something else"}}
    with caplog.at_level(logging.WARNING, "memories_async.callbacks"):
        assert (await post(world.address_of(0), changed))[0] == 200
    assert "Ignored another callback" in caplog.text
    assert await world.inbox.result(task_id, timeout=0) == first


@IN_EVERY_STORE
async def test_row_58_it_never_comes(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Held()))
    task_id = await world.submit()
    for timeout in (0, 0.02):
        with pytest.raises(CallbackTimeout) as caught:
            await world.inbox.result(task_id, timeout=timeout)
        assert caught.value.task_id == task_id
    assert isinstance(caught.value, TimeoutError)
    assert str(caught.value) == f"no callback for task {task_id} within 0.02 s"
    assert pickle.loads(pickle.dumps(caught.value)).task_id == task_id
    # Late, it is kept all the same.
    await held(world)
    world.clock.now += 3600
    await world.emulator.callbacks.release()
    assert (await world.inbox.result(task_id, timeout=0)).text.startswith("What?")


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda body: {"status": -1, "task_id": body["task_id"], "data": None, "token": None},
        lambda body: {**body, "data": None},
    ],
)
async def test_row_59_the_task_failed(world: World, rewrite: object) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Rewritten(rewrite)))
    task_id = await world.submit()
    with pytest.raises(TaskFailed, match="gives no reason") as caught:
        await world.inbox.result(task_id, timeout=SOON)
    assert caught.value.task_id == task_id
    assert await statuses(world, 1) == [200]


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda body: body,
        lambda body: {
            "status": 0,
            "task_id": body["task_id"],
            "data": {"text": body["data"]["text"]},
            "token": body["data"]["token"],
        },
        lambda body: {
            "status": 0,
            "task_id": body["task_id"],
            "data": {"response": body["data"]["text"], "token": body["data"]["token"]},
        },
    ],
)
async def test_row_59_every_shape_is_read(world: World, rewrite: object) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Rewritten(rewrite)))
    caption = await world.inbox.result(await world.submit(), timeout=SOON)
    assert caption.text == f"What? [{len(MP4)}]"
    assert caption.tokens is not None
    assert caption.tokens.total > 0


@pytest.mark.parametrize(
    ("body", "status"),
    [(b" " * (10 << 20), 413), (b" " * ((1 << 20) + 1), 413), (b"status=0", 400), (b"[]", 400)],
)
async def test_row_59_what_is_no_callback_changes_nothing(
    world: World, body: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Held()))
    task_id = await world.submit()
    answered, answer = await post(world.address_of(0), body)
    assert answered == status
    assert answer["code"] == -1
    await held(world)
    await world.emulator.callbacks.release()
    assert (await world.inbox.result(task_id, timeout=0)).text.startswith("What?")


async def test_row_59_only_post(world: World) -> None:
    await world.submit()
    async with aiohttp.ClientSession() as session:
        for method in ("GET", "HEAD", "PUT", "OPTIONS"):
            async with session.request(method, world.address_of(0)) as response:
                assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_row_60_the_receiver_restarts(
    clock: StoppedClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()

    def application() -> CallbackInbox:
        store = SqliteStore(tmp_path / "callbacks.db")
        return CallbackInbox(f"http://127.0.0.1:{port}", store=store, clock=clock)

    async with (
        Emulator(KnownEngine()) as emulator,
        Memories("key", caption_key="caption-key", base_url=emulator.url) as client,
    ):
        emulator.callbacks.add(CallbackFault(None, Held()))
        async with application() as before, serve(before, port=port):
            task = await submit(before, client, "What?")
            async with asyncio.timeout(SOON):
                await until(lambda: emulator.callbacks.held)
        async with application() as after, serve(after, port=port):
            waiting = asyncio.create_task(after.result(task, timeout=SOON))
            await emulator.callbacks.release()
            assert (await waiting).text.startswith("What?")
        async with application() as later:
            assert (await later.result(task.task_id, timeout=0)).text.startswith("What?")
        assert emulator.ledger.billed() == 1


# --- beyond the rows --------------------------------------------------------------------------


async def test_callbacks_in_another_order(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Overtaken()))
    tasks = [await world.submit(f"What is {number}?") for number in range(2)]
    for number, task in enumerate(tasks):
        caption = await world.inbox.result(task, timeout=SOON)
        assert caption.text.startswith(f"What is {number}?")


async def test_a_status_that_nobody_knows_is_not_the_result(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Held()))
    task_id = await world.submit()
    running = {"status": 1, "task_id": task_id, "data": None}
    assert (await post(world.address_of(0), running))[0] == 200
    await held(world)
    await world.emulator.callbacks.release()
    assert (await world.inbox.result(task_id, timeout=0)).text.startswith("What?")


async def test_an_early_callback_of_another_task_is_dropped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    swap = Rewritten(lambda body: {**body, "task_id": "another"})
    early = CallbackFault(None, Early())

    async def submit_early() -> str:
        # Both at once: what comes early is somebody else's body.
        async def rewritten(url: str, body: dict[str, object], fault: object) -> None:
            await world.emulator.callbacks._post(url, swap.rewrite(body))

        world.emulator.callbacks.send = rewritten  # type: ignore[method-assign]  # one effect of two
        world.emulator.callbacks.add(early)
        return await world.submit()

    with caplog.at_level(logging.WARNING, "memories_async.callbacks"):
        task_id = await submit_early()
    assert f"another task than {task_id}" in caplog.text
    for name in (task_id, "another"):
        with pytest.raises(CallbackTimeout):
            await world.inbox.result(name, timeout=0)


async def test_a_forged_callback_changes_nothing(world: World) -> None:
    """S13, with the service itself: somebody else posts first, at an address that is guessed."""
    lie = {"status": 0, "task_id": "any", "data": {"text": "a lie"}}
    world.emulator.callbacks.add(CallbackFault(None, Forged(lie)))
    caption = await world.inbox.result(await world.submit(), timeout=SOON)
    assert await statuses(world, 2) == [404, 200]
    assert caption.text.startswith("What?")


async def test_a_task_that_could_not_be_noted_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been paid for, and nobody can ask the service which one it was."""

    async def fail(token: str, name: str, now: float) -> bool:
        raise OSError("disk full")

    monkeypatch.setattr(world.place.opened[0], "bind", fail)
    with pytest.raises(OSError, match="disk full") as caught:
        await world.submit()
    [answered] = world.emulator.ledger
    assert caught.value.__notes__[0].startswith("task ")
    assert answered.billed


async def test_a_refused_submission_leaves_nothing_to_wait_for(world: World) -> None:
    world.emulator.faults.add(Fault(None, Reason.NO_CREDITS))
    with pytest.raises(ApiError):
        await world.submit()
    assert not world.emulator.callbacks.posted


async def test_a_lost_answer_is_told_as_such(world: World) -> None:
    world.emulator.faults.add(Fault("captions.submit_video", Cut(), moment="processed"))
    with pytest.raises(OutcomeUnknown):
        await world.submit()
    assert len(world.emulator.ledger) == 1


async def test_who_stops_waiting_leaves_nothing_behind(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Dropped(), times=None))
    task_id = await world.submit()
    waits = [asyncio.create_task(world.inbox.result(task_id)) for _ in range(10)]
    watched = world.place.opened[0]._subscribers._events
    await until(lambda: sum(map(len, watched.values())) == 10)
    for wait in waits:
        wait.cancel()
    ended = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert not watched


# --- library videos ---------------------------------------------------------------------------


@IN_EVERY_STORE
async def test_an_indexed_video(world: World) -> None:
    address = await world.inbox.address_for_video()
    assert address.startswith(f"{world.address}/video-")
    wait = asyncio.create_task(world.worker().video(address, timeout=SOON))
    assert (await post(address, {"videoNo": "VI1", "status": "UNPARSE"}))[0] == 200
    assert (await post(address, {"videoNo": "VI1", "status": "PARSE"}))[0] == 200
    video = await wait
    assert (video.video_no, video.searchable) == ("VI1", True)
    assert await world.inbox.video(address, timeout=0) == video


@IN_EVERY_STORE
async def test_a_video_is_uploaded_and_awaited(world: World) -> None:
    callback = await world.inbox.address_for_video()
    film = Media(MP4, name="film.mp4")
    uploaded = await world.client.library.add_video(film, callback=callback)
    indexed = await world.worker().video(callback, timeout=SOON)
    assert (indexed.video_no, indexed.searchable) == (uploaded.video_no, True)
    assert await statuses(world, 1) == [200]


async def test_a_video_that_could_not_be_indexed(world: World) -> None:
    address = await world.inbox.address_for_video()
    assert (await post(address, {"video_no": "VI1", "status": "FAIL"}))[0] == 200
    with pytest.raises(TaskFailed, match="indexing of VI1 failed"):
        await world.inbox.video(address, timeout=0)


async def test_a_video_that_nobody_hears_of(world: World) -> None:
    address = await world.inbox.address_for_video()
    with pytest.raises(CallbackTimeout):
        await world.inbox.video(address, timeout=0.01)


async def test_only_an_address_for_a_video_is_one(world: World) -> None:
    await world.submit()
    for address in (world.address_of(0), "VI1", f"{world.address}/video-x.y"):
        with pytest.raises(ConfigurationError, match="made no such address"):
            await world.inbox.video(address)


async def test_an_address_is_for_one_kind_of_callback(world: World) -> None:
    world.emulator.callbacks.add(CallbackFault(None, Held()))
    task_id = await world.submit()
    address = await world.inbox.address_for_video()
    caption = {"status": 0, "task_id": task_id, "data": {"text": "x"}}
    assert (await post(address, caption))[0] == 400
    video = {"videoNo": "VI1", "status": "PARSE"}
    assert (await post(world.address_of(0), video))[0] == 400


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("app.example.com/memories", "must be an http"),
        ("ftp://app.example.com", "must be an http"),
        ("https://user:word@app.example.com", "user name or password"),
        ("https://app.example.com/a b", "spaces or control characters"),
        ("https://app.example.com/?a=b", "no query or fragment"),
        ("https://app.example.com/#a", "no query or fragment"),
        ("https://app.example.com/" + "a" * 300, "the limit is 2"),
    ],
)
def test_addresses_that_will_not_do(address: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        CallbackInbox(address, store=MemoryStore())


async def test_the_longest_address_is_what_the_service_takes() -> None:
    head = "https://app.example.com/"
    for length in range(220, 240):
        try:
            inbox = CallbackInbox(head + "a" * (length - len(head)), store=MemoryStore())
        except ConfigurationError:
            break
        longest = len(inbox.address)
    inbox = CallbackInbox(head + "a" * (longest - len(head)), store=MemoryStore())
    assert len(await inbox.address_for_video()) <= 299
    urls: list[str] = []

    async def send(url: str) -> CaptionTask:
        urls.append(url)
        return CaptionTask(task_id="task-1")

    await inbox.submit(send)
    assert [len(url) for url in urls] == [299]


async def test_a_secret_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    given = CallbackInbox(ADDRESS, store=store, secret="a-secret-of-one's-own")
    address = await given.address_for_video()
    monkeypatch.setenv("MEMORIES_CALLBACK_SECRET", "a-secret-of-one's-own")
    from_environment = CallbackInbox(ADDRESS, store=store)
    with pytest.raises(CallbackTimeout):
        await from_environment.video(address, timeout=0)
    monkeypatch.delenv("MEMORIES_CALLBACK_SECRET")
    with pytest.raises(ConfigurationError, match="made no such address"):
        await CallbackInbox(ADDRESS, store=store).video(address, timeout=0)
    assert "one's-own" not in repr(given)
    assert not any("one's-own" in repr(value) for value in vars(given).values())


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="less than 16 characters"):
        CallbackInbox(ADDRESS, store=MemoryStore(), secret="too short")


class SilentStore(MemoryStore):
    """Tells nobody that something has come, as a store does that has not polled yet."""

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncIterator[asyncio.Event]:
        yield asyncio.Event()


async def test_what_came_at_the_last_moment_is_seen_when_time_is_up(clock: StoppedClock) -> None:
    inbox = CallbackInbox(ADDRESS, store=SilentStore(), clock=clock)
    address = await inbox.address_for_video()
    wait = asyncio.create_task(inbox.video(address, timeout=0.5))
    await asyncio.sleep(0)
    await inbox.receive(address, b'{"videoNo": "VI1", "status": "PARSE"}')
    assert (await wait).video_no == "VI1"


# --- submitted twice --------------------------------------------------------------------------


async def submit_with(world: World, inbox: CallbackInbox, key: str) -> CaptionTask:
    return await inbox.submit(
        lambda url: world.client.captions.submit_video(MP4, "What?", callback=url), key=key
    )


@IN_EVERY_STORE
async def test_who_submits_again_is_given_the_same_task(world: World) -> None:
    task = await submit_with(world, world.inbox, "a click")
    assert await submit_with(world, world.inbox, "a click") == task
    assert await submit_with(world, world.worker(), "a click") == task
    assert await submit_with(world, world.inbox, "another click") != task
    assert world.emulator.ledger.billed() == 2
    assert (await world.worker().result(task, timeout=SOON)).text == f"What? [{len(MP4)}]"


@IN_EVERY_STORE
async def test_of_a_double_click_one_is_handed_in(world: World) -> None:
    workers = [world.inbox, world.worker(), world.worker()]
    tasks = await asyncio.gather(*(submit_with(world, inbox, "a click") for inbox in workers))
    assert len({task.task_id for task in tasks}) == 1
    assert world.emulator.ledger.billed() == 1


@IN_EVERY_STORE
async def test_after_one_that_was_refused_the_next_goes_ahead(world: World) -> None:
    world.emulator.faults.add(Fault(None, Reason.NO_CREDITS))
    with pytest.raises(ApiError):
        await submit_with(world, world.inbox, "a click")
    task = await submit_with(world, world.worker(), "a click")
    assert (await world.inbox.result(task, timeout=SOON)).text == f"What? [{len(MP4)}]"
    assert world.emulator.ledger.billed() == 1


async def test_after_one_that_was_cancelled_before_it_was_whole_the_next_goes_ahead(
    world: World,
) -> None:
    """As a browser does with the first of two clicks on a plain form."""

    async def film() -> AsyncIterator[bytes]:
        yield MP4
        await asyncio.Event().wait()

    begun = Media(film(), name="film.mp4", size=2 * len(MP4))
    first = asyncio.create_task(
        world.inbox.submit(
            lambda url: world.client.captions.submit_video(begun, "What?", callback=url),
            key="a click",
        )
    )
    async with asyncio.timeout(SOON):
        await until(lambda: len(world.emulator.ledger) == 1)
    second = asyncio.create_task(submit_with(world, world.worker(), "a click"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await world.inbox.result(await second, timeout=SOON)).text == f"What? [{len(MP4)}]"
    assert world.emulator.ledger.billed() == 1


@IN_EVERY_STORE
async def test_after_one_of_unknown_outcome_nothing_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inbox_module.REPEAT_SECONDS == 60
    monkeypatch.setattr(inbox_module, "REPEAT_SECONDS", 0.0)
    world.emulator.faults.add(Fault("captions.submit_video", Cut()))
    with pytest.raises(OutcomeUnknown, match="may have been billed"):
        await submit_with(world, world.inbox, "a click")
    with pytest.raises(OutcomeUnknown, match="not heard of again"):
        await submit_with(world, world.worker(), "a click")
    assert len(world.emulator.ledger) == 1


@pytest.mark.parametrize("fate", ["no task", "lost", "unmatched"])
async def test_the_worker_that_saw_it_end_without_a_task_waits_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    """Seen: a repeat waited a minute for a submission that had ended before its eyes."""
    sent: list[str] = []

    async def hand_in(url: str) -> object:
        sent.append(url)
        if fate == "lost":
            raise OutcomeUnknown("lost")
        return CaptionTask(task_id="a task") if fate == "unmatched" else None

    async def sleep(_: float) -> None:
        raise AssertionError("there is nothing to wait for")

    async def bind(*_: object) -> bool:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(world.inbox._store, "bind", bind)
    monkeypatch.setattr(world.clock, "sleep", sleep)
    with pytest.raises((ConfigurationError, OutcomeUnknown, StoreUnavailable)):
        await world.inbox.submit(cast("Any", hand_in), key="a click")
    with pytest.raises(OutcomeUnknown, match="earlier submission"):
        await world.inbox.submit(cast("Any", hand_in), key="a click")
    assert len(sent) == 1


@IN_EVERY_STORE
async def test_when_a_task_was_submitted(world: World) -> None:
    task = await submit(world.inbox, world.client, "What?")
    assert await world.worker().submitted_at(task) == datetime.fromtimestamp(world.clock.now, UTC)
    assert await world.inbox.submitted_at("no such task") is None
    assert await world.inbox.submitted_at("\x00\ud800 <script>") is None


# --- at the door ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: CallbackInbox(None, store=MemoryStore()), "address is None; a text is wanted"),
        (lambda: CallbackInbox(ADDRESS, store="callbacks.db"), "store is 'callbacks.db'; a store"),
        (lambda: CallbackInbox(ADDRESS, store=None), "store is None; a store"),
        (
            lambda: CallbackInbox(ADDRESS, store=MemoryStore(), secret=5),
            "secret is of type int",
        ),
        (
            lambda: CallbackInbox(ADDRESS, store=MemoryStore(), allow_from="203.0.113.0/24"),
            "allow_from is '203.0.113.0/24'; a list",
        ),
        (
            lambda: CallbackInbox(ADDRESS, store=MemoryStore(), allow_from=[5]),
            "allow_from[0] is 5; a text",
        ),
        (lambda: SqliteStore(5), "path is 5; a path is wanted"),
        (lambda: SqliteStore(""), "the path is empty"),
        (lambda: SqliteStore("a\0b"), "path holds a NUL"),
        (lambda: SqliteStore("x.db", kept="week"), "kept is 'week'; a number of seconds"),
        (lambda: SqliteStore("x.db", kept=float("nan")), "kept is nan; a number of seconds"),
        (lambda: MemoryStore(kept=-1), "kept is -1; a number of seconds from 0"),
        (lambda: RedisStore(None), "url is None; a text"),
        (lambda: RedisStore("redis://127.0.0.1", kept=0.2), "seconds from 1"),
        (lambda: RedisStore("redis://127.0.0.1", prefix=""), "the prefix is empty"),
    ],
)
def test_what_an_inbox_is_made_of_is_checked(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(why)):
        make()


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda inbox: inbox.result(None), "result: task is None; a CaptionTask, or its task_id"),
        (
            lambda inbox: inbox.result("a", timeout="5"),
            "result: timeout is '5'; a number",
        ),
        (lambda inbox: inbox.result("a", timeout=-1), "result: timeout is -1; a number"),
        (lambda inbox: inbox.result("a", timeout=True), "result: timeout is True; a number"),
        (lambda inbox: inbox.submitted_at(5), "submitted_at: task is 5; a CaptionTask"),
        (lambda inbox: inbox.video(None), "video: address is None; a text"),
        (lambda inbox: inbox.submit(None), "submit: send is None; a function"),
        (lambda inbox: inbox.submit(print, key=5), "submit: key is 5; a text"),
        (lambda inbox: inbox.submit(print, key=" "), "submit: the key is empty"),
        (lambda inbox: inbox.receive(None, b""), "receive: path is None; a text"),
        (lambda inbox: inbox.receive(b"/x", b""), "receive: path is b'/x'; a text"),
        (lambda inbox: inbox.receive("/x", None), "receive: body is None; bytes, or a function"),
        (lambda inbox: inbox.receive("/x", "{}"), "receive: body is '{}'; bytes, or a function"),
        (
            lambda inbox: inbox.receive("/x", b"", peer=("203.0.113.7", 443)),
            "receive: peer is ('203.0.113.7', 443); a text",
        ),
    ],
)
async def test_what_an_inbox_is_asked_is_checked(
    call: Callable[[CallbackInbox], Awaitable[object]], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(why)):
        await call(CallbackInbox(ADDRESS, store=MemoryStore()))


@pytest.mark.parametrize("port", ["8766", -1, 70_000, None, True])
async def test_a_port_that_is_none_is_refused(port: int) -> None:
    inbox = CallbackInbox(ADDRESS, store=MemoryStore())
    with pytest.raises(ConfigurationError, match="0 to 65535"):
        async with serve(inbox, port=port):
            raise AssertionError


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "xn--\u0130", ""])
async def test_a_host_that_is_none_is_refused(host: str) -> None:
    inbox = CallbackInbox(ADDRESS, store=MemoryStore())
    with pytest.raises(ConfigurationError, match="host"):
        async with serve(inbox, host=host, port=0):
            raise AssertionError


def test_an_inbox_of_the_other_colour_is_refused() -> None:
    """Mounted, it would answer every callback with an error, and lose it."""
    asyncio_inbox = CallbackInbox(ADDRESS, store=MemoryStore())
    with blocking.CallbackInbox(ADDRESS, store=MemoryStore()) as blocking_inbox:
        for mount in (asgi_app, aiohttp_app):
            wrong: Any = blocking_inbox
            with pytest.raises(ConfigurationError, match=r"inbox is .* a CallbackInbox is"):
                mount(wrong)
        other: Any = asyncio_inbox
        with pytest.raises(ConfigurationError, match=r"a CallbackInbox of memories_async\.sync"):
            wsgi_app(other)
