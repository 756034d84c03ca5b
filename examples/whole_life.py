"""A film's whole life: uploaded, searched by picture and words, described, fetched back, deleted.

It runs against the emulator: no account, no internet. ``sh examples/run whole_life.py``; the same
without ``await`` is whole_life_blocking.py.
"""

from __future__ import annotations

import asyncio
import filecmp
import sys
import tempfile
from pathlib import Path

from memories_async import Memories, NotFound, Progress
from memories_async.emulator import Emulator

MEDIA = Path(__file__).parent / "media"
FILM = MEDIA / "bigbuckbunny.mp4"
FRAME = MEDIA / "frame-1.3s.jpg"  # taken 1.3 seconds into the film


def show(progress: Progress) -> None:
    """Tell how far an upload or a download has got."""
    print(f"  {progress.fraction or 0:4.0%} of {(progress.total or 0) / 1e6:.1f} MB")


async def whole_life(client: Memories, folder: Path) -> None:
    """Lead a film through all of it."""
    print("Uploading")
    video = await client.library.add_video(FILM, tags=["rabbit", "meadow"], on_progress=show)
    video_no = video.video_no

    print("Waiting until it is searchable")
    video = await client.library.wait_until_searchable(video_no)
    print(f"  {video_no}: {video.duration:g} s of {video.width} x {video.height}")

    print("Finding a picture in it")
    clips = await client.library.search_clips(video_no, FRAME, "the rabbit")
    assert any(clip.start_time <= 1.3 <= clip.end_time for clip in clips)
    for clip in clips:
        print(f"  {clip.start_time:.2f}-{clip.end_time:.2f} s, score {clip.score:.2f}")

    print("Finding it by words, and by a picture in the whole library")
    found = await client.library.search("a rabbit on a green meadow")
    alike = await client.library.search_similar(FRAME)
    assert {hit.video_no for hit in found} == {hit.video_no for hit in alike} == {video_no}
    for hit in [*found, *alike]:
        print(f"  {hit.name} at {hit.start_time:g}-{hit.end_time:g} s, score {hit.score:.2f}")

    print("Describing it")
    caption = await client.captions.video(FILM, "What happens in this film?")
    written = await client.library.video_captions(video_no)
    print(f"  {caption.text.splitlines()[0]}")
    print(f"  {written.lines[0].content}")

    print("Fetching it back")
    saved = await client.library.download(video_no, folder / "again.mp4", on_progress=show)
    assert filecmp.cmp(saved.path, FILM, shallow=False)

    print("Deleting it")
    await client.library.delete_videos([video_no])
    assert [video async for video in client.library.videos()] == []
    try:
        await client.library.video(video_no)
    except NotFound as gone:
        print(f"  {gone}")


async def main() -> int:
    """Do it against an emulator, in a folder that is gone afterwards."""
    # Against the real service, leave base_url out and give your own keys.
    async with (
        Emulator() as emulator,
        Memories("any-key", caption_key="any-caption-key", base_url=emulator.url) as client,
    ):
        with tempfile.TemporaryDirectory() as folder:
            await whole_life(client, Path(folder))
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("Usage: python whole_life.py (it takes no arguments)")
    sys.exit(asyncio.run(main()))
