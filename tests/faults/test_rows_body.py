"""Rows 12 to 18 and 53: what goes wrong in the middle of a 50 MB upload."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from memories_async import (
    ApiError,
    BadRequest,
    CallOptions,
    Caption,
    DeadlineExceeded,
    MediaChanged,
    Memories,
    OutcomeUnknown,
    Progress,
    StallTimeout,
)
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from memories_async.emulator import Reason, gateway
from tests.faults.conftest import (
    FILM_SIZE,
    MP4,
    PNG,
    Stage,
    failure_of,
    time_passes,
    time_passes_while,
    until,
)
from tests.faults.proxy import Plan

pytestmark = pytest.mark.anyio

STALL_TIME = 30.0
"""Nobody waits for it: it passes where a test lets it pass."""


async def upload(
    client: Memories,
    film: Path,
    options: CallOptions | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Caption:
    return await client.captions.video(film, "what", options=options, on_progress=on_progress)


async def test_row_12_a_reset_after_the_headers(stage: Stage, film: Path) -> None:
    stage.proxy.plans.append(Plan(body=0.0))
    result = await upload(stage.client(), film)
    assert result.attempts == 2
    [_, whole] = stage.emulator.ledger
    assert whole.files[0].size == FILM_SIZE  # opened anew, and sent from its start
    await stage.saw(requests=2, billed=1)


@pytest.mark.parametrize(
    "share", [0.5, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.25, 0.75))]
)
async def test_row_13_a_reset_in_the_middle(stage: Stage, film: Path, share: float) -> None:
    told: list[Progress] = []
    stage.proxy.plans.append(Plan(body=share))
    result = await upload(stage.client(), film, on_progress=told.append)
    assert result.attempts == 2
    first = [progress.sent for progress in told if progress.attempt == 1]
    second = [progress.sent for progress in told if progress.attempt == 2]
    assert first == sorted(first)
    assert FILM_SIZE / 20 < max(first) < FILM_SIZE
    assert second == sorted(second)
    assert second[0] == 0
    assert second[-1] == told[-1].total
    await stage.saw(requests=2, billed=1)


async def test_row_13_a_reset_at_every_attempt(stage: Stage, film: Path) -> None:
    stage.proxy.plans.extend([Plan(body=0.25)] * 3)
    error = await failure_of(upload(stage.client(), film, CallOptions(attempts=3)))
    assert not isinstance(error, OutcomeUnknown)
    assert error.attempts == 3
    assert "captions.video" in str(error)
    assert "nothing billed" in str(error)
    await stage.saw(requests=3, billed=0)


async def test_row_13_an_upload_that_creates_is_sent_again_too(stage: Stage) -> None:
    picture = PNG + bytes(19 << 20)
    stage.proxy.plans.append(Plan(body=0.25))
    images = await stage.client().library.add_images(picture)
    assert images.attempts == 2
    assert len(images) == 1
    await stage.saw(requests=2, billed=1)


async def test_row_13_what_can_be_read_only_once_is_not_sent_again(stage: Stage) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe:  # noqa: ASYNC230  # it does not block to open a pipe's end
        feeding = asyncio.create_task(asyncio.to_thread(_feed, writing))
        stage.proxy.plans.append(Plan(request=100_000))
        from memories_async import Media

        error = await failure_of(stage.client().captions.video(Media(pipe, name="a.mp4"), "what"))
    await feeding
    assert error.attempts == 1
    assert not isinstance(error, OutcomeUnknown)
    await stage.saw(requests=1, billed=0)


def _feed(descriptor: int) -> None:
    gone = contextlib.suppress(BrokenPipeError)  # the reader
    with gone, open(descriptor, "wb", buffering=0) as pipe:
        pipe.writelines(MP4 + bytes(100_000) for _ in range(200))


async def test_row_14_a_peer_that_stops_reading(stage: Stage, film: Path) -> None:
    stage.proxy.plans.append(Plan(body=0.5, how="stall"))
    uploading = asyncio.ensure_future(
        upload(stage.client(), film, CallOptions(stall_timeout=STALL_TIME))
    )
    await until(lambda: stage.proxy.received >= FILM_SIZE // 2)
    await time_passes(lambda: stage.clock.slept or uploading.done())
    result = await uploading
    assert result.attempts == 2
    await stage.aclose()
    await stage.saw(requests=2, billed=1)


async def test_row_14_a_peer_that_never_reads_on(stage: Stage, film: Path) -> None:
    stage.proxy.plans.extend([Plan(body=0.1, how="stall")] * 2)
    uploading = asyncio.ensure_future(
        failure_of(upload(stage.client(), film, CallOptions(stall_timeout=STALL_TIME, attempts=2)))
    )
    await until(lambda: stage.proxy.received >= FILM_SIZE // 10)
    await time_passes(lambda: stage.clock.slept or uploading.done())
    await until(lambda: stage.proxy.received >= 2 * (FILM_SIZE // 10) or uploading.done())
    await time_passes(uploading.done)
    error = await uploading
    assert type(error) is StallTimeout
    assert isinstance(error, TimeoutError)
    assert error.attempts == 2
    assert "was not billed" in str(error)
    await stage.aclose()
    await stage.saw(requests=2, billed=0)


async def test_row_15_a_slow_peer_that_never_stalls(stage: Stage) -> None:
    stage.proxy.plans.append(Plan(drip=16 * 1024))
    film = MP4 + bytes(12 << 20)
    began = asyncio.get_running_loop().time()
    uploading = asyncio.ensure_future(
        stage.client().captions.video(
            film, "what", options=CallOptions(stall_timeout=STALL_TIME, answer_timeout=3600)
        )
    )
    await time_passes_while(uploading, lambda: stage.proxy.received)
    result = await uploading
    assert asyncio.get_running_loop().time() - began > 2 * STALL_TIME
    assert result.attempts == 1
    await stage.saw(requests=1, billed=1)


async def test_row_15_only_a_deadline_ends_it(stage: Stage, film: Path) -> None:
    stage.proxy.plans.append(Plan(drip=16 * 1024))
    options = CallOptions(stall_timeout=STALL_TIME, deadline=2 * STALL_TIME)
    uploading = asyncio.ensure_future(failure_of(upload(stage.client(), film, options)))
    await time_passes_while(uploading, lambda: stage.proxy.received)
    error = await uploading
    assert type(error) is DeadlineExceeded
    assert isinstance(error, TimeoutError)
    assert error.attempts == 1
    await stage.aclose()
    await stage.saw(requests=1, billed=0)


@pytest.mark.parametrize("answer", [gateway(413), Answer(status=413, body=b"<html>")])
async def test_row_16_an_early_413(stage: Stage, film: Path, answer: Answer) -> None:
    stage.emulator.faults.add(Fault("captions.video", answer, moment="headers"))
    error = await failure_of(upload(stage.client(), film))
    assert type(error) is BadRequest
    assert error.status == 413
    assert error.attempts == 1
    assert stage.proxy.received < FILM_SIZE / 2
    await stage.saw(requests=1, billed=0)


async def test_row_16_an_early_413_after_which_the_peer_closes(stage: Stage, film: Path) -> None:
    reply = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    stage.proxy.plans.append(Plan(body=0.01, reply=reply, how="close"))
    error = await failure_of(upload(stage.client(), film))
    assert isinstance(error, ApiError)
    assert error.status == 413
    assert error.attempts == 1
    assert stage.proxy.received < FILM_SIZE / 2
    await stage.saw(requests=1, billed=0)


async def test_row_18_an_early_throttle(stage: Stage, film: Path) -> None:
    stage.emulator.faults.add(Fault("captions.video", Reason.THROTTLED, moment="headers"))
    result = await upload(stage.client(), film)
    assert result.attempts == 2
    assert sum(stage.clock.slept) > 0
    await stage.saw(requests=2, billed=1)


def _shrink(path: Path) -> None:
    os.truncate(path, FILM_SIZE // 2)


def _grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(MP4)
    os.truncate(other, FILM_SIZE)
    os.replace(other, path)


def _touch(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(FILM_SIZE - 1)
        file.write(b"x")


@pytest.mark.parametrize("change", [_shrink, _grow, _replace, _touch, os.unlink])
async def test_row_53_a_file_that_changes(
    stage: Stage, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(MP4)
    os.truncate(film, FILM_SIZE)
    changed = False

    def change_once(progress: Progress) -> None:
        nonlocal changed
        if progress.sent > FILM_SIZE // 4 and not changed:
            changed = True
            change(film)

    error = await failure_of(upload(stage.client(), film, on_progress=change_once))
    assert changed
    assert type(error) is MediaChanged
    assert error.attempts == 1
    assert error.operation == "captions.video (POST /v1/understand/uploadFileSync)"
    await until(lambda: stage.emulator.ledger[0].finished_at is not None)
    assert not stage.emulator.ledger[0].complete
    await stage.saw(requests=1, billed=0)
