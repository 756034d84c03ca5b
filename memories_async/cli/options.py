"""The options that several commands share, each with its type and limits."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import attrs
from cyclopts import Parameter

from memories_async.cli import checks
from memories_async.cli.job_files import names
from memories_async.request_limits import LONGEST_CAMERA_MODEL

MediaKind: TypeAlias = Literal["image", "video"]

Text: TypeAlias = Annotated[str, Parameter(validator=checks.text)]
Texts: TypeAlias = Annotated[tuple[str, ...], Parameter(validator=checks.text)]
Sources: TypeAlias = Annotated[
    list[str], Parameter(validator=checks.sources, allow_leading_hyphen=True)
]
FileName: TypeAlias = Annotated[str, Parameter(validator=checks.path)]
JobName: TypeAlias = Annotated[str, Parameter(validator=checks.path, completer=names)]
Count: TypeAlias = Annotated[int, Parameter(converter=checks.whole, validator=checks.between(1))]
Concurrency: TypeAlias = Annotated[
    int, Parameter(converter=checks.whole, validator=checks.between(1, 1000))
]
Dollars: TypeAlias = Annotated[
    float, Parameter(converter=checks.number, validator=checks.between(0))
]
Seconds: TypeAlias = Annotated[
    float, Parameter(converter=checks.number, validator=checks.between(0, above=True))
]
Moment: TypeAlias = Annotated[str, Parameter(validator=checks.moment)]
CameraModel: TypeAlias = Annotated[str, Parameter(validator=checks.at_most(LONGEST_CAMERA_MODEL))]
Latitude: TypeAlias = Annotated[
    float, Parameter(converter=checks.number, validator=checks.between(-90, 90))
]
Similarity: TypeAlias = Annotated[
    float, Parameter(converter=checks.number, validator=checks.between(0, 1))
]
Longitude: TypeAlias = Annotated[
    float, Parameter(converter=checks.number, validator=checks.between(-180, 180))
]

_RATE = checks.matches(
    r"[1-9][0-9]*(/([0-9]*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.[0-9]*[1-9][0-9]*))?",
    "CALLS a second or CALLS/SECONDS, as 5 or 1/60,",
)
_LIMITER = checks.matches(
    r"sqlite:.+|(rediss?|unix)://.+", "sqlite:PATH, redis://HOST or rediss://HOST"
)
_RESULTS = checks.matches(
    r"(?s).*\.(jsonl|csv|parquet)", "a name that ends in .jsonl, .csv or .parquet"
)


@Parameter(name="*", group="Every command")
@attrs.frozen(kw_only=True)
class Shared:
    """What every command understands.

    Attributes:
        profile: Take address and keys from this profile alone.
        json: Print results as JSON, one object per line.
        quiet: Show no progress and no notes.
        debug: Log what is sent, and show where an error came from.
    """

    profile: Text | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False


SHARED = Shared()


@Parameter(name="*", group="Calls")
@attrs.frozen(kw_only=True)
class Calling:
    """How the service is called.

    Attributes:
        answer_timeout: Seconds to wait for an answer once all is sent (300 if not given).
        limiter: Count the account's calls together with other processes: sqlite:PATH on this
            machine, or redis://HOST, rediss://HOST. MEMORIES_LIMITER is the same.
        verbose: Say on stderr what each call does: waits, attempts, throttling, and what is billed.
    """

    answer_timeout: Seconds | None = None
    limiter: Annotated[str | None, Parameter(env_var="MEMORIES_LIMITER", validator=_LIMITER)] = None
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"))] = False


CALLING = Calling()


@Parameter(name="*", group="Jobs")
@attrs.frozen(kw_only=True)
class Running:
    """How a job is run.

    Attributes:
        dry_run: Say what would be sent, what it would cost and how long it would take: all that
            there is to send, whatever --max-cost and --max-items say.
        max_cost: Stop before the job costs more dollars than this, over all its runs.
        max_items: Stop after so many items.
        price: Dollars per item, where the service does not document a price.
        rate: The account's limit, if it is not the documented one: CALLS a second, or
            CALLS/SECONDS.
        concurrency: Calls in flight at once.
        unknown: What to do with items that may have been billed although no answer came.
        failed: What to do with items that failed in an earlier run.
        output: Write the results to this file (.jsonl, .csv or .parquet) and not to stdout.
        ray: Have the calls made by the workers of a Ray cluster: one that is started on this
            machine, or the one at auto, HOST:PORT or ray://HOST:PORT.
    """

    dry_run: bool = False
    max_cost: Dollars | None = None
    max_items: Count | None = None
    price: Dollars | None = None
    rate: Annotated[str, Parameter(validator=_RATE)] | None = None
    concurrency: Concurrency = 4
    unknown: Literal["keep", "retry", "skip"] = "keep"
    failed: Literal["keep", "retry"] = "keep"
    output: Annotated[str | None, Parameter(name=("--output", "-o"), validator=_RESULTS)] = None
    ray: Annotated[str | None, Parameter(validator=checks.cluster)] = None


RUNNING = Running()


@Parameter(name="*", group="Jobs")
@attrs.frozen(kw_only=True)
class Making:
    """How a job is made.

    Attributes:
        job: The job's name, or the path of its file; the same command again finds its job by
            itself.
        include: Only files whose name or path fits this pattern. May be repeated.
        exclude: No files whose name or path fits this pattern. May be repeated.
        null: Names on standard input (-) are separated by NUL, as "find -print0" prints them.
        shard: Only this part of the inputs, as 3/10: each of ten machines takes another part.
    """

    job: JobName | None = None
    include: Texts = ()
    exclude: Texts = ()
    null: Annotated[bool, Parameter(name=("--null", "-0"))] = False
    shard: Annotated[str, Parameter(validator=checks.shard)] | None = None


MAKING = Making()


def job_options(making: Making, running: Running) -> list[str]:
    """Return the options of jobs that are given: what one call would not heed."""
    groups = ((making, MAKING), (running, RUNNING))
    return [
        f"--{field.name.replace('_', '-')}"
        for given, default in groups
        for field in attrs.fields(type(given))
        if getattr(given, field.name) != getattr(default, field.name)
    ]
