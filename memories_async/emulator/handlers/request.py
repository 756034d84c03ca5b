"""A request that has arrived whole, and what a handler makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, cast

import attrs

from memories_async.emulator.context import Context
from memories_async.emulator.handlers.file_checks import FileCheck
from memories_async.emulator.spool import Spool, SpooledFile


@attrs.frozen(kw_only=True)
class HandlerRequest:
    """A request that has arrived whole, with what is needed to answer it.

    Attributes:
        fields: What ``FIELDS`` in validation.py lists for the operation, each as its kind.
        files: In the order of their parts.
        origin: The address under which the client knows the emulator.
        spool: Where files go on their way.
        context: What the handlers work with.
    """

    fields: Mapping[str, object]
    files: Sequence[SpooledFile]
    origin: str
    spool: Spool
    context: Context

    def text(self, name: str) -> str:
        """Return a field that holds text; empty if it was not given."""
        return cast("str", self.fields.get(name, ""))

    def texts(self, name: str) -> list[str]:
        """Return a field that holds a list; empty if it was not given."""
        return cast("list[str]", self.fields.get(name, []))

    def integer(self, name: str) -> int | None:
        """Return a field that holds an integer; None if it was not given."""
        return cast("int | None", self.fields.get(name))

    def number(self, name: str) -> float | None:
        """Return a field that holds a number; None if it was not given."""
        return cast("float | None", self.fields.get(name))

    async def fetch(
        self, url: str, part: str, check: FileCheck, limit: int | None = None
    ) -> SpooledFile:
        """Return what is at an address, if it passes a check."""
        most = self.context.fetch_limit
        file = await self.context.fetching.fetch(
            url, self.spool, part=part, limit=most if limit is None else min(limit, most)
        )
        check(file)
        return file


@attrs.frozen
class Callback:
    """What is posted later: where to, and how its body comes about."""

    url: str
    body: Callable[[], Awaitable[dict[str, object]]]


@attrs.frozen
class HandlerResult:
    """A success.

    Attributes:
        data: What the envelope holds.
        file: What is sent in place of an envelope.
        content: The same, as bytes.
        callback: What is posted once the answer has gone out.
    """

    data: object = None
    file: SpooledFile | None = attrs.field(default=None, kw_only=True)
    content: bytes | None = attrs.field(default=None, kw_only=True)
    callback: Callback | None = attrs.field(default=None, kw_only=True)


Handler: TypeAlias = Callable[[HandlerRequest], Awaitable[HandlerResult]]
