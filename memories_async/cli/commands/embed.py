"""memories-async embed: images as vectors."""

from __future__ import annotations

from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.job_commands import start
from memories_async.cli.options import MAKING, RUNNING, SHARED, Making, Running, Shared
from memories_async.cli.output import Output, extra
from memories_async.cli.sources import one_of
from memories_async.embeddings import DEFAULT_MODEL


async def embed(
    sources: list[str],
    /,
    *,
    model: str = DEFAULT_MODEL,
    making: Making = MAKING,
    running: Running = RUNNING,
    shared: Shared = SHARED,
) -> int:
    """Turn an image into a vector; many of them are a job that can be resumed.

    Args:
        sources: Files; for a job also folders, patterns, lists (.txt) and .jsonl files.
        model: The embedding model.
        making: How a job is made.
        running: How a job is run.
        shared: What every command understands.
    """
    source = None if (making, running) != (MAKING, RUNNING) else one_of(sources)
    if source is None:
        return await start("embed_images", sources, {"model": model}, making, running, shared)
    output = Output.of(shared)
    async with connect(account(shared.profile), "api_key") as client:
        with output.reporting(source), output.upload(source) as hook:
            found = await client.embeddings.image(source, model=model, on_progress=hook)
    row = {
        "source": source,
        "status": "done",
        "model": found.model,
        "vector": found.vector.tolist(),
    }
    output.result(row | extra(found), str(found.vector.tolist()))
    return Exit.DONE
