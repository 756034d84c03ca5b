"""Assets: sent at once or to a signed address, usable some time after their bytes have come."""

from __future__ import annotations

import base64
import hmac
import secrets
from urllib.parse import quote

import attrs

from memories_async import operations
from memories_async.emulator import file_checks as checks
from memories_async.emulator import store
from memories_async.emulator.envelopes import Reason, Refusal
from memories_async.emulator.handlers.call import Call, Reply
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.store import StoredAsset
from memories_async.emulator.validation import refuse

SIGNED_PATH = "/storage/{asset_id}"
"""Where signed addresses lead: in reality another company's host."""

SIGNED_FOR = 93_600
"""Seconds that a signed address is good for."""


async def upload_asset(call: Call) -> Reply:
    """Take in a file that was sent."""
    [file, *_] = checks.files(call.files, operations.UPLOAD_ASSET.file_part)
    asset = StoredAsset(id=store.new_asset_id(), name=file.name, created_at=call.resources.now())
    await _receive(call, asset, file)
    return Reply({"asset_id": asset.id})


async def sign_upload(call: Call) -> Reply:
    """Return an address to which one file may be sent without a key."""
    signature = base64.b64encode(secrets.token_bytes(32)).decode()
    asset = StoredAsset(
        id=store.new_asset_id(),
        name=call.text("original_filename"),
        created_at=call.resources.now(),
        signature=signature,
    )
    await call.resources.write(call.resources.store.assets.insert, asset)
    path = SIGNED_PATH.format(asset_id=asset.id)
    return Reply(
        {
            "asset_id": asset.id,
            "signed_url": f"{call.origin}{path}?signature={quote(signature, safe='')}",
            "expires_in": SIGNED_FOR,
        }
    )


async def send_signed(call: Call) -> Reply:
    """Take in a file that was sent to a signed address."""
    asset = call.resources.store.assets.get(call.text("asset_id"))
    given = call.text("signature").encode()
    if asset is None or not hmac.compare_digest(asset.signature.encode(), given):
        raise Refusal(Reason.ACCOUNT_DISABLED, "SignatureDoesNotMatch")
    if asset.created_at + SIGNED_FOR * 1000 < call.resources.now():
        raise Refusal(Reason.ACCOUNT_DISABLED, "ExpiredToken")
    [file, *_] = checks.files(call.files, operations.SEND_SIGNED.file_part)
    await _receive(call, asset, file)
    return Reply()


async def _receive(call: Call, asset: StoredAsset, file: SpooledFile) -> None:
    file = checks.asset(attrs.evolve(file, name=asset.name))
    received = attrs.evolve(
        asset,
        content_type=file.content_type,
        size=file.size,
        sha256=file.sha256,
        received_at=call.resources.now(),
    )
    await call.resources.write(call.resources.store.assets.add, [(received, file.path)])


async def get_asset(call: Call) -> Reply:
    """Say how far an asset has come; of the real answer's other fields nothing is published."""
    return Reply({"resource": [{"upload_status": _status(call, _find(call))}]})


async def download_asset(call: Call) -> Reply:
    """Send the file as it came."""
    return Reply(file=usable(call))


def usable(call: Call) -> SpooledFile:
    """Return the file of the asset that is asked for.

    Raises:
        Refusal: There is none, or its bytes have not come yet.
    """
    asset = _find(call)
    if _status(call, asset) != "SUCCESS":
        raise refuse("Asset is not uploaded")
    return call.resources.store.assets.file(asset)


def _find(call: Call) -> StoredAsset:
    asset = call.resources.store.assets.get(call.text("asset_id"))
    if asset is None:
        raise refuse("Asset not found")
    return asset


def _status(call: Call, asset: StoredAsset) -> str:
    if asset.received_at is None:
        return "WAITING"
    due = asset.received_at / 1000 + call.resources.index_seconds <= call.resources.clock()
    return "SUCCESS" if due else "UPLOADING"
