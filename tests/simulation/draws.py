"""What a life's seed decides: its weather, its service's faults, its calls' limits and contents."""

from __future__ import annotations

import random
from typing import Any

import attrs

from memories_async import CallOptions
from memories_async.emulator import Cut, Drip, Hang, InjectedFault, Raw, Reason
from memories_async.emulator.callbacks import (
    CallbackFault,
    Dropped,
    Early,
    Forged,
    Late,
    Overtaken,
    Repeated,
    Rewritten,
)
from memories_async.emulator.http.envelopes import HttpResponse
from tests.simulation.network import Weather

CALLS = 40
"""Calls of one life."""
SPAN = 60.0
"""Virtual seconds within which they begin."""


def _http(status: str, body: bytes) -> Raw:
    length = f"Content-Length: {len(body)}\r\n".encode()
    head = b"HTTP/1.1 " + status.encode() + b"\r\nContent-Type: application/json\r\n"
    return Raw(head + length + b"Connection: close\r\n\r\n" + body)


BAD_GATEWAY = _http("502 Bad Gateway", b'{"status":502,"error":"Bad Gateway"}')
UNAVAILABLE = _http("503 Service Unavailable", b'{"status":503,"error":"Service Unavailable"}')
ABNORMAL = _http("500 Server Error", b'{"code":"0001","msg":"network abnormal","data":null}')
GONE = HttpResponse(status=410, body={"code": "0410", "msg": "Gone", "data": None})
NO_HTTP = Raw(b"\x16\x03\x01 no HTTP at all\r\n\r\n")


def weather(chance: random.Random) -> Weather:
    """Draw how bad the network is; each trouble has no part in every other life."""

    def rarely(most: float) -> float:
        return chance.random() * most if chance.random() < 0.5 else 0.0

    begins = chance.random() * SPAN
    return Weather(
        latency=chance.choice([0.001, 0.02, 0.3]),
        resets=rarely(0.5),
        stalls=rarely(0.15),
        unasked=rarely(0.5),
        half_closes=rarely(0.5),
        refusals=rarely(0.3),
        black_holes=rarely(0.05),
        lost_names=rarely(0.2),
        slow_readers=rarely(0.3),
        broken_handshakes=rarely(0.2),
        splits=chance.choice([0.0, 0.5, 1.0]),
        outage=(begins, begins + 20) if chance.random() < 0.2 else (0.0, 0.0),
    )


def faults(chance: random.Random) -> list[InjectedFault]:
    """Draw what the service does wrong."""
    return [_fault(chance) for _ in range(chance.randrange(8))]


def _fault(chance: random.Random) -> InjectedFault:
    # What is trusted to mean that nothing was done comes before the work, what cuts an answer
    # short after it, and the rest at any moment.
    before, after = ["headers", "body"], ["processed"]
    choices: list[tuple[Any, list[str]]] = [
        (Reason.THROTTLED, before),
        (Reason.THROTTLED, before),
        (GONE, before),
        (Reason.NO_CREDITS, before),
        (Cut("half"), after),
        (Cut("status"), after),
        (Drip(0.01), after),
        *((anything, before + after) for anything in (Cut(), Hang(), NO_HTTP, None)),
        *((failure, before + after) for failure in (BAD_GATEWAY, UNAVAILABLE, ABNORMAL)),
    ]
    effect, moments = chance.choice(choices)
    moment: Any = chance.choice(moments)
    # One that does nothing takes the place of one that does, as in the stories of kept seeds.
    nothing = 0.0 if effect else 1e-9
    return InjectedFault(
        None,
        effect,
        nth=chance.randint(1, CALLS),
        times=chance.randint(1, 3),
        moment=moment,
        latency=chance.choice([0.0, 0.0, 1.0, 400.0]) or nothing,
    )


def options(chance: random.Random) -> CallOptions:
    """Draw a call's limits of time."""
    return CallOptions(
        deadline=chance.choice([None, None, None, 0.5, 5.0, 60.0]),
        attempts=chance.choice([None, 1, 3]),
        connect_timeout=chance.choice([None, 1.0]),
        stall_timeout=chance.choice([None, 5.0]),
        answer_timeout=chance.choice([None, 20.0]),
    )


def content(chance: random.Random, head: bytes) -> bytes:
    """Draw what a call sends: no two lives' calls send the same."""
    return head + chance.randbytes(16) + bytes(chance.choice([0, 100, 5_000, 70_000, 300_000]))


def callback_faults(chance: random.Random, count: int) -> list[CallbackFault]:
    """Draw what goes wrong with some of the callbacks."""
    effects: list[Any] = [
        Early(),
        Late(chance.choice([1.0, 30.0, 5000.0])),
        Overtaken(),
        Repeated(2),
        Repeated(1, {"status": 0, "task_id": "another", "data": {"text": "another's"}}),
        Repeated(1, b"{"),
        Forged({"status": 0, "task_id": "another", "data": {"text": "forged"}}, guessed=True),
        Forged({"status": 0, "task_id": "another", "data": {"text": "forged"}}, guessed=False),
        Dropped(),
        Rewritten(lambda body: {**body, "status": -1, "data": None, "token": None}),
    ]
    return [
        CallbackFault(None, chance.choice(effects), nth=number + 1)
        for number in range(count)
        if chance.random() < 0.6
    ]


def calmer(weather: Weather, without: frozenset[str]) -> Weather:
    """Return the weather without some of its troubles."""
    calm = Weather(splits=0.0)
    named = {
        field.name: getattr(calm, field.name)
        for field in attrs.fields(Weather)
        if field.name in without
    }
    return attrs.evolve(weather, **named)
