"""What there is to send: folders, patterns, lists and JSON lines, as one lazy stream of inputs."""

from __future__ import annotations

import asyncio
import fnmatch
import glob
import hashlib
import itertools
import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from typing import cast

import attrs
import orjson

from memories_async.bulk.journal.rows import NewItem
from memories_async.bulk.kinds import JobKind
from memories_async.bulk.models import Input, Inputs, SingleInput
from memories_async.captions import Person
from memories_async.errors import ConfigurationError
from memories_async.media.rules import MediaRule
from memories_async.media.urls import check_url, is_url
from memories_async.parameters import TIME_FORMAT

CHUNK = 500
"""Inputs found in one hop to a thread, and written to the journal at once."""

JSON_LINES = (".jsonl", ".ndjson")
LIST = (".txt", ".list")
_SOURCE_FIELDS = ("path", "url", "source")
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")


@attrs.frozen
class Selection:
    """Which of the inputs that are found are meant.

    Attributes:
        include: Patterns of which a name must match one; empty for all.
        exclude: Patterns of which it must match none.
        shard: Which of so many parts, from 1; None for all.
        own_files: Files of the job itself, which are no inputs.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    own_files: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        include: str | Sequence[str],
        exclude: str | Sequence[str],
        shard: str | tuple[int, int] | None,
        own_files: Sequence[str] = (),
    ) -> Selection:
        """Check what was asked for.

        Raises:
            ConfigurationError: A pattern is no text, or there is no such shard.
        """
        return cls(
            _patterns("include", include),
            _patterns("exclude", exclude),
            parse_shard(shard),
            tuple(own_files),
        )

    def has(self, name: str) -> bool:
        """Tell whether an input of this name, relative to where it was found, is meant."""
        if self.include and not any(_fits(name, pattern) for pattern in self.include):
            return False
        if any(_fits(name, pattern) for pattern in self.exclude):
            return False
        if self.shard is None:
            return True
        number, count = self.shard
        return shard_of(name, count) == number

    def is_own(self) -> Callable[[os.stat_result], bool]:
        """Return what tells the job's own files from others, by device and inode."""
        own: set[tuple[int, int]] = set()
        for path in self.own_files:
            try:
                status = os.stat(path)
            except OSError:
                continue
            own.add((status.st_dev, status.st_ino))
        return lambda status: (status.st_dev, status.st_ino) in own


def parse_shard(shard: str | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return a shard's number, from 1, and how many there are.

    Args:
        shard: ``"3/10"`` or ``(3, 10)``.

    Raises:
        ConfigurationError: It is neither, or the number is beyond the count.
    """
    if shard is None:
        return None
    number: object
    count: object
    try:
        number, count = shard.split("/") if isinstance(shard, str) else shard
        if isinstance(number, float) or isinstance(count, float):
            raise TypeError
        number, count = int(number), int(count)
    except (ValueError, TypeError, AttributeError):
        number, count = 0, 0
    if not 1 <= number <= count:
        raise ConfigurationError(f"shard is {shard!r}; something like '3/10' is wanted")
    return number, count


def shard_of(name: str, count: int) -> int:
    """Return the shard, from 1, that an input belongs to: the same on every machine."""
    digest = hashlib.sha256(os.fsencode(name.replace(os.sep, "/"))).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


async def chunks(
    inputs: Inputs,
    kind: JobKind,
    given: Mapping[str, object],
    selection: Selection | None = None,
) -> AsyncIterator[Sequence[NewItem]]:
    """Find what is to be sent, a chunk at a time; never the whole of it in memory.

    Args:
        inputs: Where to look.
        kind: What is to be done with it.
        given: Options that hold for all of it.
        selection: Which of it; by default all.

    Raises:
        ConfigurationError: An input is none, or its options do not suit the kind of job.
    """
    which = selection or Selection()

    def planned(found: Iterator[tuple[str, Input]]) -> list[NewItem] | None:
        chunk = list(itertools.islice(found, CHUNK))
        is_own = which.is_own()
        meant = (one for name, one in chunk if which.has(name))
        items = [_planned(one, kind, given, is_own) for one in meant]
        return [item for item in items if item is not None] if chunk else None

    if isinstance(inputs, AsyncIterable):
        async for one in inputs:
            found = _found(one, kind.rule)
            while (chunk := await asyncio.to_thread(planned, found)) is not None:
                yield chunk
    else:
        found = _all_found(inputs, kind.rule)
        while (chunk := await asyncio.to_thread(planned, found)) is not None:
            yield chunk


def kept(values: Mapping[str, object]) -> dict[str, object]:
    """Return values as the journal keeps them.

    Raises:
        ConfigurationError: One of them is nothing that JSON can say.
    """
    if not isinstance(cast("object", values), Mapping):
        raise ConfigurationError(f"options are a mapping of names and values, not {values!r}")
    try:
        text = orjson.dumps(dict(values), _as_json, orjson.OPT_PASSTHROUGH_DATETIME)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a job cannot keep {dict(values)!r}: {error}") from None
    return cast("dict[str, object]", orjson.loads(text))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime(TIME_FORMAT)
    if isinstance(value, Person):
        return {"name": value.name, "url": value.url}
    raise TypeError(type(value).__name__)


def _planned(
    found: Input,
    kind: JobKind,
    given: Mapping[str, object],
    is_own: Callable[[os.stat_result], bool],
) -> NewItem | None:
    source = os.fsdecode(found.source)
    if "\0" in source:
        raise ConfigurationError(f"{source!r} is no name of a file: it has a NUL character")
    options, extra = kept(found.options), kept(found.extra)
    try:
        kind.check(options, given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    if is_url(source):
        if not kind.takes_urls:
            raise ConfigurationError(f"{kind.name} takes local files, not the URL {source[:80]}")
        return NewItem(check_url(source, "source"), options, extra, None)
    path = os.path.abspath(source)
    try:
        status = os.stat(path)
    except OSError:
        return NewItem(path, options, extra, None)  # it may still come, and else fails
    return None if is_own(status) else NewItem(path, options, extra, status.st_size)


# --- finding ----------------------------------------------------------------------------------


def _all_found(
    inputs: SingleInput | Iterable[SingleInput], rule: MediaRule
) -> Iterator[tuple[str, Input]]:
    if isinstance(inputs, str | os.PathLike | Input):
        yield from _found(inputs, rule)
    elif not isinstance(cast("object", inputs), Iterable) or isinstance(inputs, Mapping | bytes):
        given = repr(cast("object", inputs))[:80]
        raise ConfigurationError(
            f"inputs are a path, a URL, an Input, or any number of these, not {given}"
        )
    else:
        for one in inputs:
            yield from _found(one, rule)


def _found(one: object, rule: MediaRule) -> Iterator[tuple[str, Input]]:
    """Yield inputs, each with its name relative to where it was found."""
    if isinstance(one, Input):
        yield os.fsdecode(one.source), one
        return
    if not isinstance(one, str | os.PathLike):
        raise ConfigurationError(
            f"an input is a path, a URL or an Input, not {type(one).__name__}: "
            "what a job sends must still be there when it is resumed"
        )
    path = os.fsdecode(cast("str | os.PathLike[str]", one))
    if "\0" in path:
        raise ConfigurationError(f"{path!r} is no name of a file: it has a NUL character")
    extension = os.path.splitext(path)[1].lower()
    if is_url(path):
        yield path, Input(path)
    elif os.path.isdir(path):
        yield from _with_names(_folder(path, rule), path)
    elif extension in JSON_LINES:
        yield from ((os.fsdecode(found.source), found) for found in _json_lines(path))
    elif extension in LIST:
        yield from ((os.fsdecode(found.source), found) for found in _list(path))
    elif glob.has_magic(path) and not os.path.exists(path):
        yield from _with_names(filter(os.path.isfile, _matching(path)), _fixed_part(path))
    else:
        yield path, Input(path)


def _with_names(paths: Iterable[str], start: str) -> Iterator[tuple[str, Input]]:
    for path in paths:
        yield os.path.relpath(path, start or "."), Input(path)


def _folder(folder: str, rule: MediaRule) -> Iterator[str]:
    """Yield the files of a folder, and of the folders in it, that have a fitting extension.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    extensions = {extension for format in rule.formats for extension in format.extensions}
    for parent, folders, files in os.walk(folder, onerror=_complain):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in extensions and not name.startswith("."):
                yield os.path.join(parent, name)


def _complain(error: OSError) -> None:
    raise ConfigurationError(f"{error.filename}: {error.strerror}") from None


# --- patterns ---------------------------------------------------------------------------------


def _patterns(name: str, given: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(cast("object", given), Iterable):
        raise ConfigurationError(f"{name}: {given!r} is no pattern, such as '*.jpg'")
    patterns = (given,) if isinstance(given, str) else tuple(given)
    for pattern in cast("tuple[object, ...]", patterns):
        if not isinstance(pattern, str) or not pattern:
            raise ConfigurationError(f"{name}: {pattern!r} is no pattern, such as '*.jpg'")
    return patterns


def _fits(name: str, pattern: str) -> bool:
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


def _fixed_part(pattern: str) -> str:
    """Return the folder that a pattern starts from: what comes before its first sign."""
    parts = pattern.split(os.sep)
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts[:-1]))
    return os.sep.join(fixed) or (os.sep if pattern.startswith(os.sep) else "")


def _matching(pattern: str) -> Iterator[str]:
    """Yield the files that fit a pattern; hidden ones only where it names them."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from sorted(glob.iglob(pattern))
        return
    # Python's own ``**`` follows links in circles, the longer the path may be: for hours.
    start = _fixed_part(pattern)
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


# --- lists ------------------------------------------------------------------------------------


def _json_lines(path: str) -> Iterator[Input]:
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            entry: object = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(f"{where}: {error}") from None
        if not isinstance(entry, dict):
            raise ConfigurationError(f"{where} is no JSON object")
        fields = cast("dict[str, object]", entry)
        sources = [fields.pop(name) for name in _SOURCE_FIELDS if name in fields]
        if len(sources) != 1 or not isinstance(sources[0], str) or not sources[0].strip():
            raise ConfigurationError(f"{where} needs one of {', '.join(_SOURCE_FIELDS)}, as text")
        if "\0" in sources[0]:
            raise ConfigurationError(f"{where}: the name has a NUL character")
        extra = fields.pop("extra", {})
        if not isinstance(extra, dict):
            raise ConfigurationError(f"{where}: extra is an object with fields of your own")
        yield Input(_beside(path, sources[0]), fields, cast("dict[str, object]", extra))


def _list(path: str) -> Iterator[Input]:
    for number, line in _lines(path):
        if b"\0" in line:
            raise ConfigurationError(f"{path}, line {number}: the name has a NUL character")
        yield Input(_beside(path, os.fsdecode(line)))


def _beside(path: str, source: str) -> str:
    """Return a source as a list in a file means it: relative to that file."""
    return source if is_url(source) else os.path.join(os.path.dirname(path), source)


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    if line.startswith(_OTHER_BOMS):
                        raise ConfigurationError(f"{path} is in UTF-16: save it as UTF-8")
                    line = line.removeprefix(_BOM)  # as editors on Windows write it
                if stripped := line.strip():
                    yield number, stripped
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
