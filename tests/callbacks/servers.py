"""Web applications started as their users start them, in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp

from memories_async.emulator import Emulator

EXAMPLES = Path(__file__).parents[2] / "examples"

UVICORN = ["uvicorn", "--log-level", "warning", "--port"]
UVICORN_WORKERS = [*UVICORN[:-1], "--workers", "3", UVICORN[-1]]
GUNICORN = ["gunicorn", "-w", "4", "--log-level", "warning", "--graceful-timeout", "5", "-b"]
GUNICORN_AIOHTTP = [*GUNICORN[:1], "-k", "aiohttp.GunicornWebWorker", *GUNICORN[1:]]


@contextlib.asynccontextmanager
async def application(
    command: Sequence[str], name: str, port: int, folder: Path, emulator: Emulator
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an application until the context ends.

    Args:
        command: The server, up to where the port comes.
        name: The application, as the server wants it named.
        port: The port to listen on.
        folder: Where its store is.
        emulator: The service that it uses.
    """
    where = str(port) if command[-1] == UVICORN[-1] else f"127.0.0.1:{port}"
    environment = os.environ | environment_of(emulator, port, folder)
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)]),
        "PYTHONWARNINGS": "default",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, where, name, env=environment, cwd=folder
    )
    try:
        await _answering(port, process)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def environment_of(emulator: Emulator, port: int, folder: Path) -> dict[str, str]:
    """Return what an example wants to know."""
    return {
        "MEMORIES_BASE_URL": emulator.url,
        "MEMORIES_API_KEY": "any",
        "MEMORIES_CAPTION_KEY": "any",
        "PUBLIC_ADDRESS": f"http://127.0.0.1:{port}",
        "CALLBACK_STORE": str(folder / "callbacks.db"),
    }


async def _answering(port: int, process: asyncio.subprocess.Process) -> None:
    """Wait until the server answers."""
    async with asyncio.timeout(120), aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"http://127.0.0.1:{port}/") as response:
                    assert response.status == 200
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"the server ended with {process.returncode}")


def children(process: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    return [
        int(child)
        for tasks in Path(f"/proc/{process}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


def deleted_files(process: int) -> list[str]:
    """Return what a process has open that has no name any more."""
    with contextlib.suppress(FileNotFoundError, PermissionError):  # it has just ended
        links = [
            os.readlink(link)
            for link in Path(f"/proc/{process}/fd").iterdir()
            if os.path.lexists(link)
        ]
        return [link for link in links if link.endswith(" (deleted)") and "callbacks" in link]
    return []
