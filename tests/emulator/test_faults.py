"""Faults on request, each at each of its moments."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from memories_async import ConfigurationError
from memories_async.emulator import (
    CallbackFault,
    Cut,
    Drip,
    Dropped,
    Emulator,
    Faults,
    Hang,
    HttpResponse,
    InjectedFault,
    Raw,
    Reason,
    gateway,
)
from memories_async.emulator.http.envelopes import failure
from memories_async.operations import Service
from tests.emulator.conftest import (
    KEY,
    PNG,
    KnownEngine,
    fields_and_files,
    post,
    post_any,
    req_and_files,
    session_for,
    until,
)

pytestmark = pytest.mark.anyio

CAPTION = "/v1/understand/uploadImgFile"
EMBEDDING = "/serve/api/v2/embeddings/image"


def caption() -> aiohttp.FormData:
    return req_and_files({"user_prompt": "u"}, ("file", "a.png", PNG, "image/png"))


def embedding() -> aiohttp.FormData:
    return fields_and_files({"model": "mobileclip"}, ("file", "a.png", PNG, "image/png"))


# --- which request ----------------------------------------------------------------------------


async def test_faults_match_by_row_call_or_any(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    emulator.faults.add(InjectedFault("caption_image_file", Reason.THROTTLED))
    emulator.faults.add(InjectedFault("captions.image", Reason.NO_CREDITS, nth=2))
    emulator.faults.add(InjectedFault(None, Reason.CONFLICT, nth=4))
    messages = [
        (await post_any(client, path, body()))[1]["msg"]
        for path, body in [
            (CAPTION, caption),
            (EMBEDDING, embedding),
            (CAPTION, caption),
            (EMBEDDING, embedding),
            (CAPTION, caption),
        ]
    ]
    assert messages == [
        "failure: Request has exceeded the limit.",
        "success",
        "failure: Insufficient credits",
        "Operation cannot be repeated",
        "success",
    ]
    assert len(emulator.ledger) == 5
    assert emulator.ledger.billed() == 2


async def test_nth_and_times(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault("embeddings.image", gateway(503), nth=2, times=2))
    statuses = [(await post_any(client, EMBEDDING, embedding()))[0] for _ in range(5)]
    assert statuses == [200, 503, 503, 200, 200]
    emulator.faults.clear()
    emulator.faults.add(InjectedFault("embeddings.image", gateway(503), times=None))
    statuses = [(await post_any(client, EMBEDDING, embedding()))[0] for _ in range(3)]
    assert statuses == [503, 503, 503]
    emulator.faults.clear()
    assert list(emulator.faults) == []
    assert (await post_any(client, EMBEDDING, embedding()))[0] == 200


def test_faults_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"No operation is called 'captions\.film'"):
        InjectedFault("captions.film", Hang())
    for effect in Drip(), Cut("half"), Cut("status"):
        with pytest.raises(ConfigurationError, match="needs an answer, or moment='processed'"):
            InjectedFault(None, effect)
    InjectedFault(None, Cut("half", HttpResponse(body={})))
    InjectedFault(None, Drip(), moment="processed")


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: InjectedFault(), "an effect or a latency is wanted"),
        (lambda: InjectedFault("captions.image", None), "an effect or a latency is wanted"),
        (lambda: InjectedFault(None, "no_credit"), "no reason is called 'no_credit': one of BAD"),
        (lambda: InjectedFault(None, 402), "effect is 402; HttpResponse, Cut, Drip, Raw, Hang"),
        (lambda: InjectedFault(None, Cut), "or the name of a Reason is wanted"),
        (lambda: InjectedFault(None, Hang(), nth=0), "nth is 0; a whole number from 1"),
        (lambda: InjectedFault(None, Hang(), nth=1.5), "nth is 1.5; a whole number from 1"),
        (lambda: InjectedFault(None, Hang(), times=0), "times is 0; a whole number from 1"),
        (lambda: InjectedFault(None, Hang(), times=-1), "times is -1; a whole number from 1"),
        (lambda: InjectedFault(None, Hang(), moment="procesed"), "one of headers, body, processed"),
        (lambda: InjectedFault(None, latency=math.nan), "a number of seconds from 0 is wanted"),
        (lambda: InjectedFault(None, latency=-3), "a number of seconds from 0 is wanted"),
        (lambda: InjectedFault(None, latency="3"), "a number of seconds from 0 is wanted"),
        (lambda: InjectedFault(None, HttpResponse(body={"a": object()})), "cannot be sent"),
        (lambda: InjectedFault(None, Cut("half", HttpResponse(body=2**70))), "cannot be sent"),
        (lambda: Cut("hafl"), "after is one of nothing, status, half"),
        (lambda: Cut("half", {"code": 0}), "HttpResponse is wanted"),
        (lambda: Drip(-1), "a number of seconds from 0 is wanted"),
        (lambda: Raw("text"), "bytes is wanted"),
        (lambda: HttpResponse(status="500"), "a whole number is wanted"),
        (lambda: HttpResponse(headers={"Retry-After": 3}), "lines of text are wanted"),
        (lambda: HttpResponse(headers={"A": "b\r\nC: d"}), "lines of text are wanted"),
        (lambda: gateway(999), "an HTTP status, e.g. 503 is wanted"),
    ],
)
def test_a_fault_that_would_inject_nothing_is_refused(
    make: Callable[[], object], wanted: str
) -> None:
    """Else a test of what an application does about it passes, and nothing went wrong in it."""
    with pytest.raises(ConfigurationError, match=re.escape(wanted)):
        make()


@pytest.mark.parametrize("given", ["x", Reason.KEY, None, CallbackFault(None, Dropped())])
def test_what_is_no_fault_is_not_switched_on(given: Any) -> None:
    faults: Faults[InjectedFault] = Faults()
    with pytest.raises(ConfigurationError, match=r"InjectedFault\(\.\.\.\) is wanted"):
        faults.add(InjectedFault(None, Reason.KEY), given)
    assert list(faults) == []


def test_a_reason_by_its_name() -> None:
    assert InjectedFault(None, "no_credits").effect is Reason.NO_CREDITS


# --- what is answered -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.BAD_REQUEST, [(200, -1), (200, "0001"), (400, 400)]),
        (Reason.KEY, [(200, -1), (200, "0401"), (401, 401)]),
        (Reason.NO_CREDITS, [(200, -1), (200, "0402"), (402, 402)]),
        (Reason.ACCOUNT_DISABLED, [(200, -1), (200, "0403"), (403, 403)]),
        (Reason.CONFLICT, [(200, -1), (200, "0409"), (409, 409)]),
        (Reason.THROTTLED, [(200, -1), (200, "0429"), (429, 429)]),
        (Reason.SERVER, [(200, -1), (200, "0001"), (500, 500)]),
    ],
)
def test_each_service_says_a_reason_in_its_own_way(
    reason: Reason, expected: list[tuple[int, object]]
) -> None:
    answers = [failure(service, reason) for service in Service]
    storage = expected[2][0], None  # no service of its own: an HTTP status and no envelope
    assert [(answer.status, answer.code) for answer in answers] == [*expected, storage]


@pytest.mark.parametrize("moment", ["headers", "body", "processed"])
async def test_an_answer_at_each_moment(
    client: aiohttp.ClientSession, emulator: Emulator, moment: str
) -> None:
    answer = HttpResponse(status=418, body={"code": "0777", "n": 2**62}, headers={"X-Tea": "pot"})
    emulator.faults.add(InjectedFault("captions.image", answer, moment=moment))
    async with client.post(CAPTION, data=caption()) as response:
        assert (response.status, response.headers["X-Tea"]) == (418, "pot")
        assert await response.json() == {"code": "0777", "n": 2**62}
    [entry] = emulator.ledger
    assert (entry.status, entry.code) == (418, "0777")
    assert entry.complete is (moment != "headers")
    assert entry.billed is (moment == "processed")


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_gateway_bodies_have_no_code(
    client: aiohttp.ClientSession, emulator: Emulator, status: int
) -> None:
    emulator.faults.add(InjectedFault(None, gateway(status)))
    found, answer = await post_any(client, CAPTION, caption())
    assert found == answer["status"] == status
    assert set(answer) == {"timestamp", "path", "status", "error", "requestId"}


async def test_a_content_type_goes_out_once_in_whatever_case_it_is_given(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """As of a recording; of two, Python's development mode makes no HTTP."""
    page = HttpResponse(body=bytearray(b"<html>"), headers={"content-type": "text/html"})
    emulator.faults.add(InjectedFault(None, page))
    async with client.post(CAPTION, data=caption()) as response:
        assert response.headers.getall("Content-Type") == ["text/html"]
        assert await response.read() == b"<html>"


async def test_bytes_are_sent_as_they_are(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    headers = {"Content-Type": "text/html"}
    emulator.faults.add(
        InjectedFault(None, HttpResponse(body=b"<html>Log in</html>", headers=headers))
    )
    emulator.faults.add(InjectedFault(None, HttpResponse(), nth=2))
    emulator.faults.add(InjectedFault(None, HttpResponse(body=None), nth=3))
    packed = HttpResponse(body=gzip.compress(bytes(10**6)), headers={"Content-Encoding": "gzip"})
    emulator.faults.add(InjectedFault(None, packed, nth=4))
    bodies = []
    for _ in range(4):
        async with client.post(CAPTION, data=caption()) as response:
            bodies.append(await response.read())
    assert bodies == [b"<html>Log in</html>", b"", b"null", bytes(10**6)]


async def test_an_answer_may_be_endless(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault(None, HttpResponse(chunks=itertools.repeat(b" " * 1000))))
    async with client.post(CAPTION, data=caption()) as response:
        assert await response.content.readexactly(100_000) == b" " * 100_000
        response.close()


async def test_an_early_answer_comes_while_the_upload_is_arriving(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    emulator.faults.add(
        InjectedFault(None, HttpResponse(status=413, body={"code": 413}), moment="headers")
    )
    answered = asyncio.Event()

    async def never_whole() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        await answered.wait()

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "200000"}
    async with client.post(CAPTION, data=never_whole(), headers=headers) as response:
        assert response.status == 413
        answered.set()
        response.close()
    assert not emulator.ledger[0].complete


# --- the connection ---------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["headers", "body", "processed"])
async def test_a_reset_at_each_moment(
    client: aiohttp.ClientSession, emulator: Emulator, moment: str
) -> None:
    emulator.faults.add(InjectedFault("captions.image", Cut(), moment=moment))
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(client, CAPTION, caption())
    [entry] = emulator.ledger
    assert (entry.status, entry.billed) == (None, moment == "processed")
    assert (await post(client, CAPTION, caption()))["code"] == 0


async def exchange(emulator: Emulator) -> bytes:
    """Ask for a video's metadata by hand; return every byte that comes back."""
    host, port = emulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /serve/api/v1/get_metadata?video_no=VI1 HTTP/1.1\r\nHost: {host}\r\n"
    writer.write(f"{head}Authorization: {KEY}\r\n\r\n".encode())
    received = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return received


async def test_a_cut_after_the_status_line(emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault("library.video", Cut("status"), moment="processed"))
    assert await exchange(emulator) == b"HTTP/1.1 200 OK\r\n"


async def test_a_cut_in_half(emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault("library.video", Cut("half"), moment="processed"))
    head, body = (await exchange(emulator)).split(b"\r\n\r\n")
    whole = b'{"code":"0000","msg":"success","data":null,"success":true,"failed":false}'
    assert f"Content-Length: {len(whole)}".encode() in head
    assert body == whole[: len(whole) // 2]


async def test_raw_bytes(emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault(None, Raw(b"\x16\x03\x01garbage")))
    assert await exchange(emulator) == b"\x16\x03\x01garbage"


async def test_a_dripping_answer(engine: KnownEngine) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with Emulator(engine, sleep=sleep) as emulator:
        emulator.faults.add(InjectedFault(None, Drip(1.5, HttpResponse(body={"code": 0}))))
        received = await exchange(emulator)
    assert received.endswith(b'\r\n\r\n{"code":0}')
    assert pauses == [1.5] * 10


async def test_latency(engine: KnownEngine) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with Emulator(engine, sleep=sleep) as emulator, session_for(emulator) as client:
        emulator.faults.add(InjectedFault("captions.image", latency=3))
        emulator.faults.add(InjectedFault("captions.image", latency=4, moment="processed", nth=2))
        assert (await post(client, CAPTION, caption()))["code"] == 0
        assert (await post(client, CAPTION, caption()))["code"] == 0
    assert pauses == [3, 4]


async def test_a_hanging_call_ends_when_the_emulator_stops(engine: KnownEngine) -> None:
    emulator = Emulator(engine)
    await emulator.start()
    emulator.faults.add(InjectedFault(None, Hang()))
    async with session_for(emulator) as client:
        call = asyncio.create_task(post(client, CAPTION, caption()))
        await until(lambda: emulator.ledger and emulator.ledger[0].finished_at)
        assert not call.done()
        await emulator.stop()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await call
