"""The command ``memories-async``: what works without any extra."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="memories-async", description="Work with memories.ai, or with an emulator of it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("emulator", help="serve the emulator", add_help=False)
    given, rest = parser.parse_known_args(arguments)
    if given.command == "emulator":
        from memories_async.emulator.__main__ import main as serve

        return serve(rest)
    raise AssertionError(given.command)


if __name__ == "__main__":
    sys.exit(main())
