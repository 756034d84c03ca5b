"""CallbackInbox: asynchronous results, matched to their tasks and awaited in any process."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import ipaddress
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from memories_async.callbacks.payloads import READERS, read_caption, read_video
from memories_async.callbacks.responses import (
    ACKNOWLEDGED,
    BODY_SECONDS,
    MOST_BYTES,
    NOT_FOUND,
    NOT_FROM_THERE,
    NOT_READABLE,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    CallbackResponse,
)
from memories_async.callbacks.stores.protocol import Delivery, DeliveryStatus, Store
from memories_async.callbacks.tokens import (
    CallbackKind,
    last_segment,
    looks_signed,
    new_token,
    sign,
    token_for,
    verify,
)
from memories_async.checks import checked
from memories_async.checks.kinds import CLOCK, FREE_TEXT, SECRET, Kind, instance_of, seconds_from
from memories_async.clock import SystemClock
from memories_async.errors import (
    CallbackTimeout,
    ConfigurationError,
    DecodeError,
    OutcomeUnknown,
    TaskFailed,
    quoted,
)
from memories_async.media.source import Buffer
from memories_async.media.urls import check_url
from memories_async.models import CaptionTask
from memories_async.request_limits import LONGEST_CALLBACK
from memories_async.secret import Secret, secret_from_environment

if TYPE_CHECKING:
    from memories_async.clock import Clock
    from memories_async.models import Caption, Video

logger = logging.getLogger(__name__)

SECRET_VARIABLE = "MEMORIES_CALLBACK_SECRET"  # noqa: S105  # its name, not its value
SHORTEST_SECRET = 16
REPEAT_SECONDS = 60.0
"""How long a repeated submission waits for the first one to come to something."""
POLL_INTERVAL = 0.1
MOST_DOUBTFUL = 10_000
"""Submissions without a known task that are remembered; beyond, the oldest are waited for again."""


@checked(
    {
        "store": instance_of(Store, wanted="a store, e.g. SqliteStore(path)"),
        "secret": SECRET,
        "clock": CLOCK,
        "send": Kind(
            "a function that hands the video in, "
            "lambda url: client.captions.submit_video(…, callback=url),",
            callable,
        ),
        "task": instance_of(CaptionTask, str, wanted="a CaptionTask, or its task_id,"),
        "timeout": seconds_from(0),
        # What strangers post is answered, whatever it says; of what type it is, a program decides.
        "CallbackInbox.receive.path": FREE_TEXT,
        "CallbackInbox.receive.peer": FREE_TEXT,
        "body": Kind(
            "bytes, or a function that reads them,",
            lambda body: callable(body) or isinstance(body, bytes | bytearray | memoryview),
        ),
    }
)
class CallbackInbox:
    """Receives the results that the service posts, and hands each to whoever awaits it.

    Every task gets an address of its own, which holds 128 random bits and a signature of ours
    (HMAC-SHA256), as the service signs nothing. Mount it where the service can reach it:
    ``aiohttp_app``, ``asgi_app``, ``wsgi_app``, or ``serve`` in a script.

    What arrives is not authenticated beyond that: treat a caption as text from a stranger.

    Args:
        address: The public http(s) address under which this inbox is mounted.
        store: Where tasks and results are kept; all workers must share it.
        secret: What addresses are signed with, at least 16 characters, the same in all workers;
            by default ``MEMORIES_CALLBACK_SECRET`` of the environment, else one that the store
            makes and keeps.
        allow_from: Networks and addresses that may post, e.g. ``["203.0.113.0/24"]``; by default
            anyone may. Behind a proxy, the server must be told to believe its headers.
        clock: Time, for tests.

    Raises:
        ConfigurationError: The address, the secret or a network is malformed.
    """

    def __init__(
        self,
        address: str,
        *,
        store: Store,
        secret: str | None = None,
        allow_from: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._address = _checked_address(address)
        self._store = store
        self._given = _checked_secret(secret)
        self._kept: Secret | None = None
        """The store's, as it was read last."""
        self._networks = _networks(allow_from)
        self._doubtful: dict[str, None] = {}
        """Tokens of repeatable submissions that have ended, and whose task nobody will tell."""
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"CallbackInbox({self._address!r}, store={self._store!r})"

    @property
    def address(self) -> str:
        """The public address, without a slash at its end."""
        return self._address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the store's connections; what it keeps stays. May be repeated."""
        await self._store.aclose()

    # --- captions -----------------------------------------------------------------------------

    async def submit(
        self, send: Callable[[str], Awaitable[CaptionTask]], *, key: str | None = None
    ) -> CaptionTask:
        """Hand in a video with a callback address made for it alone.

        ``inbox.submit(lambda url: client.captions.submit_video(video, prompt, callback=url))``

        Args:
            send: Called with the address; hands the video in and returns the task.
            key: What stands for this submission, e.g. a random number in the form that a browser
                sends: whoever submits again with it, to any worker, is given the same task, and
                nothing is sent or billed a second time. If the first one came to nothing, the
                next one goes ahead.

        Returns:
            The task; keep its ``task_id`` and pass it to ``result``, in any worker.

        Raises:
            ConfigurationError: What ``send`` returned is no task.
            OutcomeUnknown: A submission with this key ended without a task being known, or began
                and has not been heard of for a minute: it may have been billed.
            StoreUnavailable: The store cannot be reached. If that is before ``send`` was called,
                nothing was handed in; else the error carries a note with the task's id.
        """
        secret = await self._signing_key(anew=True)
        kind = CallbackKind.CAPTION
        token = new_token(kind) if key is None else token_for(kind, key, secret)
        if earlier := await self._expect(token):
            return CaptionTask(task_id=earlier)
        try:
            task = cast("object", send(f"{self._address}/{sign(token, secret)}"))
            while inspect.isawaitable(task):  # not at all, or twice, for the blocking inbox
                task = cast("object", await task)
        except BaseException as error:
            if _surely_not_billed(error):
                await asyncio.shield(self._store.forget(token))
            else:
                self._doubt(token)
            raise
        if not isinstance(task, CaptionTask):
            self._doubt(token)
            raise ConfigurationError(
                f"what was given to submit returned {type(task).__name__}: it is to return what "
                "captions.submit_video returns"
            )
        name = _storable(task)
        try:
            matched = await self._store.bind(token, name, self._clock.wall())
        except BaseException as error:
            self._doubt(token)
            error.add_note(f"task {name} was accepted, and its result can not be matched")
            raise
        if not matched:
            logger.warning("Dropped a callback of another task than %s at its address", name)
        return task

    async def _expect(self, token: str) -> str | None:
        """Expect a callback under a token; if it was opened before, return the task it is for."""
        waited = 0.0
        while not await self._store.open(token, None, self._clock.wall()):
            if name := await self._store.name_of(token):
                return name
            if waited >= REPEAT_SECONDS or token in self._doubtful:
                raise OutcomeUnknown("an earlier submission with this key was not heard of again")
            await self._clock.sleep(POLL_INTERVAL)
            waited += POLL_INTERVAL
        return None

    def _doubt(self, token: str) -> None:
        """Let a repeated submission, to this worker, wait for nothing."""
        self._doubtful[token] = None
        if len(self._doubtful) > MOST_DOUBTFUL:
            del self._doubtful[next(iter(self._doubtful))]

    async def submitted_at(self, task: CaptionTask | str) -> datetime | None:
        """Tell when a task was submitted, in any worker.

        Args:
            task: The task, or its ``task_id``, which may come from a stranger.

        Returns:
            The time, in UTC; None if no such task is known, or not any more.
        """
        opened = await self._store.opened(_storable(task))
        return None if opened is None else datetime.fromtimestamp(opened, UTC)

    async def result(self, task: CaptionTask | str, *, timeout: float | None = 900.0) -> Caption:
        """Wait for a task's caption, in any worker, before or after a restart.

        Args:
            task: The task, or its ``task_id``.
            timeout: Seconds to wait (default 900); 0 only looks, None waits for ever.

        Returns:
            The caption. Its text is a stranger's: escape it before it goes into a page.

        Raises:
            CallbackTimeout: No callback came in time; a later one is still kept.
            TaskFailed: The service called back to say that the task failed.
        """
        task_id = _storable(task)
        delivery = await self._wait(task_id, timeout)
        if delivery is None:
            raise CallbackTimeout(
                f"no callback for task {quoted(task_id)} within {timeout:g} s", task_id=task_id
            )
        caption = read_caption(delivery.body).result
        if caption is None:
            raise TaskFailed(
                f"task {quoted(task_id)} failed; the service gives no reason", task_id=task_id
            )
        return caption

    # --- library videos -----------------------------------------------------------------------

    async def address_for_video(self) -> str:
        """Make the callback address for one upload to the video library.

        Pass it as ``callback`` to ``library.add_video``, and to ``video`` to await the indexing.

        Returns:
            An address of at most 299 characters; keep it as you would keep a password.
        """
        # Read anew: what is signed with a secret that the store has lost, no other worker opens.
        secret = await self._signing_key(anew=True)
        token = new_token(CallbackKind.VIDEO)
        await self._store.open(token, token, self._clock.wall())
        return f"{self._address}/{sign(token, secret)}"

    async def video(self, address: str, *, timeout: float | None = 3600.0) -> Video:
        """Wait until the video that was uploaded with an address is indexed.

        Args:
            address: What ``address_for_video`` returned, in any worker.
            timeout: Seconds to wait (default 3,600); 0 only looks, None waits for ever.

        Returns:
            The video's number and status ``PARSE``: it can be searched.

        Raises:
            ConfigurationError: It is not an address made by this inbox for a video.
            CallbackTimeout: No callback came in time; a later one is still kept.
            TaskFailed: Indexing failed for good.
        """
        opened = await self._verify(last_segment(address))
        if opened is None or opened[0] is not CallbackKind.VIDEO:
            raise ConfigurationError("this inbox made no such address for a video")
        delivery = await self._wait(opened[1], timeout)
        if delivery is None:
            raise CallbackTimeout(
                f"no callback for the video within {timeout:g} s", task_id=opened[1]
            )
        notice = read_video(delivery.body)
        assert notice.result is not None
        if notice.result.failed:
            raise TaskFailed(f"indexing of {quoted(notice.subject)} failed", task_id=notice.subject)
        return notice.result

    # --- receiving ----------------------------------------------------------------------------

    async def receive(
        self,
        path: str,
        body: Buffer | Callable[[], Awaitable[Buffer]],
        *,
        peer: str | None = None,
    ) -> CallbackResponse:
        """Take in one POST; the adapters call this.

        Args:
            path: The path that was posted to; its last segment is what counts.
            body: The body, or what reads it: called only if the address is one of ours, and given
                30 seconds. Of a body above 1 MiB, any part that is.
            peer: The IP address that it came from, where ``allow_from`` is used.

        Returns:
            What to answer; trouble with the store is logged and answered 503.

        Raises:
            ConfigurationError: An argument is of another type.
        """
        if not self._allows(peer):
            logger.warning("Refused a callback from %r", peer)
            return NOT_FROM_THERE
        try:
            opened = await self._verify(last_segment(path))
            if opened is None:
                return NOT_FOUND
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    posted = memoryview(await _read(body))
            except TimeoutError:
                return TOO_SLOW
            if posted.nbytes > MOST_BYTES:
                return TOO_LARGE
            return await self._take(*opened, bytes(posted))
        except Exception:
            logger.exception("A callback could not be kept")
            return UNAVAILABLE

    async def _take(self, kind: CallbackKind, token: str, body: bytes) -> CallbackResponse:
        try:
            payload = READERS[kind](body)
        except DecodeError as error:
            logger.warning("Refused a callback: %s", error)
            return NOT_READABLE
        if not payload.final:
            logger.info("A callback says that %r goes on", quoted(payload.subject))
            return ACKNOWLEDGED
        # A caption's task is known from its submission; a video's address stands for itself.
        name = payload.subject if kind is CallbackKind.CAPTION else token
        digest = hashlib.sha256(body).hexdigest()
        delivery = Delivery(name, body, digest, self._clock.wall())
        status = await self._store.deliver(token, delivery)
        if status is DeliveryStatus.UNKNOWN:
            logger.warning(
                "A callback at one of our addresses names no task of it: %r", quoted(name)
            )
            return NOT_FOUND
        if status is DeliveryStatus.CONTESTED:
            logger.warning(
                "Two early callbacks at one address; the second, for %r, may come again",
                quoted(name),
            )
            return UNAVAILABLE
        if status is DeliveryStatus.DIFFERENT:
            logger.warning("Ignored another callback for %r (SHA-256 %s)", quoted(name), digest)
        return ACKNOWLEDGED

    def _allows(self, peer: str | None) -> bool:
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)

    # --- what they share ----------------------------------------------------------------------

    async def _verify(self, segment: str) -> tuple[CallbackKind, str] | None:
        """Return what one of our addresses is for, and its token; None for any other."""
        opened = verify(segment, await self._signing_key())
        if opened is None and self._given is None and looks_signed(segment):
            # The store may have been emptied, and another worker have made a new secret since.
            opened = verify(segment, await self._signing_key(anew=True))
        return opened

    async def _signing_key(self, *, anew: bool = False) -> bytes:
        if self._given is not None:
            return self._given.reveal().encode()
        if anew or self._kept is None:
            proposed = self._kept.reveal() if self._kept else secrets.token_urlsafe(32)
            self._kept = Secret(await self._store.secret(proposed), SECRET_VARIABLE)
        return self._kept.reveal().encode()

    async def _wait(self, name: str, timeout: float | None) -> Delivery | None:
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        async with self._store.watch(name) as came:
            while (delivery := await self._store.find(name)) is None:
                try:
                    async with asyncio.timeout_at(deadline):
                        await came.wait()
                except TimeoutError:
                    # What came at the last moment may be known to the store before it is told.
                    return await self._store.find(name)
                came.clear()
        return delivery


def _storable(task: CaptionTask | str) -> str:
    """Return a task's name as a store can take it, whatever a stranger has put into an address.

    Half a surrogate pair becomes what it is in a callback that is read: U+FFFD.
    """
    task_id = task if isinstance(task, str) else task.task_id
    return task_id.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _read(body: Buffer | Callable[[], Awaitable[Buffer]]) -> Buffer:
    """Return a body, by whichever function it is read: a plain one will do, as for submit."""
    read = cast("object", body() if callable(body) else body)
    while inspect.isawaitable(read):
        read = cast("object", await read)
    return cast("Buffer", read)


def _surely_not_billed(error: BaseException) -> bool:
    """Tell whether a submission that failed was surely not billed."""
    if isinstance(error, OutcomeUnknown | DecodeError):
        return False
    return not any("billed" in note for note in getattr(error, "__notes__", ()))


def _checked_address(address: str) -> str:
    address = check_url(address, "the inbox's address").rstrip("/")
    if "?" in address or "#" in address:
        raise ConfigurationError(f"the inbox's address {address!r} must have no query or fragment")
    longest = LONGEST_CALLBACK - len("/") - len(sign(new_token(CallbackKind.CAPTION), b""))
    if len(address) > longest:
        raise ConfigurationError(
            f"the inbox's address has {len(address)} characters; the limit is {longest}, "
            f"as the service takes {LONGEST_CALLBACK} with what is added"
        )
    return address


def _checked_secret(secret: str | None) -> Secret | None:
    if secret is None:
        return secret_from_environment(SECRET_VARIABLE)
    if len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(f"the inbox's secret has less than {SHORTEST_SECRET} characters")
    return Secret(secret, SECRET_VARIABLE)


def _networks(allowed: Collection[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(network, strict=False) for network in allowed]
    except ValueError as error:
        raise ConfigurationError(f"allow_from: {error}") from None
