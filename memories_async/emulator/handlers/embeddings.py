"""Embeddings: of pictures and videos by file or asset, and of texts."""

from __future__ import annotations

from memories_async import operations
from memories_async.emulator import file_checks as checks
from memories_async.emulator.engines.protocol import TEXT_EMBEDDING_LENGTHS
from memories_async.emulator.handlers.assets import usable
from memories_async.emulator.handlers.call import Call, Reply
from memories_async.emulator.spool import SpooledFile


async def embed_image_file(call: Call) -> Reply:
    """Embed a picture that was sent."""
    [picture, *_] = checks.files(call.files, operations.EMBED_IMAGE_FILE.file_part)
    checks.embedding_image(picture)
    return await _embed_image(call, picture)


async def embed_image_asset(call: Call) -> Reply:
    """Embed a picture that is an asset."""
    return await _embed_image(call, usable(call))


async def _embed_image(call: Call, picture: SpooledFile) -> Reply:
    engine = call.resources.engine
    vector = await call.resources.ask(
        [picture], engine.embed_image, picture.path, call.text("model")
    )
    return Reply({"embedding": vector})


async def embed_video(call: Call) -> Reply:
    """Embed a video that is an asset."""
    engine, video = call.resources.engine, usable(call)
    vector = await call.resources.ask([video], engine.embed_video, video.path, call.text("model"))
    return Reply({"embedding": vector})


async def embed_texts(call: Call) -> Reply:
    """Embed texts, in their order."""
    engine, texts = call.resources.engine, call.texts("input")
    length = call.integer("dimensionality") or TEXT_EMBEDDING_LENGTHS[call.text("model")]
    vectors = await call.resources.ask(
        [], lambda: [engine.embed_text(text, length) for text in texts]
    )
    return Reply([{"embedding": vector} for vector in vectors])
