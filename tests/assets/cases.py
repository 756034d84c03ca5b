"""The assets' pages, as rows.

https://api-tools.memories.ai/visual-intelligence/base/upload
https://api-tools.memories.ai/visual-intelligence/base/metadata
"""

from __future__ import annotations

from memories_async import Asset, AssetMetadata, Media
from tests.cases import FILES, V2, Case, v2
from tests.recorder import Part

FILM = FILES["video.mp4"]
NAMED = Media(FILM, name="film.mp4")

ASSET_CASES = (
    Case(
        name="upload, 1",
        call="assets.upload",
        args=(NAMED,),
        sends=f"POST {V2}upload",
        parts=[Part("file", FILM, "film.mp4", "video/mp4")],
        answer=v2('{"asset_id":"re_657466124521283584"}'),
        result=Asset("re_657466124521283584"),
    ),
    Case(
        name="metadata, 1",
        call="assets.metadata",
        args=("re_1/é",),
        sends=f"GET {V2}re_1%2F%C3%A9/metadata",
        answer=v2('{"resource":[{"upload_status":"SUCCESS","size":7}]}'),
        result=AssetMetadata("SUCCESS", extra={"size": 7}),
    ),
)
