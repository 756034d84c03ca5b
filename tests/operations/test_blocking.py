"""The whole table once more, through the blocking twin: the same requests, the same results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from memories_async.sync import Memories
from tests.operations.cases import CAPTION_KEY, GENERAL_KEY, Case
from tests.operations.recorder import Recorder
from tests.operations.test_refusals import REFUSALS, Refusal
from tests.operations.test_requests import EACH_CASE, check_request, check_result


@pytest.fixture
def beside() -> Iterator[Recorder]:
    """A recording server in another thread: the test itself blocks."""

    async def start() -> Recorder:
        return await Recorder().__aenter__()

    with start_blocking_portal() as portal:
        recorder = portal.call(start)
        yield recorder
        portal.call(recorder.__aexit__, None, None, None)


@EACH_CASE
def test_the_request_and_the_result(case: Case, beside: Recorder, folder: Path) -> None:
    beside.answer(case.answer)
    with (
        Memories(GENERAL_KEY, caption_key=CAPTION_KEY, base_url=beside.url) as client,
        ExitStack() as files,
    ):
        args, kwargs = case.arguments(folder, files)
        result = attrgetter(case.call)(client)(*args, **kwargs)
    [request] = beside.requests
    check_request(request, case)
    check_result(result, case)


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.call}: {row.says[0]}")
def test_refused_before_anything_is_sent(row: Refusal) -> None:
    nowhere = Memories(GENERAL_KEY, caption_key=CAPTION_KEY, base_url="http://127.0.0.1:1")
    with nowhere as client, pytest.raises(row.error) as caught:
        attrgetter(row.call)(client)(*row.args, **row.kwargs)
    for words in row.says:
        assert words in str(caught.value)
