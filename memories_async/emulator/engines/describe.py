"""What can be measured in pixels, and how to say it in English."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import attrs
import numpy as np
from PIL import Image

from memories_async.emulator.engines.descriptors import LUMA, Pixels
from memories_async.emulator.engines.protocol import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from memories_async.emulator.engines.protocol import Hit, VideoFacts
    from memories_async.emulator.engines.video import DecodedPicture, Frame

DISCLAIMER = (
    "These sentences are measurements of pixels by an emulator: nothing here understands "
    "what is shown, and the prompt was not followed."
)

_CUT = 0.6  # two neighbouring frames less alike than this belong to two shots
_MAX_MOTION_STEP = 0.5  # seconds between frames over which a change can still be called motion

# The hue in degrees up to which a colour has its name, on the circle from red to red.
_HUES = (
    (15, "red"),
    (42, "orange"),
    (68, "yellow"),
    (165, "green"),
    (195, "turquoise"),
    (255, "blue"),
    (290, "purple"),
    (345, "pink"),
    (361, "red"),
)
_COLOURS = (*dict.fromkeys(name for _, name in _HUES), "brown", "black", "grey", "white")
_HUE_ENDS = np.array([end for end, _ in _HUES])
_HUE_COLOURS = np.array([_COLOURS.index(name) for _, name in _HUES])

# The mean brightness and the motion up to which each word holds.
_BRIGHTNESS = ((0.15, "very dark"), (0.35, "dark"), (0.65, "of medium brightness"), (1.0, "bright"))
_MOTION = ((0.01, "hardly any motion"), (0.15, "little motion"), (0.5, "moderate motion"))


def colour_counts(pixels: Pixels) -> NDArray[np.int64]:
    """Count the pixels of each named colour."""
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV"), dtype=np.float64)
    hue, saturation, value = hsv[..., 0] * (360 / 256), hsv[..., 1] / 255, hsv[..., 2] / 255
    named = _HUE_COLOURS[np.searchsorted(_HUE_ENDS, hue, side="right")]
    rules = (
        (value < 0.15, "black"),
        ((saturation < 0.15) & (value > 0.85), "white"),
        (saturation < 0.15, "grey"),
        ((hue < 42) & (value < 0.6), "brown"),
    )
    named = np.select([r for r, _ in rules], [_COLOURS.index(c) for _, c in rules], default=named)
    return np.bincount(named.ravel(), minlength=len(_COLOURS))


def brightness(pixels: Pixels) -> float:
    """Return the mean luma, from 0 to 1."""
    return float((pixels @ LUMA).mean() / 255)


def shots(film: Sequence[Frame]) -> list[Sequence[Frame]]:
    """Return the frames of each shot."""
    starts = [
        index
        for index, (before, after) in enumerate(pairwise(film), 1)
        if before.descriptor @ after.descriptor < _CUT
    ]
    return [film[start:end] for start, end in pairwise([0, *starts, len(film)])]


def cuts(film: Sequence[Frame]) -> list[float]:
    """Return the seconds at which a shot ends and another begins."""
    return [round(shot[0].time, 2) for shot in shots(film)[1:]]


@attrs.frozen
class Motion:
    """How fast the picture changes: the share of full brightness per second, and when most."""

    mean: float
    peak_time: float


def motion(film: Sequence[Frame], cut_times: Sequence[float]) -> Motion | None:
    """Measure the change from frame to frame within shots; None if no two are close enough."""
    at_cuts = set(cut_times)
    changes = [
        (brightness(_difference(before, after)) / (after.time - before.time), after.time)
        for before, after in pairwise(film)
        if after.time - before.time <= _MAX_MOTION_STEP and round(after.time, 2) not in at_cuts
    ]
    if not changes:
        return None
    mean = sum(change for change, _ in changes) / len(changes)
    return Motion(mean, max(changes)[1])


def _difference(before: Frame, after: Frame) -> Pixels:
    # Unsigned bytes would wrap below zero.
    change = np.abs(after.pixels.astype(np.int16) - before.pixels.astype(np.int16))
    return change.astype(np.uint8)


def describe_picture(picture: DecodedPicture) -> str:
    """Say what a picture's size, brightness and colours are."""
    shape = _shape(picture.width, picture.height)
    return (
        f"{_size(picture.width, picture.height)}, {shape}, "
        f"{_word(_BRIGHTNESS, brightness(picture.pixels), 'bright')}, "
        f"mostly {_colours([picture.pixels])}."
    )


def describe_film(facts: VideoFacts, film: Sequence[Frame], *, every_frame: bool) -> str:
    """Say what a video's length, shots, brightness, colours and motion are."""
    cut_times = cuts(film)
    sentences = [
        f"The video lasts {facts.duration:.1f} seconds at {_size(facts.width, facts.height)} "
        f"and {facts.fps:g} frames per second.",
        _shots(cut_times),
        *_describe_frames(film, cut_times),
    ]
    if not every_frame:
        sentences.append("Being long, it was judged by its key frames alone.")
    if film[-1].until < facts.duration * 0.9 - 1:
        sentences.append(f"Only its first {film[-1].until:.1f} seconds were looked at.")
    return " ".join(sentences)


def describe_shots(film: Sequence[Frame]) -> list[Line]:
    """Say what each shot's brightness, colours and motion are."""
    return [
        Line(round(shot[0].time, 3), round(shot[-1].until, 3), " ".join(_describe_frames(shot, ())))
        for shot in shots(film)
    ]


def _describe_frames(film: Sequence[Frame], cut_times: Sequence[float]) -> list[str]:
    pixels = [frame.pixels for frame in film]
    light = sum(brightness(one) for one in pixels) / len(pixels)
    sentences = [f"It is {_word(_BRIGHTNESS, light, 'bright')}, mostly {_colours(pixels)}."]
    moving = motion(film, cut_times)
    if moving is not None:
        amount = _word(_MOTION, moving.mean, "much motion")
        most = "" if moving.mean <= _MOTION[0][0] else f", most of it at {moving.peak_time:.1f} s"
        sentences.append(f"There is {amount}{most}.")
    return sentences


def describe_appearances(name: str, appearances: Sequence[Hit]) -> str:
    """Say when someone appears."""
    ranges = [f"{hit.start_time:.1f}-{hit.end_time:.1f} s" for hit in appearances]
    return f"{name} appears at {_listed(ranges)}."


def _shots(cut_times: Sequence[float]) -> str:
    if not cut_times:
        return "It is a single shot without a cut."
    shown = [f"{time:.1f} s" for time in cut_times[:10]]
    more = len(cut_times) - len(shown)
    times = _listed([*shown, f"{more} more times"] if more else shown)
    return f"It has {len(cut_times) + 1} shots, with cuts at {times}."


def _colours(pictures: Sequence[Pixels]) -> str:
    counts = sum((colour_counts(one) for one in pictures), np.zeros(len(_COLOURS), np.int64))
    shares = counts / counts.sum()
    top = [int(i) for i in np.argsort(-shares, kind="stable")[:3]]
    return _listed([f"{_COLOURS[i]} ({shares[i]:.0%})" for i in top if shares[i] >= 0.05])


def _size(width: int, height: int) -> str:
    return f"{width} x {height} pixels"


def _shape(width: int, height: int) -> str:
    if width == height:
        return "square"
    return "landscape" if width > height else "portrait"


def _word(table: Sequence[tuple[float, str]], value: float, above: str) -> str:
    return next((word for limit, word in table if value <= limit), above)


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
