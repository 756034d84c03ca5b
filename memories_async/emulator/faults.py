"""Faults on request: which call, at which moment, and what happens instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, overload

import attrs

from memories_async.checks import ConfigurationError, checked
from memories_async.checks.kinds import COUNT, Kind, Problem, seconds_from, shown
from memories_async.emulator.http.envelopes import HttpResponse, Reason
from memories_async.emulator.ledger import OPERATION, matches

Moment: TypeAlias = Literal["headers", "body", "processed"]


@checked
@attrs.frozen
class Cut:
    """The connection is lost.

    Attributes:
        after: ``"nothing"`` resets the connection; ``"status"`` sends the status line and closes;
            ``"half"`` sends the headers and half of the body, then closes.
        answer: What is cut; None is the real answer, which exists once the call is processed.
    """

    after: Literal["nothing", "status", "half"] = "nothing"
    answer: HttpResponse | None = None


@checked({"seconds": seconds_from(0)})
@attrs.frozen
class Drip:
    """The answer's body comes byte by byte.

    Attributes:
        seconds: The pause before each byte.
        answer: What drips; None is the real answer, which exists once the call is processed.
    """

    seconds: float = 1.0
    answer: HttpResponse | None = None


@checked
@attrs.frozen
class Raw:
    """These bytes come in place of an HTTP answer, then the connection closes."""

    data: bytes


@attrs.frozen
class Hang:
    """No answer comes until the emulator stops."""


ConnectionEffect: TypeAlias = HttpResponse | Cut | Drip | Raw | Hang
"""What may happen on the connection once a request has been dealt with."""

Effect: TypeAlias = ConnectionEffect | Reason
"""The same, or a refusal that each service says in its own words."""


_EFFECTS = (HttpResponse, Cut, Drip, Raw, Hang, Reason)


def _effect_problem(name: str, value: str | Effect) -> Problem:
    answer = getattr(value, "answer", value)
    match answer:
        case str() if answer.upper() not in Reason.__members__:
            names = ", ".join(reason.name for reason in Reason)
            return f"no reason is called {shown(answer)}: one of {names}"
        case HttpResponse(chunks=None, file=None):
            try:
                answer.payload()
            except Exception as error:  # a caller's object may raise anything
                return f"{name} has a body that cannot be sent: {error}"
        case _:
            pass
    return None


EFFECT = Kind(
    f"{', '.join(kind.__name__ for kind in _EFFECTS)} or the name of a Reason",
    lambda value: isinstance(value, str | Effect),
    _effect_problem,
)


def _effect(given: Effect | str | None) -> Effect | None:
    return Reason[given.upper()] if isinstance(given, str) else given


@checked(
    {
        "operation": OPERATION,
        "effect": EFFECT,
        "nth": COUNT,
        "times": COUNT,
        "latency": seconds_from(0),
    }
)
@attrs.frozen
class InjectedFault:
    """What goes wrong, for which requests, and when.

    ``InjectedFault("captions.video", Reason.THROTTLED, times=3)`` throttles the next three video
    captions with the service's own refusal; ``InjectedFault(None, Cut(), nth=2)`` resets the
    second request of all.

    Attributes:
        operation: A row of the table (``caption_video_url``), a call (``captions.video``), or
            None for any request.
        effect: What is sent in place of the real answer, or the name of a ``Reason``; None changes
            nothing but the latency.
        nth: The first matching request that is hit, counting from 1 when the fault is added.
        times: How many matching requests are hit from there on; None is all of them.
        moment: ``"headers"``: at once, while the body is still arriving. ``"body"``: when the
            whole body has arrived and nothing has been done. ``"processed"``: when the work is
            done and billed.
        latency: Seconds to wait at that moment.

    Raises:
        ConfigurationError: It is none of these, or nothing would go wrong by it.
    """

    operation: str | None = None
    effect: Effect | None = attrs.field(default=None, converter=_effect)
    nth: int = attrs.field(default=1, kw_only=True)
    times: int | None = attrs.field(default=1, kw_only=True)
    moment: Moment = attrs.field(default="body", kw_only=True)
    latency: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.effect is None and not self.latency:
            raise ConfigurationError("InjectedFault: an effect or a latency is wanted")
        real_answer = isinstance(self.effect, Cut | Drip) and self.effect.answer is None
        if real_answer and self.effect != Cut() and self.moment != "processed":
            raise ConfigurationError(f"{self.effect} needs an answer, or moment='processed'")


class _Countable(Protocol):
    """What says which of the requests that are counted it hits."""

    @property
    def operation(self) -> str | None: ...
    @property
    def nth(self) -> int: ...
    @property
    def times(self) -> int | None: ...


F = TypeVar("F", bound=_Countable)


class Faults(Sequence[F], Generic[F]):
    """The faults that are switched on; for each request the first that is due acts."""

    _wanted: ClassVar[type] = InjectedFault

    def __init__(self) -> None:
        self._faults: list[F] = []
        self._seen: list[int] = []

    @overload
    def __getitem__(self, index: int) -> F: ...
    @overload
    def __getitem__(self, index: slice) -> list[F]: ...
    def __getitem__(self, index: int | slice) -> F | list[F]:
        return self._faults[index]

    def __len__(self) -> int:
        return len(self._faults)

    def __iter__(self) -> Iterator[F]:
        return iter(list(self._faults))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._faults}>"

    def add(self, *faults: F) -> None:
        """Switch faults on; each counts matching requests from now.

        Raises:
            ConfigurationError: One is no fault of this kind.
        """
        for fault in faults:
            if not isinstance(fault, self._wanted):
                raise ConfigurationError(
                    f"{type(self).__name__.lower()}.add: {shown(fault)} is no fault; "
                    f"{self._wanted.__name__}(...) is wanted"
                )
        self._faults += faults
        self._seen += [0] * len(faults)

    def clear(self) -> None:
        """Switch all faults off."""
        self._faults.clear()
        self._seen.clear()

    def due(self, operation: str | None) -> F | None:
        """Count a request and return the fault that hits it, if one does."""
        hits: list[F] = []
        for position, fault in enumerate(self._faults):
            if not matches(fault.operation, operation):
                continue
            self._seen[position] += 1
            late = self._seen[position] - fault.nth
            if late >= 0 and (fault.times is None or late < fault.times):
                hits.append(fault)
        return hits[0] if hits else None
