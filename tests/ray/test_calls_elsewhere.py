"""A call on a worker, with the worker in this process: what both sides say of the bill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from memories_async import CallOptions, ConfigurationError, Memories, Progress
from memories_async.emulator import Cut, Emulator, InjectedFault, Reason
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.ray.actors import _LedgerActor
from memories_async.ray.caller import CallerActor, RemoteCall
from memories_async.ray.cluster import _Sending
from memories_async.ray.event_relay import EventRelay
from tests.bulk.ledgers import PNG
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


class _Method:
    def __init__(self, method: Callable[..., Awaitable[object]]) -> None:
        self._method = method

    def remote(self, *arguments: object, **named: object) -> Awaitable[object]:
        return asyncio.ensure_future(self._method(*arguments, **named))


class _Actor:
    """Calls the worker's methods as Ray's handle of it does."""

    def __init__(self, caller: CallerActor) -> None:
        self._caller = caller

    def __getattr__(self, name: str) -> _Method:
        return _Method(getattr(self._caller, name))


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (InjectedFault(None, Cut(), moment="processed"), True),
        (InjectedFault(None, Reason.THROTTLED), False),
    ],
)
async def test_who_refuses_the_second_attempt_is_told_of_the_first_one_s_bill(
    fault: InjectedFault, billed: bool
) -> None:
    asked = 0

    async def permit_once() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise KeyError("not again")

    def heard(progress: Progress) -> None: ...

    called = RemoteCall(
        ("embeddings", "image"), (PNG,), {}, CallOptions(replay="accept_double_billing")
    )
    async with (
        Emulator(HashEngine()) as emulator,
        Memories("key", base_url=emulator.url, clock=HurriedClock()) as client,
    ):
        emulator.faults.add(fault)
        caller = CallerActor(None)
        caller._client = client
        actor: Any = _Actor(caller)
        with pytest.raises(KeyError, match="not again") as caught:
            await _Sending(actor, called, permit_once, heard, EventRelay([])).run()
        assert emulator.ledger.billed() == billed
        assert len(emulator.ledger) == 1
    notes = getattr(caught.value, "__notes__", [])
    assert ["may have been billed" in note for note in notes] == [True] * billed


def test_a_head_node_s_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")  # a container's made-up user

    with monkeypatch.context() as patch:
        patch.delenv("XDG_STATE_HOME", raising=False)
        patch.setattr(Path, "home", home)
        with pytest.raises(ConfigurationError, match="no home folder: set HOME to one"):
            _LedgerActor("job", None)


def test_a_relative_folder_of_xdg_holds_no_ledger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From another working folder the head node would find none, and pay again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    _LedgerActor("job", None)
    assert not (tmp_path / "here").exists()
    assert (tmp_path / "home/.local/state/memories-async/ray").is_dir()
