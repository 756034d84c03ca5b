"""What each operation does, by the name of its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from memories_async import operations
from memories_async.emulator.context import Context
from memories_async.emulator.handlers import assets, captions, embeddings, library, searches
from memories_async.emulator.handlers.request import (
    Callback,
    Handler,
    HandlerRequest,
    HandlerResult,
)

__all__ = ["HANDLERS", "PREFLIGHT", "Callback", "HandlerRequest", "HandlerResult"]

HANDLERS: Mapping[str, Handler] = {
    operations.CAPTION_IMAGE_URL.name: captions.caption_image_url,
    operations.CAPTION_IMAGE_FILE.name: captions.caption_image_file,
    operations.CAPTION_IMAGE_BASE64.name: captions.caption_image_base64,
    operations.CAPTION_VIDEO_URL.name: captions.caption_video_url,
    operations.CAPTION_VIDEO_FILE.name: captions.caption_video_file,
    operations.SUBMIT_VIDEO_URL.name: captions.submit_video_url,
    operations.SUBMIT_VIDEO_FILE.name: captions.submit_video_file,
    operations.ADD_IMAGES.name: library.add_images,
    operations.ADD_VIDEO_FILE.name: library.add_video_file,
    operations.ADD_VIDEO_URL.name: library.add_video_url,
    operations.GET_VIDEO.name: library.get_video,
    operations.LIST_VIDEOS.name: library.list_videos,
    operations.DELETE_VIDEOS.name: library.delete_videos,
    operations.DOWNLOAD_VIDEO.name: library.download_video,
    operations.GET_AUDIO_TRANSCRIPT.name: library.get_audio_transcript,
    operations.GET_VIDEO_CAPTIONS.name: library.get_video_captions,
    operations.SEARCH_CLIPS.name: searches.search_clips,
    operations.SEARCH_LIBRARY.name: searches.search_library,
    operations.SEARCH_SIMILAR.name: searches.search_similar,
    operations.SEARCH_TRANSCRIPTS.name: searches.search_transcripts,
    operations.UPLOAD_ASSET.name: assets.upload_asset,
    operations.SIGN_UPLOAD.name: assets.sign_upload,
    operations.SEND_SIGNED.name: assets.send_signed,
    operations.GET_ASSET.name: assets.get_asset,
    operations.DOWNLOAD_ASSET.name: assets.download_asset,
    operations.EMBED_IMAGE_FILE.name: embeddings.embed_image_file,
    operations.EMBED_IMAGE_ASSET.name: embeddings.embed_image_asset,
    operations.EMBED_TEXTS.name: embeddings.embed_texts,
    operations.EMBED_VIDEO.name: embeddings.embed_video,
}
"""One handler for each row of the operations table."""

PREFLIGHT: Mapping[str, Callable[[Context, Mapping[str, object]], object]] = {
    operations.SEND_SIGNED.name: assets.signed_asset,
}
"""What is checked before the body is read, by the name of the row: there no key is asked for."""
