"""The HTTP API as a table: one row per endpoint and way in, with all that differs between them."""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeGuard, TypeVar

import attrs

from memories_async.media import rules
from memories_async.media.rules import MediaRule
from memories_async.models import (
    Asset,
    AssetMetadata,
    Caption,
    CaptionTask,
    Clip,
    Download,
    Embedding,
    LibraryImage,
    Results,
    SearchHit,
    SignedUpload,
    Transcript,
    Video,
)

T = TypeVar("T")

PAGES = "https://api-tools.memories.ai/"
"""Where the documentation lies."""


class Service(enum.Enum):
    """The three hosts, each with the key it wants (config.py has addresses and keys)."""

    CAPTION = "caption"
    VISUAL_SEARCH = "visual search"
    VISUAL_INTELLIGENCE = "visual intelligence"
    STORAGE = "storage"
    """Where signed addresses lie: the address itself is the permission, and no key goes there."""


class Body(enum.Enum):
    """How a request's fields and files go on the wire."""

    QUERY = "fields in the query string, no body"
    JSON = "fields as a JSON object"
    JSON_ARRAY = "one field as a bare JSON array, the others in the query string"
    FORM = "fields as application/x-www-form-urlencoded"
    REQ_AND_FILES = "multipart: fields as JSON in a part named req, then the files"
    FIELDS_AND_FILES = "multipart: one part per field, then the files"


class Answer(enum.Enum):
    """What a successful answer is."""

    ENVELOPE = "JSON with a code and data"
    FILE = "the bytes of a file; JSON instead means an error"
    STATUS = "an HTTP status; the body says nothing"


class Replay(enum.Enum):
    """What sending a request twice would cost: the whole basis for retrying."""

    FREE_READ = "free, and the same when repeated"
    BILLED = "billed, leaves no lasting object"
    BILLED_CREATES = "billed, and a lasting object is created"


class Bucket(enum.Enum):
    """Which of the account's rate limits a call counts against."""

    CAPTION_IMAGE = "caption image"
    CAPTION_VIDEO = "caption video"
    IMAGE_UPLOAD = "image upload"
    VIDEO_UPLOAD = "video upload"
    SEARCH = "search"
    METADATA = "metadata"
    LIST = "list"
    DELETE = "delete"
    DOWNLOAD = "download"
    TRANSCRIPTION = "transcription"
    ASSET_UPLOAD = "asset upload"
    ASSET = "asset"
    EMBEDDING = "embedding"


@attrs.frozen(eq=False)
class Operation(Generic[T]):
    """One row of the table; most are POSTs to the library's host, so those are the defaults.

    Attributes:
        call: The public method that sends it, as ``namespace.method``.
        path: Path from the root of the host; ``{name}`` stands for the field of that name.
        body: How fields and files are laid out.
        result: What the answer's ``data`` becomes.
        bucket: The rate limit it counts against.
        replay: What sending it twice would cost.
        page: Where it is documented, below ``PAGES``; empty where no page is.
        method: HTTP method.
        service: The host, and with it the key.
        takes: Which files may be sent with it; None where it sends none.
        file_part: Name of the multipart part that carries a file.
        array_field: The field that is the body, where the body is a bare array.
        answer: What a successful answer is.
        null_means: What an answer without data says where its page says that it means nothing is
            there; else it is an empty value.
        name: Unique name: that of its constant, in lower case.
    """

    call: str
    path: str
    body: Body
    result: type[T]
    bucket: Bucket
    replay: Replay
    page: str = ""
    method: str = "POST"
    service: Service = Service.VISUAL_SEARCH
    takes: MediaRule | None = None
    file_part: str = ""
    array_field: str = ""
    answer: Answer = Answer.ENVELOPE
    null_means: str = ""
    name: str = attrs.field(default="", init=False)

    def __str__(self) -> str:
        return f"{self.call} ({self.method} {self.path})"


CAPTION_IMAGE_URL = Operation(
    call="captions.image",
    page="platform/image-caption",
    service=Service.CAPTION,
    path="/v1/understand/uploadImg",
    body=Body.JSON,
    result=Caption,
    bucket=Bucket.CAPTION_IMAGE,
    replay=Replay.BILLED,
)
CAPTION_IMAGE_FILE = Operation(
    call="captions.image",
    page="platform/image-caption",
    service=Service.CAPTION,
    path="/v1/understand/uploadImgFile",
    body=Body.REQ_AND_FILES,
    takes=rules.CAPTION_IMAGE,
    file_part="file",
    result=Caption,
    bucket=Bucket.CAPTION_IMAGE,
    replay=Replay.BILLED,
)
CAPTION_IMAGE_BASE64 = Operation(
    call="captions.image",
    page="platform/image-caption",
    service=Service.CAPTION,
    path="/v1/understand/uploadImgFileBase64",
    body=Body.JSON,
    takes=rules.CAPTION_IMAGE,
    result=Caption,
    bucket=Bucket.CAPTION_IMAGE,
    replay=Replay.BILLED,
)

CAPTION_VIDEO_URL = Operation(
    call="captions.video",
    page="platform/video-caption",
    service=Service.CAPTION,
    path="/v1/understand/uploadSync",
    body=Body.JSON,
    result=Caption,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)
CAPTION_VIDEO_FILE = Operation(
    call="captions.video",
    page="platform/video-caption",
    service=Service.CAPTION,
    path="/v1/understand/uploadFileSync",
    body=Body.REQ_AND_FILES,
    takes=rules.CAPTION_VIDEO,
    file_part="files",
    result=Caption,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)
SUBMIT_VIDEO_URL = Operation(
    call="captions.submit_video",
    page="platform/video-caption",
    service=Service.CAPTION,
    path="/v1/understand/upload",
    body=Body.JSON,
    result=CaptionTask,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)
SUBMIT_VIDEO_FILE = Operation(
    call="captions.submit_video",
    page="platform/video-caption",
    service=Service.CAPTION,
    path="/v1/understand/uploadFile",
    body=Body.REQ_AND_FILES,
    takes=rules.CAPTION_VIDEO,
    file_part="files",
    result=CaptionTask,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)

ADD_IMAGES = Operation(
    call="library.add_images",
    page="visual-search/upload-image-from-file",
    path="/serve/api/v1/upload_img",
    body=Body.FIELDS_AND_FILES,
    takes=rules.LIBRARY_IMAGE,
    file_part="files",
    result=Results[LibraryImage],
    bucket=Bucket.IMAGE_UPLOAD,
    replay=Replay.BILLED_CREATES,
)

SEARCH_CLIPS = Operation(
    call="library.search_clips",
    page="platform/search-clips-by-image",
    path="/serve/api/v1/search_clips_by_image",
    body=Body.FIELDS_AND_FILES,
    takes=rules.QUERY_IMAGE,
    file_part="file",
    result=Results[Clip],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
)

EMBED_IMAGE_FILE = Operation(
    call="embeddings.image",
    page="api-reference/embeddings/image-embedding",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/image",
    body=Body.FIELDS_AND_FILES,
    takes=rules.EMBEDDED_IMAGE,
    file_part="file",
    result=Embedding,
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)
EMBED_IMAGE_ASSET = Operation(
    call="embeddings.image",
    page="api-reference/embeddings/image-embedding",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/image",
    body=Body.JSON,
    result=Embedding,
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)

ADD_VIDEO_FILE = Operation(
    call="library.add_video",
    page="visual-search/upload-video-from-file",
    path="/serve/api/v1/upload",
    body=Body.FIELDS_AND_FILES,
    takes=rules.LIBRARY_VIDEO,
    file_part="file",
    result=Video,
    bucket=Bucket.VIDEO_UPLOAD,
    replay=Replay.BILLED_CREATES,
)

GET_VIDEO = Operation(
    call="library.video",
    page="visual-search/get-metadata",
    method="GET",
    path="/serve/api/v1/get_metadata",
    body=Body.QUERY,
    result=Video,
    bucket=Bucket.METADATA,
    replay=Replay.FREE_READ,
    null_means="no such video",
)

ADD_VIDEO_URL = Operation(
    call="library.add_video",
    page="visual-search/upload-video-from-url",
    path="/serve/api/v1/upload_url",
    body=Body.FORM,
    result=Video,
    bucket=Bucket.VIDEO_UPLOAD,
    replay=Replay.BILLED_CREATES,
)

LIST_VIDEOS = Operation(
    call="library.videos",
    page="visual-search/list-videos",
    path="/serve/api/v1/list_videos",
    body=Body.JSON,
    result=Results[Video],
    bucket=Bucket.LIST,
    replay=Replay.FREE_READ,
)

DELETE_VIDEOS = Operation(
    call="library.delete_videos",
    page="visual-search/delete-videos",
    path="/serve/api/v1/delete_videos",
    body=Body.JSON_ARRAY,
    result=type(None),
    bucket=Bucket.DELETE,
    replay=Replay.FREE_READ,
    array_field="video_nos",
)

DOWNLOAD_VIDEO = Operation(
    call="library.download",
    page="visual-search/download-video",
    path="/serve/api/v1/download",
    body=Body.JSON,
    result=Download,
    bucket=Bucket.DOWNLOAD,
    replay=Replay.FREE_READ,
    answer=Answer.FILE,
)

SEARCH_LIBRARY = Operation(
    call="library.search",
    page="visual-search/search-by-text",
    path="/serve/api/v1/search",
    body=Body.JSON,
    result=Results[SearchHit],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
)

SEARCH_SIMILAR = Operation(
    call="library.search_similar",
    page="visual-search/search-by-image",
    path="/serve/api/v1/search_similar_images",
    body=Body.FIELDS_AND_FILES,
    takes=rules.QUERY_IMAGE,
    result=Results[SearchHit],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
    file_part="file",
)

SEARCH_TRANSCRIPTS = Operation(
    call="library.search_transcripts",
    page="visual-search/search-audio-transcripts",
    method="GET",
    path="/serve/api/v1/search_audio_transcripts",
    body=Body.QUERY,
    result=Results[SearchHit],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
)

GET_AUDIO_TRANSCRIPT = Operation(
    call="library.audio_transcript",
    page="visual-search/get-audio-transcription",
    method="GET",
    path="/serve/api/v1/get_audio_transcription",
    body=Body.QUERY,
    result=Transcript,
    bucket=Bucket.TRANSCRIPTION,
    replay=Replay.FREE_READ,
)

GET_VIDEO_CAPTIONS = Operation(
    call="library.video_captions",
    page="visual-search/get-video-caption",
    method="GET",
    path="/serve/api/v1/get_video_caption",
    body=Body.QUERY,
    result=Transcript,
    bucket=Bucket.TRANSCRIPTION,
    replay=Replay.FREE_READ,
)

UPLOAD_ASSET = Operation(
    call="assets.upload",
    page="visual-intelligence/base/upload",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/upload",
    body=Body.FIELDS_AND_FILES,
    takes=rules.ASSET,
    result=Asset,
    bucket=Bucket.ASSET_UPLOAD,
    replay=Replay.BILLED_CREATES,
    file_part="file",
)

SIGN_UPLOAD = Operation(
    call="assets.upload",
    page="visual-intelligence/base/get-upload-signed-url",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/upload/signed-url",
    body=Body.JSON,
    result=SignedUpload,
    bucket=Bucket.ASSET,
    replay=Replay.BILLED_CREATES,
)

SEND_SIGNED = Operation(
    call="assets.upload",
    service=Service.STORAGE,
    path="{signed_url}",
    body=Body.FIELDS_AND_FILES,
    takes=rules.ASSET,
    result=type(None),
    bucket=Bucket.ASSET_UPLOAD,
    replay=Replay.FREE_READ,
    file_part="file",
    answer=Answer.STATUS,
)

GET_ASSET = Operation(
    call="assets.metadata",
    page="visual-intelligence/base/metadata",
    method="GET",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/{asset_id}/metadata",
    body=Body.QUERY,
    result=Results[AssetMetadata],
    bucket=Bucket.ASSET,
    replay=Replay.FREE_READ,
)

DOWNLOAD_ASSET = Operation(
    call="assets.download",
    page="visual-intelligence/base/download",
    method="GET",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/{asset_id}/download",
    body=Body.QUERY,
    result=Download,
    bucket=Bucket.DOWNLOAD,
    replay=Replay.FREE_READ,
    answer=Answer.FILE,
)

EMBED_TEXTS = Operation(
    call="embeddings.text",
    page="visual-intelligence/embeddings/text-embedding",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/text",
    body=Body.JSON,
    result=Results[Embedding],
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)

EMBED_VIDEO = Operation(
    call="embeddings.video",
    page="api-reference/Embeddings/video-embedding",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/video",
    body=Body.JSON,
    result=Embedding,
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)


def _is_row(value: object) -> TypeGuard[Operation[Any]]:
    return isinstance(value, Operation)


def _named(constants: dict[str, object]) -> tuple[Operation[Any], ...]:
    """Name every row as its constant, and return them in their order."""
    rows = {name: row for name, row in constants.items() if _is_row(row)}
    for name, row in rows.items():
        object.__setattr__(row, "name", name.lower())  # once, before anybody has seen it
    return tuple(rows.values())


OPERATIONS = _named(globals())
"""Every row."""
