"""How people write with the package; type-checkers must follow, and nothing here is ever run."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, Mapping
from pathlib import Path
from typing import Any, assert_never, assert_type

from memories_async import (
    CallOptions,
    Caption,
    Clip,
    Embedding,
    Failed,
    Media,
    Memories,
    Outcome,
    Person,
    Progress,
    Results,
    Succeeded,
    Vector,
    Video,
)
from memories_async.sync import Memories as BlockingMemories


async def narrowed_by_the_error(client: Memories, pictures: list[Path]) -> list[str]:
    texts: list[str] = []
    async for outcome in client.captions.images(pictures, "What?"):
        if outcome.error is None:
            assert_type(outcome.value, Caption)
            texts.append(outcome.value.text)
        else:
            assert_type(outcome.error, Exception)
            assert_type(outcome.value, None)
            texts.append(str(outcome.error))
        texts.append(outcome.value.text if outcome.error is None else str(outcome.error))
    return texts


def narrowed_by_an_early_return(outcome: Outcome[Caption]) -> str:
    if outcome.error is not None:
        return f"{outcome.source}: {outcome.error}"
    return outcome.value.text


def narrowed_by_match(outcome: Outcome[Embedding]) -> Vector | None:
    match outcome:
        case Succeeded(value=embedding):
            assert_type(embedding, Embedding)
            return embedding.vector
        case Failed(error=error):
            assert_type(error, Exception)
            return None
        case _:
            assert_never(outcome)


def narrowed_by_the_kind(outcome: Outcome[Caption]) -> Caption:
    if isinstance(outcome, Failed):
        raise outcome.error
    assert_type(outcome, Succeeded[Caption])
    return outcome.value


def blocking(client: BlockingMemories, pictures: list[bytes]) -> dict[int, Caption]:
    return {
        outcome.index: outcome.value
        for outcome in client.captions.images(pictures, "What?", ordered=True)
        if outcome.error is None
    }


def drawn(progress: Progress) -> None:
    if progress.fraction is not None:
        print(f"{progress.fraction:.0%}")


class Bar:
    def update(self, progress: Progress) -> int:
        return progress.sent


async def hooks_and_options(client: Memories, picture: Path) -> None:
    options = CallOptions(deadline=30, replay="safe")
    seen: list[int] = []
    await client.captions.image(picture, "What?", on_progress=drawn, options=options)
    await client.captions.image(picture, "What?", on_progress=Bar().update)
    await client.captions.image(picture, "What?", on_progress=lambda p: seen.append(p.sent))
    await client.captions.image(picture, "What?", on_progress=functools.partial(print, end=""))


async def literals(client: Memories, picture: bytes) -> None:
    await client.embeddings.image(picture, model="mobileclip")
    await client.library.search("a rabbit", by="audio", filtering_level="high")


async def what_is_natural(client: Memories, stream: AsyncIterable[bytes]) -> None:
    alice: Mapping[str, str] = {"name": "Alice", "url": "https://example.com/alice.png"}
    film = Media(stream, name="film.mp4")
    await client.captions.video(film, "Who?", persons=[alice, Person("Bob", alice["url"])])
    await client.captions.video(film, "Who?", persons=(alice,), reasoning_effort=3)


async def results(client: Memories, picture: bytes) -> None:
    clips = await client.library.search_clips("VI1", picture, "red")
    assert_type(clips, Results[Clip])
    assert_type(clips[0], Clip)
    assert_type(clips[:2], Results[Clip])
    assert_type([clip.score for clip in clips], list[float])
    assert_type(clips.total, int | None)
    best = max(clips, key=lambda clip: clip.score, default=None)
    assert_type(best, Clip | None)
    assert_type(clips.to_table(), dict[str, list[Any]])
    embedding = await client.embeddings.image(picture)
    assert_type(embedding.vector[0], float)
    assert_type(embedding.vector[:2], Vector)
    assert_type(embedding.vector.tolist(), list[float])
    assert_type(Embedding.from_json(embedding.to_json()), Embedding)
    assert_type(dict(embedding), dict[str, object])
    videos = [video async for video in client.library.videos() if "zoo" in video.tags]
    assert_type(videos, list[Video])
