"""memories-async embed: images as vectors."""

from __future__ import annotations

from typing import Literal, TypeAlias

from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import one_call
from memories_async.cli.job_commands import start
from memories_async.cli.options import (
    CALLING,
    MAKING,
    RUNNING,
    SHARED,
    Calling,
    Making,
    Running,
    Shared,
    Sources,
)
from memories_async.cli.sources import one_of
from memories_async.cli.terminal.output import Output, extra

Model: TypeAlias = Literal["multimodalembedding@001", "mobileclip"]


async def embed(
    sources: Sources,
    /,
    *,
    model: Model = "multimodalembedding@001",
    making: Making = MAKING,
    running: Running = RUNNING,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Turn an image into a vector; many of them are a job that can be resumed.

    Args:
        sources: Files; for a job also folders, patterns, lists (.txt), .jsonl files, and - for
            names on standard input.
        model: The embedding model.
        making: How a job is made.
        running: How a job is run.
        calling: How the service is called.
        shared: What every command understands.
    """
    source = None if (making, running) != (MAKING, RUNNING) else one_of(sources)
    if source is None:
        return await start(
            "embed_images", sources, {"model": model}, making, running, shared, calling
        )
    output = Output.of(shared)
    async with connect(account(shared.profile), "api_key", calling) as client:
        with output.reporting(source), output.upload(source) as hook, one_call() as options:
            found = await client.embeddings.image(
                source, model=model, on_progress=hook, options=options
            )
    vector = found.vector.tolist()
    row = {"source": source, "status": "done", "model": found.model, "vector": vector}
    output.paid((row | extra(found), str(vector)))
    return Exit.DONE
