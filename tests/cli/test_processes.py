"""The command line as people and scripts meet it: a process at a terminal, or with pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memories_async import __version__
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator, Hang
from memories_async.emulator import InjectedFault as Fault
from tests.cli.conftest import CAPTION_KEY, KEY
from tests.cli.terminal import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def test_help_answers_fast():
    """By what is loaded, which is the same on a machine that is busy with something else."""
    code = "import sys; from memories_async.cli import main; main(['--help']); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "caption" in ended.stdout
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert not loaded & {
        "aiohttp",
        "anyio",
        "numpy",
        "orjson",
        "sqlite3",
        "tomlkit",
        "rich.markdown",
    }


def test_video_at_a_terminal(account: Emulator, terminal, video: Path):
    status, shown = terminal("caption", video, "--prompt", "What happens?").end()
    assert status == 0
    assert "waiting for the answer" in shown
    assert "derived from a hash" in shown
    assert account.ledger.billed("captions.video") == 1


def test_video_with_pipes(account: Emulator, process, video: Path):
    status, out, err = process("caption", video, "-p", "What happens?", "--json").end()
    assert status == 0
    (row,) = map(json.loads, out.splitlines())
    assert row["source"] == str(video)
    assert row["status"] == "done"
    assert row["input_tokens"] > 0
    assert err.splitlines()[-1].endswith("100% · 0.3 of 0.3 MB sent · waiting for the answer")
    assert "\x1b" not in err


def test_ctrl_c_while_the_service_thinks(account: Emulator, terminal, video: Path):
    account.faults.add(Fault("captions.video", Hang()))
    process = terminal("caption", video, "-p", "What happens?")
    process.read_until("waiting for the answer")
    # All that is written may still lie in the socket: by then both could be gone.
    wait_until(lambda: any(entry.complete for entry in account.ledger))
    process.type("\x03")
    process.read_until("the call under way is let end; once more aborts")
    process.type("\x03")
    status, shown = process.end()
    assert status == Exit.UNKNOWN
    assert "it may have been billed" in shown
    assert "Traceback" not in shown
    assert len(account.ledger) == 1


def test_key_is_asked_for_unseen(emulator: Emulator, terminal, image: Path):
    process = terminal("embed", image, MEMORIES_BASE_URL=emulator.url)
    process.read_until("api_key for memories.ai (not shown):")
    process.type(f"{KEY}\n")
    status, shown = process.end()
    assert status == 0
    assert "SENTINEL" not in shown
    assert emulator.ledger.billed("embeddings.image") == 1


def test_ctrl_c_at_the_prompt(emulator: Emulator, terminal, image: Path):
    process = terminal("embed", image, MEMORIES_BASE_URL=emulator.url)
    process.read_until("api_key for memories.ai (not shown):")
    process.type("\x03")
    status, shown = process.end()
    assert status == 130
    assert shown.splitlines()[-1] == "memories-async: interrupted"
    assert len(shown.splitlines()) == 2


def test_no_colour_when_asked(account: Emulator, terminal, video: Path):
    _, coloured = terminal("caption", video, "-p", "What?").end()
    _, plain = terminal("caption", video, "-p", "What?", NO_COLOR="1").end()
    assert "\x1b[3" in coloured
    assert "\x1b[3" not in plain
    assert CAPTION_KEY not in coloured + plain


@pytest.mark.parametrize("module", ["memories_async", "memories_async.cli"])
def test_the_package_is_the_command_line(module: str):
    command = [sys.executable, "-W", "error", "-m", module, "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == (f"{__version__}\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_version_that_cannot_be_printed_is_a_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "memories_async.cli", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == Exit.FAILED
    [line] = done.stderr.splitlines()
    assert line.startswith("memories-async: stdout cannot be written: ")
