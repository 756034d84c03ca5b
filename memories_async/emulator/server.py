"""The emulator: a memories.ai service in this process, on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import math
import mimetypes
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar, TypeVarTuple, Unpack, cast

import anyio
from aiohttp import web
from anyio import CapacityLimiter, to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from memories_async.checks import ConfigurationError, checked
from memories_async.checks.kinds import (
    ASYNC_HOOK,
    COUNT,
    FREE_TEXT,
    PORT,
    SECONDS,
    SECRET,
    Kind,
    Problem,
    instance_of,
    seconds_from,
    shown,
    with_methods,
)
from memories_async.checks.parameters import between
from memories_async.emulator.answers import Answers
from memories_async.emulator.callbacks import Callbacks
from memories_async.emulator.clock import AdjustableClock
from memories_async.emulator.context import Context, Timing
from memories_async.emulator.engines.installed import default_engine
from memories_async.emulator.faults import Faults, InjectedFault
from memories_async.emulator.folder import kept, temporary
from memories_async.emulator.handlers.file_checks import CAPTION_VIDEO_BYTES, MB
from memories_async.emulator.http.app import App
from memories_async.emulator.http.auth import Keys, RateLimit, RateLimiter, RateLimits, is_loopback
from memories_async.emulator.http.outbound import OutboundClient, is_http
from memories_async.emulator.http.protocol_log import ProtocolLog
from memories_async.emulator.ledger import OPERATION, RequestLedger
from memories_async.emulator.recording.recorder import Recorder
from memories_async.emulator.recording.recordings import Recordings
from memories_async.emulator.recording.replayer import Replayer
from memories_async.emulator.store import MediaStore, StoredAsset, new_asset_id

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from memories_async.emulator.engines.protocol import Engine
    from memories_async.operations import Bucket

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_DISK_THREADS = 4
_LATENCY = seconds_from(0)


def _latencies_problem(name: str, value: object) -> Problem:
    if not isinstance(value, Mapping):
        return None
    problems = (
        OPERATION.problem(name, operation)
        if OPERATION.fits(operation) and _LATENCY.fits(seconds)
        else f"{name}[{shown(operation)}] is {shown(seconds)}; {_LATENCY.wanted} is wanted"
        for operation, seconds in cast("Mapping[object, object]", value).items()
    )
    return next(filter(None, problems), None)


_LATENCIES = Kind(
    f"{_LATENCY.wanted}, or a mapping of calls to such,",
    lambda value: isinstance(value, Mapping) or _LATENCY.fits(value),
    _latencies_problem,
)


class Emulator:
    """A memories.ai service that needs no account and no internet.

    All three services answer at ``url``, on their own paths. Its answers have the real service's
    shape; its captions, embeddings and clips show what can be measured in pixels, and are no
    substitute for the real service's intelligence.

    Args:
        engine: What looks at the pictures. By default real pixels where the extra ``[emulator]``
            is installed, else answers derived from the content's hash.
        host: The address to listen on; any but loopback needs ``allow_remote`` and both keys.
        port: The port to listen on; 0 is a free one.
        folder: Where uploads are kept for the next start: an empty folder or one that an emulator
            has used before, by one emulator at a time. By default a temporary folder that is
            removed when the emulator stops.
        api_key: The only key accepted for visual search and visual intelligence; by default any.
        caption_key: The only key accepted for captions; by default any.
        record: A folder. Requests are sent on to the real service, each with its own key, and the
            answers are kept there without keys and signed addresses.
        upstream: Where requests are sent on to: one address of all services, e.g. that of another
            emulator. By default the real services.
        replay: A folder of recordings. Requests that were recorded get the same answers, without
            a key, and nothing is billed.
        otherwise: What becomes of other requests: ``"refuse"`` names them, ``"engine"`` answers.
        allow_remote: Whether other machines may call; they are let in by the keys.
        callback_hosts: Hosts other than loopback to which callbacks may be posted.
        fetch_hosts: Hosts other than loopback from which media may be fetched.
        fetch_limit: Bytes that are fetched from one address, at most.
        upload_limit: Bytes that one request may bring, at most.
        limits: Rate limits per account, none by default; ``emulator.limits`` may be changed at
            any time.
        batch_limit: Files in one image upload, at most.
        index_seconds: How long a library video stays ``UNPARSE``, and an asset ``UPLOADING``.
        engine_seconds: How long the engine may take for one answer.
        clock: Returns seconds since the epoch.
        sleep: Waits for faults' latencies and for indexing; by default by ``emulator.clock``.

    Attributes:
        ledger: Every request, billed or not.
        faults: What goes wrong on request.
        answers: What a test chooses to be answered in place of the engine.
        clock: The emulator's time, which a test may turn on: ``emulator.clock.advance(60)``.
        callbacks: What was posted to callback addresses, and what goes wrong there on request.

    Raises:
        ConfigurationError: An option is wrong, or does not go with the others. So is whatever is
            wrong with a fault, a chosen answer or a condition: it is said when that is made, for
            a test in which nothing went wrong would pass.
    """

    @checked(
        {
            "engine": with_methods("embed_image", wanted="an engine"),
            "host": FREE_TEXT,
            "port": PORT,
            "api_key": SECRET,
            "caption_key": SECRET,
            "fetch_limit": COUNT,
            "upload_limit": COUNT,
            "limits": instance_of(Mapping, wanted="a mapping of buckets to RateLimit"),
            "batch_limit": COUNT,
            "index_seconds": seconds_from(0),
            "engine_seconds": SECONDS,
        }
    )
    def __init__(
        self,
        engine: Engine | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        folder: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        caption_key: str | None = None,
        record: str | os.PathLike[str] | None = None,
        upstream: str | None = None,
        replay: str | os.PathLike[str] | None = None,
        otherwise: Literal["refuse", "engine"] = "refuse",
        allow_remote: bool = False,
        callback_hosts: Collection[str] = (),
        fetch_hosts: Collection[str] = (),
        fetch_limit: int = CAPTION_VIDEO_BYTES,
        upload_limit: int = CAPTION_VIDEO_BYTES + MB,
        limits: Mapping[Bucket, RateLimit] | None = None,
        batch_limit: int = 100,
        index_seconds: float = 0.0,
        engine_seconds: float = 120.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        if not is_loopback(host) and not (allow_remote and api_key and caption_key):
            raise ConfigurationError(
                f"{host} is not loopback: it needs allow_remote=True, api_key and caption_key "
                "(of the command: --allow-remote, and the key in MEMORIES_EMULATOR_KEY)"
            )
        if record is not None and replay is not None:
            raise ConfigurationError("record and replay are for two runs, one after the other")
        if upstream is not None and record is None:
            raise ConfigurationError(
                "upstream is where requests are sent on to while they are recorded"
            )
        if upstream is not None and not is_http(upstream):
            raise ConfigurationError("upstream is no http(s) address")  # it may hold a login
        self._record = None if record is None else Recordings(Path(record))
        self._upstream = upstream
        self._replay = None if replay is None else Recordings(Path(replay))
        self._otherwise = otherwise
        self._replayer: Replayer | None = None
        self.ledger = RequestLedger()
        self.faults: Faults[InjectedFault] = Faults()
        self.answers = Answers()
        self.clock = AdjustableClock(clock)
        sleep = self.clock.sleep if sleep is None else sleep
        self._timing = Timing(index_seconds)
        self._index_seconds = index_seconds
        self._limits = RateLimits(limits or {})
        self._engine = engine
        self._address = host, port
        self._folder = folder
        self._keys = Keys(api_key, caption_key)
        self._fetching = OutboundClient(fetch_hosts, "fetch_hosts")
        self._calling_back = OutboundClient(callback_hosts, "callback_hosts")
        self.callbacks = Callbacks(self._calling_back, sleep)
        self._context = functools.partial(
            Context,
            fetching=self._fetching,
            callbacks=self.callbacks,
            fetch_limit=fetch_limit,
            upload_limit=upload_limit,
            batch_limit=batch_limit,
            timing=self._timing,
            engine_seconds=engine_seconds,
            clock=self.clock,
            sleep=sleep,
            secret=secrets.token_bytes(32),
            disk_threads=CapacityLimiter(_DISK_THREADS),
            engine_threads=CapacityLimiter(os.cpu_count() or 1),
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._url = ""
        self._store: MediaStore | None = None
        self._cleanup = contextlib.AsyncExitStack()
        self._portal: BlockingPortal | None = None
        self._end_portal: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """The address of all three services, e.g. ``http://127.0.0.1:43121``."""
        self._running()
        return self._url

    @property
    def limits(self) -> MutableMapping[Bucket, RateLimit]:
        """The rate limits in force, per account; change them at any time."""
        return self._limits

    @property
    def latency(self) -> float | Mapping[str, float]:
        """Seconds that each answer takes longer: of all calls, or by call.

        ``emulator.latency = 2.0``, or ``emulator.latency = {"captions.video": 30.0}``.
        """
        return self._timing.latency

    @latency.setter
    @checked({"seconds": _LATENCIES})
    def latency(self, seconds: float | Mapping[str, float]) -> None:
        self._timing.latency = seconds

    @property
    def index_seconds(self) -> float:
        """How long a library video stays ``UNPARSE``, and an asset ``UPLOADING``."""
        return self._timing.index_seconds

    @index_seconds.setter
    @checked({"seconds": _LATENCY})
    def index_seconds(self, seconds: float) -> None:
        self._timing.index_seconds = seconds

    @checked({"count": between(0, math.inf), "operation": OPERATION})
    def assert_billed(self, count: int, operation: str | None = None) -> None:
        """Fail, and show the ledger, unless so many requests were billed.

        Args:
            count: How many.
            operation: Of which row or call; by default of all.

        Raises:
            AssertionError: More or fewer were billed.
            ConfigurationError: No operation is called so.
        """
        billed = self.ledger.billed(operation)
        of = f" of {operation}" if operation else ""
        if billed != count:
            raise AssertionError(f"{billed} requests{of} were billed, not {count}:\n{self.ledger}")

    def reset(self) -> None:
        """Forget requests, faults, answers, limits and everything that is stored.

        For tests that share one emulator: its address and its engine stay.
        """
        self.ledger.clear()
        self.faults.clear()
        self.answers.clear()
        self.callbacks.reset()
        self.limits.clear()
        if self._replayer is not None:
            self._replayer.reset()
        self.latency = 0.0
        self.index_seconds = self._index_seconds
        self.clock.reset()
        if self._store is not None:
            self._store.clear()

    def __enter__(self) -> Self:
        portal = start_blocking_portal()
        self._portal = portal.__enter__()
        try:
            self._portal.call(self.start)
        except BaseException:
            portal.__exit__(None, None, None)
            self._portal = None
            raise
        self._end_portal = functools.partial(portal.__exit__, None, None, None)
        return self

    def __exit__(self, *_: object) -> None:
        portal, self._portal = self._portal, None
        if portal is not None:
            portal.call(self.stop)
            self._end_portal()

    @checked({"function": ASYNC_HOOK})
    def call(self, function: Callable[[Unpack[Arguments]], Awaitable[T]], *args: *Arguments) -> T:
        """Run a coroutine function of the emulator's from blocking code: ``with Emulator()``.

        ``emulator.call(emulator.callbacks.release)`` posts the callbacks that are held.

        Raises:
            RuntimeError: It is not used in ``with``.
        """
        if self._portal is None:
            raise RuntimeError("call() is for an emulator that is used in 'with'")
        return self._portal.call(function, *args)

    def __repr__(self) -> str:
        return f"<Emulator: {self._url or 'stopped'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; answers come from the next moment on.

        Raises:
            RuntimeError: It is running already.
            FileNotFoundError: There is no folder of recordings to replay.
            ValueError: A file in it is no recording.
            OSError: The port is taken; or the folder is another emulator's, or holds files that
                are not an emulator's; or recordings cannot be written to theirs.
        """
        if self._store is not None:
            raise RuntimeError("The emulator is running already")
        async with contextlib.AsyncExitStack() as cleanup:
            claim = temporary() if self._folder is None else kept(Path(self._folder))
            folder = await to_thread.run_sync(claim.__enter__)
            release = functools.partial(claim.__exit__, None, None, None)
            cleanup.push_async_callback(to_thread.run_sync, release)
            store = await to_thread.run_sync(MediaStore, folder)
            loading = asyncio.ensure_future(self._load_engine())
            cleanup.push_async_callback(asyncio.wait, [loading])
            cleanup.push_async_callback(self._fetching.close)
            cleanup.push_async_callback(self._calling_back.close)
            cleanup.push_async_callback(self._end_tasks)
            recorder = None
            if self._record is not None:
                await to_thread.run_sync(self._record.prepare)
                recorder = Recorder(self._record, self._upstream)
                cleanup.push_async_callback(recorder.close)
            if self._replay is not None:
                await to_thread.run_sync(self._replay.load)
                engine_answers = self._otherwise == "engine"
                self._replayer = Replayer(self._replay, otherwise=engine_answers)
            stopped = asyncio.Event()
            app = App(
                context=self._context(store=store, loading=loading, indexing=anyio.Lock()),
                ledger=self.ledger,
                faults=self.faults,
                answers=self.answers,
                recorder=recorder,
                replayer=self._replayer,
                keys=self._keys,
                limiter=RateLimiter(self._limits, self.clock),
                allow_remote=not is_loopback(self._address[0]),
                spawn=self._spawn,
                stopped=stopped,
            )
            runner = web.AppRunner(
                app.application(),
                access_log=None,
                logger=ProtocolLog(logging.getLogger(__name__)),
                shutdown_timeout=0.1,
                auto_decompress=False,
            )
            await runner.setup()
            cleanup.push_async_callback(runner.cleanup)
            cleanup.callback(stopped.set)
            await web.TCPSite(runner, *self._address).start()
            host, port, *_ = runner.addresses[0]
            self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            self._store = store
            self._cleanup = cleanup.pop_all()

    async def stop(self) -> None:
        """Stop listening, drop what is under way, and remove a temporary folder."""
        self._store = None
        self._url = ""
        await self._cleanup.aclose()

    @checked
    def add_asset(self, path: str | os.PathLike[str]) -> str:
        """Copy a file into the asset store, as an upload to the service would.

        Args:
            path: The image, video or sound.

        Returns:
            The ``asset_id`` for embeddings.

        Raises:
            RuntimeError: The emulator is not running.
            OSError: The file cannot be read.
        """
        store = self._running()
        source = Path(path)
        content = source.read_bytes()
        copy = store.incoming / secrets.token_hex(16)
        copy.write_bytes(content)
        now = int(self.clock() * 1000)
        asset = StoredAsset(
            id=new_asset_id(),
            name=source.name,
            content_type=mimetypes.guess_type(source.name)[0] or "application/octet-stream",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created_at=now,
            received_at=now,
        )
        store.assets.add([(asset, copy)])
        return asset.id

    async def _load_engine(self) -> Engine:
        """Return the engine, loaded while others listen: NumPy and PyAV take a while to import."""
        if self._engine is not None:
            return self._engine
        return await to_thread.run_sync(default_engine)

    def _running(self) -> MediaStore:
        if self._store is None:
            raise RuntimeError("The emulator is not running: use it in 'async with'")
        return self._store

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
