"""The engine without dependencies: answers derived from the content's hash alone."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
from typing import TYPE_CHECKING

import attrs

from memories_async.emulator.engines.protocol import (
    EMBEDDING_LENGTHS,
    Hit,
    Line,
    ReferencePerson,
    UnreadableMediaError,
    VideoFacts,
)
from memories_async.emulator.engines.text import text_embedding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DISCLAIMER = "This text is derived from a hash by an emulator: nothing was looked at."


@attrs.frozen
class HashEngine:
    """Answers from the SHA-256 of the content: no decoding, no dependency, always the same.

    It shows the shape of the service and none of its intelligence: two pictures that differ in
    one byte are strangers. It is meant for tests of code that uses the client. Any content is
    accepted but an empty file, and prompts are ignored.
    """

    def describe_images(self, pictures: Sequence[Path], prompt: str) -> str:
        """Return a text that names each picture's size in bytes and the start of its hash.

        Raises:
            UnreadableMediaError: One of the files is empty.
        """
        counted = "1 picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
        named = "; ".join(_name(picture, _digest(picture)) for picture in pictures)
        return f"{counted}: {named}.\n{_DISCLAIMER}"

    def describe_video(self, video: Path, prompt: str, persons: Sequence[ReferencePerson]) -> str:
        """Return a text that names the video's hash, and a derived time range for each person.

        Raises:
            UnreadableMediaError: The video is empty.
        """
        seed = _digest(video)
        duration = _facts(video, seed).duration
        lines = [f"A video of {duration:.1f} seconds, {_name(video, seed)}."]
        for person in persons:
            if person.picture is None or not os.path.getsize(person.picture):
                lines.append(f"{person.name} was not found: there is no reference picture.")
                continue
            hits = _ranges(duration, seed + _digest(person.picture))
            at = " and ".join(f"{hit.start_time:.1f}-{hit.end_time:.1f} s" for hit in hits)
            lines.append(f"{person.name} appears at {at}.")
        return "\n".join([*lines, _DISCLAIMER])

    def describe_shots(self, video: Path) -> list[Line]:
        """Return one line for each half of the video, which names its hash.

        Raises:
            UnreadableMediaError: The video is empty.
        """
        seed = _digest(video)
        half = round(_facts(video, seed).duration / 2, 3)
        text = f"half of a video, {_name(video, seed)}"
        return [Line(0.0, half, f"First {text}."), Line(half, 2 * half, f"Second {text}.")]

    def transcribe(self, video: Path) -> list[Line]:
        """Return nothing: a hash hears nothing."""
        return []

    def embed_image(self, picture: Path, model: str) -> list[float]:
        """Return a unit vector of the model's length (a key of ``EMBEDDING_LENGTHS``).

        Raises:
            UnreadableMediaError: The file is empty.
        """
        seed = _digest(picture) + model.encode()
        values = [2 * number - 1 for number in _numbers(seed, EMBEDDING_LENGTHS[model])]
        length = math.sqrt(math.fsum(value * value for value in values))
        return [round(value / length, 8) for value in values]

    def embed_video(self, video: Path, model: str) -> list[float]:
        """Return a unit vector of the model's length (a key of ``EMBEDDING_LENGTHS``).

        Raises:
            UnreadableMediaError: The file is empty.
        """
        return self.embed_image(video, model)

    def embed_text(self, text: str, length: int) -> list[float]:
        """Return a unit vector that is near for texts of similar words."""
        return text_embedding(text, length)

    def probe_video(self, video: Path) -> VideoFacts:
        """Return the duration that an MP4 states, else a derived one of 5 to 65 s.

        Size and frame rate are always 1280 x 720 at 25 frames per second.

        Raises:
            UnreadableMediaError: The file is empty.
        """
        return _facts(video, _digest(video))

    def find_clips(self, video: Path, picture: Path, prompt: str) -> list[Hit]:
        """Return two derived time ranges, one in each half of the video, best first.

        Raises:
            UnreadableMediaError: One of the files is empty.
        """
        seed = _digest(video)
        hits = _ranges(_facts(video, seed).duration, seed + _digest(picture))
        return sorted(hits, key=lambda hit: -hit.score)


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise UnreadableMediaError(f"{path.name} is empty")
        return hashlib.file_digest(file, "sha256").digest()


def _name(path: Path, digest: bytes) -> str:
    return f"{os.path.getsize(path):,} bytes with SHA-256 {digest.hex()[:12]}"


def _facts(video: Path, digest: bytes) -> VideoFacts:
    (derived,) = _numbers(digest, 1)
    duration = _stated_duration(video) or 5 + 60 * derived
    return VideoFacts(duration=round(duration, 3), width=1280, height=720, fps=25.0)


def _ranges(duration: float, seed: bytes) -> list[Hit]:
    """Return one time range in each half, in order of time."""
    half = duration / 2
    numbers = _numbers(seed, 6)
    return [
        Hit(
            start_time=round(half * (index + at / 2), 3),
            end_time=round(half * (index + at / 2 + 0.1 + 0.4 * share), 3),
            score=round(0.5 + score / 2, 4),
        )
        for index, (at, share, score) in enumerate((numbers[:3], numbers[3:]))
    ]


def _numbers(seed: bytes, count: int) -> list[float]:
    """Return numbers from 0 up to 1 that follow from the seed alone."""
    stream = hashlib.shake_256(seed).digest(4 * count)
    return [int.from_bytes(stream[i : i + 4]) / 2**32 for i in range(0, len(stream), 4)]


def _stated_duration(video: Path) -> float | None:
    """Return what an MP4's movie header says (ISO/IEC 14496-12, 8.2.2), wherever it stands."""
    with open(video, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[4:8] != b"ftyp":
            return None
        header = content[max(content.find(b"mvhd"), 0) :][:36]
    if len(header) < 36 or not header.startswith(b"mvhd"):
        return None
    wide = header[4]  # the version: 1 has times of 64 bits
    timescale, units = struct.unpack_from(">IQ" if wide else ">II", header, 24 if wide else 16)
    return float(units) / float(timescale) if timescale and units else None
