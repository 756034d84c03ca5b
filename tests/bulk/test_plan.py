"""The plan against what a run then sends, item by item; and how long the rest takes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memories_async import Bucket, CallOptions, ConfigurationError, Memories, Rate
from memories_async.bulk import Input, Inputs, Job, Status, UnsentReason, changes
from memories_async.bulk.events import EventReporter
from memories_async.bulk.inputs.selection import shard_of
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import AnsweredFile
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Cut, Hang, InjectedFault
from memories_async.observe import ObservedCall, RequestLeaving
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import PNG, items_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def every_kind(images: MakeImages) -> Path:
    """A folder with every kind of file that is not sent, and five that are."""
    folder = images(5)
    (folder / "copy.png").write_bytes((folder / "0003.png").read_bytes())
    (folder / "empty.png").touch()
    (folder / "text.png").write_bytes(b"no picture at all")
    (folder / "large.png").write_bytes(PNG + bytes(21 * 1024 * 1024))
    (folder / "same size.png").write_bytes((folder / "0002.png").read_bytes()[::-1])
    (folder / "link to nowhere.png").symlink_to(folder / "nowhere")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return folder


async def test_what_is_planned_is_what_is_sent(
    emulator: Emulator, client: Memories, every_kind: Path, tmp_path: Path
) -> None:
    folder = every_kind
    inputs = [folder, folder / "missing.png", folder / "folder.png"]
    async with await Job.create(tmp_path / "job", "add_images", inputs, price="0.5") as job:
        before = (tmp_path / "job").stat().st_mtime_ns
        plan = await job.plan(client=client)
        assert (tmp_path / "job").stat().st_mtime_ns == before
        assert (await job.counts()).planned == plan.counts.planned == 13
        await job.run(client)
        items = await items_of(job)

    sent = {item.source for item in items if item.status is Status.DONE}
    assert {one.source for one in plan.to_send} == sent
    assert len(plan.inputs) == len(items)
    assert plan.size == sum(item.size or 0 for item in items if item.status is Status.DONE)
    assert plan.cost == len(sent) / 2
    why = {Path(one.source).name: one.reason for one in plan.unsent}
    assert why == {
        "copy.png": UnsentReason.DUPLICATE,
        "empty.png": UnsentReason.EMPTY,
        "text.png": UnsentReason.UNFIT,
        "large.png": UnsentReason.UNFIT,
        "same size.png": UnsentReason.UNFIT,
        "link to nowhere.png": UnsentReason.UNFIT,
        "pipe.png": UnsentReason.UNFIT,
        "missing.png": UnsentReason.UNFIT,
    } | ({"folder.png": UnsentReason.UNFIT} if "folder.png" in why else {})
    said = {one.source: one.message for one in plan.unsent}
    for item in items:
        if item.status is Status.FAILED and item.source in said:
            assert said[item.source].split()[-1] in str(item.error), item
    assert len(emulator.ledger) == plan.requests


async def test_a_plan_of_further_inputs_adds_none(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(4)
    async with await Job.create(tmp_path / "job", "embed_images", folder / "0000.png") as job:
        await job.run(client)
        plan = await job.plan([folder, Input(folder / "0001.png", extra={"row": 1})])
        assert [Path(one.source).name for one in plan.to_send] == [
            "0001.png",
            "0002.png",
            "0003.png",
        ]
        assert [one.reason for one in plan.unsent] == [UnsentReason.DONE, UnsentReason.DUPLICATE]
        assert (await job.counts()).total == 1


async def test_what_was_answered_and_changed_since_is_noticed_and_sent_on_request(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(3)
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        await job.run(client)
        assert [one.reason for one in (await job.plan()).inputs] == [UnsentReason.DONE] * 3
        (folder / "0001.png").write_bytes(PNG + b"another picture")
        (folder / "0002.png").unlink()
        plan = await job.plan()
        assert [one.reason for one in plan.inputs] == [
            UnsentReason.DONE,
            UnsentReason.CHANGED,
            UnsentReason.DONE,
        ]
        report = await job.run(client)
        assert (report.requests, report.changed, await job.changed()) == (0, 1, 1)
        assert await job.retry("changed") == 1
        report = await job.run(client)
        assert (report.counts.done, report.changed) == (3, 0)
        assert [one.reason for one in (await job.plan()).inputs] == [UnsentReason.DONE] * 3
    assert emulator.ledger.billed() == 4


async def test_a_duplicate_that_changed_since_is_noticed_and_sent_on_request(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """Its row has the answer to a content that it has no more."""
    folder = images(1)
    (folder / "0001.png").write_bytes((folder / "0000.png").read_bytes())
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        assert (await job.run(client)).changed == 0
        (folder / "0001.png").write_bytes(PNG + b"another picture")
        assert [one.reason for one in (await job.plan()).inputs] == [
            UnsentReason.DONE,
            UnsentReason.CHANGED,
        ]
        assert await job.changed() == await job.retry("changed") == 1
        report = await job.run(client)
        assert (report.counts.done, report.counts.skipped, report.changed) == (2, 0, 0)
        original, changed = [item.vector async for item in job.items()]
    assert original != changed
    assert emulator.ledger.billed() == 2


async def test_a_run_that_is_ended_does_not_wait_until_all_files_were_looked_at(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    looking, go_on = threading.Event(), threading.Event()

    def look(file: AnsweredFile) -> bool:
        looking.set()
        return not go_on.wait(30)

    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        await job.run(client, max_items=1)
        emulator.faults.add(InjectedFault(None, Hang(), times=None))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(changes, "has_changed", look)
            run = asyncio.create_task(job.run(client, options=CallOptions(answer_timeout=0.1)))
            await asyncio.to_thread(looking.wait, 30)
            job.stop()
            assert (await run).changed is None
            go_on.set()


@pytest.mark.parametrize("which", ["changed", "done", [1]])
async def test_a_duplicate_keeps_to_its_content_when_the_original_changes(
    which: str | list[int],
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
) -> None:
    """The new answer is for the new content; the duplicate has the old one and is asked anew."""
    folder = images(1)
    (folder / "0001.png").write_bytes((folder / "0000.png").read_bytes())
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        await job.run(client)
        before = [item.vector async for item in job.items()]
        (folder / "0000.png").write_bytes(PNG + b"another picture")
        assert await job.retry(which) == 1
        await job.run(client)
        original, duplicate = [item async for item in job.items()]
    assert original.vector != before[0]
    assert (duplicate.vector, duplicate.duplicate_of) == (before[1], None)


async def test_the_plan_says_what_a_run_told_to_retry_would_send(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed", nth=2))
    folder = images(3)
    (folder / "0002.png").write_bytes(b"no picture")
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        await job.run(client, concurrency=1)
        (folder / "0002.png").write_bytes(PNG + b"mended")
        plan = await job.plan()
        assert [one.reason for one in plan.inputs] == [
            UnsentReason.DONE,
            UnsentReason.UNKNOWN,
            UnsentReason.FAILED,
        ]
        plan = await job.plan(unknown="retry", failed="retry")
        assert len(plan.to_send) == plan.requests == 2


async def test_the_time_is_that_of_the_client_s_own_rate(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    rates = {Bucket.EMBEDDING: Rate(4, 2)}
    async with (
        Memories("planned", base_url=emulator.url, rates=rates) as paced,
        Memories("planned", base_url=emulator.url) as unlimited,
        await Job.create(tmp_path / "job", "embed_images", images(8)) as job,
    ):
        assert (await job.plan(client=paced)).seconds == 4
        assert (await job.plan(client=unlimited)).seconds == 0
        assert (await job.plan()).seconds == 8  # the documented one call a second
        assert (await job.plan(rate=Rate(1, 10))).seconds == 80


# --- how long the rest takes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "latency", "burst"),
    [
        (Rate(20), 0.05, True),  # the first twenty at once, then nothing for a second
        (Rate(20), 0.05, False),
        (Rate(1), 0.3, True),
        (Rate(1, 60), 20.0, True),
        (Rate(5), 2.0, True),
        (None, 0.5, False),  # nothing but the service's own pace
    ],
)
async def test_the_rest_is_foretold_within_a_tenth_from_the_first_tenth_on(
    tmp_path: Path, rate: Rate | None, latency: float, burst: bool
) -> None:
    count = 200
    now = 0.0
    told = EventReporter(Journal(tmp_path / "none"), None, None, lambda: None, rate, lambda: now)
    if rate is None:
        starts = [number * latency / 4 for number in range(count)]
    elif burst:
        starts = [number // rate.calls * rate.seconds for number in range(count)]
    else:
        starts = [number * rate.seconds / rate.calls for number in range(count)]
    happenings = sorted(
        [(start, 0) for start in starts] + [(start + latency, 1) for start in starts]
    )
    end = max(starts) + latency
    left = settled = 0
    for moment, (at, kind) in enumerate(happenings):
        now = at
        if kind == 0:
            told.observe(RequestLeaving(call=a_call(left), attempt=1, digest=""))
            left += 1
        else:
            told.settled(1)
            settled += 1
        following = happenings[moment + 1][0] if moment + 1 < len(happenings) else at
        if following == at:
            continue  # in the midst of what happens at one instant
        for now in (at, (at + following) / 2, following - 1e-6):
            if settled >= count / 10 and now >= end / 10 and count - settled > 2:
                expected = told.remaining(count - left, left - settled)
                assert expected is not None
                assert expected == pytest.approx(end - now, rel=0.1, abs=2 * latency + 0.1), (
                    now,
                    settled,
                )


def a_call(number: int) -> ObservedCall:
    return ObservedCall(
        number=number,
        operation="embeddings.image",
        row="embed_image_file",
        method="POST",
        path="/",
        scheme="http",
        host="localhost",
        port=80,
        billable=True,
    )


@pytest.mark.slow
async def test_a_paced_run_tells_the_pacer_s_time(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    rates = {Bucket.EMBEDDING: Rate(50)}
    seen: list[tuple[float, float, int]] = []
    async with (
        Memories("foretold", base_url=emulator.url, rates=rates) as client,
        await Job.create(tmp_path / "job", "embed_images", images(150)) as job,
    ):
        report = await job.run(
            client,
            concurrency=60,
            on_event=lambda event: seen.append(
                (event.seconds, event.remaining or 0.0, event.counts.done)
            ),
        )
    # From the first answers on it is told that the rest needs its turns: (150 - 50) / 50 a second.
    early = [remaining for _, remaining, done in seen if 15 <= done <= 40]
    assert early
    assert min(early) > 1.5
    assert report.seconds > 1.9


# --- which inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("*.png", (), {"a.png", "b_small.png", "thumbs/a.png", "2024/x/c.png"}),
        ((), "*_small*", {"a.png", "d.jpg", "thumbs/a.png", "2024/x/c.png"}),
        ((), ("thumbs", "2024"), {"a.png", "b_small.png", "d.jpg"}),
        ("2024/**/*.png", (), {"2024/x/c.png"}),
        (("thumbs/*", "*.jpg"), (), {"thumbs/a.png", "d.jpg"}),
        ("[ab]*.png", "thumbs/", {"a.png", "b_small.png"}),
    ],
)
@pytest.mark.parametrize("way", ["folder", "pattern"])
async def test_inputs_are_chosen_by_patterns(
    tmp_path: Path,
    include: str | tuple[str, ...],
    exclude: str | tuple[str, ...],
    expected: set[str],
    way: str,
) -> None:
    folder = tmp_path / "photos"
    for name in ("a.png", "b_small.png", "d.jpg", "thumbs/a.png", "2024/x/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG + name.encode())
    async with await Job.create(
        tmp_path / "job",
        "embed_images",
        folder if way == "folder" else f"{folder}/**/*",
        include=include,
        exclude=exclude,
    ) as job:
        assert {item.source.removeprefix(f"{folder}/") for item in await items_of(job)} == expected


async def test_ten_shards_are_the_whole_and_each_input_is_in_one(
    images: MakeImages, tmp_path: Path
) -> None:
    """Wherever the folder lies on each machine: what counts is the name below it."""
    folder = images(100)
    elsewhere = tmp_path / "elsewhere"
    os.symlink(folder, elsewhere)
    found: list[str] = []
    for number in range(1, 11):
        path = tmp_path / f"job {number}"
        root = folder if number % 2 else elsewhere
        async with await Job.create(path, "embed_images", root, shard=f"{number}/10") as job:
            names = [Path(item.source).name for item in await items_of(job)]
        assert all(shard_of(name, 10) == number for name in names)
        found += names
    assert sorted(found) == sorted(os.listdir(folder))


NAMES = [f"photos/{number}.png" for number in range(20)]

Asked = Callable[[Path], Inputs]


def _list(text: Callable[[Path, str], str], place: str = "all.txt") -> Asked:
    """Return what writes a list into a machine's folder, a line for each name."""

    def written(root: Path) -> str:
        path = root / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(text(root, name) for name in NAMES))
        return place if root.name == "one" else str(path)

    return written


@pytest.mark.parametrize(
    "asked",
    [
        _list(lambda _, name: name),
        _list(lambda root, name: str(root / name)),
        _list(lambda root, name: f"/{root}//photos/.././{name}"),
        _list(lambda root, name: name if root.name == "one" else str(root / name)),
        _list(lambda root, name: name if root.name == "one" else f"./x/..//{name}"),
        _list(lambda root, name: f'{{"path": "{root / name}"}}', "all.jsonl"),
        lambda root: [name if root.name == "one" else f"./{name}" for name in NAMES],
        lambda root: [Input(name if root.name == "one" else f"x/../{name}") for name in NAMES],
    ],
)
async def test_two_machines_with_other_roots_have_the_same_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    found: list[str] = []
    for number, machine in enumerate(("one", "two"), 1):
        root = tmp_path / machine
        for name in NAMES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(PNG)
        monkeypatch.chdir(root)
        inputs, path = asked(root), tmp_path / f"job {number}"
        async with await Job.create(path, "embed_images", inputs, shard=(number, 2)) as job:
            names = [
                item.source.replace("//", "/").removeprefix(f"{root}/")
                for item in await items_of(job)
            ]
        assert all(shard_of(name, 2) == number for name in names)
        found += names
    assert sorted(found) == sorted(NAMES)


@pytest.mark.parametrize("absolute", [False, True])
async def test_a_list_elsewhere_that_is_named_plainly_keeps_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    """Another part than that of the run before would be sent by two machines."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "lists"
    _list(lambda _, name: str(root / name) if absolute else name)(root)
    async with await Job.create("job", "embed_images", "lists/all.txt", shard=(1, 2)) as job:
        found = [item.source.removeprefix(f"{tmp_path}/") for item in await items_of(job)]
    assert 0 < len(found) < 20
    assert all(shard_of(name, 2) == 1 for name in found)


async def test_patterns_look_at_an_entry_as_it_stands(tmp_path: Path) -> None:
    path = _list(lambda root, name: str(root / name))(tmp_path)
    hidden = f"{tmp_path}/photos/1*.png"
    async with await Job.create(tmp_path / "job", "embed_images", path, exclude=hidden) as job:
        assert len(await items_of(job)) == 9


@pytest.mark.parametrize("shard", ["0/3", "4/3", "x", "1/2/3", (1,), (0, 2), 7, "1/0", (None, 2)])
async def test_a_shard_that_is_none_is_refused(
    images: MakeImages, tmp_path: Path, shard: object
) -> None:
    with pytest.raises(ConfigurationError, match="shard"):
        await Job.create(tmp_path / "job", "embed_images", images(1), shard=shard)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="include"):
        await Job.create(tmp_path / "job", "embed_images", images(1), include=[7])  # type: ignore[list-item]  # wrong on purpose
