"""What a life's client asks for, and what it must get for it: an answer that is an echo."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from memories_async import CallOptions, Media, Memories
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.operations import Bucket
from tests.simulation.world import World

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0" + b"\x90wS\xde"
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


class EchoEngine(HashEngine):
    """Answers with what was asked, so that nobody can get another's answer unnoticed."""

    def describe_images(self, pictures: Sequence[Path], prompt: str) -> str:
        return echo(prompt, *(picture.read_bytes() for picture in pictures))

    def describe_video(self, video: Path, prompt: str, persons: Sequence[Any]) -> str:
        return echo(prompt, video.read_bytes())

    def embed_image(self, picture: Path, model: str) -> list[float]:
        return vector(picture.read_bytes())

    def embed_text(self, text: str, length: int) -> list[float]:
        return vector(text)


@attrs.define(eq=False)
class Call:
    """One call of a life: what it sends, and how it ended.

    Attributes:
        number: Its place in the life; its tag is made of it.
        contents: What is sent, by which the ledger's entries are told apart.
    """

    number: int
    kind: Kind
    contents: list[bytes]
    options: CallOptions
    cancel_after: float | None = None
    raises_in_hook: bool = False
    started: float = 0.0
    ended: float = 0.0
    error: BaseException | None = None
    attempts: int = 0

    @property
    def tag(self) -> str:
        return f"call-{self.number}"

    def __str__(self) -> str:
        return f"{self.tag} {self.kind.name}"


Send = Callable[[Memories, Call, World, Callable[[Any], None]], Awaitable[Any]]


@attrs.frozen(eq=False)
class Kind:
    """A kind of call.

    Attributes:
        name: How the story calls it.
        send: Makes the call; returns its result.
        expected: What the result must echo.
        seen: What of a result is compared with that.
        bucket: The limit it counts against.
        billed: Whether a success costs money.
        head: How each content begins.
    """

    name: str
    send: Send
    expected: Callable[[Call], Any]
    seen: Callable[[Any], Any]
    bucket: Bucket
    billed: bool = True
    head: bytes = PNG
    files: int = 1


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


KINDS = (
    Kind(
        "captions.image of bytes",
        _caption_bytes,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        Bucket.CAPTION_IMAGE,
    ),
    Kind(
        "captions.image of three files",
        _caption_paths,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        Bucket.CAPTION_IMAGE,
        files=3,
    ),
    Kind(
        "captions.video of a file",
        _caption_video,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        Bucket.CAPTION_VIDEO,
        head=MP4,
    ),
    Kind(
        "captions.video of a stream",
        _caption_stream,
        lambda call: echo(call.tag, *call.contents),
        lambda result: result.text,
        Bucket.CAPTION_VIDEO,
        head=MP4,
    ),
    Kind(
        "embeddings.image of a path",
        _embed_path,
        lambda call: vector(call.contents[0]),
        lambda result: list(result.vector),
        Bucket.EMBEDDING,
    ),
    Kind(
        "embeddings.image of a file object",
        _embed_file,
        lambda call: vector(call.contents[0]),
        lambda result: list(result.vector),
        Bucket.EMBEDDING,
    ),
    Kind(
        "embeddings.text",
        _embed_text,
        lambda call: [vector(call.tag)],
        lambda results: [list(result.vector) for result in results],
        Bucket.EMBEDDING,
    ),
    Kind(
        "library.add_images",
        _add_images,
        lambda call: len(call.contents),
        len,
        Bucket.IMAGE_UPLOAD,
        files=2,
    ),
    Kind(
        "library.search",
        _search,
        lambda call: 0,
        len,
        Bucket.SEARCH,
    ),
)
