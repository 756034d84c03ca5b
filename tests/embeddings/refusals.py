"""What is refused of embeddings before the wire: the arguments, and what the message must say."""

from __future__ import annotations

from memories_async import UnsupportedMedia
from tests.cases import PNG, Refusal, refusal

URL = "https://example.com/a.png"

REFUSALS: tuple[Refusal, ...] = (
    refusal("embeddings.image", says="either an image or an asset_id"),
    refusal("embeddings.image", PNG, asset_id="re_1", says="either an image or an asset_id"),
    refusal("embeddings.image", asset_id=" ", says="asset_id is empty"),
    refusal("embeddings.image", PNG, model="", says="model is empty"),
    refusal("embeddings.image", URL, says="not a URL"),
    refusal("embeddings.image", b"\0\0\x01\xba", says="video/mpeg", error=UnsupportedMedia),
    refusal("embeddings.text", [], says="no text given"),
    refusal("embeddings.text", ["one", " "], says="texts[1] is empty"),
    refusal("embeddings.text", "one", model="", says="model is empty"),
    refusal("embeddings.video", "", says="asset_id is empty"),
)
