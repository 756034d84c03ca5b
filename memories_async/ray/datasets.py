"""Calls for every row of a Ray dataset, each made once however often Ray runs its tasks."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import attrs

from memories_async.bulk.kinds import KINDS, price_of
from memories_async.bulk.ledger import Entry, Ledger, Totals, UnknownPolicy
from memories_async.bulk.once import LEDGER
from memories_async.checks import checked
from memories_async.checks.kinds import AMOUNT, COUNT, with_methods
from memories_async.checks.parameters import Mark
from memories_async.config import Rate
from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket
from memories_async.ray.actors import RayLedger, installed
from memories_async.ray.workers import ADDED, RowPlan, RowSettings, RowWorker
from memories_async.request_limits import efforts

if TYPE_CHECKING:
    from ray.data import Dataset

T = TypeVar("T")

DIMENSIONS: Final[Mapping[str, int]] = {"multimodalembedding@001": 1408, "mobileclip": 512}
"""Numbers in a vector: a block in which every row failed must have the same type as the others."""
_BATCH: Final = 32
_PAGE: Final = 500
"""Entries of a ledger that are in memory at once."""


_MARKS: Mapping[str, Mark] = {
    "dataset": with_methods("map_batches", wanted="a Dataset of Ray"),
    "ledger": LEDGER,
    "dimensions": COUNT,
    "concurrency": COUNT,
    "in_flight": COUNT,
    "max_cost": AMOUNT,
    "price": AMOUNT,
    "reasoning_effort": efforts,
}


@checked(_MARKS)
def embed_images(
    dataset: Dataset,
    *,
    source: str = "path",
    job: str,
    ledger: Ledger | None = None,
    model: str = "multimodalembedding@001",
    dimensions: int | None = None,
    rates: Mapping[Bucket, Rate] | None = None,
    concurrency: int = 4,
    in_flight: int = 4,
    max_cost: Decimal | float | str | None = None,
    price: Decimal | float | str | None = None,
    unknown: UnknownPolicy = "keep",
) -> Dataset:
    """Embed the images of a dataset, each once, however often Ray runs its tasks.

    Args:
        dataset: Rows; all their columns come back, with ``status``, ``error``, ``attempts``,
            ``replayed``, ``key``, ``model`` and ``vector`` added, or replaced where there are
            columns of these names.
        source: The column that holds paths, or addresses of any filesystem that pyarrow opens
            (``s3://…``), or bytes.
        job: What the calls belong to: the same name finds what was paid for before.
        ledger: Where they are remembered; by default an actor on the head node with a file of
            its own (``~/.local/state/memories-async/ray``), which outlives workers and drivers.
            A ``RedisLedger`` outlives the cluster.
        model: As for ``client.embeddings.image``.
        dimensions: Numbers in a vector; by default the model's.
        rates: The account's limits, kept for the whole cluster; by default the documented ones.
        concurrency: Actors, each with a client of its own (default 4).
        in_flight: Calls under way in each actor at once (default 4): so many may be unknown if
            it is killed.
        max_cost: Dollars that the job may cost, over all its runs.
        price: Dollars per image; by default the documented $0.0001.
        unknown: What becomes of calls whose outcome is unknown: ``keep`` or ``retry``.

    Returns:
        The dataset with the columns added; as lazy as Ray's own. Vectors are lists of float32 of
        a fixed size.

    Raises:
        ConfigurationError: A bad argument, or Ray is not installed.
    """
    dimensions = dimensions or DIMENSIONS.get(model)
    if dimensions is None:
        raise ConfigurationError(f"embed_images: dimensions is wanted for the model {model!r}")
    return _mapped(
        dataset,
        RowPlan("embed_images", source, job, {"model": model}, dimensions),
        RowSettings(ledger, rates, unknown, max_cost, price, in_flight),
        concurrency,
    )


@checked(_MARKS)
def caption_images(
    dataset: Dataset,
    prompt: str,
    *,
    source: str = "path",
    job: str,
    ledger: Ledger | None = None,
    system_prompt: str | None = None,
    thinking: bool | None = None,
    qa: bool | None = None,
    reasoning_effort: int | str | None = None,
    rates: Mapping[Bucket, Rate] | None = None,
    concurrency: int = 4,
    in_flight: int = 4,
    max_cost: Decimal | float | str | None = None,
    price: Decimal | float | str | None = None,
    unknown: UnknownPolicy = "keep",
) -> Dataset:
    """Caption the images of a dataset, each once; adds ``text``, ``input_tokens``, ….

    Args:
        dataset: As for ``embed_images``.
        prompt: What to say about each image.
        source: As for ``embed_images``; an ``https://`` address is described where it lies.
        job: As for ``embed_images``, like the rest that is not said here.
        ledger: Where the calls are remembered.
        system_prompt: As for ``client.captions.image``, like the next three.
        thinking: Whether to reason first.
        qa: Whether to answer a question.
        reasoning_effort: 1 to 10.
        rates: The account's limits.
        concurrency: Actors.
        in_flight: Calls under way in each actor.
        max_cost: Dollars in all; needs ``price``, as no price of a caption is documented.
        price: Dollars per image.
        unknown: What becomes of calls whose outcome is unknown.

    Returns:
        The dataset with the columns added.

    Raises:
        ConfigurationError: A bad argument, or Ray is not installed.
    """
    options = _prompts(prompt, system_prompt, thinking, qa, reasoning_effort)
    return _mapped(
        dataset,
        RowPlan("caption_images", source, job, options),
        RowSettings(ledger, rates, unknown, max_cost, price, in_flight),
        concurrency,
    )


@checked(_MARKS)
def caption_videos(
    dataset: Dataset,
    prompt: str,
    *,
    source: str = "path",
    job: str,
    ledger: Ledger | None = None,
    system_prompt: str | None = None,
    thinking: bool | None = None,
    qa: bool | None = None,
    reasoning_effort: int | str | None = None,
    rates: Mapping[Bucket, Rate] | None = None,
    concurrency: int = 4,
    in_flight: int = 4,
    max_cost: Decimal | float | str | None = None,
    price: Decimal | float | str | None = None,
    unknown: UnknownPolicy = "keep",
) -> Dataset:
    """Caption the videos of a dataset, each once; adds ``text``, ``input_tokens``, ….

    A video is streamed from where it lies, and never in memory as a whole.

    Args:
        dataset: As for ``embed_images``.
        prompt: What to say about each video.
        source: As for ``embed_images``; an ``https://`` address is described where it lies.
        job: As for ``embed_images``, like the rest that is not said here.
        ledger: Where the calls are remembered.
        system_prompt: As for ``client.captions.video``, like the next three.
        thinking: Whether to reason first.
        qa: Whether to answer a question.
        reasoning_effort: 1 to 10.
        rates: The account's limits.
        concurrency: Actors.
        in_flight: Calls under way in each actor.
        max_cost: Dollars in all; needs ``price``, as no price of a caption is documented.
        price: Dollars per video.
        unknown: What becomes of calls whose outcome is unknown.

    Returns:
        The dataset with the columns added.

    Raises:
        ConfigurationError: A bad argument, or Ray is not installed.
    """
    options = _prompts(prompt, system_prompt, thinking, qa, reasoning_effort)
    return _mapped(
        dataset,
        RowPlan("caption_videos", source, job, options),
        RowSettings(ledger, rates, unknown, max_cost, price, in_flight),
        concurrency,
    )


@checked(_MARKS)
def add_images(
    dataset: Dataset,
    *,
    source: str = "path",
    job: str,
    ledger: Ledger | None = None,
    unique_id: str | None = None,
    tags: Sequence[str] = (),
    rates: Mapping[Bucket, Rate] | None = None,
    concurrency: int = 4,
    in_flight: int = 4,
    max_cost: Decimal | float | str | None = None,
    price: Decimal | float | str | None = None,
    unknown: UnknownPolicy = "keep",
) -> Dataset:
    """Add the images of a dataset to the private library, each once; adds ``image_id``.

    Args:
        dataset: As for ``embed_images``.
        source: The column of paths, addresses or bytes.
        job: As for ``embed_images``, like the rest that is not said here.
        ledger: Where the calls are remembered.
        unique_id: As for ``client.library.add_images``.
        tags: The same.
        rates: The account's limits.
        concurrency: Actors.
        in_flight: Calls under way in each actor.
        max_cost: Dollars in all; needs ``price``, as none is documented.
        price: Dollars per image.
        unknown: What becomes of calls whose outcome is unknown.

    Returns:
        The dataset with the columns added.

    Raises:
        ConfigurationError: A bad argument, or Ray is not installed.
    """
    return _mapped(
        dataset,
        RowPlan("add_images", source, job, _given(unique_id=unique_id, tags=list(tags) or None)),
        RowSettings(ledger, rates, unknown, max_cost, price, in_flight),
        concurrency,
    )


@checked(_MARKS)
def add_videos(
    dataset: Dataset,
    *,
    source: str = "path",
    job: str,
    ledger: Ledger | None = None,
    unique_id: str | None = None,
    tags: Sequence[str] = (),
    rates: Mapping[Bucket, Rate] | None = None,
    concurrency: int = 4,
    in_flight: int = 4,
    max_cost: Decimal | float | str | None = None,
    price: Decimal | float | str | None = None,
    unknown: UnknownPolicy = "keep",
) -> Dataset:
    """Add the videos of a dataset to the private library, each once; adds ``video_no``.

    Whether a video is indexed is not waited for.

    Args:
        dataset: As for ``embed_images``.
        source: The column of paths, addresses or bytes.
        job: As for ``embed_images``, like the rest that is not said here.
        ledger: Where the calls are remembered.
        unique_id: As for ``client.library.add_video``.
        tags: The same.
        rates: The account's limits.
        concurrency: Actors.
        in_flight: Calls under way in each actor.
        max_cost: Dollars in all; needs ``price``, as none is documented.
        price: Dollars per video.
        unknown: What becomes of calls whose outcome is unknown.

    Returns:
        The dataset with the columns added.

    Raises:
        ConfigurationError: A bad argument, or Ray is not installed.
    """
    return _mapped(
        dataset,
        RowPlan("add_videos", source, job, _given(unique_id=unique_id, tags=list(tags) or None)),
        RowSettings(ledger, rates, unknown, max_cost, price, in_flight),
        concurrency,
    )


@checked(_MARKS)
def report(job: str, *, ledger: Ledger | None = None) -> Totals:
    """Say what has become of a job's calls, also while it runs.

    Args:
        job: Its name.
        ledger: Where it is remembered, if not with the actor on the head node.

    Returns:
        How many calls are done, failed, unknown and under way.

    Raises:
        ConfigurationError: Ray is not installed.
        LedgerUnavailable: The ledger cannot be reached.
    """
    home = ledger or RayLedger(job)

    async def count() -> Totals:
        try:
            return await home.totals()
        finally:
            await home.aclose()

    with _EventLoopThread() as loop:
        return loop.run(count())


@checked(_MARKS)
def results(job: str, *, ledger: Ledger | None = None) -> Iterator[tuple[str, Entry]]:
    """Yield all that the ledger knows of a job: what was paid for can always be read again.

    A page at a time is read, so a job may have any number of calls.

    Args:
        job: Its name.
        ledger: Where it is remembered, if not with the actor on the head node.

    Returns:
        The keys (the column ``key`` of a dataset's rows) and their entries.

    Raises:
        ConfigurationError: Ray is not installed.
        LedgerUnavailable: The ledger cannot be reached; also while it is read.
    """
    return _pages(ledger or RayLedger(job))


def _pages(ledger: Ledger) -> Iterator[tuple[str, Entry]]:
    entries = ledger.entries()

    async def page() -> list[tuple[str, Entry]]:
        found: list[tuple[str, Entry]] = []
        async for entry in entries:
            found.append(entry)
            if len(found) == _PAGE:
                break
        return found

    with _EventLoopThread() as loop:
        try:
            while found := loop.run(page()):
                yield from found
        finally:
            loop.run(ledger.aclose())


class _EventLoopThread:
    """Runs coroutines one by one, also where a loop is running already: a notebook has one."""

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memories-async-ray")
        self._runner = asyncio.Runner()
        return self

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._runner.run, work).result()

    def __exit__(self, *error: object) -> None:
        with self._thread:
            self._thread.submit(self._runner.close).result()


def _mapped(dataset: Dataset, plan: RowPlan, shared: RowSettings, concurrency: int) -> Dataset:
    for name, number in (("concurrency", concurrency), ("in_flight", shared.in_flight)):
        if number < 1:
            raise ConfigurationError(f"{plan.kind}: {name} is {number}; 1 or more is wanted")
    if plan.source in (*ADDED, *KINDS[plan.kind].columns):
        raise ConfigurationError(
            f"{plan.kind}: source is {plan.source!r}, a column that is added: rename it"
        )
    ray = installed()
    importlib.import_module("ray.data")
    price_of(plan.kind, shared.max_cost, shared.price)  # a bad budget is told before anything runs
    shared = attrs.evolve(shared, ledger=shared.ledger or RayLedger(plan.job))
    return dataset.map_batches(  # pyright: ignore[reportUnknownMemberType]  # partly annotated
        RowWorker,
        fn_constructor_args=(plan, shared),
        batch_size=_BATCH,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=concurrency),
        num_cpus=0.1,  # it waits for the service and for its turn
    )


def _prompts(
    prompt: str,
    system_prompt: str | None,
    thinking: bool | None,
    qa: bool | None,
    reasoning_effort: int | str | None,
) -> dict[str, object]:
    return _given(
        prompt=prompt,
        system_prompt=system_prompt,
        thinking=thinking,
        qa=qa,
        reasoning_effort=reasoning_effort,
    )


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}
