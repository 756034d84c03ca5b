"""Every option of every command is checked by type and limit before anything is opened or sent."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cyclopts import App, Argument, CycloptsError, Token

from memories_async.cli.app import COMMANDS, application
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator
from tests.cli.conftest import Run

NO_TEXT = ("", " ", "\udcff", "a\x00b")
NO_FILE = ("", " ", "\t", "a\x00b")
NOT_PLAIN = ("1_0", "\u0661\u0660", " 1", "1 ")  # what Python takes for a number besides
NO_NUMBER = ("", " ", "abc", "nan", "inf", "-inf", "1,5", "0x10", *NOT_PLAIN)
NO_COUNT = ("", "abc", "0", "-1", "1.5", "1e3", "nan", "9" * 12, "9" * 5000, *NOT_PLAIN)
NO_DOLLARS = (*NO_NUMBER, "-0.01", "$5")
NO_FLAG = ("maybe", "2")
NO_ADDRESS = (*NO_TEXT, "a.png", "ftp://example.com/a.png", "https://", "https://a b")
NO_MOMENT = ("", "yesterday", "2025-9-7 22:52:00", "2025-09-07", "2025-09-07 25:00:00")

WRONG: dict[str, Sequence[str]] = {
    "--answer-timeout": (*NO_NUMBER, "0", "-1"),
    "--as": ("", "picture", "Image "),
    "--by": ("", "words"),
    "--callback-url": NO_ADDRESS,
    "--camera-model": (*NO_TEXT, "x" * 201),
    "--concurrency": (*NO_COUNT, "1001"),
    "--datetime-taken": NO_MOMENT,
    "--debug": NO_FLAG,
    "--dry-run": NO_FLAG,
    "--exclude": NO_TEXT,
    "--failed": ("", "skip"),
    "--force": NO_FLAG,
    "--image": NO_FILE,
    "--image-url": NO_ADDRESS,
    "--include": NO_TEXT,
    "--into": NO_FILE,
    "--job": NO_FILE,
    "--json": NO_FLAG,
    "--keyring": NO_FLAG,
    "--latitude": (*NO_NUMBER, "90.1", "-91"),
    "--live": NO_FLAG,
    "--limiter": (*NO_TEXT, "memory", "sqlite:", "http://example.com", "redis:localhost"),
    "--longitude": (*NO_NUMBER, "180.1", "-181"),
    "--max-cost": NO_DOLLARS,
    "--max-items": NO_COUNT,
    "--model": (*NO_TEXT, "clip"),
    "--name": NO_TEXT,
    "--null": NO_FLAG,
    "--output": (*NO_FILE, "out.xlsx", "out"),
    "--person": (*NO_TEXT, "Ann", "=http://example.com/a.png", "Ann=a.png"),
    "--price": NO_DOLLARS,
    "--profile": NO_TEXT,
    "--prompt": NO_TEXT,
    "--qa": NO_FLAG,
    "--quiet": NO_FLAG,
    "--rate": (*NO_TEXT, "0", "-1", "fast", "1/0", "1/2/3", "1.5", "nan", *NOT_PLAIN, "1/\u0663"),
    "--ray": ("", "10.0.0.1:", "http://10.0.0.1:1", "ray://", " "),
    "--reasoning-effort": ("", "0", "11", "-2", "1.5", "high", *NOT_PLAIN),
    "--record": NO_FILE,
    "--replay": NO_FILE,
    "--shard": (*NO_TEXT, "3", "0/3", "4/3", "a/b", "1/0", "1/1_0", "\u0661/\u0663"),
    "--similarity": (*NO_NUMBER, "-0.1", "1.1"),
    "--status": ("", "finished"),
    "--system-prompt": NO_TEXT,
    "--tag": NO_TEXT,
    "--thinking": NO_FLAG,
    "--together": NO_FLAG,
    "--top-k": (*NO_COUNT, "1001"),
    "--unique-id": NO_TEXT,
    "--unknown": ("", "resend"),
    "--verbose": NO_FLAG,
    "--video": NO_TEXT,
    "--video-url": NO_ADDRESS,
    "--wait": NO_FLAG,
    "--what": ("", "done"),
    "--yes": NO_FLAG,
}
POSITIONS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("caption",): ("one.png",),
    ("embed",): ("one.png",),
    ("index",): ("one.png",),
    ("search",): ("x",),
    ("upload",): ("one.png",),
    ("download",): ("VI1",),
    ("delete",): ("VI1",),
    ("audit",): ("receipts.jsonl",),
    ("jobs", "show"): ("job",),
    ("jobs", "resume"): ("job",),
    ("jobs", "retry"): ("job",),
    ("jobs", "export"): ("job", "out.jsonl"),
    ("jobs", "reconcile"): ("job",),
    ("jobs", "merge"): ("job",),
    ("jobs", "rm"): ("job",),
    ("config", "key"): ("api_key",),
    ("config", "set"): ("base_url", "https://example.com"),
    ("config", "remove"): ("default",),
}
REQUIRED = {("caption",): ("--prompt", "What?"), ("jobs", "merge"): ("--into", "all")}


def commands(app: App, *chain: str) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if name.startswith("-") or name in ("emulator", "callbacks"):
            continue
        command = app[name]
        below = list(commands(command, *chain, name))
        yield from below or [((*chain, name), command)]


def options() -> Iterator[tuple[tuple[str, ...], Argument]]:
    for chain, command in commands(application()):
        for argument in command.assemble_argument_collection(parse_docstring=False):
            if argument.field_info.is_keyword and argument.parse and not argument.children:
                yield chain, argument


def definition(argument: Argument) -> tuple[object, ...]:
    """Return what decides which values an option takes, wherever it stands."""
    parameter = argument.parameter
    return argument.name, repr(argument.hint), parameter.converter, parameter.validator


OPTIONS = {(chain, argument.name): argument for chain, argument in options()}
CASES = sorted(OPTIONS)
# A line that config refuses shows nothing of what it was given: the others' come last, and count.
DEFINED = {
    definition(OPTIONS[case]): case
    for case in sorted(CASES, key=lambda case: (case[0][0] != "config", case))
}
"""One command for each option's definition, wherever else it stands."""


def test_every_option_has_wrong_values_here():
    assert {name for _, name in CASES} == set(WRONG)
    assert len({chain[0] for chain, _ in CASES}) == len(COMMANDS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join((*case[0], case[1])))
def test_no_command_s_option_takes_a_wrong_value(case):
    argument = OPTIONS[case]
    for value in WRONG[argument.name]:
        argument.tokens.clear()
        argument.append(Token(keyword=argument.name, value=value))
        with pytest.raises(CycloptsError):
            argument.convert_and_validate()


@pytest.mark.parametrize(("chain", "name"), CASES, ids=lambda value: "-".join(value).strip("-"))
def test_a_wrong_value_is_refused_by_name(
    account: Emulator, run: Run, image: Path, home: Path, monkeypatch, capsys, chain, name
):
    """On a whole line: each value at one command for each definition, elsewhere one.

    That each command's own takes none of the others is asked above: a line takes some 15 ms.
    """
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    whole = DEFINED[definition(OPTIONS[chain, name])] == (chain, name)
    required = () if name in REQUIRED.get(chain, ()) else REQUIRED.get(chain, ())
    for value in WRONG[name] if whole else WRONG[name][-1:]:
        status = run(*chain, *POSITIONS.get(chain, ()), *required, f"{name}={value}")
        out, err = capsys.readouterr()
        assert (status, out) == (Exit.USAGE, ""), value
        (line,) = err.splitlines()
        assert name in line, value
        if chain[0] != "config" and value.isprintable():  # where it might be a key
            assert repr(value)[1:-1] in line, (value, line)
    assert len(account.ledger) == 0
    assert list(home.rglob("*.*")) == []


def test_a_number_that_is_too_large_is_said_to_be(run: Run, capsys: pytest.CaptureFixture[str]):
    assert run("embed", "x.png", "--max-cost", "10000000000") == Exit.USAGE
    assert "at most 1,000,000,000 is wanted" in capsys.readouterr().err
