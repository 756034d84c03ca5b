"""The commands that need the core only, and what is said of the others without the extra."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence

from memories_async._extras import to_install
from memories_async._version import __version__

COMMANDS: Mapping[str, tuple[str, str]] = {
    "emulator": (
        "memories_async.emulator.__main__",
        "Serve a memories.ai service on this machine, without an account.",
    ),
    "callbacks serve": (
        "memories_async.callbacks.__main__",
        "Receive the results of captions that are sent by callback.",
    ),
}
"""Commands that read their own arguments: module and summary."""


def command(tokens: Sequence[str]) -> Callable[[], int] | None:
    """Load and return one of these commands; None if the arguments name none."""
    for name, (module, _) in COMMANDS.items():
        words = name.split()
        if list(tokens[: len(words)]) == words:
            main: Callable[[Sequence[str]], int] = importlib.import_module(module).main
            return functools.partial(main, tokens[len(words) :])
    return None


def print_version() -> int:
    """Print the version."""
    print(__version__)
    return 0


def advise(tokens: Sequence[str], missing: str) -> int:
    """Say in one line what to install; whoever asks for help is told what works without."""
    install = f"needs the package {missing}: {to_install('cli')}"
    if list(tokens) not in (["--help"], ["-h"]):
        print(f"memories-async: this {install}", file=sys.stderr)
        return 2
    commands = "".join(f"  {name:17}{summary}\n" for name, (_, summary) in COMMANDS.items())
    print(f"Usage: memories-async COMMAND\n\n{commands}\nEverything else {install}")
    return 0
