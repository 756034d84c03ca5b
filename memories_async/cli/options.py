"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import attrs
from cyclopts import Parameter

MediaKind: TypeAlias = Literal["image", "video"]


@Parameter(name="*", group="Every command")
@attrs.frozen(kw_only=True)
class Shared:
    """What every command understands.

    Attributes:
        profile: Take address and keys from this profile alone.
        json: Print results as JSON, one object per line.
        quiet: Show no progress.
        debug: Log what is sent, and show where an error came from.
    """

    profile: str | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False


SHARED = Shared()


@Parameter(name="*", group="Jobs")
@attrs.frozen(kw_only=True)
class Running:
    """How a job is run.

    Attributes:
        dry_run: Say what would be sent, what it would cost and how long it would take.
        max_cost: Stop before the job costs more dollars than this, over all its runs.
        max_items: Stop after so many items.
        concurrency: Calls in flight at once.
        unknown: What to do with items that may have been billed although no answer came.
        failed: What to do with items that failed in an earlier run.
        output: Write the results to this file (.jsonl or .parquet) and not to stdout.
    """

    dry_run: bool = False
    max_cost: float | None = None
    max_items: int | None = None
    concurrency: int = 4
    unknown: Literal["keep", "retry", "skip"] = "keep"
    failed: Literal["keep", "retry"] = "keep"
    output: Annotated[str | None, Parameter(name=("--output", "-o"))] = None


RUNNING = Running()


@Parameter(name="*", group="Jobs")
@attrs.frozen(kw_only=True)
class Making:
    """How a job is made.

    Attributes:
        job: The job's name, or the path of its file; the same command again finds its job by
            itself.
        price: Dollars per item, where the service does not document a price.
    """

    job: str | None = None
    price: float | None = None


MAKING = Making()
