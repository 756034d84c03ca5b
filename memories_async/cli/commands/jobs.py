"""memories-async jobs: what has been started, where it stands, and how it goes on."""

from __future__ import annotations

from cyclopts import App

from memories_async.bulk import Job, JournalError, Status
from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.job_commands import (
    exit_of,
    find,
    folder,
    go,
    name_of,
    print_items,
    state,
)
from memories_async.cli.options import RUNNING, SHARED, Running, Shared
from memories_async.cli.output import Output
from memories_async.errors import ConfigurationError

app = App(name="jobs", help="List, show, resume and export jobs.")


@app.command(name="list")
async def list_(*, shared: Shared = SHARED) -> int:
    """List the jobs that were started here, the latest first.

    Args:
        shared: What every command understands.
    """
    output = Output.of(shared)
    paths = sorted(folder().glob("*.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            async with await Job.open(str(path)) as job:
                row, text = await _summary(job)
        except (ConfigurationError, JournalError) as error:
            output.note(str(error))
        else:
            output.result(row, text)
    if not paths:
        output.note(f"there are no jobs in {folder()}")
    return Exit.DONE


@app.command
async def show(job: str, /, *, status: Status | None = None, shared: Shared = SHARED) -> int:
    """Show one job and its items.

    Args:
        job: The job's name, or the path of its file.
        status: Only the items that have this status.
        shared: What every command understands.
    """
    output = Output.of(shared)
    async with await Job.open(find(job)) as opened:
        _, text = await _summary(opened)
        output.note(text)
        await print_items(opened, output, status)
    return Exit.DONE


@app.command
async def resume(
    job: str,
    /,
    *,
    answer_timeout: float | None = None,
    running: Running = RUNNING,
    shared: Shared = SHARED,
) -> int:
    """Go on with a job: what was done stays done and is not paid again.

    Args:
        job: The job's name, or the path of its file.
        answer_timeout: Seconds to wait for an answer once all is sent (300 if not given).
        running: How the job is run.
        shared: What every command understands.
    """
    async with await Job.open(find(job)) as opened:
        return await go(opened, account(shared.profile), running, shared, answer_timeout)


@app.command
async def export(job: str, file: str, /, *, shared: Shared = SHARED) -> int:
    """Write the results of a job to a file, one row per item.

    Args:
        job: The job's name, or the path of its file.
        file: Where to: .jsonl or .parquet.
        shared: What every command understands.
    """
    async with await Job.open(find(job)) as opened:
        rows = await opened.export(file)
    Output.of(shared).note(f"{rows} rows are in {file}")
    return Exit.DONE


@app.command
async def reconcile(job: str, /, *, shared: Shared = SHARED) -> int:
    """Look in the library for videos whose upload had no answer, which is free.

    Args:
        job: The job's name, or the path of its file.
        shared: What every command understands.
    """
    output = Output.of(shared)
    async with await Job.open(find(job)) as opened:
        async with connect(account(shared.profile), "api_key") as client:
            found = await opened.reconcile(client)
        counts = await opened.counts()
    output.result({"found": found, "unknown": counts.unknown}, f"{found} found; {state(counts)}")
    return exit_of(counts)


async def _summary(job: Job) -> tuple[dict[str, object], str]:
    counts = await job.counts()
    running = await job.running()
    row: dict[str, object] = {
        "job": name_of(job.path),
        "kind": job.kind.name,
        "created_at": job.created_at.isoformat(),
        "running": running,
        "total": counts.total,
        "counts": {status.value: getattr(counts, status.value) for status in Status},
    }
    going = "running; " if running else ""
    since = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
    return row, f"{row['job']}: {going}{state(counts)} (since {since})"
