"""The blocking inbox lives and ends as the blocking client does: in threads, forks and at exit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.sync.conftest import Child
from tests.sync.test_portal_endings import AT_EXIT


@pytest.mark.parametrize("program", ["leave_an_inbox_unclosed", "leave_an_inbox_closed"])
def test_the_interpreter_s_exit(tmp_path: Path, program: str) -> None:
    with Child(program, str(tmp_path)) as child:
        assert child.listen() == "VI1"
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")


def test_the_interpreter_s_exit_while_a_daemon_thread_waits(tmp_path: Path) -> None:
    with Child("leave_an_inbox_that_waits_in_a_daemon_thread", str(tmp_path)) as child:
        assert child.listen() == "VI1"
        child.say("leave")
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")


def test_ctrl_c_ends_a_wait_without_an_end(tmp_path: Path) -> None:
    with Child("wait_for_ctrl_c", str(tmp_path)) as child:
        assert child.listen() == "VI1"
        child.process.send_signal(signal.SIGINT)
        status, complaints = child.end(AT_EXIT)
    assert status == -signal.SIGINT
    assert complaints.splitlines()[-1] == "KeyboardInterrupt"


def test_many_threads_use_one_inbox(tmp_path: Path) -> None:
    with Child("inbox_in_threads", str(tmp_path)) as child:
        assert child.listen() == " ".join(["VI1"] * 8)
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")


def test_an_inbox_that_was_used_before_a_fork(tmp_path: Path) -> None:
    with Child("fork_with_an_inbox", str(tmp_path)) as child:
        lines = [child.listen() for _ in range(6)]
        assert child.end(AT_EXIT) == (0, "")
    of_both = ["parent VI1", "child VI1", "child VI1", "child ended with 0", "parent VI1"]
    assert lines == [*of_both, "leaving"]


def test_forked_workers_share_an_inbox(tmp_path: Path) -> None:
    with Child("forked_workers_with_an_inbox", str(tmp_path)) as child:
        lines = [child.listen() for _ in range(4)]
        assert child.end(AT_EXIT) == (0, "")
    assert lines == ["parent VI1", " ".join(["VI1"] * 6), "parent VI1", "leaving"]
