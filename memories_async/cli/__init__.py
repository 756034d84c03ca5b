"""The command ``memories-async``: hands each command to its module, importing nothing before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

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
    """Say what works and what to install; only a plain question for help is a success."""
    asked = tokens in (["--help"], ["-h"])
    print(
        "Usage: memories-async COMMAND\n\n"
        + "".join(f"  {name:17}{summary}\n" for name, (_, summary) in WITHOUT_EXTRA.items())
        + f"\nThe other commands need the package {missing}: pip install '{EXTRA}'",
        file=sys.stdout if asked else sys.stderr,
    )
    return 0 if asked else 2
