"""Jobs on the command line: many inputs, one file that remembers, and what to do next."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from memories_async.bulk.journal import queries
from memories_async.cli.app import application
from memories_async.cli.exit_codes import Exit
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


def test_a_dry_run_goes_by_the_limits_of_the_address(
    account, run: Run, images, capsys, monkeypatch
):
    def seconds(*options: object) -> object:
        assert run("embed", images, "--dry-run", "--json", *options) == Exit.DONE
        return rows(capsys.readouterr().out)[-1]["seconds"]

    assert seconds() == 0, "an address of one's own has no limits but those that are given"
    assert seconds("--rate", "2") == pytest.approx(2.5, abs=0.6)
    monkeypatch.delenv("MEMORIES_BASE_URL")
    assert seconds() == pytest.approx(5, abs=1), "the service's are documented"


def test_dry_run_sends_nothing_and_leaves_nothing(account, run: Run, home, images, capsys):
    assert run("embed", images, "--rate", "1", "--dry-run", "--json") == Exit.DONE
    *planned, row = rows(capsys.readouterr().out)
    assert [one["source"] for one in planned if one["send"]] == sorted(map(str, images.iterdir()))
    assert row == {
        "items": 5,
        "requests": 5,
        "bytes": sum(path.stat().st_size for path in images.iterdir()),
        "cost": 0.0005,
        "possible_cost": 0.0,
        "seconds": pytest.approx(5, abs=1),
        "unsent": {},
    }
    assert run("index", images, "--as", "image", "--dry-run") == Exit.DONE
    assert "5 items" in capsys.readouterr().out
    assert jobs(home) == []
    assert len(account.ledger) == 0


def test_output_to_a_file(account: Emulator, run: Run, images: Path, tmp_path: Path, capsys):
    assert run("embed", images, "--output", tmp_path / "vectors.xlsx") == Exit.USAGE
    assert "a name that ends in .jsonl, .csv or .parquet is wanted" in capsys.readouterr().err
    assert len(account.ledger) == 0
    assert run("embed", images, "--output", tmp_path / "vectors.jsonl") == Exit.DONE
    out, err = capsys.readouterr()
    assert out == ""
    assert f"5 rows are in {tmp_path / 'vectors.jsonl'}" in err
    assert len(rows((tmp_path / "vectors.jsonl").read_text())) == 5


def test_files_that_changed_since_they_were_answered(account, run: Run, home, images, capsys):
    """Each run says it; the dry run says which."""
    assert run("embed", images, "--quiet") == Exit.DONE
    (name,) = jobs(home)
    assert "changed" not in capsys.readouterr().err
    (images / "3.png").write_bytes(PNG + b"another picture")
    for command in (("embed", images), ("jobs", "resume", name), ("jobs", "show", name)):
        assert run(*command) == Exit.DONE
        err = capsys.readouterr().err
        assert f"1 file has changed since the answer: see memories-async jobs resume {name}" in err
    assert run("jobs", "resume", name, "--dry-run") == Exit.DONE
    assert f"{images / '3.png'}: not sent: its file has changed" in capsys.readouterr().out
    assert run("jobs", "retry", name, "--what", "changed") == Exit.DONE
    assert "has changed since" not in capsys.readouterr().err
    assert account.ledger.billed() == 6


def test_an_answer_that_cannot_be_written_down_may_have_been_billed(
    account: Emulator, run: Run, home: Path, images: Path, capsys, monkeypatch
):
    """The disk is full when the first answer comes: it was billed, and the status says so."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(queries, "settle", full)
        assert run("embed", images, "--concurrency", "1", "--quiet") == Exit.UNKNOWN
    err = capsys.readouterr().err
    assert "disk is full" in err
    assert "1 may have been billed although no answer came" in err
    assert account.ledger.billed() == 1
    (name,) = jobs(home)
    assert run("jobs", "resume", name, "--quiet") == Exit.UNKNOWN
    assert account.ledger.billed() == 5


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


def test_the_first_job_of_all_may_have_a_name(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", images, "--job", "holiday") == Exit.DONE
    capsys.readouterr()
    assert run("jobs", "list") == Exit.DONE
    assert "holiday: 5 done" in capsys.readouterr().out


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
    """The third call gets no answer: the first Ctrl-C waits for it, the second does not."""
    account.faults.add(Fault(None, Hang(), nth=3))
    start = request.getfixturevalue("terminal" if how == "terminal" else "process")
    process = start("embed", images, "--concurrency", "1", "--json")
    if how == "terminal":
        process.read_until("2 of 5")
        wait_until(lambda: len(account.ledger) == 3 and account.ledger[2].complete)
        process.type("\x03")
        process.read_until("nothing more is sent; 1 item in flight is let end; once more aborts")
        process.type("\x03")
        status, shown = process.end()
    else:
        process.read_until("5 items to send")
        wait_until(lambda: len(account.ledger) == 3 and account.ledger[2].complete)
        process.send(signal.SIGINT)
        process.read_until("nothing more is sent; 1 item in flight is let end; once more aborts")
        process.send(signal.SIGINT)
        status, out, shown = process.end()
        assert [row["id"] for row in rows(out)][:2] == [1, 2]
    assert status == Exit.UNKNOWN
    (name,) = jobs(home)
    assert f"memories-async jobs resume {name}" in shown
    assert f"aborted; job {name}: 2 done, 1 unknown, 2 planned" in shown
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


def test_dry_run_says_what_would_not_be_sent_and_adds_nothing(
    account: Emulator, run: Run, home: Path, images: Path, capsys
):
    """Also of a job that there is already: it has the same items afterwards."""
    assert run("embed", images, "--quiet") == Exit.DONE
    (images / "0.png").write_bytes(PNG + b"changed since")
    (images / "copy.png").write_bytes((images / "1.png").read_bytes())
    (images / "empty.png").write_bytes(b"")
    (images / "letter.png").write_text("Dear Ann")
    (images / "new.png").write_bytes(PNG + b"new")
    capsys.readouterr()
    assert run("embed", images, "--dry-run", "--json") == Exit.DONE
    *planned, summary = rows(capsys.readouterr().out)
    assert [one["source"] for one in planned if one["send"]] == [str(images / "new.png")]
    reasons = {Path(str(one["source"])).name: one.get("reason") for one in planned}
    assert reasons["0.png"] == "changed"
    assert reasons["1.png"] == "done"
    assert reasons["copy.png"] == "duplicate"
    assert all(reasons[name] for name in ("empty.png", "letter.png"))
    assert all(one["message"] for one in planned if one.get("reason") not in (None, "done"))
    assert (summary["items"], summary["cost"]) == (1, 0.0001)
    (name,) = jobs(home)
    assert run("jobs", "show", name, "--json") == Exit.DONE
    assert len(rows(capsys.readouterr().out)) == 5
    assert run("embed", images, "--dry-run") == Exit.DONE
    out = capsys.readouterr().out
    assert f"{images / 'letter.png'}: not sent: " in out
    assert "1 duplicate" in out.splitlines()[-1]
    assert account.ledger.billed() == 5


def test_files_that_changed_are_sent_again_when_asked(
    account: Emulator, run: Run, home: Path, images: Path, capsys
):
    assert run("embed", images, "--quiet") == Exit.DONE
    (images / "0.png").write_bytes(PNG + b"changed since")
    (name,) = jobs(home)
    assert run("embed", images) == Exit.DONE
    assert account.ledger.billed() == 5
    assert run("jobs", "retry", name, "--what", "changed") == Exit.DONE
    assert "1 files have changed and are sent again" in capsys.readouterr().err
    assert account.ledger.billed() == 6


def test_retry(account: Emulator, run: Run, home: Path, images: Path, capsys):
    (images / "2.png").write_text("no picture")
    account.faults.add(Fault(None, Cut(), moment="processed"))
    assert run("embed", images) == Exit.UNKNOWN
    (name,) = jobs(home)
    (images / "2.png").write_bytes(PNG + b"\2")
    assert run("jobs", "retry", name) == Exit.UNKNOWN
    assert account.ledger.billed() == 5
    assert run("jobs", "retry", name, "--what", "unknown") == Exit.DONE
    assert "paid twice (up to $0.0001)" in capsys.readouterr().err
    assert account.ledger.billed() == 6


def test_a_price_said_later(account: Emulator, run: Run, home: Path, images: Path, capsys):
    command = ("caption", images, "--as", "image", "-p", "What?")
    assert run(*command, "--max-items", "1") == Exit.LIMIT
    assert run(*command, "--max-cost", "1") == Exit.USAGE
    assert "say it with --price" in capsys.readouterr().err
    assert run(*command, "--max-cost", "0.5", "--price", "0.25") == Exit.LIMIT
    assert account.ledger.billed() == 2
    (name,) = jobs(home)
    assert run("jobs", "resume", name, "--max-cost", "0.75") == Exit.LIMIT
    assert account.ledger.billed() == 3
    assert "$0.75" in capsys.readouterr().err


def test_include_and_exclude(account: Emulator, run: Run, images: Path, capsys):
    (images / "below").mkdir()
    (images / "below" / "x.png").write_bytes(PNG + b"x")
    chosen = ("--include", "*.png", "--exclude", "below/**", "--exclude", "3.*")
    assert run("embed", images, "--json", *chosen) == Exit.DONE
    found = rows(capsys.readouterr().out)
    assert sorted(Path(str(row["source"])).name for row in found) == [
        "0.png", "1.png", "2.png", "4.png",
    ]  # fmt: skip
    assert run("embed", images, "--quiet") == Exit.DONE
    assert account.ledger.billed() == 6


def test_shards_are_parts(account: Emulator, run: Run, home: Path, images: Path, capsys):
    for number in range(20):
        (images / f"more-{number}.png").write_bytes(PNG + b"more" + bytes([number]))
    for part in ("1/3", "2/3", "3/3"):
        assert run("embed", images, "--shard", part, "--json") == Exit.DONE
    sources = [row["source"] for row in rows(capsys.readouterr().out)]
    assert len(sources) == len(set(sources)) == 25
    assert account.ledger.billed() == 25
    assert len(jobs(home)) == 3


def test_remove_asks_first(account: Emulator, run: Run, terminal, home: Path, images, capsys):
    run("embed", images, "--quiet")
    (name,) = jobs(home)
    assert run("jobs", "rm", name) == Exit.USAGE
    assert "add --yes" in capsys.readouterr().err
    one = terminal("jobs", "rm", name)
    one.read_until(f"Remove {name}: 5 done")
    one.type("n\n")
    assert one.end()[0] == Exit.FAILED
    assert jobs(home) == [name]
    assert run("jobs", "rm", name, "--yes") == Exit.DONE
    assert list((home / "state/memories-async/jobs").iterdir()) == []
    assert run("jobs", "rm", name, "--yes") == Exit.USAGE


def test_a_damaged_job_can_be_removed(
    account: Emulator, run: Run, terminal, home: Path, images: Path, capsys
):
    run("embed", images, "--quiet")
    (name,) = jobs(home)
    path = home / "state/memories-async/jobs" / f"{name}.sqlite"
    path.write_bytes(path.read_bytes()[:4096])
    one = terminal("jobs", "rm", name)
    one.read_until(f"Remove {name}, which cannot be read?")
    one.type("n\n")
    assert one.end()[0] == Exit.FAILED
    assert jobs(home) == [name]
    capsys.readouterr()
    assert run("jobs", "rm", name, "--yes") == Exit.DONE
    assert "malformed" in capsys.readouterr().err
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("--max-items", 2), ("--max-cost", 0)])
def test_a_dry_run_says_what_it_does_not_heed(account, run: Run, images, option, value, capsys):
    assert run("embed", images, "--dry-run", option, value) == Exit.DONE
    assert f"{option} is for a run: this is all that there is to send" in capsys.readouterr().err
    assert run("embed", images, "--dry-run") == Exit.DONE
    assert "is for a run" not in capsys.readouterr().err


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_export(account: Emulator, run: Run, home: Path, images: Path, extension: str, capsys):
    run("embed", images, "--quiet")
    (name,) = jobs(home)
    assert run("jobs", "export", name, f"out.{extension}") == Exit.DONE
    assert "5 rows are in" in capsys.readouterr().err
    assert Path(f"out.{extension}").stat().st_size > 0


def test_names_of_jobs_are_completed(account: Emulator, process, run: Run, home: Path, images):
    run("embed", images, "--quiet")
    (name,) = jobs(home)
    for command in ("show", "resume", "retry", "export", "reconcile", "rm"):
        status, out, _ = process("__complete", "jobs", command, "").end()
        assert status == 0
        assert name in out
    for command in ("caption", "embed", "index"):
        status, out, _ = process("__complete", command, "--job", "").end()
        assert status == 0
        assert name in out
    script = application().generate_completion(shell="bash")
    assert "__complete" in script


@pytest.mark.parametrize("limiter", ["sqlite", "redis"])
def test_a_limiter_that_processes_share(
    account: Emulator, run: Run, image: Path, tmp_path: Path, limiter: str, request, monkeypatch
):
    address = (
        f"sqlite:{tmp_path / 'limits.db'}"
        if limiter == "sqlite"
        else request.getfixturevalue("redis_url")
    )
    assert run("embed", image, "--quiet", "--limiter", address) == Exit.DONE
    monkeypatch.setenv("MEMORIES_LIMITER", address)
    assert run("embed", image, "--quiet") == Exit.DONE


UNFIT_LIMITERS = {
    "nowhere/x.db": "No such file or directory",
    "a_file/x.db": "Not a directory",
    "a_folder": "is no regular file",
}


@pytest.mark.parametrize("path", UNFIT_LIMITERS)
def test_a_limiter_s_file_that_cannot_be_used_is_said_at_once(
    account: Emulator, run: Run, image: Path, tmp_path: Path, path: str, capsys
):
    """A job put it down to its items, one by one; where nothing was paced, it was not said."""
    (tmp_path / "a_file").write_text("")
    (tmp_path / "a_folder").mkdir()
    address = f"sqlite:{tmp_path / path}"
    for arguments in (("embed", image), ("embed", image, "--rate", "5"), ("upload", image)):
        assert run(*arguments, "--quiet", "--limiter", address) == Exit.USAGE
        out, err = capsys.readouterr()
        assert UNFIT_LIMITERS[path] in err
        assert (out, err.count("\n")) == ("", 1)
    assert len(account.ledger) == 0


def test_a_limiter_that_is_down_sends_nothing(
    account: Emulator, run: Run, images: Path, capsys, closed_port: int
):
    address = f"redis://someone:SENTINEL-password@127.0.0.1:{closed_port}/0"
    assert run("embed", images, "--rate", "1", "--limiter", address, "--json") == Exit.FAILED
    shown = "".join(capsys.readouterr())
    assert "SENTINEL" not in shown
    assert len(account.ledger) == 0


def test_a_rate_paces_a_job_and_its_plan(account: Emulator, run: Run, images: Path, capsys):
    assert run("embed", images, "--dry-run", "--json", "--rate", "1/60") == Exit.DONE
    assert rows(capsys.readouterr().out)[-1]["seconds"] == 300
    assert run("embed", images, "--rate", "5/0.2", "--concurrency", "5") == Exit.DONE
    assert account.ledger.billed() == 5


@pytest.mark.parametrize("option", ["--verbose", "-v"])
def test_verbose_says_what_each_call_does(account: Emulator, run: Run, images, option, capsys):
    account.faults.add(Fault(None, Reason.THROTTLED, nth=2))
    assert run("embed", images, "--json", "--quiet", "--concurrency", "1", option) == Exit.DONE
    out, err = capsys.readouterr()
    assert len(rows(out)) == 5
    lines = err.splitlines()
    assert all(re.match(r"memories-async: embeddings\.image \d+: ", line) for line in lines)
    assert sum(line.endswith(": billed") for line in lines) == 5
    assert any("throttled: the lane pauses for" in line for line in lines)
    assert any(re.search(r"waited \d+\.\d+ s for a throttled lane", line) for line in lines)
    assert str(images) not in err
    assert run("embed", images / "0.png", "--json", "--quiet", option) == Exit.DONE
    assert "embeddings.image" in capsys.readouterr().err


def test_the_messages_speak_of_options(account: Emulator, run: Run, images: Path, capsys):
    account.faults.add(Fault(None, Cut(), moment="processed"))
    assert run("embed", images, "--json") == Exit.UNKNOWN
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "CallOptions" not in text
        assert "accept_double_billing" not in text
        assert "max_cost" not in text
    (row,) = [row for row in rows(out) if row["status"] == "unknown"]
    assert "before running it again" in str(row["error"])


def test_shards_are_merged(account: Emulator, run: Run, home: Path, images: Path, capsys):
    """Two machines' parts become one job, which sends what neither has sent."""
    for number in range(20):
        (images / f"more-{number}.png").write_bytes(PNG + b"more" + bytes([number]))
    for part in ("1/2", "2/2"):
        assert run("embed", images, "--shard", part, "--max-items", "3", "--quiet") == Exit.LIMIT
    parts = jobs(home)
    capsys.readouterr()
    assert run("jobs", "merge", *parts, "--into", "all", "--json") == Exit.DONE
    row = rows(capsys.readouterr().out)[-1]
    assert (row["job"], row["total"]) == ("all", 25)
    assert run("jobs", "resume", "all", "--quiet") == Exit.DONE
    assert account.ledger.billed() == 25
    assert run("jobs", "resume", parts[0]) == Exit.FAILED
    assert run("jobs", "merge", parts[0], parts[0], "--into", "twice") == Exit.USAGE
    assert account.ledger.billed() == 25


def test_results_are_never_written_over_what_was_named_as_a_source(
    account: Emulator, run: Run, images: Path, tmp_path: Path, capsys
):
    wanted = tmp_path / "wanted.jsonl"
    wanted.write_text("".join(f'{{"path": "{path}"}}\n' for path in images.iterdir()))
    before = wanted.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(wanted)
    for name in (wanted, link):
        assert run("embed", wanted, "--output", name) == Exit.USAGE
        assert "is an input: name another file" in capsys.readouterr().err
    assert wanted.read_bytes() == before
    assert account.ledger.billed() == 0


@pytest.mark.parametrize("lost", [0, 1])
def test_a_disk_that_fills_up_under_the_results_costs_none_of_them(
    account: Emulator, run: Run, home: Path, images: Path, lost: int, monkeypatch, capsys
):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(lost):
        account.faults.add(Fault(None, Cut(), moment="processed"))
    monkeypatch.setattr("memories_async.bulk.exports.JsonLines.write", full)
    status = run("embed", images, "--output", "out.jsonl")
    assert status == (Exit.UNKNOWN if lost else Exit.FAILED)
    (name,) = jobs(home)
    err = capsys.readouterr().err
    assert f"{5 - lost} done" in err
    assert f"out.jsonl is not written: {os.strerror(errno.ENOSPC)}. " in err
    assert f"memories-async jobs export {name} out.jsonl" in err
    assert not list(Path().glob("out.jsonl*"))
    assert run("jobs", "export", name, "out.jsonl") == Exit.FAILED


def test_where_results_cannot_go_is_said_before_anything_is_paid_for(
    account: Emulator, run: Run, images: Path, tmp_path: Path, capsys
):
    (tmp_path / "folder.jsonl").mkdir()
    for name, said in (
        (tmp_path / "none" / "x.jsonl", "there is no folder"),
        (tmp_path / "folder.jsonl", "is a folder"),
        (tmp_path / ("x" * 250 + ".csv"), "cannot be written: File name too long"),
        (Path("/proc/x.jsonl"), "there is no folder" if sys.platform == "darwin" else "cannot be"),
    ):
        assert run("embed", images, "--output", name) == Exit.USAGE
        err = capsys.readouterr().err
        assert said in err
        assert ".part" not in err
    assert account.ledger.billed() == 0
    (job,) = jobs(tmp_path / "home")
    assert run("jobs", "export", job, tmp_path / "none" / "x.csv") == Exit.USAGE
