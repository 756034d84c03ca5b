"""``--ray``: what is refused before anything is sent or a cluster started, and what it reads as."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

from memories_async import CallOptions, ConnectError
from memories_async.cli.checks import with_address
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator
from memories_async.ray import cluster
from memories_async.ray.caller import CallerActor, RemoteCall
from memories_async.ray.cluster import _Sending
from memories_async.ray.event_relay import EventRelay

Run = Callable[..., int]


@pytest.fixture
def ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("tokens", "read"),
    [
        ("embed a --ray", "embed a --ray=local"),
        ("embed --ray a b", "embed --ray=local a b"),
        ("embed --ray auto a", "embed --ray auto a"),
        ("embed a --ray head:6379", "embed a --ray head:6379"),
        ("embed a --ray ray://head:10001", "embed a --ray ray://head:10001"),
        ("embed a --ray --json", "embed a --ray=local --json"),
        ("embed a --ray=auto", "embed a --ray=auto"),
        ("embed --ray -- --ray", "embed --ray=local -- --ray"),
    ],
)
def test_an_address_may_be_left_out(tokens: str, read: str) -> None:
    assert with_address(tokens.split()) == read.split()


def test_without_ray_one_line_says_what_to_install(
    account: Emulator,
    run: Run,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run("embed", images, "--ray") == Exit.USAGE
    said = capsys.readouterr().err
    assert "pip install 'memories-async[ray]'" in said
    assert said.count("\n") == 1
    assert run("jobs", "list", "--json") == Exit.DONE
    assert not capsys.readouterr().out, "a job was made"


@pytest.mark.usefixtures("ray_is_there")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--limiter", "redis://limits.internal"), "--limiter"),
        (("--limiter", "sqlite:limits"), "--limiter"),
    ],
)
def test_what_does_not_combine_is_named(
    account: Emulator,
    run: Run,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    named: str,
) -> None:
    assert run("embed", images, "--ray", *arguments) == Exit.USAGE
    said = capsys.readouterr().err
    assert named in said
    assert "--ray" in said
    assert not list(account.ledger)


@pytest.mark.usefixtures("ray_is_there")
def test_the_variable_of_the_limiter_is_refused_too(
    account: Emulator,
    run: Run,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEMORIES_LIMITER", "redis://limits.internal")
    assert run("embed", images, "--ray") == Exit.USAGE
    assert "MEMORIES_LIMITER" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_is_there")
def test_images_together_are_one_call(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = sorted(images.iterdir())
    asked = ("caption", *pictures, "--together", "-p", "What?", "--ray")
    assert run(*asked) == Exit.USAGE
    assert "--together" in capsys.readouterr().err
    assert not list(account.ledger)


@pytest.mark.usefixtures("ray_is_there")
def test_a_dry_run_needs_no_cluster(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", images, "--ray", "nowhere:1", "--dry-run", "--json") == Exit.DONE
    assert '"items": 5' in capsys.readouterr().out
    assert not list(account.ledger)


@pytest.mark.usefixtures("ray_is_there")
def test_a_job_that_is_done_needs_no_cluster(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", images, "--quiet") == Exit.DONE
    assert run("embed", images, "--quiet", "--ray", "nowhere:1") == Exit.DONE
    assert account.ledger.billed() == 5


def test_the_command_line_imports_no_ray() -> None:
    code = "import sys; from memories_async.cli import main; main(['embed', '--help']); "
    code += "sys.exit('ray' in sys.modules or 'memories_async.ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@attrs.frozen
class Reference:
    """Awaited as Ray's are: whose wait is cancelled has cancelled nothing."""

    task: asyncio.Task[object]

    def __await__(self) -> Generator[Any, None, object]:
        return asyncio.shield(self.task).__await__()


class Actor:
    """The worker's own code without Ray; messages are read once the call is over."""

    def __init__(self) -> None:
        self.worker = CallerActor(None)
        self.tasks: list[asyncio.Task[object]] = []
        self.over = asyncio.Event()
        self.died = False

    def __getattr__(self, name: str) -> object:
        return SimpleNamespace(remote=lambda *given, **named: self._begin(name, *given, **named))

    def _begin(self, name: str, *given: object, **named: object) -> Reference:
        work: Coroutine[Any, Any, object] = getattr(self.worker, name)(*given, **named)
        task = asyncio.ensure_future(self._after(name, work))
        self.tasks.append(task)
        return Reference(task)

    async def _after(self, name: str, work: Coroutine[Any, Any, object]) -> object:
        if name == "messages":
            await self.over.wait()
        try:
            said = await work
        finally:
            if name == "call":
                self.over.set()
        if name == "call" and self.died:
            raise ChildProcessError("the actor died")
        return said


async def ask_in_vain(
    picture: object, *, options: CallOptions, on_progress: object
) -> Awaitable[object]:
    """Want to send, and come to the deadline before permission is given."""
    assert options.before_sending is not None
    asking = asyncio.ensure_future(options.before_sending())
    await asyncio.sleep(0)
    asking.cancel()
    raise ConnectError("its deadline has passed")


@pytest.mark.anyio
@pytest.mark.parametrize("cancelled", ["in the middle of its messages", "after its end"])
async def test_of_a_call_that_is_over_no_more_messages_are_asked_for(cancelled: str) -> None:
    actor, asked, never = Actor(), asyncio.Event(), asyncio.Event()
    client: Any = SimpleNamespace(embeddings=SimpleNamespace(image=ask_in_vain))
    actor.worker._client = client

    async def before() -> None:
        asked.set()
        if cancelled == "in the middle of its messages":
            await never.wait()

    called = RemoteCall(("embeddings", "image"), (b"",), {}, CallOptions())
    sending = _Sending(actor, called, before, lambda progress: None, EventRelay([]))
    running = asyncio.ensure_future(sending.run())
    await asked.wait()
    if cancelled == "in the middle of its messages":
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        await running
        await sending._read_messages()  # as if cancelled while the answer is on its way
    await asyncio.gather(*actor.tasks[1:])
    assert not actor.worker._calls
    assert len(actor.tasks) == (4 if running.cancelled() else 3), "call, messages, permit, cancel"


@pytest.mark.anyio
async def test_a_worker_that_dies_while_permission_is_given_is_not_asked_for_ever() -> None:
    """The one that is started in its stead knows nothing of the call, and has no messages of it."""
    actor = Actor()
    actor.over.set()  # messages are read at once

    async def want_to_send(picture: object, *, options: CallOptions, on_progress: object) -> None:
        assert options.before_sending is not None
        await options.before_sending()

    actor.worker._client = cast(
        "Any", SimpleNamespace(embeddings=SimpleNamespace(image=want_to_send))
    )

    async def before() -> None:
        actor.worker, actor.died = CallerActor(None), True
        actor.tasks[0].cancel()
        await asyncio.sleep(0)

    called = RemoteCall(("embeddings", "image"), (b"",), {}, CallOptions())
    sending = _Sending(actor, called, before, lambda progress: None, EventRelay([]))
    async with asyncio.timeout(20):
        with pytest.raises(ChildProcessError):
            await sending.run()
    assert sending.may_have_left
    for task in actor.tasks:
        task.cancel()


@pytest.mark.anyio
async def test_sigterm_is_the_application_s_own_while_ray_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray puts a handler beneath Python's, which aborts the process after three seconds."""
    beneath = ctypes.CDLL(None).signal
    ignored = ctypes.c_void_p(1)  # SIG_IGN

    def take(**_: object) -> None:
        beneath(signal.SIGTERM, ignored)

    fake = SimpleNamespace(init=take, shutdown=take)
    monkeypatch.setattr(cluster, "installed", lambda: fake)
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        async with cluster.cluster_of(cast("Any", None), {}, workers=0):
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert len(received) == 2, "after its end neither"
    finally:
        signal.signal(signal.SIGTERM, before)
