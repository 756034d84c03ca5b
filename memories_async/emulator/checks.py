"""The service's limits, and the texts with which it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TypeAlias, cast

from memories_async.emulator.engine import EMBEDDING_LENGTHS
from memories_async.emulator.envelopes import Reason, Refusal
from memories_async.emulator.spool import SpooledFile

MB = 1 << 20
GB = 1 << 30

CAPTION_IMAGE_TYPES = frozenset({"image/png", "image/jpeg"})
CAPTION_VIDEO_BYTES = 8 * GB
CAPTION_VIDEO_SECONDS = 2 * 60 * 60
MOST_PERSONS = 5

LIBRARY_IMAGE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})
LIBRARY_IMAGE_BYTES = 20 * MB
LIBRARY_VIDEO_EXTENSIONS = frozenset({".mp4", ".avi", ".mkv", ".mov"})
LIBRARY_VIDEO_BYTES = 3 * GB
MOST_IMAGE_TAGS = 50
MOST_VIDEO_TAGS = 20
LONGEST_CAMERA_MODEL = 200
LONGEST_CALLBACK = 299

EMBEDDING_MODELS = tuple(EMBEDDING_LENGTHS)
EMBEDDING_EXTENSIONS = LIBRARY_IMAGE_EXTENSIONS | {".tif", ".tiff"}

_DATETIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

FileCheck: TypeAlias = Callable[[SpooledFile], None]


def refuse(message: str) -> Refusal:
    """Return the refusal of a bad parameter or file."""
    return Refusal(Reason.BAD_REQUEST, message)


def text(fields: Mapping[str, object], name: str) -> str:
    """Return a field as text; empty if it is absent or blank."""
    value = fields.get(name)
    return "" if value is None else str(value).strip()


def required(fields: Mapping[str, object], name: str, message: str) -> str:
    """Return a field as text.

    Raises:
        Refusal: It is absent or blank.
    """
    value = text(fields, name)
    if not value:
        raise refuse(message)
    return value


def items(value: object) -> list[object]:
    """Return the items of a list, or a single value as a list of one."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


def files(parts: Sequence[SpooledFile], name: str) -> list[SpooledFile]:
    """Return the files of the parts with this name.

    Raises:
        Refusal: There are none.
    """
    found = [file for file in parts if file.part == name]
    if not found:
        raise refuse(f"Required part '{name}' is not present.")
    return found


# --- captions ---------------------------------------------------------------------------------


def user_prompt(fields: Mapping[str, object]) -> str:
    """Return the prompt, which every caption needs."""
    message = "userPrompt is not allowed, please provide a user prompt"
    return required(fields, "user_prompt", message)


def video_prompts(fields: Mapping[str, object]) -> str:
    """Return the prompt, having seen the system prompt, which video captions also need."""
    prompt = user_prompt(fields)
    message = "systemPrompt is not allowed, please provide a system prompt"
    required(fields, "system_prompt", message)
    return prompt


def callback(fields: Mapping[str, object]) -> str:
    """Return the callback address, which asynchronous captions need."""
    message = "callback is not allowed, please provide a callback URL"
    return required(fields, "callback", message)


def video_url(fields: Mapping[str, object]) -> str:
    """Return the address of the video to caption."""
    message = "videoUrl is not allowed, please upload a video file"
    return required(fields, "video_url", message)


def image_urls(fields: Mapping[str, object]) -> list[str]:
    """Return the addresses in ``url`` or ``urls``."""
    given = fields.get("urls") or fields.get("url")
    urls = [url for url in items(given) if isinstance(url, str)] if given else []
    if not urls:
        raise refuse("url is not allowed, please provide an image URL")
    return urls


def persons(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the name and picture address of each person to look for."""
    entries = [
        cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        for entry in items(fields.get("persons") or [])
    ]
    if len(entries) > MOST_PERSONS:
        raise refuse(f"Up to {MOST_PERSONS} reference person images can be provided")
    return [
        (
            required(entry, "name", "person name is not null,please provide a name"),
            required(entry, "url", "person url is not null, please upload a image file"),
        )
        for entry in entries
    ]


def caption_image(file: SpooledFile) -> None:
    """Refuse what is not PNG or JPEG."""
    if file.content_type.lower() not in CAPTION_IMAGE_TYPES or not file.size:
        raise refuse(f"{file.name} is not support image type, please upload a image file")


def person_image(file: SpooledFile) -> None:
    """Refuse what is not an image."""
    if not file.content_type.startswith("image/") or not file.size:
        message = "person url is not support image type, please upload a image file"
        raise refuse(f"{message} ({file.name})")


def caption_video(file: SpooledFile) -> None:
    """Refuse what is not a video, is empty or is too large."""
    if not file.content_type.startswith("video/"):
        message = "videoUrl is not support video type, please upload a video file"
        raise refuse(f"{message} ({file.name})")
    if not 0 < file.size <= CAPTION_VIDEO_BYTES:
        raise refuse(f"Video file size exceeds the limit of {CAPTION_VIDEO_BYTES // GB}GB")


def caption_duration(seconds: float) -> None:
    """Refuse what lasts too long."""
    if seconds > CAPTION_VIDEO_SECONDS:
        hours = CAPTION_VIDEO_SECONDS // 3600
        raise refuse(f"Video duration exceeds the limit of {hours} hours")


# --- the library ------------------------------------------------------------------------------


def library_image(file: SpooledFile) -> None:
    """Refuse an image that the library does not take."""
    _library_file(file, "image", LIBRARY_IMAGE_EXTENSIONS, LIBRARY_IMAGE_BYTES)


def library_video(file: SpooledFile) -> None:
    """Refuse a video that the library does not take."""
    _library_file(file, "video", LIBRARY_VIDEO_EXTENSIONS, LIBRARY_VIDEO_BYTES)


def batch(parts: Sequence[SpooledFile], most: int) -> None:
    """Refuse too many files in one request."""
    if len(parts) > most:
        raise refuse(f"The number of files exceeds the limit of {most} per request")


def details(fields: Mapping[str, object], most_tags: int) -> dict[str, object]:
    """Return the descriptive fields of an upload, and the tag that the service adds.

    Raises:
        Refusal: One of them is out of bounds.
    """
    found: dict[str, object] = {}
    if taken := text(fields, "datetime_taken"):
        found["datetime_taken"] = _milliseconds(taken)
    if camera := text(fields, "camera_model"):
        if len(camera) > LONGEST_CAMERA_MODEL:
            raise refuse(f"camera_model exceeds the limit of {LONGEST_CAMERA_MODEL} characters")
        found["camera_model"] = camera
    for name, bound in (("latitude", 90), ("longitude", 180)):
        if value := text(fields, name):
            found[name] = _coordinate(name, value, bound)
    tags = items(fields.get("tags") or [])
    if len(tags) > most_tags:
        raise refuse(f"tags exceed the limit of {most_tags}")
    return {**found, "tags": [*tags, "api"]}


def library_callback(fields: Mapping[str, object]) -> str:
    """Return the optional callback address of a library video."""
    url = text(fields, "callback")
    if len(url) > LONGEST_CALLBACK:
        raise refuse(f"callback exceeds the limit of {LONGEST_CALLBACK} characters")
    return url


def _library_file(
    file: SpooledFile, kind: str, extensions: frozenset[str], most_bytes: int
) -> None:
    if not file.size:
        raise refuse(f"The file {file.name} is empty")
    if PurePath(file.name).suffix.lower() not in extensions:
        allowed = ", ".join(sorted(extensions))
        raise refuse(f"The file {file.name} has an unsupported extension; allowed: {allowed}")
    if not file.content_type.startswith(f"{kind}/"):
        raise refuse(f"The content type of the file {file.name} must start with {kind}/")
    if file.size > most_bytes:
        raise refuse(f"The file {file.name} exceeds the limit of {most_bytes // MB} MB")


def _milliseconds(taken: str) -> str:
    try:
        if not _DATETIME.fullmatch(taken):
            raise ValueError(taken)
        moment = datetime.strptime(taken, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError as error:
        message = "datetime_taken has an invalid format, expected yyyy-MM-dd HH:mm:ss"
        raise refuse(message) from error
    return str(int(moment.timestamp()) * 1000)


def _coordinate(name: str, value: str, bound: int) -> float:
    try:
        degrees = float(value)
    except ValueError:
        degrees = bound + 1.0
    if not -bound <= degrees <= bound:
        raise refuse(f"{name} must be a decimal between -{bound} and {bound}")
    return degrees


# --- embeddings -------------------------------------------------------------------------------


def embedding_model(fields: Mapping[str, object]) -> str:
    """Return the model, one of the two documented."""
    model = text(fields, "model")
    if model not in EMBEDDING_MODELS:
        allowed = " or ".join(EMBEDDING_MODELS)
        raise refuse(f"Invalid request parameters: model must be {allowed}")
    return model


def embedding_image(file: SpooledFile) -> None:
    """Refuse what is not a documented image format."""
    extension = PurePath(file.name).suffix.lower()
    if not file.size or not (
        extension in EMBEDDING_EXTENSIONS or file.content_type.startswith("image/")
    ):
        raise refuse(f"Invalid request parameters: {file.name} is not a supported image")
