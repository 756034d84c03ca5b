"""What answers the questions about pictures and videos: a small protocol to plug a model into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

EMBEDDING_LENGTHS = {"multimodalembedding@001": 1408, "mobileclip": 512}
"""The documented embedding models and how many numbers an embedding by each has."""

TEXT_EMBEDDING_LENGTHS = {"gemini-embedding-001": 3072}
"""The same for texts; here a shorter embedding may be asked for."""


class UnreadableMediaError(Exception):
    """The bytes are not a picture or a video that this engine can read; the message says why."""


@attrs.frozen
class ReferencePerson:
    """Someone to look for: a name and, where one could be fetched, a reference picture."""

    name: str
    picture: Path | None


@attrs.frozen
class VideoFacts:
    """What a container says about itself."""

    duration: float
    width: int
    height: int
    fps: float


@attrs.frozen
class Hit:
    """A time range of a video that looks like the query, in seconds; score from 0 to 1."""

    start_time: float
    end_time: float
    score: float


@attrs.frozen
class Line:
    """What is to be seen, or is said, in a stretch of a video, in seconds."""

    start_time: float
    end_time: float
    text: str


class Engine(Protocol):
    """Answers from files on disk. Every method blocks and is run in a worker thread.

    Every answer must be a function of the content alone, so that the same upload gets the same
    answer. ``UnreadableMediaError`` says that the content is no picture or no video.
    """

    def describe_images(self, pictures: Sequence[Path], prompt: str) -> str:
        """Return one text about all the pictures together."""
        ...

    def describe_video(self, video: Path, prompt: str, persons: Sequence[ReferencePerson]) -> str:
        """Return a text about the video, naming the persons found and when they appear."""
        ...

    def describe_shots(self, video: Path) -> list[Line]:
        """Return what is to be seen in each stretch of the video: what text search goes through."""
        ...

    def transcribe(self, video: Path) -> list[Line]:
        """Return what is said in the video; nothing where nothing is heard."""
        ...

    def embed_image(self, picture: Path, model: str) -> list[float]:
        """Return a unit vector of the model's documented length: near for near-duplicates."""
        ...

    def embed_video(self, video: Path, model: str) -> list[float]:
        """Return one unit vector for the whole video, of the model's documented length."""
        ...

    def embed_text(self, text: str, length: int) -> list[float]:
        """Return a unit vector of this length: near for texts that say nearly the same."""
        ...

    def probe_video(self, video: Path) -> VideoFacts:
        """Return what the container says about itself."""
        ...

    def find_clips(self, video: Path, picture: Path, prompt: str) -> list[Hit]:
        """Return the time ranges that look like the picture, best first."""
        ...
