"""Ctrl-C, SIGTERM and SIGHUP: the first lets what may be billed end, the second aborts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import interruptible, interrupts
from memories_async.emulator import Emulator, Hang, HttpResponse, InjectedFault
from tests.cli.terminal import COMMAND, PATIENCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals are POSIX's")

SIGNALS = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.HUNG_UP,
}
AN_HOUR = 3600.0
"""Which an answer takes until the emulator's clock is turned on: nothing is over too early."""
EACH_SIGNAL = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


def in_flight(emulator: Emulator, count: int) -> bool:
    return sum(entry.complete for entry in emulator.ledger) >= count


def is_held(emulator: Emulator) -> bool:
    """Tell whether the service has the call, and answers it once an hour has passed."""
    return in_flight(emulator, 1) and emulator.clock.waiting == 1


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("caption", signal.SIGINT),
        ("embed", signal.SIGTERM),
        ("upload", signal.SIGHUP),
        ("search", signal.SIGTERM),
    ],
)
def test_the_first_signal_lets_a_call_end(
    account: Emulator, process, image: Path, number: signal.Signals, command: str
):
    account.faults.add(InjectedFault(None, None, moment="body", latency=AN_HOUR))
    arguments = {
        "caption": ("caption", image, "-p", "What?"),
        "embed": ("embed", image),
        "upload": ("upload", image),
        "search": ("search", "-i", image),
    }[command]
    one = process(*arguments, "--json")
    wait_until(lambda: is_held(account))
    one.send(number)
    one.read_until("the call under way is let end; once more aborts")
    account.clock.advance(AN_HOUR)
    status, out, err = one.end()
    assert status == Exit.DONE
    assert "Traceback" not in err
    assert out.count("\n") == 1 or command == "search"
    assert account.ledger.billed() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_aborts(account: Emulator, process, image: Path, number: signal.Signals):
    account.faults.add(InjectedFault(None, Hang()))
    one = process("caption", image, "-p", "What?")
    wait_until(lambda: in_flight(account, 1))
    one.send(number)
    one.read_until("once more aborts")
    one.send(number)
    status, out, err = one.end()
    assert (status, out) == (Exit.UNKNOWN, "")
    assert "it may have been billed" in err
    assert "Traceback" not in err


@EACH_SIGNAL
def test_before_anything_is_sent_the_first_signal_ends_it(
    account: Emulator, process, tmp_path: Path, number: signal.Signals
):
    """While a video is uploaded, nothing is billed yet: there is nothing to wait for."""
    account.faults.add(InjectedFault("library.videos", Hang()))
    one = process("list")
    wait_until(lambda: len(account.ledger) == 1)
    one.send(number)
    status, out, err = one.end()
    assert (status, out) == (SIGNALS[number], "")
    assert err.splitlines() == ["memories-async: interrupted"]


def test_after_a_signal_nothing_is_sent_again(account: Emulator, process, image: Path):
    """A throttled call would go out a second time: not once it was told to end."""
    throttled = HttpResponse(status=429, headers={"Retry-After": "2"}, body=b"{}")
    account.faults.add(InjectedFault(None, throttled, moment="body", latency=AN_HOUR, times=1))
    one = process("embed", image)
    wait_until(lambda: is_held(account))
    one.send(signal.SIGTERM)
    one.read_until("the call under way is let end")
    account.clock.advance(AN_HOUR)
    status, out, _ = one.end()
    assert (status, out) == (Exit.TERMINATED, "")
    assert len(account.ledger) == 1


def test_a_wait_that_is_ended_keeps_the_number_that_was_paid(
    account: Emulator, process, video: Path
):
    account.faults.add(InjectedFault("library.videos", Hang(), times=None))
    account.faults.add(InjectedFault("library.video", Hang(), times=None))
    one = process("upload", video, "--wait", "--json")
    one.read_until("waiting until it can be searched")
    one.send(signal.SIGTERM)
    status, out, _ = one.end()
    assert status == Exit.TERMINATED
    assert json.loads(out)["video_no"].startswith("VI")


def test_what_nohup_ignores_stays_ignored(account: Emulator, image: Path):
    account.faults.add(InjectedFault(None, None, moment="body", latency=0.5))
    command = 'trap "" HUP; exec "$@"'
    one = subprocess.Popen(
        ["sh", "-c", command, "sh", *COMMAND, "embed", str(image), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: in_flight(account, 1))
    one.send_signal(signal.SIGHUP)
    out, err = one.communicate(timeout=PATIENCE)
    assert one.returncode == 0
    assert json.loads(out)["status"] == "done"
    assert b"let end" not in err


@EACH_SIGNAL
def test_a_signal_at_a_question(emulator: Emulator, terminal, image: Path, number: signal.Signals):
    one = terminal("embed", image, MEMORIES_BASE_URL=emulator.url)
    one.read_until("api_key for memories.ai (not shown):")
    one.send(number)
    status, shown = one.end()
    assert status == SIGNALS[number]
    assert "Traceback" not in shown
    assert len(emulator.ledger) == 0


@EACH_SIGNAL
def test_a_signal_that_interrupts_no_read_ends_a_question(number: signal.Signals):
    """One that comes just before the read is noted, as one that another thread takes."""
    asking = threading.get_native_id()
    reading, writing = os.pipe()
    ended = threading.Event()
    answers: list[int] = []

    def take_the_signal() -> None:
        wait_until(lambda: "pipe_read" in Path(f"/proc/self/task/{asking}/wchan").read_text())
        signal.pthread_kill(threading.get_ident(), number)
        if not ended.wait(20):
            answers.append(os.write(writing, b"y"))

    taker = threading.Thread(target=take_the_signal)
    descriptors = len(os.listdir("/proc/self/fd"))
    taker.start()
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            os.read(reading, 1)
    finally:
        ended.set()
        taker.join()
        os.close(writing)
        os.close(reading)
    assert not answers
    assert interrupts.status == SIGNALS[number]
    assert len(os.listdir("/proc/self/fd")) == descriptors - 2


def test_a_question_that_is_answered_leaves_signals_as_they_were():
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        during = [signal.getsignal(number) for number in SIGNALS]
        inner = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(inner)
    assert all(one not in before for one in during)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1 != inner
    assert "memories-async-signals" not in {thread.name for thread in threading.enumerate()}


def test_a_signal_while_names_are_read(account: Emulator, process, home: Path):
    reading, writing = os.pipe()
    one = subprocess.Popen([*COMMAND, "embed", "-"], stdin=reading, stderr=subprocess.PIPE)
    os.write(writing, b"one.png\n")
    wait_until(lambda: Path(f"/proc/{one.pid}/wchan").exists())
    threading.Event().wait(0.8)  # until Python has come to read
    one.send_signal(signal.SIGTERM)
    _, err = one.communicate(timeout=PATIENCE)
    os.close(reading)
    os.close(writing)
    assert one.returncode in (Exit.TERMINATED, -signal.SIGTERM)
    assert b"Traceback" not in err
    assert not list(home.rglob("*.sqlite"))
