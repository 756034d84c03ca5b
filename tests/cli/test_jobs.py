"""Jobs on the command line: many inputs, one file that remembers, and what to do next."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from memories_async.cli.exit_codes import Exit
from memories_async.cli.terminal.progress import duration
from memories_async.emulator import Cut, Emulator, Hang, Reason
from memories_async.emulator import InjectedFault as Fault
from tests.cli.conftest import PNG, Run
from tests.cli.terminal import wait_until


def rows(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def jobs(home: Path) -> list[str]:
    return sorted(path.stem for path in (home / "state/memories-async/jobs").glob("*.sqlite"))


def test_many_images_are_a_job(account: Emulator, run: Run, home: Path, images: Path, capsys):
    assert run("embed", images, "--json") == Exit.DONE
    out, err = capsys.readouterr()
    found = rows(out)
    assert sorted(row["source"] for row in found) == sorted(map(str, images.iterdir()))
    assert all(row["status"] == "done" and len(row["vector"]) == 1408 for row in found)
    (name,) = jobs(home)
    assert re.fullmatch(r"embed-images-[0-9a-f]{8}", name)
    assert f"job {name}: 5 done (" in err
    assert "$0.0005" in err
    folder = home / "state/memories-async/jobs"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / f"{name}.sqlite").stat().st_mode & 0o777 == 0o600


def test_the_same_command_again_pays_nothing_twice(account: Emulator, run: Run, images, capsys):
    assert run("caption", images, "--as", "image", "-p", "What?") == Exit.DONE
    first = capsys.readouterr().out.splitlines()
    (images / "new.png").write_bytes(PNG + b"new")
    assert run("caption", images, "--as", "image", "-p", "What?") == Exit.DONE
    second = capsys.readouterr().out.splitlines()
    assert account.ledger.billed() == 6
    assert len(second) == 6
    assert set(first) < set(second)
    assert run("caption", images, "--as", "image", "-p", "Something else?") == Exit.DONE
    assert account.ledger.billed() == 12


def test_index_of_images(account: Emulator, run: Run, images: Path, capsys):
    assert run("index", images, "--as", "image", "--tag", "a", "--tag", "b", "--json") == Exit.DONE
    found = rows(capsys.readouterr().out)
    assert all(isinstance(row["image_id"], int) for row in found)
    (entry,) = account.ledger
    assert entry.fields["tags"] == ["a", "b"]
    assert len(entry.files) == 5


def test_dry_run_sends_nothing_and_leaves_nothing(account, run: Run, home, images, capsys):
    assert run("embed", images, "--dry-run", "--json") == Exit.DONE
    (row,) = rows(capsys.readouterr().out)
    assert row == {
        "items": 5,
        "requests": 5,
        "bytes": sum(path.stat().st_size for path in images.iterdir()),
        "cost": 0.0005,
        "possible_cost": 0.0,
        "seconds": pytest.approx(5, abs=1),
    }
    assert run("index", images, "--as", "image", "--dry-run") == Exit.DONE
    assert "5 items" in capsys.readouterr().out
    assert jobs(home) == []
    assert len(account.ledger) == 0


def test_output_to_a_file(account: Emulator, run: Run, images: Path, tmp_path: Path, capsys):
    assert run("embed", images, "--output", tmp_path / "vectors.csv") == Exit.USAGE
    assert "an export is jsonl or parquet" in capsys.readouterr().err
    assert len(account.ledger) == 0
    assert run("embed", images, "--output", tmp_path / "vectors.jsonl") == Exit.DONE
    out, err = capsys.readouterr()
    assert out == ""
    assert f"5 rows are in {tmp_path / 'vectors.jsonl'}" in err
    assert len(rows((tmp_path / "vectors.jsonl").read_text())) == 5


def test_limits_and_resume(account: Emulator, run: Run, home: Path, images: Path, capsys):
    assert run("embed", images, "--max-items", "2") == Exit.LIMIT
    (name,) = jobs(home)
    err = capsys.readouterr().err
    assert f"to go on: memories-async jobs resume {name}" in err
    assert account.ledger.billed() == 2
    assert run("jobs", "resume", name, "--max-cost", "0.0003") == Exit.LIMIT
    assert account.ledger.billed() == 3
    assert run("jobs", "resume", name, "--json") == Exit.DONE
    assert account.ledger.billed() == 5
    assert "to go on" in capsys.readouterr().err
    assert run("jobs", "resume", name) == Exit.DONE
    assert account.ledger.billed() == 5
    assert "to go on" not in capsys.readouterr().err


def test_some_failed(account: Emulator, run: Run, home: Path, images: Path, capsys):
    (images / "2.png").write_text("no picture")
    assert run("embed", images) == Exit.FAILED
    out, err = capsys.readouterr()
    (name,) = jobs(home)
    assert f"2.png: failed: {images / '2.png'}" in out
    assert f"1 failed: memories-async jobs show {name} --status failed" in err
    assert run("jobs", "show", name, "--status", "failed", "--json") == Exit.DONE
    (row,) = rows(capsys.readouterr().out)
    assert row["source"] == str(images / "2.png")
    assert row["details"]["type"] == "UnsupportedMedia"
    (images / "2.png").write_bytes(PNG + b"\2")
    assert run("jobs", "resume", name, "--failed", "retry") == Exit.DONE
    assert account.ledger.billed() == 5


def test_some_unknown(account: Emulator, run: Run, home: Path, images: Path, capsys):
    account.faults.add(Fault(None, Cut(), moment="processed"))
    assert run("embed", images) == Exit.UNKNOWN
    (name,) = jobs(home)
    assert "1 may have been billed although no answer came" in capsys.readouterr().err
    assert run("jobs", "resume", name) == Exit.UNKNOWN
    assert account.ledger.billed() == 5
    assert run("jobs", "resume", name, "--unknown", "retry") == Exit.DONE
    assert "paid twice (up to $0.0001)" in capsys.readouterr().err
    assert account.ledger.billed() == 6


def test_stopped_for_credit_and_key(account: Emulator, run: Run, images: Path, capsys):
    account.faults.add(Fault(None, Reason.NO_CREDITS, nth=3))
    assert run("embed", images, "--concurrency", "1") == Exit.STOPPED
    err = capsys.readouterr().err
    assert "Top up the account" in err
    assert "to go on: memories-async jobs resume" in err
    assert len(account.ledger) == 3
    account.faults.clear()
    account.faults.add(Fault(None, Reason.KEY))
    assert run("embed", images) == Exit.STOPPED
    assert len(account.ledger) == 4
    assert run("embed", images) == Exit.DONE
    assert account.ledger.billed() == 5


def test_list_show_and_export(account: Emulator, run: Run, home, images, tmp_path, capsys):
    assert run("jobs", "list") == Exit.DONE
    assert "there are no jobs" in capsys.readouterr().err
    run("embed", images)
    run("caption", images, "--as", "image", "-p", "What?", "--max-items", "1")
    capsys.readouterr()
    assert run("jobs", "list", "--json") == Exit.DONE
    found = {row["kind"]: row for row in rows(capsys.readouterr().out)}
    assert found["embed_images"]["counts"]["done"] == 5
    assert found["caption_images"]["counts"] == {
        "planned": 4,
        "sending": 0,
        "done": 1,
        "failed": 0,
        "unknown": 0,
        "skipped": 0,
    }
    name = found["embed_images"]["job"]
    assert run("jobs", "list") == Exit.DONE
    assert f"{name}: 5 done (since 20" in capsys.readouterr().out
    assert run("jobs", "export", name, tmp_path / "out.jsonl") == Exit.DONE
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5
    assert run("jobs", "show", name) == Exit.DONE
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"{images / '0.png'}: 1408 numbers"
    assert run("jobs", "export", name, tmp_path / "out.bogus") == Exit.USAGE


def test_job_with_a_name(account: Emulator, run: Run, images: Path, tmp_path: Path, capsys):
    assert run("embed", images, "--job", tmp_path / "mine.sqlite") == Exit.DONE
    capsys.readouterr()
    assert run("jobs", "show", tmp_path / "mine.sqlite", "--json") == Exit.DONE
    assert len(rows(capsys.readouterr().out)) == 5
    assert run("embed", images, "--job", tmp_path / "mine.sqlite", "--model", "mobileclip") == 2
    assert "is a job for something else" in capsys.readouterr().err
    (tmp_path / "letter").write_text("Dear Ann")
    assert run("embed", images, "--job", tmp_path / "letter") == Exit.USAGE
    assert (tmp_path / "letter").read_text() == "Dear Ann"
    assert account.ledger.billed() == 5


def test_reconcile_is_for_what_can_be_found_again(account, run: Run, home, images, capsys):
    assert run("embed", images, "--max-items", "1") == Exit.LIMIT
    (name,) = jobs(home)
    assert run("jobs", "reconcile", name) == Exit.USAGE
    assert "leaves nothing that can be found" in capsys.readouterr().err


def test_nothing_fits(account: Emulator, run: Run, tmp_path: Path, home: Path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("embed", tmp_path / "empty") == Exit.USAGE
    assert "nothing to send" in capsys.readouterr().err
    assert jobs(home) == []


@pytest.mark.parametrize("how", ["terminal", "pipes"])
def test_ctrl_c_leaves_a_job_that_resumes(
    account: Emulator, request, run: Run, home: Path, images: Path, how: str, capsys
):
    """The third call gets no answer; the interrupt comes when two are known to be done."""
    account.faults.add(Fault(None, Hang(), nth=3))
    start = request.getfixturevalue("terminal" if how == "terminal" else "process")
    process = start("embed", images, "--concurrency", "1", "--json")
    if how == "terminal":
        process.read_until("2 of 5")
        wait_until(lambda: len(account.ledger) == 3 and account.ledger[2].complete)
        process.type("\x03")
        status, shown = process.end()
    else:
        process.read_until("5 items to send")
        wait_until(lambda: len(account.ledger) == 3 and account.ledger[2].complete)
        process.interrupt()
        status, out, shown = process.end()
        assert [row["id"] for row in rows(out)][:2] == [1, 2]
    assert status == Exit.UNKNOWN
    (name,) = jobs(home)
    assert f"memories-async jobs resume {name}" in shown
    assert "Traceback" not in shown
    assert run("jobs", "resume", name) == Exit.UNKNOWN
    assert account.ledger.billed() == 4
    assert run("jobs", "resume", name, "--unknown", "retry") == Exit.DONE
    assert account.ledger.billed() == 5


def test_progress_at_a_terminal(account: Emulator, terminal, images: Path):
    status, shown = terminal("embed", images).end()
    assert status == 0
    assert "5 of 5" in shown
    assert "MB sent" in shown
    assert "$0.0005" in shown
    assert shown.endswith("$0.0005)\r\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (100_000, "27:46:40")]
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_index_of_videos(account: Emulator, run: Run, video: Path, capsys):
    assert run("index", video, "--tag", "a", "--json") == Exit.DONE
    (row,) = rows(capsys.readouterr().out)
    assert row["video_no"].startswith("VI")
    assert row["video_status"] == "PARSE"
    assert account.ledger[0].fields["tags"][0] == "a"


def test_reconcile(account: Emulator, run: Run, home: Path, video: Path, capsys):
    account.faults.add(Fault("library.add_video", Cut(), moment="processed"))
    assert run("index", video) == Exit.UNKNOWN
    (name,) = jobs(home)
    capsys.readouterr()
    assert run("jobs", "reconcile", name, "--json") == Exit.DONE
    assert rows(capsys.readouterr().out) == [{"found": 1, "unknown": 0}]
    assert account.ledger.billed("library.add_video") == 1
