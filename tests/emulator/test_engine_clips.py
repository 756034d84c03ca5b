"""Clip search: a picture is found where it occurs in a film."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memories_async.emulator.engines import video
from memories_async.emulator.engines.descriptors import Pixels, Vector, compute_descriptor
from memories_async.emulator.engines.pixels import PixelEngine
from tests.emulator.films import (
    FILM,
    cropped,
    film_frames,
    saved,
    scene,
    write_film,
    write_three_shots,
)

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = PixelEngine()


@pytest.mark.parametrize("second", [0.0, 0.6, 1.32, 1.6, 2.4, 4.1, 5.2])
@pytest.mark.usefixtures("seen_once")
def test_frame_is_found_where_it_was_taken(second: float, tmp_path: Path) -> None:
    frame = film_frames()[round(second * 25)]
    half = frame.resize((frame.width // 2, frame.height // 2))
    queries = (
        saved(tmp_path / "query.png", frame),
        saved(tmp_path / "half.jpg", half, quality=80),
    )
    for query in queries:
        best, *others = PIXELS.find_clips(FILM, query, "the rabbit")
        assert best.start_time <= second <= best.end_time
        assert best.score > 0.99
        assert all(hit.score < best.score for hit in others)
        assert 0 <= best.start_time < best.end_time <= 5.28


@pytest.mark.usefixtures("seen_once")
def test_ranges_are_as_tight_as_the_film_allows(tmp_path: Path) -> None:
    # The rabbit climbs out of its hole until 1.8 s and then stands still until 4.1 s.
    lengths = {}
    for second in (0.0, 1.32, 1.6, 3.0):
        query = saved(tmp_path / "query.png", film_frames()[round(second * 25)])
        best = PIXELS.find_clips(FILM, query, "")[0]
        lengths[second] = best.end_time - best.start_time
    assert max(lengths[0.0], lengths[1.32], lengths[1.6]) < 1
    assert 1.5 < lengths[3.0] < 3.5


@pytest.mark.slow
def test_clip_search_is_quick_and_deterministic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes through the film once: each of its 132 frames is unpacked and looked at once."""
    query = saved(tmp_path / "query.jpg", film_frames()[50])
    looked_at: list[Pixels] = []

    def look(pixels: Pixels) -> Vector:
        looked_at.append(pixels)
        return compute_descriptor(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(video, "compute_descriptor", look)
        hits = PIXELS.find_clips(FILM, query, "a")
    assert len(looked_at) == 132
    assert PIXELS.find_clips(FILM, query, "b") == hits
    assert all(hit.score == round(hit.score, 4) for hit in hits)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.usefixtures("seen_once")
def test_unrelated_picture_is_not_found(seed: int, tmp_path: Path) -> None:
    assert PIXELS.find_clips(FILM, saved(tmp_path / "query.png", scene(seed)), "") == []


def test_clip_borders_are_exact_to_a_frame(tmp_path: Path) -> None:
    three_shots = write_three_shots(tmp_path / "three.mp4")
    (hit,) = PIXELS.find_clips(three_shots, saved(tmp_path / "query.png", scene(2)), "")
    assert (hit.start_time, hit.end_time) == (1.0, 2.0)


def test_recurring_shot_is_found_each_time(tmp_path: Path) -> None:
    shots = [scene(1), scene(2), scene(1), cropped(scene(2))]
    video = tmp_path / "again.mkv"
    write_film(video, (shot for shot in shots for _ in range(10)), rate=10, key_every=10)
    first, second = PIXELS.find_clips(video, saved(tmp_path / "query.png", scene(2)), "")
    assert (first.start_time, first.end_time) == (1.0, 2.0)
    assert (second.start_time, second.end_time) == (3.0, 4.0)
    assert first.score > second.score


def test_long_video_is_searched_by_key_frames_and_then_exactly(tmp_path: Path) -> None:
    video = tmp_path / "long.mp4"
    shots = [scene(seed) for seed in range(6)]
    write_film(video, (shot for shot in shots for _ in range(87)), rate=5, key_every=40)
    query = saved(tmp_path / "query.jpg", shots[3])
    (hit,) = PIXELS.find_clips(video, query, "")
    assert (hit.start_time, hit.end_time) == pytest.approx((52.2, 69.6), abs=0.2)
    text = PIXELS.describe_video(video, "", [])
    assert "6 shots" in text
    assert "key frames alone" in text
