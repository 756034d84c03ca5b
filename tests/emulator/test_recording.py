"""Record once against the real service, replay for ever: here one emulator stands for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from memories_async import Memories
from memories_async.emulator import Emulator, InjectedFault, RateLimit, Reason
from memories_async.emulator.__main__ import main
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.recording import recorder
from memories_async.emulator.recording.recordings import Recordings
from memories_async.emulator.recording.redaction import Redaction
from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket
from tests import forks
from tests.emulator.conftest import KEY, MP4, PNG, KnownEngine, files_in, until

pytestmark = pytest.mark.anyio

KEEP_AWAY = {"HTTP_PROXY": "", "NO_PROXY": "*"}


@contextlib.asynccontextmanager
async def recording(folder: Path) -> AsyncIterator[tuple[Emulator, Emulator]]:
    """Run an emulator that stands for the real service, and one that records it."""
    async with (
        Emulator(KnownEngine()) as real,
        Emulator(HashEngine(), record=folder, upstream=real.url) as recorder,
    ):
        yield real, recorder


def client_for(emulator: Emulator, key: str = KEY) -> Memories:
    return Memories(key, caption_key=key, base_url=emulator.url)


async def session(client: Memories, folder: Path) -> list[object]:
    """Do what the quickstart does, and a little more; return all that came back."""
    caption = await client.captions.video(MP4, "What happens?", system_prompt="s")
    picture = await client.captions.image(PNG, "What is it?")
    images = await client.library.add_images([PNG, PNG + b"2"], tags=["a"])
    video = await client.library.add_video(MP4)
    ready = await client.library.wait_until_searchable(video.video_no)
    clips = await client.library.search_clips(video.video_no, PNG, "a rabbit")
    hits = await client.library.search("rabbit")
    vectors = [await client.embeddings.image(PNG) for _ in range(2)]
    texts = await client.embeddings.text(["a", "b"])
    listed = [one async for one in client.library.videos()]
    await client.library.download(video.video_no, folder / "film.mp4")
    assert (folder / "film.mp4").read_bytes() == MP4
    return [caption, picture, images, video, ready, clips, hits, vectors, texts, listed]


async def test_a_session_replays_with_the_real_service_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    async with recording(folder) as (real, recorder), client_for(recorder) as client:
        first = await session(client, tmp_path)
        billed = real.ledger.billed()
        assert recorder.ledger.billed() == billed > 5
        assert [entry.operation for entry in recorder.ledger] == [
            entry.operation for entry in real.ledger
        ]
        assert not files_in(tmp_path / "recordings" / "incoming")
    async with Emulator(HashEngine(), replay=folder) as replay:
        async with client_for(replay, "another-key") as client:
            assert await session(client, tmp_path) == first
        assert replay.ledger.billed() == 0
        assert len(replay.ledger) == len(recorder.ledger)


async def raw(emulator: Emulator, method: str, path: str, **options: Any) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": KEY}) as client,
        client.request(method, emulator.url + path, **options) as response,
    ):
        return response.status, await response.read()


REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an envelope": ("POST", "/serve/api/v1/list_videos", {"json": {}}),
    "a refusal": ("POST", "/serve/api/v1/search", {"json": {}}),
    "another service": ("POST", "/serve/api/v2/embeddings/text", {"json": {}}),
    "of the gateway": ("POST", "/v1/understand/uploadImg", {"json": {"user_prompt": "u"}}),
    "a query": ("GET", "/serve/api/v1/get_metadata?video_no=VI1", {}),
    "a form": ("POST", "/serve/api/v1/upload_url", {"data": {"url": "http://10.0.0.1/a.mp4"}}),
    "an array": ("POST", "/serve/api/v1/delete_videos?unique_id=x", {"json": ["VI1"]}),
}


async def test_answers_are_the_same_byte_by_byte(tmp_path: Path) -> None:
    async with recording(tmp_path) as (_, recorder):
        first = [
            await raw(recorder, method, path, **options)
            for method, path, options in REQUESTS.values()
        ]
    async with Emulator(HashEngine(), replay=tmp_path) as replay:
        for expected, (method, path, options) in zip(first, REQUESTS.values(), strict=True):
            assert await raw(replay, method, path, **options) == expected
        assert replay.ledger.billed() == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,"data":{"text":"caf\xc3\xa9"}}',
        b'{"code": 0, "data": {"text": "caf\\u00e9"}}',
        b'{"code":0,"text":"caf\\u00e9"}',
        b'{ "code" : 0 }',
        b'{"id":568102998803353601,"score":0.8631,"large":123456789012345678901234567890}',
        b'{"number":1e3}',
        b'{"twice":1,"twice":2}',
        b"<html>Log in</html>",
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_any_body_comes_back_as_it_was(tmp_path: Path, body: bytes) -> None:
    from memories_async.emulator.recording.recordings import RecordedAnswer, RecordedExchange

    recordings = Recordings(tmp_path)
    answer = RecordedAnswer(status=200, headers={"content-type": "x"}, body=body)
    recordings.save(
        RecordedExchange(operation="o", fingerprint="f" * 64, request={}, answers=(answer,))
    )
    again = Recordings(tmp_path)
    again.load()
    found = again.get("f" * 64)
    assert found is not None
    assert found.answers == (answer,)


async def test_other_people_s_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``requests`` and ``curl`` make boundaries and layouts of their own: it is one request."""
    monkeypatch.setenv("NO_PROXY", "*")
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)

    def by_requests(url: str) -> bytes:
        files = {"file": ("a.png", PNG, "image/png")}
        data = {"model": "mobileclip"}
        headers = {"Authorization": KEY}
        address = f"{url}/serve/api/v2/embeddings/image"
        return requests.post(address, files=files, data=data, headers=headers).content

    def by_curl(url: str) -> bytes:
        command = ["curl", "--silent", "--noproxy", "*", "-H", "Authorization: other"]
        command += ["-F", "model=mobileclip", "-F", f"file=@{picture};filename=renamed.png"]
        command += [f"{url}/serve/api/v2/embeddings/image"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    folder = tmp_path / "recordings"
    async with recording(folder) as (_, recorder):
        first = await asyncio.to_thread(by_requests, recorder.url)
    assert json.loads(first)["code"] == 200
    async with Emulator(HashEngine(), replay=folder) as replay:
        assert await asyncio.to_thread(by_requests, replay.url) == first
        assert await asyncio.to_thread(by_curl, replay.url) == first
        assert replay.ledger.billed() == 0
    assert len(files_in(folder)) == 1


async def test_what_was_not_recorded_is_refused_by_name(tmp_path: Path) -> None:
    async with recording(tmp_path) as (_, recorder), client_for(recorder) as client:
        await client.captions.image(PNG, "What is it?")
    body = {"json": {"input": ["x"], "model": "gemini-embedding-001"}}
    async with Emulator(HashEngine(), replay=tmp_path) as replay:
        status, answer = await raw(replay, "POST", "/serve/api/v2/embeddings/text", **body)
        assert status == 400
        message = json.loads(answer)["msg"]
        assert message.startswith("not recorded: embeddings.text (POST /serve/api/v2/embeddings")
        status, _ = await raw(replay, "POST", "/serve/api/v2/nowhere", json={})
        assert status == 404
    async with Emulator(HashEngine(), replay=tmp_path, otherwise="engine") as replay:
        status, _ = await raw(replay, "POST", "/serve/api/v2/embeddings/text", **body)
        assert status == 200


async def test_one_byte_more_is_another_request(tmp_path: Path) -> None:
    async with recording(tmp_path) as (_, recorder), client_for(recorder) as client:
        await client.embeddings.image(PNG)
    async with Emulator(HashEngine(), replay=tmp_path) as replay, client_for(replay) as client:
        await client.embeddings.image(PNG)
        with pytest.raises(Exception, match="not recorded"):
            await client.embeddings.image(PNG + b"!")


async def test_several_answers_to_one_request_come_in_their_order(tmp_path: Path) -> None:
    async with recording(tmp_path) as (real, recorder), client_for(recorder) as client:
        real.index_seconds = 100
        number = (await client.library.add_video(MP4)).video_no
        assert not (await client.library.video(number)).searchable
        real.clock.advance(200)
        assert (await client.library.video(number)).searchable
    async with Emulator(HashEngine(), replay=tmp_path) as replay, client_for(replay) as client:
        statuses = [(await client.library.video(number)).status for _ in range(3)]
        assert statuses == ["UNPARSE", "PARSE", "PARSE"]
        replay.reset()
        assert (await client.library.video(number)).status == "UNPARSE"


async def test_limits_faults_and_ledger_work_on_replay(tmp_path: Path) -> None:
    async with recording(tmp_path) as (_, recorder), client_for(recorder) as client:
        await client.embeddings.image(PNG)
    async with Emulator(HashEngine(), replay=tmp_path) as replay:
        replay.limits[Bucket.LIST] = RateLimit(0)
        _, answer = await raw(replay, "POST", "/serve/api/v1/list_videos", json={})
        assert json.loads(answer)["code"] == "0429"
        replay.faults.add(InjectedFault("embeddings.image", Reason.NO_CREDITS))
        async with client_for(replay) as client:
            with pytest.raises(Exception, match="Insufficient credits"):
                await client.embeddings.image(PNG)
            await client.embeddings.image(PNG)
        assert [entry.status for entry in replay.ledger.of("embeddings.image")] == [402, 200]
        assert replay.ledger[-1].files[0].size == len(PNG)


async def test_a_signed_upload_goes_through_the_recorder(tmp_path: Path) -> None:
    """The signed address itself must not be kept: whoever has it may upload."""
    body = {"json": {"original_filename": "a.png"}}
    sign = "/serve/api/v2/upload/signed-url"

    async def upload(emulator: Emulator) -> str:
        _, answer = await raw(emulator, "POST", sign, **body)
        signed = json.loads(answer)["data"]
        assert signed["signed_url"].startswith(emulator.url)
        form = aiohttp.FormData()
        form.add_field("file", PNG, filename="a.png", content_type="image/png")
        async with (
            aiohttp.ClientSession() as stranger,
            stranger.post(signed["signed_url"], data=form) as response,
        ):
            assert response.status == 204
        _, answer = await raw(emulator, "GET", f"/serve/api/v2/{signed['asset_id']}/metadata")
        return str(json.loads(answer)["data"]["resource"][0]["upload_status"])

    async with recording(tmp_path) as (real, recorder):
        assert await upload(recorder) == "SUCCESS"
        assert real.ledger.of("send_signed")[0].files[0].size == len(PNG)
        port = real.url.rpartition(":")[2]
    texts = [path.read_text() for path in files_in(tmp_path)]
    assert len(texts) == 3
    assert not any(port in text for text in texts)
    async with Emulator(HashEngine(), replay=tmp_path) as replay:
        assert await upload(replay) == "SUCCESS"


# --- what is kept -----------------------------------------------------------------------------

SENTINEL = "SENTINEL7f3a/+="
KEYS = [SENTINEL, f"sk-mavi-{SENTINEL}", f"Bearer {SENTINEL}"]


class TalkativeEngine(KnownEngine):
    """Repeats everything that should stay private, in every spelling."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.said = (
            f"key {key} escaped {json.dumps(key)[1:-1]} "
            "at https://storage.googleapis.com/b/a.mp4?X-Goog-Signature=SENTINEL7f3a&Expires=1 "
            "or https://user:SENTINEL7f3a@host.example/a?sig=SENTINEL7f3a#SENTINEL7f3a "
            r"in /home/SENTINEL7f3a/films/a.mp4 and C:\Users\SENTINEL7f3a Name\Desktop\b.png "
            "and ~/SENTINEL7f3a/c.png and sk-mavi-SENTINEL7f3a000"
        )

    def describe_images(self, pictures: Any, prompt: str) -> str:
        return self.said


@pytest.mark.parametrize("key", KEYS)
async def test_no_secret_and_no_personal_path_gets_into_a_recording(
    tmp_path: Path, key: str
) -> None:
    engine = TalkativeEngine(key)
    async with (
        Emulator(engine) as real,
        Emulator(HashEngine(), record=tmp_path, upstream=real.url) as recorder,
    ):
        real.faults.add(InjectedFault("library.videos", Reason.SERVER, moment="processed"))
        form = aiohttp.FormData(quote_fields=False)
        form.add_field(
            "req",
            json.dumps({"user_prompt": engine.said, "callback": "https://a.example/SENTINEL7f3a"}),
            filename="req.json",
            content_type="application/json",
        )
        name = r"C:\Users\SENTINEL7f3a\Desktop\cat.png"
        form.add_field("file", PNG, filename=name, content_type="image/png")
        headers = {"Authorization": key}
        async with aiohttp.ClientSession(recorder.url, headers=headers) as client:
            async with client.post("/v1/understand/uploadImgFile", data=form) as response:
                answer = await response.json()
            async with client.post("/serve/api/v1/list_videos", json={"tag": key}):
                pass
            async with client.get(f"/serve/api/v1/get_metadata?video_no={key}"):
                pass
        spoken = (answer.get("data") or {}).get("text") or answer["msg"]
        assert "SENTINEL7f3a" in spoken or " " in key  # the application itself gets all of it
    kept = files_in(tmp_path)
    assert len(kept) >= 2
    for path in kept:
        assert "SENTINEL7f3a" not in path.read_text()
        assert "SENTINEL7f3a" not in path.name
    everything = "".join(path.read_text() for path in kept)
    assert "cat.png" in everything
    assert "a.mp4" in everything


def test_what_is_no_secret_stays() -> None:
    redaction = Redaction()
    redaction.learn("k")  # however short a key is
    for text in (
        "A rabbit runs at 12/18 of the film, and/or not.",
        "https://example.com/a/b.png",
        "https://example.com/a?page=2&size=10",
        "2025-09-07 22:52:00",
        "/serve/api/v1/upload_img",
    ):
        assert Redaction().text(text) == text


def test_files_can_be_read_and_reviewed(tmp_path: Path) -> None:
    async def record() -> None:
        async with recording(tmp_path) as (_, recorder), client_for(recorder) as client:
            await client.captions.image(PNG, "What is it?")

    asyncio.run(record())
    [path] = files_in(tmp_path)
    assert re.fullmatch(r"caption_image_file-[0-9a-f]{16}\.json", path.name)
    text = path.read_text()
    document = json.loads(text)
    assert text == json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    assert document["request"]["fields"]["user_prompt"] == "What is it?"
    assert document["request"]["files"][0]["size"] == len(PNG)
    assert document["answers"][0]["json"]["code"] == 0


# --- what goes wrong --------------------------------------------------------------------------


async def test_a_service_that_is_down_is_no_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, closed_port: int
) -> None:
    upstream = f"http://127.0.0.1:{closed_port}"
    async with Emulator(HashEngine(), record=tmp_path, upstream=upstream) as recorder:
        status, _ = await raw(recorder, "POST", "/serve/api/v1/list_videos", json={})
        assert status == 502
        assert recorder.ledger.billed() == 0
    assert files_in(tmp_path) == []
    assert "library.videos could not be sent on" in caplog.text


async def test_an_answer_that_is_quicker_than_the_reader_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def asked(self: recorder.Recorder, *arguments: Any) -> Any:
        answer = await ask(self, *arguments)
        asyncio.get_running_loop().call_later(0.01, answered.set)
        return answer

    async def received(*arguments: Any, **options: Any) -> Any:
        found = await receive(*arguments, **options)
        await answered.wait()
        return found

    ask, receive = recorder.Recorder._forward, recorder.receive
    monkeypatch.setattr(recorder.Recorder, "_forward", asked)
    monkeypatch.setattr(recorder, "receive", received)
    async with recording(tmp_path) as (_, between), client_for(between) as client:
        await client.embeddings.image(PNG)
        between.assert_billed(1)
    assert len(files_in(tmp_path)) == 1


async def test_the_service_is_reached_by_the_environment_s_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n"))
        await reader.readuntil(b"{}")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
            b'{"code":"0000"}'
        )
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with (
        server,
        Emulator(HashEngine(), record=tmp_path, upstream="http://service.invalid") as recorder,
    ):
        status, answer = await raw(recorder, "POST", "/serve/api/v1/list_videos", json={})
    assert (status, answer) == (200, b'{"code":"0000"}')
    assert asked == [b"POST http://service.invalid/serve/api/v1/list_videos HTTP/1.1\r\n"]
    assert len(files_in(tmp_path)) == 1


async def test_an_application_that_leaves_is_no_recording(tmp_path: Path) -> None:
    async with recording(tmp_path) as (real, recorder):
        host, port = recorder.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /serve/api/v1/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: {KEY}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
            + bytes(100_000)
        )
        await writer.drain()
        await until(lambda: len(real.ledger))
        writer.transport.abort()
        await until(lambda: real.ledger[0].finished_at and recorder.ledger[0].finished_at)
        assert (real.ledger[0].complete, recorder.ledger[0].complete) == (False, False)
    assert files_in(tmp_path) == []


async def test_an_early_answer_reaches_the_application(tmp_path: Path) -> None:
    async with recording(tmp_path) as (real, recorder):
        real.faults.add(InjectedFault(None, Reason.NO_CREDITS, moment="headers"))
        host, port = recorder.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /serve/api/v1/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: {KEY}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
        )
        assert b"0402" in await reader.read(4096)
        writer.close()
        assert recorder.ledger.billed() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": "a", "replay": "b"}, "two runs"),
        ({"upstream": "http://127.0.0.1:1"}, "while they are recorded"),
        ({"replay": "a", "otherwise": "perhaps"}, "otherwise is one of refuse, engine"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Emulator(HashEngine(), **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no recording"),
        (b'{"format": 2}', "format 2, not 1"),
        (b'{"name": "package"}', "is no recording"),
    ],
)
async def test_a_folder_that_holds_something_else(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "package.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        await Emulator(HashEngine(), replay=tmp_path).start()
    with pytest.raises(FileNotFoundError, match="no folder of recordings"):
        await Emulator(HashEngine(), replay=tmp_path / "nowhere").start()


# --- as a program, and large ------------------------------------------------------------------


@contextlib.contextmanager
def program(*arguments: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Run the emulator as a program; yield its address and its process's number."""
    process = forks.start(
        ["-m", "memories_async.emulator", "--port", "0", *arguments],
        env={**os.environ, **KEEP_AWAY, "TMPDIR": str(folder)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        yield next(word for word in line.split() if word.startswith("http://")), process.pid
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()


def test_recording_and_replaying_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"

    def ask(url: str) -> bytes:
        body = {"input": ["x"], "model": "gemini-embedding-001"}
        address = f"{url}/serve/api/v2/embeddings/text"
        headers = {"Authorization": KEY}
        return requests.post(address, json=body, headers=headers).content

    with (
        program(folder=tmp_path) as (real, _),
        program("--record", str(folder), "--upstream", real, folder=tmp_path) as (recorder, _),
    ):
        first = ask(recorder)
    assert json.loads(first)["code"] == 200
    with program("--replay", str(folder), folder=tmp_path) as (replay, _):
        assert ask(replay) == first


def test_other_hosts_are_allowed_by_the_names_of_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--host", "0.0.0.0"]) == 2
    _, err = capsys.readouterr()
    assert "--allow-remote" in err
    assert "MEMORIES_EMULATOR_KEY" in err
    assert "allow_remote" not in err


@pytest.mark.parametrize("folder", ["a_file", "a_file/recordings"])
def test_a_folder_that_cannot_be_recorded_to_is_said_before_anything_is_sent_on(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was made by the first answer, which was paid for and did not reach who had asked."""
    (tmp_path / "a_file").write_text("")
    assert main(["--port", "0", "--record", str(tmp_path / folder)]) == 2
    out, err = capsys.readouterr()
    assert "a_file" in err
    assert (out, err.count("\n")) == ("", 1)


async def test_an_answer_that_cannot_be_kept_reaches_who_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fills up while it records takes no answer away that is paid for."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "recordings"
    async with recording(folder) as (real, recorder):
        monkeypatch.setattr(Recordings, "save", full)
        async with client_for(recorder) as client:
            assert len(await client.embeddings.text(["x"])) == 1
        assert real.ledger.billed() == 1
    assert "is not recorded: [Errno 28] No space left on device" in caplog.text
    assert list(folder.iterdir()) == []


def test_what_was_recorded_before_a_kill_can_be_replayed(tmp_path: Path) -> None:
    """Killed while it records, and with what a write that was cut leaves behind."""
    folder = tmp_path / "recordings"

    def ask(url: str, text: str) -> bytes:
        body = {"input": [text], "model": "gemini-embedding-001"}
        address = f"{url}/serve/api/v2/embeddings/text"
        return requests.post(address, json=body, headers={"Authorization": KEY}, timeout=60).content

    with (
        program(folder=tmp_path) as (real, _),
        program("--record", str(folder), "--upstream", real, folder=tmp_path) as (recorder, pid),
    ):
        answers = {text: ask(recorder, text) for text in ("one", "two", "three")}
        os.kill(pid, signal.SIGKILL)
    (folder / ".embed_texts-0123456789abcdef.0123abcd").write_bytes(b'{"format": 1, "oper')
    with program("--replay", str(folder), folder=tmp_path) as (replay, _):
        assert {text: ask(replay, text) for text in answers} == answers


def memory_peak(process: int) -> int:
    """Return the most memory that a process has had so far, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_large_upload_is_recorded_in_constant_memory(tmp_path: Path) -> None:
    """At most 16 MB more memory; how long it takes is printed. ``RECORDED_MIB=2048`` for more."""
    size = int(os.environ.get("RECORDED_MIB", "512")) << 20
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.truncate(size)

    def upload(url: str) -> float:
        began = time.perf_counter()
        command = ["curl", "--silent", "--fail", "--noproxy", "*", "-H", f"Authorization: {KEY}"]
        command += ["-F", f"file=@{film};type=video/mp4", f"{url}/serve/api/v2/upload"]
        done = subprocess.run(command, capture_output=True, check=True)
        assert json.loads(done.stdout)["code"] == 200
        return time.perf_counter() - began

    folder = tmp_path / "recordings"
    with (
        program(folder=tmp_path) as (real, _),
        program("--record", str(folder), "--upstream", real, folder=tmp_path) as (recorder, pid),
    ):
        small = tmp_path / "small.mp4"
        small.write_bytes(bytes(1 << 20))
        requests.post(
            f"{recorder}/serve/api/v2/upload",
            files={"file": ("small.mp4", small.read_bytes(), "video/mp4")},
            headers={"Authorization": KEY},
        )
        alone = upload(real)
        before = memory_peak(pid)
        recorded = upload(recorder)
        grown = memory_peak(pid) - before
    print(f"alone {alone:.2f} s, recorded {recorded:.2f} s, {grown / 1e6:.1f} MB more")
    assert grown <= 16_000_000
    assert sum(path.stat().st_size for path in files_in(folder)) < 100_000
