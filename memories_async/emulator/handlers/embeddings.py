"""Embeddings: of pictures and videos by file or asset, and of texts."""

from __future__ import annotations

from memories_async import operations
from memories_async.emulator.engines.protocol import TEXT_EMBEDDING_LENGTHS
from memories_async.emulator.handlers import file_checks as checks
from memories_async.emulator.handlers.assets import usable
from memories_async.emulator.handlers.request import HandlerRequest, HandlerResult
from memories_async.emulator.handlers.validation import refuse
from memories_async.emulator.spool import SpooledFile


async def embed_image_file(request: HandlerRequest) -> HandlerResult:
    """Embed a picture that was sent."""
    [picture, *_] = checks.files(request.files, operations.EMBED_IMAGE_FILE.file_part)
    checks.embedding_image(picture)
    return await _embed_image(request, picture)


async def embed_image_asset(request: HandlerRequest) -> HandlerResult:
    """Embed a picture that is an asset, or lies at an address.

    No page describes the address; somebody's test of February 2026 saw it work.
    """
    if url := request.text("image_url"):
        picture = await request.fetch(url, "image_url", checks.embedding_image)
        return await _embed_image(request, picture)
    if not request.text("asset_id"):
        raise refuse("Invalid request parameters: asset_id is required")
    return await _embed_image(request, usable(request))


async def _embed_image(request: HandlerRequest, picture: SpooledFile) -> HandlerResult:
    engine = request.context.engine
    vector = await request.context.run_engine(
        [picture], engine.embed_image, picture.path, request.text("model")
    )
    return HandlerResult({"embedding": vector})


async def embed_video(request: HandlerRequest) -> HandlerResult:
    """Embed a video that is an asset."""
    engine, video = request.context.engine, usable(request)
    vector = await request.context.run_engine(
        [video], engine.embed_video, video.path, request.text("model")
    )
    return HandlerResult({"embedding": vector})


async def embed_texts(request: HandlerRequest) -> HandlerResult:
    """Embed texts, in their order."""
    engine, texts = request.context.engine, request.texts("input")
    length = request.integer("dimensionality") or TEXT_EMBEDDING_LENGTHS[request.text("model")]
    vectors = await request.context.run_engine(
        [], lambda: [engine.embed_text(text, length) for text in texts]
    )
    return HandlerResult([{"embedding": vector} for vector in vectors])
