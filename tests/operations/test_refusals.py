"""What is refused before the wire: each call's own arguments, and what the message must say."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import attrs
import pytest

from memories_async import (
    ConfigurationError,
    MediaError,
    MediaTooLarge,
    Memories,
    MemoriesError,
    Person,
    UnsupportedMedia,
)
from tests.operations.cases import GENERAL_KEY, PNG
from tests.operations.recorder import Recorder

pytestmark = pytest.mark.anyio

URL = "https://example.com/a.png"
FILM = "https://example.com/a.mp4"
BACK: dict[str, Any] = {"callback": "https://yourserver.com/callback"}
ALICE = Person("Alice", "https://example.com/alice.jpg")


@attrs.frozen
class Refusal:
    """A call, the exception it must raise and words of its message."""

    call: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    error: type[MemoriesError]
    says: tuple[str, ...]


def refusal(
    call: str,
    *args: object,
    says: str | tuple[str, ...],
    error: type[MemoriesError] = ConfigurationError,
    **kwargs: object,
) -> Refusal:
    return Refusal(call, args, kwargs, error, (says,) if isinstance(says, str) else says)


REFUSALS = (
    refusal("captions.image", URL, "", says="the prompt is empty"),
    refusal("captions.image", URL, " \n", says="the prompt is empty"),
    refusal("captions.image", URL, "What?", system_prompt=" ", says="the system_prompt is empty"),
    refusal("captions.image", [], "What?", says="no image given"),
    refusal("captions.image", [URL, PNG], "What?", says="not both"),
    refusal("captions.image", URL, "What?", as_base64=True, says="one local image"),
    refusal("captions.image", [PNG, PNG], "What?", as_base64=True, says="one local image"),
    refusal("captions.image", 7, "What?", says=("source is 7", "a path, bytes")),
    *(
        refusal("captions.image", URL, "What?", reasoning_effort=effort, says="reasoning_effort")
        for effort in (0, 11, -2, "high", "1.0", "", True)
    ),
    refusal("captions.image", "https://", "What?", says="image URL must be an http(s) URL"),
    refusal("captions.image", "https://example.com/a b.png", "What?", says="spaces or control"),
    refusal("captions.image", "http://x\r\ny/", "What?", says="control characters"),
    refusal("captions.image", "https://me:secret@example.com/", "What?", says="user name"),
    refusal("captions.image", "https://[::1/a.png", "What?", says="image URL is not a URL"),
    refusal("captions.video", FILM, "", says="the prompt is empty"),
    refusal("captions.video", FILM, "What?", system_prompt="", says="the system_prompt is empty"),
    refusal("captions.video", FILM, "Who?", persons=[ALICE] * 6, says=("persons: 6", "limit is 5")),
    refusal("captions.video", FILM, "Who?", persons=[ALICE, Person("", URL)], says="persons[1]"),
    refusal(
        "captions.video", FILM, "Who?", persons=[Person("A", "alice.jpg")], says="persons[0].url"
    ),
    refusal("captions.submit_video", FILM, "What?", callback="ftp://a/b", says="callback must be"),
    refusal("captions.submit_video", FILM, "What?", callback="/back", says="callback must be"),
    refusal("captions.submit_video", FILM, "", **BACK, says="the prompt is empty"),
    refusal("library.add_images", [], says="no image given"),
    refusal("library.add_images", [PNG], tags=["t"] * 51, says=("tags: 51", "limit is 50")),
    refusal("library.add_images", [PNG], tags="outdoor", says="not one text"),
    refusal(
        "library.add_images",
        [PNG],
        camera_model="c" * 201,
        says=("camera_model has 201 characters", "limit is 200"),
    ),
    refusal("library.add_images", [PNG], latitude=90.1, says="latitude must be between -90 and 90"),
    refusal("library.add_images", [PNG], longitude=-180.1, says="longitude must be between"),
    refusal("library.add_images", [PNG], latitude=float("nan"), says="latitude must be between"),
    refusal("library.add_images", [PNG], datetime_taken="2025-09-07", says="yyyy-MM-dd HH:mm:ss"),
    refusal("library.search_clips", "", PNG, "red", says="video_no is empty"),
    refusal("library.search_clips", "VI1", PNG, " ", says="prompt is empty"),
    refusal("library.add_video", "https://example.com/a b.mp4", says="spaces or control"),
    refusal("library.video", "", says="video_no is empty"),
    refusal("embeddings.image", says="either an image or an asset_id"),
    refusal("embeddings.image", PNG, asset_id="re_1", says="either an image or an asset_id"),
    refusal("embeddings.image", asset_id=" ", says="asset_id is empty"),
    refusal("embeddings.image", PNG, model="", says="model is empty"),
    refusal("embeddings.image", URL, says="not a URL"),
    # URLs where only local images are taken
    refusal("library.add_images", [PNG, URL], says=(URL, "is a URL"), error=MediaError),
    refusal("library.search_clips", "VI1", URL, "red", says="is a URL", error=MediaError),
    # media
    refusal("captions.image", b"GIF89a", "What?", says=".png", error=UnsupportedMedia),
    refusal("captions.image", b"", "What?", says="is empty", error=MediaError),
    refusal("captions.image", b"GIF89a", "W", as_base64=True, says=".png", error=UnsupportedMedia),
    refusal("captions.video", PNG, "What?", says="image/png", error=UnsupportedMedia),
    refusal("captions.submit_video", PNG, "W", **BACK, says="image/png", error=UnsupportedMedia),
    refusal("library.add_images", b"II*\0", says="image/tiff", error=UnsupportedMedia),
    refusal(
        "library.add_images",
        b"BM" + bytes(20 << 20),
        says=("20,971,522 bytes", "limit for a library image is 20 MB"),
        error=MediaTooLarge,
    ),
    refusal(
        "library.search_clips",
        "VI1",
        b"BM" + bytes(20 << 20),
        "red",
        says="limit for a query image is 20 MB",
        error=MediaTooLarge,
    ),
    refusal("library.add_video", b"FLV\x01", says="video/x-flv", error=UnsupportedMedia),
    refusal("embeddings.image", b"\0\0\x01\xba", says="video/mpeg", error=UnsupportedMedia),
)


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.call}: {row.says[0]}")
async def test_refused_before_anything_is_sent(
    row: Refusal, recorder: Recorder, client: Memories
) -> None:
    with pytest.raises(row.error) as caught:
        await attrgetter(row.call)(client)(*row.args, **row.kwargs)
    for words in row.says:
        assert words in str(caught.value)
    assert recorder.requests == []


async def test_a_batch_names_every_bad_file(
    recorder: Recorder, client: Memories, folder: Path
) -> None:
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not a picture")
    (folder / "fake.png").write_text("not a picture either")
    names = ("photo1.jpg", "empty.png", "notes.txt", "fake.png", "missing.png")
    with pytest.raises(MediaError) as caught:
        await client.library.add_images([folder / name for name in names])
    assert len(caught.value.problems) == 4
    assert "4 of 5 files cannot be sent" in str(caught.value)
    for name in names[1:]:
        assert str(folder / name) in str(caught.value)
    assert "photo1.jpg" not in str(caught.value)
    assert recorder.requests == []


async def test_fifty_tags_and_two_hundred_characters_are_sent(
    recorder: Recorder, client: Memories
) -> None:
    recorder.answer('{"code":"0000","data":[{"id":1}]}')
    tags = [f"tag-{number}" for number in range(50)]
    await client.library.add_images(PNG, tags=tags, camera_model="c" * 200)
    assert len(recorder.requests) == 1


async def test_captions_need_the_captioning_key_and_nothing_else_does(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_CAPTION_KEY", raising=False)
    recorder.answer('{"code":200,"data":{"embedding":[1.0]}}')
    async with Memories(GENERAL_KEY, base_url=recorder.url) as client:
        for source in (URL, "/no/such/file.png"):
            with pytest.raises(ConfigurationError, match="pass caption_key or set MEMORIES_CAPT"):
                await client.captions.image(source, "What?")
        assert recorder.requests == []
        assert (await client.embeddings.image(PNG)).vector == [1.0]


async def test_a_caption_needs_no_general_key(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_API_KEY", raising=False)
    recorder.answer('{"code":0,"data":{"text":"A cat."}}')
    async with Memories(caption_key="caption", base_url=recorder.url) as client:
        assert (await client.captions.image(URL, "What?")).text == "A cat."
        with pytest.raises(ConfigurationError, match="pass api_key or set MEMORIES_API_KEY"):
            await client.library.add_images(PNG)
