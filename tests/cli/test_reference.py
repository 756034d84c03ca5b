"""The command line's reference is true: its examples run, and its tables are whole."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import memories_async
from memories_async.cli.app import COMMANDS
from memories_async.cli.exit_codes import Exit
from memories_async.cli.without_extra import COMMANDS as WITHOUT_EXTRA
from memories_async.emulator import Emulator
from tests import forks
from tests.cli.conftest import MP4, PNG
from tests.cli.test_options import CASES, commands

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shell is POSIX's")

REFERENCE = (Path(memories_async.__file__).parent / "cli/README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_example_runs(account: Emulator, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0" + PNG + name.encode())
    (tmp_path / "film.mp4").write_bytes(MP4)
    arguments, passed = forks.relayed(["-m", "memories_async"])
    command = shlex.join(arguments)
    for block in BLOCKS:
        for line in block.splitlines():
            text = f'memories-async() {{ {command} "$@"; }}\n{line}'
            ended = subprocess.run(
                ["bash", "-c", text], capture_output=True, text=True, check=False, pass_fds=passed
            )
            allowed = (0, 1) if "test $?" in line else (0,)  # the test says that nothing is left
            assert ended.returncode in allowed, (line, ended.stderr)
            assert "Traceback" not in ended.stderr


def test_every_exit_status_is_in_the_table():
    statuses = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", REFERENCE, re.MULTILINE)
                for number in row.split(",")}  # fmt: skip
    assert statuses == {int(status) for status in Exit}


def test_every_command_is_in_the_table():
    rows = re.findall(r"^\| (`.*?) \|", REFERENCE, re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"[a-z]+", row)}
    names = {name for chain, _ in commands_of() for name in chain}
    assert names | {word for name in WITHOUT_EXTRA for word in name.split()} <= named
    assert {name for name, _, _ in COMMANDS} <= named


def test_every_option_that_is_named_exists():
    known = {name for _, name in CASES} | {"--help", "--version", "--install-completion"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", REFERENCE)) <= known


def commands_of() -> list[tuple[tuple[str, ...], object]]:
    from memories_async.cli.app import application

    return list(commands(application()))
