"""client.embeddings: pictures, texts and videos as vectors."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from memories_async.checks import checked
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError, UnexpectedShape
from memories_async.fields import drop_none
from memories_async.media.source import Source
from memories_async.media.urls import is_url
from memories_async.models import Embedding, Outcome, Progress, Results
from memories_async.operations import EMBED_IMAGE_ASSET, EMBED_IMAGE_FILE, EMBED_TEXTS, EMBED_VIDEO
from memories_async.request_limits import LIMITS

if TYPE_CHECKING:
    from memories_async._engine.dispatch import Dispatcher

ImageModel = Literal["multimodalembedding@001", "mobileclip"]
"""The models that the page lists for images."""
DEFAULT_MODEL: ImageModel = "multimodalembedding@001"
TEXT_MODEL = "gemini-embedding-001"


@checked(LIMITS, namespace=True)
class Embeddings:
    """Embedding vectors; their host wants the general key.

    What its methods share is said here, and named in theirs.

    Args:
        on_progress: Called with the bytes accepted so far.
        options: Deadline, attempts and timeouts of each call.

    Raises:
        ConfigurationError: No key, or an argument is of another kind or beyond its limit; nothing
            was opened or sent.
        MediaError: A file cannot be sent, or written; nothing was sent.
        ApiError: The service refused.
        OutcomeUnknown: It was sent and no answer came; it may have been billed.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def image(
        self,
        source: Source | None = None,
        *,
        asset_id: str | None = None,
        model: ImageModel = DEFAULT_MODEL,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Embedding:
        """Embed an image, given as a file or by the asset that it already is.

        Args:
            source: A local image (JPEG, PNG, GIF, WebP, BMP or TIFF): path, bytes, binary file
                object or ``Media``.
            asset_id: An uploaded asset instead, e.g. ``re_6574...``; exactly one of the two.
            model: ``multimodalembedding@001`` (default) or ``mobileclip``.

        Returns:
            The vector, whose length depends on the model. $0.0001 per image.

        Raises:
            ConfigurationError: No key, neither or both of source and asset_id, or no model.
            NotFound: There is no such asset.

        Shared (see ``Embeddings``): on_progress, options, ApiError, MediaError, OutcomeUnknown.

        Source: POST /serve/api/v2/embeddings/image
        (https://api-tools.memories.ai/api-reference/embeddings/image-embedding).
        """
        known = {"model": model}
        if asset_id is not None and source is None:
            return await self._dispatcher.send(
                EMBED_IMAGE_ASSET,
                {"asset_id": asset_id, "model": model},
                known=known,
                options=options,
                on_progress=on_progress,
            )
        if source is None or asset_id is not None:
            raise ConfigurationError("give either an image or an asset_id")
        if is_url(source):
            raise ConfigurationError("an embedding takes a local image or an asset_id, not a URL")
        return await self._dispatcher.send(
            EMBED_IMAGE_FILE,
            {"model": model},
            sources=(source,),
            known=known,
            options=options,
            on_progress=on_progress,
        )

    async def text(
        self,
        texts: str | Sequence[str],
        *,
        model: str = TEXT_MODEL,
        dimensionality: int | None = None,
        options: CallOptions | None = None,
    ) -> Results[Embedding]:
        """Embed texts in one call.

        Args:
            texts: One text or several.
            model: ``gemini-embedding-001`` (default).
            dimensionality: Length of the vectors, e.g. 256, 512 or 768; by default the model's.

        Returns:
            One embedding for each text, in their order. $0.0000002 per token.

        Raises:
            ConfigurationError: No key, no text or an empty one, or no model.
            UnexpectedShape: The answer has another number of vectors; it has been billed.

        Shared (see ``Embeddings``): options, ApiError, OutcomeUnknown.

        Source: POST /serve/api/v2/embeddings/text
        (https://api-tools.memories.ai/visual-intelligence/embeddings/text-embedding).
        """
        inputs = [texts] if isinstance(texts, str) else list(texts)
        if not inputs:
            raise ConfigurationError("no text given")
        embeddings = await self._dispatcher.send(
            EMBED_TEXTS,
            drop_none(input=inputs, model=model, dimensionality=dimensionality),
            known={"model": model},
            options=options,
        )
        if len(embeddings) != len(inputs):
            raise UnexpectedShape(
                f"{len(embeddings)} vectors came for {len(inputs)} texts",
                answer=embeddings,
                operation=str(EMBED_TEXTS),
                attempts=embeddings.attempts,
            )
        return embeddings

    async def video(
        self,
        asset_id: str,
        *,
        model: str = DEFAULT_MODEL,
        options: CallOptions | None = None,
    ) -> Embedding:
        """Embed a whole video, given by the asset that it is.

        Args:
            asset_id: An uploaded video asset.
            model: ``multimodalembedding@001`` (default).

        Returns:
            One vector for the whole video.

        Raises:
            NotFound: There is no such asset.

        Shared (see ``Embeddings``): options, ApiError, OutcomeUnknown, ConfigurationError.

        Source: POST /serve/api/v2/embeddings/video
        (https://api-tools.memories.ai/api-reference/Embeddings/video-embedding).
        """
        return await self._dispatcher.send(
            EMBED_VIDEO,
            {"asset_id": asset_id, "model": model},
            known={"model": model},
            options=options,
        )

    def images(
        self,
        sources: Iterable[Source] | AsyncIterable[Source],
        *,
        model: ImageModel = DEFAULT_MODEL,
        concurrency: int = 4,
        ordered: bool = False,
        options: CallOptions | None = None,
    ) -> AsyncIterator[Outcome[Embedding]]:
        """Embed many images, each in a call of its own.

        Args:
            sources: Images as for ``image``; any iterable or async iterable, taken lazily.
            model: ``multimodalembedding@001`` (default) or ``mobileclip``.
            concurrency: How many calls may be in flight (default 4).
            ordered: Yield in the order of the sources instead of as answers come.

        Returns:
            An iterator of outcomes: one image's failure leaves the others alone.

        Raises:
            ConfigurationError: ``concurrency`` is below 1.

        Shared (see ``Embeddings``): options.

        Source: POST /serve/api/v2/embeddings/image
        (https://api-tools.memories.ai/api-reference/embeddings/image-embedding).
        """

        async def call(source: Source) -> Embedding:
            return await self.image(source, model=model, options=options)

        return self._dispatcher.batch(sources, call, concurrency=concurrency, ordered=ordered)
