"""Nothing paid is lost to printing, and nothing that is printed steers or forges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memories_async.cli.exit_codes import Exit
from memories_async.cli.terminal.console import Console, on_a_line, one_line, printable, width_of
from memories_async.emulator import Emulator, Hang, HttpResponse, InjectedFault
from tests import forks
from tests.cli.conftest import KEY, PNG, Run
from tests.cli.terminal import COMMAND, MODULE, OPTIONS, PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shell is POSIX's")

CAPTION = "Café 東京 \U0001f600"


def answer(text: str) -> HttpResponse:
    return HttpResponse(body=json.dumps({"code": 0, "data": {"text": text}}).encode())


def shell(line: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``memories-async ARGUMENTS`` where a line of shell says ``"$@"``.

    It is started where a stream is closed, as only an interpreter finds at its start.
    """
    command, passed = (
        ([*COMMAND, *map(str, arguments)], ())
        if "&-" in line
        else forks.relayed([*MODULE, *map(str, arguments)], options=OPTIONS)
    )
    return subprocess.run(
        ["sh", "-c", line, "sh", *command],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
        timeout=PATIENCE,
        pass_fds=passed,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("how", ["text", "json"])
def test_a_paid_caption_is_printed_in_every_encoding(
    account: Emulator, image: Path, encoding: str, how: str
):
    account.faults.add(InjectedFault(None, answer(CAPTION)))
    arguments = ["caption", image, "-p", "What?", "--quiet", *(["--json"] if how == "json" else [])]
    ended = shell('"$@"', *arguments, PYTHONIOENCODING=encoding)
    assert (ended.returncode, ended.stderr) == (0, b"")
    shown = ended.stdout.decode(encoding)
    if how == "json":
        assert json.loads(shown)["text"] == CAPTION
    else:
        assert shown.encode(encoding).decode("unicode_escape" if encoding != "utf-8" else encoding)
        assert "Caf" in shown
        assert ("\\u6771" in shown) == (encoding != "utf-8")


def test_names_on_stderr_are_shown_in_every_encoding(account: Emulator, image: Path):
    named = image.rename(image.with_name("東京\udcff.png"))
    ended = shell('"$@"', "embed", named, PYTHONIOENCODING="ascii:strict")
    assert ended.returncode == 0
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('"$@" >/dev/full', Exit.FAILED),
        ('"$@" >&-', Exit.FAILED),
        ('{ "$@"; echo $? >status; } | true', Exit.READER_GONE),
    ],
)
def test_a_paid_result_that_cannot_be_printed_is_kept(
    account: Emulator, image: Path, home: Path, line: str, status: int
):
    account.faults.add(InjectedFault(None, answer(CAPTION)))
    if "status" in line:
        line = line.replace('"$@"', 'sleep 0.3; "$@"')  # until the reader has gone
    ended = shell(line, "caption", image, "-p", "What?")
    assert (Path("status").read_text() if "status" in line else str(ended.returncode)).strip() == (
        str(int(status))
    )
    kept = home / "state/memories-async/unprinted.jsonl"
    assert str(kept) in ended.stderr.decode()
    assert json.loads(kept.read_text())["text"] == CAPTION
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"Traceback" not in ended.stderr
    assert b"Exception ignored" not in ended.stderr


def test_a_reader_of_stderr_that_goes_away_does_not_stop_a_job(
    account: Emulator, images: Path, run: Run, capsys
):
    """The line that used to end it: one line of progress is read, and then nobody reads."""
    ended = shell('{ "$@"; echo $? >status; } 2>&1 >/dev/null | head -1', "embed", images, "--json")
    assert ended.stdout.count(b"\n") == 1
    assert Path("status").read_text().strip() == "0"
    assert account.ledger.billed() == 5


def test_both_streams_gone(account: Emulator, images: Path):
    ended = shell('"$@" >&- 2>&-; echo $? >status', "embed", images)
    assert ended.stdout + ended.stderr == b""
    assert Path("status").read_text().strip() == str(int(Exit.FAILED))
    assert account.ledger.billed() >= 1  # nobody wants the others: it ends as at a signal


def test_no_stream_at_all_keeps_files_from_its_number(account: Emulator, images: Path, home: Path):
    ended = shell('"$@" <&- >&- 2>&-; echo $? >status', "embed", images, "--output", "out.jsonl")
    assert ended.returncode == 0
    assert Path("status").read_text().strip() == "0"
    assert len(Path("out.jsonl").read_text().splitlines()) == 5


def test_a_reader_of_results_that_goes_away_ends_a_job_that_resumes(
    account: Emulator, images: Path, run: Run, home: Path, capsys
):
    for number in range(20):
        (images / f"more-{number}.png").write_bytes(PNG + b"more" + bytes([number]))
    line = '{ "$@"; echo $? >status; } | head -1'
    ended = shell(line, "embed", images, "--json", "--concurrency", "1")
    assert json.loads(ended.stdout)["status"] == "done"
    assert b"Traceback" not in ended.stderr
    assert int(Path("status").read_text()) in (Exit.READER_GONE, Exit.DONE)
    (job,) = (home / "state/memories-async/jobs").glob("*.sqlite")
    assert run("jobs", "resume", job) == Exit.DONE
    assert account.ledger.billed() == 25


def test_help_for_a_reader_that_goes_away():
    ended = shell('{ sleep 0.3; "$@"; echo $? >status; } | true', "--help")
    assert ended.stderr == b""
    assert Path("status").read_text().strip() == str(int(Exit.READER_GONE))


def test_a_slow_reader_does_not_hold_up_the_calls(account: Emulator, images: Path, tmp_path: Path):
    """A pipe holds some 64 KB, and each of these rows 30: nobody reads until all are paid."""
    for number in range(20):
        (images / f"more-{number}.png").write_bytes(PNG + b"more" + bytes([number]))
    process = forks.start([*MODULE, "embed", str(images), "--json", "--quiet"], options=OPTIONS)
    deadline = time.monotonic() + PATIENCE
    while account.ledger.billed() < 25:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert sorted(json.loads(row)["id"] for row in out.splitlines()) == list(range(1, 26))


def _until_taken(process: forks.Started, number: signal.Signals) -> None:
    """Wait until a signal is no longer pending: a second one of its number would be none."""
    deadline = time.monotonic() + PATIENCE
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            return
        if not int(fields["ShdPnd"], 16) >> (number - 1) & 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_signals_reach_a_command_whose_reader_takes_nothing(account: Emulator, images: Path):
    for number in range(20):
        (images / f"more-{number}.png").write_bytes(PNG + b"more" + bytes([number]))
    process = forks.start([*MODULE, "embed", str(images), "--json"], options=OPTIONS)
    deadline = time.monotonic() + PATIENCE
    while account.ledger.billed() < 25:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        _until_taken(process, signal.SIGTERM)
    # The last calls are billed, which is not to say that their answers have been read.
    assert process.wait(PATIENCE) in (Exit.DONE, Exit.TERMINATED, Exit.UNKNOWN)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.communicate()


FORGED = "a cat\nother.png: done: a dog\r\nmemories-async: all is well\x1b[2J\u2028\u2066x"


def test_captions_forge_no_line(account: Emulator, run: Run, images: Path, home: Path, capsys):
    account.faults.add(InjectedFault(None, answer(FORGED), times=None))
    assert run("caption", images, "--as", "image", "-p", "What?") == 0
    out = capsys.readouterr().out
    assert len(out.split("\n")) == 6
    assert all(line.startswith(str(images)) for line in out.splitlines())
    assert "\x1b" not in out
    (job,) = (home / "state/memories-async/jobs").glob("*.sqlite")
    assert run("jobs", "show", job.stem) == 0
    assert len(capsys.readouterr().out.split("\n")) == 6


def test_names_forge_no_line(account: Emulator, run: Run, images: Path, capsys):
    (images / "0.png").rename(images / "0\nmemories-async: all is well\x1b[2J.png")
    assert run("embed", images) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert not any(line.startswith("memories-async") for line in out.splitlines())
    assert "\x1b" not in out + err


def test_an_error_forges_no_line(account: Emulator, run: Run, image: Path, capsys):
    body = json.dumps({"code": "0001", "msg": FORGED, "data": None}).encode()
    account.faults.add(InjectedFault(None, HttpResponse(status=400, body=body)))
    named = image.rename(image.with_name("a\nb.png"))
    assert run("embed", named, "--quiet") == Exit.FAILED
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "\x1b" not in err


def test_debug_shows_answers_and_does_not_obey_them(account: Emulator, process, image: Path):
    body = json.dumps({"code": "0001", "msg": f"{FORGED} {KEY}", "data": None}).encode()
    account.faults.add(InjectedFault(None, HttpResponse(status=400, body=body)))
    status, _, err = process("embed", image, "--debug", "--quiet").end()
    assert status == Exit.FAILED
    assert "Traceback (most recent call last)" in err
    assert "\x1b" not in err
    assert "\u2066" not in err
    assert not any(line.startswith("other.png") for line in err.splitlines())
    assert [line for line in err.splitlines() if line.startswith("memories-async: all")] == []


@pytest.mark.parametrize("echo", ["plain", "slashes", "unicode", "both"])
def test_a_key_that_comes_back_is_not_shown(
    account: Emulator, process, run: Run, image: Path, echo: str, capsys, monkeypatch
):
    """However JSON writes it: in a caption, in a field nobody knows, in an error, in the log."""
    key = "sk-caption/SENTINEL=0123456789abcdef"
    written = {
        "plain": key,
        "slashes": key.replace("/", "\\/"),
        "unicode": key.replace("=", "\\u003d"),
        "both": "".join(f"\\u{ord(sign):04x}" for sign in key),
    }[echo]
    caption = f'{{"code":0,"data":{{"text":"a {written}","more":{{"{written}":["{written}"]}}}}}}'
    error = f'{{"code":"0001","msg":"bad {written}","data":null}}'
    for body, status in ((caption, 200), (error, 400)):
        for how in ((), ("--json", "--debug")):
            raw = HttpResponse(status=status, body=body.encode())
            account.faults.add(InjectedFault(None, raw))
            arguments = ("caption", image, "-p", "What?", *how)
            if echo == "both":
                _, out, err = process(*arguments, MEMORIES_CAPTION_KEY=key).end()
            else:
                monkeypatch.setenv("MEMORIES_CAPTION_KEY", key)
                run(*arguments)
                out, err = capsys.readouterr()
            shown = out + err + out.encode().decode("unicode_escape", "replace")
            assert "SENTINEL" not in shown
            assert "Traceback" not in out


@pytest.mark.parametrize(
    "sign", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x9b", "\u061c", "\u200e", "\u202e", "\u2028"]
)
def test_signs_that_steer_are_replaced(sign: str):
    assert printable(f"a{sign}b") == "a\ufffdb"
    assert sign not in one_line(f"a{sign}b")
    assert on_a_line(f"a\n\t{sign}b") == "a\ufffd\ufffd\ufffdb"


def test_text_that_is_no_unicode_can_be_printed():
    assert printable("a\udcffb") == "a\\udcffb"


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("東京", 4), ("e\u0301", 1), ("", 0)])
def test_widths(text: str, width: int):
    assert width_of(text) == width


def test_interrupted_before_anything_is_loaded(account: Emulator, image: Path):
    """At moments all over the loading of modules: never a traceback, and never a call."""
    account.faults.add(InjectedFault(None, Hang(), times=None))
    python, *options = COMMAND
    for number in range(12):
        process = subprocess.Popen(
            [python, "-X", "importtime", *options, "embed", str(image)], stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        # Each module that is loaded writes a line. What Python itself does before it comes to us
        # is not ours to mend.
        while b"memories_async.cli.without_extra" not in (line := process.stderr.readline()):
            assert line, "it ended before"
        for _ in range(10 * number):
            process.stderr.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert b"Traceback" not in err
        assert process.returncode in (Exit.INTERRUPTED, Exit.UNKNOWN, -signal.SIGINT)
    assert not account.ledger.billed()


ALONE = """
import os
from memories_async.cli.terminal.console import console
with console.alone_on_stdout():
    print("a library's own words", flush=True)
    os.write(1, b"native words\\n")
    console.print("row")
print("afterwards")
"""


def test_what_others_print_among_the_results_goes_to_stderr() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "row\nafterwards\n"
    assert ended.stderr == "a library's own words\nnative words\n"


def test_a_key_with_white_space_around_it_is_hidden_as_it_is_sent():
    """A variable read from a file often ends in a line feed, and the key is sent without it."""
    console = Console()
    console.hide(" sk-caption/SENTINEL=0123456789abcdef\n")
    assert "SENTINEL" not in console.hidden("refused: sk-caption/SENTINEL=0123456789abcdef.")
