"""What is run first: it finds what is wrong, bills nothing unasked and shows no key."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from memories_async.cli.doctor import environment, live, media
from memories_async.cli.doctor.findings import Health
from memories_async.cli.doctor.shapes import differences, shape_of
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator, HttpResponse, InjectedFault, Reason
from memories_async.media.formats import detect
from memories_async.operations import OPERATIONS, Replay
from tests.cli.conftest import Run

CAPTION = {
    "code": 0,
    "msg": "success",
    "data": {"text": "a disc", "token": {"input": 1, "output": 2, "total": 3}},
}


def findings(out: str) -> dict[str, dict[str, object]]:
    return {row["check"]: row for row in map(json.loads, out.splitlines())}


def test_all_is_well(account: Emulator, run: Run, capsys):
    assert run("doctor", "--json") == Exit.DONE
    out, err = capsys.readouterr()
    found = findings(out)
    assert found["library.videos"]["health"] == "ok"
    assert found["api_key"]["message"].startswith("present, from the environment; it goes to")
    assert found["clock"]["health"] == "ok"
    assert {"memories-async", "python", "packages", "caption_key"} <= set(found)
    assert account.ledger.billed() == 0
    assert err == ""


def test_live_asks_every_billed_call_once_and_finds_no_difference(
    account: Emulator, run: Run, capsys
):
    assert run("doctor", "--live", "--max-cost", "0.05", "--json") == Exit.DONE
    out, err = capsys.readouterr()
    found = findings(out)
    assert {row["health"] for row in found.values()} <= {"ok", "skipped"}
    assert "before: the calls cost $0.001001, and 5 of them have no published price" in err
    assert found["cost"]["message"].startswith("$0.001001 by the published prices")
    asked = [entry.operation for entry in account.ledger if entry.billed]
    assert len(asked) == len(set(asked)) == account.ledger.billed()
    # Without a public address of ours, and beside another way in to the same call.
    unasked = {
        "caption_image_url",
        "caption_video_url",
        "submit_video_url",
        "submit_video_file",
        "embed_image_asset",
        "add_video_url",
        "sign_upload",
    }
    free = {row.name for row in OPERATIONS if row.replay is Replay.FREE_READ}
    assert {row.name for row in OPERATIONS} - free - unasked <= set(asked)


def test_what_was_added_is_removed(account: Emulator, run: Run, capsys):
    assert run("doctor", "--live", "--quiet") == Exit.DONE
    capsys.readouterr()
    assert run("list", "--unique-id", live.NAMESPACE, "--json") == Exit.DONE
    assert capsys.readouterr().out == ""


def change(**fields: object) -> Callable[[], HttpResponse]:
    return lambda: HttpResponse(body=json.dumps({**CAPTION, **fields}).encode())


def data(**fields: object) -> Callable[[], HttpResponse]:
    kept = {**CAPTION["data"], **fields}
    return change(data={name: value for name, value in kept.items() if value != "gone"})


DIFFERENCES = {
    "a field is new": (data(language="en"), ["data.language: is new (text)"]),
    "a field is gone": (data(token="gone"), ["data.token: is missing"]),
    "a field has another name": (
        data(text="gone", caption="a disc"),
        ["data.text: is missing", "data.caption: is new (text)"],
    ),
    "a number is text": (
        data(token={"input": "1", "output": 2, "total": 3}),
        ["data.token.input: text came, number was expected"],
    ),
    "a value is null": (data(token=None), ["data.token: null came, an object was expected"]),
    "a text is an object": (
        data(text={"en": "a disc"}),
        ["data.text: an object came, text was expected"],
    ),
    "the data is a list": (
        change(data=[CAPTION["data"]]),
        ["data: a list came, an object was expected"],
    ),
    "the code is another": (
        change(code="0000"),
        ["code: '0000' came, 0 was expected", "code: text came, number was expected"],
    ),
    "the envelope has more": (change(traceId="x"), ["traceId: is new (text)"]),
    "the status is another": (
        lambda: HttpResponse(status=201, body=json.dumps(CAPTION).encode()),
        ["HTTP status: 201 came, 200 was expected"],
    ),
    "the type is another": (
        lambda: HttpResponse(
            body=json.dumps(CAPTION).encode(), headers={"Content-Type": "text/plain"}
        ),
        ["Content-Type: text/plain came, application/json was expected"],
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_is_named(account: Emulator, run: Run, name: str, capsys):
    answer, expected = DIFFERENCES[name]
    account.faults.add(InjectedFault("caption_image_file", answer()))
    assert run("doctor", "--live", "--json", "--quiet") == Exit.FAILED
    found = findings(capsys.readouterr().out)
    row = found["captions.image"]
    assert row["health"] == "drift"
    assert set(expected) <= set(row["differences"])
    assert all(
        other["health"] != "drift" for check, other in found.items() if check != "captions.image"
    )


def test_ten_differences_at_once(account: Emulator, run: Run, capsys):
    """In different operations, and each is found in its own."""
    library = {"code": "0000", "msg": "success", "success": True, "failed": False}
    bodies = {
        "list_videos": {**library, "data": {"videos": [{"video_no": 5}], "total": 1}},
        "add_images": {**library, "data": [{"id": "5", "url": "x"}]},
        "embed_image_file": {**library, "code": 0, "data": {"embedding": ["0.5"]}},
        "search_library": {**library, "data": [{"video_no": "VI1", "score": "high"}]},
        "upload_asset": {**library, "data": {"id": "re_1"}},
    }
    for operation, body in bodies.items():
        raw = HttpResponse(body=json.dumps(body).encode())
        account.faults.add(InjectedFault(operation, raw, times=None))
    assert run("doctor", "--live") == Exit.FAILED
    out = capsys.readouterr().out
    for difference in (
        "data.videos[].video_no: number came, text was expected",
        "data.videos[].video_name: is missing",
        "data.total: is new (number)",
        "data.total_count: is missing",
        "data[].id: text came, number was expected",
        "data[].url: is new (text)",
        "code: 0 came, 200 was expected",
        "data.embedding[]: text came, number was expected",
        "data[].video_no: is new (text)",
        "data[].videoNo: is missing",
        "data[].score: text came, number was expected",
        "data.asset_id: is missing",
    ):
        assert difference in out, difference


def test_max_cost_is_kept(account: Emulator, run: Run, capsys):
    assert run("doctor", "--live", "--max-cost", "0.001", "--json") == Exit.DONE
    found = findings(capsys.readouterr().out)
    assert found["captions.image"]["message"] == "--max-cost does not cover it"
    assert found["library.add_video"]["health"] == "ok"
    assert account.ledger.billed("captions.image") == 0
    assert run("doctor", "--max-cost", "1") == Exit.USAGE
    assert "--max-cost is for --live" in capsys.readouterr().err


def test_a_refused_key_is_a_problem(account: Emulator, run: Run, capsys):
    account.faults.add(InjectedFault(None, Reason.KEY, times=None))
    assert run("doctor", "--json") == Exit.FAILED
    row = findings(capsys.readouterr().out)["library.videos"]
    assert row["health"] in ("problem", "drift")


def test_without_a_key_nothing_is_called(emulator: Emulator, run: Run, monkeypatch, capsys):
    monkeypatch.setenv("MEMORIES_BASE_URL", emulator.url)
    assert run("doctor", "--json") == Exit.DONE
    found = findings(capsys.readouterr().out)
    assert found["api_key"]["health"] == "missing"
    assert "memories-async config key api_key" in found["api_key"]["message"]
    assert found["calls"]["health"] == "skipped"
    assert len([entry for entry in emulator.ledger if entry.operation]) == 0


def test_a_caption_key_alone(emulator: Emulator, run: Run, monkeypatch, capsys):
    monkeypatch.setenv("MEMORIES_BASE_URL", emulator.url)
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", "sk-caption-SENTINEL-0123456789")
    assert run("doctor", "--live", "--json") == Exit.DONE
    found = findings(capsys.readouterr().out)
    assert found["captions.video"]["health"] == "ok"
    assert found["library.add_video"]["message"] == "there is no api_key"


def test_no_key_is_shown(account: Emulator, process, image: Path):
    """The sentinel is searched for in all that a process prints."""
    for arguments in (("doctor",), ("doctor", "--live", "--json", "--debug")):
        status, out, _ = process(*arguments).end()
        assert status == Exit.DONE
        assert "present" in out


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_nobody_is_there():
    found = list(environment.way_to(f"http://127.0.0.1:{closed_port()}", None, {}))
    assert [finding.health for finding in found] == [Health.OK, Health.PROBLEM]
    assert "refused" in found[-1].message


def test_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (finding,) = environment.way_to("https://api.memories.ai", None, {})
    assert finding.health is Health.PROBLEM
    assert "cannot be resolved: Name or service not known" in finding.message


def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch):
    address = f"http://127.0.0.1:{closed_port()}"
    headers = {"Proxy-Authorization": "Basic SENTINEL"}
    found = list(environment.way_to("https://api.memories.ai", address, headers))
    assert found[0].message == address
    assert found[1].health is Health.PROBLEM
    assert "SENTINEL" not in str(found)


@pytest.mark.parametrize(
    ("ahead", "health", "words"),
    [
        (0, Health.OK, "within 60 s"),
        (300, Health.PROBLEM, "300 s behind that of"),
        (-300, Health.PROBLEM, "300 s ahead of that of"),
        (None, Health.SKIPPED, "does not say"),
    ],
)
def test_a_clock_that_is_wrong(ahead: int | None, health: Health, words: str):
    now = datetime.now(UTC) + timedelta(seconds=ahead or 0)
    finding = environment.clock("here", None if ahead is None else format_datetime(now))
    assert finding.health is health
    assert words.split(" ", 1)[1] in finding.message


def test_its_media_are_what_they_say():
    assert detect(media.picture(1)).content_type == "image/png"
    assert detect(media.video(1)).content_type == "video/mp4"
    assert media.picture(1) != media.picture(2)
    assert media.video(1) != media.video(2)
    assert len(media.picture(1)) + len(media.video(1)) < 10_000


def test_shapes():
    value = {"a": [1, 2.5], "b": None, "c": {"d": True, "e": "x"}, "f": []}
    shape = {"a": ["number"], "b": "null", "c": {"d": "boolean", "e": "text"}, "f": []}
    assert shape_of(value) == shape
    assert list(differences(shape, value)) == []
    assert list(differences({"a?": "text"}, {})) == []
    assert list(differences("text", 5)) == ["the answer: number came, text was expected"]
