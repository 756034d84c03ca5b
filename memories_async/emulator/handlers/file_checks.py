"""The service's limits on files, and the words in which it refuses one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TypeAlias

import attrs

from memories_async import _json, operations
from memories_async.emulator.handlers.validation import refuse
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
LIBRARY_URL_BYTES = 1 * GB

FILE_BYTES = {
    **dict.fromkeys(
        (operations.CAPTION_VIDEO_FILE.name, operations.SUBMIT_VIDEO_FILE.name), CAPTION_VIDEO_BYTES
    ),
    **dict.fromkeys(
        (operations.ADD_IMAGES.name, operations.SEARCH_CLIPS.name, operations.SEARCH_SIMILAR.name),
        LIBRARY_IMAGE_BYTES,
    ),
    operations.ADD_VIDEO_FILE.name: LIBRARY_VIDEO_BYTES,
}
"""The largest file, by the row of the operation, where one is documented: more is not kept."""

ASSET_TYPES = {
    **dict.fromkeys((".jpg", ".jpeg"), "image/jpeg"),
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    **dict.fromkeys((".tif", ".tiff"), "image/tiff"),
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".flv": "video/x-flv",
    ".wmv": "video/x-ms-wmv",
    **dict.fromkeys((".mpeg", ".mpg"), "video/mpeg"),
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
}
"""What an asset may be, by its extension: many clients send no type with a file."""
EMBEDDING_TYPES = {name: kind for name, kind in ASSET_TYPES.items() if kind.startswith("image/")}
"""JPEG, PNG, GIF, WebP, BMP and TIFF, as documented, by their extensions."""

_DATETIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

FileCheck: TypeAlias = Callable[[SpooledFile], None]


def text(fields: Mapping[str, object], name: str) -> str:
    """Return a field as text; empty if it is absent."""
    return str(fields.get(name, ""))


def items(value: object) -> list[object]:
    """Return the items of a list, or a single value as a list of one."""
    return value if _json.is_array(value) else [value]


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


def image_urls(fields: Mapping[str, object]) -> list[str]:
    """Return the addresses in ``url`` or ``urls``."""
    given = fields.get("url") or fields.get("urls")
    urls = [url for url in items(given) if isinstance(url, str)] if given else []
    if not urls:
        raise refuse("url is not allowed, please provide an image URL")
    return urls


def persons(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the name and picture address of each person to look for."""
    entries: list[dict[str, object]] = [
        entry if _json.is_object(entry) else {} for entry in items(fields.get("persons") or [])
    ]
    if len(entries) > MOST_PERSONS:
        raise refuse(f"Up to {MOST_PERSONS} reference person images can be provided")
    return [
        (
            _filled(entry, "name", "person name is not null,please provide a name"),
            _filled(entry, "url", "person url is not null, please upload a image file"),
        )
        for entry in entries
    ]


def _filled(entry: Mapping[str, object], name: str, message: str) -> str:
    value = text(entry, name).strip()
    if not value:
        raise refuse(message)
    return value


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


def details(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the descriptive fields of an upload, and the tag that the service adds.

    Raises:
        Refusal: The time is none.
    """
    found = {
        name: fields[name] for name in ("camera_model", "latitude", "longitude") if name in fields
    }
    if taken := text(fields, "datetime_taken"):
        found["datetime_taken"] = str(milliseconds(taken))
    return {**found, "tags": [*items(fields.get("tags", [])), "api"]}


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


def milliseconds(taken: str) -> int:
    """Return a time as milliseconds since 1970.

    Raises:
        Refusal: It is not written as documented.
    """
    try:
        if not _DATETIME.fullmatch(taken):
            raise ValueError(taken)
        moment = datetime.strptime(taken, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError as error:
        message = "datetime_taken has an invalid format, expected yyyy-MM-dd HH:mm:ss"
        raise refuse(message) from error
    return int(moment.timestamp()) * 1000


# --- assets and embeddings ---------------------------------------------------------------------


def asset(file: SpooledFile) -> SpooledFile:
    """Return the file with its type, which must be that of a video, a sound or a picture.

    Raises:
        Refusal: It is something else, or empty.
    """
    content_type = file.content_type
    if not content_type.startswith(("video/", "audio/", "image/")):
        content_type = ASSET_TYPES.get(PurePath(file.name).suffix.lower(), "")
    if not file.size or not content_type:
        raise refuse(f"Invalid request parameters: {file.name} is not a supported file")
    return attrs.evolve(file, content_type=content_type)


def embedding_image(file: SpooledFile) -> None:
    """Refuse what is not a documented image format."""
    content_type = file.content_type.partition(";")[0].strip().lower().replace("/jpg", "/jpeg")
    if not content_type.startswith("image/"):
        content_type = EMBEDDING_TYPES.get(PurePath(file.name).suffix.lower(), "")
    if not file.size or content_type not in EMBEDDING_TYPES.values():
        raise refuse(f"Invalid request parameters: {file.name} is not a supported image")
