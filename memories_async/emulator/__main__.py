"""The emulator as a program: ``python -m memories_async.emulator --port 8765``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from memories_async.checks import ConfigurationError
from memories_async.emulator.http.auth import is_loopback
from memories_async.emulator.server import Emulator

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = "MEMORIES_EMULATOR_KEY"
_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the emulator until it is interrupted.

    Args:
        argv: The command line without the program's name; by default the process's own.

    Returns:
        The exit code: 0 after Ctrl-C, SIGTERM or SIGHUP, 2 for options that do not go together.
    """
    parser = argparse.ArgumentParser(
        prog="memories-async emulator",
        description="A memories.ai service on this machine; it needs no account and no internet.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8765, help="port; 0 is a free one (%(default)s)"
    )
    parser.add_argument("--folder", help="keep uploads here; by default they go when it stops")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help=f"let other machines call, with the key in {_KEY}",
    )
    parser.add_argument(
        "--index-seconds", type=float, default=0.0, help="how long videos stay UNPARSE"
    )
    parser.add_argument(
        "--callback-host", action="append", default=[], help="allow callbacks to this host"
    )
    parser.add_argument(
        "--fetch-host", action="append", default=[], help="allow media to be fetched from this host"
    )
    parser.add_argument(
        "--record", metavar="FOLDER", help="send requests on to the real service, keep its answers"
    )
    parser.add_argument(
        "--upstream", metavar="URL", help="send them on to this address of all services instead"
    )
    parser.add_argument("--replay", metavar="FOLDER", help="give the answers that were kept")
    parser.add_argument(
        "--otherwise",
        choices=("refuse", "engine"),
        default="refuse",
        help="what becomes of requests that were not recorded (%(default)s)",
    )
    options = parser.parse_args(argv)
    key = os.environ.get(_KEY)
    if not is_loopback(options.host) and not (options.allow_remote and key):
        needed = f"it needs --allow-remote, and a key in {_KEY}"
        print(f"memories-async emulator: {options.host} is not loopback: {needed}", file=sys.stderr)
        return 2
    try:
        emulator = Emulator(
            host=options.host,
            port=options.port,
            folder=options.folder,
            api_key=key,
            caption_key=key,
            record=options.record,
            upstream=options.upstream,
            replay=options.replay,
            otherwise=options.otherwise,
            allow_remote=options.allow_remote,
            index_seconds=options.index_seconds,
            callback_hosts=options.callback_host,
            fetch_hosts=options.fetch_host,
        )
        asyncio.run(_serve(emulator))
    except KeyboardInterrupt:
        return 0
    except (ConfigurationError, OSError, ValueError) as error:
        print(f"memories-async emulator: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(emulator: Emulator) -> None:
    """Serve until Ctrl-C, or until a signal tells the program to end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for name in _ENDING_SIGNALS:
        if hasattr(signal, name):
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(getattr(signal, name), ended.set)
    async with emulator:
        print(f"The emulator listens at {emulator.url} (Ctrl-C ends it)", flush=True)
        await ended.wait()


if __name__ == "__main__":
    sys.exit(main())
