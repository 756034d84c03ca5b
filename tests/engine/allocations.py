"""What a small call allocates: ``python -m tests.engine.allocations`` prints it as JSON.

A process of its own, in which nothing listens: an answer is handed to the connection when it is
wanted. So the blocks that Python's allocator counts are the client's alone, and the same each time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from types import FrameType
from typing import Any
from unittest.mock import patch

import aiohttp
from aiohttp.client_proto import ResponseHandler

from memories_async import Memories
from tests.engine.raw_server import answer

ANSWER = answer({"embedding": [0.5, 0.25]})
CALLS = 50


class Line(asyncio.Transport):
    """A connection whose peer keeps still until it is told to answer.

    Args:
        protocol: The client's end of it.
        asked: Where it goes once a request was written.
    """

    def __init__(self, protocol: ResponseHandler, asked: list[ResponseHandler]) -> None:
        super().__init__()
        self._protocol = protocol
        self._asked = asked

    def write(self, data: object) -> None:
        self._asked.append(self._protocol)

    def writelines(self, pieces: object) -> None:
        self._asked.append(self._protocol)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self._protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def measured() -> dict[str, float]:
    """Return blocks of memory per call: held while its answer is waited for, and made in all."""
    asked: list[ResponseHandler] = []

    async def connected(connector: aiohttp.TCPConnector, *_: object) -> ResponseHandler:
        protocol = ResponseHandler(asyncio.get_running_loop())
        protocol.connection_made(Line(protocol, asked))
        return protocol

    async def begin(client: Memories) -> list[asyncio.Task[Any]]:
        calls = [
            asyncio.create_task(client.embeddings.image(asset_id="re_1")) for _ in range(CALLS)
        ]
        # Rounds of the loop are what is waited for: nothing else is under way.
        while len(asked) < CALLS and not any(call.done() for call in calls):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return calls

    async def end(calls: list[asyncio.Task[Any]]) -> None:
        for protocol in asked:
            protocol.data_received(ANSWER)
        asked.clear()
        await asyncio.gather(*calls)

    made = last = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made, last
        made += max(sys.getallocatedblocks() - last, 0)
        last = sys.getallocatedblocks()

    with patch.object(aiohttp.TCPConnector, "_create_connection", connected):
        async with Memories("sk-0123456789abcdef", base_url="http://127.0.0.1:1") as client:
            for _ in range(3):  # what is made once has been made
                await end(await begin(client))
            gc.collect()
            gc.disable()
            before = sys.getallocatedblocks()
            calls = await begin(client)
            held = sys.getallocatedblocks() - before
            await end(calls)
            last = sys.getallocatedblocks()
            sys.setprofile(count)
            await end(await begin(client))
            sys.setprofile(None)
    return {"held": held / CALLS, "made": made / CALLS}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured())))
