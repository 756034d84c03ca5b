"""Calls the service, each operation once with tiny media, and compares what it answers."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any

from memories_async import _json
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import Request
from memories_async._engine.transport.answers import Reply, Saved
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._engine.transport.http import Http
from memories_async.cli.doctor.findings import Finding, Health
from memories_async.cli.doctor.known import ANSWERS
from memories_async.cli.doctor.recording import Destination
from memories_async.cli.doctor.shapes import differences, read
from memories_async.cli.doctor.steps import FREE, GIVEN, Findings, Step
from memories_async.cli.terms import in_options
from memories_async.client import Memories
from memories_async.emulator.recording.replayer import NOT_RECORDED
from memories_async.errors import ApiError, MemoriesError, NotFound
from memories_async.observe.prices import ARITHMETIC
from memories_async.operations import Operation

_UNREACHABLE = frozenset({Fault.CONNECT, Fault.CONNECT_TIMEOUT, Fault.DNS})


class UnreachableError(MemoriesError):
    """No connection was made: for a diagnosis a finding, and nothing to try again."""

    advice = "Check the address and the network, then run it again"


class RecordingHttp(Http):
    """The client's own transport, that keeps the answers as they came.

    Where no connection is made, the call ends with its first attempt.
    """

    replies: list[tuple[Operation[Any], Reply]]

    async def exchange(
        self, request: Request[Any], transfer: Transfer, **how: Any
    ) -> Reply | Saved | Failure:
        """Send one request, and keep its answer."""
        outcome = await super().exchange(request, transfer, **how)
        if isinstance(outcome, Reply):
            self.replies.append((request.operation, outcome))
        elif isinstance(outcome, Failure) and outcome.fault in _UNREACHABLE:
            refused = outcome.detail.startswith(ConnectionRefusedError.__name__)
            said = "nothing listens there" if refused else outcome.fault.value
            raise UnreachableError(f"{said}: {outcome.detail}")
        return outcome


class RecordingMemories(Memories):
    """A client whose raw answers can be looked at."""

    async def record_replies(self) -> list[tuple[Operation[Any], Reply]]:
        """Begin to keep answers; return where they are kept."""
        pipeline = await self._dispatcher.engine()
        await pipeline.http.aclose()
        pipeline.http = RecordingHttp(self._settings)
        pipeline.http.replies = []
        return pipeline.http.replies


async def examine(
    client: RecordingMemories,
    steps: Sequence[Step],
    there: Destination,
    budget: Decimal,
    spent: Callable[[Step], object],
) -> AsyncIterator[Finding]:
    """Make each call and say what it found.

    Args:
        client: Whose account pays.
        steps: The calls.
        there: Where they go.
        budget: Dollars that the calls may cost.
        spent: Told of each call that was made.
    """
    replies = await client.record_replies()
    found, left = Findings(there.seed, **there.addresses), budget
    for step in steps:
        # By the step's name: the same media again, whatever other steps were made.
        found.seed = (there.seed + zlib.crc32(step.name.encode())) % 2**32
        lacking = found.lacks(step.needs)
        if step.key not in there.account.keys:
            yield Finding(step.name, Health.SKIPPED, f"there is no {step.key}")
        elif lacking in GIVEN:
            yield Finding(step.name, Health.SKIPPED, f"{GIVEN[lacking]} is not given")
        elif lacking:
            yield Finding(step.name, Health.SKIPPED, f"there is no {lacking} to ask for")
        elif step.counted > left:
            yield Finding(step.name, Health.SKIPPED, "--max-cost does not cover it")
        else:
            left = ARITHMETIC.subtract(left, step.counted)
            replies.clear()
            spent(step)
            yield await _made(client, step, found, replies)


async def _made(
    client: Memories, step: Step, found: Findings, replies: Sequence[tuple[Operation[Any], Reply]]
) -> Finding:
    started = asyncio.get_running_loop().time()
    error: MemoriesError | None = None
    try:
        await step.call(client, found)
    except NotFound as refusal:
        error = None if step in FREE else refusal
    except MemoriesError as refusal:
        error = refusal
    if isinstance(error, ApiError) and NOT_RECORDED in error.message:
        return Finding(step.name, Health.SKIPPED, "the recording has no answer to it")
    seconds = asyncio.get_running_loop().time() - started
    drift = [text for operation, reply in replies for text in _drift(operation, reply)]
    drift = list(dict.fromkeys(drift))
    if error is not None and not drift:
        return Finding(step.name, Health.PROBLEM, in_options(str(error)))
    if drift:
        message = f"{len(drift)} differences from what this version knows"
        return Finding(step.name, Health.DRIFT, message, drift)
    return Finding(step.name, Health.OK, f"as documented, in {seconds:.1f} s")


def _drift(operation: Operation[Any], reply: Reply) -> list[str]:
    known = ANSWERS.get(operation.name)
    if known is None:
        return []
    status, content_type, code, shape = known
    problems: list[str] = []
    if reply.status != status:
        problems.append(f"HTTP status: {reply.status} came, {status} was expected")
    came = reply.headers.get("content-type", "none").partition(";")[0]
    if came != content_type:
        problems.append(f"Content-Type: {came} came, {content_type} was expected")
    answer = read(reply.body)
    fields = answer if _json.is_object(answer) else {}
    if fields.get("code", code) != code:
        problems.append(f"code: {fields['code']!r} came, {code!r} was expected")
    if reply.status >= 400 or (problems and not fields):
        return problems
    return problems + list(differences(shape, answer))
