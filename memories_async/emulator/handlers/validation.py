"""What each operation takes beside its files: kinds, bounds, and the words of a refusal."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping, Sequence

import attrs

from memories_async import _json, operations
from memories_async.emulator.engines.protocol import EMBEDDING_LENGTHS, TEXT_EMBEDDING_LENGTHS
from memories_async.emulator.http.envelopes import Reason, Refusal

MOST_DELETIONS = 100
MOST_SEARCHED_VIDEOS = 100
MOST_CAPTION_HITS = 200
MOST_LINES = 500
MOST_TEXTS = 250
LONGEST_INTEGER = 2**63 - 1


class FieldType(enum.Enum):
    """What a field holds; forms and queries send all of it as text."""

    TEXT = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXTS = "array"
    ANY = "any"


@attrs.frozen
class Field:
    """One field of a request.

    Attributes:
        name: Its name on the wire.
        kind: What it holds.
        missing: The refusal where it is absent or blank; None if it may be.
        least: The lowest number.
        most: The highest number, the longest text or the longest list.
        choices: The only texts that will do.
        default: What its absence means.
        schema: What else its JSON schema says.
    """

    name: str
    kind: FieldType = FieldType.TEXT
    missing: str | None = attrs.field(default=None, kw_only=True)
    least: int | None = attrs.field(default=None, kw_only=True)
    most: int | None = attrs.field(default=None, kw_only=True)
    choices: Sequence[str] = attrs.field(default=(), kw_only=True)
    default: object = attrs.field(default=None, kw_only=True)
    schema: Mapping[str, object] = attrs.field(factory=dict[str, object], kw_only=True)


def refuse(message: str) -> Refusal:
    """Return the refusal of a bad parameter or file."""
    return Refusal(Reason.BAD_REQUEST, message)


def read(given: Mapping[str, object], fields: Sequence[Field]) -> dict[str, object]:
    """Return the fields that were given, each as its kind; others are ignored, as in the service.

    Raises:
        Refusal: One is missing or out of bounds; the first in the order of the table.
    """
    found: dict[str, object] = {}
    for field in fields:
        value = given.get(field.name)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            if field.missing is not None:
                raise refuse(field.missing)
            value = field.default
        if value is not None:
            found[field.name] = _read(value, field)
    return found


def _read(value: object, field: Field) -> object:
    match field.kind:
        case FieldType.TEXT:
            return _text(value, field)
        case FieldType.INTEGER | FieldType.NUMBER:
            return _number(value, field)
        case FieldType.BOOLEAN:
            return _boolean(value, field)
        case FieldType.TEXTS:
            return _texts(value, field)
        case FieldType.ANY:
            return value


def _text(value: object, field: Field) -> str:
    if isinstance(value, dict | list):
        raise refuse(f"{field.name} must be text")
    text = str(value).strip()
    if field.most is not None and len(text) > field.most:
        raise refuse(f"{field.name} exceeds the limit of {field.most} characters")
    if field.choices and text not in field.choices:
        raise refuse(_choose(field.name, field.choices))
    return text


def _choose(name: str, choices: Sequence[str]) -> str:
    return f"Invalid request parameters: {name} must be {' or '.join(choices)}"


def _number(value: object, field: Field) -> float:
    whole = field.kind is FieldType.INTEGER
    try:
        number = _integer(value) if whole else float(str(value))
    except ValueError:
        number = math.nan
    least = -LONGEST_INTEGER if field.least is None else field.least
    most = LONGEST_INTEGER if field.most is None else field.most
    if isinstance(value, bool) or not least <= number <= most:
        kind = "an integer" if whole else "a decimal"
        raise refuse(f"{field.name} must be {kind} between {least} and {most}")
    return number


def _integer(value: object) -> int:
    text = str(value)
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise ValueError(text)
    return int(text)


def _boolean(value: object, field: Field) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise refuse(f"{field.name} must be true or false")
    return text == "true"


def _texts(value: object, field: Field) -> list[str]:
    items = value if _json.is_array(value) else [value]
    if field.most is not None and len(items) > field.most:
        raise refuse(f"{field.name} exceed the limit of {field.most}")
    if any(not isinstance(item, str | int) or isinstance(item, bool) for item in items):
        raise refuse(f"{field.name} must be a list of texts")
    return [str(item) for item in items]


# --- captions ---------------------------------------------------------------------------------

EFFORTS = ("-1", *map(str, range(1, 11)))
"""``-1`` leaves it to the model; the page says "Level 1-10 for thinking effort"."""

_SYSTEM_PROMPT = Field("system_prompt")
_USER_PROMPT = Field(
    "user_prompt", missing="userPrompt is not allowed, please provide a user prompt"
)
_MANNER = (
    Field("thinking", FieldType.BOOLEAN),
    Field("qa", FieldType.BOOLEAN),
    Field("reasoning_effort", choices=EFFORTS),
)
_IMAGE_CAPTION = (_USER_PROMPT, _SYSTEM_PROMPT, *_MANNER)
_VIDEO_PROMPTS = (
    _USER_PROMPT,
    attrs.evolve(
        _SYSTEM_PROMPT, missing="systemPrompt is not allowed, please provide a system prompt"
    ),
)
_CALLBACK = Field("callback", missing="callback is not allowed, please provide a callback URL")
_VIDEO_URL = Field("video_url", missing="videoUrl is not allowed, please upload a video file")
_PERSONS = Field(
    "persons",
    FieldType.ANY,
    schema={
        "type": "array",
        "maxItems": 5,
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "url": {"type": "string"}},
            "required": ["name", "url"],
        },
    },
)
_VIDEO_MANNER = (_PERSONS, *_MANNER)

# --- the library ------------------------------------------------------------------------------

_VIDEO_NO = Field("video_no", missing="The video_no parameter cannot be empty!")
_UNIQUE_ID = Field("unique_id", default="default")
_FOLDER_ID = Field("folder_id", FieldType.INTEGER)
_LATITUDE = Field("latitude", FieldType.NUMBER, least=-90, most=90)
_LONGITUDE = Field("longitude", FieldType.NUMBER, least=-180, most=180)
_DETAILS = (
    _UNIQUE_ID,
    Field("datetime_taken", schema={"examples": ["2025-09-07 22:52:00"]}),
    Field("camera_model", most=200),
    _LATITUDE,
    _LONGITUDE,
)
_VIDEO_DETAILS = (
    *_DETAILS,
    Field("tags", FieldType.TEXTS, most=20),
    _FOLDER_ID,
    Field("callback", most=299),
    Field("retain_original_video", FieldType.BOOLEAN, default=True),
    Field("video_transcription_prompt"),
)
_FILTERS = (_UNIQUE_ID, Field("tag"), _LATITUDE, _LONGITUDE)
_ONE_VIDEO = (_VIDEO_NO, _UNIQUE_ID)
FAILED_STATUSES = ("FAILED", "FAIL")
"""Two spellings of one status: the OpenAPI document's, and that of the answers of 2025."""
SEARCH_TYPES = ("BY_CLIP", "BY_VIDEO", "BY_AUDIO", "BY_IMAGE", "BY_CAPTION")
FILTERING_LEVELS = {"low": 0.15, "medium": 0.225, "high": 0.4}
"""How much a hit must have in common with the words that were looked for."""

# --- assets and embeddings --------------------------------------------------------------------

_ASSET_ID_OR_URL = (Field("asset_id"), Field("image_url"))
_ASSET_ID = Field("asset_id", missing="Invalid request parameters: asset_id is required")


def _model(*choices: str) -> Field:
    return Field("model", missing=_choose("model", choices), choices=choices)


_IMAGE_MODEL = _model(*EMBEDDING_LENGTHS)

FIELDS: Mapping[str, Sequence[Field]] = {
    operations.CAPTION_IMAGE_URL.name: (
        *_IMAGE_CAPTION,
        Field(
            "url", FieldType.ANY, schema={"type": ["string", "array"], "items": {"type": "string"}}
        ),
        Field("urls", FieldType.ANY, schema={"type": "array", "items": {"type": "string"}}),
    ),
    operations.CAPTION_IMAGE_FILE.name: _IMAGE_CAPTION,
    operations.CAPTION_IMAGE_BASE64.name: (
        *_IMAGE_CAPTION,
        Field("image_base64", missing="image_base64 is not allowed, please provide an image"),
        Field("img_type"),
    ),
    operations.CAPTION_VIDEO_URL.name: (*_VIDEO_PROMPTS, _VIDEO_URL, *_VIDEO_MANNER),
    operations.CAPTION_VIDEO_FILE.name: (*_VIDEO_PROMPTS, *_VIDEO_MANNER),
    operations.SUBMIT_VIDEO_URL.name: (*_VIDEO_PROMPTS, _CALLBACK, _VIDEO_URL, *_VIDEO_MANNER),
    operations.SUBMIT_VIDEO_FILE.name: (*_VIDEO_PROMPTS, _CALLBACK, *_VIDEO_MANNER),
    operations.ADD_IMAGES.name: (*_DETAILS, Field("tags", FieldType.TEXTS, most=50)),
    operations.SEARCH_CLIPS.name: (
        Field("prompt", missing="The prompt parameter cannot be empty!"),
        *_ONE_VIDEO,
    ),
    operations.EMBED_IMAGE_FILE.name: (_IMAGE_MODEL,),
    operations.EMBED_IMAGE_ASSET.name: (_IMAGE_MODEL, *_ASSET_ID_OR_URL),
    operations.ADD_VIDEO_FILE.name: _VIDEO_DETAILS,
    operations.ADD_VIDEO_URL.name: (
        Field("url", missing="The url parameter cannot be empty!"),
        *_VIDEO_DETAILS,
    ),
    operations.GET_VIDEO.name: _ONE_VIDEO,
    operations.LIST_VIDEOS.name: (
        *_FILTERS,
        Field("datetime_taken", FieldType.INTEGER),  # milliseconds; a search takes text
        _FOLDER_ID,
        Field("page", FieldType.INTEGER, least=1, default=1),
        Field("size", FieldType.INTEGER, least=1, default=200),
        Field("video_name"),
        Field("video_no"),
        Field("video_nos", FieldType.TEXTS),
        Field("status", choices=("PARSE", "UNPARSE", *FAILED_STATUSES)),
        Field("camera_model"),
    ),
    operations.DELETE_VIDEOS.name: (
        Field("video_nos", FieldType.TEXTS, most=MOST_DELETIONS, default=[]),
        _UNIQUE_ID,
    ),
    operations.DOWNLOAD_VIDEO.name: _ONE_VIDEO,
    operations.SEARCH_LIBRARY.name: (
        Field("search_param", missing="The search_param parameter cannot be empty!"),
        *_FILTERS,
        Field("datetime_taken", schema={"examples": ["2025-10-20 11:00:00"]}),
        Field("search_type", choices=SEARCH_TYPES, default="BY_CLIP"),
        Field("top_k", FieldType.INTEGER, least=1, most=1000),
        Field("filtering_level", choices=tuple(FILTERING_LEVELS)),
        Field("video_nos", FieldType.TEXTS, most=MOST_SEARCHED_VIDEOS),
        Field("camera_tag"),
    ),
    operations.SEARCH_SIMILAR.name: (
        Field("similarity", FieldType.NUMBER, least=0, most=1, default=0.85),
        _UNIQUE_ID,
    ),
    operations.SEARCH_TRANSCRIPTS.name: (
        Field("query", missing="The query parameter cannot be empty!"),
        Field("page", FieldType.INTEGER, least=1, default=1),
        Field("page_size", FieldType.INTEGER, least=1, most=MOST_LINES, default=100),
        _UNIQUE_ID,
    ),
    operations.GET_AUDIO_TRANSCRIPT.name: _ONE_VIDEO,
    operations.GET_VIDEO_CAPTIONS.name: _ONE_VIDEO,
    operations.UPLOAD_ASSET.name: (),
    operations.SIGN_UPLOAD.name: (
        Field(
            "original_filename",
            missing="Invalid request parameters: original_filename is required",
        ),
    ),
    operations.SEND_SIGNED.name: (_ASSET_ID, Field("signature", missing="SignatureDoesNotMatch")),
    operations.GET_ASSET.name: (_ASSET_ID,),
    operations.DOWNLOAD_ASSET.name: (_ASSET_ID,),
    operations.EMBED_TEXTS.name: (
        Field(
            "input",
            FieldType.TEXTS,
            missing="Invalid request parameters: input is required",
            most=MOST_TEXTS,
        ),
        _model(*TEXT_EMBEDDING_LENGTHS),
        Field(
            "dimensionality", FieldType.INTEGER, least=1, most=max(TEXT_EMBEDDING_LENGTHS.values())
        ),
    ),
    operations.EMBED_VIDEO.name: (_ASSET_ID, _model("multimodalembedding@001")),
}
"""The fields of each row of the operations table, in the order in which they are checked."""
