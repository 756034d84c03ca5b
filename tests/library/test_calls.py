"""Uploads that name every bad file, and answers with too few ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from memories_async import ConfigurationError, MediaError, Memories, UnexpectedShape
from tests.cases import JPEG, PNG, v1
from tests.recorder import Recorder

pytestmark = pytest.mark.anyio


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


class BrokenText(str):
    """A subclass whose own methods fail, as those of a lazily translated text may."""

    __slots__ = ()

    def strip(self, *_: object) -> str:
        raise ZeroDivisionError

    isascii = encode = lower = strip  # type: ignore[assignment]


async def test_texts_of_a_class_of_their_own_are_paths(
    recorder: Recorder, client: Memories, folder: Path
) -> None:
    recorder.answer(v1('[{"id":"1"},{"id":"2"}]'))
    path = BrokenText(folder / "photo1.jpg")
    assert len(await client.library.add_images([path, PNG])) == 2
    assert len(await client.library.add_images(source for source in (path, PNG))) == 2
    with pytest.raises(ConfigurationError, match=r"sources\[1\] is empty"):
        await client.library.add_images([PNG, BrokenText("")])
    assert len(recorder.requests) == 2


async def test_fifty_tags_and_two_hundred_characters_are_sent(
    recorder: Recorder, client: Memories
) -> None:
    recorder.answer('{"code":"0000","data":[{"id":1}]}')
    tags = [f"tag-{number}" for number in range(50)]
    await client.library.add_images(PNG, tags=tags, camera_model="c" * 200)
    assert len(recorder.requests) == 1


async def test_fewer_ids_than_images_are_an_error_that_keeps_them(
    recorder: Recorder, client: Memories
) -> None:
    # The page: "in the same order as the files"; with one missing, which is whose is unknown.
    recorder.answer(v1('[{"id":"568102998803353601"}]'))
    with pytest.raises(UnexpectedShape, match="1 ids came for 2 images") as caught:
        await client.library.add_images([PNG, JPEG])
    assert [image.id for image in caught.value.answer] == [568102998803353601]
    assert caught.value.attempts == 1


@pytest.mark.parametrize("data", ["null", "{}", '{"videos":null}', "[]", '{"results":null}'])
async def test_what_found_nothing_is_an_empty_result(
    data: str, recorder: Recorder, client: Memories
) -> None:
    # Paid for all the same; official clients write ``envelope.get("data") or []``.
    recorder.answer(v1(data))
    library = client.library
    assert await library.search("a rabbit") == []
    assert await library.search_clips("VI1", PNG, "red") == []
    assert await library.search_similar(PNG) == []
    assert [video async for video in library.videos()] == []
    assert [hit async for hit in library.search_transcripts("hello")] == []


@pytest.mark.parametrize("data", ["null", "{}"])
async def test_a_silent_video_has_an_empty_transcript(
    data: str, recorder: Recorder, client: Memories
) -> None:
    # Recorded: data is null for a video that the same notebook lists.
    recorder.answer(v1(data))
    for transcript in (
        await client.library.audio_transcript("VI1"),
        await client.library.video_captions("VI1"),
    ):
        assert transcript.lines == []
        assert transcript.video_no == "VI1"


async def test_transcripts_are_searched_page_by_page(recorder: Recorder, client: Memories) -> None:
    line = '{"videoNo":"VI%d","videoName":"talk","startTime":"1","audio_ts":"Hello."}'
    page = '{"videos":[%s],"current_page":%d,"page_size":2,"total_count":"3"}'
    recorder.answer(
        v1(page % (",".join([line % 1, line % 2]), 1)), v1(page % (line % 3, 2)), v1("null")
    )
    hits = [hit async for hit in client.library.search_transcripts("hello", page_size=2)]
    assert [(hit.video_no, hit.text) for hit in hits] == [(f"VI{n}", "Hello.") for n in (1, 2, 3)]
    assert [request.target.partition("?")[2] for request in recorder.requests] == [
        "page=1&query=hello&page_size=2",
        "page=2&query=hello&page_size=2",
    ]
