"""Lists in files: a name a line, or a JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence

from memories_async import _json
from memories_async._lines import lines
from memories_async.bulk.inputs.selection import named_alike
from memories_async.bulk.models import Input
from memories_async.errors import ConfigurationError
from memories_async.media.urls import is_url

JSON_LINES = (".jsonl", ".ndjson")
LIST = (".txt", ".list")
_SOURCE_FIELDS = ("path", "url", "source")
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")


def json_lines(path: str) -> Iterator[tuple[str, Input]]:
    """Yield the inputs that a file names, a JSON object a line, each with its name for shards.

    Raises:
        ConfigurationError: A line is none, or the file cannot be read.
    """
    shard_name = _shard_names(path)
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            entry = _read(line)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{where}: {error}") from None
        if not _json.is_object(entry):
            raise ConfigurationError(f"{where} is no JSON object")
        sources = [entry.pop(name) for name in _SOURCE_FIELDS if name in entry]
        if len(sources) != 1 or not isinstance(sources[0], str) or not sources[0].strip():
            raise ConfigurationError(f"{where} needs one of {', '.join(_SOURCE_FIELDS)}, as text")
        if "\0" in sources[0]:
            raise ConfigurationError(f"{where}: the name has a NUL character")
        extra = entry.pop("extra", {})
        if not _json.is_object(extra):
            raise ConfigurationError(f"{where}: extra is an object with fields of your own")
        yield shard_name(sources[0]), Input(_beside(path, sources[0]), entry, extra)


def _read(line: bytes) -> object:
    """Return what a line of JSON says: numbers exactly as they stand, and each name once."""
    _json.loads(line)  # the stricter of the two, but long numbers are floats to it
    return json.loads(line, object_pairs_hook=_object)


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def plain_list(path: str) -> Iterator[tuple[str, Input]]:
    """Yield the inputs that a file names, a name a line, each with its name for shards.

    Raises:
        ConfigurationError: A line is no name, or the file cannot be read.
    """
    shard_name = _shard_names(path)
    for number, line in _lines(path):
        if b"\0" in line:
            raise ConfigurationError(f"{path}, line {number}: the name has a NUL character")
        source = os.fsdecode(line)
        yield shard_name(source), Input(_beside(path, source))


def _beside(path: str, source: str) -> str:
    """Return a source as a list in a file means it: relative to that file."""
    return source if is_url(source) else os.path.join(os.path.dirname(path), source)


def _shard_names(path: str) -> Callable[[str], str]:
    """Return what names a list's entries for shards: relative to the list wherever that can be.

    A list that is named relatively keeps its own folder in the names: parts that are under way
    were chosen by these.
    """
    folder = os.path.dirname(path)
    beneath = os.path.join(named_alike(os.path.abspath(folder)), "")
    kept = "" if os.path.isabs(folder) else folder

    def shard_name(source: str) -> str:
        if is_url(source):
            return source
        name = named_alike(source).removeprefix(beneath)
        return named_alike(os.path.join(kept, name))

    return shard_name


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    try:
        for number, line in enumerate(lines(path), 1):
            if number == 1:
                if line.startswith(_OTHER_BOMS):
                    raise ConfigurationError(f"{path} is in UTF-16: save it as UTF-8")
                line = line.removeprefix(_BOM)  # as editors on Windows write it
            if stripped := line.strip():
                yield number, stripped
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
