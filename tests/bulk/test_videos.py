"""Library videos: tagged by their content, waited for until searchable, found again when lost.

The client is a stand-in that behaves as the real one is documented to, listing by tag included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from memories_async import (
    CallOptions,
    DeadlineExceeded,
    Memories,
    OutcomeUnknown,
    RateLimited,
    TaskFailed,
    Video,
)
from memories_async.bulk import Job, Status, StopReason
from tests.bulk.ledgers import MP4, items_of

pytestmark = pytest.mark.anyio


class Library:
    """A library that keeps videos with their tags."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[Video, Sequence[str]]] = {}
        self.loses: set[str] = set()
        self.outcomes: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.unlisted = False
        self.added: list[str] = []

    async def add_video(
        self,
        source: str,
        *,
        unique_id: str | None = None,
        tags: Sequence[str] = (),
        on_progress: object = None,
        options: CallOptions | None = None,
    ) -> Video:
        assert options is not None
        assert options.before_sending is not None
        await options.before_sending()
        name = Path(source).name
        self.added.append(name)
        video = Video(video_no=f"VI-{unique_id}-{name}", name=name, status="UNPARSE")
        self.stored[video.video_no] = video, tags
        if name in self.loses:
            raise OutcomeUnknown("no answer came")
        return video

    async def wait_until_searchable(
        self,
        video_no: str,
        *,
        within: float,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> Video:
        self.asked.append(video_no)
        if (error := self.outcomes.get(video_no)) is not None:
            raise error
        video, _ = self.stored[video_no]
        return Video(video_no=video_no, name=video.name, status="PARSE")

    async def videos(
        self,
        *,
        tag: str | None = None,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> AsyncIterator[Video]:
        if self.unlisted:
            raise RateLimited("slow down")
        for video, tags in self.stored.values():
            if tag in tags and video.video_no.startswith(f"VI-{unique_id}-"):
                yield video


class Client:
    def __init__(self) -> None:
        self.library = Library()


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def client(library: Library) -> Memories:
    client = Client()
    client.library = library
    return cast("Memories", client)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(MP4 + name.encode())
    return folder


OPTIONS = {"unique_id": "me", "tags": ["holiday"]}


async def test_videos_are_tagged_and_waited_for(
    client: Memories, library: Library, films: Path, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "add_videos", films, options=OPTIONS) as job:
        report = await job.run(client)
        items = await items_of(job)

    assert (report.counts.done, report.counts.waiting) == (3, 0)
    for item in items:
        assert item.result == {
            "video_no": f"VI-me-{Path(item.source).name}",
            "video_name": Path(item.source).name,
            "video_status": "PARSE",
        }
        assert item.sha256 is not None
        assert library.stored[str(item.result["video_no"])][1] == [
            "holiday",
            f"sha256:{item.sha256[:16]}",
        ]


async def test_a_video_whose_indexing_takes_long_is_asked_about_by_the_next_run(
    client: Memories, library: Library, films: Path, tmp_path: Path
) -> None:
    library.outcomes["VI-me-b.mp4"] = DeadlineExceeded("still UNPARSE after 1800 s")
    async with await Job.create(tmp_path / "job", "add_videos", films, options=OPTIONS) as job:
        report = await job.run(client)
        assert (report.counts.done, report.counts.waiting) == (3, 1)

        library.outcomes.clear()
        library.asked.clear()
        report = await job.run(client)
        assert (report.counts.done, report.counts.waiting, len(library.added)) == (3, 0, 3)
    assert library.asked == ["VI-me-b.mp4"]


async def test_a_video_that_cannot_be_indexed_has_failed(
    client: Memories, library: Library, films: Path, tmp_path: Path
) -> None:
    library.outcomes["VI-me-b.mp4"] = TaskFailed("indexing failed", task_id="VI-me-b.mp4")
    async with await Job.create(tmp_path / "job", "add_videos", films, options=OPTIONS) as job:
        report = await job.run(client)
        items = await items_of(job)
    assert (report.counts.done, report.counts.failed) == (2, 1)
    assert items[1].status is Status.FAILED
    assert items[1].result is not None
    assert items[1].result["video_no"] == "VI-me-b.mp4"


async def test_not_waiting_is_a_choice(
    client: Memories, library: Library, films: Path, tmp_path: Path
) -> None:
    options = {"unique_id": "me", "searchable_within": 0}
    async with await Job.create(tmp_path / "job", "add_videos", films, options=options) as job:
        report = await job.run(client)
    assert (report.counts.done, report.counts.waiting, library.asked) == (3, 0, [])


async def test_lost_videos_are_found_by_their_tag_before_anything_is_sent_again(
    client: Memories, library: Library, films: Path, tmp_path: Path
) -> None:
    library.loses = {"a.mp4", "b.mp4"}
    async with await Job.create(tmp_path / "job", "add_videos", films, options=OPTIONS) as job:
        report = await job.run(client)
        assert (report.counts.done, report.counts.unknown) == (1, 2)

        del library.stored["VI-me-b.mp4"]  # this one never arrived
        library.loses = set()
        assert await job.reconcile(client) == 1
        assert (await job.counts()).unknown == 1

        report = await job.run(client, unknown="retry")
        assert (report.counts.done, report.counts.unknown) == (3, 0)
        # Three are under way together, in whatever order their files were looked at.
        assert sorted(library.added[:3]) == ["a.mp4", "b.mp4", "c.mp4"]
        assert library.added[3:] == ["b.mp4"]
        assert (await job.counts()).waiting == 0


async def test_nothing_is_sent_again_where_it_could_not_be_looked_for(
    client: Memories, library: Library, films: Path, tmp_path: Path
) -> None:
    library.loses = {"a.mp4"}
    async with await Job.create(tmp_path / "job", "add_videos", films, options=OPTIONS) as job:
        await job.run(client)
        library.unlisted = True
        report = await job.run(client, unknown="retry")
    assert report.stopped is not None
    assert report.stopped.reason is StopReason.UNREACHABLE
    assert (report.counts.unknown, len(library.added)) == (1, 3)
