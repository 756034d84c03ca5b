"""The command ``memories-async``: hands each command to its module, importing nothing before."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from memories_async._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the program's name; by default the process's own.

    Returns:
        The exit status, one of :class:`memories_async.cli.exit_codes.Exit`.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(tokens)
    except KeyboardInterrupt:
        # Also while the modules below are still being loaded.
        print("memories-async: interrupted", file=sys.stderr)
        return 130


def _run(tokens: list[str]) -> int:
    from memories_async.cli import without_extra

    if tokens == ["--version"]:
        print(__version__)
        return 0
    status = without_extra.run(tokens)
    if status is not None:
        return status
    try:
        from memories_async.cli import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("memories_async"):
            raise
        return without_extra.advise(tokens, error.name)
    return app.run(tokens)
