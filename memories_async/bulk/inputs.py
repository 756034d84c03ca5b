"""What there is to send: folders, patterns, lists and JSON lines, as one lazy stream of inputs."""

from __future__ import annotations

import asyncio
import glob
import itertools
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import cast

import orjson

from memories_async.bulk.journal.queries import Planned
from memories_async.bulk.kinds import Kind
from memories_async.bulk.models import Input, Inputs, One
from memories_async.captions import Person
from memories_async.errors import ConfigurationError
from memories_async.fields import TIME_FORMAT
from memories_async.media.rules import MediaRule
from memories_async.media.urls import check_url, is_url

CHUNK = 500
"""Inputs found in one hop to a thread, and written to the journal at once."""

JSON_LINES = (".jsonl", ".ndjson")
LIST = (".txt", ".list")
_SOURCE_FIELDS = ("path", "url", "source")


async def chunks(
    inputs: Inputs, kind: Kind, given: Mapping[str, object]
) -> AsyncIterator[Sequence[Planned]]:
    """Find what is to be sent, a chunk at a time; never the whole of it in memory.

    Args:
        inputs: Where to look.
        kind: What is to be done with it.
        given: Options that hold for all of it.

    Raises:
        ConfigurationError: An input is none, or its options do not suit the kind of job.
    """

    def planned(found: Iterable[Input]) -> list[Planned]:
        return [_planned(one, kind, given) for one in itertools.islice(found, CHUNK)]

    if isinstance(inputs, AsyncIterable):
        async for one in inputs:
            found = _found(one, kind.rule)
            while chunk := await asyncio.to_thread(planned, found):
                yield chunk
    else:
        found = _all_found(inputs, kind.rule)
        while chunk := await asyncio.to_thread(planned, found):
            yield chunk


def kept(values: Mapping[str, object]) -> dict[str, object]:
    """Return values as the journal keeps them.

    Raises:
        ConfigurationError: One of them is nothing that JSON can say.
    """
    try:
        text = orjson.dumps(dict(values), _as_json, orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as error:
        raise ConfigurationError(f"a job cannot keep {dict(values)!r}: {error}") from None
    return cast("dict[str, object]", orjson.loads(text))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime(TIME_FORMAT)
    if isinstance(value, Person):
        return {"name": value.name, "url": value.url}
    raise TypeError(type(value).__name__)


def _planned(found: Input, kind: Kind, given: Mapping[str, object]) -> Planned:
    source = os.fsdecode(found.source)
    options, extra = kept(found.options), kept(found.extra)
    try:
        kind.check(options, given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    if is_url(source):
        if not kind.takes_urls:
            raise ConfigurationError(f"{kind.name} takes local files, not the URL {source[:80]}")
        return Planned(check_url(source, "source"), options, extra, None)
    path = os.path.abspath(source)
    try:
        size = os.stat(path).st_size
    except OSError:
        size = None  # it may still come; if not, it fails when it is its turn
    return Planned(path, options, extra, size)


# --- finding ----------------------------------------------------------------------------------


def _all_found(inputs: One | Iterable[One], rule: MediaRule) -> Iterator[Input]:
    if isinstance(inputs, str | os.PathLike | Input):
        yield from _found(inputs, rule)
    else:
        for one in inputs:
            yield from _found(one, rule)


def _found(one: object, rule: MediaRule) -> Iterator[Input]:
    if isinstance(one, Input):
        yield one
        return
    if not isinstance(one, str | os.PathLike):
        raise ConfigurationError(
            f"an input is a path, a URL or an Input, not {type(one).__name__}: "
            "what a job sends must still be there when it is resumed"
        )
    path = os.fsdecode(cast("str | os.PathLike[str]", one))
    extension = os.path.splitext(path)[1].lower()
    if is_url(path):
        yield Input(path)
    elif os.path.isdir(path):
        yield from map(Input, _walk(path, rule))
    elif extension in JSON_LINES:
        yield from _json_lines(path)
    elif extension in LIST:
        yield from _list(path)
    elif glob.has_magic(path) and not os.path.exists(path):
        yield from map(Input, filter(os.path.isfile, glob.iglob(path, recursive=True)))
    else:
        yield Input(path)


def _walk(folder: str, rule: MediaRule) -> Iterator[str]:
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
        if len(sources) != 1 or not isinstance(sources[0], str):
            raise ConfigurationError(f"{where} needs one of {', '.join(_SOURCE_FIELDS)}, as text")
        extra = fields.pop("extra", {})
        if not isinstance(extra, dict):
            raise ConfigurationError(f"{where}: extra is an object with fields of your own")
        yield Input(_beside(path, sources[0]), fields, cast("dict[str, object]", extra))


def _list(path: str) -> Iterator[Input]:
    for _, line in _lines(path):
        yield Input(_beside(path, os.fsdecode(line)))


def _beside(path: str, source: str) -> str:
    """Return a source as a list in a file means it: relative to that file."""
    return source if is_url(source) else os.path.join(os.path.dirname(path), source)


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if stripped := line.strip():
                    yield number, stripped
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
