"""From an upload to something found, against the emulator: no account, no internet.

Run it with ``sh examples/run``; or, where the package is installed, ``python quickstart.py``.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path

from memories_async import Embedding, Memories, Progress
from memories_async.emulator import Emulator

MEDIA = Path(__file__).parent / "media"
FILM = MEDIA / "bigbuckbunny.mp4"
FRAMES = {
    0.5: MEDIA / "frame-0.5s.jpg",
    1.3: MEDIA / "frame-1.3s.jpg",
    4.6: MEDIA / "frame-4.6s.jpg",
}


def show_progress(progress: Progress) -> None:
    done = progress.fraction or 0.0
    bar = "█" * round(done * 30)
    line = f"  {bar:░<30} {done:4.0%}  {progress.sent / 1e6:.1f} MB"
    if sys.stdout.isatty():
        print(f"\r{line}", end="" if done < 1 else "\n", flush=True)
    elif done == 1:
        print(line)


def similarity(one: Embedding, other: Embedding) -> float:
    """The cosine of the angle between two vectors."""
    dot = (
        math.sumprod(one.vector, other.vector)
        if hasattr(math, "sumprod")
        else sum(a * b for a, b in zip(one.vector, other.vector, strict=True))
    )
    return dot / (math.hypot(*one.vector) * math.hypot(*other.vector))


async def main() -> int:
    started = time.perf_counter()
    # Against the real service, leave base_url out and give your own keys.
    async with (
        Emulator() as emulator,
        Memories("any-key", caption_key="any-caption-key", base_url=emulator.url) as client,
    ):
        print(f"The emulator answers at {emulator.url}\n")

        print(f"Uploading {FILM.name} to the video library")
        video = await client.library.add_video(FILM, on_progress=show_progress)
        video = await client.library.wait_until_searchable(video.video_no)
        print(
            f"  {video.video_no}: {video.duration:g} s, {video.width} x {video.height}, indexed\n"
        )

        print("Describing the film")
        caption = await client.captions.video(FILM, "What happens in this film?")
        for line in caption.text.splitlines():
            print(f"  {line}")
        assert caption.tokens is not None
        print(f"  ({caption.tokens.total} tokens)\n")

        print("Describing its frames, two calls at a time")
        async for outcome in client.captions.images(FRAMES.values(), "Describe it.", concurrency=2):
            image = outcome.unwrap()
            print(f"  {FRAMES_BY_INDEX[outcome.index].name}: {image.text.splitlines()[0]}")

        print("\nAdding the frames to the image library, in one request")
        images = await client.library.add_images(
            FRAMES.values(), tags=["bunny"], on_progress=show_progress
        )
        for path, image in zip(FRAMES.values(), images, strict=True):
            print(f"  {path.name}: id {image.id}")

        print("\nEmbedding the frames")
        vectors = [
            outcome.unwrap()
            async for outcome in client.embeddings.images(FRAMES.values(), ordered=True)
        ]
        first = vectors[0]
        for path, vector in zip(FRAMES.values(), vectors, strict=True):
            alike = similarity(first, vector)
            print(f"  {path.name}: {len(vector.vector)} numbers, {alike:.2f} like the first")

        print("\nFinding where each frame occurs in the film")
        missed = 0
        for second, path in FRAMES.items():
            clips = await client.library.search_clips(video.video_no, path, "the rabbit")
            found = any(clip.start_time <= second <= clip.end_time for clip in clips)
            missed += not found
            ranges = ", ".join(f"{c.start_time:.2f}-{c.end_time:.2f} s" for c in clips) or "nowhere"
            print(f"  {'✓' if found else '✗'} {path.name} (taken at {second} s): {ranges}")

        billed = sum(entry.billed for entry in emulator.ledger)
        print(
            f"\n{len(emulator.ledger)} requests, {billed} of them billed, "
            f"in {time.perf_counter() - started:.1f} s."
        )
    return 1 if missed else 0


FRAMES_BY_INDEX = list(FRAMES.values())

if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("Usage: python quickstart.py (it takes no arguments)")
    sys.exit(asyncio.run(main()))
