"""What is refused of assets before the wire: the arguments, and what the message must say."""

from __future__ import annotations

from tests.cases import Refusal, refusal

URL = "https://example.com/a.png"

REFUSALS: tuple[Refusal, ...] = (
    refusal("assets.upload", "https://x/a.mp4", says="takes a local file, not a URL"),
    refusal("assets.metadata", "..", says="in a path it means another place"),
    refusal("assets.download", " . ", "x", says="in a path it means another place"),
    refusal("assets.metadata", "", says="asset_id is empty"),
)
