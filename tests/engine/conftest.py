"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from memories_async._engine.body.budget import UploadBudget
from tests.engine.raw_server import Conversation, RawServer, answer


@pytest.fixture
def budget() -> Iterator[UploadBudget]:
    budget = UploadBudget()
    yield budget
    budget.close()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Answer every request with what several kinds of call can read."""

    async def reply(conversation: Conversation) -> None:
        while True:
            await conversation.request()
            await conversation.send(
                answer({"video_no": "VI1", "status": "PARSE", "text": "A cat."})
            )

    async with RawServer(reply) as server:
        yield server
