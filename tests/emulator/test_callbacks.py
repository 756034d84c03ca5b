"""Callbacks come early, late, twice, in another order, not at all, or from somebody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import aiohttp
import pytest

from memories_async import ConfigurationError
from memories_async.emulator import (
    CallbackFault,
    Dropped,
    Early,
    Emulator,
    Forged,
    Held,
    InjectedFault,
    Late,
    Overtaken,
    Posted,
    Reason,
    Repeated,
    Rewritten,
)
from memories_async.emulator.callbacks import CALLING_BACK
from memories_async.emulator.handlers.validation import FIELDS
from tests.emulator.conftest import (
    MP4,
    KnownEngine,
    Site,
    add_video,
    post,
    req_and_files,
    session_for,
    until,
)

pytestmark = pytest.mark.anyio


async def submit(client: aiohttp.ClientSession, site: Site, prompt: str = "u") -> str:
    """Submit a video; return the task."""
    url = f"{site.url}/callback"
    req = {"user_prompt": prompt, "system_prompt": "s", "callback": url}
    body = req_and_files(req, ("files", "v.mp4", MP4, "video/mp4"))
    answer = await post(client, "/v1/understand/uploadFile", body)
    return str(answer["data"]["task_id"])


async def posted(emulator: Emulator, count: int) -> list[Posted]:
    await until(lambda: len(emulator.callbacks.posted) >= count)
    assert len(emulator.callbacks.posted) == count
    return emulator.callbacks.posted


async def test_what_was_posted_is_known(
    client: aiohttp.ClientSession, emulator: Emulator, site: Site
) -> None:
    task_id = await submit(client, site)
    [callback] = await posted(emulator, 1)
    assert callback.url == f"{site.url}/callback"
    assert callback.body["task_id"] == task_id
    assert callback.status == 200
    assert await site.callbacks.get() == ("/callback", callback.body)


async def test_early(client: aiohttp.ClientSession, emulator: Emulator, site: Site) -> None:
    emulator.callbacks.add(CallbackFault("captions.submit_video", Early()))
    task_id = await submit(client, site)
    _, body = site.callbacks.get_nowait()
    assert body["task_id"] == task_id


async def test_late(engine: KnownEngine, site: Site) -> None:
    slept: list[float] = []
    go_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await go_on.wait()

    async with Emulator(engine, sleep=sleep) as emulator, session_for(emulator) as client:
        emulator.callbacks.add(CallbackFault(None, Late(5.0)))
        late = await submit(client, site)
        prompt = await submit(client, site)
        await posted(emulator, 1)
        go_on.set()
        bodies = [callback.body for callback in await posted(emulator, 2)]
    assert [body["task_id"] for body in bodies] == [prompt, late]
    assert slept == [5.0]


async def test_overtaken(client: aiohttp.ClientSession, emulator: Emulator, site: Site) -> None:
    emulator.callbacks.add(CallbackFault(None, Overtaken()))
    tasks = [await submit(client, site), await submit(client, site)]
    bodies = [callback.body for callback in await posted(emulator, 2)]
    assert [body["task_id"] for body in bodies] == tasks[::-1]


async def test_held_and_released_in_any_order(
    client: aiohttp.ClientSession, emulator: Emulator, site: Site
) -> None:
    emulator.callbacks.add(CallbackFault(None, Held(), times=None))
    tasks = []
    for number in range(3):
        tasks.append(await submit(client, site))
        await until(lambda count=number + 1: len(emulator.callbacks.held) == count)
    emulator.callbacks.held.reverse()
    await emulator.callbacks.release(1)
    await posted(emulator, 1)
    await emulator.callbacks.release()
    bodies = [callback.body for callback in await posted(emulator, 3)]
    assert [body["task_id"] for body in bodies] == tasks[::-1]


async def test_repeated(client: aiohttp.ClientSession, emulator: Emulator, site: Site) -> None:
    emulator.callbacks.add(
        CallbackFault(None, Repeated()), CallbackFault(None, Repeated(2, {"x": 1}), nth=2)
    )
    await submit(client, site)
    first, again = await posted(emulator, 2)
    assert first == again
    await submit(client, site)
    assert [callback.body for callback in (await posted(emulator, 5))[3:]] == [{"x": 1}] * 2


async def test_rewritten(client: aiohttp.ClientSession, emulator: Emulator, site: Site) -> None:
    emulator.callbacks.add(CallbackFault(None, Rewritten(lambda body: {**body, "status": 7})))
    task_id = await submit(client, site)
    _, body = await site.callbacks.get()
    assert (body["task_id"], body["status"]) == (task_id, 7)


async def test_forged(client: aiohttp.ClientSession, emulator: Emulator, site: Site) -> None:
    emulator.callbacks.add(
        CallbackFault(None, Forged()),
        CallbackFault(None, Forged({"evil": True}, guessed=False), nth=2),
    )
    await submit(client, site)
    guessed, real = await posted(emulator, 2)
    assert guessed.url == f"{site.url}/callbacA"
    assert guessed.body == real.body
    await submit(client, site)
    leaked = (await posted(emulator, 4))[2]
    assert (leaked.url, leaked.body) == (f"{site.url}/callback", {"evil": True})


async def test_dropped(client: aiohttp.ClientSession, emulator: Emulator, site: Site) -> None:
    emulator.callbacks.add(CallbackFault(None, Dropped(), nth=2, times=2))
    tasks = [await submit(client, site) for _ in range(4)]
    bodies = [callback.body for callback in await posted(emulator, 2)]
    assert {body["task_id"] for body in bodies} == {tasks[0], tasks[3]}
    emulator.callbacks.clear()
    await submit(client, site)
    await posted(emulator, 3)


async def test_faults_are_for_the_call_that_they_name(
    client: aiohttp.ClientSession, emulator: Emulator, site: Site
) -> None:
    emulator.callbacks.add(CallbackFault("library.add_video", Dropped()))
    await add_video(client, callback=f"{site.url}/indexed")
    video_no = await add_video(client, callback=f"{site.url}/indexed")
    [callback] = await posted(emulator, 1)
    assert callback.body == {"videoNo": video_no, "status": "PARSE"}


async def test_what_nobody_took_has_no_status(
    client: aiohttp.ClientSession, emulator: Emulator, site: Site, closed_port: int
) -> None:
    site.url = f"http://127.0.0.1:{closed_port}"
    await submit(client, site)
    [callback] = await posted(emulator, 1)
    assert callback.status is None


def test_a_fault_names_a_call() -> None:
    with pytest.raises(ConfigurationError, match=r"is called 'captions\.sing'; the calls are"):
        CallbackFault("captions.sing", Dropped())
    with pytest.raises(ConfigurationError, match=r"No operation with a callback is called"):
        CallbackFault("captions.image", Dropped())


def test_every_operation_with_a_callback_may_have_a_fault() -> None:
    taking = {
        name for name, fields in FIELDS.items() if any(field.name == "callback" for field in fields)
    }
    assert {row.name for row in CALLING_BACK} == taking


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: CallbackFault(None, "dropped"), "effect is 'dropped'; Early or Late"),
        (lambda: CallbackFault(None, Dropped), "effect is <class"),
        (lambda: CallbackFault(None, Dropped(), nth=0), "nth is 0; a whole number from 1"),
        (lambda: CallbackFault(None, Dropped(), times=0), "times is 0; a whole number from 1"),
        (lambda: Late(-1), "a number of seconds from 0 is wanted"),
        (lambda: Repeated(0), "a whole number from 1 is wanted"),
        (lambda: Rewritten({"status": -1}), "a function is wanted"),
        (lambda: Forged(None, "no"), "True or False is wanted"),
    ],
)
def test_what_could_never_go_wrong_is_refused(make: Callable[[], object], wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(wanted)):
        make()


async def _async_function(url: str, body: bytes) -> int:
    return 200


@pytest.mark.parametrize(
    ("method", "given", "wanted"),
    [
        ("add", InjectedFault(None, Reason.KEY), "CallbackFault(...) is wanted"),
        ("deliver_to", "x", "a function is wanted"),
        ("deliver_to", _async_function, "which is never awaited"),
        ("deliver_to_wsgi", _async_function, "which is never awaited"),
        ("deliver_to_asgi", None, "an async function is wanted"),
    ],
)
async def test_what_callbacks_are_given_is_checked_at_once(
    emulator: Emulator, method: str, given: object, wanted: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(wanted)):
        getattr(emulator.callbacks, method)(given)
