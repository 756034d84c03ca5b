"""The command ``memories-async``: hands each command to its module, importing nothing before.

May import emulator, bulk, ray, client and below.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the program's name; by default the process's own.

    Returns:
        The exit status, one of :class:`memories_async.cli.exit_codes.Exit`.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    with _left_at_once():
        command = _command(tokens)
    return _written(command)


def _command(tokens: list[str]) -> Callable[[], int]:
    """Load and return what the arguments ask for."""
    from memories_async.cli import without_extra

    if tokens == ["--version"]:
        return without_extra.print_version
    if command := without_extra.command(tokens):
        return command
    try:
        from memories_async.cli import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("memories_async"):
            raise
        return functools.partial(without_extra.advise, tokens, error.name)
    return app.command(tokens)


def _written(command: Callable[[], int]) -> int:
    """Run a command, write what it has printed, and return the exit status.

    Help and version are left to Python, which writes at its exit, and could only say why that
    failed in a traceback and the status 120. Whatever else fails, commands say themselves.
    """
    status = 0
    try:
        try:
            status = command()
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()
    except OSError as error:
        from memories_async.cli.terminal.console import console

        return console.give_up(error, status)
    return status


@contextlib.contextmanager
def _left_at_once() -> Generator[None]:
    """End at once at Ctrl-C: nothing has been sent, and no file is open.

    An exception could surface where Python only prints it, as it does while modules are loaded.
    """

    def leave(*_: object) -> None:
        os.write(2, b"memories-async: interrupted\n")
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if (
        before is not signal.default_int_handler
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
