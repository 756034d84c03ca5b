"""Pixels out of untrusted pictures and videos, with a bound on everything that they may cost."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import av
import numpy as np
from av.error import InvalidDataError
from PIL import ExifTags, Image, ImageOps

from memories_async.emulator.engines.descriptors import SIDE, Pixels, Vector, compute_descriptor
from memories_async.emulator.engines.protocol import UnreadableMediaError, VideoFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_PIXELS = 89_478_485
"""Of a picture or a video frame: the size from which Pillow warns of a decompression bomb."""

MAX_FRAMES = 4000
"""Frames handed out in one pass over a video."""

MAX_RATE = 30.0
"""Frames handed out per second of a video; those between are decoded and dropped."""

_QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF's orientations: width and height change places
# Only what the service documents. Left to guess, Pillow would run Ghostscript for an EPS, and
# FFmpeg would follow a playlist named .mp4 to other files and hosts.
_PICTURE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_VIDEO_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo",
    "protocol_whitelist": "file",
}
# Titles that are not UTF-8 say nothing against a video; from PyAV 19 on that goes without saying.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
_MAX_OPEN_SECONDS = 20.0
_ASSUMED_FPS = 25.0  # for the rare container that does not say


@attrs.frozen
class DecodedPicture:
    """A still picture: its true size, and its pixels scaled down."""

    width: int
    height: int
    pixels: Pixels


@attrs.frozen
class Frame:
    """A frame of a video, shown from ``time`` until ``until`` (seconds), its pixels scaled down."""

    time: float
    until: float
    pixels: Pixels
    descriptor: Vector


@contextmanager
def _readable(path: Path, kind: str) -> Generator[None]:
    # Decoders fail on hostile files in every way there is, from OSError to struct.error; whatever
    # it was, the one fact for the caller is that this file cannot be read.
    try:
        yield
    except UnreadableMediaError:
        raise
    except Exception as error:
        message = f"{path.name} cannot be read as a {kind} ({type(error).__name__})"
        raise UnreadableMediaError(message) from error


def read_picture(path: Path) -> DecodedPicture:
    """Read a picture, of an animation its first frame.

    Raises:
        UnreadableMediaError: Not a picture, damaged, or of more than ``MAX_PIXELS``.
    """
    with _readable(path, "picture"), Image.open(path, formats=_PICTURE_FORMATS) as image:
        width, height = image.size
        _check_size(path, width, height)
        image.draft("RGB", (4 * SIDE, 4 * SIDE))  # a JPEG can be scaled down while decoding
        if image.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS:
            width, height = height, width
        return DecodedPicture(width, height, _scaled(image))


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableMediaError(
            f"{path.name} has {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed"
        )


def _scaled(image: Image.Image) -> Pixels:
    # Scaled before anything else, so that a large picture is copied at most once.
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode.startswith("I;16"):  # converting would clip to the lowest 8 bits
        image = image.convert("F").point(lambda level: level * (1 / 257) + 0.0).convert("L")
    if image.mode != mode:
        image = image.convert(mode)
    small = ImageOps.exif_transpose(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    if mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    return np.asarray(small.convert("RGB"), dtype=np.uint8)


def _container(path: Path) -> InputContainer:
    open_untyped = cast("Callable[..., InputContainer]", av.open)  # _METADATA fits no overload
    return open_untyped(
        f"file:{path}",  # the prefix keeps FFmpeg from reading a protocol into the name
        options=_VIDEO_OPTIONS,
        timeout=_MAX_OPEN_SECONDS,
        **_METADATA,
    )


@contextmanager
def _opened(path: Path) -> Generator[tuple[InputContainer, VideoStream]]:
    with _readable(path, "video"), _container(path) as container:
        if not container.streams.video:
            raise UnreadableMediaError(f"{path.name} has no video stream")
        stream = container.streams.video[0]
        _check_size(path, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # it may grow later
        stream.thread_type = "AUTO"
        yield container, stream


def probe(path: Path) -> VideoFacts:
    """Return what the container says about itself.

    Raises:
        UnreadableMediaError: Not a video, or damaged beyond its header.
    """
    with _opened(path) as (container, stream):
        return VideoFacts(
            duration=round(_duration(container, stream), 3),
            width=stream.width,
            height=stream.height,
            fps=round(_fps(stream), 3),
        )


def _fps(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or _ASSUMED_FPS)


def _duration(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    # A recording that was never closed (live WebM, say) knows no duration: look at its end.
    start = _start(stream)
    times = (float(p.pts * p.time_base) for p in container.demux(stream) if p.pts and p.time_base)
    return max(times, default=start) - start + 1 / _fps(stream)


def _start(stream: VideoStream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))


def frames(
    path: Path,
    *,
    start: float = 0.0,
    end: float = math.inf,
    key_frames_every: float | None = None,
    deadline: float = math.inf,
) -> Iterator[Frame]:
    """Decode a video and yield its frames in the order of their times.

    Frames that are damaged are left out, as players do.

    Args:
        path: The video.
        start: Seconds from the beginning; earlier frames are left out.
        end: Seconds from the beginning; the first frame at or after it ends the pass.
        key_frames_every: Decode key frames only, and of them one in so many seconds: for long
            videos, where encoders put one every few seconds and one at each cut.
        deadline: The ``time.monotonic`` at which to stop, with what there is.

    Raises:
        UnreadableMediaError: Not a video, or no frame of it could be decoded.
    """
    with _opened(path) as (container, stream):
        frame_time = 1 / _fps(stream)
        shown: Frame | None = None
        count = 0
        for at, picture in _decoded(container, stream, start, key_frames_every, deadline):
            if at < start or (shown and at < shown.time + 1 / MAX_RATE - 1e-3):
                continue
            if shown:
                yield attrs.evolve(shown, until=at)
                shown = None
            count += 1
            if at >= end or count > MAX_FRAMES:
                break
            pixels = _thumbnail(picture)
            shown = Frame(at, at + frame_time, pixels, compute_descriptor(pixels))
        if shown:
            yield shown
        if not count and start == 0:
            raise UnreadableMediaError(f"no frame of {path.name} could be decoded")


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    start: float,
    key_frames_every: float | None,
    deadline: float,
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield frames with their seconds from the beginning, from a little before ``start``."""
    origin, frame_time, at = _start(stream), 1 / _fps(stream), 0.0
    if start > 0 and stream.time_base:
        container.seek(int((start + origin) / stream.time_base), stream=stream)
    due = -math.inf
    for packet in container.demux(stream):
        if time.monotonic() > deadline:
            return
        # The last packet is empty: it makes the decoder hand out what it holds back.
        if key_frames_every is not None and packet.size:
            if not packet.is_keyframe or (packet.dts or 0) * packet.time_base < due:
                continue
            due = float((packet.dts or 0) * packet.time_base) + key_frames_every
        try:
            decoded = packet.decode()
        except InvalidDataError:
            continue
        for frame in decoded:
            at = at + frame_time if frame.pts is None else frame.time - origin
            yield at, frame


def _thumbnail(frame: VideoFrame) -> Pixels:
    small = frame.reformat(width=SIDE, height=SIDE, format="rgb24", interpolation="AREA")
    return np.asarray(small.to_ndarray(), dtype=np.uint8)
