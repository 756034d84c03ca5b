"""Patterns of names, with ``**`` for any number of folders: what fits, and which files do."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Iterator, Sequence


def fits(name: str, pattern: str) -> bool:
    """Tell whether a name fits a pattern: one without a slash means a file or folder anywhere."""
    parts = [part for part in name.replace(os.sep, "/").split("/") if part not in ("", ".")]
    if "/" not in pattern.strip("/"):
        return any(fnmatch.fnmatchcase(part, pattern.strip("/")) for part in parts)
    wanted = pattern.strip("/").split("/")
    return _parts_match(parts, wanted, hidden=True)


def _parts_match(parts: Sequence[str], wanted: Sequence[str], *, hidden: bool = False) -> bool:
    """Tell whether the parts of a path fit those of a pattern, as in ``photos/**/*.jpg``."""
    # Which positions in the path can have been reached after each part of the pattern.
    reached = {0}
    for pattern in wanted:
        if pattern == "**":
            further: set[int] = set()
            for start in reached:
                for end in range(start, len(parts) + 1):
                    further.add(end)
                    if end < len(parts) and parts[end].startswith(".") and not hidden:
                        break
            reached = further
        else:
            shown = pattern.startswith(".") or hidden
            reached = {
                at + 1
                for at in reached
                if at < len(parts)
                and fnmatch.fnmatchcase(parts[at], pattern)
                and (shown or not parts[at].startswith("."))
            }
    return len(parts) in reached


def fixed_part(pattern: str) -> str:
    """Return the folder that a pattern starts from: what comes before its first sign."""
    parts = pattern.split(os.sep)
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts[:-1]))
    return os.sep.join(fixed) or (os.sep if pattern.startswith(os.sep) else "")


def matching(pattern: str) -> Iterator[str]:
    """Yield the files that fit a pattern; hidden ones only where it names them."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from sorted(glob.iglob(pattern))
        return
    # Python's own ``**`` follows links in circles, the longer the path may be: for hours.
    start = fixed_part(pattern)
    wanted = [part for part in parts[start.count(os.sep) + 1 if start else 0 :] if part]
    if start == os.sep:
        wanted = [part for part in parts if part]
    for path in _tree(start or ".", set()):
        below = os.path.relpath(path, start or ".").split(os.sep)
        if _parts_match(below, wanted):
            yield path if start else os.path.relpath(path)


def _tree(folder: str, entered: set[tuple[int, int]]) -> Iterator[str]:
    """Yield all files below a folder, also through links, but each folder by one link at most."""
    try:
        status = os.stat(folder)
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return  # as Python's own glob does
    for entry in entries:
        if not _is_folder(entry):
            yield entry.path
        elif not entry.is_symlink() or _identity(entry.path) not in entered:
            yield from _tree(entry.path, entered)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
