"""Where jobs are kept, and what they are called on the command line."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from memories_async._folders import state_folder

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
