"""What is run first: it finds what is wrong, bills nothing unasked and shows no key."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import Request
from memories_async._engine.transport.http import Http
from memories_async.cli.doctor import environment, media, steps
from memories_async.cli.doctor.findings import Health
from memories_async.cli.doctor.shapes import differences, shape_of
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator, HttpResponse, InjectedFault, Reason
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.media.formats import detect
from memories_async.operations import OPERATIONS, Replay
from memories_async.sync import Memories
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


@pytest.fixture
def public(request: pytest.FixtureRequest) -> Iterator[str]:
    """A place at which a picture and a video lie, and to which results may be posted."""
    posted: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = media.video(1) if self.path.endswith(".mp4") else media.picture(1)
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4" if ".mp4" in self.path else "image/png")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def addresses(public: str) -> tuple[str, ...]:
    return (
        f"--image-url={public}/a.png",
        f"--video-url={public}/a.mp4",
        f"--callback-url={public}/done",
    )


FREE = {row.name for row in OPERATIONS if row.replay is Replay.FREE_READ}
BY_ADDRESS = {
    "caption_image_url",
    "caption_video_url",
    "submit_video_url",
    "submit_video_file",
    "add_video_url",
}


def test_live_asks_every_billed_call_once_and_finds_no_difference(
    account: Emulator, run: Run, capsys
):
    assert run("doctor", "--live", "--max-cost", "0.05", "--json") == Exit.DONE
    out, err = capsys.readouterr()
    found = findings(out)
    assert {row["health"] for row in found.values()} <= {"ok", "skipped"}
    assert "before: the calls cost $0.001103, and 5 of them have no published price" in err
    assert found["cost"]["message"].startswith("$0.001103 by the published prices")
    asked = [entry.operation for entry in account.ledger if entry.billed]
    assert sorted(asked) == sorted({row.name for row in OPERATIONS} - FREE - BY_ADDRESS)
    assert found["captions.submit_video"]["message"] == "--callback-url is not given"
    assert found["library.add_video (by address)"]["message"] == "--video-url is not given"


def test_with_public_addresses_every_operation_of_the_table_is_asked(
    account: Emulator, run: Run, public: str, capsys
):
    assert run("doctor", "--live", "--json", *addresses(public)) == Exit.DONE
    out, err = capsys.readouterr()
    found = findings(out)
    problems = {name: row for name, row in found.items() if row["health"] not in ("ok", "skipped")}
    assert not problems
    assert "before: the calls cost $0.001603, and 9 of them have no published price" in err
    billed = [entry.operation for entry in account.ledger if entry.billed]
    assert sorted(billed) == sorted({row.name for row in OPERATIONS} - FREE)
    free = {entry.operation for entry in account.ledger if entry.operation and not entry.billed}
    assert free == FREE, "and every free one"


def test_what_was_added_is_removed(account: Emulator, run: Run, capsys):
    assert run("doctor", "--live", "--quiet") == Exit.DONE
    capsys.readouterr()
    assert run("list", "--unique-id", steps.NAMESPACE, "--json") == Exit.DONE
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


def test_a_recording_is_a_test_case(
    account: Emulator, run: Run, public: str, tmp_path: Path, monkeypatch, capsys
):
    """What the live run heard is asked again: without keys, without the service, for nothing."""
    folder = tmp_path / "recordings"
    assert run("doctor", "--live", "--record", folder, "--json", *addresses(public)) == Exit.DONE
    live = findings(capsys.readouterr().out)
    asked = {entry.operation for entry in account.ledger}
    before = len(account.ledger)
    for name in ("API_KEY", "CAPTION_KEY", "BASE_URL"):
        monkeypatch.delenv(f"MEMORIES_{name}")
    assert run("doctor", "--replay", folder, "--json") == Exit.DONE
    replayed = findings(capsys.readouterr().out)
    calls = {name for name, row in live.items() if row["health"] == "ok" and "." in name}
    assert {name for name, row in replayed.items() if row["health"] == "ok"} >= calls - {
        name for name in live if name.startswith(("name ", "connection "))
    }
    assert len(account.ledger) == before
    kept = [path for path in folder.iterdir() if path.suffix == ".json"]
    assert {json.loads(path.read_bytes())["operation"] for path in kept} == asked - {None}
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"SENTINEL" not in everything
    assert b"signature=" not in everything.replace(b"signature=recorded", b"")


def test_what_an_emulator_replays_of_it_is_decoded_by_our_models(
    account: Emulator, run: Run, tmp_path: Path, capsys
):
    """As somebody's own test would: the recording is one of `memories-async emulator --replay`."""
    folder = tmp_path / "recordings"
    assert run("doctor", "--live", "--record", folder, "--quiet") == Exit.DONE
    with (
        Emulator(HashEngine(), replay=folder) as emulator,
        Memories("any", caption_key="any", base_url=emulator.url) as client,
    ):
        videos = list(client.library.videos(page_size=1))
        vectors = client.embeddings.text("a red bar")
        emulator.assert_billed(0)
    assert {video.name for video in videos} <= {"one"}, (
        "the doctor looked before it added one, or after"
    )
    assert len(vectors[0].vector) > 100


def test_a_recording_shows_how_a_later_version_would_differ(
    account: Emulator, run: Run, tmp_path: Path, capsys
):
    folder = tmp_path / "recordings"
    changed = HttpResponse(body=json.dumps({**CAPTION, "traceId": "x"}).encode())
    account.faults.add(InjectedFault("caption_image_file", changed))
    for arguments in (("--live", "--record", folder), ("--replay", folder)):
        assert run("doctor", *arguments, "--json", "--quiet") == Exit.FAILED
        row = findings(capsys.readouterr().out)["captions.image"]
        assert row["differences"] == ["traceId: is new (text)"]


def test_what_was_not_recorded_is_skipped_by_name(
    account: Emulator, run: Run, tmp_path: Path, monkeypatch, capsys
):
    folder = tmp_path / "recordings"
    monkeypatch.delenv("MEMORIES_CAPTION_KEY")
    assert run("doctor", "--live", "--record", folder, "--quiet", "--max-cost", "0.001") == 0
    capsys.readouterr()
    assert run("doctor", "--replay", folder, "--json") == Exit.DONE
    found = findings(capsys.readouterr().out)
    assert found["captions.image"]["message"] == "the recording has no answer to it"
    assert found["library.add_video"]["health"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--record", "new"), "--record is for --live"),
        (("--image-url", "https://a.example/a.png"), "--image-url is for --live"),
        (("--live", "--replay", "old"), "--replay is for a run of its own"),
        (("--live", "--record", "full"), "full is not empty; a new folder is wanted"),
        (("--live", "--record", "full/note.txt"), "--record: "),
        (("--replay", "full"), "--replay: full holds nothing that memories-async doctor"),
        (("--replay", "nowhere"), "--replay: nowhere holds nothing"),
    ],
)
def test_folders_that_do_not_fit(account: Emulator, run: Run, arguments, message, capsys):
    Path("full").mkdir()
    Path("full", "note.txt").touch()
    assert run("doctor", *arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True)
    assert len(account.ledger) == 0


@pytest.mark.parametrize("cost", ["0", "0.0001", "0.0051", "0.01", "0.02"])
def test_no_more_than_max_cost_is_spent(account: Emulator, run: Run, cost: str, capsys):
    """Counted with the ledger, a call without a published price as the doctor says that it is."""
    assert run("doctor", "--live", "--max-cost", cost, "--json") in (Exit.DONE, Exit.FAILED)
    billed = {step.name: step for step in steps.BILLED}
    found = findings(capsys.readouterr().out)
    made = [billed[name] for name, row in found.items() if name in billed and row["health"] == "ok"]
    assert sum(step.counted for step in made) <= Decimal(cost)


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
    assert run("doctor", "--json") == Exit.FAILED
    found = findings(capsys.readouterr().out)
    assert found["api_key"]["health"] == "missing"
    assert "memories-async config key api_key" in found["api_key"]["message"]
    assert found["calls"]["health"] == "problem"
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
    found = list(environment.check_connection(f"http://127.0.0.1:{closed_port()}", None, {}))
    assert [finding.health for finding in found] == [Health.OK, Health.PROBLEM]
    assert "refused" in found[-1].message
    assert "nothing listens there" in found[-1].message


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://user:SENTINEL@127.0.0.1:9/", "no user, query or fragment"),
        ("http://127.0.0.1:9/?key=SENTINEL", "no user, query or fragment"),
        ("http://127.0.0.1:99999/", "out of range"),
        ("http://[::1", "Invalid IPv6"),
        ("https://gateway..example", "label"),
    ],
)
def test_an_address_that_is_none_is_refused_before_it_is_shown_or_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys, address: str, says: str
):
    """A password in it stood in what one attaches to a report; some ended in a traceback."""
    monkeypatch.setenv("MEMORIES_API_KEY", "any")
    monkeypatch.setenv("MEMORIES_BASE_URL", address)
    assert run("doctor") == Exit.USAGE
    out, err = capsys.readouterr()
    assert out.startswith("ok      memories-async: ")
    assert says in err
    assert len(err.splitlines()) == 1
    assert "SENTINEL" not in out + err


def test_of_a_closed_port_it_is_said_once_and_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Each of its calls was tried again and again: more than half a minute for one closed port."""
    monkeypatch.setenv("MEMORIES_API_KEY", "any")
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", "any")
    monkeypatch.setenv("MEMORIES_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    asked: list[str] = []
    exchange = Http.exchange

    async def counted(self: Http, request: Request[Any], transfer: Transfer, **how: Any) -> Any:
        asked.append(request.operation.name)
        return await exchange(self, request, transfer, **how)

    monkeypatch.setattr(Http, "exchange", counted)
    assert run("doctor", "--live", "--json") == Exit.FAILED
    out, err = capsys.readouterr()
    found = findings(out)
    assert "nothing listens there" in str(found["connection to 127.0.0.1"]["message"])
    calls = {step.name for step in (*steps.FREE, *steps.BILLED)}
    called = [row for name, row in found.items() if name in calls and row["health"] == "problem"]
    assert {"library.videos", "captions.image", "embeddings.text"} <= {
        row["check"] for row in called
    }
    for row in called:
        assert "nothing listens there" in str(row["message"])
    assert len(asked) == len(called)
    assert "Traceback" not in err


def test_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (finding,) = environment.check_connection("https://api.memories.ai", None, {})
    assert finding.health is Health.PROBLEM
    assert "cannot be resolved: Name or service not known" in finding.message


def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch):
    address = f"http://127.0.0.1:{closed_port()}"
    headers = {"Proxy-Authorization": "Basic SENTINEL"}
    found = list(environment.check_connection("https://api.memories.ai", address, headers))
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
