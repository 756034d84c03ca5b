"""Every exception: the tree of the contract, messages that help, pickles that lose nothing."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import UTC, datetime
from typing import Any

import memories_async
from memories_async import errors
from memories_async.errors import (
    AnswerTimeout,
    ApiError,
    CallbackTimeout,
    ConfigurationError,
    MediaChanged,
    MediaError,
    MemoriesError,
    NotJson,
    OutcomeUnknown,
    RateLimited,
    TaskFailed,
)
from tests.for_each import for_each

TREE = """
MemoriesError
    ConfigurationError
    MediaError
        UnsupportedMedia
        MediaTooLarge
        MediaTooLong
        MediaChanged
    ClosedError
    ConnectError
        DnsError
        TlsError
        ConnectTimeout (TimeoutError)
    StallTimeout (TimeoutError)
    DeadlineExceeded (TimeoutError)
    OutcomeUnknown
        AnswerTimeout (TimeoutError)
    ApiError
        BadRequest
        AuthenticationError
        PermissionDenied
        InsufficientCredits
        NotFound
            EndpointGone
        Conflict
        RateLimited
        CapacityReached
        ServerError
    DecodeError
        AnswerTooLarge
        NotJson
        UnexpectedShape
    LimiterUnavailable
    StoreUnavailable
    LedgerUnavailable
    BudgetExceeded
    JournalError
        JobBusy
    CallbackTimeout (TimeoutError)
    TaskFailed
"""

KINDS = [getattr(errors, name) for name in errors.__all__]
EACH_KIND = for_each({kind.__name__: kind for kind in KINDS})

MORE: dict[str, dict[str, Any]] = {
    "MediaError": {"problems": ("a.png is empty", "b.png is empty")},
    "OutcomeUnknown": {
        "state": "ANSWERED",
        "bytes_sent": 17,
        "elapsed": 1.5,
        "sent_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "request_digest": "abc",
        "status": 502,
    },
    "ApiError": {"code": "0402", "status": 200},
    "RateLimited": {"code": "429", "status": 429, "retry_after": 7.5},
    "DecodeError": {"status": 200, "snippet": "<html>"},
    "UnexpectedShape": {"status": 200, "snippet": "[]", "answer": {"data": [1]}},
    "CallbackTimeout": {"task_id": "t-1"},
    "TaskFailed": {"task_id": "t-1"},
}


def attributes_of(kind: type[MemoriesError]) -> dict[str, Any]:
    """Return a value for everything that the nearest class with attributes of its own takes."""
    for base in kind.__mro__:
        if base.__name__ in MORE:
            return MORE[base.__name__]
    return {}


def made(kind: type[MemoriesError]) -> MemoriesError:
    return kind(
        "it went wrong", operation="captions.image (POST /x)", attempts=3, **attributes_of(kind)
    )


def test_the_tree_is_the_contract_s() -> None:
    def draw(kind: type[MemoriesError], depth: int = 0) -> list[str]:
        builtin = " (TimeoutError)" if TimeoutError in kind.__bases__ else ""
        lines = [f"{'    ' * depth}{kind.__name__}{builtin}"]
        for below in kind.__subclasses__():
            if below.__module__ == errors.__name__:
                lines += draw(below, depth + 1)
        return lines

    assert sorted(draw(MemoriesError)) == sorted(TREE.strip().splitlines())
    drawn = {line.strip(" │├└─").split()[0] for line in (errors.__doc__ or "").splitlines()[2:]}
    assert drawn == set(errors.__all__)


def test_all_are_public_and_listed() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert found == set(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)
    assert found <= set(memories_async.__all__)


@for_each(
    {
        f"{kind.__name__} by protocol {protocol}": (kind, protocol)
        for kind in KINDS
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    }
)
def test_pickles_keep_everything(row: tuple[type[MemoriesError], int]) -> None:
    kind, protocol = row
    error = made(kind)
    error.add_note("a note")
    error.advice = "do that"
    for same in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):  # our own
        assert type(same) is kind
        assert vars(same) == vars(error)
        assert same.args == error.args
        assert str(same) == str(error)
        assert same.__notes__ == ["a note"]


@EACH_KIND
def test_messages_name_operation_attempts_and_advice(kind: type[MemoriesError]) -> None:
    error = made(kind)
    text = str(error)
    assert text.startswith("captions.image (POST /x): it went wrong (3 attempts)")
    assert error.message == "it went wrong"
    assert error.args == ("it went wrong",)
    assert (error.operation, error.attempts) == ("captions.image (POST /x)", 3)
    assert error.advice in text
    for name, value in attributes_of(kind).items():
        assert getattr(error, name) == value


@EACH_KIND
def test_a_bare_message_is_enough_to_read(kind: type[MemoriesError]) -> None:
    needed = {
        name: value
        for name, value in attributes_of(kind).items()
        if inspect.signature(kind).parameters[name].default is inspect.Parameter.empty
    }
    assert str(kind("it went wrong", **needed)).startswith("it went wrong")


def test_advice_follows_as_a_sentence_of_its_own() -> None:
    assert str(MediaChanged("a.mp4 changed.", attempts=1)) == (
        "a.mp4 changed (1 attempt). Nothing complete was sent: call again once the file is at rest"
    )
    assert str(ConfigurationError("no key.")) == "no key."


def test_what_some_add_to_their_message() -> None:
    refused = ApiError("no credits", code="0402", status=200, attempts=1)
    assert str(refused) == "no credits (1 attempt) [code 0402, HTTP 200]"
    unknown = OutcomeUnknown("lost", bytes_sent=17)
    assert str(unknown).endswith("[17 bytes sent]")
    assert "may have been billed" in str(unknown)
    timed = AnswerTimeout("late", bytes_sent=17, sent_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert str(timed).endswith("[17 bytes sent at 03:04:05 UTC]")


def test_defaults() -> None:
    assert MediaError("a").problems == ("a",)
    assert (RateLimited("a").code, RateLimited("a").retry_after) == ("0429", None)
    assert (NotJson("a").answer, NotJson("a").status, NotJson("a").snippet) == (None, None, "")
    assert CallbackTimeout("a", task_id="t").task_id == TaskFailed("a", task_id="t").task_id == "t"


@EACH_KIND
def test_what_timed_out_is_caught_as_a_timeout(kind: type[MemoriesError]) -> None:
    timeouts = {"StallTimeout", "DeadlineExceeded", "AnswerTimeout", "CallbackTimeout"}
    assert issubclass(kind, TimeoutError) == (kind.__name__ in timeouts | {"ConnectTimeout"})
