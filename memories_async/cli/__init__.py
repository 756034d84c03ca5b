"""The command ``memories-async``: hands each command to its module, importing nothing before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

from memories_async._version import __version__

WITHOUT_EXTRA: Mapping[str, tuple[str, str]] = {
    "emulator": (
        "memories_async.emulator.__main__",
        "Serve a memories.ai service on this machine, without an account.",
    ),
    "callbacks serve": (
        "memories_async.callbacks.__main__",
        "Receive the results of captions that are sent by callback.",
    ),
}
"""Commands that need the core only and read their own arguments: module and summary."""

EXTRA = "memories-async[cli]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the program's name; by default the process's own.

    Returns:
        The exit status, one of :class:`memories_async.cli.exit_codes.Exit`.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if tokens == ["--version"]:
        print(__version__)
        return 0
    for name, (module, _) in WITHOUT_EXTRA.items():
        words = name.split()
        if tokens[: len(words)] == words:
            status: int = importlib.import_module(module).main(tokens[len(words) :])
            return status
    try:
        from memories_async.cli import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("memories_async"):
            raise
        return _without_extra(tokens, error.name)
    return app.run(tokens)


def _without_extra(tokens: Sequence[str], missing: str) -> int:
    """Say in one line what to install; whoever asks for help is told what works without."""
    install = f"needs the package {missing}: pip install '{EXTRA}'"
    if tokens not in (["--help"], ["-h"]):
        print(
            f"memories-async: this {install}",
            file=sys.stderr,
        )
        return 2
    commands = "".join(f"  {name:17}{summary}\n" for name, (_, summary) in WITHOUT_EXTRA.items())
    print(f"Usage: memories-async COMMAND\n\n{commands}\nEverything else {install}")
    return 0
