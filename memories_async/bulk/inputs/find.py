"""What there is to send: folders, patterns, lists and JSON lines, as one lazy stream of inputs."""

from __future__ import annotations

import glob
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
from typing import cast

import attrs

from memories_async._engine.body.threads import in_thread
from memories_async.bulk.inputs.lists import JSON_LINES, LIST, json_lines, plain_list
from memories_async.bulk.inputs.patterns import fixed_part, matching
from memories_async.bulk.inputs.selection import Selection, named_alike
from memories_async.bulk.inputs.values import kept
from memories_async.bulk.journal.rows import NewItem
from memories_async.bulk.kinds import JobKind
from memories_async.bulk.models import Input, Inputs, SingleInput
from memories_async.checks.kinds import path_problem, shown
from memories_async.errors import ConfigurationError
from memories_async.media.rules import MediaRule
from memories_async.media.urls import check_url, is_url, shown_url

CHUNK = 500
"""Inputs found in one hop to a thread, and written to the journal at once."""


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

    def planned(found: Iterator[_Found]) -> list[NewItem] | None:
        chunk = list(itertools.islice(found, CHUNK))
        is_own = which.is_own()
        meant = (one.input for one in chunk if which.has(one.name, one.shard_name))
        items = [_planned(one, kind, given, is_own) for one in meant]
        return [item for item in items if item is not None] if chunk else None

    if isinstance(inputs, AsyncIterable):
        async for one in inputs:
            found = _found(one, kind.rule)
            while (chunk := await in_thread(planned, found)) is not None:
                yield chunk
    else:
        found = _all_found(inputs, kind.rule)
        while (chunk := await in_thread(planned, found)) is not None:
            yield chunk


def _planned(
    found: Input,
    kind: JobKind,
    given: Mapping[str, object],
    is_own: Callable[[os.stat_result], bool],
) -> NewItem | None:
    source = os.fsdecode(found.source)
    _check_name(source)
    options, extra = kept(found.options), kept(found.extra)
    try:
        kind.check(options, given)
    except ConfigurationError as error:
        named = shown_url(source) if is_url(source) else source
        raise ConfigurationError(f"{named}: {error}") from None
    if is_url(source):
        if not kind.takes_urls:
            raise ConfigurationError(
                f"{kind.name} takes local files, not the URL {shown_url(source)}"
            )
        if {**given, **options}.get("as_base64"):
            raise ConfigurationError(
                f"as_base64 sends local images, not the URL {shown_url(source)}"
            )
        return NewItem(check_url(source, "source"), options, extra, None)
    path = os.path.abspath(source)
    try:
        status = os.stat(path)
    except OSError:
        return NewItem(path, options, extra, None)  # it may still come, and else fails
    return None if is_own(status) else NewItem(path, options, extra, status.st_size)


@attrs.frozen
class _Found:
    """An input, and its names: for patterns, and for shards."""

    input: Input
    name: str
    shard_name: str

    @classmethod
    def of(cls, one: Input, shard_name: str | None = None) -> _Found:
        """Name an input by what it is called where it was found."""
        name = os.fsdecode(one.source)
        return cls(one, name, named_alike(name) if shard_name is None else shard_name)


# --- finding ----------------------------------------------------------------------------------


def _all_found(inputs: SingleInput | Iterable[SingleInput], rule: MediaRule) -> Iterator[_Found]:
    if isinstance(inputs, str | os.PathLike | Input):
        yield from _found(inputs, rule, alone=True)
    elif not isinstance(cast("object", inputs), Iterable) or isinstance(inputs, Mapping | bytes):
        given = shown(cast("object", inputs))
        raise ConfigurationError(
            f"inputs are a path, a URL, an Input, or any number of these, not {given}"
        )
    else:
        for one in inputs:
            yield from _found(one, rule)


def _found(one: object, rule: MediaRule, *, alone: bool = False) -> Iterator[_Found]:
    """Yield inputs, each with its name relative to where it was found.

    A file that is missing among others is an item that fails, as it may still come. Where it is
    all that there is to send, or ends as only a folder's name does, it was misspelled.
    """
    if isinstance(one, Input):
        yield _Found.of(one)
        return
    if not isinstance(one, str | os.PathLike):
        raise ConfigurationError(
            f"an input is a path, a URL or an Input, not {type(one).__name__}: "
            "what a job sends must still be there when it is resumed"
        )
    path = os.fsdecode(cast("str | os.PathLike[str]", one))
    _check_name(path)
    extension = os.path.splitext(path)[1].lower()
    if is_url(path):
        yield _Found.of(Input(path))
    elif os.path.isdir(path):
        yield from _with_names(_folder(path, rule), path)
    elif extension in JSON_LINES:
        yield from (_Found.of(found, name) for name, found in json_lines(path))
    elif extension in LIST:
        yield from (_Found.of(found, name) for name, found in plain_list(path))
    elif glob.has_magic(path) and not os.path.exists(path):
        yield from _with_names(filter(os.path.isfile, matching(path)), fixed_part(path))
    elif (alone or not os.path.basename(path)) and not os.path.lexists(path):
        raise ConfigurationError(f"{path}: there is no such file or folder")
    else:
        yield _Found.of(Input(path))


def _check_name(path: str) -> None:
    if is_url(path) or not path.strip():
        return  # said elsewhere
    if (problem := path_problem("it", path)) is not None:
        raise ConfigurationError(f"{shown(path)} is no name of a file: {problem}")


def _with_names(paths: Iterable[str], start: str) -> Iterator[_Found]:
    for path in paths:
        name = os.path.relpath(path, start or ".")
        yield _Found(Input(path), name, name)


def _folder(folder: str, rule: MediaRule) -> Iterator[str]:
    """Yield the files of a folder, and of the folders in it, that have a fitting extension.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    extensions = {extension for format in rule.formats for extension in format.extensions}
    for parent, folders, files in os.walk(folder, onerror=_raise_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in extensions and not name.startswith("."):
                yield os.path.join(parent, name)


def _raise_unreadable(error: OSError) -> None:
    raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
