"""The commands as a table, and the way from the arguments to an exit status."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence

from cyclopts import (
    App,
    CycloptsError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

from memories_async._version import __version__
from memories_async.cli import WITHOUT_EXTRA
from memories_async.cli.exit_codes import Exit, exit_for
from memories_async.cli.output import say
from memories_async.errors import MemoriesError

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("caption", "caption:caption", "Describe an image or a video, or many of them."),
    ("embed", "embed:embed", "Turn images into vectors."),
    ("index", "index:index", "Add images and videos to the library; resumable."),
    ("search", "search:search", "Find the clips of a video that match a picture and a prompt."),
    ("upload", "upload:upload", "Upload one file and print its identifier."),
    ("jobs", "jobs:app", "List, show, resume and export jobs."),
    ("config", "config:app", "Keep addresses and keys in named profiles."),
)
"""Name, where it is, and its summary: a module is imported when its command is used."""

_KEY_OPTION = re.compile(r"--[\w-]*key(=|$)")
_KEY = re.compile(r"\bsk-[\w-]+")


def application() -> App:
    """Return the whole command line."""
    app = App(
        name="memories-async",
        help="Work with memories.ai: captions, embeddings, the private library, search.",
        version=__version__,
        help_format="plaintext",  # markup would cost an import of 20 ms
        default_parameter=Parameter(negative=()),
    )
    for name, place, summary in COMMANDS:
        app.command(f"memories_async.cli.commands.{place}", name=name, help=summary)
    for name, (_, summary) in WITHOUT_EXTRA.items():
        # Only for the lists: main() has handed these on before anything is parsed here.
        parent = app
        for word in name.split():
            parent = parent.command(App(name=word, help=summary))
    app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]  # **kwargs
        help="Install completion for the shell you are in."
    )
    return app


def run(tokens: Sequence[str]) -> int:
    """Parse the arguments, run the command and return the exit status."""
    if any(_KEY_OPTION.match(token) for token in tokens):
        say(
            "a key is never an argument, where every user of this machine could read it: "
            "set MEMORIES_API_KEY or MEMORIES_CAPTION_KEY, or run memories-async config key"
        )
        return Exit.USAGE
    debug = "--debug" in tokens
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("memories_async").setLevel(logging.DEBUG)
    try:
        try:
            command, bound, _ = application().parse_args(
                tokens, exit_on_error=False, print_error=False
            )
        except CycloptsError as error:
            say(f"{_usage(error, tokens)} (see --help)")
            return Exit.USAGE
        return _call(command, bound)
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt.__context__, "__notes__", ()):
            say(note)
        say("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except (MemoriesError, OSError) as error:
        if debug:
            traceback.print_exception(error)
        say(str(error))
        return exit_for(error)


def _call(command: Callable[..., object], bound: inspect.BoundArguments) -> int:
    outcome = command(*bound.args, **bound.kwargs)
    if inspect.iscoroutine(outcome):
        outcome = asyncio.run(outcome)
    return outcome if isinstance(outcome, int) else Exit.DONE


def _usage(error: CycloptsError, tokens: Sequence[str]) -> str:
    """Say what is wrong with the arguments without repeating what may be a key."""
    error.verbose = False
    if isinstance(error, UnknownCommandError):
        # Its own text would import every command for their names.
        return f"there is no command {_KEY.sub('sk-…', (error.unused_tokens or [''])[0])!r}"
    if isinstance(error, UnusedCliTokensError):
        return f"{' '.join(error.command_chain or ())} takes fewer arguments"
    text = str(error).strip().rstrip(".")
    if error.command_chain and error.command_chain[0] == "config":
        for token in tokens[len(error.command_chain) :]:
            text = text.replace(token, "…")
    return _KEY.sub("sk-…", text)
