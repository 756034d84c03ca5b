"""Checks S13 to S15: the service signs nothing, so the address must; and text is a stranger's."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from memories_async import CallbackTimeout, CaptionTask, ConfigurationError, sync
from memories_async.callbacks import (
    CallbackInbox,
    Delivery,
    DeliveryStatus,
    MemoryStore,
    RedisStore,
    SqliteStore,
)
from memories_async.callbacks import inbox as inbox_module
from memories_async.callbacks.responses import CallbackResponse
from memories_async.callbacks.tokens import CallbackKind, new_token, sign
from tests.callbacks.conftest import ADDRESS, IN_EVERY_STORE, NOW, StoppedClock, StorePlace

pytestmark = pytest.mark.anyio

PARSED = b'{"videoNo":"VI1","status":"PARSE"}'
SECRET = "0123456789abcdef"
BODY = b'{"status":0,"task_id":"task-1","data":{"text":"A dog."}}'


class RecordingStore(MemoryStore):
    """A store that remembers what was delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.deliveries: list[tuple[str, Delivery]] = []

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        self.deliveries.append((token, delivery))
        return await super().deliver(token, delivery)


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def inbox(store: RecordingStore, clock: StoppedClock) -> CallbackInbox:
    return CallbackInbox(ADDRESS, store=store, secret=SECRET, clock=clock)


async def opened(store: RecordingStore, task_id: str = "task-1") -> str:
    """Expect a callback; return the path that it comes to."""
    token = new_token(CallbackKind.CAPTION)
    await store.open(token, None, NOW)
    await store.bind(token, task_id, NOW)
    return f"/memories/{sign(token, SECRET.encode())}"


# --- S13: forgery -----------------------------------------------------------------------------


def forgeries(path: str) -> Mapping[str, str]:
    """Return what somebody might try, by what is wrong with it."""
    unknown = new_token(CallbackKind.CAPTION)
    return {
        "guessed": f"/memories/{sign(unknown, b'another secret..')}",
        "unknown, with our signature": f"/memories/{sign(unknown, SECRET.encode())}",
        "changed at its end": path[:-1] + ("A" if path[-1] != "A" else "B"),
        "no signature": path.partition(".")[0],
        "an empty signature": path.partition(".")[0] + ".",
        "a signature too long": path + "A",
        "nothing": "/memories/",
        "something": "/memories/favicon.ico",
        "not even text": "/memories/\udcff",
    }


@pytest.mark.parametrize("what", forgeries("/memories/caption-x.y"))
async def test_s13_forged_and_unknown_alike_are_not_found_after_the_same_work(
    inbox: CallbackInbox, store: RecordingStore, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await opened(store)
    forged = forgeries(path)[what]
    signed: list[object] = []
    compared: list[object] = []
    new, compare = hmac.new, hmac.compare_digest
    monkeypatch.setattr(hmac, "new", lambda *args: signed.append(args) or new(*args))
    monkeypatch.setattr(
        hmac, "compare_digest", lambda *args: compared.append(args) or compare(*args)
    )
    answer = await inbox.receive(forged, BODY)
    assert (answer.status, answer.body) == (404, b'{"code":-1,"msg":"not found","data":null}')
    # One signature made, one compared: as for a callback that is real.
    assert len(compared) == 1
    made = len(signed)
    assert (await inbox.receive(path, BODY)).status == 200
    assert (len(signed), len(compared)) == (2 * made, 2)


async def test_s13_of_what_is_forged_no_body_is_read_and_the_store_is_not_asked(
    inbox: CallbackInbox, store: RecordingStore
) -> None:
    """Whoever can not make the signature costs an HMAC, whatever they send behind it."""
    path = await opened(store)
    read: list[str] = []

    def body(what: str) -> Callable[[], Awaitable[bytes]]:
        async def read_it() -> bytes:
            read.append(what)
            return BODY

        return read_it

    for what, forged in forgeries(path).items():
        assert (await inbox.receive(forged, body(what))).status == 404
    assert read == ["unknown, with our signature"]
    assert len(store.deliveries) == 1
    assert (await inbox.receive(path, body("real"))).status == 200
    assert read[1:] == ["real"]


BUFFERS: Mapping[str, Callable[[bytes], object]] = {
    "a bytearray": bytearray,
    "a memoryview": memoryview,
    "a plain function": lambda body: lambda: body,
    "a function that reads a bytearray": lambda body: lambda: bytearray(body),
}


@pytest.mark.parametrize("what", BUFFERS)
@IN_EVERY_STORE
async def test_a_body_may_be_in_any_buffer(
    place: StorePlace, clock: StoppedClock, what: str
) -> None:
    """An adapter of somebody's own hands in what its server has; the service posts once."""
    addresses: list[str] = []

    async def send(address: str) -> CaptionTask:
        addresses.append(address)
        return CaptionTask(task_id="task-1")

    inbox = CallbackInbox(ADDRESS, store=place.store(), secret=SECRET, clock=clock)
    task = await inbox.submit(send)
    body: Any = BUFFERS[what](BODY)
    assert (await inbox.receive(addresses[0], body)).status == 200
    assert (await inbox.result(task, timeout=0)).text == "A dog."
    with sync.CallbackInbox(ADDRESS, store=MemoryStore(), secret=SECRET) as blocking:
        task = await asyncio.to_thread(blocking.submit, cast("Any", send))
        assert (await asyncio.to_thread(blocking.receive, addresses[1], body)).status == 200


async def test_a_body_in_a_buffer_is_no_larger(inbox: CallbackInbox, store: RecordingStore) -> None:
    wide = memoryview(bytes(1 << 20) + b"1234").cast("I")  # a quarter as many items
    assert (await inbox.receive(await opened(store), cast("Any", wide))).status == 413


async def test_what_reads_no_bytes_is_said(
    inbox: CallbackInbox, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    read: Any = lambda: BODY.decode()  # noqa: E731
    assert (await inbox.receive(await opened(store), read)).status == 503
    assert "a bytes-like object is required, not 'str'" in caplog.text


@IN_EVERY_STORE
async def test_a_task_s_name_that_no_store_can_keep_is_matched(
    place: StorePlace, clock: StoppedClock
) -> None:
    """It has been billed by now: neither is it lost, nor what is called back for it."""
    addresses: list[str] = []

    async def send(address: str) -> CaptionTask:
        addresses.append(address)
        return CaptionTask(task_id="a\ud800z")  # as Python's own json reads it

    inbox = CallbackInbox(ADDRESS, store=place.store(), secret=SECRET, clock=clock)
    task = await inbox.submit(send, key="a click")
    body = b'{"status":0,"task_id":"a\\ud800z","data":{"text":"A dog."}}'
    assert (await inbox.receive(addresses[0], body)).status == 200
    assert (await inbox.result(task, timeout=0)).text == "A dog."
    again = await inbox.submit(send, key="a click")
    assert (await inbox.result(again.task_id, timeout=0)).text == "A dog."
    assert len(addresses) == 1


async def test_a_body_has_half_a_minute_to_come(
    inbox: CallbackInbox, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inbox_module.BODY_SECONDS == 30
    monkeypatch.setattr(inbox_module, "BODY_SECONDS", 0.01)

    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    path = await opened(store)
    assert (await inbox.receive(path, never)).status == 408
    assert (await inbox.receive(path, BODY)).status == 200


@IN_EVERY_STORE
async def test_workers_agree_again_on_the_secret_of_a_store_that_was_emptied(
    place: StorePlace, clock: StoppedClock
) -> None:
    """One worker has the old secret in memory; another makes the new one."""
    first = CallbackInbox(ADDRESS, store=place.store(), clock=clock)
    second = CallbackInbox(ADDRESS, store=place.store(), clock=clock)
    await first.address_for_video()
    await second.address_for_video()
    await emptied(place)
    third = CallbackInbox(ADDRESS, store=place.store(), clock=clock)
    workers = [third, first, second]
    for maker in workers:
        for receiver in workers:
            address = await maker.address_for_video()
            assert (await receiver.receive(address, PARSED)).status == 200
            assert (await maker.video(address, timeout=0)).video_no == "VI1"


async def emptied(place: StorePlace) -> None:
    """Empty a store, as FLUSHALL does, or whoever deletes rows."""
    for store in place.opened:
        match store:
            case MemoryStore():
                store._secret = None
            case SqliteStore():
                await store._run(lambda db: db.execute("DELETE FROM secret"))
            case RedisStore():
                await store._here().redis.delete(f"{store._prefix}secret")


async def test_s13_a_forgery_leaves_the_task_as_it_was(
    inbox: CallbackInbox, store: RecordingStore
) -> None:
    path = await opened(store)
    for forged in forgeries(path).values():
        await inbox.receive(forged, BODY.replace(b"dog", b"lie"))
    with pytest.raises(CallbackTimeout):
        await inbox.result("task-1", timeout=0)
    await inbox.receive(path, BODY)
    assert (await inbox.result("task-1", timeout=0)).text == "A dog."


async def test_s13_an_address_is_good_for_its_own_task_only(
    inbox: CallbackInbox, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever learns one address can not write another task's result with it."""
    leaked, victim = await opened(store, "task-1"), await opened(store, "task-2")
    lie = BODY.replace(b"task-1", b"task-2").replace(b"dog", b"lie")
    with caplog.at_level(logging.WARNING):
        assert (await inbox.receive(leaked, lie)).status == 404
    assert "names no task of it: 'task-2'" in caplog.text
    assert (await inbox.receive(victim, BODY.replace(b"task-1", b"task-2"))).status == 200
    assert (await inbox.result("task-2", timeout=0)).text == "A dog."


async def test_s13_who_may_post(store: RecordingStore, clock: StoppedClock) -> None:
    inbox = CallbackInbox(
        ADDRESS,
        store=store,
        secret=SECRET,
        allow_from=["203.0.113.0/24", "2001:db8::7"],
        clock=clock,
    )
    path = await opened(store)

    async def post(peer: str | None) -> CallbackResponse:
        return await inbox.receive(path, BODY, peer=peer)

    for peer in ("198.51.100.7", "203.0.114.1", "2001:db8::8", "unix:", "", None):
        assert (await post(peer)).status == 403
    assert not store.deliveries
    for peer in ("203.0.113.9", "2001:db8::7", "::ffff:203.0.113.9"):
        assert (await post(peer)).status == 200
    with pytest.raises(ConfigurationError, match="allow_from"):
        CallbackInbox(ADDRESS, store=store, allow_from=["memories.ai"])


async def test_s13_the_body_has_a_cap(inbox: CallbackInbox, store: RecordingStore) -> None:
    path = await opened(store)
    largest = BODY + b" " * ((1 << 20) - len(BODY))
    assert (await inbox.receive(path, largest + b" ")).status == 413
    assert not store.deliveries
    assert (await inbox.receive(path, largest)).status == 200


async def test_strangers_fill_no_log(
    inbox: CallbackInbox, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = await opened(store)
    with caplog.at_level(logging.DEBUG, "memories_async"):
        for forged in forgeries(path).values():
            answers = [await inbox.receive(forged, body) for body in (b"<html>", b"[]", BODY)]
            assert {answer.status for answer in answers} <= {400, 404}
    # What has our signature can only come from the service, and is worth a line.
    assert len(caplog.records) == 3


async def test_what_is_logged_of_a_body_is_short_and_quoted(
    inbox: CallbackInbox, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = await opened(store)
    with caplog.at_level(logging.WARNING):
        assert (await inbox.receive(path, b"\r\n\x1b[31mALARM" * 1000)).status == 400
    [record] = caplog.records
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()
    assert len(record.getMessage()) < 1000


async def test_trouble_with_the_store_is_answered_503(
    inbox: CallbackInbox,
    store: RecordingStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = await opened(store)
    monkeypatch.delattr(RecordingStore, "deliver")
    monkeypatch.setattr(MemoryStore, "deliver", None)
    assert (await inbox.receive(path, BODY)).status == 503
    assert "could not be kept" in caplog.text


# --- S14: replay and rewriting ----------------------------------------------------------------


async def test_s14_the_first_valid_body_wins(
    inbox: CallbackInbox, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = await opened(store)
    rewritten = BODY.replace(b"dog", b"lie")
    answers = [
        (await inbox.receive(path, body)).status
        for body in (b"not a callback", BODY, BODY, rewritten, b'{"status":-1,"task_id":"task-1"}')
    ]
    assert answers == [400, 200, 200, 200, 200]
    assert (await inbox.result("task-1", timeout=0)).text == "A dog."
    ignored = [record for record in caplog.records if "Ignored another" in record.getMessage()]
    assert len(ignored) == 2
    assert hashlib.sha256(rewritten).hexdigest() in caplog.text


async def test_s14_the_digest_of_the_body_is_kept(
    inbox: CallbackInbox, store: RecordingStore
) -> None:
    await inbox.receive(await opened(store), BODY)
    kept = await store.find("task-1")
    assert kept is not None
    assert (kept.body, kept.digest) == (BODY, hashlib.sha256(BODY).hexdigest())


# --- S15 and S24: what it says is text, and nothing else --------------------------------------


async def test_s15_a_caption_comes_out_as_it_went_in(
    inbox: CallbackInbox, store: RecordingStore
) -> None:
    """The inbox hands on text; only who writes a page knows how to escape it."""
    text = "<script>alert(1)</script> {{7*7}} ../../etc/passwd $(id) https://evil.example"
    body = BODY.replace(b"A dog.", text.encode())
    await inbox.receive(await opened(store), body)
    caption = await inbox.result("task-1", timeout=0)
    assert caption.text == text
    assert "<script>" not in html.escape(caption.text)
    assert "<script>" not in caption._repr_html_()  # what a notebook shows


async def test_nothing_shows_the_secret(inbox: CallbackInbox, store: RecordingStore) -> None:
    kept = CallbackInbox(ADDRESS, store=store)
    await kept.address_for_video()
    secret = await store.secret("")
    for owner in (inbox, kept):
        shown = f"{owner!r} {vars(owner)!r}"
        assert SECRET not in shown
        assert secret not in shown


async def test_names_from_outside_are_never_as_long_as_a_body_in_logs_and_messages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    addresses: list[str] = []

    async def send(url: str) -> CaptionTask:
        addresses.append(url)
        return CaptionTask(task_id="task-1")

    inbox = CallbackInbox("https://example.com/callbacks", store=MemoryStore())
    await inbox.submit(send)
    name = "x" * 900_000
    answer = await inbox.receive(addresses[0], json.dumps({"task_id": name}).encode())
    assert answer.status == 404
    with pytest.raises(CallbackTimeout) as caught:
        await inbox.result(f"{name}\n", timeout=0)
    assert len(caplog.text) < 2_000
    assert len(str(caught.value)) < 2_000
