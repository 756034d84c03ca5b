"""Submissions in a life, whose captions come by callback: early, late, double, forged or never."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from urllib.parse import urlsplit

from aiohttp import web

from memories_async import CaptionTask, Memories, MemoriesError
from memories_async.callbacks import CallbackInbox, MemoryStore, aiohttp_app
from memories_async.emulator import Emulator
from memories_async.emulator.ledger import LedgerEntry
from tests.simulation.calls import MP4, echo
from tests.simulation.world import Clock, World

PORT = 15_000
SUBMISSIONS = 4
PATIENCE = 600.0


class CallbackLife:
    """One inbox in a web application, and the videos that are handed in for it."""

    def __init__(self, world: World, client: Memories, emulator: Emulator) -> None:
        self._world, self._client, self._emulator = world, client, emulator
        self._contents: set[str] = set()
        self._acknowledged: set[str] = set()
        self._waiting: dict[str, str] = {}

    async def run(self) -> None:
        """Submit and wait."""
        world = self._world
        inbox = CallbackInbox(
            f"http://127.0.0.1:{PORT}/memories", store=MemoryStore(), clock=Clock(world)
        )
        application = web.Application(middlewares=[self._count])
        application.add_subapp("/memories", aiohttp_app(inbox))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
        try:
            async with inbox:
                await asyncio.gather(*(self._one(inbox, number) for number in range(SUBMISSIONS)))
        finally:
            await runner.cleanup()

    @web.middleware
    async def _count(self, request: web.Request, handler: object) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)  # type: ignore[operator]
        if response.status == 200:
            self._acknowledged.add(request.path)
        return response

    async def _one(self, inbox: CallbackInbox, number: int) -> None:
        world = self._world
        content = MP4 + world.chance.randbytes(16) + bytes(5000)
        self._contents.add(hashlib.sha256(content).hexdigest())
        prompt = f"submission-{number}"
        await asyncio.sleep(world.chance.random() * 30)
        addresses: list[str] = []

        def send(url: str) -> Awaitable[CaptionTask]:
            addresses.append(url)
            return self._client.captions.submit_video(content, prompt, callback=url)

        try:
            task = await inbox.submit(send)
            world.tell(f"{prompt} is handed in")
            self._waiting[urlsplit(addresses[-1]).path] = prompt
            caption = await inbox.result(task, timeout=PATIENCE)
        except MemoriesError as error:
            world.tell(f"{prompt} ends: {type(error).__name__}")
        else:
            del self._waiting[urlsplit(addresses[-1]).path]
            world.tell(f"{prompt} is answered")
            world.check(caption.text == echo(prompt, content), f"{prompt} got another's caption")

    def saw(self, entry: LedgerEntry) -> bool:
        """Tell whether a request is one of these."""
        return any(file.sha256 in self._contents for file in entry.files)

    async def check(self) -> None:
        """Compare what was acknowledged with what was handed over."""
        lost = [prompt for path, prompt in self._waiting.items() if path in self._acknowledged]
        self._world.check(not lost, f"acknowledged, and never handed over: {lost}")
