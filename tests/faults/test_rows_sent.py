"""Rows 19 to 31: the whole request has left, and what comes back is nothing, late or too much."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest

from memories_async import (
    AnswerTimeout,
    AnswerTooLarge,
    ApiError,
    CallOptions,
    MemoriesError,
    OutcomeUnknown,
)
from memories_async._engine.transport.payload import Connection
from memories_async.emulator import Cut, Drip, Hang, Raw
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from memories_async.operations import ADD_IMAGES, CAPTION_IMAGE_FILE, Operation
from tests.faults.conftest import (
    PNG,
    Stage,
    caption,
    failure_of,
    late_failure_of,
    stored_video,
    until,
)
from tests.faults.proxy import Plan

pytestmark = pytest.mark.anyio


def assert_unknown(
    error: MemoriesError, operation: Operation[object] = CAPTION_IMAGE_FILE
) -> OutcomeUnknown:
    """Assert everything that an OutcomeUnknown after one attempt has to say."""
    assert isinstance(error, OutcomeUnknown)
    assert error.attempts == 1
    assert error.operation == str(operation)
    assert error.state == "SENT"
    assert error.bytes_sent > len(PNG)
    assert error.sent_at is not None
    assert timedelta() <= datetime.now(UTC) - error.sent_at < timedelta(minutes=1)
    assert error.elapsed >= 0
    assert len(error.request_digest) == 16
    assert "may have been billed" in str(error)
    assert "accept_double_billing" in str(error)
    return error


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_row_19_cut_before_the_last_byte_arrives(stage: Stage, how: str) -> None:
    stage.proxy.plans.append(Plan(body=1.0, withhold=1, how=how))  # type: ignore[arg-type]
    error = await failure_of(caption(stage.client()))
    # It did not arrive whole, which nobody on this side can know.
    assert_unknown(error)
    assert stage.clock.slept == []
    await stage.saw(requests=1, billed=0)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_row_19_cut_after_the_last_byte_has_arrived(stage: Stage, how: str) -> None:
    stage.proxy.plans.append(Plan(body=1.0, how=how))  # type: ignore[arg-type]
    error = await failure_of(caption(stage.client()))
    assert_unknown(error)
    assert stage.proxy.connections == 1
    await stage.saw(requests=1, billed=1)


async def test_row_19_reset_while_the_last_piece_leaves(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has taken the last byte and the reset is noticed first: it may have arrived."""
    hand_over = Connection.write

    async def accept_and_notice_a_reset(self: Connection, *arguments: Any) -> None:
        await hand_over(self, *arguments)
        raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr(Connection, "write", accept_and_notice_a_reset)
    error = await failure_of(caption(stage.client()))
    assert isinstance(error, OutcomeUnknown)
    assert (error.attempts, error.state) == (1, "SENT")
    assert stage.proxy.connections == 1
    assert len(stage.emulator.ledger) <= 1


async def test_row_19_an_upload_that_creates(stage: Stage) -> None:
    stage.proxy.plans.append(Plan(body=1.0))
    error = await failure_of(stage.client().library.add_images(PNG))
    assert_unknown(error, ADD_IMAGES)
    await stage.saw(requests=1, billed=1)


async def test_row_20_a_free_read_is_sent_again(stage: Stage) -> None:
    video_no = await stored_video(stage)
    stage.proxy.plans.append(Plan(body=1.0))
    video = await stage.client().library.video(video_no)
    assert video.attempts == 2
    assert stage.proxy.connections == 2
    await stage.saw(requests=2, billed=0)


async def test_row_20_a_free_read_that_never_arrives(stage: Stage) -> None:
    stage.proxy.plans.extend([Plan(body=1.0)] * 5)
    error = await failure_of(stage.client().library.video("VI1"))
    assert isinstance(error, OutcomeUnknown)
    assert error.attempts == 5
    assert "free and changes nothing" in str(error)
    await stage.saw(requests=5, billed=0)


async def test_row_21_processed_and_then_reset(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Cut(), moment="processed"))
    error = await failure_of(caption(stage.client()))
    assert_unknown(error)
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_row_21_answered_and_the_answer_lost(stage: Stage, how: str) -> None:
    stage.proxy.plans.append(Plan(answer=0, how=how))  # type: ignore[arg-type]
    error = await failure_of(caption(stage.client()))
    assert_unknown(error)
    await stage.saw(requests=1, billed=1)


async def test_row_21_sent_again_where_the_caller_accepts_to_pay_twice(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Cut(), moment="processed"))
    result = await stage.client().captions.image(
        PNG, "what", options=CallOptions(replay="accept_double_billing")
    )
    assert result.attempts == 2
    await stage.saw(requests=2, billed=2)


@pytest.mark.parametrize(("moment", "billed"), [("body", 0), ("processed", 1)])
async def test_row_22_no_answer(stage: Stage, moment: str, billed: int) -> None:
    stage.emulator.faults.add(
        Fault("captions.image", Hang(), moment=moment)  # type: ignore[arg-type]
    )
    ledger = stage.emulator.ledger
    error = await late_failure_of(
        caption(stage.client(), CallOptions(answer_timeout=30)),
        once=lambda: ledger.billed() == billed and ledger and ledger[0].complete,
    )
    assert type(error) is AnswerTimeout
    assert isinstance(error, TimeoutError)
    assert_unknown(error)
    await stage.saw(requests=1, billed=billed)


async def test_row_22_a_deadline_after_the_whole_was_sent(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Hang(), moment="processed"))
    error = await late_failure_of(
        caption(stage.client(), CallOptions(deadline=30)), once=stage.emulator.ledger.billed
    )
    assert type(error) is AnswerTimeout
    assert_unknown(error)
    await stage.saw(requests=1, billed=1)


async def test_row_23_idle_connections_are_not_used_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = stage.client()
    await caption(client)
    await caption(client)
    assert stage.proxy.connections == 1
    now = time.monotonic()
    monkeypatch.setattr(aiohttp.connector, "monotonic", lambda: now + 2.1)
    await caption(client)
    assert stage.proxy.connections == 2
    await stage.saw(requests=3, billed=3)


async def test_row_23_a_connection_that_the_server_closed_is_noticed(stage: Stage) -> None:
    _, answer = await _bytes_of_one_call(stage)
    stage.proxy.plans.append(Plan(answer=answer, how="close"))
    client = stage.client()
    await caption(client)
    opened = await (await client._dispatcher.engine()).http._sessions.current()
    pool: Any = opened.session.connector
    await until(
        lambda: (
            not pool._acquired
            and not any(idle.is_connected() for host in pool._conns.values() for idle, _ in host)
        )
    )
    await caption(client)
    assert stage.proxy.connections == 3
    await stage.saw(requests=3, billed=3)


async def test_row_23_forced_onto_a_stale_connection(stage: Stage) -> None:
    request, _ = await _bytes_of_one_call(stage)
    stage.proxy.plans.append(Plan(request=request + 1))
    client = stage.client()
    await caption(client)
    assert_unknown(await failure_of(caption(client)))
    assert stage.proxy.connections == 2
    await stage.saw(requests=2, billed=2)  # the third never reached it, which nobody can know


async def _bytes_of_one_call(stage: Stage) -> tuple[int, int]:
    """Return how many bytes the client and the server send for one call."""
    before = stage.proxy.received, stage.proxy.returned
    async with stage.client() as client:
        await caption(client)
    return stage.proxy.received - before[0], stage.proxy.returned - before[1]


@pytest.mark.parametrize("after", ["status", "half"])
async def test_row_25_cut_within_the_answer(stage: Stage, after: str) -> None:
    stage.emulator.faults.add(
        Fault("captions.image", Cut(after), moment="processed")  # type: ignore[arg-type]
    )
    error = await failure_of(caption(stage.client()))
    assert assert_unknown(error).status == (200 if after == "half" else None)
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
    ids=["line", "tls", "header", "headers", "lengths", "gzip", "chunks"],
)
async def test_row_25_an_answer_that_is_not_http(stage: Stage, data: bytes) -> None:
    stage.emulator.faults.add(Fault("captions.image", Raw(data), moment="processed"))
    error = assert_unknown(await failure_of(caption(stage.client())))
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    await stage.saw(requests=1, billed=1)


async def test_row_27_an_answer_that_drips(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Drip(0.001), moment="processed"))
    result = await stage.client().captions.image(PNG, "what")
    assert result.attempts == 1
    await stage.saw(requests=1, billed=1)


async def test_row_27_an_answer_that_drips_for_too_long(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Drip(1.0), moment="processed"))
    error = await late_failure_of(
        caption(stage.client(), CallOptions(answer_timeout=30)), once=stage.emulator.ledger.billed
    )
    assert type(error) is AnswerTimeout
    assert assert_unknown(error).status == 200
    await stage.saw(requests=1, billed=1)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gzip of 600 MB of zeros, made without ever holding them: one MB's, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    one = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)  # stands wherever it is put
    checksum = 0
    for _ in range(600):
        checksum = zlib.crc32(zeros, checksum)
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return header + one * 600 + packer.flush() + struct.pack("<II", checksum, 600 << 20)


def _peak() -> int:
    """Return the most memory that this process had since ``_forget_peak``, in bytes."""
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


async def test_row_29_a_gzip_bomb(stage: Stage, bomb: bytes) -> None:
    answer = Answer(body=bomb, headers={"Content-Encoding": "gzip"})
    stage.emulator.faults.add(Fault("captions.image", answer, moment="processed"))
    client = stage.client()
    _forget_peak()
    before = _peak()
    error = await failure_of(caption(client))
    assert _peak() - before < 40 << 20
    assert type(error) is AnswerTooLarge
    assert (error.attempts, error.status) == (1, 200)
    assert stage.clock.slept == []
    await stage.saw(requests=1, billed=1)


async def test_row_30_an_endless_answer(stage: Stage) -> None:
    answer = Answer(chunks=itertools.repeat(bytes(64 * 1024)))
    stage.emulator.faults.add(Fault("captions.image", answer, moment="processed"))
    client = stage.client()
    _forget_peak()
    before = _peak()
    error = await failure_of(caption(client))
    assert _peak() - before < 40 << 20
    assert type(error) is AnswerTooLarge
    assert error.attempts == 1
    assert "16 MiB" in str(error)
    await client.aclose()
    await stage.saw(requests=1, billed=1)


async def test_row_30_an_answer_just_within_the_cap(stage: Stage) -> None:
    body = b'{"code":0,"data":{"text":"%s"}}' % (b"x" * (16 * 1024 * 1024 - 1000))
    packed = Answer(body=gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
    stage.emulator.faults.add(Fault("captions.image", packed, moment="processed"))
    result = await stage.client().captions.image(PNG, "what")
    assert len(result.text) == 16 * 1024 * 1024 - 1000
    await stage.saw(requests=1, billed=1)


async def test_row_31_a_download_larger_than_the_cap_goes_to_disk(
    stage: Stage, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(PNG)
    os.truncate(large, 40 << 20)
    asset_id = stage.emulator.add_asset(large)
    client = stage.client()
    _forget_peak()
    before = _peak()
    result = await client.assets.download(asset_id, tmp_path / "copy.png")
    assert _peak() - before < 40 << 20
    assert result.size == 40 << 20
    assert (tmp_path / "copy.png").stat().st_size == 40 << 20
    assert result.attempts == 1
    await stage.saw(requests=1, billed=0)


async def test_row_31_json_in_place_of_the_file(stage: Stage, tmp_path: Path) -> None:
    refusal = Answer(body={"code": 400, "msg": "Asset not found", "data": None, "failed": True})
    stage.emulator.faults.add(Fault("assets.download", refusal, times=None))
    error = await failure_of(stage.client().assets.download("re_1", tmp_path / "copy.png"))
    assert isinstance(error, ApiError)
    assert (error.code, error.attempts) == ("400", 1)
    assert os.listdir(tmp_path) == []
    await stage.saw(requests=1, billed=0)
