"""Runs a job: finds or makes its file, shows it at work, and says what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypedDict

import attrs

from memories_async.bulk import Counts, Event, Input, Item, Job, Report, Status, StopReason, exports
from memories_async.cli.commands import cluster
from memories_async.cli.credentials import Account, account, connect, rates_of, with_key
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import AGAIN, interrupts
from memories_async.cli.job_files import find, folder, name_of
from memories_async.cli.job_rows import (
    input_row,
    input_text,
    plan_row,
    plan_text,
    row_of,
    state,
    text_of,
)
from memories_async.cli.options import CALLING, RUNNING, Calling, Making, Running, Shared
from memories_async.cli.profiles import KeyName
from memories_async.cli.sources import STDIN, inputs_of
from memories_async.cli.terminal.console import StdoutLost, console
from memories_async.cli.terminal.output import Output
from memories_async.cli.terminal.progress import duration
from memories_async.cli.terms import in_options
from memories_async.client import Memories
from memories_async.config import CallOptions, Rate
from memories_async.errors import ConfigurationError, JournalError
from memories_async.media.urls import is_url
from memories_async.observe.prices import dollars_for
from memories_async.operations import Bucket

_CAPTIONING = frozenset({Bucket.CAPTION_IMAGE, Bucket.CAPTION_VIDEO})
_STOPPED = frozenset({StopReason.CREDITS, StopReason.KEY, StopReason.CONFIGURATION})
_LIMITS = frozenset({StopReason.MAX_COST, StopReason.MAX_ITEMS})
_BROKEN = frozenset({StopReason.UNREACHABLE, StopReason.FAILING})
FEW = 20
"""Items that are shown one by one at a terminal; of more, a summary says what came of them."""
_FINAL = frozenset({Status.DONE, Status.FAILED, Status.UNKNOWN, Status.SKIPPED})


async def start(
    kind: str,
    sources: Sequence[str],
    options: Mapping[str, object],
    making: Making,
    running: Running,
    shared: Shared,
    calling: Calling = CALLING,
) -> int:
    """Make the job that the arguments ask for, or find it if they asked before, and run it."""
    cluster.refuse(running, calling)
    who = account(shared.profile)
    _refuse_to_replace(running.output, sources)
    options = {name: value for name, value in options.items() if value is not None}
    chosen = Selected(include=making.include, exclude=making.exclude, shard=making.shard)
    with (
        tempfile.TemporaryDirectory() as scratch,
        inputs_of(sources, null=making.null) as inputs,
    ):
        place = find(making.job) if making.job else _place_of(kind, sources, options, making, who)
        if await asyncio.to_thread(os.path.exists, place):
            async with await _known(place, kind, options) as job:
                if running.dry_run:
                    return await _preview(job, who, running, shared, chosen, inputs)
                await job.add(inputs, **chosen)
                return await go(job, who, running, shared, calling)
        if running.dry_run:
            place = os.path.join(scratch, "job")
        elif os.path.dirname(place) == str(folder()):  # not where a path was named
            os.makedirs(folder(), mode=0o700, exist_ok=True)
        price = running.price
        job = await Job.create(place, kind, inputs, options=options, price=price, **chosen)
        async with job:
            return await go(job, who, running, shared, calling)


def _place_of(
    kind: str, sources: Sequence[str], options: Mapping[str, object], making: Making, who: Account
) -> str:
    """Name a job after what is asked: the same command again goes on, and pays nothing twice.

    What stands on standard input is not part of the name but the folder is: another list of files
    from the same place goes on with the same job, and what it has already is not paid again. For
    the same reason patterns are not part of it; but each shard is a job of its own.
    """
    where = [
        source if is_url(source) else os.path.abspath("" if source == STDIN else source)
        for source in sources
    ]
    shard = [making.shard] if making.shard else []
    asked = json.dumps([kind, where, options, who.origin, who.base_url, *shard], sort_keys=True)
    digest = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return find(f"{kind.replace('_', '-')}-{digest}")


def _refuse_to_replace(output: str | None, sources: Sequence[str]) -> None:
    """Refuse to write results over what was named as a source.

    Raises:
        ConfigurationError: It is one of them, by whatever name.
    """
    if output is None or not os.path.exists(output):
        return
    for source in sources:
        if os.path.exists(source) and os.path.samefile(output, source):
            raise ConfigurationError(f"--output is {source}, which is an input: name another file")


class Selected(TypedDict):
    """Which of the inputs are taken."""

    include: Sequence[str]
    exclude: Sequence[str]
    shard: str | None


def rate_of(text: str | None) -> Rate | None:
    """Return the rate that an option says."""
    if text is None:
        return None
    calls, _, seconds = text.partition("/")
    return Rate(int(calls), float(seconds or 1))


async def _known(place: str, kind: str, options: Mapping[str, object]) -> Job:
    """Open the job that there is already, if it is for the same."""
    job = await Job.open(place)
    if (job.kind.name, job.options) != (kind, json.loads(json.dumps(options))):
        await job.aclose()
        raise ConfigurationError(
            f"{place} is a job for something else: name another, or resume that one"
        )
    return job


async def _preview(
    job: Job,
    who: Account,
    running: Running,
    shared: Shared,
    chosen: Selected | None = None,
    inputs: Iterator[str | Input] | None = None,
) -> Exit:
    """Say what a run would send and what not, and why; nothing is sent or changed."""
    output = Output.of(shared)
    plan = await job.plan(
        inputs,
        client=Memories(base_url=who.base_url),  # asked for its limits only; it needs no keys
        rate=rate_of(running.rate),
        unknown=running.unknown,
        failed=running.failed,
        **(chosen or Selected(include=(), exclude=(), shard=None)),
    )
    if plan.price is None and running.price is not None:
        price = Decimal(str(running.price))
        cost, possible = (
            dollars_for(count, price) for count in (len(plan.to_send), plan.counts.unknown)
        )
        plan = attrs.evolve(plan, price=price, cost=cost, possible_cost=possible)
    unheeded = {"--max-items": running.max_items, "--max-cost": running.max_cost}
    for option in (name for name, value in unheeded.items() if value is not None):
        output.note(f"{option} is for a run: this is all that there is to send without it")
    summarised = at_terminal(len(plan.inputs)) and not output.json
    async with output.rows() as printer:
        for one in plan.unsent if summarised else plan.inputs:
            await printer.put(output.line(input_row(one), input_text(one)))
        await printer.put(output.line(plan_row(plan), plan_text(plan)))
    return Exit.DONE


async def go(job: Job, who: Account, running: Running, shared: Shared, calling: Calling) -> Exit:
    """Run a job, or only say what a run would do, and return the exit status."""
    cluster.refuse(running, calling)
    output = Output.of(shared)
    if running.dry_run:
        return await _preview(job, who, running, shared)
    if running.output is not None:
        # Said before anything is paid for.
        chosen = exports.format_of(running.output, None)
        await asyncio.to_thread(exports.check_destination, running.output, chosen)
    counts = await job.counts()
    if running.unknown == "retry" and counts.unknown:
        cost = "" if job.price is None else f" (up to ${dollars_for(counts.unknown, job.price)})"
        output.note(
            f"{counts.unknown} items without a known outcome are sent again; "
            f"what they may have cost already is paid twice{cost}"
        )
    rate = rate_of(running.rate)
    name = name_of(job.path)
    needed: KeyName = "caption_key" if job.kind.bucket in _CAPTIONING else "api_key"
    rates = None if rate is None else {job.kind.bucket: rate}
    who = with_key(who, needed)
    sends = counts.planned or "retry" in (running.unknown, running.failed)
    async with (
        connect(who, needed, calling, rates) as local,
        cluster.caller(
            local, who, rates_of(who, rates), running if sends else RUNNING, calling, output
        ) as client,
    ):
        output.note(f"job {name}: {counts.planned} of {counts.total} items to send")
        report: Report | None = None
        lost: StdoutLost | None = None
        try:
            with output.job(name) as show, _let_end(job) as let_end:
                async with _results(job, running, output, counts.total, let_end) as on_item:

                    def on_event(event: Event) -> None:
                        show(event)
                        _say_what_is_waited_for(event)
                        if event.item is not None:
                            on_item(event.item)

                    report = await job.run(
                        client,
                        concurrency=running.concurrency,
                        max_cost=running.max_cost,
                        max_items=running.max_items,
                        unknown=running.unknown,
                        failed=running.failed,
                        price=running.price,
                        options=CallOptions(answer_timeout=calling.answer_timeout),
                        on_event=on_event,
                    )
        except asyncio.CancelledError:
            return _aborted(name, await job.counts())
        except JournalError as error:
            counts = await job.counts()
            if not counts.sending + counts.unknown:
                raise
            # What was answered and could not be written down has been billed all the same.
            console.say(in_options(str(error)))
            _advise_unknown(name, attrs.evolve(counts, unknown=counts.unknown + counts.sending))
            return Exit.UNKNOWN
        except StdoutLost as error:
            lost = error
    status = Exit.DONE if report is None else await _conclude(job, report, running, output)
    if lost is not None and status is not Exit.UNKNOWN:
        raise lost
    return status


@contextlib.contextmanager
def _let_end(job: Job) -> Generator[Callable[[], bool]]:
    """Let the first signal, or a reader that goes away, end the run without losing an answer."""

    def let_end() -> bool:
        job.stop()
        return True

    with interrupts.gracefully(let_end):
        yield let_end


def _say_what_is_waited_for(event: Event) -> None:
    reason = event.stop.reason if event.name == "stopped" and event.stop else None
    count = event.counts.sending
    if reason is StopReason.INTERRUPTED and count:
        calls = "1 item in flight is" if count == 1 else f"{count} items in flight are"
        console.say(f"nothing more is sent; {calls} let end; {AGAIN}")


@contextlib.asynccontextmanager
async def _results(
    job: Job, running: Running, output: Output, total: int, on_lost: Callable[[], object]
) -> AsyncGenerator[Callable[[Item], None]]:
    """Give what prints each item as it comes; those of earlier runs follow at the end.

    At a terminal, of many items only a summary is shown; and nothing where they go to a file.

    Raises:
        StdoutLost: They cannot be printed.
    """
    if running.output is not None or (at_terminal(total) and not output.json):
        yield lambda _: None
        return
    printed: set[int] = set()
    async with output.rows(on_lost) as printer:

        def on_item(item: Item) -> None:
            # A video that is not searchable yet comes once more; what is too much now, later.
            if not item.waiting and item.id not in printed and printer.offer(line(item)):
                printed.add(item.id)

        def line(item: Item) -> str:
            return output.line(row_of(item), text_of(item))

        yield on_item
        if len(printed) < (await job.counts()).finished:
            async for item in job.items():
                if item.status in _FINAL and item.id not in printed:
                    await printer.put(line(item))


def at_terminal(count: int) -> bool:
    """Tell whether so many results would run through a terminal."""
    return count > FEW and sys.stdout is not None and sys.stdout.isatty()


def _aborted(name: str, counts: Counts) -> Exit:
    """Say where a job stands whose run was aborted."""
    console.say(f"aborted; job {name}: {state(counts)}")
    console.say(f"what was done is kept. To go on: memories-async jobs resume {name}")
    _advise_unknown(name, counts)
    return Exit.UNKNOWN if counts.unknown else interrupts.status or Exit.INTERRUPTED


async def _conclude(job: Job, report: Report, running: Running, output: Output) -> Exit:
    """Sum up for people, and say what they can do."""
    name, counts = name_of(job.path), report.counts
    written = running.output is None or await _exported(job, running.output, output)
    cost = "" if report.cost is None else f", ${report.cost}"
    sent = f"{report.bytes_sent / 1e6:.1f} MB in {duration(report.seconds)}"
    output.note(f"job {name}: {state(counts)} ({sent}{cost})")
    if report.stopped:
        console.say(in_options(report.stopped.message))
    if counts.planned:
        console.say(f"to go on: memories-async jobs resume {name}")
    _advise_unknown(name, counts)
    if counts.failed:
        console.say(f"{counts.failed} failed: memories-async jobs show {name} --status failed")
    advise_changed(name, report.changed)
    status = exit_of(counts, report)
    return Exit.FAILED if status is Exit.DONE and not written else status


async def _exported(job: Job, file: str, output: Output) -> bool:
    """Write the results, and tell whether that was possible: the run has been paid for by now."""
    try:
        rows = await job.export(file)
    except (OSError, ConfigurationError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        console.say(
            f"{file} is not written: {reason}. The job keeps all results: "
            f"memories-async jobs export {name_of(job.path)} {shlex.quote(file)}"
        )
        return False
    output.note(f"{rows} rows are in {file}")
    return True


def advise_changed(name: str, changed: int | None) -> None:
    """Say that answered files are others by now, and what sends them again."""
    if changed:
        has = "1 file has" if changed == 1 else f"{changed} files have"
        console.say(
            f"{has} changed since the answer: see memories-async jobs resume {name} --dry-run, "
            f"and send again with memories-async jobs retry {name} --what changed"
        )


def _advise_unknown(name: str, counts: Counts) -> None:
    if counts.unknown:
        console.say(
            f"{counts.unknown} may have been billed although no answer came; see them with "
            f"memories-async jobs show {name} --status unknown, then resume the job with "
            "--unknown retry or --unknown skip"
        )


def exit_of(counts: Counts, report: Report | None = None) -> Exit:
    """Return the exit status that a job's state deserves; what may have cost money comes first."""
    reason = report.stopped.reason if report and report.stopped else None
    if reason in _STOPPED:
        return Exit.STOPPED
    if counts.unknown:
        return Exit.UNKNOWN
    if reason is StopReason.INTERRUPTED and counts.planned:
        return interrupts.status or Exit.READER_GONE
    if reason in _LIMITS and counts.planned:
        return Exit.LIMIT
    if counts.failed or reason in _BROKEN:
        return Exit.FAILED
    return Exit.DONE
