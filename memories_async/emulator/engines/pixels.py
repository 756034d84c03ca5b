"""The engine that answers from real pixels; needs the extra ``memories-async[emulator]``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import numpy as np

from memories_async.emulator.engines import clip_search, describe
from memories_async.emulator.engines.descriptors import compute_descriptor, embedding
from memories_async.emulator.engines.protocol import (
    EMBEDDING_LENGTHS,
    Hit,
    Line,
    ReferencePerson,
    UnreadableMediaError,
    VideoFacts,
)
from memories_async.emulator.engines.text import text_embedding
from memories_async.emulator.engines.video import Frame, frames, probe, read_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@attrs.frozen
class PixelEngine:
    """Answers from what can be measured in the pixels of the uploaded pictures and videos.

    It shows the shape of the service and not its intelligence: a caption states sizes, durations,
    cuts, colours and motion; two pictures are alike when their layout, edges and colours are;
    nobody is recognised, and no prompt is understood. Plug in a model of your own (see
    ``Engine``) where the answers themselves matter.

    Pictures are read as JPEG, PNG, GIF, WebP, BMP or TIFF (of an animation, the first frame),
    videos by FFmpeg as MP4, MOV, 3GP, Matroska, WebM, AVI, FLV, WMV or MPEG.

    Attributes:
        time_limit: Seconds of work on one video, after which the answer is made from what has
            been seen. It bounds hostile files; a video that needs longer may get another answer
            on another machine.
    """

    time_limit: float = 20.0

    def describe_images(self, pictures: Sequence[Path], prompt: str) -> str:
        """Return a text about size, shape, brightness and colours of each picture.

        The prompt is ignored.

        Raises:
            UnreadableMediaError: One of them is no picture.
        """
        facts = [describe.describe_picture(read_picture(path)) for path in pictures]
        if len(facts) == 1:
            lines = [f"The picture: {facts[0]}"]
        else:
            lines = [f"There are {len(facts)} pictures."]
            lines += [f"Picture {number}: {fact}" for number, fact in enumerate(facts, 1)]
        return "\n".join([*lines, describe.DISCLAIMER])

    def describe_video(self, video: Path, prompt: str, persons: Sequence[ReferencePerson]) -> str:
        """Return a text about duration, size, shots, brightness, colours, motion and persons.

        A person is found where whole frames look like the reference picture: a frame of the
        video is found, a portrait from elsewhere is not. The prompt is ignored.

        Raises:
            UnreadableMediaError: Not a video.
        """
        facts = probe(video)
        spacing = clip_search.key_frame_spacing(facts)
        film = self._watch(video, facts)
        lines = [describe.describe_film(facts, film, every_frame=spacing is None)]
        lines += [_describe_person(person, film) for person in persons]
        return "\n".join([*lines, describe.DISCLAIMER])

    def describe_shots(self, video: Path) -> list[Line]:
        """Return a line about brightness, colours and motion of each shot.

        Raises:
            UnreadableMediaError: Not a video.
        """
        return describe.describe_shots(self._watch(video, probe(video)))

    def transcribe(self, video: Path) -> list[Line]:
        """Return nothing: only pixels are measured, and nothing is heard."""
        return []

    def _watch(self, video: Path, facts: VideoFacts) -> list[Frame]:
        spacing = clip_search.key_frame_spacing(facts)
        deadline = time.monotonic() + self.time_limit
        return list(frames(video, key_frames_every=spacing, deadline=deadline))

    def embed_image(self, picture: Path, model: str) -> list[float]:
        """Return a unit vector of the model's length (a key of ``EMBEDDING_LENGTHS``).

        The cosine of two near-duplicates is above 0.9, of different pictures mostly below 0.6.

        Raises:
            UnreadableMediaError: Not a picture.
        """
        pixels = read_picture(picture).pixels
        return embedding(compute_descriptor(pixels), model, EMBEDDING_LENGTHS[model])

    def embed_video(self, video: Path, model: str) -> list[float]:
        """Return the embedding of what the video's frames look like on average.

        Raises:
            UnreadableMediaError: Not a video.
        """
        film = self._watch(video, probe(video))
        mean = np.mean([frame.descriptor for frame in film], axis=0)
        return embedding(mean, model, EMBEDDING_LENGTHS[model])

    def embed_text(self, text: str, length: int) -> list[float]:
        """Return a unit vector that is near for texts of similar words."""
        return text_embedding(text, length)

    def probe_video(self, video: Path) -> VideoFacts:
        """Return duration, size and frame rate as the container states them.

        Raises:
            UnreadableMediaError: Not a video.
        """
        return probe(video)

    def find_clips(self, video: Path, picture: Path, prompt: str) -> list[Hit]:
        """Return the time ranges whose frames look like the picture, best first; maybe none.

        Each range is where a shot looks most like the picture, exact to a frame. The prompt is
        ignored.

        Raises:
            UnreadableMediaError: Not a video, or not a picture.
        """
        wanted = compute_descriptor(read_picture(picture).pixels)
        deadline = time.monotonic() + self.time_limit
        return clip_search.find(video, probe(video), wanted, deadline)


def _describe_person(person: ReferencePerson, film: Sequence[Frame]) -> str:
    if person.picture is None:
        return f"{person.name} was not found: there is no reference picture."
    try:
        wanted = compute_descriptor(read_picture(person.picture).pixels)
    except UnreadableMediaError:
        return f"{person.name} was not found: the reference picture cannot be read."
    found = clip_search.appearances(clip_search.similarities(film, wanted))
    if not found:
        return f"{person.name} was not found: no frame looks like the reference picture."
    return describe.describe_appearances(person.name, found)
