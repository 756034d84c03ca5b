"""The inbox as a program: ``python -m memories_async.callbacks https://… --store callbacks.db``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from memories_async.callbacks.inbox import SECRET_VARIABLE, CallbackInbox
from memories_async.callbacks.server import DEFAULT_PORT, serve
from memories_async.callbacks.stores import RedisStore, SqliteStore
from memories_async.callbacks.tokens import CallbackKind, new_token
from memories_async.clock import SystemClock
from memories_async.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memories_async.callbacks.stores import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Receive callbacks until interrupted; scripts with the same store await the results.

    Args:
        argv: The command line without the program's name; by default the process's own.

    Returns:
        The exit code: 0 after Ctrl-C or SIGTERM, 2 for options that will not do, a store that
        cannot be written to among them.
    """
    parser = argparse.ArgumentParser(
        prog="memories-async callbacks serve",
        description="Receives what memories.ai posts, for scripts behind a tunnel.",
        epilog=f"The secret comes from {SECRET_VARIABLE}, else it is made and kept by the store.",
    )
    parser.add_argument("address", help="public address that leads here, e.g. the tunnel's")
    parser.add_argument(
        "--store",
        default="callbacks.db",
        help="SQLite file or redis:// address, shared with the scripts (%(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port; 0 is a free one (%(default)s)"
    )
    options = parser.parse_args(argv)
    try:
        store = _store(options.store)
        inbox = CallbackInbox(options.address, store=store)
        asyncio.run(_serve(inbox, store, options.host, options.port))
    except (ConfigurationError, StoreUnavailable, OSError) as error:
        print(f"memories-async callbacks: {error}", file=sys.stderr)
        return 2
    return 0


def _store(where: str) -> Store:
    remote = where.startswith(("redis://", "rediss://", "unix://"))
    return RedisStore(where) if remote else SqliteStore(where)


async def try_store(store: Store) -> None:
    """Write to a store, and take it back: else the first callback would find that it cannot be.

    Raises:
        ConfigurationError: It is none.
        StoreUnavailable: It cannot be reached, or not be written to.
    """
    token = new_token(CallbackKind.CAPTION)
    await store.open(token, None, SystemClock().wall())
    await store.forget(token)


async def _serve(inbox: CallbackInbox, store: Store, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels this task
            loop.add_signal_handler(name, stop.set)
    async with inbox:
        await try_store(store)
        async with serve(inbox, host=host, port=port) as url:
            print(f"{inbox.address} is expected to lead to {url} (Ctrl-C ends it)", flush=True)
            await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
