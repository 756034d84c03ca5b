"""The HTTP API as a table: one row per endpoint and way in, with all that differs between them."""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeVar

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
    """One row of the table.

    Attributes:
        name: Unique name of the row.
        call: The public method that sends it, as ``namespace.method``.
        method: HTTP method.
        service: The host, and with it the key.
        path: Path from the root of the host; ``{name}`` stands for the field of that name.
        body: How fields and files are laid out.
        result: What the answer's ``data`` becomes.
        bucket: The rate limit it counts against.
        replay: What sending it twice would cost.
        takes: Which files may be sent with it; None where it sends none.
        file_part: Name of the multipart part that carries a file.
        array_field: The field that is the body, where the body is a bare array.
        answer: What a successful answer is.
        null_means: What an answer without data says where its page says that it means nothing is
            there; else it is an empty value.
    """

    name: str
    call: str
    method: str
    service: Service
    path: str
    body: Body
    result: type[T]
    bucket: Bucket
    replay: Replay
    takes: MediaRule | None = None
    file_part: str = ""
    array_field: str = ""
    answer: Answer = Answer.ENVELOPE
    null_means: str = ""

    def __str__(self) -> str:
        return f"{self.call} ({self.method} {self.path})"


# https://api-tools.memories.ai/platform/image-caption
CAPTION_IMAGE_URL = Operation(
    name="caption_image_url",
    call="captions.image",
    method="POST",
    service=Service.CAPTION,
    path="/v1/understand/uploadImg",
    body=Body.JSON,
    result=Caption,
    bucket=Bucket.CAPTION_IMAGE,
    replay=Replay.BILLED,
)
CAPTION_IMAGE_FILE = Operation(
    name="caption_image_file",
    call="captions.image",
    method="POST",
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
    name="caption_image_base64",
    call="captions.image",
    method="POST",
    service=Service.CAPTION,
    path="/v1/understand/uploadImgFileBase64",
    body=Body.JSON,
    takes=rules.CAPTION_IMAGE,
    result=Caption,
    bucket=Bucket.CAPTION_IMAGE,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/platform/video-caption
CAPTION_VIDEO_URL = Operation(
    name="caption_video_url",
    call="captions.video",
    method="POST",
    service=Service.CAPTION,
    path="/v1/understand/uploadSync",
    body=Body.JSON,
    result=Caption,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)
CAPTION_VIDEO_FILE = Operation(
    name="caption_video_file",
    call="captions.video",
    method="POST",
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
    name="submit_video_url",
    call="captions.submit_video",
    method="POST",
    service=Service.CAPTION,
    path="/v1/understand/upload",
    body=Body.JSON,
    result=CaptionTask,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)
SUBMIT_VIDEO_FILE = Operation(
    name="submit_video_file",
    call="captions.submit_video",
    method="POST",
    service=Service.CAPTION,
    path="/v1/understand/uploadFile",
    body=Body.REQ_AND_FILES,
    takes=rules.CAPTION_VIDEO,
    file_part="files",
    result=CaptionTask,
    bucket=Bucket.CAPTION_VIDEO,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/visual-search/upload-image-from-file
ADD_IMAGES = Operation(
    name="add_images",
    call="library.add_images",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/upload_img",
    body=Body.FIELDS_AND_FILES,
    takes=rules.LIBRARY_IMAGE,
    file_part="files",
    result=Results[LibraryImage],
    bucket=Bucket.IMAGE_UPLOAD,
    replay=Replay.BILLED_CREATES,
)

# https://api-tools.memories.ai/platform/search-clips-by-image
SEARCH_CLIPS = Operation(
    name="search_clips",
    call="library.search_clips",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/search_clips_by_image",
    body=Body.FIELDS_AND_FILES,
    takes=rules.QUERY_IMAGE,
    file_part="file",
    result=Results[Clip],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/api-reference/embeddings/image-embedding
EMBED_IMAGE_FILE = Operation(
    name="embed_image_file",
    call="embeddings.image",
    method="POST",
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
    name="embed_image_asset",
    call="embeddings.image",
    method="POST",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/image",
    body=Body.JSON,
    result=Embedding,
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/visual-search/upload-video-from-file
ADD_VIDEO_FILE = Operation(
    name="add_video_file",
    call="library.add_video",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/upload",
    body=Body.FIELDS_AND_FILES,
    takes=rules.LIBRARY_VIDEO,
    file_part="file",
    result=Video,
    bucket=Bucket.VIDEO_UPLOAD,
    replay=Replay.BILLED_CREATES,
)

# https://api-tools.memories.ai/visual-search/get-metadata
GET_VIDEO = Operation(
    name="get_video",
    call="library.video",
    method="GET",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/get_metadata",
    body=Body.QUERY,
    result=Video,
    bucket=Bucket.METADATA,
    replay=Replay.FREE_READ,
    null_means="no such video",
)

# https://api-tools.memories.ai/visual-search/upload-video-from-url
ADD_VIDEO_URL = Operation(
    name="add_video_url",
    call="library.add_video",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/upload_url",
    body=Body.FORM,
    result=Video,
    bucket=Bucket.VIDEO_UPLOAD,
    replay=Replay.BILLED_CREATES,
)

# https://api-tools.memories.ai/visual-search/list-videos
LIST_VIDEOS = Operation(
    name="list_videos",
    call="library.videos",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/list_videos",
    body=Body.JSON,
    result=Results[Video],
    bucket=Bucket.LIST,
    replay=Replay.FREE_READ,
)

# https://api-tools.memories.ai/visual-search/delete-videos
DELETE_VIDEOS = Operation(
    name="delete_videos",
    call="library.delete_videos",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/delete_videos",
    body=Body.JSON_ARRAY,
    result=type(None),
    bucket=Bucket.DELETE,
    replay=Replay.FREE_READ,
    array_field="video_nos",
)

# https://api-tools.memories.ai/visual-search/download-video
DOWNLOAD_VIDEO = Operation(
    name="download_video",
    call="library.download",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/download",
    body=Body.JSON,
    result=Download,
    bucket=Bucket.DOWNLOAD,
    replay=Replay.FREE_READ,
    answer=Answer.FILE,
)

# https://api-tools.memories.ai/visual-search/search-by-text
SEARCH_LIBRARY = Operation(
    name="search_library",
    call="library.search",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/search",
    body=Body.JSON,
    result=Results[SearchHit],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/visual-search/search-by-image
SEARCH_SIMILAR = Operation(
    name="search_similar",
    call="library.search_similar",
    method="POST",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/search_similar_images",
    body=Body.FIELDS_AND_FILES,
    takes=rules.QUERY_IMAGE,
    result=Results[SearchHit],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
    file_part="file",
)

# https://api-tools.memories.ai/visual-search/search-audio-transcripts
SEARCH_TRANSCRIPTS = Operation(
    name="search_transcripts",
    call="library.search_transcripts",
    method="GET",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/search_audio_transcripts",
    body=Body.QUERY,
    result=Results[SearchHit],
    bucket=Bucket.SEARCH,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/visual-search/get-audio-transcription
GET_AUDIO_TRANSCRIPT = Operation(
    name="get_audio_transcript",
    call="library.audio_transcript",
    method="GET",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/get_audio_transcription",
    body=Body.QUERY,
    result=Transcript,
    bucket=Bucket.TRANSCRIPTION,
    replay=Replay.FREE_READ,
)

# https://api-tools.memories.ai/visual-search/get-video-caption
GET_VIDEO_CAPTIONS = Operation(
    name="get_video_captions",
    call="library.video_captions",
    method="GET",
    service=Service.VISUAL_SEARCH,
    path="/serve/api/v1/get_video_caption",
    body=Body.QUERY,
    result=Transcript,
    bucket=Bucket.TRANSCRIPTION,
    replay=Replay.FREE_READ,
)

# https://api-tools.memories.ai/visual-intelligence/base/upload
UPLOAD_ASSET = Operation(
    name="upload_asset",
    call="assets.upload",
    method="POST",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/upload",
    body=Body.FIELDS_AND_FILES,
    takes=rules.ASSET,
    result=Asset,
    bucket=Bucket.ASSET_UPLOAD,
    replay=Replay.BILLED_CREATES,
    file_part="file",
)

# https://api-tools.memories.ai/visual-intelligence/base/get-upload-signed-url
SIGN_UPLOAD = Operation(
    name="sign_upload",
    call="assets.upload",
    method="POST",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/upload/signed-url",
    body=Body.JSON,
    result=SignedUpload,
    bucket=Bucket.ASSET,
    replay=Replay.BILLED_CREATES,
)

SEND_SIGNED = Operation(
    name="send_signed",
    call="assets.upload",
    method="POST",
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

# https://api-tools.memories.ai/visual-intelligence/base/metadata
GET_ASSET = Operation(
    name="get_asset",
    call="assets.metadata",
    method="GET",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/{asset_id}/metadata",
    body=Body.QUERY,
    result=Results[AssetMetadata],
    bucket=Bucket.ASSET,
    replay=Replay.FREE_READ,
)

# https://api-tools.memories.ai/visual-intelligence/base/download
DOWNLOAD_ASSET = Operation(
    name="download_asset",
    call="assets.download",
    method="GET",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/{asset_id}/download",
    body=Body.QUERY,
    result=Download,
    bucket=Bucket.DOWNLOAD,
    replay=Replay.FREE_READ,
    answer=Answer.FILE,
)

# https://api-tools.memories.ai/visual-intelligence/embeddings/text-embedding
EMBED_TEXTS = Operation(
    name="embed_texts",
    call="embeddings.text",
    method="POST",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/text",
    body=Body.JSON,
    result=Results[Embedding],
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)

# https://api-tools.memories.ai/api-reference/Embeddings/video-embedding
EMBED_VIDEO = Operation(
    name="embed_video",
    call="embeddings.video",
    method="POST",
    service=Service.VISUAL_INTELLIGENCE,
    path="/serve/api/v2/embeddings/video",
    body=Body.JSON,
    result=Embedding,
    bucket=Bucket.EMBEDDING,
    replay=Replay.BILLED,
)

OPERATIONS: tuple[Operation[Any], ...] = (
    CAPTION_IMAGE_URL,
    CAPTION_IMAGE_FILE,
    CAPTION_IMAGE_BASE64,
    CAPTION_VIDEO_URL,
    CAPTION_VIDEO_FILE,
    SUBMIT_VIDEO_URL,
    SUBMIT_VIDEO_FILE,
    ADD_IMAGES,
    SEARCH_CLIPS,
    EMBED_IMAGE_FILE,
    EMBED_IMAGE_ASSET,
    ADD_VIDEO_FILE,
    GET_VIDEO,
    ADD_VIDEO_URL,
    LIST_VIDEOS,
    DELETE_VIDEOS,
    DOWNLOAD_VIDEO,
    SEARCH_LIBRARY,
    SEARCH_SIMILAR,
    SEARCH_TRANSCRIPTS,
    GET_AUDIO_TRANSCRIPT,
    GET_VIDEO_CAPTIONS,
    UPLOAD_ASSET,
    SIGN_UPLOAD,
    SEND_SIGNED,
    GET_ASSET,
    DOWNLOAD_ASSET,
    EMBED_TEXTS,
    EMBED_VIDEO,
)
"""Every row."""
