"""What a run writes down when it ends as nobody planned: nothing that was billed is lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from memories_async import ClosedError, Memories
from memories_async.bulk import Job, Status, preflight
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault
from memories_async.emulator.http.envelopes import HttpResponse
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import assert_journal_matches, items_of

pytestmark = pytest.mark.anyio


class BrokenOffError(BaseException):
    """Ends whatever runs, as SystemExit does, but is no business of the event loop's."""


async def test_what_breaks_a_run_off_after_a_request_had_left_leaves_it_unknown(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embed = client.embeddings.image

    async def billed_and_broken(*given: Any, **named: Any) -> None:
        await embed(*given, **named)
        raise BrokenOffError

    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        with monkeypatch.context() as patched:
            patched.setattr(client.embeddings, "image", billed_and_broken)
            with pytest.raises(BrokenOffError):
                await job.run(client, concurrency=1)
        items = await items_of(job)
        assert [item.status for item in items].count(Status.UNKNOWN) == 1
        await job.run(client)
        items = await assert_journal_matches(job, emulator.ledger, 3)
    assert sorted(item.status for item in items) == [Status.DONE, Status.DONE, Status.UNKNOWN]
    assert emulator.ledger.billed() == 3


async def test_an_answer_for_fewer_images_than_were_sent_leaves_all_of_them_unknown(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
) -> None:
    """Which of them it speaks of, nobody can say: none is sent again, none is taken for done."""
    two = {"code": "0000", "msg": "success", "data": [{"id": 1}, {"id": 2}]}
    emulator.faults.add(
        InjectedFault("library.add_images", HttpResponse(body=two), moment="processed")
    )
    async with await Job.create(tmp_path / "job", "add_images", images(3)) as job:
        report = await job.run(client)
        assert (report.counts.unknown, report.counts.done) == (3, 0)
        [error] = {str(item.error) for item in await items_of(job)}
        assert "2 ids came for 3 images" in error
        await job.run(client)
    assert emulator.ledger.billed() == 1


async def test_a_client_that_is_closed_under_a_run_ends_it_and_leaves_the_rest_planned(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embed = client.embeddings.image

    async def close_before_the_second(*given: Any, **named: Any) -> object:
        if len(emulator.ledger) == 1:
            await client.aclose()
        return await embed(*given, **named)

    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        with monkeypatch.context() as patched:
            patched.setattr(client.embeddings, "image", close_before_the_second)
            with pytest.raises(ClosedError):
                await job.run(client, concurrency=1)
        counts = await job.counts()
        assert (counts.done, counts.planned, counts.unknown) == (1, 2, 0)
        async with Memories("key", base_url=emulator.url) as another:
            await job.run(another)
        await assert_journal_matches(job, emulator.ledger, 3)
    assert emulator.ledger.billed() == 3


async def test_a_file_that_changes_or_fails_while_it_is_hashed_ends_only_itself(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = images(4)
    hash_file = preflight.digest_of

    def hash_and_disturb(path: str) -> str:
        digest = hash_file(path)
        if path.endswith("1.png"):
            with open(path, "ab") as file:
                file.write(b"more")
        elif path.endswith("2.png"):
            raise OSError(errno.EIO, "Input/output error", path)
        return digest

    monkeypatch.setattr(preflight, "digest_of", hash_and_disturb)
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        report = await job.run(client)
        failed = [item for item in await items_of(job) if item.status is Status.FAILED]
    assert (report.counts.done, report.counts.failed, report.stopped) == (2, 2, None)
    assert "changed while it was being read" in str(failed[0].error)
    assert "Input/output error" in str(failed[1].error)
    assert emulator.ledger.billed() == 2
