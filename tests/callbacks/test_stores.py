"""What every store must do: one contract, run against each."""

from __future__ import annotations

import asyncio
import hashlib
import math
import pickle
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from memories_async.callbacks import (
    CallbackInbox,
    Delivery,
    DeliveryStatus,
    MemoryStore,
    RedisStore,
    SqliteStore,
    Store,
)
from memories_async.callbacks.stores import redis as redis_module
from memories_async.callbacks.stores.notify import Subscribers
from memories_async.callbacks.stores.sqlite import POLL_SECONDS
from memories_async.errors import ConfigurationError, StoreUnavailable
from tests.callbacks.conftest import IN_EVERY_STORE, NOW, SOON, StorePlace, free_port, redis_server

pytestmark = pytest.mark.anyio


def delivery(name: str = "task-1", body: bytes = b"{}", at: float = NOW) -> Delivery:
    return Delivery(name, body, hashlib.sha256(body).hexdigest(), at)


# --- the contract -----------------------------------------------------------------------------


@IN_EVERY_STORE
async def test_a_callback_is_kept_and_found_by_name(place: StorePlace) -> None:
    store = place.store()
    await store.open("a", None, NOW)
    assert await store.bind("a", "task-1", NOW)
    assert await store.find("task-1") is None
    body = bytes(range(256))
    assert await store.deliver("a", delivery(body=body)) is DeliveryStatus.FIRST
    assert await place.store().find("task-1") == delivery(body=body)


@IN_EVERY_STORE
async def test_the_first_callback_wins(place: StorePlace) -> None:
    store = place.store()
    await store.open("a", None, NOW)
    await store.bind("a", "task-1", NOW)
    assert await store.deliver("a", delivery(body=b"first")) is DeliveryStatus.FIRST
    assert await store.deliver("a", delivery(body=b"first", at=NOW + 1)) is DeliveryStatus.REPEAT
    assert await store.deliver("a", delivery(body=b"second")) is DeliveryStatus.DIFFERENT
    assert await store.find("task-1") == delivery(body=b"first")


@IN_EVERY_STORE
async def test_of_two_early_ones_for_other_tasks_the_second_is_not_acknowledged(
    place: StorePlace,
) -> None:
    """Whoever knew the address came first: the true one would be acknowledged and lost."""
    store = place.store()
    await store.open("a", None, NOW)
    assert await store.deliver("a", delivery("forged")) is DeliveryStatus.FIRST
    assert await store.deliver("a", delivery("task-1")) is DeliveryStatus.CONTESTED
    assert await store.deliver("a", delivery("forged")) is DeliveryStatus.REPEAT
    assert not await store.bind("a", "task-1", NOW)
    assert await store.deliver("a", delivery("task-1")) is DeliveryStatus.FIRST
    assert await store.find("task-1") == delivery("task-1")


@IN_EVERY_STORE
async def test_of_many_at_once_one_is_first(place: StorePlace) -> None:
    stores = [place.store() for _ in range(4)]
    await stores[0].open("a", None, NOW)
    await stores[0].bind("a", "task-1", NOW)
    verdicts = await asyncio.gather(*(store.deliver("a", delivery()) for store in stores * 5))
    assert sorted(status.name for status in verdicts) == ["FIRST"] + ["REPEAT"] * 19


@IN_EVERY_STORE
async def test_what_nobody_opened_is_unknown(place: StorePlace) -> None:
    store = place.store()
    assert await store.deliver("a", delivery()) is DeliveryStatus.UNKNOWN
    assert await store.find("task-1") is None


@IN_EVERY_STORE
async def test_a_callback_for_another_task_is_unknown(place: StorePlace) -> None:
    store = place.store()
    for token, name in [("a", "task-1"), ("b", "task-2")]:
        await store.open(token, None, NOW)
        await store.bind(token, name, NOW)
    assert await store.deliver("a", delivery("task-2")) is DeliveryStatus.UNKNOWN
    assert await store.find("task-1") is None
    assert await store.find("task-2") is None


@IN_EVERY_STORE
async def test_a_name_may_be_known_from_the_start(place: StorePlace) -> None:
    store = place.store()
    await store.open("a", "a", NOW)
    assert await store.deliver("a", delivery("other")) is DeliveryStatus.UNKNOWN
    assert await store.deliver("a", delivery("a")) is DeliveryStatus.FIRST
    assert await store.find("a") == delivery("a")


@IN_EVERY_STORE
async def test_an_early_callback_is_found_once_it_is_bound(place: StorePlace) -> None:
    store = place.store()
    await store.open("a", None, NOW)
    assert await store.deliver("a", delivery()) is DeliveryStatus.FIRST
    assert await store.find("task-1") is None  # anyone who has an address could name any task
    assert await place.store().bind("a", "task-1", NOW + 1)
    assert await store.find("task-1") == delivery()


@IN_EVERY_STORE
async def test_an_early_callback_of_another_task_is_dropped(place: StorePlace) -> None:
    store = place.store()
    await store.open("a", None, NOW)
    await store.deliver("a", delivery("task-2", b"wrong"))
    assert not await store.bind("a", "task-1", NOW)
    assert await store.find("task-1") is None
    assert await store.find("task-2") is None
    assert await store.deliver("a", delivery()) is DeliveryStatus.FIRST


@IN_EVERY_STORE
async def test_an_early_callback_is_kept_as_long_as_its_task(place: StorePlace) -> None:
    """Only tokens that were opened can be delivered to, so what is kept is bounded by those."""
    store = place.store(kept=100_000)
    for token in "ab":
        await store.open(token, None, NOW)
        await store.deliver(token, delivery(f"task-{token}"))
    await store.open("c", None, NOW + 50_000)
    await store.bind("a", "task-a", NOW + 50_000)
    assert await store.find("task-a") is not None


@IN_EVERY_STORE
async def test_binding_an_early_callback_wakes_who_waits_for_its_name(place: StorePlace) -> None:
    """Whoever was told the task's name may wait before its submitter has bound it."""
    here, there = place.store(), place.store()
    await there.open("a", None, NOW)
    await there.deliver("a", delivery())
    async with here.watch("task-1") as came:
        assert await here.find("task-1") is None
        await there.bind("a", "task-1", NOW)
        async with asyncio.timeout(SOON):
            while await here.find("task-1") is None:
                await came.wait()
                came.clear()


@IN_EVERY_STORE
async def test_what_is_too_old_is_forgotten(place: StorePlace) -> None:
    store = place.store(kept=100)
    await store.open("a", None, NOW)
    await store.bind("a", "task-1", NOW)
    await store.deliver("a", delivery())
    await store.open("b", None, NOW + 100)
    assert await store.find("task-1") is not None
    if place.kind == "redis":
        # Redis forgets by its own clock.
        connection = store._here().redis
        keys = [key async for key in connection.scan_iter(f"{store._prefix}*")]
        lives = [await connection.ttl(key) for key in keys]
        assert len(lives) == 3
        assert all(90 < life <= 100 for life in lives)
        return
    await store.open("c", None, NOW + 101)
    assert await store.find("task-1") is None
    assert await store.deliver("a", delivery()) is DeliveryStatus.UNKNOWN


@IN_EVERY_STORE
async def test_one_secret_for_all(place: StorePlace) -> None:
    secrets = await asyncio.gather(*(place.store().secret(f"secret {n}") for n in range(4)))
    assert len(set(secrets)) == 1
    assert await place.store().secret("another") == secrets[0]


def test_what_other_processes_write_is_looked_for_several_times_a_second() -> None:
    assert POLL_SECONDS <= 0.5


@IN_EVERY_STORE
async def test_who_waits_is_woken(place: StorePlace) -> None:
    here, there = place.store(), place.store()
    await here.open("a", None, NOW)
    await here.bind("a", "task-1", NOW)
    async with here.watch("task-1") as came:
        await there.deliver("a", delivery())
        async with asyncio.timeout(SOON):
            while await here.find("task-1") is None:
                await came.wait()
                came.clear()


async def test_who_waits_for_something_else_sleeps_on() -> None:
    subscribers = Subscribers()
    with (
        subscribers.watch("one") as one,
        subscribers.watch("other") as other,
        subscribers.watch("one") as two,
    ):
        subscribers.wake(["one", "nobody"])
        await asyncio.sleep(0)
        assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)
        subscribers.wake_all()
        await asyncio.sleep(0)
        assert other.is_set()


@IN_EVERY_STORE
async def test_every_waiter_of_a_name_is_woken_on_its_own_loop(place: StorePlace) -> None:
    """A store is used from several event loops at once, as in a thread beside a web server."""
    store = place.store()
    await store.open("a", None, NOW)
    await store.bind("a", "task-1", NOW)
    waiting, woken = threading.Event(), threading.Event()

    async def wait_elsewhere() -> None:
        async with store.watch("task-1") as event:
            waiting.set()
            await event.wait()
        woken.set()
        await store.aclose() if place.kind == "redis" else None

    thread = threading.Thread(target=lambda: asyncio.run(wait_elsewhere()))
    thread.start()
    await asyncio.to_thread(waiting.wait, SOON)
    async with store.watch("task-1") as event:
        await store.deliver("a", delivery())
        async with asyncio.timeout(SOON):
            await event.wait()
    assert await asyncio.to_thread(woken.wait, SOON)
    thread.join()


@IN_EVERY_STORE
async def test_a_closed_store_opens_again(place: StorePlace) -> None:
    store = place.store()
    await store.open("a", None, NOW)
    await store.bind("a", "task-1", NOW)
    async with store.watch("task-1"):
        pass
    await store.aclose()
    await store.aclose()
    assert await store.deliver("a", delivery()) is DeliveryStatus.FIRST
    assert await store.find("task-1") == delivery()


# --- Redis ------------------------------------------------------------------------------------


async def test_a_restart_of_redis_ends_no_wait(tmp_path: Path) -> None:
    port = free_port()
    with redis_server(port, str(tmp_path)) as url:
        store = RedisStore(url)
        watching = store.watch("a")
        event = await watching.__aenter__()
    with redis_server(port, str(tmp_path)):
        await store.open("a", "a", NOW)
        event.clear()
        await store.deliver("a", delivery("a"))
        async with asyncio.timeout(SOON):
            await event.wait()  # woken by the callback, or because listening began anew
        assert await store.find("a") is not None
        await watching.__aexit__(None, None, None)
        await store.aclose()


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.secret("a secret"),
        lambda store: store.open("a", None, NOW),
        lambda store: store.bind("a", "task-1", NOW),
        lambda store: store.deliver("a", delivery()),
        lambda store: store.find("task-1"),
    ],
    ids=["secret", "open", "bind", "deliver", "find"],
)
async def test_redis_that_is_down_is_an_error_of_ours(
    use: Callable[[RedisStore], Awaitable[object]], closed_port: int
) -> None:
    store = RedisStore(f"redis://user:password@127.0.0.1:{closed_port}/0")
    with pytest.raises(StoreUnavailable, match="restore the store") as caught:
        await use(store)
    assert "password" not in str(caught.value)
    await store.aclose()


async def test_redis_that_never_answers_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_module, "ANSWER_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match="restore the store"):
            await store.find("task-1")
        await store.aclose()


@pytest.mark.parametrize(("query", "seconds"), [("", 5), ("?socket_timeout=2", 2)])
async def test_who_listens_may_hear_nothing_for_hours(
    query: str, seconds: float, closed_port: int
) -> None:
    store = RedisStore(f"redis://127.0.0.1:{closed_port}/0{query}")
    connection = store._here()
    # redis-py before 8 takes a subscription's silence for that of the server.
    assert "socket_timeout" not in connection._listening.connection_kwargs
    assert connection.redis.connection_pool.connection_kwargs["socket_timeout"] == seconds
    await store.aclose()


async def test_a_result_that_redis_has_is_asked_for_while_it_is_down(closed_port: int) -> None:
    store = RedisStore(f"redis://127.0.0.1:{closed_port}/0")
    inbox = CallbackInbox("https://app.example.com", store=store)
    with pytest.raises(StoreUnavailable):
        await inbox.result("task-1", timeout=None)
    with pytest.raises(StoreUnavailable):
        await inbox.address_for_video()
    await inbox.aclose()


def test_a_bad_redis_url_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="the URL of the RedisStore"):
        RedisStore("http://127.0.0.1")


@IN_EVERY_STORE
async def test_what_is_kept_for_ever_is_kept(place: StorePlace) -> None:
    store = place.store(kept=float("inf"))
    assert await store.open("token", "task-1", NOW)
    assert await store.opened("task-1") == NOW


def test_the_stores_are_stores() -> None:
    stores: list[Store] = [MemoryStore(), SqliteStore("x"), RedisStore("redis://127.0.0.1")]
    assert len(stores) == 3


@pytest.mark.parametrize("kept", [math.inf, 1e300])
async def test_a_redis_store_keeps_without_an_end_if_asked(tmp_path: Path, kept: float) -> None:
    with redis_server(free_port(), str(tmp_path)) as url:
        store = RedisStore(url, kept=kept)
        await store.open("a", "a", NOW)
        await store.deliver("a", delivery("a"))
        assert await store.find("a") is not None
        await store.aclose()


async def test_a_store_that_processes_share_can_be_handed_to_one(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store", kept=math.inf)
    await store.open("a", "task-1", NOW)
    there = pickle.loads(pickle.dumps(store))
    assert await there.deliver("a", delivery()) is DeliveryStatus.FIRST
    assert await store.find("task-1") == delivery()
    await there.aclose()
    await store.aclose()
    redis = RedisStore("redis://127.0.0.1:6379/0", prefix="{mine}:", kept=5)
    [once, twice] = [redis, pickle.loads(pickle.dumps(redis))]
    assert (once._url, once._prefix, once._kept) == (twice._url, twice._prefix, twice._kept)


async def test_a_store_in_memory_says_which_ones_processes_share() -> None:
    with pytest.raises(TypeError, match=r"SqliteStore\(path\)"):
        pickle.dumps(MemoryStore())
