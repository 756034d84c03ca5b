"""Submissions in a life, whose captions come by callback: early, late, double, forged or never."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from memories_async import (
    CallbackTimeout,
    CaptionTask,
    Memories,
    MemoriesError,
    StoreUnavailable,
    TaskFailed,
)
from memories_async.callbacks import CallbackInbox, MemoryStore, aiohttp_app
from memories_async.callbacks.responses import CallbackResponse
from memories_async.callbacks.stores.protocol import Delivery, DeliveryStatus
from memories_async.callbacks.tokens import last_segment
from memories_async.emulator import Emulator
from memories_async.emulator.callbacks import caption_done
from tests.simulation import draws
from tests.simulation.calls import MP4, digest, echo
from tests.simulation.invariants import Accounts, Fate, Request, fate_of
from tests.simulation.world import Clock, World

PORT = 15_000
SUBMISSIONS = 4
PATIENCE = 600.0


class _FailingStore(MemoryStore):
    """A store that cannot be reached at drawn moments, and is asked by others all the while."""

    def __init__(self, chance: random.Random, often: float) -> None:
        super().__init__()
        self._chance, self._often = chance, often

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        await asyncio.sleep(self._chance.random() * 0.01)
        if self._chance.random() < self._often:
            raise StoreUnavailable("the store cannot be reached")
        return await super().deliver(token, delivery)


class _WatchedInbox(CallbackInbox):
    """An inbox that tells what it acknowledges."""

    acknowledges: Callable[[str, bytes], None]

    async def receive(
        self,
        path: str,
        body: bytes | Callable[[], Awaitable[bytes]],
        *,
        peer: str | None = None,
    ) -> CallbackResponse:
        content = b""

        async def read() -> bytes:
            nonlocal content
            content = body if isinstance(body, bytes) else await body()
            return content

        response = await super().receive(path, read, peer=peer)
        if response.status == 200:
            self.acknowledges(path, content)
        return response


class CallbackLife:
    """One inbox in a web application, and the videos that are handed in for it."""

    def __init__(
        self, world: World, client: Memories, accounts: Accounts, emulator: Emulator
    ) -> None:
        self._world, self._client, self._accounts = world, client, accounts
        self._emulator = emulator
        self._chance = world.draw("callbacks")
        self._acknowledged: set[str] = set()
        self._waiting: dict[str, str] = {}
        """What is handed in and not handed over, by the last part of its address."""
        self._requests: dict[str, Request] = {}
        self._given_up: list[tuple[str, CaptionTask, str, str]] = []
        self._bound: set[str] = set()
        """The addresses of the tasks that are known."""

    async def run(self) -> None:
        """Submit and wait."""
        world, chance = self._world, self._chance
        store = _FailingStore(chance, chance.choice([0.0, 0.0, 0.3]))
        inbox = _WatchedInbox(f"http://127.0.0.1:{PORT}/memories", store=store, clock=Clock(world))
        inbox.acknowledges = self._acknowledges
        self._emulator.callbacks.add(*draws.callback_faults(chance, 2 * SUBMISSIONS))
        application = web.Application()
        application.add_subapp("/memories", aiohttp_app(inbox))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
        try:
            async with inbox:
                stranger = asyncio.create_task(self._forge(inbox))
                await asyncio.gather(*(self._one(inbox, number) for number in range(SUBMISSIONS)))
                await stranger
                for address, task, prompt, expected in self._given_up:
                    if address in self._acknowledged:
                        self._waiting[address] = prompt
                        await self._hand_over(inbox, task, address, prompt, expected)
        finally:
            await runner.cleanup()

    def _acknowledges(self, path: str, body: bytes) -> None:
        address = last_segment(path)
        if b"forged" not in body and b"another's" not in body:
            self._acknowledged.add(address)
            return
        # Until a submission's task is known, which is never if its answer was lost, nobody can
        # tell whose a callback at its own address is: it is kept, and handed to nobody.
        early = address in self._requests and address not in self._bound
        if not early:
            self._world.broke("a callback that names no task of ours was acknowledged")

    async def _forge(self, inbox: CallbackInbox) -> None:
        """Post to addresses that look like ours, and to ours once they have been answered."""
        for _ in range(10):
            await asyncio.sleep(self._chance.random() * 20)
            known = sorted(self._requests)
            segment = (
                self._chance.choice(known) if known else "caption-" + "A" * 22 + "." + "B" * 43
            )
            task = f"task-{self._chance.randrange(1, 5)}"
            body = orjson.dumps(caption_done(task, "forged", {}))
            token, _, signature = segment.partition(".")
            response = await inbox.receive(f"/memories/{token}.{signature[::-1]}", body)
            wrong = response.status == 200
            self._world.check(not wrong, "a callback at a guessed address was acknowledged")

    async def _one(self, inbox: CallbackInbox, number: int) -> None:
        world, chance = self._world, self._world.draw(f"submission-{number}")
        content = MP4 + chance.randbytes(16) + bytes(5000)
        prompt = f"submission-{number}"
        request = Request(prompt, frozenset([digest(content)]))
        self._accounts.ask(request)
        key = prompt if chance.random() < 0.5 else None
        await asyncio.sleep(chance.random() * 30)
        addresses: list[str] = []

        def send(url: str) -> Awaitable[CaptionTask]:
            addresses.append(last_segment(url))
            self._requests[addresses[-1]] = request
            return self._client.captions.submit_video(content, prompt, callback=url)

        submissions = [inbox.submit(send, key=key) for _ in range(1 if key is None else 2)]
        ended = await asyncio.gather(*submissions, return_exceptions=True)
        errors = [error for error in ended if isinstance(error, BaseException)]
        tasks = [task for task in ended if isinstance(task, CaptionTask)]
        world.check(
            all(isinstance(error, MemoriesError) for error in errors),
            f"{prompt}: not an error of ours: {errors}",
        )
        fates = {fate_of(error) for error in errors} | ({Fate.ANSWERED} if tasks else set())
        # A second submission may be refused because of what the first one came to.
        request.fate = next(fate for fate in _BY_KNOWLEDGE if fate in fates)
        if not tasks:
            world.tell(f"{prompt} ends: {[type(error).__name__ for error in errors]}")
            return
        world.check(len({task.task_id for task in tasks}) == 1, f"{prompt} is two tasks")
        world.tell(f"{prompt} is handed in")
        self._waiting[addresses[-1]] = prompt
        self._bound.add(addresses[-1])
        await self._take(inbox, tasks[0], addresses[-1], prompt, echo(prompt, content))

    async def _take(
        self, inbox: CallbackInbox, task: CaptionTask, address: str, prompt: str, expected: str
    ) -> None:
        chance = self._world.draw(f"{prompt} is waited for")
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 100)
            if address in self._acknowledged:  # whoever has seen it by now says something else
                body = orjson.dumps(caption_done(task.task_id, "rewritten", {}))
                await inbox.receive(f"/memories/{address}", body)
        await self._hand_over(inbox, task, address, prompt, expected)

    async def _hand_over(
        self, inbox: CallbackInbox, task: CaptionTask, address: str, prompt: str, expected: str
    ) -> None:
        world = self._world
        try:
            caption = await inbox.result(task, timeout=PATIENCE)
        except MemoriesError as error:
            world.tell(f"{prompt} ends: {type(error).__name__}")
            if isinstance(error, TaskFailed):
                del self._waiting[address]
            elif isinstance(error, CallbackTimeout) and address not in self._acknowledged:
                del self._waiting[address]  # what comes later is there for whoever asks again
                self._given_up.append((address, task, prompt, expected))
        else:
            del self._waiting[address]
            world.tell(f"{prompt} is answered")
            world.check(caption.text == expected, f"{prompt} got another's caption")

    async def check(self) -> None:
        """Compare what was acknowledged with what was handed over."""
        lost = [prompt for path, prompt in self._waiting.items() if path in self._acknowledged]
        self._world.check(not lost, f"acknowledged, and never handed over: {lost}")


_BY_KNOWLEDGE = (Fate.ANSWERED, Fate.TOLD, Fate.REFUSED)
