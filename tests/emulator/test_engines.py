"""Both engines keep to the protocol; embeddings and captions."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageSequence

from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.engines.pixels import PixelEngine
from memories_async.emulator.engines.protocol import (
    EMBEDDING_LENGTHS,
    Engine,
    ReferencePerson,
    UnreadableMediaError,
)
from tests.emulator.films import (
    FILM,
    Recorder,
    cropped,
    film_frames,
    saved,
    scene,
    write_film,
    write_three_shots,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Assigned with their types, so that a type checker holds both to the protocol.
PIXELS: Engine = PixelEngine()
HASHES: Engine = HashEngine()
MODELS = sorted(EMBEDDING_LENGTHS)
MODEL = "mobileclip"


def cosine(a: list[float], b: list[float]) -> float:
    return float(np.dot(a, b))


@pytest.mark.parametrize("engine", [PIXELS, HASHES], ids=["pixels", "hashes"])
@pytest.mark.parametrize("model", MODELS)
def test_embedding_is_a_deterministic_unit_vector(
    engine: Engine, model: str, tmp_path: Path
) -> None:
    picture = saved(tmp_path / "a.png", scene(1))
    vector = engine.embed_image(picture, model)
    assert len(vector) == {"multimodalembedding@001": 1408, "mobileclip": 512}[model]
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
    assert engine.embed_image(saved(tmp_path / "b.png", scene(1)), model) == vector
    assert cosine(engine.embed_image(saved(tmp_path / "c.png", scene(2)), model), vector) < 0.6


PIXEL_NUMBERS = [0.05021273, -0.04037697, 0.01952293, -0.05206684]
HASH_NUMBERS = [-0.01351739, -0.03799195, -0.05390349, 0.05201978]


def test_embeddings_are_the_same_on_every_machine(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], 64), np.full((64, 64), 9)], 2)
    picture = saved(tmp_path / "ramp.png", Image.fromarray(pixels.astype(np.uint8)))
    assert PIXELS.embed_image(picture, MODEL)[:4] == pytest.approx(PIXEL_NUMBERS, abs=1e-5)
    (tmp_path / "bytes").write_bytes(b"the same everywhere")
    assert HASHES.embed_image(tmp_path / "bytes", MODEL)[:4] == pytest.approx(HASH_NUMBERS)


def _jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


NEAR_DUPLICATES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG": _jpeg,
    "half size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "cropped": cropped,
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.75),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.25),
}


@pytest.mark.parametrize("change", NEAR_DUPLICATES)
def test_near_duplicates_are_near(change: str, tmp_path: Path) -> None:
    for picture in (scene(1), scene(2), film_frames()[60]):
        original = saved(tmp_path / "original.png", picture)
        changed = saved(tmp_path / "changed.png", NEAR_DUPLICATES[change](picture))
        for model in MODELS:
            a, b = PIXELS.embed_image(original, model), PIXELS.embed_image(changed, model)
            assert cosine(a, b) > 0.9


def test_different_pictures_are_far(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    pictures = [
        *(scene(seed) for seed in range(8)),
        film_frames()[0],
        film_frames()[0].transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        film_frames()[0].crop((0, 0, 300, 300)),
        Image.fromarray(noise),
        Image.new("RGB", (80, 60), "white"),
        Image.new("RGB", (80, 60), "black"),
        Image.new("RGB", (80, 60), "red"),
        Image.new("RGB", (80, 60), "blue"),
    ]
    for model in MODELS:
        vectors = [
            PIXELS.embed_image(saved(tmp_path / "x.png", picture), model) for picture in pictures
        ]
        likeness = np.array(vectors) @ np.array(vectors).T - np.eye(len(vectors))
        assert likeness.max() < 0.7
        assert np.median(likeness) < 0.3


def test_pictures_are_read_as_people_see_them(tmp_path: Path) -> None:
    upright = scene(4, 320, 200)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned = saved(
        tmp_path / "turned.jpg", upright.transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95
    )
    assert "320 x 200 pixels, landscape" in PIXELS.describe_images([turned], "")
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert "white (100%)" in PIXELS.describe_images([saved(tmp_path / "clear.png", clear)], "")
    palette = scene(4).quantize(64)
    palette.info["transparency"] = b"\xff\xf0"
    deep = Image.fromarray((np.asarray(upright.convert("L")) * np.uint16(257)).astype(np.uint16))
    expected = {
        "upright.png": upright,
        "turned.jpg": None,
        "palette.png": palette,
        "frame.webp": upright,
        "frame.tiff": upright,
        "frame.bmp": upright,
        "deep.png": deep,
    }
    vectors = {
        name: PIXELS.embed_image(
            tmp_path / name if picture is None else saved(tmp_path / name, picture), MODEL
        )
        for name, picture in expected.items()
    }
    likeness = {name: cosine(vector, vectors["upright.png"]) for name, vector in vectors.items()}
    assert likeness.pop("deep.png") > 0.7  # without its colours
    assert min(likeness.values()) > 0.95, likeness


def test_animation_is_its_first_frame(tmp_path: Path) -> None:
    animation = saved(
        tmp_path / "a.gif",
        scene(1).quantize(64),
        save_all=True,
        append_images=[scene(seed).quantize(64) for seed in (2, 3, 4)],
    )
    with Image.open(animation) as opened:
        assert len(list(ImageSequence.Iterator(opened))) == 4
    first = PIXELS.embed_image(saved(tmp_path / "first.png", scene(1)), MODEL)
    assert cosine(PIXELS.embed_image(animation, MODEL), first) > 0.9


def test_pictures_are_described_by_measurements(tmp_path: Path) -> None:
    red = saved(tmp_path / "red.png", Image.new("RGB", (640, 480), (220, 20, 20)))
    night = saved(tmp_path / "night.png", Image.new("RGB", (30, 50), (8, 8, 8)))
    text = PIXELS.describe_images([red, night], "What is this?")
    assert "2 pictures" in text
    assert "640 x 480 pixels, landscape, dark, mostly red (100%)" in text
    assert "30 x 50 pixels, portrait, very dark, mostly black (100%)" in text
    assert "measurements" in text
    assert PIXELS.describe_images([red, night], "another prompt") == text


@pytest.mark.usefixtures("seen_once")
def test_film_is_described_by_measurements() -> None:
    text = PIXELS.describe_video(FILM, "Summarize", [])
    for fact in ("5.3 seconds", "1280 x 720", "25 frames", "single shot", "green", "motion"):
        assert fact in text
    assert "measurements" in text
    assert PIXELS.describe_video(FILM, "Summarize", []) == text


def test_cuts_and_persons_are_named_with_their_times(tmp_path: Path) -> None:
    three_shots = write_three_shots(tmp_path / "three.mp4")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    persons = [
        ReferencePerson("Alice", saved(tmp_path / "alice.jpg", scene(2))),
        ReferencePerson("Bob", None),
        ReferencePerson("Carol", saved(tmp_path / "carol.png", scene(9))),
        ReferencePerson("Dan", broken),
    ]
    text = PIXELS.describe_video(three_shots, "who?", persons)
    assert "3 shots, with cuts at 1.0 s and 2.0 s" in text
    assert "hardly any motion" in text
    assert "Alice appears at 1.0-2.0 s." in text
    assert "Bob was not found: there is no reference picture." in text
    assert "Carol was not found: no frame looks like" in text
    assert "Dan was not found: the reference picture cannot be read." in text


def test_motion_is_told_from_stillness(tmp_path: Path) -> None:
    wide = scene(6, 640, 192)
    moving = [wide.crop((6 * step, 0, 6 * step + 320, 192)) for step in range(30)]
    write_film(tmp_path / "pan.mp4", moving, rate=10, key_every=10)
    text = PIXELS.describe_video(tmp_path / "pan.mp4", "", [])
    assert "moderate motion" in text or "much motion" in text
    assert "single shot" in text


def test_probe_says_what_the_container_says(tmp_path: Path) -> None:
    three_shots = write_three_shots(tmp_path / "three.mp4")
    facts = PIXELS.probe_video(FILM)
    assert (facts.duration, facts.width, facts.height, facts.fps) == (5.28, 1280, 720, 25.0)
    facts = PIXELS.probe_video(three_shots)
    assert (facts.duration, facts.width, facts.height, facts.fps) == (3.0, 160, 96, 10.0)


def test_recording_without_a_duration_is_measured(tmp_path: Path) -> None:
    recorder = Recorder()
    write_film(recorder, (scene(1) for _ in range(25)), rate=10, key_every=10)
    (tmp_path / "live.mkv").write_bytes(recorder.content)
    assert PIXELS.probe_video(tmp_path / "live.mkv").duration == pytest.approx(2.5, abs=0.01)


def test_hash_engine_accepts_any_content(tmp_path: Path) -> None:
    path, other = tmp_path / "anything", tmp_path / "other"
    path.write_bytes(b"anything at all")
    other.write_bytes(b"anything else")
    persons = [ReferencePerson("Alice", other), ReferencePerson("Bob", None)]
    text = HASHES.describe_video(path, "", persons)
    assert "Alice appears at " in text
    assert "Bob was not found" in text
    assert HASHES.describe_video(path, "", persons) == text
    assert "2 pictures" in HASHES.describe_images([path, other], "")
    assert HASHES.describe_images([path], "") != HASHES.describe_images([other], "")
    facts = HASHES.probe_video(path)
    assert 5 <= facts.duration <= 65
    hits = HASHES.find_clips(path, other, "")
    assert HASHES.find_clips(path, other, "another prompt") == hits
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert 0 <= hit.start_time < hit.end_time <= facts.duration
        assert 0 <= hit.score <= 1


def test_hash_engine_reads_a_stated_duration() -> None:
    assert HASHES.probe_video(FILM).duration == pytest.approx(5.3, abs=0.05)


def test_hash_engine_refuses_an_empty_file(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with pytest.raises(UnreadableMediaError, match="empty is empty"):
        HASHES.embed_image(empty, MODEL)
    with pytest.raises(UnreadableMediaError):
        HASHES.describe_images([FILM, empty], "")
    with pytest.raises(UnreadableMediaError):
        HASHES.find_clips(FILM, empty, "")
    with pytest.raises(UnreadableMediaError):
        HASHES.probe_video(empty)
    assert "Alice was not found" in HASHES.describe_video(
        FILM, "", [ReferencePerson("Alice", empty)]
    )


def test_hash_engine_needs_no_extra() -> None:
    program = (
        "import sys, memories_async.emulator.engines.hashing\n"
        "assert not {'PIL', 'numpy', 'av'} & sys.modules.keys(), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
