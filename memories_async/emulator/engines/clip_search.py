"""Where in a video a picture occurs: frames that look like it, merged into time ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from memories_async.emulator.engines.protocol import Hit, VideoFacts
from memories_async.emulator.engines.video import Frame, frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from memories_async.emulator.engines.descriptors import Vector

MATCH = 0.75
"""The similarity from which a frame shows the picture; unrelated pictures stay below about 0.6."""

MAX_HITS = 10
SHORT = 60.0
"""Seconds up to which every frame is looked at; of a longer video first only the key frames."""

_CLOSE = 0.05  # a hit ends where the similarity has fallen so far below its best
_MAX_GAP = 0.25  # seconds of unlike frames that do not end a hit: a flash, a passer-by
_PROMISING = 0.45  # a shot may have moved on a lot between its key frame and the frame in question
_MAX_KEY_FRAMES = 3000
_MAX_PLACES = 6
_MAX_PLACE = 20.0  # seconds


@attrs.frozen
class Similarity:
    """How much a frame, shown from ``time`` until ``until``, looks like a picture."""

    time: float
    until: float
    score: float


def similarities(film: Iterable[Frame], wanted: Vector) -> list[Similarity]:
    """Compare a picture's descriptor with each frame's."""
    return [Similarity(f.time, f.until, float(f.descriptor @ wanted)) for f in film]


def appearances(scores: Sequence[Similarity]) -> list[Hit]:
    """Merge the frames that show the picture into time ranges, in order of time."""
    return [_hit(run) for run in _runs(scores, MATCH)]


def hits(scores: Sequence[Similarity]) -> list[Hit]:
    """Narrow each appearance to where it looks most like the picture, best first."""
    close = [
        _hit(run)
        for appearance in _runs(scores, MATCH)
        for run in _runs(appearance, max(one.score for one in appearance) - _CLOSE)
    ]
    return sorted(close, key=lambda hit: (-hit.score, hit.start_time))[:MAX_HITS]


def _runs(scores: Sequence[Similarity], threshold: float) -> list[list[Similarity]]:
    runs: list[list[Similarity]] = []
    for one in scores:
        if one.score < threshold:
            continue
        if runs and one.time - runs[-1][-1].until <= _MAX_GAP:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _hit(run: Sequence[Similarity]) -> Hit:
    score = min(1.0, max(one.score for one in run))
    return Hit(round(run[0].time, 3), round(run[-1].until, 3), round(score, 4))


def key_frame_spacing(facts: VideoFacts) -> float | None:
    """Return None where every frame is to be looked at, else the least seconds between frames."""
    return None if facts.duration <= SHORT else facts.duration / _MAX_KEY_FRAMES


def find(video: Path, facts: VideoFacts, wanted: Vector, deadline: float) -> list[Hit]:
    """Return the time ranges of a video that look like a picture, best first.

    Every frame of a short video is compared. Of a long one the key frames are compared first and
    then every frame around the best of them, so that borders are exact to a frame.
    """
    spacing = key_frame_spacing(facts)
    first = similarities(frames(video, key_frames_every=spacing, deadline=deadline), wanted)
    if spacing is None:
        return hits(first)
    second = [
        similarities(frames(video, start=start, end=end, deadline=deadline), wanted)
        for start, end in promising_places(first)
    ]
    # Nothing comes of the second pass only if the time is up: then the first must do.
    return hits([one for place in second for one in place]) or hits(first)


def promising_places(scores: Sequence[Similarity]) -> list[tuple[float, float]]:
    """Return the seconds around the best key frames, in order of time and without overlaps."""
    promising = [i for i, one in enumerate(scores) if one.score >= _PROMISING]
    best = sorted(promising, key=lambda i: -scores[i].score)[:_MAX_PLACES]
    places: list[tuple[float, float]] = []
    for i in sorted(best):
        start = max(scores[max(i - 1, 0)].time, scores[i].time - _MAX_PLACE / 2)
        end = min(scores[i].until, scores[i].time + _MAX_PLACE)
        if places and start <= places[-1][1]:
            places[-1] = places[-1][0], end
        else:
            places.append((start, end))
    return places
