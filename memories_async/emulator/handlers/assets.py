"""Assets: sent at once or to a signed address, usable some time after their bytes have come."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import quote

import attrs

from memories_async import operations
from memories_async.emulator import store
from memories_async.emulator.context import Context
from memories_async.emulator.handlers import file_checks as checks
from memories_async.emulator.handlers.request import HandlerRequest, HandlerResult
from memories_async.emulator.handlers.validation import refuse
from memories_async.emulator.http.envelopes import Reason, Refusal
from memories_async.emulator.http.routes import SIGNED_PATH
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.store import StoredAsset

SIGNED_FOR = 93_600
"""Seconds that a signed address is good for."""


async def upload_asset(request: HandlerRequest) -> HandlerResult:
    """Take in a file that was sent."""
    [file, *_] = checks.files(request.files, operations.UPLOAD_ASSET.file_part)
    asset = StoredAsset(id=store.new_asset_id(), name=file.name, created_at=request.context.now())
    await _receive(request, asset, file)
    return HandlerResult({"asset_id": asset.id})


async def sign_upload(request: HandlerRequest) -> HandlerResult:
    """Return an address to which one file may be sent without a key."""
    signature = base64.b64encode(secrets.token_bytes(32)).decode()
    asset = StoredAsset(
        id=store.new_asset_id(),
        name=request.text("original_filename"),
        created_at=request.context.now(),
        signature=signature,
    )
    await request.context.write(request.context.store.assets.insert, asset)
    path = SIGNED_PATH.format(asset_id=asset.id)
    return HandlerResult(
        {
            "asset_id": asset.id,
            "signed_url": f"{request.origin}{path}?signature={quote(signature, safe='')}",
            "expires_in": SIGNED_FOR,
        }
    )


async def send_signed(request: HandlerRequest) -> HandlerResult:
    """Take in a file that was sent to a signed address."""
    asset = signed_asset(request.context, request.fields)
    [file, *_] = checks.files(request.files, operations.SEND_SIGNED.file_part)
    await _receive(request, asset, file)
    return HandlerResult()


def signed_asset(context: Context, fields: Mapping[str, object]) -> StoredAsset:
    """Return the asset that a signed address is for; needs no body.

    Raises:
        Refusal: The signature is not the address's, or has expired.
    """
    asset = context.store.assets.get(str(fields["asset_id"]))
    given = str(fields["signature"]).encode(errors="replace")
    if (
        asset is None
        or not asset.signature
        or not hmac.compare_digest(asset.signature.encode(), given)
    ):
        raise Refusal(Reason.ACCOUNT_DISABLED, "SignatureDoesNotMatch")
    if asset.created_at + SIGNED_FOR * 1000 < context.now():
        raise Refusal(Reason.ACCOUNT_DISABLED, "ExpiredToken")
    return asset


async def _receive(request: HandlerRequest, asset: StoredAsset, file: SpooledFile) -> None:
    file = checks.asset(attrs.evolve(file, name=asset.name))
    received = attrs.evolve(
        asset,
        content_type=file.content_type,
        size=file.size,
        sha256=file.sha256,
        received_at=request.context.now(),
    )
    await request.context.write(request.context.store.assets.add, [(received, file.path)])


async def get_asset(request: HandlerRequest) -> HandlerResult:
    """Say how far an asset has come; of the real answer's other fields nothing is published."""
    return HandlerResult({"resource": [{"upload_status": _status(request, _find(request))}]})


async def download_asset(request: HandlerRequest) -> HandlerResult:
    """Send the file as it came."""
    return HandlerResult(file=usable(request))


def usable(request: HandlerRequest) -> SpooledFile:
    """Return the file of the asset that is asked for.

    Raises:
        Refusal: There is none, or its bytes have not come yet.
    """
    asset = _find(request)
    if _status(request, asset) != "SUCCESS":
        raise refuse("Asset is not uploaded")
    return request.context.store.assets.file(asset)


def _find(request: HandlerRequest) -> StoredAsset:
    asset = request.context.store.assets.get(request.text("asset_id"))
    if asset is None:
        raise refuse("Asset not found")
    return asset


def _status(request: HandlerRequest, asset: StoredAsset) -> str:
    if asset.received_at is None:
        return "WAITING"
    due = asset.received_at / 1000 + request.context.timing.index_seconds <= request.context.clock()
    return "SUCCESS" if due else "UPLOADING"
