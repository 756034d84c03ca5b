"""What type-checkers see of the blocking client; never run."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from pathlib import Path
from typing import assert_type

from memories_async import (
    CallOptions,
    Caption,
    CaptionTask,
    Clip,
    Embedding,
    LibraryImage,
    Media,
    Outcome,
    Person,
    Progress,
    Results,
    Video,
)
from memories_async.sync import Memories


def told(progress: Progress) -> None:
    assert_type(progress.sent, int)


def calls(picture: Path, stream: AsyncIterable[bytes]) -> None:
    with Memories("key", caption_key="key", options=CallOptions(deadline=60)) as client:
        assert_type(client, Memories)
        caption = client.captions.image([picture, b"bytes"], "what", on_progress=told)
        assert_type(caption, Caption)
        assert_type(caption.text, str)
        film = Media(stream, name="film.mp4")
        alice = Person("Alice", "https://example.com/alice.png")
        assert_type(client.captions.video(film, "what", persons=[alice]), Caption)
        task = client.captions.submit_video(picture, "what", callback="https://example.com")
        assert_type(task, CaptionTask)
        assert_type(client.library.add_images(picture, tags=["a"]), Results[LibraryImage])
        assert_type(client.library.search_clips("VI1", picture, "what"), Results[Clip])
        assert_type(client.library.add_video(picture), Video)
        assert_type(client.library.wait_until_searchable("VI1"), Video)
        assert_type(client.embeddings.image(asset_id="re_1"), Embedding)
    assert_type(client.close(), None)


def batches(client: Memories, pictures: AsyncIterable[Path]) -> None:
    captions = client.captions.images([b"bytes", "path"], "what", ordered=True)
    assert_type(captions, Iterator[Outcome[Caption]])
    for outcome in captions:
        assert_type(outcome.unwrap(), Caption)
        assert_type(outcome.value, Caption | None)
    for embedded in client.embeddings.images(pictures):
        assert_type(embedded.unwrap(), Embedding)
