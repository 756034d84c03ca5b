"""Four workers behind one address: one is killed, all are restarted, and no result is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import attrs
import pytest

from memories_async.emulator import CallbackFault, Emulator, Held
from tests.callbacks.conftest import free_port
from tests.callbacks.servers import (
    GUNICORN,
    GUNICORN_AIOHTTP,
    UVICORN_WORKERS,
    application,
    children,
    deleted_files,
)
from tests.emulator.conftest import KnownEngine, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TASKS = 200


@attrs.define
class Browser:
    """Submits, and waits for captions until they come, whatever becomes of its connections."""

    session: aiohttp.ClientSession
    prompts: dict[str, str] = attrs.field(factory=dict)
    submitted_at: dict[str, int] = attrs.field(factory=dict)
    answered_at: dict[str, int] = attrs.field(factory=dict)
    captions: dict[str, str] = attrs.field(factory=dict)

    async def submit(self, prompt: str) -> None:
        async with self.session.post("/submit", params={"prompt": prompt}) as response:
            assert response.status == 200, await response.text()
            task_id = await response.text()
        self.prompts[task_id] = prompt
        self.submitted_at[task_id] = int(response.headers["X-Worker"])

    async def wait(self, task_id: str) -> None:
        while task_id not in self.captions:
            try:
                async with self.session.get(f"/tasks/{task_id}") as response:
                    assert response.status in (200, 202), await response.text()
                    if response.status == 200:
                        self.captions[task_id] = await response.text()
                        self.answered_at[task_id] = int(response.headers["X-Worker"])
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (GUNICORN_AIOHTTP, "tests.callbacks.worker_app:aiohttp_application"),
        (GUNICORN, "tests.callbacks.worker_app:flask_and_notes"),
    ],
    ids=["aiohttp", "flask"],
)
async def test_nothing_is_lost(command: Sequence[str], name: str, tmp_path: Path) -> None:
    port = free_port()
    connector = aiohttp.TCPConnector(force_close=True)  # each request at whichever worker takes it
    async with (
        Emulator(KnownEngine()) as emulator,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session,
    ):
        held, posted = emulator.callbacks.held, emulator.callbacks.posted
        emulator.callbacks.add(CallbackFault(None, Held(), times=None))
        browser = Browser(session)

        async with application(command, name, port, tmp_path, emulator):
            submissions = asyncio.Semaphore(20)

            async def submit(number: int) -> None:
                async with submissions:
                    await browser.submit(f"What is {number}?")

            await asyncio.gather(*(submit(number) for number in range(TASKS)))
            await until(lambda: len(held) == TASKS)
            random.Random(6).shuffle(held)
            waits = [asyncio.create_task(browser.wait(task_id)) for task_id in browser.prompts]

            os.kill(next(iter(browser.submitted_at.values())), signal.SIGKILL)
            await asyncio.gather(*(emulator.callbacks.release(10) for _ in range(10)))
            assert [callback.status for callback in posted] == [200] * 100
            async with asyncio.timeout(120):
                await until(lambda: len(browser.captions) >= 100)

        assert len(browser.captions) == 100
        async with application(command, name, port, tmp_path, emulator):
            await asyncio.gather(*(emulator.callbacks.release(10) for _ in range(10)))
            assert [callback.status for callback in posted] == [200] * TASKS
            async with asyncio.timeout(120):
                await asyncio.gather(*waits)

        shown = {task_id: text.split(" [")[0] for task_id, text in browser.captions.items()}
        assert shown == browser.prompts
        assert emulator.ledger.billed() == TASKS
        # It was no one worker that did it all.
        assert len(set(browser.submitted_at.values())) > 1
        assert len(workers_that_received(tmp_path)) > 1
        before_the_restart = set(browser.submitted_at.values())
        assert not set(list(browser.answered_at.values())[-100:]) & before_the_restart


ROUNDS, EACH = 6, 6


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="reads /proc")
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (GUNICORN_AIOHTTP, "tests.callbacks.worker_app:aiohttp_application"),
        (UVICORN_WORKERS, "tests.callbacks.worker_app:fastapi_application"),
    ],
    ids=["gunicorn", "uvicorn"],
)
async def test_workers_that_end_take_nothing_with_them(
    command: Sequence[str], name: str, tmp_path: Path
) -> None:
    """In turn one worker is asked to end and one is killed; what was acknowledged is shown."""
    port = free_port()
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        Emulator(KnownEngine()) as emulator,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session,
        application(command, name, port, tmp_path, emulator) as server,
    ):
        emulator.callbacks.add(CallbackFault(None, Held(), times=None))
        browser, waits = Browser(session), []
        for number in range(ROUNDS):
            for task in range(EACH):
                await browser.submit(f"What is {number}-{task}?")
            new = list(browser.prompts)[-EACH:]
            waits += [asyncio.create_task(browser.wait(task_id)) for task_id in new]
            await until(lambda: len(emulator.callbacks.held) == EACH)
            victim = browser.submitted_at[new[0]]
            os.kill(victim, signal.SIGTERM if number % 2 == 0 else signal.SIGKILL)
            await asyncio.to_thread(_gone, victim)
            await emulator.callbacks.release(EACH)
            workers = await asyncio.to_thread(children, server.pid)
            assert [file for worker in workers for file in deleted_files(worker)] == []
        posted = emulator.callbacks.posted
        # Whoever is killed with a callback in hand has not acknowledged it.
        acknowledged = {str(posting.body["task_id"]) for posting in posted if posting.status == 200}
        assert len(acknowledged) >= ROUNDS * EACH - ROUNDS
        async with asyncio.timeout(120):
            await until(lambda: acknowledged <= set(browser.captions))
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _gone(process: int) -> None:
    """Wait until a process has ended, and the one that started it knows."""
    end = time.monotonic() + 120
    while os.path.exists(f"/proc/{process}") and time.monotonic() < end:
        time.sleep(0.01)


def workers_that_received(folder: Path) -> set[str]:
    return set((folder / "callbacks.db.received").read_text().split())
