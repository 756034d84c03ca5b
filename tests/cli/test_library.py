"""The library's commands: list, download, delete, search and what goes with an upload."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator, HttpResponse, InjectedFault, Reason
from tests.cli.conftest import MP4, Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def rows(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def video_no(account: Emulator, run: Run, video: Path, capsys) -> str:
    assert run("upload", video, "--wait", "--quiet", "--tag", "a", "--tag", "b") == 0
    number = capsys.readouterr().out.strip()
    account.ledger.clear()
    return number


def test_upload_takes_tags_and_metadata(account: Emulator, run: Run, video: Path, image: Path):
    metadata = (
        "--tag=sea", "--tag=summer", "--datetime-taken", "2025-09-07 22:52:00",
        "--camera-model", "X100", "--latitude=-1.5", "--longitude", "2",
        "--unique-id", "here",
    )  # fmt: skip
    for source in (video, image):
        assert run("upload", source, "--quiet", *metadata) == 0
    for entry in account.ledger:
        assert entry.fields["tags"] == ["sea", "summer"]
        assert entry.fields["camera_model"] == "X100"
        assert entry.fields["unique_id"] == "here"
        assert float(str(entry.fields["latitude"])) == -1.5
        assert float(str(entry.fields["longitude"])) == 2
        assert entry.fields["datetime_taken"]


def test_latitude_needs_longitude(account: Emulator, run: Run, image: Path, capsys):
    for command in (("upload", image), ("index", image), ("list",)):
        assert run(*command, "--latitude", "1") == Exit.USAGE
        assert "--latitude is given without --longitude" in capsys.readouterr().err
    assert len(account.ledger) == 0


def test_list(account: Emulator, run: Run, video_no: str, capsys):
    assert run("list", "--json") == 0
    found = rows(capsys.readouterr().out)
    (row,) = [row for row in found if row["video_no"] == video_no]
    assert row["video_status"] == "PARSE"
    assert row["bytes"] == len(MP4)
    assert run("list", "--tag", "nothing-has-this") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "no such video is in the library" in err
    assert run("list", "--status", "PARSE") == 0
    assert video_no in capsys.readouterr().out
    assert account.ledger.billed() == 0


def test_a_list_of_many_pages(account: Emulator, run: Run, tmp_path: Path, capsys):
    for number in range(3):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(MP4 + bytes([number]))
        assert run("upload", path, "--quiet") == 0
    capsys.readouterr()
    assert run("list", "--json") == 0
    found = rows(capsys.readouterr().out)
    assert len({row["video_no"] for row in found}) == len(found) >= 3


def test_download(account: Emulator, run: Run, video_no: str, tmp_path: Path, capsys):
    assert run("download", video_no, "--json") == 0
    (row,) = rows(capsys.readouterr().out)
    assert row["file"] == f"{video_no}.mp4"
    assert (tmp_path / f"{video_no}.mp4").read_bytes() == MP4
    assert run("download", video_no) == Exit.USAGE
    assert "is there already: name another file, or add --force" in capsys.readouterr().err
    assert run("download", video_no, "--force", "--quiet") == 0
    assert run("download", video_no, "other.mp4") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "other.mp4"
    assert "MB received" in err


def test_download_of_what_is_not_there(account: Emulator, run: Run, tmp_path: Path, capsys):
    assert run("download", "VI404", "--json") == Exit.FAILED
    (row,) = rows(capsys.readouterr().out)
    assert row["status"] == "failed"
    assert not list(tmp_path.glob("VI404*"))


def test_delete_asks_first(account: Emulator, run: Run, terminal, video_no: str, capsys):
    for answer in ("n", "", "yes please"):
        one = terminal("delete", video_no)
        one.read_until(f"Delete 1 video for good: {video_no}? [y/N]")
        one.type(f"{answer}\n")
        status, shown = one.end()
        assert status == Exit.FAILED
        assert "nothing was deleted" in shown
    assert len(account.ledger) == 0
    one = terminal("delete", video_no)
    one.read_until("[y/N]")
    one.type("y\n")
    status, shown = one.end()
    assert status == 0
    assert f"{video_no} deleted" in shown
    assert run("list", "--json") == 0
    assert video_no not in capsys.readouterr().out


def test_delete_where_nobody_can_be_asked(account: Emulator, process, video_no: str):
    status, _, err = process("delete", video_no).end()
    assert status == Exit.USAGE
    assert "add --yes" in err
    assert len(account.ledger) == 0
    status, out, _ = process("delete", video_no, "VI404", "--yes", "--json").end()
    assert status == 0
    assert [row["video_no"] for row in rows(out)] == [video_no, "VI404"]
    assert account.ledger.billed() == 0


def test_ctrl_c_at_the_question_deletes_nothing(account: Emulator, terminal, video_no: str):
    one = terminal("delete", video_no)
    one.read_until("[y/N]")
    one.type("\x03")
    status, shown = one.end()
    assert status == Exit.INTERRUPTED
    assert "Traceback" not in shown
    assert len(account.ledger) == 0


def test_a_name_in_the_library_forges_no_line(account: Emulator, run: Run, tmp_path: Path, capsys):
    path = tmp_path / "a\nVI1  PARSE  b.mp4"
    path.write_bytes(MP4 + b"forged")
    assert run("upload", path, "--quiet") == 0
    number = capsys.readouterr().out.strip()
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("VI1 ")] == []
    assert sum(line.startswith(number) for line in lines) == 1


def test_search_by_words(account: Emulator, run: Run, video_no: str, capsys):
    hit = {"videoNo": "VI1", "videoName": "a", "startTime": "1.5", "endTime": "2", "score": 0.5}
    body = json.dumps({"code": "0000", "msg": "success", "data": [hit]}).encode()
    account.faults.add(InjectedFault(None, HttpResponse(body=body), times=2))
    assert run("search", "a rabbit", "--json") == 0
    assert rows(capsys.readouterr().out) == [
        {"video_no": "VI1", "name": "a", "start_time": 1.5, "end_time": 2.0, "score": 0.5}
    ]
    (entry,) = account.ledger
    assert entry.operation == "search_library"
    options = ("--by", "audio", "--top-k", "3", "--video", video_no, "--tag", "a")
    assert run("search", "a rabbit", *options) == 0
    assert account.ledger[1].fields["search_type"] == "BY_AUDIO"
    assert account.ledger[1].fields["video_nos"] == [video_no]
    assert capsys.readouterr().out == "VI1       1.50 s -      2.00 s  0.500\n"


def test_search_by_a_picture(account: Emulator, run: Run, video_no: str, image: Path, capsys):
    assert run("search", "-i", image, "--similarity", "0.1", "--json") == 0
    assert all("vector" not in row for row in rows(capsys.readouterr().out))
    (entry,) = account.ledger
    assert entry.operation == "search_similar"


def test_search_that_is_refused(account: Emulator, run: Run, capsys):
    account.faults.add(InjectedFault(None, Reason.NO_CREDITS))
    assert run("search", "x", "--json") == Exit.STOPPED
    (row,) = rows(capsys.readouterr().out)
    assert row["status"] == "failed"


# --- names on standard input ------------------------------------------------------------------


def with_input(process, names: bytes, *arguments: object) -> tuple[int, str, str]:
    """Run the command line with names on its standard input."""
    reading, writing = os.pipe()
    os.write(writing, names)
    os.close(writing)
    one = process(*arguments, stdin=reading)
    os.close(reading)
    return one.end()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
@pytest.mark.parametrize("last", [True, False])
def test_names_on_standard_input(account: Emulator, process, images: Path, end: bytes, last: bool):
    names = [os.fsencode(path) for path in sorted(images.iterdir())]
    null = ["-0"] if end == b"\0" else []
    given = end.join(names) + (end if last else b"")
    status, out, _ = with_input(process, given, "embed", "-", "--json", *null)
    assert status == 0
    assert len(rows(out)) == 5
    assert account.ledger.billed() == 5
    status, out, _ = with_input(process, given, "embed", "-", "--json", *null)
    assert status == 0
    assert account.ledger.billed() == 5


def test_names_on_standard_input_begin_with_a_byte_order_mark(
    account: Emulator, process, images: Path
):
    names = "\n".join(str(path) for path in sorted(images.iterdir()))
    status, out, _ = with_input(process, names.encode("utf-8-sig"), "embed", "-", "--json")
    assert status == 0
    assert len(rows(out)) == account.ledger.billed() == 5
    status, _, err = with_input(process, names.encode("utf-16"), "embed", "-", "--json")
    assert status == Exit.USAGE
    assert "UTF-16" in err
    assert account.ledger.billed() == 5


def test_any_name_can_be_given(account: Emulator, process, images: Path):
    """A line feed, a star, bytes that are no UTF-8, the name of a list: each is a name."""
    odd = [b"a\nb.png", b"a*[1].png", b"caf\xe9.png", b"list.txt", b"-.png"]
    for path, name in zip(sorted(images.iterdir()), odd, strict=True):
        os.rename(path, os.path.join(os.fsencode(images), name))
    given = b"\0".join(os.path.join(os.fsencode(images), name) for name in odd)
    status, out, err = with_input(process, given, "embed", "-", "-0", "--json")
    assert status == Exit.FAILED  # the one that is called a list is an image without a name
    assert len(rows(out)) == 5
    assert [row["source"][-8:] for row in rows(out) if row["status"] == "failed"] == ["list.txt"]
    assert "Traceback" not in err


def test_names_beside_standard_input(account: Emulator, process, images: Path, image: Path):
    given = os.fsencode(images)
    status, out, _ = with_input(process, given, "index", image, "-", "--as", "image", "--json")
    assert status == 0
    assert len(rows(out)) == 6


@pytest.mark.parametrize(
    ("names", "arguments", "words"),
    [
        (b"", ("embed", "-"), "nothing to send"),
        (b"a.png\0b.png", ("embed", "-"), "has a NUL in it: add --null"),
        (b"a.png", ("embed", "-", "-"), "can be read only once"),
        (b"a.png", ("embed", "a.png", "--null"), "give - as a source"),
        (b"a.png", ("caption", "-", "-p", "What?"), "add --as image or --as video"),
    ],
)
def test_what_is_wrong_on_standard_input(
    account: Emulator, process, home: Path, names: bytes, arguments, words: str
):
    status, out, err = with_input(process, names, *arguments)
    assert (status, out) == (Exit.USAGE, "")
    (line,) = err.splitlines()
    assert words in line
    assert len(account.ledger) == 0
    assert not list(home.rglob("*.sqlite"))


def test_a_name_on_standard_input_has_an_end(
    account: Emulator, run: Run, images: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr("memories_async.cli.sources.LONGEST", 500)
    monkeypatch.setattr("memories_async.cli.sources._PIECE", 64)
    names = b"".join(b"%s\n" % os.fsencode(path) for path in images.iterdir())
    for given, status in ((names, Exit.DONE), (names + bytes(501), Exit.USAGE)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert run("embed", "-", "--quiet") == status
    assert "a name on standard input has more than" in capsys.readouterr().err
    assert account.ledger.billed() == 5


def test_closed_standard_input(account: Emulator, process):
    status, _, err = process("embed", "-", stdin=None).end()
    assert status == Exit.USAGE
    assert "nothing to send" in err
