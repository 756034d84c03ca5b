"""Batches of embeddings, and vectors that are not as many as texts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from memories_async import Memories, UnexpectedShape
from tests.cases import JPEG, PNG, v2
from tests.embeddings.cases import EMBEDDING_ANSWER, VECTOR
from tests.recorder import Recorder, parts_of

pytestmark = pytest.mark.anyio


async def test_embeddings_take_an_async_iterable(recorder: Recorder, client: Memories) -> None:
    async def pictures() -> AsyncIterator[bytes]:
        yield PNG
        yield JPEG

    recorder.answer(EMBEDDING_ANSWER)
    outcomes = [
        outcome
        async for outcome in client.embeddings.images(
            pictures(), model="mobileclip", concurrency=1, ordered=True
        )
    ]
    assert [outcome.unwrap().vector for outcome in outcomes] == [VECTOR, VECTOR]
    assert [outcome.unwrap().model for outcome in outcomes] == ["mobileclip", "mobileclip"]
    sent = [
        parts_of(request.headers["Content-Type"], request.body) for request in recorder.requests
    ]
    assert [parts[1].content for parts in sent] == [PNG, JPEG]


async def test_vectors_must_be_as_many_as_texts(recorder: Recorder, client: Memories) -> None:
    recorder.answer(v2('[{"embedding":[1]}]'))
    with pytest.raises(UnexpectedShape, match="1 vectors came for 2 texts"):
        await client.embeddings.text(["one", "two"])
