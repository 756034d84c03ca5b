"""The replay rule as a table: error, how far the request got, what it costs -> what is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memories_async import errors
from memories_async._engine.request import State
from memories_async._engine.retry import LONGEST_BACKOFF, LONGEST_HINT, Decision, backoff, judge
from memories_async.operations import Replay
from tests.for_each import for_each

READ, BILLED, CREATES = Replay.FREE_READ, Replay.BILLED, Replay.BILLED_CREATES
NOT_SENT, PARTIAL, SENT = State.NOT_SENT, State.PARTIAL, State.SENT
RETRY, THROTTLED, RAISE, UNKNOWN = (
    Decision.RETRY,
    Decision.THROTTLED,
    Decision.RAISE,
    Decision.UNKNOWN,
)


def api(kind: type[errors.ApiError], status: int = 200, code: str = "c") -> errors.ApiError:
    return kind("refused", code=code, status=status)


def throttled(retry_after: float | None) -> errors.RateLimited:
    return errors.RateLimited("slow down", retry_after=retry_after)


CONNECTING = (errors.ConnectError("x"), errors.DnsError("x"), errors.ConnectTimeout("x"))
NEVER = (
    api(errors.ApiError),
    api(errors.BadRequest),
    api(errors.AuthenticationError),
    api(errors.PermissionDenied),
    api(errors.InsufficientCredits),
    api(errors.NotFound),
    api(errors.EndpointGone),
    api(errors.Conflict),
    api(errors.BadRequest, 413),
    errors.NotJson("x"),
    errors.UnexpectedShape("x"),
    errors.AnswerTooLarge("x"),
    errors.MediaChanged("x"),
    errors.MediaError("x"),
    errors.ConfigurationError("x"),
    errors.ClosedError("x"),
    errors.DeadlineExceeded("x"),
    errors.LimiterUnavailable("x"),
    errors.LedgerUnavailable("x"),
    errors.BudgetExceeded("x"),
    errors.TlsError("x"),
)

# error, states, then the verdict for a free read, a billed call, a billed call that creates
RULES: list[tuple[errors.MemoriesError, tuple[State, ...], Decision, Decision, Decision]] = [
    *((error, (NOT_SENT, PARTIAL), RETRY, RETRY, RETRY) for error in CONNECTING),
    (errors.StallTimeout("x"), (PARTIAL,), RETRY, RETRY, RETRY),
    (errors.OutcomeUnknown("x"), (SENT,), RETRY, UNKNOWN, UNKNOWN),
    (errors.AnswerTimeout("x"), (SENT,), RETRY, UNKNOWN, UNKNOWN),
    (throttled(None), (PARTIAL, SENT), THROTTLED, THROTTLED, THROTTLED),
    (throttled(0.0), (SENT,), THROTTLED, THROTTLED, THROTTLED),
    (throttled(LONGEST_HINT), (SENT,), THROTTLED, THROTTLED, THROTTLED),
    (throttled(LONGEST_HINT + 1), (SENT,), RAISE, RAISE, RAISE),
    (api(errors.CapacityReached), (SENT,), THROTTLED, THROTTLED, THROTTLED),
    # "Service is busy": nothing says that it had not begun, so nothing billed goes out again
    (api(errors.CapacityReached, 200, "0409"), (SENT,), THROTTLED, RAISE, RAISE),
    (api(errors.CapacityReached, 409, "409"), (SENT,), THROTTLED, RAISE, RAISE),
    (api(errors.ServerError, 500), (SENT,), RETRY, UNKNOWN, UNKNOWN),
    (api(errors.ServerError, 500), (PARTIAL,), RETRY, UNKNOWN, UNKNOWN),
    (api(errors.ServerError, 502), (PARTIAL, SENT), RETRY, UNKNOWN, UNKNOWN),
    (api(errors.ServerError, 504), (PARTIAL, SENT), RETRY, UNKNOWN, UNKNOWN),
    (api(errors.ServerError, 503), (SENT,), RETRY, UNKNOWN, UNKNOWN),
    (api(errors.ServerError, 503), (PARTIAL,), RETRY, RETRY, UNKNOWN),
    (api(errors.ServerError, 200), (SENT,), RETRY, UNKNOWN, UNKNOWN),  # 0001 "network abnormal"
    *((error, (NOT_SENT, PARTIAL, SENT), RAISE, RAISE, RAISE) for error in NEVER),
]
Row = tuple[errors.MemoriesError, State, Replay, Decision]
ROWS: dict[str, Row] = {
    f"{number}. {error!r}, {state.name}, {replay.name}": (error, state, replay, verdict)
    for number, (error, states, *verdicts) in enumerate(RULES)
    for state in states
    for replay, verdict in zip((READ, BILLED, CREATES), verdicts, strict=True)
}


@for_each(ROWS)
def test_the_replay_rule(row: Row) -> None:
    error, state, replay, verdict = row
    assert judge(error, state, replay, accept_double=False) is verdict


@for_each(ROWS)
def test_accepting_double_billing_makes_a_call_as_free_as_a_read(row: Row) -> None:
    error, state, replay, _ = row
    accepted = judge(error, state, replay, accept_double=True)
    assert accepted is judge(error, state, READ, accept_double=False)


def test_every_exception_is_judged() -> None:
    def leaves(kind: type[errors.MemoriesError]) -> set[type[errors.MemoriesError]]:
        return {kind}.union(*(leaves(below) for below in kind.__subclasses__()))

    judged = {type(error) for error, *_ in RULES}
    never_from_an_attempt = {
        errors.MemoriesError,
        errors.DecodeError,
        errors.UnsupportedMedia,
        errors.MediaTooLarge,
        errors.MediaTooLong,
        errors.StoreUnavailable,
        errors.JournalError,
        errors.JobBusy,
        errors.CallbackTimeout,
        errors.TaskFailed,
    }
    ours = {kind for kind in leaves(errors.MemoriesError) if kind.__module__ == errors.__name__}
    assert ours == judged | never_from_an_attempt


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 32), (1000, 32)]
)
def test_backoff_doubles_from_1_to_32_seconds(attempt: int, longest: float) -> None:
    assert backoff(attempt, 1.0) == longest
    assert backoff(attempt, 0.5) == longest / 2
    assert backoff(attempt, 0.0) == 0


@given(attempt=st.integers(1, 1000), chance=st.floats(0, 1))
def test_full_jitter(attempt: int, chance: float) -> None:
    assert 0 <= backoff(attempt, chance) <= LONGEST_BACKOFF
