"""Which inputs are meant: by patterns, by shard, and never the job's own files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import attrs

from memories_async.bulk.inputs.patterns import fits
from memories_async.errors import ConfigurationError
from memories_async.media.urls import is_url


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

    def has(self, name: str, shard_name: str) -> bool:
        """Tell whether an input is meant.

        Args:
            name: What patterns look at: its name relative to where it was found.
            shard_name: The name that it has on every machine, as far as there is one.
        """
        if self.include and not any(fits(name, pattern) for pattern in self.include):
            return False
        if any(fits(name, pattern) for pattern in self.exclude):
            return False
        if self.shard is None:
            return True
        number, count = self.shard
        return shard_of(shard_name, count) == number

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
        for part in (number, count):
            # Not what Python takes for a number besides: 1_0, digits of other scripts, spaces.
            if isinstance(part, float) or (isinstance(part, str) and not _is_plain(part)):
                raise TypeError
        number, count = int(number), int(count)
    except (ValueError, TypeError, AttributeError):
        number, count = 0, 0
    if not 1 <= number <= count:
        raise ConfigurationError(f"shard is {shard!r}; something like '3/10' is wanted")
    return number, count


def _is_plain(number: str) -> bool:
    return number.isascii() and number.isdigit() and len(number) < 10


def shard_of(name: str, count: int) -> int:
    """Return the shard, from 1, that an input belongs to: the same on every machine."""
    digest = hashlib.sha256(os.fsencode(name.replace(os.sep, "/"))).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def named_alike(name: str) -> str:
    """Return a name as it is for shards, however it is written: ``./a//b`` is ``a/b``."""
    if is_url(name):
        return name
    return os.path.normpath(name).replace(os.sep * 2, os.sep)  # which it leaves in front


def _patterns(name: str, given: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(cast("object", given), Iterable):
        raise ConfigurationError(f"{name}: {given!r} is no pattern, such as '*.jpg'")
    patterns = (given,) if isinstance(given, str) else tuple(given)
    for pattern in cast("tuple[object, ...]", patterns):
        if not isinstance(pattern, str) or not pattern:
            raise ConfigurationError(f"{name}: {pattern!r} is no pattern, such as '*.jpg'")
    return patterns
