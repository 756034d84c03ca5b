"""memories-async search: by words, by a picture, or where in one video both fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import attrs
from cyclopts import Parameter

from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import one_call
from memories_async.cli.options import (
    CALLING,
    SHARED,
    Calling,
    Count,
    FileName,
    Shared,
    Similarity,
    Text,
    Texts,
)
from memories_async.cli.terminal.console import on_a_line, one_line
from memories_async.cli.terminal.output import Output, extra
from memories_async.errors import ConfigurationError
from memories_async.models import Clip, Result, SearchHit

BESIDE_THE_FIELDS = tuple(field.name for field in attrs.fields(Result))


async def search(
    words: Text | None = None,
    /,
    *,
    image: Annotated[FileName | None, Parameter(name=("--image", "-i"))] = None,
    video: Texts = (),
    by: Literal["clip", "audio", "caption", "image"] | None = None,
    top_k: Count | None = None,
    similarity: Similarity | None = None,
    tag: Text | None = None,
    unique_id: Text | None = None,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Search the library; billed.

    By words: all of it. By a picture (--image): all videos. By both, in one video (--video): the
    clips in which the picture is to be seen and the words fit.

    Args:
        words: What to look for, in English.
        image: A picture of what to find.
        video: Only this video, by its number. May be repeated where the search is by words.
        by: By words: what is seen in videos (clip, the default), said in them (audio), written
            of them (caption), or the image library (image).
        top_k: By words: so many hits at most, 1 to 1000 (by caption 1 to 200).
        similarity: By a picture: how alike it must be, 0 to 1.
        tag: By words: only with this tag.
        unique_id: Namespace within the account.
        calling: How the service is called.
        shared: What every command understands.
    """
    _check(words, image, video, by=by, top_k=top_k, similarity=similarity, tag=tag)
    output = Output.of(shared)
    label = image or words or ""
    found: Sequence[Clip | SearchHit]
    async with connect(account(shared.profile), "api_key", calling) as client:
        with output.reporting(label), output.upload(label) as hook, one_call() as options:
            if image is None:
                found = await client.library.search(
                    words or "",
                    by=by or "clip",
                    top_k=top_k,
                    video_nos=video,
                    tag=tag,
                    unique_id=unique_id,
                    options=options,
                )
            elif words is None:
                found = await client.library.search_similar(
                    image,
                    similarity=similarity,
                    unique_id=unique_id,
                    on_progress=hook,
                    options=options,
                )
            else:
                found = await client.library.search_clips(
                    video[0],
                    image,
                    words,
                    unique_id=unique_id,
                    on_progress=hook,
                    options=options,
                )
    rows = [
        {"video_no": video[0]} | _row_of(hit) if isinstance(hit, Clip) else _row_of(hit)
        for hit in found
    ]
    output.paid(*zip(rows, map(_text_of, found), strict=True))
    if not found:
        output.note("nothing matches")
    return Exit.DONE


def _check(words: str | None, image: str | None, video: Sequence[str], **options: object) -> None:
    """Refuse what does not go together, before anything is opened."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if words is None and image is None:
        raise ConfigurationError("what to look for is missing: give words, --image or both")
    if image is None:
        allowed = {"--by", "--top-k", "--tag"}
        kind = "by words"
    elif words is None:
        allowed, kind = {"--similarity"}, "by a picture"
        given += ["--video"] * bool(video)
    else:
        allowed, kind = set[str](), "in one video by words and a picture"
        if len(video) != 1:
            raise ConfigurationError(
                "words and --image together search one video: give one --video"
            )
    if wrong := [name for name in given if name not in allowed]:
        raise ConfigurationError(f"{wrong[0]} is not for a search {kind}")


def _row_of(hit: Clip | SearchHit) -> dict[str, object]:
    """Return a hit as programs read it."""
    row = attrs.asdict(hit, filter=attrs.filters.exclude(*BESIDE_THE_FIELDS))
    return {name: value for name, value in row.items() if value is not None} | extra(hit)


def _text_of(hit: Clip | SearchHit) -> str:
    """Return a hit as people read it: one line."""
    columns = [] if isinstance(hit, Clip) else [str(hit.video_no or hit.image_id or hit.name or "")]
    if hit.start_time is not None:
        end = "" if hit.end_time is None else f"{hit.end_time:9.2f} s"
        columns.append(f"{hit.start_time:9.2f} s - {end}")
    if hit.score is not None:
        columns.append(f"{hit.score:.3f}")
    if isinstance(hit, SearchHit) and hit.text:
        columns.append(one_line(hit.text))
    return "  ".join(map(on_a_line, columns))
