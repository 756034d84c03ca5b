"""What the engines read in a video and in a text, and how texts are compared."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from memories_async.emulator import UnreadableMediaError
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.engines.pixels import PixelEngine
from memories_async.emulator.engines.protocol import EMBEDDING_LENGTHS, Engine
from memories_async.emulator.engines.text import text_embedding, word_overlap
from tests.emulator.films import FILM, film_frames, saved, write_three_shots

PIXELS: Engine = PixelEngine()
HASHES: Engine = HashEngine()
EACH_ENGINE = pytest.mark.parametrize("engine", [PIXELS, HASHES], ids=["pixels", "hashes"])
MODEL = "multimodalembedding@001"


def cosine(a: list[float], b: list[float]) -> float:
    return float(np.dot(a, b))


def test_each_shot_has_a_line(tmp_path: Path) -> None:
    lines = PIXELS.describe_shots(write_three_shots(tmp_path / "three.mp4"))
    assert [(line.start_time, line.end_time) for line in lines] == [(0, 1), (1, 2), (2, 3)]
    assert all(line.text.startswith("It is ") and "motion" in line.text for line in lines)
    assert len({line.text for line in lines}) == 3


@pytest.mark.usefixtures("seen_once")
def test_a_film_without_a_cut_is_one_line() -> None:
    [line] = PIXELS.describe_shots(FILM)
    assert (line.start_time, line.end_time) == (0.0, pytest.approx(5.28))
    assert "green" in line.text
    assert PIXELS.describe_shots(FILM) == [line]


def test_hashes_tell_halves(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_bytes(b"anything")
    first, second = HASHES.describe_shots(path)
    assert first.start_time == 0
    assert first.end_time == second.start_time
    assert second.end_time == pytest.approx(HASHES.probe_video(path).duration, abs=0.01)
    assert HASHES.describe_shots(path) == [first, second]


@EACH_ENGINE
def test_neither_engine_hears(engine: Engine) -> None:
    assert engine.transcribe(FILM) == []


@EACH_ENGINE
def test_what_is_no_video_is_not_read(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"")
    for question in engine.describe_shots, lambda video: engine.embed_video(video, MODEL):
        with pytest.raises(UnreadableMediaError):
            question(path)


@EACH_ENGINE
@pytest.mark.usefixtures("seen_once")
def test_a_video_s_embedding_is_a_unit_vector(engine: Engine) -> None:
    vector = engine.embed_video(FILM, MODEL)
    assert len(vector) == EMBEDDING_LENGTHS[MODEL]
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
    assert engine.embed_video(FILM, MODEL) == vector


def test_a_video_is_near_its_own_frames(tmp_path: Path) -> None:
    video = PIXELS.embed_video(FILM, MODEL)
    frame = PIXELS.embed_image(saved(tmp_path / "frame.png", film_frames()[60]), MODEL)
    other = PIXELS.embed_video(write_three_shots(tmp_path / "three.mp4"), MODEL)
    assert cosine(video, frame) > 0.8
    assert cosine(video, other) < 0.5


@EACH_ENGINE
@pytest.mark.parametrize("length", [1, 256, 3072])
def test_a_text_s_embedding_is_a_unit_vector(engine: Engine, length: int) -> None:
    for text in "A rabbit on a meadow.", "Кролик на лугу", "", "?!", "兎" * 1000:
        vector = engine.embed_text(text, length)
        assert len(vector) == length
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)
        assert engine.embed_text(text, length) == vector


def test_similar_texts_are_near() -> None:
    def nearness(one: str, other: str) -> float:
        return cosine(text_embedding(one, 768), text_embedding(other, 768))

    assert nearness("A rabbit on a green meadow", "the green meadow, and a RABBIT!") > 0.99
    assert nearness("rabbits in meadows", "a rabbit in a meadow") > 0.9
    assert 0.3 < nearness("a rabbit on a meadow", "a rabbit in the snow") < 0.8
    assert abs(nearness("a rabbit on a meadow", "quarterly figures of trade")) < 0.2


def test_text_embeddings_are_the_same_on_every_machine() -> None:
    assert text_embedding("A rabbit", 8) == EXPECTED


EXPECTED = [0.0, 0.0, 0.18973666, 0.0, 0.0, 0.37947332, 0.82219219, 0.37947332]


@pytest.mark.parametrize(
    ("query", "text", "score"),
    [
        ("a rabbit", "The Rabbit.", 1.0),
        ("rabbits", "a rabbit", 1.0),
        ("grass", "a grass", 1.0),
        ("green rabbit", "a rabbit", 0.5),
        ("rabbit", "a hare", 0.0),
        ("who is it?", "this is it", 0.6667),
        ("???", "a rabbit", 0.0),
        ("兎", "兎", 1.0),
    ],
)
def test_likeness_is_the_share_of_words_found(query: str, text: str, score: float) -> None:
    assert word_overlap(query, text) == pytest.approx(score, abs=1e-4)


def movie(version: int, timescale: int, units: int) -> bytes:
    """Return the bytes around an MP4's movie header."""
    times = bytes(16) if version else bytes(8)
    layout = ">IQ" if version else ">II"
    header = b"mvhd" + bytes([version, 0, 0, 0]) + times + struct.pack(layout, timescale, units)
    return b"\0\0\0\x18ftypmp42" + bytes(100) + header + bytes(100)


@pytest.mark.parametrize("version", [0, 1])
def test_hashes_read_what_a_movie_states(version: int, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(movie(version, 600, 600 * 90 + 300))
    assert HASHES.probe_video(path).duration == 90.5


@pytest.mark.parametrize(
    "content",
    [
        movie(0, 0, 90),
        movie(0, 600, 0),
        movie(0, 600, 90)[:128],
        movie(0, 600, 90)[4:],
        b"\0\0\0\x18ftypmp42",
        b"x",
    ],
)
def test_hashes_make_up_what_a_movie_does_not_state(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    assert 5 <= HASHES.probe_video(path).duration <= 65
