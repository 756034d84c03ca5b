"""Where a test's upload goes, and what it is made of."""

from __future__ import annotations

import random
from collections.abc import Callable

from memories_async import Media
from memories_async._engine.body import writer
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import Transfer
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import Attachment
from memories_async.media.rules import CAPTION_VIDEO
from memories_async.media.source import Source

HEAD = b"\0\0\0\x18ftypmp42"


def film(size: int) -> bytes:
    """Return what begins like a film, each place of it different."""
    return (HEAD + random.Random(size).randbytes(max(size - len(HEAD), 0)))[:size]


class Sink:
    """Takes bytes as a connection would; may do something at the n-th write."""

    waited = 0.0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.before_write: Callable[[int], None] = lambda number: None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    async def write(self, data: bytes | memoryview) -> None:
        self.before_write(len(self.pieces) + 1)
        self.pieces.append(bytes(data))


def checked(source: Source, **media: int) -> Attachment:
    return inspect_source(Media(source, **media) if media else source, CAPTION_VIDEO)  # type: ignore[arg-type]  # size only


def body_of(*pieces: bytes | Attachment) -> Recipe:
    return Recipe("multipart/form-data", pieces)


async def send(
    recipe: Recipe, budget: UploadBudget, sink: Sink | None = None, attempt: int = 1
) -> tuple[bytes, Transfer]:
    """Write a body once; return what the sink got and how far the transfer is."""
    sink = sink or Sink()
    transfer = Transfer(recipe.length, attempt)
    await writer.write(recipe, sink, transfer, budget)
    return sink.data, transfer
