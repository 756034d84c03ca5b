"""The command line in processes that need no start: a server has it loaded, and forks one each.

``python -m tests.cli.forked`` reads a JSON object a line (arguments, a file for stderr) and answers
with the child's number, and with its exit status once it has ended. With ``at-once`` it reads one
list of commands, has all of them begin in one moment, and answers with how each ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from memories_async.cli import main
from tests import forks

LOADED = (
    "memories_async.cli.app",
    "memories_async.cli.commands.config",
    "memories_async.cli.commands.embed",
    "memories_async.bulk",
    "memories_async._engine.pipeline",
)


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            os.dup2(os.open(order["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            status = 70  # what no command ends with
            try:
                status = main(order["arguments"])
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def begin_at_once() -> None:
    waiting, begun = os.pipe()
    children = []
    for arguments, given in json.load(sys.stdin):
        stdin, stderr = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115  # the child's
        stdin.write(given)
        stdin.seek(0)
        child = os.fork()
        if child == 0:
            os.close(begun)
            os.dup2(stdin.fileno(), 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(stderr.fileno(), 2)
            sys.stdin = stdin
            status = 70  # what no command ends with
            try:
                os.read(waiting, 1)  # until all are there
                status = main(arguments)
            finally:
                sys.stderr.flush()
                os._exit(status)
        stdin.close()
        children.append((child, stderr))
    os.close(begun)
    ended = []
    for child, stderr in children:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stderr.seek(0)
        ended.append((status, stderr.read()))
        stderr.close()
    print(json.dumps(ended))


def run_at_once(commands: Sequence[tuple[Sequence[str], str]]) -> list[tuple[int, str]]:
    """Run commands, each with what it reads, at once; return their exit statuses and stderr."""
    begun = forks.start(
        ["-m", "tests.cli.forked", "at-once"], cwd=forks.ROOT, stdin=subprocess.PIPE, stderr=2
    )
    assert begun.stdin is not None
    begun.stdin.write(json.dumps(commands).encode())
    ended, _ = begun.communicate()
    return [(status, stderr) for status, stderr in json.loads(ended)]


class Server:
    """Starts commands, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._stderr = folder / "stderr"
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        self._child = 0

    def start(self, arguments: Sequence[object]) -> None:
        """Start a command."""
        order = {"arguments": [str(one) for one in arguments], "stderr": str(self._stderr)}
        orders = cast("IO[str]", self._popen.stdin)
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        self._child = int(self._answer())

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the command has not ended; its number is nobody else's until then."""
        os.kill(self._child, number)

    def end(self) -> tuple[int, str]:
        """Wait for the end of the command; return its exit status and stderr."""
        return int(self._answer()), self._stderr.read_text(encoding="utf-8")

    def close(self) -> None:
        """End the server."""
        self._popen.communicate()

    def _answer(self) -> str:
        return cast("IO[str]", self._popen.stdout).readline()


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    if sys.argv[1:] == ["at-once"]:
        begin_at_once()
    else:
        serve()
