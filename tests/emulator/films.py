"""Pictures and films that the tests of the engines look at."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from PIL import Image

from memories_async.emulator.engines.video import Frame, frames

if TYPE_CHECKING:
    from collections.abc import Iterable

FILM = Path(__file__).parents[2] / "examples" / "media" / "bigbuckbunny.mp4"


SHOWN = (0, 15, 33, 40, 50, 60, 75, 102, 130)
"""The frames of ``FILM`` that tests look at: all of them take a third of a gigabyte."""


@functools.cache
def film_frames() -> dict[int, Image.Image]:
    """Some of the 132 frames of ``FILM``, 25 per second, by their numbers."""
    with av.open(str(FILM)) as container:
        decoded = enumerate(container.decode(video=0))
        return {number: frame.to_image() for number, frame in decoded if number in SHOWN}


@functools.cache
def seen() -> list[Frame]:
    """Return what the engine sees of ``FILM``."""
    return list(frames(FILM))


def seen_once(video: Path, *, key_frames_every: float | None, deadline: float) -> list[Frame]:
    """Stand in for ``frames`` where every frame of ``FILM`` is wanted: go through it once."""
    assert (video, key_frames_every) == (FILM, None)
    assert deadline > time.monotonic()
    return seen()


def scene(seed: int, width: int = 320, height: int = 192) -> Image.Image:
    """Return a picture of soft coloured patches, different for each seed."""
    patches = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def saved(path: Path, picture: Image.Image, **options: Any) -> Path:
    """Save the picture in the format of the path's suffix and return the path."""
    if path.suffix == ".png":
        options["compress_level"] = 1
    picture.save(path, **options)
    return path


def cropped(picture: Image.Image) -> Image.Image:
    """Return the picture without a narrow border."""
    width, height = picture.size
    return picture.crop((width // 40, height // 40, width * 39 // 40, height * 39 // 40))


class Recorder:
    """A live stream's receiver: it cannot go back to write a duration into the header."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, data: bytes) -> int:
        self.content += data
        return len(data)


def write_film(
    path: Path | Recorder, pictures: Iterable[Image.Image], *, rate: int, key_every: int
) -> None:
    """Write one frame per picture; a recorder gets Matroska."""
    live = isinstance(path, Recorder)
    with av.open(path, "w", format="matroska" if live else None) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.gop_size = key_every
        for picture in pictures:
            frame = av.VideoFrame.from_image(picture.resize((160, 96)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_three_shots(path: Path) -> Path:
    """Write one second each of scenes 1, 2 and 3."""
    shots = [scene(1), scene(2), scene(3)]
    write_film(path, (shot for shot in shots for _ in range(10)), rate=10, key_every=10)
    return path
