"""The standalone server, run as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import Memories
from memories_async.callbacks import (
    CallbackInbox,
    MemoryStore,
    RedisStore,
    SqliteStore,
    Store,
    connections,
    serve,
)
from memories_async.callbacks import inbox as inbox_module
from memories_async.callbacks.__main__ import main, try_store
from memories_async.emulator import Emulator
from tests.callbacks.conftest import SOON, free_port, submit
from tests.emulator.conftest import MP4, KnownEngine

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
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


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where the store is; what starts Redis must not be on the event loop."""
    in_redis = request.param == "redis"
    return str(request.getfixturevalue("redis_url") if in_redis else tmp_path / "x.db")


@pytest.mark.parametrize(
    ("where", "end"),
    [("sqlite", signal.SIGINT), ("redis", signal.SIGTERM)],
    indirect=["where"],
)
async def test_a_script_awaits_what_the_server_receives(where: str, end: signal.Signals) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    store: Store = RedisStore(where) if where.startswith("redis:") else SqliteStore(where)
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


# --- strangers --------------------------------------------------------------------------------

PARSED = b'{"videoNo":"VI1","status":"PARSE"}'


@pytest.fixture
async def inbox() -> AsyncIterator[CallbackInbox]:
    port = free_port()
    inbox = CallbackInbox(f"http://127.0.0.1:{port}", store=MemoryStore())
    async with serve(inbox, port=port):
        yield inbox


async def knock(inbox: CallbackInbox) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(inbox.address.rpartition(":")[2]))


async def status(inbox: CallbackInbox, body: bytes = PARSED, length: int | None = None) -> bytes:
    """Post a callback as the service does; return the line of the answer's status."""
    path = (await inbox.address_for_video()).removeprefix(inbox.address)
    reader, writer = await knock(inbox)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    async with asyncio.timeout(SOON):
        line = await reader.readline()
    writer.close()
    return line


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nX: "])
async def test_strangers_that_keep_silent_keep_nobody_out(
    inbox: CallbackInbox,
    sent: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    strangers = [await knock(inbox) for _ in range(20)]
    for _, stranger in strangers:
        stranger.write(sent)
    assert b" 200 " in await status(inbox)
    async with asyncio.timeout(SOON):
        for reader, _ in strangers[:15]:  # they have given way
            assert await reader.read() == b""
    assert len(caplog.records) == 1  # and fill no log
    for _, stranger in strangers:
        stranger.close()


async def test_the_head_of_a_request_has_ten_seconds_to_come(
    inbox: CallbackInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections.HEAD_SECONDS == 10
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.02)
    reader, writer = await knock(inbox)
    writer.write(b"POST / HTTP/1.1\r\n")
    async with asyncio.timeout(SOON):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_a_body_that_does_not_come_is_answered_408(
    inbox: CallbackInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "BODY_SECONDS", 0.02)
    assert b" 408 " in await status(inbox, b"{", 100)


async def test_a_connection_serves_one_request(inbox: CallbackInbox) -> None:
    """Or the next head would have all the time in the world."""
    reader, writer = await knock(inbox)
    writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(SOON):
        answer = await reader.read()
    assert b" 404 " in answer
    writer.close()


async def test_what_is_no_http_is_worth_no_traceback(
    inbox: CallbackInbox, caplog: pytest.LogCaptureFixture
) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"hello\r\n\r\n", b"GET \xff\r\n\r\n"):
        reader, writer = await knock(inbox)
        writer.write(garbage)
        async with asyncio.timeout(SOON):
            await reader.read()
        writer.close()
    assert b" 200 " in await status(inbox)
    assert not [record for record in caplog.records if record.exc_info]


async def test_without_descriptors_it_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "RETRY_SECONDS", 0)
    loop, left = asyncio.get_running_loop(), [OSError(errno.EMFILE, "Too many open files")] * 20
    accept = loop.sock_accept

    async def sock_accept(listening: socket.socket) -> object:
        if left:
            raise left.pop()
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    port = free_port()
    inbox = CallbackInbox(f"http://127.0.0.1:{port}", store=MemoryStore())
    async with serve(inbox, port=port):
        assert b" 200 " in await status(inbox)
    [record] = caplog.records
    assert "Too many open files" in record.getMessage()


def test_a_bad_address_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["app.example.com", "--store", str(tmp_path / "x.db")]) == 2
    assert "must be an http(s) URL" in capsys.readouterr().err


def test_a_taken_port_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        store = str(tmp_path / "x.db")
        assert main(["https://app.example.com", "--store", store, "--port", port]) == 2
    assert "address already in use" in capsys.readouterr().err.lower()


UNFIT = {
    "nowhere/x.db": "No such file or directory",
    "a_file/x.db": "Not a directory",
    "a_folder": "is no regular file",
    "a_text": "is no SQLite file",
}


@pytest.mark.parametrize("store", UNFIT)
def test_a_store_that_cannot_be_written_to_is_said_before_anything_is_listened_to(
    store: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was opened by the first callback, whose result then was lost."""
    (tmp_path / "a_folder").mkdir()
    for name in ("a_file", "a_text"):
        (tmp_path / name).write_text("not what a store is\n" * 100)
    monkeypatch.setattr(socket, "create_server", _listens)
    assert main(["https://app.example.com", "--store", str(tmp_path / store), "--port", "0"]) == 2
    out, err = capsys.readouterr()
    assert UNFIT[store] in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_redis_that_is_not_there_is_said_before_anything_is_listened_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setattr(socket, "create_server", _listens)
    store = f"redis://127.0.0.1:{closed_port}/0"
    assert main(["https://app.example.com", "--store", store, "--port", "0"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def _listens(*_: object, **__: object) -> None:
    pytest.fail("it listens")


async def test_the_trial_of_a_store_leaves_nothing_in_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "callbacks.db")
    await try_store(store)
    await store.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / "callbacks.db")) as db:
        assert db.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
