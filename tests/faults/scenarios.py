"""The matrix's faults as data, for what must hold under every one of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from memories_async.emulator import Cut, Drip, Hang, Raw, Reason, gateway
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from tests.faults.conftest import SENTINEL, Stage
from tests.faults.proxy import Plan

ECHO = f"key {SENTINEL} is not known here"


def _plans(*plans: Plan) -> Callable[[Stage], None]:
    return lambda stage: stage.proxy.plans.extend(plans)


def _faults(*faults: Fault) -> Callable[[Stage], None]:
    return lambda stage: stage.emulator.faults.add(*faults)


def _answers(answer: Answer) -> Callable[[Stage], None]:
    return _faults(Fault(None, answer, times=None))


SCENARIOS: Mapping[str, Callable[[Stage], None]] = {
    "nothing": lambda stage: None,
    "reset at once": _plans(*[Plan(accept=True)] * 5),
    "reset in the headers": _plans(*[Plan(request=50)] * 5),
    "reset after the headers": _plans(*[Plan(body=0.0)] * 5),
    "reset in the body": _plans(*[Plan(body=0.5)] * 5),
    "reset after the body": _plans(*[Plan(body=1.0)] * 5),
    "closed after the body": _plans(*[Plan(body=1.0, how="close")] * 5),
    "answer lost": _plans(*[Plan(answer=0)] * 5),
    "stalled": _plans(*[Plan(body=0.2, how="stall")] * 5),
    "processed and reset": _faults(Fault(None, Cut(), moment="processed", times=None)),
    "cut after the status": _faults(Fault(None, Cut("status"), moment="processed", times=None)),
    "cut in the answer": _faults(Fault(None, Cut("half"), moment="processed", times=None)),
    "no answer": _faults(Fault(None, Hang(), times=None)),
    "dripping answer": _faults(Fault(None, Drip(0.05), moment="processed", times=None)),
    "not HTTP": _faults(Fault(None, Raw(b"garbage\r\n\r\n"), times=None)),
    "echo that is not HTTP": _faults(Fault(None, Raw(f"{ECHO}\r\n\r\n".encode()), times=None)),
    "long header": _faults(
        Fault(None, Raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"), times=None)
    ),
    "endless answer": _answers(Answer(chunks=itertools.repeat(bytes(1 << 20)))),
    "captive portal": _answers(Answer(body=b"<html>")),
    "echoing portal": _answers(Answer(body=f"<html>{ECHO}".encode())),
    "echoing refusal": _answers(Answer(body={"code": "0401", "msg": ECHO})),
    "echoing gateway": _answers(Answer(status=502, body=f"<html>{ECHO}".encode())),
    "echoing gateway with JSON": _answers(Answer(status=401, body={"error": ECHO})),
    "echoing data": _answers(Answer(body={"code": 0, "data": {ECHO: ECHO}})),
    "echoing list": _answers(Answer(body=[ECHO])),
    "echoing type": _answers(Answer(body=b"x", headers={"Content-Type": f"text/{SENTINEL}"})),
    "empty": _answers(Answer()),
    "nested": _answers(Answer(body=b"[" * 100_000)),
    "unknown code": _answers(Answer(body={"code": "0777", "msg": "odd"})),
    "throttled": _faults(Fault(None, Reason.THROTTLED, times=None)),
    "throttled for long": _answers(Answer(status=429, headers={"Retry-After": "500"})),
    "key refused": _faults(Fault(None, Reason.KEY, times=None)),
    "no credits": _faults(Fault(None, Reason.NO_CREDITS, times=None)),
    "network abnormal": _faults(Fault(None, Reason.SERVER, times=None)),
    "bad gateway": _answers(gateway(502)),
    "unavailable": _faults(Fault(None, gateway(503), moment="headers", times=None)),
    "too large": _faults(Fault(None, gateway(413), moment="headers", times=None)),
    "redirect": _answers(Answer(status=307, headers={"Location": "http://localhost:1/"})),
    "redirect with the key": _answers(
        Answer(status=302, headers={"Location": f"http://localhost:1/?{SENTINEL}"})
    ),
}
"""Each sets the stage so that every call meets the same fault."""
