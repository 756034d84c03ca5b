"""What runs in Ray's actors: a client for each, and a batch of rows in, with its columns out."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, Final, TypeVar, cast
from urllib.parse import urlsplit

import attrs

from memories_async.bulk.kinds import KINDS
from memories_async.bulk.ledger import Ledger, UnknownPolicy
from memories_async.bulk.models import Status
from memories_async.bulk.once import Once, OnceSource, Openable, Record
from memories_async.client import Memories
from memories_async.config import Rate
from memories_async.operations import Bucket
from memories_async.ray.actors import RayLimiter

T = TypeVar("T")

ADDED: Final = ("status", "error", "attempts", "replayed", "key")
"""Columns that every kind of call adds, beside those of its answer."""


@attrs.frozen
class RowPlan:
    """What is done with each row, as plain values that Ray can carry."""

    kind: str
    source: str
    job: str
    options: Mapping[str, object]
    dimensions: int = 0


@attrs.frozen
class RowSettings:
    """What all workers share; None stands for the default."""

    ledger: Ledger | None
    rates: Mapping[Bucket, Rate] | None
    unknown: UnknownPolicy
    max_cost: Decimal | float | str | None
    price: Decimal | float | str | None
    in_flight: int


class RowWorker:
    """One actor's client; what is raised here would be run again by Ray, so nothing is."""

    def __init__(self, plan: RowPlan, shared: RowSettings) -> None:
        self._plan, self._shared = plan, shared
        self._loop = asyncio.new_event_loop()
        # A thread of its own: Ray may call us inside a loop that is already running.
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._once = self._run(self._start())

    async def _start(self) -> Once:
        assert self._shared.ledger is not None
        client = Memories(limiter=RayLimiter(), rates=self._shared.rates)
        return Once(
            client,
            self._shared.ledger,
            unknown=self._shared.unknown,
            max_cost=self._shared.max_cost,
            price=self._shared.price,
        )

    def __call__(self, batch: Any) -> Any:
        """Return a batch of rows with the columns added."""
        sources = batch.column(self._plan.source).to_pylist()
        records = self._run(self._send(sources))
        for name, column in _columns(self._plan, records).items():
            if name in batch.column_names:
                batch = batch.drop_columns([name])
            batch = batch.append_column(name, column)
        return batch

    async def _send(self, sources: Sequence[object]) -> list[Record[Any]]:
        places = asyncio.Semaphore(self._shared.in_flight)
        return await asyncio.gather(*(self._one(source, places) for source in sources))

    async def _one(self, source: object, places: asyncio.Semaphore) -> Record[Any]:
        try:
            call = getattr(self._once, _METHODS[self._plan.kind])
            async with places:
                return cast("Record[Any]", await call(_opened(source), **self._plan.options))
        except Exception as error:
            return Record(status=Status.PLANNED, error=f"{type(error).__name__}: {error}")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_METHODS: Mapping[str, str] = {
    "embed_images": "embed_image",
    "caption_images": "caption_image",
    "caption_videos": "caption_video",
    "add_images": "add_image",
    "add_videos": "add_video",
}
assert _METHODS.keys() == KINDS.keys()


def _opened(source: object) -> OnceSource:
    """Return what a cell stands for; pyarrow opens what is neither path, bytes nor web address."""
    if isinstance(source, str) and "://" in source:
        parts = urlsplit(source)
        if parts.scheme not in ("http", "https"):
            return Openable(os.path.basename(parts.path), _Opener(source))
    return cast("OnceSource", source)


@attrs.frozen
class _Opener:
    """Opens an address that pyarrow knows the filesystem of."""

    address: str

    def __call__(self) -> BinaryIO:
        fs: Any = importlib.import_module("pyarrow.fs")
        try:
            filesystem, path = fs.FileSystem.from_uri(self.address)
            return cast("BinaryIO", filesystem.open_input_file(path))
        except ValueError as error:
            raise OSError(f"{self.address}: {error}") from None


def _fitting(record: Record[Any], dimensions: int) -> Record[Any]:
    """Return a record without a vector that has no place in its column; the ledger has it."""
    numbers = len(getattr(record.value, "vector", ()))
    if not dimensions or numbers in (0, dimensions):
        return record
    error = f"the vector has {numbers} numbers, and dimensions is {dimensions}"
    return attrs.evolve(record, value=None, error=error)


def _columns(plan: RowPlan, records: Sequence[Record[Any]]) -> dict[str, Any]:
    arrow: Any = importlib.import_module("pyarrow")
    records = [_fitting(record, plan.dimensions) for record in records]
    columns: dict[str, Any] = {
        "status": arrow.array([record.status.value for record in records], arrow.string()),
        "error": arrow.array([record.error for record in records], arrow.string()),
        "attempts": arrow.array([record.attempts for record in records], arrow.int32()),
        "replayed": arrow.array([record.replayed for record in records], arrow.bool_()),
        "key": arrow.array([record.key for record in records], arrow.string()),
    }
    types: dict[str, Any] = {
        "string": arrow.string(),
        "int64": arrow.int64(),
        "vector": arrow.list_(arrow.float32(), plan.dimensions),
    }
    for name, kind in KINDS[plan.kind].columns.items():
        read = _FIELDS[name]
        cells = [None if record.value is None else read(record.value) for record in records]
        columns[name] = arrow.array(cells, types[kind])
    return columns


_FIELDS: Mapping[str, Callable[[Any], object]] = {
    "model": lambda value: value.model,
    "vector": lambda value: list(value.vector),
    "text": lambda value: value.text,
    "input_tokens": lambda value: value.tokens and value.tokens.input,
    "output_tokens": lambda value: value.tokens and value.tokens.output,
    "image_id": lambda value: value.id,
    "video_no": lambda value: value.video_no,
    "video_name": lambda value: value.name,
    "video_status": lambda value: value.status,
}
