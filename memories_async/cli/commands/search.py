"""memories-async search: where in a video something is."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.options import SHARED, Shared
from memories_async.cli.output import Output, extra


async def search(
    prompt: str,
    /,
    *,
    video: str,
    image: Annotated[str, Parameter(name=("--image", "-i"))],
    unique_id: str | None = None,
    shared: Shared = SHARED,
) -> int:
    """Find the clips of a video that match a picture and a prompt.

    Args:
        prompt: What to pay attention to, in English.
        video: The number of a searchable video of the library, as "upload" printed it.
        image: A picture of what to find.
        unique_id: Namespace within the account.
        shared: What every command understands.
    """
    output = Output.of(shared)
    async with connect(account(shared.profile), "api_key") as client:
        with output.reporting(image), output.upload(image) as hook:
            clips = await client.library.search_clips(
                video, image, prompt, unique_id=unique_id, on_progress=hook
            )
    for clip in clips:
        times = f"{clip.start_time:9.2f} s - {clip.end_time:9.2f} s"
        row = {"start_time": clip.start_time, "end_time": clip.end_time, "score": clip.score}
        output.result({"video_no": video} | row | extra(clip), f"{times}  {clip.score:.3f}")
    if not clips:
        output.note(f"nothing in {video} matches")
    return Exit.DONE
