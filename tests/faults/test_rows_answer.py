"""Rows 32 to 46: answers that are no answer, refusals, throttling and redirects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from memories_async import (
    ApiError,
    AuthenticationError,
    BadRequest,
    Bucket,
    CallOptions,
    CapacityReached,
    Conflict,
    InsufficientCredits,
    NotJson,
    OutcomeUnknown,
    PermissionDenied,
    Rate,
    RateLimited,
    UnexpectedShape,
)
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from memories_async.emulator import Reason, gateway
from memories_async.limiters import MemoryLimiter
from memories_async.observe import Throttled
from tests.faults.conftest import PNG, Stage, caption, embed, failure_of, stored_video, until
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio

CAPTIONS = "captions.image"
HTML = b"<html><body>\x1b[31mWelcome to <b>Hotel WiFi</b>\r\n" + b"x" * 5000 + b"</body></html>"


def processed(stage: Stage, answer: Answer, *, times: int | None = 1) -> None:
    """Let the service do its work and bill it, and answer something else."""
    stage.emulator.faults.add(Fault(CAPTIONS, answer, moment="processed", times=times))


async def test_row_32_a_captive_portal(stage: Stage) -> None:
    processed(stage, Answer(body=HTML, headers={"Content-Type": "text/html"}))
    error = await failure_of(caption(stage.client()))
    assert type(error) is NotJson
    assert (error.attempts, error.status) == (1, 200)
    assert len(error.snippet) <= 200
    assert error.snippet.isprintable()
    assert "text/html" in str(error)
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"7", b"{}", b'{"code":null}'])
async def test_row_33_json_without_an_envelope(stage: Stage, body: bytes) -> None:
    processed(stage, Answer(body=body))
    error = await failure_of(caption(stage.client()))
    assert type(error) is UnexpectedShape
    assert (error.attempts, error.status) == (1, 200)
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize("data", [None, [], "x", 7, {}, {"text": None}, {"text": ["a"]}])
async def test_row_33_an_envelope_without_a_caption(stage: Stage, data: object) -> None:
    processed(stage, Answer(body={"code": 0, "data": data}))
    error = await failure_of(caption(stage.client()))
    assert type(error) is UnexpectedShape
    assert error.attempts == 1
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"code":0,"data":' + b'{"a":' * 100_000,
        b'{"code":' + b"9" * 5000 + b',"data":null}',
        b'{"code":0,"data":{"text":NaN}}',
        b'{"code":0',
    ],
    ids=["brackets", "objects", "digits", "nan", "half"],
)
async def test_row_34_json_that_breaks_parsers(stage: Stage, body: bytes) -> None:
    processed(stage, Answer(body=body))
    error = await failure_of(caption(stage.client()))
    assert type(error) is NotJson
    assert (error.attempts, error.status) == (1, 200)
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize("half", [b"\xff", b"\\ud83d"])
async def test_a_paid_caption_with_half_a_character_is_kept(stage: Stage, half: bytes) -> None:
    processed(stage, Answer(body=b'{"code":0,"data":{"text":"a dog %s"}}' % half))
    assert (await caption(stage.client())).text == "a dog \ufffd"
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize("code", ["0000", 0, "0", 200, "200"])
async def test_row_35_success_in_every_spelling(stage: Stage, code: object) -> None:
    processed(stage, Answer(body={"code": code, "data": {"text": "a dog"}}))
    stage.emulator.faults.add(
        Fault(
            "embeddings.image",
            Answer(body={"code": code, "data": {"embedding": [0.5]}}),
            moment="processed",
        )
    )
    client = stage.client()
    assert (await client.captions.image(PNG, "what")).text == "a dog"
    assert (await client.embeddings.image(PNG)).vector == [0.5]
    await stage.saw(requests=2, billed=2)


async def test_row_37_an_unknown_code(stage: Stage) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, Answer(body={"code": "0777", "msg": "odd"})))
    error = await failure_of(caption(stage.client()))
    assert type(error) is ApiError
    assert (error.code, error.status, error.attempts) == ("0777", 200, 1)
    assert "odd" in str(error)
    await stage.saw(requests=1, billed=0)


async def test_row_38_throttled_three_times(stage: Stage) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, Reason.THROTTLED, times=3))
    result = await stage.client().captions.image(PNG, "what")
    assert result.attempts == 4
    await stage.saw(requests=4, billed=1)


def throttled(stage: Stage) -> int:
    return sum(isinstance(event, Throttled) for event in stage.recorded.events)


async def test_row_38_one_pause_for_all_calls_of_the_bucket(stage: Stage) -> None:
    """Ten calls under way together are throttled together: one pause, and others run on."""
    stage.emulator.faults.add(Fault(CAPTIONS, Reason.THROTTLED, times=10))
    client, all_connected = stage.client(), asyncio.Barrier(10)
    together: list[int] = []

    async def wait_for_the_others() -> None:
        if len(together) < 10:  # at the first attempt
            together.append(await all_connected.wait())

    # Who is told of it when the pause is over tells of another one.
    stage.clock.may_leap = lambda: throttled(stage) == 10
    options = CallOptions(before_sending=wait_for_the_others)
    calls = [asyncio.ensure_future(caption(client, options)) for _ in range(10)]
    await asyncio.gather(*calls)
    assert [seconds for seconds in stage.clock.slept if seconds] == [0.5]
    await stage.saw(requests=20, billed=10)


async def test_row_38_the_others_wait_and_another_bucket_does_not(stage: Stage) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, Answer(status=429, headers={"Retry-After": "60"})))
    client = stage.client()
    order: list[str] = []

    async def note(name: str, call: Callable[[], object]) -> None:
        await call()  # type: ignore[misc]  # an awaitable
        order.append(name)

    stage.clock.may_leap = lambda: order  # the pause lasts until the embedding has had its chance
    paused = asyncio.create_task(note("throttled", lambda: caption(client)))
    await until(lambda: stage.clock.slept)
    began = stage.clock.now
    await asyncio.gather(
        note("other bucket", lambda: embed(client)), note("waiting", lambda: caption(client))
    )
    await paused
    assert order[0] == "other bucket"
    assert stage.clock.now - began == 60
    assert [seconds for seconds in stage.clock.slept if seconds] == [60]
    await stage.saw(requests=4, billed=3)


async def test_row_38_a_cancelled_sleeper_harms_nobody(stage: Stage) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, Answer(status=429, headers={"Retry-After": "60"})))
    client = stage.client()
    paused = asyncio.ensure_future(caption(client))
    stage.clock.may_leap = paused.done
    await until(lambda: stage.clock.slept)
    waiting = asyncio.ensure_future(caption(client))
    await asyncio.sleep(0.001)
    paused.cancel()
    await waiting
    assert paused.cancelled()
    await stage.saw(requests=2, billed=1)


async def test_row_39_throttled_for_ever(stage: Stage) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, Reason.THROTTLED, times=None))
    error = await failure_of(caption(stage.client()))
    assert type(error) is RateLimited
    assert error.attempts == 5
    assert error.retry_after is not None
    assert "not billed" in str(error)
    assert sum(stage.clock.slept) <= 120
    await stage.saw(requests=5, billed=0)


async def test_row_39_a_long_budget_still_ends(stage: Stage) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, Reason.THROTTLED, times=None))
    began = stage.clock.now
    options = CallOptions(attempts=1000, retry_time=600)
    error = await failure_of(caption(stage.client(), options))
    assert type(error) is RateLimited
    assert stage.clock.now - began <= 700
    requests = len(stage.emulator.ledger)
    assert 5 < requests < 100
    await stage.saw(requests=requests, billed=0)


async def test_row_39_a_pause_beyond_the_deadline(stage: Stage) -> None:
    stage.emulator.faults.add(
        Fault(CAPTIONS, Answer(status=429, headers={"Retry-After": "60"}), times=None)
    )
    error = await failure_of(caption(stage.client(), CallOptions(deadline=10)))
    assert type(error) is RateLimited
    assert error.retry_after == 60
    assert stage.clock.slept == []
    await stage.saw(requests=1, billed=0)


IN_A_MINUTE, TOMORROW = "in a minute", "tomorrow"


def too_many(hint: str) -> Answer:
    """Answer 429 with a hint; a date is written when it is needed."""
    ahead = {IN_A_MINUTE: timedelta(seconds=60), TOMORROW: timedelta(days=1)}.get(hint)
    if ahead is not None:
        hint = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
    return Answer(status=429, headers={"Retry-After": hint})


@pytest.mark.parametrize(
    ("hint", "low", "high"),
    [("2", 2, 2), ("0.5", 0.5, 0.5), ("120", 120, 120), (IN_A_MINUTE, 30, 60)],
)
async def test_row_40_a_hint_of_up_to_two_minutes(
    stage: Stage, hint: str, low: float, high: float
) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, too_many(hint)))
    result = await stage.client().captions.image(PNG, "what")
    assert result.attempts == 2
    assert low <= sum(stage.clock.slept) <= high
    await stage.saw(requests=2, billed=1)


@pytest.mark.parametrize("hint", ["121", "86400", TOMORROW])
async def test_row_40_a_longer_hint_is_for_the_caller(stage: Stage, hint: str) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, too_many(hint)))
    patient = CallOptions(retry_time=1e6)
    error = await failure_of(caption(stage.client(), patient))
    assert type(error) is RateLimited
    assert error.retry_after is not None
    assert error.retry_after > 120
    assert error.attempts == 1
    assert stage.clock.slept == []
    await stage.saw(requests=1, billed=0)


@pytest.mark.parametrize("hint", ["inf", "-1", "nan", "soon", "1e9", "9" * 400])
async def test_row_40_a_hint_that_is_no_time(stage: Stage, hint: str) -> None:
    stage.emulator.faults.add(Fault(CAPTIONS, too_many(hint)))
    result = await stage.client().captions.image(PNG, "what")
    assert result.attempts == 2
    assert sum(stage.clock.slept) <= 1  # our own backoff
    await stage.saw(requests=2, billed=1)


NETWORK_ABNORMAL = Answer(body={"code": "0001", "msg": "Network abnormal", "data": None})


async def test_row_43_network_abnormal_is_asked_again_where_that_is_free(stage: Stage) -> None:
    video_no = await stored_video(stage)
    stage.emulator.faults.add(Fault("library.video", NETWORK_ABNORMAL, times=3))
    video = await stage.client().library.video(video_no)
    assert video.attempts == 4
    await stage.saw(requests=4, billed=0)


async def test_row_43_network_abnormal_is_unknown_where_it_may_cost(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("library.add_images", NETWORK_ABNORMAL, moment="processed"))
    error = await failure_of(stage.client().library.add_images(PNG))
    assert isinstance(error, OutcomeUnknown)
    assert (error.attempts, error.status, error.state) == (1, 200, "ANSWERED")
    assert error.bytes_sent > len(PNG)
    assert stage.clock.slept == []
    await stage.saw(requests=1, billed=1)


FAILING = [
    gateway(500),
    gateway(502),
    gateway(503),
    gateway(504),
    Answer(status=502, body=b"<html>Bad Gateway</html>", headers={"Content-Type": "text/html"}),
]


@pytest.mark.parametrize("answer", FAILING, ids=lambda answer: str(answer.status))
async def test_row_44_a_failing_gateway_is_asked_again_where_that_is_free(
    stage: Stage, answer: Answer
) -> None:
    video_no = await stored_video(stage)
    stage.emulator.faults.add(Fault("library.video", answer, times=3))
    video = await stage.client().library.video(video_no)
    assert video.attempts == 4
    await stage.saw(requests=4, billed=0)


@pytest.mark.parametrize("answer", FAILING, ids=lambda answer: str(answer.status))
@pytest.mark.parametrize("call", ["captions.image", "library.add_images"])
async def test_row_44_a_failing_gateway_is_unknown_where_it_may_cost(
    stage: Stage, answer: Answer, call: str
) -> None:
    stage.emulator.faults.add(Fault(call, answer, moment="processed"))
    client = stage.client()
    error = await failure_of(
        caption(client) if call == "captions.image" else client.library.add_images(PNG)
    )
    assert isinstance(error, OutcomeUnknown)
    assert (error.attempts, error.status, error.state) == (1, answer.status, "ANSWERED")
    assert error.operation is not None
    assert error.operation.startswith(call)
    await stage.saw(requests=1, billed=1)


async def test_row_44_a_gateway_that_refuses_half_a_body(stage: Stage) -> None:
    """503 before the body was whole: nothing can have been done, so it is sent once more."""
    film = b"\x00\x00\x00\x18ftypmp42" + bytes(20 << 20)
    stage.emulator.faults.add(Fault("captions.video", gateway(503), moment="headers"))
    result = await stage.client().captions.video(film, "what")
    assert result.attempts == 2
    await stage.saw(requests=2, billed=1)


async def test_row_44_a_gateway_that_refuses_half_a_body_twice(stage: Stage) -> None:
    """The early 503 is trusted once: a gateway that repeats it is no gateway to count on."""
    film = b"\x00\x00\x00\x18ftypmp42" + bytes(20 << 20)
    stage.emulator.faults.add(Fault("captions.video", gateway(503), moment="headers", times=2))
    error = await failure_of(stage.client().captions.video(film, "what"))
    assert isinstance(error, OutcomeUnknown)
    assert error.attempts == 2
    await stage.saw(requests=2, billed=0)


async def test_row_44_a_gateway_that_refuses_half_an_upload_that_creates(stage: Stage) -> None:
    film = b"\x00\x00\x00\x18ftypmp42" + bytes(20 << 20)
    stage.emulator.faults.add(Fault("library.add_video", gateway(503), moment="headers"))
    error = await failure_of(stage.client().library.add_video(film))
    assert isinstance(error, OutcomeUnknown)
    assert (error.attempts, error.state) == (1, "ANSWERED")
    await stage.saw(requests=1, billed=0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_row_45_no_redirect_is_followed(stage: Stage, status: int) -> None:
    other = Proxy(stage.proxy.target)
    here, there = stage.proxy.port, other.port
    targets = [
        f"http://localhost:{here}/elsewhere",  # same host
        f"http://127.0.0.1:{here}/v1/understand/uploadImgFile",  # other host
        f"http://localhost:{there}/v1/understand/uploadImgFile",  # other port
        f"https://localhost:{there}/",  # other scheme
        f"//localhost:{there}/",
        f"http://user@localhost:{there}/",
        f"http://user:password@localhost:{there}/",
    ]
    async with other:
        client = stage.client()
        for target in targets:
            stage.emulator.faults.add(
                Fault(None, Answer(status=status, headers={"Location": target}))
            )
            error = await failure_of(caption(client))
            assert type(error) is ApiError
            assert error.message == "redirect refused"
            assert (error.status, error.attempts) == (status, 1)
            stage.emulator.faults.clear()
        assert other.connections == 0
    await stage.saw(requests=len(targets), billed=0)


async def test_row_46_unknown_fields_and_every_spelling(stage: Stage) -> None:
    exact = 2**62 + 1
    data = {
        "videoNo": "VI1",
        "video_name": "a.mp4",
        "size": str(exact),
        "createTime": "1759039334664",
        "brand_new": {"deep": [1, 2]},
        "video_no": "ignored",
    }
    body = json.dumps({"code": "0000", "msg": "success", "data": data, "more": 1}).encode()
    stage.emulator.faults.add(Fault("library.add_video", Answer(body=body), moment="processed"))
    video = await stage.client().library.add_video(b"\x00\x00\x00\x18ftypmp42" + bytes(10))
    assert (video.video_no, video.name, video.size) == ("VI1", "a.mp4", exact)
    assert video.created_at is not None
    assert video.created_at.timestamp() == pytest.approx(1759039334.664)
    assert video.extra == {"brand_new": {"deep": [1, 2]}}
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"code": "0001", "msg": "user_prompt is required"}, BadRequest),
        ({"code": "0003", "msg": "bad"}, BadRequest),
        ({"code": "0401", "msg": "Unauthorized"}, AuthenticationError),
        ({"code": "0402", "msg": "Insufficient credits"}, InsufficientCredits),
        ({"code": "0403", "msg": "disabled"}, PermissionDenied),
        ({"code": "0409", "msg": "repeated"}, Conflict),
        ({"code": "9009", "msg": "no permission"}, PermissionDenied),
        ({"code": 400, "msg": "Request has exceeded the limit."}, BadRequest),
        ({"code": -1, "msg": "failure: something new"}, ApiError),
        ({"code": -1, "msg": "failure: user_prompt is not allowed"}, BadRequest),
    ],
)
async def test_refusals_are_never_sent_again(
    stage: Stage, body: dict[str, object], kind: type[ApiError]
) -> None:
    status = 400 if body["code"] == 400 else 200
    stage.emulator.faults.add(Fault(None, Answer(status=status, body=body), times=None))
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(100)}, limiter=MemoryLimiter())
    error = await failure_of(caption(client))
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.code, error.attempts) == (str(body["code"]), 1)
    await stage.saw(requests=1, billed=0)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"code": "0000", "msg": "success", "data": {"text": "A cat"}}, UnexpectedShape),
        (200, {"code": "0429", "msg": "busy", "data": {"text": "A cat"}}, UnexpectedShape),
        (200, {"code": 16, "msg": "busy", "data": {"data": {"text": "A cat"}}}, UnexpectedShape),
        (429, {"text": "A cat"}, UnexpectedShape),
        (500, {"code": -1, "msg": "failure: Request has exceeded the limit."}, OutcomeUnknown),
    ],
)
async def test_what_was_perhaps_served_is_not_sent_again(
    stage: Stage, status: int, body: dict[str, object], kind: type[Exception]
) -> None:
    stage.emulator.faults.add(Fault(None, Answer(status=status, body=body), times=None))
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(100)}, limiter=MemoryLimiter())
    error = await failure_of(caption(client))
    assert type(error) is kind
    assert error.attempts == 1
    if isinstance(error, UnexpectedShape):
        assert error.answer == {"text": "A cat"}, "paid for, and kept"
    await stage.saw(requests=1, billed=0)


@pytest.mark.parametrize(
    "data",
    [None, {}, [], [None], "busy", {"retryAfter": 1}, {"text": None}, {"text": "", "token": 0}],
)
async def test_who_is_turned_away_without_a_result_comes_again(stage: Stage, data: object) -> None:
    body = {"code": "0429", "msg": "busy", "data": data}
    stage.emulator.faults.add(Fault(None, Answer(status=429, body=body), times=2))
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(100)}, limiter=MemoryLimiter())
    await caption(client)
    await stage.saw(requests=3, billed=1)


@pytest.mark.parametrize("text", ["<html>busy", "[1]", "", "{"])
async def test_http_429_alone_turns_away(stage: Stage, text: str) -> None:
    answer = Answer(status=429, body=text.encode(), headers={"Content-Type": "text/html"})
    stage.emulator.faults.add(Fault(None, answer, times=1))
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(100)}, limiter=MemoryLimiter())
    await caption(client)
    await stage.saw(requests=2, billed=1)


async def test_what_is_free_is_sent_again_whatever_comes_with_the_refusal(stage: Stage) -> None:
    body = {"code": "0429", "msg": "busy", "data": {"videos": [{"video_no": "VI1"}]}}
    stage.emulator.faults.add(Fault(None, Answer(status=200, body=body), times=1))
    assert [video async for video in stage.client().library.videos()] == []
    await stage.saw(requests=2, billed=0)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"code": "0429", "msg": "Request has exceeded the limit."}, 200, RateLimited),
        ({"code": 429, "msg": "Rate limit exceeded"}, 429, RateLimited),
        ({"code": -1, "msg": "failure: Request has exceeded the limit."}, 200, RateLimited),
        ({"code": 16, "msg": "busy"}, 200, CapacityReached),
    ],
)
async def test_throttling_in_every_spelling(
    stage: Stage, body: dict[str, object], status: int, kind: type[ApiError]
) -> None:
    answer = Answer(status=status, body=body)
    stage.emulator.faults.add(Fault(None, answer, times=6))
    client = stage.client()
    assert type(await failure_of(caption(client))) is kind
    result = await client.captions.image(PNG, "what")
    assert result.attempts == 2
    await stage.saw(requests=7, billed=1)
