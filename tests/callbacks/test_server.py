"""The standalone server, run as a user runs it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from memories_async import Memories
from memories_async.callbacks import CallbackInbox, RedisStore, SqliteStore, Store
from memories_async.callbacks.__main__ import main
from memories_async.emulator import Emulator
from tests.callbacks.conftest import SOON, free_port, submit
from tests.emulator.conftest import MP4, KnownEngine

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server(address: str, store: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the server as a process until the context ends."""
    options = [address, "--store", store, "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "memories_async.callbacks", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line == f"{address} is expected to lead to http://127.0.0.1:{port} (Ctrl-C ends it)\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.mark.parametrize(("kind", "end"), [("sqlite", signal.SIGINT), ("redis", signal.SIGTERM)])
async def test_a_script_awaits_what_the_server_receives(
    kind: str, end: signal.Signals, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    where = str(tmp_path / "x.db") if kind == "sqlite" else request.getfixturevalue("redis_url")
    store: Store = SqliteStore(where) if kind == "sqlite" else RedisStore(where)
    async with (
        server(address, where, port) as process,
        Emulator(KnownEngine()) as emulator,
        Memories("key", caption_key="caption-key", base_url=emulator.url) as client,
        CallbackInbox(address, store=store) as inbox,
    ):
        task = await submit(inbox, client, "What?")
        assert (await inbox.result(task, timeout=SOON)).text == f"What? [{len(MP4)}]"
        process.send_signal(end)
        assert await process.wait() == 0


def test_a_bad_address_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["app.example.com", "--store", str(tmp_path / "x.db")]) == 2
    assert "must be an http(s) URL" in capsys.readouterr().err


def test_a_taken_port_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        store = str(tmp_path / "x.db")
        assert main(["https://app.example.com", "--store", store, "--port", port]) == 2
    assert "address already in use" in capsys.readouterr().err
