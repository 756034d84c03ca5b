"""Every public class and function, with arguments of wrong types: refused where it is made."""

from __future__ import annotations

import asyncio
import enum
import importlib
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from memories_async import CallOptions, ConfigurationError, Rate
from memories_async.checks.kinds import AMOUNT, ANYTHING
from memories_async.checks.parameters import CallChecker, Parameter
from tests.for_each import for_each

PACKAGES = (
    "memories_async",
    "memories_async.sync",
    "memories_async.bulk",
    "memories_async.bulk.ledger",
    "memories_async.callbacks",
    "memories_async.emulator",
    "memories_async.limiters",
    "memories_async.media",
    "memories_async.observe",
    "memories_async.observe.telemetry",
    "memories_async.ray",
)
"""All that is public, beside the namespaces: those have a test of their own."""

NOT_HANDED_IN: Mapping[str, str] = {
    # What only the package makes, and hands out.
    **dict.fromkeys(
        ("Counts", "Event", "Item", "Plan", "PlannedInput", "Record", "Report", "Stop", "JobKind"),
        "a job's own values",
    ),
    **dict.fromkeys(("Entry", "Totals"), "a ledger's own values"),
    **dict.fromkeys(("CallbackResponse", "Delivery"), "an inbox's own values"),
    **dict.fromkeys(
        ("AttemptEnded", "AttemptStarted", "CallEnded", "CallStarted", "Charged", "ObservedCall"),
        "told to observers",
    ),
    **dict.fromkeys(("RequestLeaving", "Throttled", "Waited"), "told to observers"),
    **dict.fromkeys(("Receipt", "Total"), "read from a file of receipts"),
    **dict.fromkeys(("Spacing", "Turn"), "between a limiter and the engine"),
    "MediaRule": "a row of the table of operations",
    "Outcome": "makes a Succeeded or a Failed, which check",
    **dict.fromkeys(
        ("AdjustableClock", "Answers", "Callbacks", "Faults", "RequestLedger"),
        "the emulator makes them: what a test hands in is refused in tests/emulator",
    ),
    **dict.fromkeys(("ChosenAnswer", "FileEntry", "LedgerEntry", "Posted"), "told by the emulator"),
    **dict.fromkeys(
        ("Hit", "Line", "ReferencePerson", "VideoFacts"), "between engine and emulator"
    ),
    **dict.fromkeys(("Dropped", "Early", "Hang", "Held", "Overtaken"), "take nothing"),
}
"""Public names whose arguments nobody hands in by mistake, with the reason."""

ONLY_MADE: Mapping[str, str] = {
    # Their methods are called by the engine, with what it has checked, for every request.
    **dict.fromkeys(("MemoryLimiter", "RedisLimiter", "SqliteLimiter", "RayLimiter"), "a limiter"),
    **dict.fromkeys(("RedisLedger", "SqliteLedger", "RayLedger"), "a ledger"),
    **dict.fromkeys(("MemoryStore", "RedisStore", "SqliteStore"), "a store"),
    **dict.fromkeys(("Receipts", "OpenTelemetryObserver"), "an observer"),
    "Once": "its methods return what was wrong in a Record, and raise nothing",
    "Vector": "a sequence, whose methods are array's",
    "Results": "a sequence, whose methods are tuple's",
    "Emulator": "its methods are for tests",
}

DOLLARS = {AMOUNT}
"""A Decimal, which has no largest number."""

BLOCKING = "memories_async.sync"

WRONG = object()
"""Of no type that any parameter takes, but for those that take anything."""

ANYTHING_GOES: Mapping[str, str] = {
    "Succeeded.source": "the item of a batch, whatever it was",
    "Succeeded.value": "whatever the call returned",
    "Failed.source": "the item of a batch, whatever it was",
    "Result.from_dict.data": "decoded JSON: what is wrong with it is an UnexpectedShape",
    **dict.fromkeys(
        ("Forged.body", "HttpResponse.body", "Repeated.body"), "what a service may send: any JSON"
    ),
    "CallbackInbox.receive.path": "a stranger's: answered, whatever it is",
    "CallbackInbox.receive.body": "a stranger's: answered, whatever it is",
    "CallbackInbox.receive.peer": "a stranger's: answered, whatever it is",
    **dict.fromkeys(
        ("Job.create.inputs", "Job.add.inputs", "Job.plan.inputs"),
        "looked at one by one, as they are taken: tests/bulk/test_wrong_arguments.py",
    ),
}


def checker_of(function: object) -> CallChecker | None:
    """Return the checker before a function, if there is one."""
    cells = getattr(getattr(function, "__func__", function), "__closure__", None) or ()
    found = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, CallChecker)]
    return found[0] if found else None


def makers(kind: type) -> Iterator[Callable[..., object]]:
    """Yield what makes an instance of a class: its own, not object's."""
    for name in ("__init__", "__new__"):
        own = inspect.getattr_static(kind, name)
        own = getattr(own, "__func__", own)
        if inspect.isfunction(own) and len(inspect.signature(own).parameters) > 1:
            yield own
            return


def public() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield every function, constructor and method that the package's users call, by its name."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        names = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if _is_own_class(value, package)
        ]
        for name in names:
            value = getattr(module, name)
            if name in NOT_HANDED_IN or package == BLOCKING:
                continue
            if inspect.isfunction(value):
                yield name, value
            elif inspect.isclass(value) and not _is_no_input(value):
                yield from ((name, maker) for maker in makers(value))
                if name not in ONLY_MADE:
                    yield from (
                        (f"{name}.{method}", function)
                        for method, function in vars(value).items()
                        if not method.startswith("_")
                        and callable(getattr(function, "__func__", function))
                        and not isinstance(function, property)
                    )


def _is_own_class(value: object, package: str) -> bool:
    return inspect.isclass(value) and value.__module__ == package and value.__name__[0] != "_"


def _is_no_input(value: type) -> bool:
    is_protocol = getattr(value, "_is_protocol", False)
    return is_protocol or issubclass(value, enum.Enum | BaseException)


CALLS = dict(public())
PARAMETERS = {
    f"{call}.{name}": (call, name)
    for call, function in CALLS.items()
    for name, parameter in inspect.signature(
        getattr(function, "__func__", function)
    ).parameters.items()
    if name not in ("self", "cls")
    and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
}


def test_there_are_many() -> None:
    assert len(CALLS) > 50
    assert len(PARAMETERS) > 250
    assert set(ANYTHING_GOES) <= set(PARAMETERS)


def checked(call: str, name: str) -> Parameter:
    checker = checker_of(CALLS[call])
    assert checker is not None, f"{call} does not check what it is given"
    return checker.parameters[name]


@for_each({name: name for name in PARAMETERS})
def test_what_is_of_another_type_is_refused_by_name(parameter: str) -> None:
    """At the checker, and so before the body has opened or sent anything."""
    call, name = PARAMETERS[parameter]
    kind = checked(call, name)
    if ANYTHING in kind.kinds:
        assert parameter in ANYTHING_GOES, "say why anything goes, or what is wanted"
        return
    problem = kind.problem(WRONG)
    assert problem is not None
    assert name in problem
    assert "wanted" in problem
    assert len(problem) < 300
    if kind.optional:
        assert kind.problem(None) is None
    elif parameter not in ("Failed.value", "Succeeded.error"):  # None is all that they may be
        assert name in (kind.problem(None) or "")


HUGE = 10**5000
"""More digits than Python's int writes down, and more than a float holds."""


GIGANTIC: tuple[object, ...] = (HUGE, -HUGE, 10**309, [HUGE], {HUGE: HUGE})


def test_a_gigantic_number_is_refused_by_name_or_can_be_reckoned_with() -> None:
    for (call, name), value in itertools.product(PARAMETERS.values(), GIGANTIC):
        kind = checked(call, name)
        problem = kind.problem(value)
        if problem is not None:
            assert name in problem, call
            assert len(problem) < 400, (call, name)
        elif isinstance(value, int) and ANYTHING not in kind.kinds:
            assert kind.problem(0.5) is not None or set(kind.kinds) >= DOLLARS, (call, name)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8, np.longdouble, Fraction])
def test_seconds_may_be_of_any_kind_of_number(kind: Callable[[int], Any]) -> None:
    assert CallOptions(deadline=kind(3)).deadline == 3
    assert Rate(1, kind(3)).seconds == 3


@pytest.mark.parametrize("seconds", [Fraction(HUGE), np.longdouble("1e4000"), np.float32("inf")])
def test_seconds_that_no_clock_can_count(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="seconds is"):
        Rate(1, seconds)


@for_each({name: name for name in CALLS})
def test_the_door_stands_before_the_call(call: str) -> None:
    """What the table says is what happens: with each argument wrong, the call itself refuses."""
    function = CALLS[call]
    plain = getattr(function, "__func__", function)
    names = [name for (of, name) in PARAMETERS.values() if of == call]
    if not names:
        return
    wrong = dict.fromkeys(names, WRONG)
    first = [None] if next(iter(inspect.signature(plain).parameters)) in ("self", "cls") else []
    if all(f"{call}.{name}" in ANYTHING_GOES for name in names):
        return

    def make() -> None:
        returned: Any = plain(*first, **wrong)
        if inspect.iscoroutine(returned):
            asyncio.run(cast("Any", returned))
        elif isinstance(returned, AsyncIterator):
            asyncio.run(anext(cast("Any", returned)))

    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value).startswith(f"{call}: ") or call.startswith("Result")
    assert any(name in str(caught.value) for name in names)
    assert caught.value.attempts == 0
    frames = str(caught.traceback[-1].path)
    assert Path(frames).parent.name == "checks"


BLOCKING_CALLS: tuple[tuple[str, Callable[[Any], object]], ...] = (
    ("Memories: api_key", lambda sync: sync.Memories(5)),
    ("Memories: options", lambda sync: sync.Memories("k", options={"deadline": 3})),
    ("Memories: observers", lambda sync: sync.Memories("k", observers=5)),
    ("Memories.with_options: options", lambda sync: sync.Memories("k").with_options(5)),
    ("Memories.budget: dollars", lambda sync: sync.Memories("k").budget(dollars="many")),
    ("CallbackInbox: address", lambda sync: sync.CallbackInbox(5, store=5)),
    ("CallbackInbox: store", lambda sync: sync.CallbackInbox("https://example.com", store=5)),
    ("Job.create: path", lambda sync: sync.Job.create(5, "embed_images", "photos")),
    ("Job.create: kind", lambda sync: sync.Job.create("a.job", 5, "photos")),
    ("Job.open: path", lambda sync: sync.Job.open(None)),
    ("Job.merge: paths", lambda sync: sync.Job.merge("a.job", "b.job")),
)


@pytest.mark.parametrize(("says", "make"), BLOCKING_CALLS)
def test_the_blocking_classes_refuse_the_same(
    says: str, make: Callable[[Any], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=says):
        make(importlib.import_module("memories_async.sync"))
    assert not list(tmp_path.iterdir())


def test_no_other_class_is_blocking() -> None:
    """These three hand everything on to the others, whose doors are tested above."""
    assert set(importlib.import_module(BLOCKING).__all__) == {"CallbackInbox", "Job", "Memories"}
