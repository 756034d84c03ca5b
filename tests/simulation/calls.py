"""What a life's client asks for, and what it must get for it: an answer that is an echo."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import attrs

from memories_async import CallOptions, Media, Memories, Outcome
from memories_async._engine.transport.payload import Payload
from memories_async.emulator.engines.hashing import HashEngine
from tests.simulation.invariants import Request
from tests.simulation.world import World

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0" + b"\x90wS\xde"
PAUSE = 0.05
"""Virtual seconds between a stream's pieces."""
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"


def echo(*contents: bytes | str) -> str:
    """Return what stands for these contents and no others."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(
            hashlib.sha256(content if isinstance(content, bytes) else content.encode()).digest()
        )
    return digest.hexdigest()


def vector(*contents: bytes | str) -> list[float]:
    """Return a vector that stands for these contents and no others."""
    return [byte / 256 for byte in bytes.fromhex(echo(*contents))[:16]]


@attrs.frozen(eq=False)
class EchoEngine(HashEngine):
    """Answers with what was asked, so that nobody can get another's answer unnoticed.

    Attributes:
        answers: Told of each picture that is just about to be answered, and billed.
    """

    answers: Callable[[bytes], None] = lambda picture: None

    def describe_images(self, pictures: Sequence[Path], prompt: str) -> str:
        contents = [picture.read_bytes() for picture in pictures]
        for content in contents:
            self.answers(content)
        return echo(prompt, *contents)

    def describe_video(self, video: Path, prompt: str, persons: Sequence[Any]) -> str:
        return echo(prompt, video.read_bytes())

    def embed_image(self, picture: Path, model: str) -> list[float]:
        content = picture.read_bytes()
        self.answers(content)
        return vector(content)

    def embed_text(self, text: str, length: int) -> list[float]:
        return vector(text)


@attrs.define(eq=False)
class Call:
    """One call of a life: what it sends, and how it ended.

    Attributes:
        number: Its place in the life; its tag is made of it.
        contents: What is sent.
        spare: What a file holds once it has changed.
        cancel_after: Seconds after which it is cancelled.
        cancel_at: Which of its contents it is cancelled at, as the service answers that.
        hook: What its hooks do: raise, or wait before it is sent.
        requests: What is asked of the service: one for all contents, or one for each.
        outcomes: What became of a batch's items, as they came.
        ended: Whether it has: nothing of it goes on.
        writing: How many bodies of it are being written.
    """

    number: int
    kind: Kind
    contents: list[bytes]
    spare: bytes
    options: CallOptions
    cancel_after: float | None = None
    hook: Literal["", "raises at its end", "waits", "raises before"] = ""
    requests: list[Request] = attrs.field(factory=list)
    outcomes: list[Outcome[Any]] = attrs.field(factory=list)
    started: float = 0.0
    cancel_at: bytes | None = None
    ended: bool = False
    writing: int = 0

    def __attrs_post_init__(self) -> None:
        marks = [digest(content) for content in self.contents]
        groups = [[mark] for mark in marks] if self.kind.batch else [[*marks, self.tag]]
        self.requests = [
            Request(f"{self}, item {number}" if self.kind.batch else str(self), frozenset(group))
            for number, group in enumerate(groups)
        ]
        for request in self.requests:
            request.costs = self.kind.costs

    @property
    def tag(self) -> str:
        return f"call-{self.number}"

    def __str__(self) -> str:
        return f"{self.tag} {self.kind.name}"


CURRENT: ContextVar[Call] = ContextVar("CURRENT")
"""Whose task this is."""


@asynccontextmanager
async def counting_writers() -> AsyncGenerator[None, None]:
    """Count the bodies that are being written, each with its call."""
    write = Payload.write_with_length

    async def writing(self: Payload, *arguments: Any) -> None:
        call = CURRENT.get(None)
        if call is None:
            await write(self, *arguments)
            return
        call.writing += 1
        try:
            await write(self, *arguments)
        finally:
            call.writing -= 1

    with patch.object(Payload, "write_with_length", writing):
        yield


Send = Callable[[Memories, Call, World, Callable[[Any], None]], Awaitable[Any]]


@attrs.frozen(eq=False)
class Kind:
    """A kind of call.

    Attributes:
        name: How the story calls it.
        send: Makes the call; returns its result.
        expected: What the result must echo.
        seen: What of a result is compared with that.
        costs: Whether a success costs money.
        head: How each content begins.
        files: How many contents it sends.
        batch: Whether each of these is a request of its own.
    """

    name: str
    send: Send
    expected: Callable[[Call], Any]
    seen: Callable[[Any], Any]
    costs: bool = True
    head: bytes = PNG
    files: int = 1
    batch: bool = False


def digest(content: bytes) -> str:
    """Return what the service's ledger says of a file."""
    return hashlib.sha256(content).hexdigest()


def _file(call: Call, world: World, index: int = 0, suffix: str = ".png") -> Path:
    path = world.folder / f"{call.tag}-{index}{suffix}"
    path.write_bytes(call.contents[index])
    return path


async def _caption_bytes(client: Memories, call: Call, world: World, hook: Any) -> Any:
    return await client.captions.image(
        call.contents[0], call.tag, on_progress=hook, options=call.options
    )


async def _caption_paths(client: Memories, call: Call, world: World, hook: Any) -> Any:
    paths = [_file(call, world, index) for index in range(len(call.contents))]
    return await client.captions.image(paths, call.tag, on_progress=hook, options=call.options)


async def _caption_video(client: Memories, call: Call, world: World, hook: Any) -> Any:
    path = _file(call, world, suffix=".mp4")
    return await client.captions.video(path, call.tag, on_progress=hook, options=call.options)


async def _caption_stream(client: Memories, call: Call, world: World, hook: Any) -> Any:
    content = call.contents[0]

    async def pieces() -> Any:
        for start in range(0, len(content), 5000):
            await asyncio.sleep(PAUSE)
            if call.ended:
                world.broke(f"{call}: its source is read after its end")
            yield content[start : start + 5000]

    media = Media(pieces(), name="film.mp4", content_type="video/mp4", size=len(content))
    return await client.captions.video(media, call.tag, on_progress=hook, options=call.options)


async def _embed_path(client: Memories, call: Call, world: World, hook: Any) -> Any:
    return await client.embeddings.image(_file(call, world), on_progress=hook, options=call.options)


async def _embed_file(client: Memories, call: Call, world: World, hook: Any) -> Any:
    with _file(call, world).open("rb") as file:
        return await client.embeddings.image(file, on_progress=hook, options=call.options)


async def _embed_text(client: Memories, call: Call, world: World, hook: Any) -> Any:
    return await client.embeddings.text(call.tag, options=call.options)


async def _add_images(client: Memories, call: Call, world: World, hook: Any) -> Any:
    paths = [_file(call, world, index) for index in range(len(call.contents))]
    return await client.library.add_images(paths, on_progress=hook, options=call.options)


async def _search(client: Memories, call: Call, world: World, hook: Any) -> Any:
    return await client.library.search(call.tag, options=call.options)


async def _embed_many(client: Memories, call: Call, world: World, hook: Any) -> Any:
    async for outcome in client.embeddings.images(
        call.contents, concurrency=2, ordered=call.number % 2 == 0, options=call.options
    ):
        call.outcomes.append(outcome)
    return call.outcomes


async def _caption_changing(client: Memories, call: Call, world: World, hook: Any) -> Any:
    """Send a file that becomes another one once its first bytes have left."""
    path = _file(call, world)

    def changing(progress: Any) -> None:
        if progress.sent and path.read_bytes() != call.spare:
            path.write_bytes(call.spare)
            status = path.stat()  # within one tick of the file system's clock nobody sees it
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        hook(progress)

    return await client.captions.image(path, call.tag, on_progress=changing, options=call.options)


async def _download(client: Memories, call: Call, world: World, hook: Any) -> Any:
    path = world.folder / f"{call.tag}.downloaded"
    try:
        await client.assets.download(world.asset[0], path, on_progress=hook, options=call.options)
    except BaseException:
        world.check(not path.exists(), f"{call}: half of a file is in place")
        raise
    return path.read_bytes() == world.asset[1]


KINDS = (
    Kind(
        "captions.image of bytes",
        _caption_bytes,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
    ),
    Kind(
        "captions.image of three files",
        _caption_paths,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        files=3,
    ),
    Kind(
        "captions.video of a file",
        _caption_video,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        head=MP4,
    ),
    Kind(
        "captions.video of a stream",
        _caption_stream,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        head=MP4,
    ),
    Kind(
        "embeddings.image of a path",
        _embed_path,
        lambda call: vector(call.contents[0]),
        lambda result: list(result.vector),
    ),
    Kind(
        "embeddings.image of a file object",
        _embed_file,
        lambda call: vector(call.contents[0]),
        lambda result: list(result.vector),
    ),
    Kind(
        "embeddings.text",
        _embed_text,
        lambda call: [vector(call.tag)],
        lambda results: [list(result.vector) for result in results],
    ),
    Kind(
        "library.add_images",
        _add_images,
        lambda call: len(call.contents),
        len,
        files=2,
    ),
    Kind(
        "library.search",
        _search,
        lambda call: 0,
        len,
    ),
    Kind(
        "embeddings.images",
        _embed_many,
        lambda call: [(number, vector(content)) for number, content in enumerate(call.contents)],
        lambda outcomes: sorted(
            (outcome.index, list(outcome.value.vector)) for outcome in outcomes if outcome.value
        ),
        files=5,
        batch=True,
    ),
    Kind(
        "captions.image of a file that changes",
        _caption_changing,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
    ),
    Kind("assets.download", _download, lambda call: True, bool, costs=False, files=0),
)
