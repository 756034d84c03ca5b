"""client.assets: files uploaded once and used by their identifier."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from memories_async import polling
from memories_async.addresses import is_loopback
from memories_async.checks import checked
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError, UnexpectedShape
from memories_async.media.source import Source
from memories_async.media.urls import check_url, is_url
from memories_async.models import Asset, AssetMetadata, Download, Progress
from memories_async.operations import (
    DOWNLOAD_ASSET,
    GET_ASSET,
    SEND_SIGNED,
    SIGN_UPLOAD,
    UPLOAD_ASSET,
)
from memories_async.request_limits import LIMITS
from memories_async.results import completed

if TYPE_CHECKING:
    from memories_async._engine.dispatch import Dispatcher


@checked(LIMITS, namespace=True)
class Assets:
    """Assets; their host wants the general key.

    What its methods share is said here, and named in theirs.

    Args:
        asset_id: The asset's identifier, e.g. ``re_657466124521283584``.
        on_progress: Called with the bytes accepted so far; of a download, with those received.
        options: Deadline, attempts and timeouts of each request.

    Raises:
        ConfigurationError: No key, or an argument is of another kind or beyond its limit; nothing
            was opened or sent.
        MediaError: A file cannot be sent, or written; nothing was sent.
        ApiError: The service refused.
        OutcomeUnknown: It was sent and no answer came; it may have been billed.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def upload(
        self,
        source: Source,
        *,
        signed: bool = False,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Asset:
        """Upload an image, a video or a sound to be used by its identifier.

        Args:
            source: A local file (JPEG, PNG, GIF, WebP, BMP, TIFF; MP4, MOV, AVI, WebM, MKV, FLV,
                WMV, MPEG; MP3, WAV, AAC, FLAC, OGG, M4A): path, bytes, binary file object or
                ``Media``. A file is streamed from where it lies.
            signed: Ask for a signed address first and send the file there, past the API's own
                hosts: for large files. The key does not go to that address.

        Returns:
            The asset; see ``wait_until_ready``. The upload is free, keeping it is billed by size.

        Raises:
            OutcomeUnknown: It was sent and no answer came; the asset may exist.

        Shared (see ``Assets``): on_progress, options, ApiError, MediaError, ConfigurationError.

        Source: POST /serve/api/v2/upload; POST /serve/api/v2/upload/signed-url
        (https://api-tools.memories.ai/visual-intelligence/base/upload).
        """
        if is_url(source):
            raise ConfigurationError("assets.upload takes a local file, not a URL")
        if not signed:
            return await self._dispatcher.send(
                UPLOAD_ASSET,
                {},
                sources=(source,),
                options=options,
                on_progress=on_progress,
            )
        files = await self._dispatcher.inspect(UPLOAD_ASSET, (source,))
        permission = await self._dispatcher.send(
            SIGN_UPLOAD, {"original_filename": files[0].name}, options=options
        )
        await self._dispatcher.send(
            SEND_SIGNED,
            {"signed_url": _safe(permission.signed_url)},
            files=files,
            options=options,
            on_progress=on_progress,
        )
        return Asset(
            permission.asset_id,
            extra=permission.extra,
            attempts=permission.attempts,
            http=permission.http,
        )

    async def metadata(self, asset_id: str, *, options: CallOptions | None = None) -> AssetMetadata:
        """Return what the service knows of an asset; free.

        Returns:
            The upload's status; the other fields are undocumented and kept in ``extra``.

        Raises:
            NotFound: There is no such asset.
            UnexpectedShape: The answer holds no record.

        Shared (see ``Assets``): asset_id, options, ApiError, ConfigurationError.

        Source: GET /serve/api/v2/{asset_id}/metadata
        (https://api-tools.memories.ai/visual-intelligence/base/metadata).
        """
        records = await self._dispatcher.send(GET_ASSET, {"asset_id": asset_id}, options=options)
        if not records:
            raise UnexpectedShape("the answer holds no record", operation=str(GET_ASSET))
        return completed(records[0], attempts=records.attempts, http=records.http)

    async def wait_until_ready(
        self,
        asset_id: str,
        *,
        within: float = 120.0,
        options: CallOptions | None = None,
    ) -> AssetMetadata:
        """Ask about an asset until it can be used: after 2 s, then ever less often, up to 30 s.

        Args:
            within: Seconds to wait at most (default 120).

        Returns:
            The metadata, with status ``SUCCESS``.

        Raises:
            TaskFailed: The upload failed for good.
            DeadlineExceeded: It was not ready in time; asking later is free.
            NotFound: There is no such asset.

        Shared (see ``Assets``): asset_id, options, ApiError.

        Source: GET /serve/api/v2/{asset_id}/metadata
        (https://api-tools.memories.ai/visual-intelligence/base/metadata).
        """
        return await polling.until_ready(
            lambda: self.metadata(asset_id, options=options),
            lambda metadata: metadata.ready,
            operation=GET_ASSET,
            identifier=asset_id,
            within=within,
            clock=await self._dispatcher.clock(),
        )

    async def download(
        self,
        asset_id: str,
        destination: str | os.PathLike[str],
        *,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Download:
        """Download an asset to a file; $0.12 per GB.

        Args:
            destination: Path of the file. It appears when the download is whole; until then the
                bytes lie beside it, in ``<destination>.part``. Names that the service gives are
                never used.

        Returns:
            Where the file lies, its size and type.

        Raises:
            NotFound: There is no such asset.

        Shared (see ``Assets``): asset_id, on_progress, options, ApiError, MediaError,
            ConfigurationError.

        Source: GET /serve/api/v2/{asset_id}/download
        (https://api-tools.memories.ai/visual-intelligence/base/download).
        """
        return await self._dispatcher.send(
            DOWNLOAD_ASSET,
            {"asset_id": asset_id},
            options=options,
            on_progress=on_progress,
            destination=destination,
        )


def _safe(address: str) -> str:
    """Refuse an address that is none, and to send a file in the clear, whoever asks for it."""
    try:
        check_url(address, "the signed address")
        parts = urlsplit(address)
        if parts.scheme.lower() == "https" or is_loopback(parts.hostname or ""):
            return address
    except ConfigurationError:
        pass  # what it says shows the address, which is itself the permission
    raise UnexpectedShape(
        "the signed address is neither https nor on this machine", operation=str(SIGN_UPLOAD)
    )
