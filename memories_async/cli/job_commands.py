"""Runs a job: finds or makes its file, shows it at work, and says what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import sys
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from memories_async.bulk import Counts, Item, Job, Plan, Report, Status, StopReason
from memories_async.bulk.exports import format_of
from memories_async.cli.credentials import Account, account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.options import Making, Running, Shared
from memories_async.cli.output import Output, say
from memories_async.cli.profiles import KeyName
from memories_async.cli.progress import duration
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError
from memories_async.media.urls import is_url
from memories_async.operations import Bucket

_EXTENSION = ".sqlite"
_CAPTIONING = frozenset({Bucket.CAPTION_IMAGE, Bucket.CAPTION_VIDEO})
_STOPPED = frozenset({StopReason.CREDITS, StopReason.KEY})


def folder() -> Path:
    """Return where jobs are kept unless told otherwise."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        parent = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return parent / "memories-async" / "jobs"


def find(job: str) -> str:
    """Return the path of a job that was named on the command line, by name or by path."""
    if os.sep in job or os.path.exists(job):
        return job
    return str(folder() / f"{job}{_EXTENSION}")


def name_of(path: str) -> str:
    """Return what to call a job by, as a shell understands it: the shortest that ``find`` finds."""
    inside = os.path.dirname(os.path.abspath(path)) == str(folder())
    return shlex.quote(os.path.basename(path).removesuffix(_EXTENSION) if inside else path)


async def start(
    kind: str,
    sources: Sequence[str],
    options: Mapping[str, object],
    making: Making,
    running: Running,
    shared: Shared,
    answer_timeout: float | None = None,
) -> int:
    """Make the job that the arguments ask for, or find it if they asked before, and run it."""
    who = account(shared.profile)
    options = {name: value for name, value in options.items() if value is not None}
    with tempfile.TemporaryDirectory() as scratch:
        place = find(making.job) if making.job else _place(kind, sources, options, who)
        if job := await _known(place, kind, options):
            async with job:
                await job.add(sources)
                return await go(job, who, running, shared, answer_timeout)
        if running.dry_run:
            place = os.path.join(scratch, "job")
        elif not making.job:
            os.makedirs(folder(), mode=0o700, exist_ok=True)
        job = await Job.create(place, kind, sources, options=options, price=making.price)
        async with job:
            return await go(job, who, running, shared, answer_timeout)


async def _known(place: str, kind: str, options: Mapping[str, object]) -> Job | None:
    """Open the job if there is one already, and if it is for the same."""
    if not await asyncio.to_thread(os.path.exists, place):
        return None
    try:
        job = await Job.open(place)
    except ConfigurationError:
        return None  # its planning was cut short; if it is something else, create() will say so
    if (job.kind.name, job.options) != (kind, json.loads(json.dumps(options))):
        await job.aclose()
        raise ConfigurationError(
            f"{place} is a job for something else: name another, or resume that one"
        )
    return job


async def go(
    job: Job,
    who: Account,
    running: Running,
    shared: Shared,
    answer_timeout: float | None = None,
) -> Exit:
    """Run a job, or only say what a run would do, and return the exit status."""
    output = Output.of(shared)
    if running.output is not None:
        format_of(running.output, None)  # refused before anything is sent
    plan = await job.plan()
    if running.dry_run:
        output.result(_plan_row(plan), _plan_text(plan))
        return Exit.DONE
    if running.unknown == "retry" and plan.counts.unknown:
        cost = "" if plan.possible_cost is None else f" (up to ${plan.possible_cost})"
        output.note(
            f"{plan.counts.unknown} items without a known outcome are sent again; "
            f"what they may have cost already is paid twice{cost}"
        )
    name = name_of(job.path)
    needed: KeyName = "caption_key" if job.kind.bucket in _CAPTIONING else "api_key"
    output.note(f"job {name}: {plan.counts.planned} of {plan.counts.total} items to send")
    try:
        async with connect(who, needed) as client:
            with output.job(name) as show:
                report = await job.run(
                    client,
                    concurrency=running.concurrency,
                    max_cost=running.max_cost,
                    max_items=running.max_items,
                    unknown=running.unknown,
                    failed=running.failed,
                    options=CallOptions(answer_timeout=answer_timeout) if answer_timeout else None,
                    on_event=show,
                )
    except asyncio.CancelledError:
        say(f"stopped; what was done is kept. To go on: memories-async jobs resume {name}")
        raise
    await _results(job, running.output, output)
    return _conclude(name, report, output)


async def print_items(job: Job, output: Output, status: Status | None = None) -> None:
    """Print one result per item, in the order of the inputs."""
    async for item in job.items(status=status):
        output.result(row_of(item), text_of(item))


def row_of(item: Item) -> dict[str, object]:
    """Return what is known of an item, as programs read it."""
    row: dict[str, object] = {"id": item.id, "source": item.source, "status": item.status.value}
    if item.result is not None:
        row |= item.result
    if item.vector is not None:
        # Nine digits are what a float32 needs to come back as it was.
        row["vector"] = [float(f"{number:.9g}") for number in array("f", item.vector)]
    for field in ("error", "details", "duplicate_of", "extra"):
        if value := getattr(item, field):
            row[field] = value
    return row


def text_of(item: Item) -> str:
    """Return what is known of an item, as people read it."""
    if item.status is not Status.DONE:
        return f"{item.source}: {item.status.value}" + (f": {item.error}" if item.error else "")
    result = item.result or {}
    if item.vector is not None:
        return f"{item.source}: {len(item.vector) // 4} numbers"
    found = next((result[name] for name in ("text", "image_id", "video_no") if name in result), "")
    return f"{item.source}: {found}"


def exit_of(counts: Counts, report: Report | None = None) -> Exit:
    """Return the exit status that a job's state deserves; what may have cost money comes first."""
    stopped = report.stopped.reason if report and report.stopped else None
    if stopped in _STOPPED:
        return Exit.STOPPED
    if counts.unknown:
        return Exit.UNKNOWN
    if counts.failed or stopped in (StopReason.UNREACHABLE, StopReason.FAILING):
        return Exit.FAILED
    return Exit.DONE


def state(counts: Counts) -> str:
    """Say in a few words where a job stands."""
    fields = ("done", "waiting", "failed", "unknown", "skipped", "planned", "sending")
    told = [f"{count} {field}" for field in fields if (count := getattr(counts, field))]
    return ", ".join(told) or "empty"


async def _results(job: Job, destination: str | None, output: Output) -> None:
    if destination is None:
        await print_items(job, output)
    else:
        rows = await job.export(destination)
        output.note(f"{rows} rows are in {destination}")


def _conclude(name: str, report: Report, output: Output) -> Exit:
    """Sum up for people, and say what they can do."""
    counts = report.counts
    cost = "" if report.cost is None else f", ${report.cost}"
    sent = f"{report.bytes_sent / 1e6:.1f} MB in {duration(report.seconds)}"
    output.note(f"job {name}: {state(counts)} ({sent}{cost})")
    if report.stopped:
        say(report.stopped.message)
    if counts.planned:
        say(f"to go on: memories-async jobs resume {name}")
    if counts.unknown:
        say(
            f"{counts.unknown} may have been billed although no answer came; see them with "
            f"memories-async jobs show {name} --status unknown, then resume the job with "
            "--unknown retry or --unknown skip"
        )
    if counts.failed:
        say(f"{counts.failed} failed: memories-async jobs show {name} --status failed")
    return exit_of(counts, report)


def _place(kind: str, sources: Sequence[str], options: Mapping[str, object], who: Account) -> str:
    """Name a job after what is asked: the same command again goes on, and pays nothing twice."""
    where = [source if is_url(source) else os.path.abspath(source) for source in sources]
    asked = json.dumps([kind, where, options, who.origin, who.base_url], sort_keys=True)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
    return find(f"{kind.replace('_', '-')}-{digest}")


def _plan_row(plan: Plan) -> dict[str, object]:
    return {
        "items": plan.counts.planned,
        "requests": plan.requests,
        "bytes": plan.size,
        "cost": None if plan.cost is None else float(plan.cost),
        "possible_cost": None if plan.possible_cost is None else float(plan.possible_cost),
        "seconds": plan.seconds,
    }


def _plan_text(plan: Plan) -> str:
    cost = "at a price that is not documented" if plan.cost is None else f"for ${plan.cost}"
    return (
        f"{plan.counts.planned} items, {plan.size / 1e6:.1f} MB, in {plan.requests} requests "
        f"{cost}; at least {duration(plan.seconds)}"
    )
