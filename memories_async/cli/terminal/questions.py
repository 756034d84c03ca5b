"""Asks before what cannot be undone."""

from __future__ import annotations

import sys

from memories_async.cli.interrupts import interruptible
from memories_async.cli.terminal.console import one_line
from memories_async.errors import ConfigurationError


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask at the terminal; anything but yes is no.

    Args:
        question: What would be done.
        yes: The answer was given in advance.

    Raises:
        ConfigurationError: Nobody is there to ask.
    """
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Nobody is there to answer: add --yes")
    try:
        with interruptible():  # before the question: the answer may be a Ctrl-C at once
            asked = f"memories-async: {one_line(question)} [y/N] "
            print(asked, end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise
    return answer.strip().lower() in ("y", "yes")
