"""The embedding pages' own examples, as rows.

https://api-tools.memories.ai/api-reference/embeddings/image-embedding
https://api-tools.memories.ai/visual-intelligence/embeddings/text-embedding
https://api-tools.memories.ai/api-reference/Embeddings/video-embedding
"""

from __future__ import annotations

from memories_async import Embedding
from tests.cases import JPEG, PNG, V2, Case, content, named, opened, path, v2
from tests.recorder import Part

# The page ends the vector with the text "... (continues for vector length)".
EMBEDDING_ANSWER = """
{
  "code": 200,
  "msg": "success",
  "data": {
    "embedding": [
      0.0234375,
      -0.015625,
      0.0078125,
      0.0390625,
      -0.0234375
    ]
  },
  "success": true,
  "failed": false
}
"""
VECTOR = [0.0234375, -0.015625, 0.0078125, 0.0390625, -0.0234375]

EMBEDDING_CASES = (
    *(
        Case(
            name=f"embedding by {way}, {model or 'default model'}",
            call="embeddings.image",
            args=(source,),
            kwargs={"model": model} if model else {},
            sends="POST /serve/api/v2/embeddings/image",
            parts=(
                Part("model", (model or "multimodalembedding@001").encode()),
                Part("file", file, filename, content_type),
            ),
            answer=EMBEDDING_ANSWER,
            result=Embedding(vector=VECTOR, model=model or "multimodalembedding@001"),
        )
        for way, source, model, file, filename, content_type in (
            ("path", path("test.png"), None, PNG, "test.png", "image/png"),
            ("path", path("test.png"), "mobileclip", PNG, "test.png", "image/png"),
            ("bytes", content("test2.jpg"), "mobileclip", JPEG, "image.jpg", "image/jpeg"),
            ("file object", opened("test2.jpg"), None, JPEG, "test2.jpg", "image/jpeg"),
            (
                "Media",
                named("test2.jpg", "scan.tif", "image/tiff"),
                "mobileclip",
                JPEG,
                "scan.tif",
                "image/tiff",
            ),
        )
    ),
    *(
        Case(
            name=f"embedding by asset, {model or 'default model'}",
            call="embeddings.image",
            kwargs={"asset_id": "re_657929111888723968"} | ({"model": model} if model else {}),
            sends="POST /serve/api/v2/embeddings/image",
            json={
                "asset_id": "re_657929111888723968",
                "model": model or "multimodalembedding@001",
            },
            answer=EMBEDDING_ANSWER,
            result=Embedding(vector=VECTOR, model=model or "multimodalembedding@001"),
        )
        for model in (None, "multimodalembedding@001", "mobileclip")
    ),
    Case(
        name="text, 1",
        call="embeddings.text",
        args=(["one", "two"],),
        kwargs={"dimensionality": 256},
        sends=f"POST {V2}embeddings/text",
        json={"input": ["one", "two"], "model": "gemini-embedding-001", "dimensionality": 256},
        answer=v2('[{"embedding":[1,0.5]},{"embedding":[0.25,0]}]'),
        result=[
            Embedding([1, 0.5], "gemini-embedding-001"),
            Embedding([0.25, 0], "gemini-embedding-001"),
        ],
    ),
    Case(
        name="text, 2",
        call="embeddings.text",
        args=("one",),
        kwargs={"model": "another"},
        sends=f"POST {V2}embeddings/text",
        json={"input": ["one"], "model": "another"},
        answer=v2('[{"embedding":[1]}]'),
        result=[Embedding([1], "another")],
    ),
    Case(
        name="video, 1",
        call="embeddings.video",
        args=("re_1",),
        sends=f"POST {V2}embeddings/video",
        json={"asset_id": "re_1", "model": "multimodalembedding@001"},
        answer=v2('{"embedding":[0.5]}'),
        result=Embedding([0.5], "multimodalembedding@001"),
    ),
)
