"""memories-async jobs: what has been started, where it stands, and how it goes on."""

from __future__ import annotations

from typing import Annotated, Literal

import attrs
from cyclopts import App, Parameter

from memories_async.bulk import Job, JournalError, Status
from memories_async.cli import checks
from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.job_commands import advise_changed, exit_of, go
from memories_async.cli.job_files import find, folder, latest_first, name_of, names
from memories_async.cli.job_rows import row_of, state, text_of
from memories_async.cli.options import (
    CALLING,
    RUNNING,
    SHARED,
    Calling,
    FileName,
    JobName,
    Running,
    Shared,
)
from memories_async.cli.terminal.output import Output
from memories_async.cli.terminal.questions import confirmed
from memories_async.errors import ConfigurationError

app = App(name="jobs", help="List, show, resume, retry, export and remove jobs.")


@app.command(name="list")
async def list_(*, shared: Shared = SHARED) -> int:
    """List the jobs that were started here, the latest first.

    Args:
        shared: What every command understands.
    """
    output = Output.of(shared)
    paths = latest_first()
    async with output.rows() as printer:
        for path in paths:
            try:
                async with await Job.open(str(path)) as job:
                    row, text = await _summary(job)
            except (ConfigurationError, JournalError) as error:
                output.note(str(error))
            else:
                await printer.put(output.line(row, text))
    if not paths:
        output.note(f"there are no jobs in {folder()}")
    return Exit.DONE


@app.command
async def show(job: JobName, /, *, status: Status | None = None, shared: Shared = SHARED) -> int:
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
        async with output.rows() as printer:
            async for item in opened.items(status=status):
                await printer.put(output.line(row_of(item), text_of(item)))
        advise_changed(name_of(opened.path), await opened.changed())
    return Exit.DONE


@app.command
async def resume(
    job: JobName,
    /,
    *,
    running: Running = RUNNING,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Go on with a job: what was done stays done and is not paid again.

    Args:
        job: The job's name, or the path of its file.
        running: How the job is run.
        calling: How the service is called.
        shared: What every command understands.
    """
    async with await Job.open(find(job)) as opened:
        return await go(opened, account(shared.profile), running, shared, calling)


@app.command
async def retry(
    job: JobName,
    /,
    *,
    what: Literal["failed", "unknown", "changed"] = "failed",
    running: Running = RUNNING,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Go on with a job, and send some of its items again.

    Args:
        job: The job's name, or the path of its file.
        what: Items that failed; those that may have been billed although no answer came, which
            are then perhaps paid twice; or those whose file has changed since it was sent.
        running: How the job is run.
        calling: How the service is called.
        shared: What every command understands.
    """
    output = Output.of(shared)
    async with await Job.open(find(job)) as opened:
        who = account(shared.profile)
        # The first two a run does by itself, once it has looked for videos that were lost.
        if what == "failed":
            running = attrs.evolve(running, failed="retry")
        elif what == "unknown":
            running = attrs.evolve(running, unknown="retry")
        elif running.dry_run:
            raise ConfigurationError("--dry-run says by itself which files have changed")
        else:
            output.note(f"{await opened.retry(what)} files have changed and are sent again")
        return await go(opened, who, running, shared, calling)


@app.command
async def merge(
    job: Annotated[list[str], Parameter(validator=checks.path, completer=names)],
    /,
    *,
    into: JobName,
    shared: Shared = SHARED,
) -> int:
    """Make one job of several, as of the shards that ten machines have worked on.

    Costs add up; what would bill an input twice is refused, and only the new job can go on.

    Args:
        job: The jobs' names, or the paths of their files.
        into: The new job's name, or the path of its file.
        shared: What every command understands.
    """
    output = Output.of(shared)
    async with await Job.merge([find(one) for one in job], find(into)) as merged:
        row, text = await _summary(merged)
        counts = await merged.counts()
    output.result(row, text)
    return exit_of(counts)


@app.command(name="rm")
async def remove(
    job: Annotated[list[str], Parameter(validator=checks.path, completer=names)],
    /,
    *,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    shared: Shared = SHARED,
) -> int:
    """Remove jobs with all that they hold, answers that were paid among it; asks first.

    Args:
        job: The jobs' names, or the paths of their files.
        yes: Do not ask.
        shared: What every command understands.
    """
    output = Output.of(shared)
    for one in job:
        place = find(one)
        try:
            async with await Job.open(place) as opened:
                _, text = await _summary(opened)
        except JournalError as error:
            output.note(str(error))
            text = f"{name_of(place)}, which cannot be read"
        if not confirmed(f"Remove {text}?", yes=yes):
            output.note(f"{one} is kept")
            return Exit.FAILED
        await Job.remove(place)
        output.note(f"{one} is removed")
    return Exit.DONE


@app.command
async def export(job: JobName, file: FileName, /, *, shared: Shared = SHARED) -> int:
    """Write the results of a job to a file, one row per item.

    Args:
        job: The job's name, or the path of its file.
        file: Where to: .jsonl, .csv or .parquet.
        shared: What every command understands.
    """
    async with await Job.open(find(job)) as opened:
        rows = await opened.export(file)
    Output.of(shared).note(f"{rows} rows are in {file}")
    return Exit.DONE


@app.command
async def reconcile(job: JobName, /, *, calling: Calling = CALLING, shared: Shared = SHARED) -> int:
    """Look in the library for videos whose upload had no answer, which is free.

    Args:
        job: The job's name, or the path of its file.
        calling: How the service is called.
        shared: What every command understands.
    """
    output = Output.of(shared)
    async with await Job.open(find(job)) as opened:
        async with connect(account(shared.profile), "api_key", calling) as client:
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
