"""One request's life, from its headers to the last byte of its answer."""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs
from aiohttp import web

from memories_async._version import __version__
from memories_async.emulator import answers
from memories_async.emulator.answers import Answers
from memories_async.emulator.callbacks import CallbackFault, Early
from memories_async.emulator.context import Context
from memories_async.emulator.faults import (
    ConnectionEffect,
    Cut,
    Drip,
    Faults,
    InjectedFault,
    Moment,
)
from memories_async.emulator.handlers import (
    HANDLERS,
    PREFLIGHT,
    Callback,
    HandlerRequest,
    HandlerResult,
    validation,
)
from memories_async.emulator.handlers.file_checks import FILE_BYTES
from memories_async.emulator.http import openapi
from memories_async.emulator.http.auth import Keys, RateLimiter, names_loopback
from memories_async.emulator.http.envelopes import (
    HttpResponse,
    Reason,
    Refusal,
    download,
    failure,
    gateway,
    success,
    unknown_path,
    wrong_content_type,
    wrong_method,
)
from memories_async.emulator.http.request_bodies import Incoming, Received, UnsupportedBody, receive
from memories_async.emulator.http.responses import deliver
from memories_async.emulator.http.routes import HEALTH_PATH, IMAGE_PATH, Route, routes, service_of
from memories_async.emulator.ledger import FileEntry, RequestLedger
from memories_async.emulator.recording.recorder import Recorder, succeeded
from memories_async.emulator.recording.replayer import Replayer
from memories_async.emulator.spool import UploadTooLargeError
from memories_async.operations import Operation, Service

if TYPE_CHECKING:
    from memories_async.emulator.spool import Spool

logger = logging.getLogger(__name__)

_FORBIDDEN = HttpResponse(status=403, body=b"Forbidden\n", headers={"Content-Type": "text/plain"})

_BYTES = {"Content-Type": "application/octet-stream"}


class _Replacement(Exception):
    """Something else comes in place of the handler's answer."""

    def __init__(self, outcome: ConnectionEffect) -> None:
        self.outcome = outcome


@attrs.frozen(kw_only=True)
class App:
    """The service's application: routes, authentication, faults, ledger.

    Attributes:
        context: What the handlers work with.
        ledger: Where requests are recorded.
        faults: What goes wrong on request.
        answers: What is answered in place of the engine.
        recorder: Sends requests on to the real service, if that is wanted.
        replayer: Gives recorded answers, if that is wanted.
        keys: Who may come in.
        limiter: How often.
        allow_remote: Whether callers from other machines are let in, by their key.
        spawn: Starts work that goes on after the answer.
        stopped: Set when the emulator stops.
    """

    context: Context
    ledger: RequestLedger
    faults: Faults[InjectedFault]
    answers: Answers
    keys: Keys
    limiter: RateLimiter
    recorder: Recorder | None
    replayer: Replayer | None
    allow_remote: bool
    spawn: Callable[[Coroutine[object, object, None]], None]
    stopped: asyncio.Event

    def application(self) -> web.Application:
        """Return the aiohttp application, routed from the operations table."""
        application = web.Application()
        application[_APP] = self
        for resource in _resources():
            application.router.register_resource(resource)
        return application

    async def describe(self, request: web.Request) -> web.StreamResponse:
        """Send the OpenAPI document."""
        answer = HttpResponse(body=openapi.document()) if self._admits(request) else _FORBIDDEN
        return await deliver(request, answer, self.context.sleep, self.stopped)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Say that requests are taken: to anybody, for whoever starts services has no key."""
        answer = HttpResponse(body={"status": "ok", "version": __version__})
        return await deliver(request, answer, self.context.sleep, self.stopped)

    async def image(self, request: web.Request) -> web.StreamResponse:
        """Send a library image to whoever has its signed address."""
        image_id, given = request.match_info["image_id"], request.query.get("signature", "")
        image = self.context.store.images.get(image_id)
        signed = hmac.compare_digest(
            self.context.signature(image_id).encode(), given.encode(errors="replace")
        )
        if not self._admits(request, signed=True) or image is None or not signed:
            answer = _FORBIDDEN
        else:
            file = self.context.store.images.file(image)
            answer = download(file.name, file.content_type, file.path)
        return await deliver(request, answer, self.context.sleep, self.stopped)

    async def enter(
        self, request: web.Request, choices: Sequence[Route], *, known: bool
    ) -> web.StreamResponse:
        """Take a request in.

        Args:
            request: The request.
            choices: What is reached by its method and path, in one layout or another.
            known: Whether another method reaches something at its path.
        """
        signed = any(route.row.service is Service.STORAGE for route in choices)
        if not self._admits(request, signed=signed):
            return await deliver(request, _FORBIDDEN, self.context.sleep, self.stopped)
        content_type = request.content_type
        route = next((route for route in choices if route.suits(content_type)), None)
        refusal = wrong_content_type if choices else wrong_method if known else unknown_path
        return await self._serve(request, route, refusal)

    def _admits(self, request: web.Request, *, signed: bool = False) -> bool:
        """Keep out the web pages of a browser (DNS rebinding), or whoever has no key.

        Who comes by a signed address has no key: there the signature is checked, later.
        """
        if self.allow_remote:
            return signed or self.keys.accept_any(request.headers.get("Authorization", ""))
        return names_loopback(request.headers.get("Host", ""))

    async def _serve(
        self,
        request: web.Request,
        route: Route | None,
        refusal: Callable[[Service | None, str, str], HttpResponse],
    ) -> web.StreamResponse:
        operation = route.row if route else None
        number = self.ledger.begin(operation, request.method, request.path, self.context.clock())
        fault = self.faults.due(operation.name if operation else None)
        spool = self.context.spool()
        reply: HandlerResult | None = None
        outcome: ConnectionEffect | None
        try:
            try:
                await self._inject(fault, "headers", operation)
                if route is None or operation is None:
                    raise _Replacement(_refused(request, refusal))
                if self.recorder is not None:
                    outcome = await self._record(request, route, number, spool, self.recorder)
                    await self._inject(fault, "body", operation)
                else:
                    self._preflight(request, operation)
                    call = await self._receive(request, route, number, spool)
                    await self._inject(fault, "body", operation)
                    reply, outcome = await self._process(request, operation, number, call)
                await self._inject(fault, "processed", operation, outcome)
            except _Replacement as instead:
                outcome = instead.outcome
            except ConnectionError:
                outcome = None  # the client has gone
            except Exception:
                if request.transport is None:
                    outcome = None  # aiohttp raises RuntimeError where the client goes in a read
                else:
                    logger.exception("Request %d (%s) failed", number, operation)
                    outcome = gateway(500, request.path)
        finally:
            callback = reply.callback if reply else None
            if callback is None:
                await spool.discard()
        sent = outcome if isinstance(outcome, HttpResponse) else None
        self.ledger.answered(number, sent, self.context.clock())
        callback_fault: CallbackFault | None = None
        if callback is not None:
            callback_fault = self.context.callbacks.due(operation.name if operation else None)
            if callback_fault is not None and isinstance(callback_fault.effect, Early):
                await self._call_back(callback, callback_fault, spool)
                callback = None
        response = await deliver(request, outcome, self.context.sleep, self.stopped)
        if callback is not None:
            self.spawn(self._call_back(callback, callback_fault, spool))
        return response

    async def _record(
        self, request: web.Request, route: Route, number: int, spool: Spool, recorder: Recorder
    ) -> HttpResponse:
        """Let the real service answer, and keep what it says."""
        try:
            received, answer = await recorder.exchange(request, route, spool)
        except Refusal as refusal:
            return failure(route.row.service, refusal.reason, refusal.message)
        except (UnsupportedBody, UploadTooLargeError) as error:
            return gateway(415 if isinstance(error, UnsupportedBody) else 413, request.path)
        if received is not None:
            self._note(number, received)
            if succeeded(answer):
                self.ledger.bill(number, route.row)
        return answer

    def _note(self, number: int, received: Received) -> None:
        self.ledger.received(
            number,
            received.fields,
            [
                FileEntry(file.part, file.name, file.content_type, file.size, file.sha256)
                for file in received.files
            ],
        )

    async def _call_back(
        self, callback: Callback, fault: CallbackFault | None, spool: Spool
    ) -> None:
        """Do the work that a callback tells of, and post it."""
        try:
            try:
                body = await callback.body()
            finally:
                await spool.discard()
            await self.context.callbacks.send(callback.url, body, fault)
        except Exception:
            logger.exception("A callback failed")

    async def _inject(
        self,
        fault: InjectedFault | None,
        moment: Moment,
        operation: Operation[object] | None,
        answer: HttpResponse | None = None,
    ) -> None:
        """Let the fault act, if this is its moment."""
        if fault is None or fault.moment != moment:
            return
        if fault.latency:
            await self.context.sleep(fault.latency)
        match fault.effect:
            case None:
                return
            case Reason() as reason:
                raise _Replacement(
                    failure(operation.service, reason) if operation else gateway(500)
                )
            case (Cut() | Drip()) as effect if effect.answer is None:
                raise _Replacement(attrs.evolve(effect, answer=answer))
            case outcome:
                raise _Replacement(outcome)

    def _preflight(self, request: web.Request, operation: Operation[object]) -> None:
        """Refuse, before a byte of the body is read, what needs no body to be refused."""
        if (request.content_length or 0) > self.context.upload_limit:
            raise _Replacement(gateway(413, request.path))
        check = PREFLIGHT.get(operation.name)
        if check is None or self.replayer is not None:
            return
        fields = {**request.query, **request.match_info}
        try:
            if not self.keys.accept(operation.service, request.headers.get("Authorization", "")):
                raise Refusal(Reason.KEY)
            check(self.context, validation.read(fields, validation.FIELDS[operation.name]))
        except Refusal as refusal:
            answer = failure(operation.service, refusal.reason, refusal.message)
            raise _Replacement(answer) from refusal

    async def _receive(
        self, request: web.Request, route: Route, number: int, spool: Spool
    ) -> HandlerRequest:
        operation = route.row
        try:
            received = await receive(
                cast("Incoming", request), route, spool, keep=FILE_BYTES.get(operation.name)
            )
        except Refusal as refusal:
            answer = failure(operation.service, refusal.reason, refusal.message)
            raise _Replacement(answer) from refusal
        except UnsupportedBody as error:
            raise _Replacement(gateway(415, request.path)) from error
        except UploadTooLargeError as error:
            raise _Replacement(gateway(413, request.path)) from error
        self._note(number, received)
        return HandlerRequest(
            fields=received.fields,
            files=received.files,
            origin=f"{request.scheme}://{request.host}",
            spool=spool,
            context=self.context,
        )

    async def _answer(
        self, operation: Operation[object], number: int, call: HandlerRequest
    ) -> HandlerResult:
        """Give the answer that was chosen, or do the work."""
        entry = self.ledger.entry(number)
        if entry is not None and (chosen := self.answers.due(entry)) is not None:
            return answers.given(chosen, operation, call)
        await asyncio.shield(self.context.loading)
        return await HANDLERS[operation.name](call)

    async def _process(
        self, request: web.Request, operation: Operation[object], number: int, call: HandlerRequest
    ) -> tuple[HandlerResult | None, HttpResponse]:
        """Check the key, the rate and the fields, do the work, bill it, and wrap it up."""
        authorization = request.headers.get("Authorization", "")
        try:
            if self.replayer is None and not self.keys.accept(operation.service, authorization):
                raise Refusal(Reason.KEY)
            if not self.limiter.admit(self.keys.account(authorization), operation.bucket):
                raise Refusal(Reason.THROTTLED)
            if latency := self.context.timing.latency_of(operation.name):
                await self.context.sleep(latency)
            if self.replayer is not None:
                recorded = self.replayer.answer(request.method, request.path, call)
                if recorded is not None:
                    return None, recorded
                if not self.replayer.otherwise:
                    raise Refusal(
                        Reason.BAD_REQUEST,
                        self.replayer.missing(request.method, request.path, call, operation.call),
                    )
            fields = validation.read(call.fields, validation.FIELDS[operation.name])
            reply = await self._answer(operation, number, attrs.evolve(call, fields=fields))
        except Refusal as refusal:
            return None, failure(operation.service, refusal.reason, refusal.message)
        self.ledger.bill(number, operation)
        if (file := reply.file) is not None:
            return reply, download(file.name, file.content_type, file.path)
        if reply.content is not None:
            return reply, HttpResponse(body=reply.content, headers=_BYTES)
        return reply, success(operation.service, reply.data)


def _refused(
    request: web.Request, refusal: Callable[[Service | None, str, str], HttpResponse]
) -> HttpResponse:
    """Answer a request that no route takes, as the service does that its path belongs to."""
    said = request.content_type if refusal is wrong_content_type else request.method
    return refusal(service_of(request.path), request.path, said)


_APP: Final = web.AppKey("_APP", App)

_Step: TypeAlias = Coroutine[object, object, web.StreamResponse]


@functools.cache
def _resources() -> Sequence[web.AbstractResource]:
    """Build the routes, once for all emulators of a process: a test suite starts one per test."""
    router = web.UrlDispatcher()
    known = routes()
    for (method, path), choices in known.items():
        router.add_route(method, path, _entrance(choices))
    for path in dict.fromkeys(path for _, path in known):
        router.add_route("*", path, _entrance([], known=True))
    router.add_get(openapi.PATH, _handler(App.describe))
    router.add_get(IMAGE_PATH, _handler(App.image))
    router.add_get(HEALTH_PATH, _handler(App.health))
    router.add_route("*", "/{path:.*}", _entrance([]))
    return tuple(router.resources())


def _entrance(choices: Sequence[Route], *, known: bool = False) -> Callable[[web.Request], _Step]:
    return _handler(lambda app, request: app.enter(request, choices, known=known))


def _handler(method: Callable[[App, web.Request], _Step]) -> Callable[[web.Request], _Step]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await method(request.app[_APP], request)

    return handle
