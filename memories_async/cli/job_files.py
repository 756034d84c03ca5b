"""Where jobs are kept, and what they are called on the command line."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memories_async._folders import state_folder
from memories_async.cli.credentials import Account
from memories_async.cli.options import Making
from memories_async.cli.sources import STDIN
from memories_async.media.urls import is_url

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

EXTENSION = ".sqlite"


def folder() -> Path:
    """Return where jobs are kept unless told otherwise."""
    return state_folder() / "jobs"


def find(job: str) -> str:
    """Return the path of a job that was named on the command line, by name or by path."""
    if os.sep in job or os.path.exists(job):
        return job
    return str(folder() / f"{job}{EXTENSION}")


def name_of(path: str) -> str:
    """Return what to call a job by, as a shell understands it: the shortest that ``find`` finds."""
    inside = os.path.dirname(os.path.abspath(path)) == str(folder())
    return shlex.quote(os.path.basename(path).removesuffix(EXTENSION) if inside else path)


def latest_first() -> list[Path]:
    """Return the files of the jobs that were started here."""
    found: list[tuple[float, Path]] = []
    for path in folder().glob(f"*{EXTENSION}"):
        try:
            found.append((path.stat().st_mtime, path))
        except FileNotFoundError:  # removed this moment
            continue
    return [path for _, path in sorted(found, reverse=True)]


def names(_: CompletionContext) -> Iterator[str]:
    """Yield the names of the jobs, for the completion of a shell."""
    yield from (path.name.removesuffix(EXTENSION) for path in latest_first())


def place_of(
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
