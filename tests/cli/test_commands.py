"""One command, one answer: what is on stdout, on stderr and in the exit status."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memories_async import __version__
from memories_async.cli import without_extra
from memories_async.cli.app import COMMANDS, application
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Cut, Emulator, Raw, Reason
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from tests.cli.conftest import CAPTION_KEY, KEY, Run


def rows(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_caption_of_an_image(account: Emulator, run: Run, image: Path, capsys):
    assert run("caption", image, "--prompt", "What is it?") == 0
    out, err = capsys.readouterr()
    assert "derived from a hash" in out
    assert "waiting for the answer" in err
    (entry,) = account.ledger.of("caption_image_file")
    assert entry.fields["user_prompt"] == "What is it?"


def test_caption_with_every_option(account: Emulator, run: Run, video: Path, capsys):
    arguments = ("--system-prompt", "You are terse.", "--thinking", "--qa", "--reasoning-effort=-1")
    persons = (
        "--person",
        "Ann=https://example.com/a.png",
        "--person",
        "Bo=https://example.com/b.png",
    )
    account.faults.add(Fault("captions.video", Answer(body={"code": 0, "data": {"text": "ok"}})))
    assert run("caption", video, "-p", "Who?", "--json", "--quiet", *arguments, *persons) == 0
    out, err = capsys.readouterr()
    assert rows(out) == [{"source": str(video), "status": "done", "text": "ok"}]
    assert err == ""
    (entry,) = account.ledger
    assert entry.fields == {
        "user_prompt": "Who?",
        "system_prompt": "You are terse.",
        "thinking": True,
        "qa": True,
        "reasoning_effort": "-1",
        "persons": [
            {"name": "Ann", "url": "https://example.com/a.png"},
            {"name": "Bo", "url": "https://example.com/b.png"},
        ],
    }


def test_caption_of_urls(account: Emulator, run: Run, capsys):
    data = {"code": 0, "data": {"text": "ok", "token": {"input": 3, "output": 4, "total": 7}}}
    account.faults.add(Fault(None, Answer(body=data), times=None))
    assert run("caption", "https://example.com/a.mp4?x=1", "-p", "What?", "--json") == 0
    assert run("caption", "https://example.com/a", "-p", "What?", "--as", "image") == 0
    video, image = account.ledger
    assert (video.operation, image.operation) == ("caption_video_url", "caption_image_url")
    row = rows(capsys.readouterr().out.splitlines()[0])[0]
    assert (row["input_tokens"], row["output_tokens"]) == (3, 4)


def test_images_together(account: Emulator, run: Run, images: Path, capsys):
    assert run("caption", *sorted(images.iterdir()), "-p", "Compare.", "--together", "--json") == 0
    assert rows(capsys.readouterr().out)[0]["source"] == "5 images"
    (entry,) = account.ledger
    assert len(entry.files) == 5


@pytest.mark.parametrize(
    "option",
    [
        "--dry-run",
        "--job=x",
        "--max-cost=9",
        "--max-items=1",
        "--output=out.csv",
        "--include=*.png",
    ],
)
def test_a_jobs_option_is_refused_where_images_are_described_together(
    account: Emulator, run: Run, images: Path, capsys, option
):
    """It would go unheeded: the call would be made, and billed, in spite of --dry-run."""
    assert run("caption", *images.iterdir(), "-p", "?", "--together", option) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, len(account.ledger)) == ("", 0)
    assert f"does not go with {option.partition('=')[0]}" in err


def test_kind_is_told_by_the_first_bytes(account: Emulator, run: Run, image: Path):
    nameless = image.rename(image.with_suffix(""))
    assert run("caption", nameless, "-p", "What?") == 0
    assert account.ledger[0].operation == "caption_image_file"


def test_embed(account: Emulator, run: Run, image: Path, capsys):
    assert run("embed", image, "--json") == 0
    (row,) = rows(capsys.readouterr().out)
    assert row["model"] == "multimodalembedding@001"
    assert len(row["vector"]) == 1408
    assert run("embed", image) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1408


def test_upload_and_search(account: Emulator, run: Run, video: Path, image: Path, capsys):
    assert run("upload", video, "--wait") == 0
    out, err = capsys.readouterr()
    video_no = out.strip()
    assert re.fullmatch(r"VI\d+", video_no)
    assert f"{video_no} is uploaded; waiting" in err
    assert run("search", "a rabbit", "--video", video_no, "--image", image, "--json") == 0
    clips = rows(capsys.readouterr().out)
    assert clips
    assert all(clip["video_no"] == video_no for clip in clips)
    assert all(clip["start_time"] < clip["end_time"] for clip in clips)
    assert run("search", "a rabbit", "--video", video_no, "--image", image) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(clips)


def test_upload_of_an_image(account: Emulator, run: Run, image: Path, capsys):
    assert run("upload", image, "--json", "--unique-id", "here") == 0
    (row,) = rows(capsys.readouterr().out)
    assert isinstance(row["image_id"], int)
    assert account.ledger[0].fields["unique_id"] == "here"


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (Fault(None, Reason.BAD_REQUEST), Exit.FAILED, "code 400"),
        (Fault(None, Reason.NO_CREDITS), Exit.STOPPED, "Top up the account"),
        (Fault(None, Reason.KEY), Exit.STOPPED, "Check the key"),
        (Fault(None, Reason.ACCOUNT_DISABLED), Exit.STOPPED, "code 403"),
        (Fault(None, Cut(), moment="processed"), Exit.UNKNOWN, "It may have been billed"),
        (Fault(None, Raw(b"HTTP/1.1 200 OK\r\n\r\n<html>")), Exit.UNKNOWN, "JSON"),
    ],
)
def test_errors(account: Emulator, run: Run, image: Path, fault, status, words, capsys):
    account.faults.add(fault)
    assert run("embed", image, "--json", "--quiet") == status
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("memories-async: embeddings.image (POST ")
    assert words in line
    (row,) = rows(out)
    assert row["source"] == str(image)
    assert row["status"] == ("unknown" if status is Exit.UNKNOWN else "failed")
    assert words in row["error"]
    assert row["details"]["type"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("embed", "missing.png"), Exit.FAILED, "missing.png: no such file"),
        (("caption", "missing", "-p", "?"), Exit.FAILED, "missing: no such file"),
        (("caption", "images", "-p", "?"), Exit.USAGE, "add --as image or --as video"),
        (("caption", "https://example.com/x", "-p", "?"), Exit.USAGE, "add --as"),
        (("caption", "one.png", "one.mp4", "-p", "?"), Exit.USAGE, "in two commands"),
        (
            ("caption", "one.png", "-p", " "),
            Exit.USAGE,
            "-p is ' '; a text that is not empty is wanted",
        ),
        (("caption", "one.png", "-p", "?", "--person", "Ann"), Exit.USAGE, "NAME=URL"),
        (("caption", "one.png", "-p", "?", "--person", "A=http://a.b/c"), Exit.USAGE, "for videos"),
        (("caption", "one.mp4", "-p", "?", "--together"), Exit.USAGE, "for images"),
        (("upload", "one.png", "--wait"), Exit.USAGE, "--wait is for videos"),
        (("caption", "one.png"), Exit.USAGE, "--prompt is required"),
        (("embed",), Exit.USAGE, "SOURCES is required"),
        (("embed", "one.png", "--model"), Exit.USAGE, "--model needs a value"),
        (("search",), Exit.USAGE, "give words, --image or both"),
        (("search", "x", "--image", "one.png"), Exit.USAGE, "give one --video"),
        (("search", "x", "--similarity", "0.5"), Exit.USAGE, "--similarity is not for a search by"),
        (("search", "-i", "one.png", "--video", "VI1"), Exit.USAGE, "--video is not for a search"),
        (("embed", "one.png", "--profile", "nowhere"), Exit.USAGE, "no profile 'nowhere'"),
        (("bogus",), Exit.USAGE, "there is no command 'bogus'"),
        (("jobs", "bogus"), Exit.USAGE, "there is no command 'bogus'"),
        (("jobs", "show", "bogus"), Exit.USAGE, "no such job"),
    ],
)
def test_refusals_before_anything_is_sent(
    account: Emulator, run: Run, image, video, images, arguments, status, words, capsys
):
    assert run(*arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line
    assert "Traceback" not in err
    assert len(account.ledger) == 0


def test_missing_key_stops(emulator: Emulator, run: Run, image: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run("embed", image) == Exit.STOPPED
    assert "set MEMORIES_API_KEY, or store it with: memories-async config key api_key" in (
        capsys.readouterr().err
    )


def test_debug_shows_where_and_never_the_key(account: Emulator, process, image: Path):
    echo = f'{{"code":"0001","msg":"bad key {KEY}","data":null}}'.encode()
    account.faults.add(Fault(None, Answer(status=400, body=echo)))
    status, out, err = process("embed", image, "--debug", "--json").end()
    assert status == 1
    assert "Traceback (most recent call last)" in err
    assert "memories_async: embeddings.image" in err
    assert "bad key" in err
    assert "SENTINEL" not in out + err


def test_text_from_pictures_does_not_steer_the_terminal(account: Emulator, run: Run, image, capsys):
    text = "a sign\nthat says \x1b]0;owned\x07 \x9b31m [bold]x[/bold] \u202egnp"
    body = json.dumps({"code": 0, "data": {"text": text}}).encode()
    account.faults.add(Fault(None, Answer(body=body), times=None))
    assert run("caption", image, "-p", "What?") == 0
    out = capsys.readouterr().out
    assert out == "a sign\nthat says \ufffd]0;owned\ufffd \ufffd31m [bold]x[/bold] \ufffdgnp\n"
    assert run("caption", image, "-p", "What?", "--json") == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert rows(out)[0]["text"] == text


def test_reader_that_goes_away(account: Emulator, image: Path):
    command = f"{sys.executable} -W error -m memories_async.cli embed {image} | true"
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=True)
    assert b"Traceback" not in ended.stderr
    assert b"BrokenPipe" not in ended.stderr


def test_version(run: Run, capsys):
    assert run("--version") == 0
    assert re.fullmatch(r"\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", [name for name, _, _ in COMMANDS])
def test_every_command_explains_itself(run: Run, command: str, capsys):
    assert run(command, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: memories-async {command}")
    assert "password" not in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell):
    script = application().generate_completion(shell=shell)
    for word in ("caption", "reasoning-effort", "jobs", "resume", "config", "emulator"):
        assert word in script


def test_without_a_command_the_help_is_shown(run: Run, capsys):
    assert run() == Exit.DONE
    assert "Usage: memories-async COMMAND" in capsys.readouterr().out
    assert run("--") == Exit.USAGE
    assert "there is no command '--'" in capsys.readouterr().err


def test_help_of_what_needs_no_extra(run: Run, capsys):
    for name in without_extra.COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            run(*name.split(), "--help")
        assert stopped.value.code == 0
        assert f"usage: memories-async {name}" in capsys.readouterr().out


class TestWithoutExtra:
    """What works where cyclopts and rich are not installed."""

    @pytest.fixture(autouse=True)
    def uninstalled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import memories_async.cli

        for name in list(sys.modules):
            if name.partition(".")[0] in ("cyclopts", "rich") or name.startswith(
                "memories_async.cli."
            ):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(memories_async.cli, "app", raising=False)
        monkeypatch.setitem(sys.modules, "cyclopts", None)
        monkeypatch.setitem(sys.modules, "rich", None)

    def test_commands_say_what_to_install(self, run: Run, capsys):
        assert run("embed", "x.png") == Exit.USAGE
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert "pip install 'memories-async[cli]'" in line

    def test_nothing_asked_is_told_in_one_line_too(self, run: Run, capsys):
        assert run() == Exit.USAGE
        (line,) = capsys.readouterr().err.splitlines()
        assert "pip install 'memories-async[cli]'" in line

    def test_version(self, run: Run, capsys):
        assert run("--version") == Exit.DONE
        assert capsys.readouterr().out == f"{__version__}\n"

    def test_help_names_what_works(self, run: Run, capsys):
        assert run("--help") == Exit.DONE
        out = capsys.readouterr().out
        assert all(name in out for name in without_extra.COMMANDS)
        assert "pip install 'memories-async[cli]'" in out

    def test_emulator_works(self, run: Run, capsys):
        with pytest.raises(SystemExit) as stopped:
            run("emulator", "--help")
        assert stopped.value.code == 0
        assert "--port" in capsys.readouterr().out


def test_emulator_serves_until_ctrl_c(terminal, tmp_path: Path):
    process = terminal("emulator", "--port", "0")
    process.read_until("(Ctrl-C ends it)")
    process.type("\x03")
    status, shown = process.end()
    assert status == 0
    assert "Traceback" not in shown


def test_keys_go_to_their_own_service(account: Emulator, run: Run, image: Path, capsys):
    """No output of the commands above held a key; here both are in play at once."""
    assert run("caption", image, "-p", "What?", "--debug") == 0
    assert run("embed", image, "--debug") == 0
    shown = "".join(capsys.readouterr())
    assert KEY not in shown
    assert CAPTION_KEY not in shown
