"""The commands as a table, and the way from the arguments to an exit status."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import cast, get_args

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
    ValidationError,
)

from memories_async._version import __version__
from memories_async.cli import without_extra
from memories_async.cli.checks import NoSuchOptionError, UnfitError, with_address
from memories_async.cli.exit_codes import Exit, exit_for
from memories_async.cli.interrupts import NotSentError, interrupts
from memories_async.cli.terminal.console import StdoutLost, console, on_a_line, printable
from memories_async.cli.terms import in_options
from memories_async.errors import MemoriesError

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("caption", "caption:caption", "Describe an image or a video, or many of them."),
    ("embed", "embed:embed", "Turn images into vectors."),
    ("index", "index:index", "Add images and videos to the library; resumable."),
    ("search", "search:search", "Search the library by words, by a picture, or one video by both."),
    ("upload", "upload:upload", "Upload one file and print its identifier."),
    ("list", "library:list_", "List the videos of the library."),
    ("download", "library:download", "Download a video of the library."),
    ("delete", "library:delete", "Delete videos of the library."),
    ("jobs", "jobs:app", "List, show, resume, retry, export, merge and remove jobs."),
    ("audit", "audit:audit", "Sum what should be on the bill, by a file of receipts."),
    ("config", "config:app", "Keep addresses and keys in named profiles."),
    ("doctor", "doctor:doctor", "Check the installation, the keys and the way to the service."),
)
"""Name, where it is, and its summary: a module is imported when its command is used."""

_KEY_OPTION = re.compile(r"--[\w-]*key(=|$)")
_KEY = re.compile(r"\bsk-[\w-]+")
_WANTED: Mapping[object, str] = {int: "a whole number", float: "a number"}


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
    for name, (_, summary) in without_extra.COMMANDS.items():
        # Only for the lists: main() has handed these on before anything is parsed here.
        parent = app
        for word in name.split():
            parent = parent.command(App(name=word, help=summary))
    app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]  # **kwargs
        help="Install completion for the shell you are in."
    )
    return app


def command(tokens: Sequence[str]) -> Callable[[], int]:
    """Parse the arguments, and return the command that they ask for, loaded."""
    console.prepare()
    tokens = with_address(tokens)
    if any(_KEY_OPTION.match(token) for token in tokens):
        return functools.partial(
            _refuse,
            "a key is never an argument, where every user of this machine could read it: "
            "set MEMORIES_API_KEY or MEMORIES_CAPTION_KEY, or run memories-async config key",
        )
    try:
        asked, bound, _ = application().parse_args(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return functools.partial(_refuse, f"{_usage(error, tokens)} (see --help)")
    return functools.partial(_run, asked, bound, debug="--debug" in tokens)


def _refuse(message: str) -> int:
    console.say(message)
    return Exit.USAGE


def _run(asked: Callable[..., object], bound: inspect.BoundArguments, *, debug: bool) -> int:
    """Run a command and return the exit status."""
    if debug:
        _log()
    status = _status_of(functools.partial(asked, *bound.args, **bound.kwargs), debug=debug)
    if console.blocked:
        os._exit(status)  # the interpreter would flush stdout, and wait for its reader for ever
    return status


def _status_of(asked: Callable[[], object], *, debug: bool) -> int:
    try:
        outcome = asked()
        if inspect.iscoroutine(outcome):
            outcome = asyncio.run(interrupts.run(outcome))
        return outcome if isinstance(outcome, int) else Exit.DONE
    except (KeyboardInterrupt, asyncio.CancelledError, NotSentError) as interrupt:
        return _interrupted(interrupt)
    except StdoutLost as error:
        return console.give_up(error)
    except SystemExit:  # what rich, which prints the help, makes of a broken pipe
        return Exit.READER_GONE
    except (MemoriesError, OSError) as error:
        if debug:
            _print_traceback(error)
        console.say(in_options(str(error)))
        return exit_for(error)


def _interrupted(interrupt: BaseException) -> Exit:
    """Say what is known of a command that was aborted: its notes tell what may have been billed."""
    notes: list[str] = []
    error: BaseException | None = interrupt
    while error is not None:
        notes += getattr(error, "__notes__", ())
        error = error.__context__
    # Of a call that is free, the notes say no more than of one that costs money.
    for note in notes if interrupts.may_be_billed else ():
        console.say(note)
    console.say("interrupted")
    unknown = notes and interrupts.may_be_billed
    return Exit.UNKNOWN if unknown else interrupts.status or Exit.INTERRUPTED


def _usage(error: CycloptsError, tokens: Sequence[str]) -> str:
    """Say what is wrong with the arguments without repeating what may be a key."""
    error.verbose = False
    text = str(error).strip().rstrip(".")
    match error:
        case UnknownCommandError():
            # Its own text would import every command for their names.
            text = f"there is no command {(error.unused_tokens or [''])[0]!r}"
        case UnusedCliTokensError():
            return f"{' '.join(error.command_chain or ())} takes fewer arguments"
        case MissingArgumentError(argument=argument) if argument is not None:
            lacks = "is required" if error.keyword is None else "needs a value"
            text = f"{argument.name} {lacks}"
        case CoercionError(token=token, target_type=kind) if token is not None:
            choices = get_args(kind) or [member.value for member in _members(kind)]
            wanted = f"one of {', '.join(map(str, choices))}" if choices else _WANTED.get(kind, "")
            name = token.keyword or (error.argument.name if error.argument else "")
            said = f"{wanted or 'something else'} is wanted" if error.msg is None else error.msg
            text = f"{name} is {token.value!r}; {said}"
        case ValidationError(argument=argument) if argument is not None:
            cause = error.__cause__
            unfit = str(cause.value) if isinstance(cause, UnfitError) else None
            first = argument.tokens[0]
            token = next((one for one in argument.tokens if one.value == unfit), first)
            text = f"{token.keyword or argument.name} is {token.value!r}; {cause}"
            if isinstance(cause, NoSuchOptionError):
                text = f"there is no option {cause}"
        case _:
            pass
    if error.command_chain and error.command_chain[0] == "config":
        for given in filter(None, tokens[len(error.command_chain) :]):
            text = text.replace(given, "…")
    return _KEY.sub("sk-…", text)


def _members(kind: object) -> Sequence[enum.Enum]:
    return list(cast("type[enum.Enum]", kind)) if isinstance(kind, enum.EnumType) else []


# --- what --debug shows -----------------------------------------------------------------------


class _Printable(logging.Formatter):
    """Makes a line of each message: an answer in it may neither steer nor forge."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        return on_a_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return console.hidden(printable(super().format(record)))


def _log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("memories_async").setLevel(logging.DEBUG)


def _print_traceback(error: BaseException) -> None:
    """Show where an error came from; what it says is a line, and is not obeyed."""
    for entry in traceback.TracebackException.from_exception(error).format():
        of_python = entry.startswith(("  ", "\n", "Traceback"))
        shown = printable(entry) if of_python else f"{on_a_line(entry.rstrip())}\n"
        console.write_error(shown)
