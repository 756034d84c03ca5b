"""Hostile and damaged files cost little and raise one exception."""

from __future__ import annotations

import io
import random
import zlib
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from memories_async.emulator.engines import video as frames
from memories_async.emulator.engines.pixels import PixelEngine
from memories_async.emulator.engines.protocol import UnreadableMediaError
from tests.emulator.films import FILM, saved, scene, write_film, write_three_shots

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = PixelEngine()
MODEL = "mobileclip"


def huge_png(path: Path, side: int) -> Path:
    """A PNG whose header claims a size that its few bytes do not show."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4)
        return len(data).to_bytes(4) + kind + data + check

    header = side.to_bytes(4) * 2 + b"\x01\0\0\0\0"
    body = zlib.compress(bytes(10_000))
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(
        signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [10_000, 50_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_picture_bomb_is_refused_before_decoding(side: int, tmp_path: Path) -> None:
    with pytest.raises(UnreadableMediaError, match=r"pixels|DecompressionBomb"):
        PIXELS.embed_image(huge_png(tmp_path / "bomb.png", side), MODEL)


def test_video_with_huge_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_PIXELS", 1280 * 720 - 1)
    with pytest.raises(UnreadableMediaError, match="1280 x 720"):
        PIXELS.describe_video(FILM, "", [])


def test_number_of_frames_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAMES", 25)
    assert len(list(frames.frames(FILM))) == 25
    assert "Only its first 1.0 seconds were looked at" in PIXELS.describe_video(FILM, "", [])


def test_time_is_capped() -> None:
    with pytest.raises(UnreadableMediaError, match="no frame"):
        PixelEngine(time_limit=-1).describe_video(FILM, "", [])


def test_playlist_leads_nowhere(tmp_path: Path) -> None:
    three_shots = write_three_shots(tmp_path / "three.mp4")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{three_shots}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{three_shots}'\n"
    for name, text in (("a.m3u8", playlist), ("a.mp4", playlist), ("b.mp4", concat)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UnreadableMediaError):
            PIXELS.probe_video(tmp_path / name)


@pytest.mark.parametrize("name", ["empty", "text", "missing", "film"])
def test_what_is_no_picture_is_unreadable(name: str, tmp_path: Path) -> None:
    path = FILM if name == "film" else tmp_path / name
    if name in ("empty", "text"):
        path.write_bytes(b"" if name == "empty" else b"Once upon a time")
    with pytest.raises(UnreadableMediaError, match=path.name):
        PIXELS.embed_image(path, MODEL)
    with pytest.raises(UnreadableMediaError):
        PIXELS.describe_images([path], "")
    with pytest.raises(UnreadableMediaError):
        PIXELS.find_clips(FILM, path, "")


def test_what_is_no_video_is_unreadable(tmp_path: Path) -> None:
    picture = saved(tmp_path / "picture.png", scene(1))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(FILM.read_bytes()[:2000])
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    for path in (picture, tmp_path / "empty.mp4", tmp_path / "cut.mp4", sound):
        with pytest.raises(UnreadableMediaError):
            PIXELS.probe_video(path)
        with pytest.raises(UnreadableMediaError):
            PIXELS.describe_video(path, "", [])
        with pytest.raises(UnreadableMediaError):
            PIXELS.find_clips(path, picture, "")


def test_film_cut_short_is_seen_as_far_as_it_goes(tmp_path: Path) -> None:
    video = tmp_path / "film.mkv"
    write_film(video, (scene(1 + n // 40) for n in range(80)), rate=10, key_every=10)
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    text = PIXELS.describe_video(video, "", [])
    assert "lasts 8.0 seconds" in text
    assert "Only its first" in text


def _damage(content: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(content)
    if dice.random() < 0.3:
        del damaged[dice.randrange(20, len(damaged)) :]
    for _ in range(dice.choice((1, 3, 30))):
        reach = len(damaged) if dice.random() < 0.5 else min(len(damaged), 80)
        damaged[dice.randrange(reach)] = dice.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_damaged_picture_is_read_or_unreadable(format_name: str, tmp_path: Path) -> None:
    dice = random.Random(format_name)
    buffer = io.BytesIO()
    scene(1, 60, 40).save(buffer, format_name)
    for _ in range(60):
        (tmp_path / "damaged").write_bytes(_damage(buffer.getvalue(), dice))
        try:
            vector = PIXELS.embed_image(tmp_path / "damaged", MODEL)
        except UnreadableMediaError:
            continue
        assert len(vector) == 512


@pytest.mark.parametrize("videos", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_damaged_video_is_read_or_unreadable(tmp_path: Path, videos: int) -> None:
    three_shots = write_three_shots(tmp_path / "three.mp4")
    dice = random.Random("video")
    query = saved(tmp_path / "query.png", scene(2))
    outcomes = set()
    for _ in range(videos):
        (tmp_path / "damaged").write_bytes(_damage(three_shots.read_bytes(), dice))
        try:
            PIXELS.find_clips(tmp_path / "damaged", query, "")
        except UnreadableMediaError:
            outcomes.add("unreadable")
        else:
            outcomes.add("read")
    assert outcomes == {"read", "unreadable"}
