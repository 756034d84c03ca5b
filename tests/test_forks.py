"""A program that is forked lives and ends as one that is started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests import forks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all are started")

PROGRAM = """
import asyncio, atexit, json, os, signal, sys, threading

class Last:
    def __del__(self):
        os.write(1, b"taken apart\\n")

def tell():
    return {
        "name": __name__,
        "spec": __spec__ and __spec__.name,
        "package": __package__,
        "loader": str(__loader__).split(" object")[0],
        "file": globals().get("__file__"),
        "main": sys.modules["__main__"].__dict__ is globals(),
        "arguments": sys.argv,
        "path": sys.path[0],
        "folder": os.getcwd(),
        "environment": dict(sorted(os.environ.items())),
        "home": os.path.expanduser("~"),
        "threads": [thread.name for thread in threading.enumerate()],
        "tasks": len(os.listdir("/proc/self/task")),
        "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wakeup": signal.set_wakeup_fd(-1),
        "loop": asyncio._get_running_loop() is None,
        "session": os.getsid(0) == os.getpid(),
        "group": os.getpgrp() == os.getpid(),
        "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
        "streams": [
            (one.fileno(), one.encoding, one.errors, one.line_buffering)
            for one in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "flags": [sys.flags.dev_mode, sys.warnoptions],
        "read": sys.stdin.read(),
    }

kept = Last()
atexit.register(print, "at exit")
print(json.dumps(tell()), flush=True)
match sys.argv[1]:
    case "ends": pass
    case "three": sys.exit(3)
    case "words": sys.exit("words")
    case "error": raise ValueError("wrong")
    case "interrupt": os.kill(os.getpid(), signal.SIGINT); signal.pause()
    case "kill": os.kill(os.getpid(), signal.SIGKILL)
    case "thread": threading.Thread(target=print, args=["thread"]).start()
"""
OPTIONS = ("-X", "dev", "-W", "error")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def started(
    arguments: Iterable[str], folder: Path, env: Mapping[str, str], given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Return what became of a program that an interpreter of its own ran."""
    command = [sys.executable, *OPTIONS, *arguments]
    return subprocess.run(
        command, env=env, cwd=folder, input=given, capture_output=True, check=False
    )


PROGRAMS = {"module": ("-m", "program"), "file": ("program.py",), "text": ("-c", PROGRAM)}
ENDS = ("ends", "three", "words", "error", "interrupt", "kill", "thread")


@pytest.mark.parametrize(
    ("how", "program"),
    [
        pytest.param(
            how,
            PROGRAMS[name],
            id=f"{how}-{name}",
            marks=[] if name == "module" or how == "ends" else pytest.mark.slow,
        )
        for how in ENDS
        for name in PROGRAMS
    ],
)
def test_a_fork_is_as_what_is_started(folder: Path, how: str, program: tuple[str, ...]) -> None:
    env = {**os.environ, "HOME": "/nowhere", "ONE": "w\udcffrd"}
    arguments = [*program, how, "\u00e9"]
    reading, writing = os.pipe()
    os.write(writing, b"what is given\n")
    os.close(writing)
    with open(reading, "rb") as given:
        forked = forks.start(arguments, options=OPTIONS, env=env, cwd=folder, stdin=given.fileno())
        assert isinstance(forked, forks.Forked)
        out, err = forked.communicate(timeout=60)
    there = started(arguments, folder, env, b"what is given\n")
    told, *last = out.splitlines()
    told_there, *last_there = there.stdout.splitlines()
    assert json.loads(told) == json.loads(told_there)
    assert last == last_there
    assert forked.wait() == there.returncode
    assert err.splitlines()[-1:] == there.stderr.splitlines()[-1:]


def test_a_fork_gets_signals_and_its_number_stays_its_own(folder: Path) -> None:
    (folder / "waits.py").write_text("import signal; print(1, flush=True); signal.pause()")
    forked = forks.start(["-m", "waits"], options=OPTIONS, cwd=folder)
    assert forked.stdout is not None
    assert forked.stdout.readline() == b"1\n"
    assert forked.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    forked.send_signal(signal.SIGTERM)
    assert forked.wait(60) == -signal.SIGTERM
    assert Path(f"/proc/{forked.pid}").exists()
    forked.kill()
    assert forked.communicate(timeout=60)[0] == b""
    assert forked.poll() == -signal.SIGTERM


def test_what_an_interpreter_reads_at_its_start_has_one_started(folder: Path) -> None:
    env = {**os.environ, "PYTHONDEVMODE": "1"}
    process = forks.start(["-m", "program", "ends"], cwd=folder, env=env)
    assert isinstance(process, subprocess.Popen)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out.splitlines()[0])["flags"][0]


@pytest.mark.parametrize("variables", [{}, {"PYTHONDEVMODE": "1"}], ids=["forked", "started"])
def test_what_is_written_is_there(folder: Path, variables: dict[str, str]) -> None:
    env = {**os.environ, **variables}
    said = "import sys; sys.stdout.write(sys.stdin.readline())"
    process = forks.start(["-c", said], env=env, cwd=folder, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"an order\n")
    there, _, _ = select.select([process.stdout], [], [], 60)
    out, _ = process.communicate(timeout=60)
    assert there
    assert out == b"an order\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252:", "latin-1:replace", ":ignore", ":"])
def test_the_streams_are_encoded_as_the_environment_says(folder: Path, encoding: str) -> None:
    program, env = ["-m", "program", "ends"], {**os.environ, "PYTHONIOENCODING": encoding}
    forked = forks.start(program, options=OPTIONS, cwd=folder, env=env)
    assert isinstance(forked, forks.Forked)
    out, _ = forked.communicate(timeout=60)
    there = started(program, folder, env).stdout
    assert json.loads(out.splitlines()[0]) == json.loads(there.splitlines()[0])


def test_a_program_s_words_and_status_are_as_of_what_is_started(folder: Path) -> None:
    (folder / "tells.py").write_text("import sys; print(1); sys.exit('two')")
    done = forks.completed(["tells.py"], options=OPTIONS, cwd=folder, env=forks.least())
    assert (done.returncode, done.stdout, done.stderr) == (1, "1\n", "two\n")


@pytest.mark.parametrize(
    ("ending", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_a_shell_has_a_program_forked(folder: Path, ending: str, status: int) -> None:
    told = "sys.argv[1:], sys.stdin.read(), os.environ['ONE']"
    (folder / "tells.py").write_text(f"import os, sys; print({told}, flush=True); {ending}")
    command, passed = forks.relayed(["tells.py", "a b"])
    line = 'printf read | ONE=1 "$@" | tr a-z A-Z; exit ${PIPESTATUS[1]}'
    ended = subprocess.run(
        ["bash", "-c", line, "bash", *command],
        cwd=folder,
        capture_output=True,
        check=False,
        pass_fds=passed,
    )
    assert passed
    assert (ended.returncode, ended.stdout) == (status, b"['A B'] READ 1\n")


def test_a_program_that_takes_too_long_is_ended(folder: Path) -> None:
    (folder / "waits.py").write_text("import signal; signal.pause()")
    with pytest.raises(subprocess.TimeoutExpired):
        forks.completed(["waits.py"], options=OPTIONS, cwd=folder, timeout=0.01)
