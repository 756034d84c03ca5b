"""What concerns one item ends with that item, and nothing that was handed in stops a job."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Memories
from memories_async.bulk import KINDS, Input, Job, Status
from memories_async.bulk.journal.encoding import as_json, from_json
from memories_async.bulk.options import options_of
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault
from memories_async.emulator.http.envelopes import Reason
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import MP4, PNG, assert_journal_matches, items_of

pytestmark = pytest.mark.anyio

PROMPT = {"prompt": "What is it?"}


async def test_an_unfit_file_whose_name_is_no_utf_8_fails_alone(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(3)
    odd = folder / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(b"no picture")
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        report = await job.run(client)
        items = await items_of(job)
        for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
            assert await job.export(tmp_path / name) == 4
    assert (report.counts.done, report.counts.failed, report.stopped) == (3, 1, None)
    (failed,) = [item for item in items if item.status is Status.FAILED]
    assert failed.source == str(odd)
    assert "\\udce9" in str(failed.error)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("embed_images", {"model": 5}),
        ("embed_images", {"model": " "}),
        ("add_images", {"tags": 5}),
        ("add_images", {"tags": "sea"}),
        ("add_images", {"tags": [None]}),
        ("add_images", {"tags": [-1]}),
        ("add_images", {"latitude": "abc", "longitude": 1}),
        ("add_images", {"latitude": True, "longitude": 1}),
        ("add_images", {"latitude": 91, "longitude": 1}),
        ("add_images", {"latitude": 1}),
        ("add_images", {"datetime_taken": "2025-9-7 22:52:00"}),
        ("add_images", {"datetime_taken": 7}),
        ("add_images", {"unique_id": ""}),
        ("add_images", {"camera_model": None}),
        ("caption_images", {"prompt": None}),
        ("caption_images", {"thinking": "yes"}),
        ("caption_images", {"qa": 1}),
        ("caption_images", {"reasoning_effort": 1.5}),
        ("caption_images", {"reasoning_effort": 11}),
        ("add_images", {"camera_model": "c" * 201}),
        ("add_images", {"tags": ["x"] * 51}),
        ("add_images", {"unique_id": ".."}),
        ("caption_images", {"as_base64": "no"}),
        ("caption_videos", {"persons": [{"name": "Ann"}]}),
        ("caption_videos", {"persons": {"name": "Ann", "url": "https://example.org/a.png"}}),
        ("caption_videos", {"persons": [{"name": "Ann", "url": 7}]}),
        ("caption_videos", {"persons": ["Ann"]}),
        ("caption_videos", {"persons": [{"name": "Ann", "url": "ann.png"}]}),
        ("caption_videos", {"persons": [{"name": "Ann", "url": "https://me:my@example.org/"}]}),
        ("add_videos", {"searchable_within": "abc"}),
        ("add_videos", {"searchable_within": -1}),
        ("add_videos", {"tags": ["x"] * 20}),
    ],
)
async def test_a_wrong_option_is_refused_when_it_is_planned(
    tmp_path: Path, kind: str, line: dict[str, object]
) -> None:
    """By name, with its value and what is wanted; in a list, as the job's own, and in an Input."""
    (tmp_path / "a.png").write_bytes(PNG)
    given = PROMPT if "prompt" in KINDS[kind].required else {}
    name = next(iter(line))
    (tmp_path / "list.jsonl").write_text(
        json.dumps({"path": "b.png"}) + "\n" + json.dumps({"path": "a.png", **line})
    )
    for inputs in (tmp_path / "list.jsonl", Input(tmp_path / "a.png", line)):
        with pytest.raises(ConfigurationError, match=f"a.png.*{name[:4]}"):
            await Job.create(tmp_path / "job", kind, inputs, options=given)
    with pytest.raises(ConfigurationError, match=name[:4]):
        await Job.create(tmp_path / "job", kind, tmp_path / "a.png", options={**given, **line})
    assert sorted(os.listdir(tmp_path)) == ["a.png", "list.jsonl"]


async def test_what_goes_inside_the_request_is_no_url(tmp_path: Path) -> None:
    """The call would refuse each of them; so planning does."""
    options, url = (
        {**PROMPT, "as_base64": True},
        "https://user:secret@example.org/a.png?token=secret",
    )
    with pytest.raises(ConfigurationError, match="as_base64 sends local images, not the URL 'http"):
        await Job.create(tmp_path / "job", "caption_images", url, options=options)
    inputs = Input(url, {"as_base64": True})
    with pytest.raises(
        ConfigurationError, match="as_base64 sends local images, not the URL 'http"
    ) as caught:
        await Job.create(tmp_path / "job", "caption_images", inputs, options=PROMPT)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="local files, not the URL") as caught:
        await Job.create(tmp_path / "job", "embed_images", url)
    assert "secret" not in str(caught.value)
    assert not os.listdir(tmp_path)


def test_every_option_of_every_kind_is_checked() -> None:
    for kind in KINDS.values():
        assert kind.options <= options_of(kind.call).keys(), kind.name


@pytest.mark.parametrize("batch", [1, 3])
async def test_an_exception_that_nobody_expected_is_that_request_s_items_alone(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    """Before the request leaves its items have failed; after that nobody knows."""
    real = client.library.add_images
    calls = 0

    async def breaks(sources: object, **fields: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("before")
        answers = await real(sources, **fields)  # type: ignore[arg-type]  # as they came
        if calls == 2:
            raise KeyError("after")
        return answers

    monkeypatch.setattr(client.library, "add_images", breaks)
    async with await Job.create(tmp_path / "job", "add_images", images(9)) as job:
        report = await job.run(client, concurrency=1, batch_size=batch)
        items = await assert_journal_matches(job, emulator.ledger, 9)
    assert report.stopped is None
    assert [item.status for item in items[: 2 * batch]] == [Status.FAILED] * batch + [
        Status.UNKNOWN
    ] * batch
    assert "RuntimeError: before" in str(items[0].error)
    assert report.counts.done == 9 - 2 * batch


async def test_options_that_only_the_call_refuses_fail_the_item_and_no_other(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = images(3)
    inputs = [Input(folder / "0001.png", {"model": 5}), folder]
    with monkeypatch.context() as older:  # as in a file that an older version planned
        older.setattr("memories_async.bulk.kinds.check_options", lambda *given: None)
        job = await Job.create(tmp_path / "job", "embed_images", inputs)
    async with job:
        report = await job.run(client)
        items = await items_of(job)
    assert (report.stopped, report.counts.done, report.counts.failed) == (None, 3, 1)
    assert items[0].status is Status.FAILED


async def test_an_answer_with_an_integer_of_any_size_is_kept_exactly(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    values: dict[str, object] = {"big": 2**80, "text": "a\udc80b", "nested": [{"x": 2**64 + 1}]}
    text = as_json(values)
    text.encode()  # SQLite stores UTF-8
    assert from_json(text) == values


async def test_a_listener_that_raises_ends_the_run_in_order(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """What had left is waited for and kept; the exception comes at the end; no item is unknown."""
    emulator.faults.add(InjectedFault(None, latency=0.02, times=None))

    def listener(event: object) -> None:
        if len(emulator.ledger) >= 5:
            raise ZeroDivisionError("the display broke")

    async with await Job.create(tmp_path / "job", "embed_images", images(30)) as job:
        with pytest.raises(ZeroDivisionError, match="display"):
            await job.run(client, on_event=listener)
        counts = await job.counts()
        assert (counts.unknown, counts.failed) == (0, 0)
        assert counts.done == emulator.ledger.billed()
        assert counts.planned > 10
        assert not await job.running()


async def test_an_async_listener_is_refused_at_once(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async def listener(event: object) -> None: ...

    async with await Job.create(tmp_path / "job", "embed_images", images(1)) as job:
        with pytest.raises(ConfigurationError, match="async"):
            await job.run(client, on_event=listener)


# --- files that change ------------------------------------------------------------------------


async def test_a_file_edited_between_check_and_send_is_known_by_what_was_sent(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """A later file with the old content is no duplicate of it, and gets its own vector."""
    folder = images(3)
    old, new = (folder / "0001.png").read_bytes(), PNG + b"edited"
    emulator.faults.add(InjectedFault(None, latency=0.05, nth=1))

    def edit(event: object) -> None:
        if len(emulator.ledger) == 0:  # checked, and not yet sent
            times = os.stat(folder / "0001.png")
            (folder / "0001.png").write_bytes(new)
            os.utime(folder / "0001.png", ns=(times.st_atime_ns, times.st_mtime_ns))

    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        edit_once = iter([edit])
        report = await job.run(
            client,
            concurrency=1,
            on_event=lambda event: next(edit_once, edit)(event) if event.name == "bytes" else None,
        )
        assert report.counts.done == 3
        (folder / "0003.png").write_bytes(old)
        await job.add(folder)
        report = await job.run(client)
        items = await assert_journal_matches(job, emulator.ledger, 4)
    assert report.counts.skipped == (1 if (folder / "0001.png").read_bytes() == old else 0)
    assert len({item.sha256 for item in items}) == len(items)


async def test_a_video_s_tag_is_that_of_the_content_that_was_sent(
    emulator: Emulator, client: Memories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    film = folder / "a.mp4"
    film.write_bytes(MP4 + b"before")
    tags: list[object] = []
    real = client.library.add_video

    async def add_video(source: str, **fields: object) -> object:
        tags.append(fields["tags"])
        if len(tags) == 1:
            film.write_bytes(MP4 + b"after!")  # the same size
        return await real(source, **fields)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(client.library, "add_video", add_video)
    options = {"searchable_within": 0}
    async with await Job.create(tmp_path / "job", "add_videos", folder, options=options) as job:
        report = await job.run(client)
        (item,) = await assert_journal_matches(job, emulator.ledger, 1)
    assert report.counts.done == 1
    assert len(tags) == 2
    assert item.sha256 is not None
    assert tags[1] == [f"sha256:{item.sha256[:16]}"]


async def test_a_file_that_never_stops_changing_fails(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = images(2)
    real = client.embeddings.image
    changes = 0

    async def image(source: str, **fields: object) -> object:
        nonlocal changes
        if source.endswith("0000.png"):
            changes += 1
            await asyncio.to_thread(Path(source).write_bytes, PNG + b"%d" % changes)
        return await real(source, **fields)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(client.embeddings, "image", image)
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        report = await job.run(client)
        items = await items_of(job)
    assert (report.counts.done, report.counts.failed) == (1, 1)
    assert "keeps changing" in str(items[0].error)
    assert len(emulator.ledger) == 1


# --- duplicates -------------------------------------------------------------------------------


async def test_a_duplicate_is_sent_itself_where_its_original_is_lost(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """In the same run: the original's file vanishes between two runs, its copies are there."""
    folder = images(1)
    for name in ("copy 1.png", "copy 2.png"):
        (folder / name).write_bytes((folder / "0000.png").read_bytes())
    emulator.faults.add(InjectedFault(None, Reason.NO_CREDITS))
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        first = await job.run(client)
        assert (first.counts.planned, first.counts.skipped) == (1, 2)
        (folder / "0000.png").unlink()
        report = await job.run(client)
        items = await items_of(job)
    assert sorted(item.status for item in items) == ["done", "failed", "skipped"]
    assert items[0].status == "failed"
    sent, copy = sorted(items[1:], key=lambda item: item.status)
    assert copy.duplicate_of == sent.id
    assert copy.vector == sent.vector is not None
    assert (report.stopped, emulator.ledger.billed()) == (None, 1)


async def test_a_duplicate_is_sent_itself_where_its_original_is_refused(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(1)
    (folder / "copy.png").write_bytes((folder / "0000.png").read_bytes())
    emulator.faults.add(InjectedFault(None, Reason.BAD_REQUEST, nth=1))
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        await job.run(client)
        items = await items_of(job)
    assert [item.status for item in items] == ["failed", "done"]


async def test_lines_with_one_path_and_different_extra_are_two_rows_sent_once(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(1)
    lines = [{"path": "0000.png", "extra": {"row": row}} for row in (1, 2)]
    lines.append({"path": "0000.png"})
    (folder / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    async with await Job.create(tmp_path / "job", "embed_images", folder / "list.jsonl") as job:
        assert await job.add(folder / "list.jsonl") == 0
        await job.run(client)
        items = await items_of(job)
    assert [item.extra for item in items] == [{"row": 1}, {"row": 2}, {}]
    assert [item.status for item in items] == ["done", "skipped", "skipped"]
    assert all(item.vector for item in items)
    assert emulator.ledger.billed() == 1


# --- names and lists --------------------------------------------------------------------------


async def test_a_mark_before_the_first_line_of_a_list_is_no_part_of_a_name(
    images: MakeImages, tmp_path: Path
) -> None:
    folder = images(2)
    (folder / "list.txt").write_text("0000.png\n0001.png\n", encoding="utf-8-sig")
    (folder / "list.jsonl").write_text('{"path": "0000.png"}\n', encoding="utf-8-sig")
    inputs = [folder / "list.txt", folder / "list.jsonl"]
    async with await Job.create(tmp_path / "job", "embed_images", inputs) as job:
        sources = [Path(item.source).name for item in await items_of(job)]
    assert sources == ["0000.png", "0001.png"]
    (folder / "list.txt").write_text("0000.png\n", encoding="utf-16")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        await Job.create(tmp_path / "other", "embed_images", folder / "list.txt")


async def test_a_name_with_a_nul_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png\nb\0c.png\n")
    (tmp_path / "list.jsonl").write_text('{"path": "a.png"}\n{"path": "b\\u0000c.png"}\n')
    for name in ("list.txt", "list.jsonl"):
        with pytest.raises(ConfigurationError, match=f"{name}, line 2.*NUL"):
            await Job.create(tmp_path / "job", "embed_images", tmp_path / name)
    for inputs in ("a\0b.png", Input("a\0b.png"), ["a\0b"]):
        with pytest.raises(ConfigurationError, match="NUL"):
            await Job.create(tmp_path / "job", "embed_images", inputs)
    with pytest.raises(ConfigurationError, match="NUL"):
        await Job.create(f"{tmp_path}/j\0b", "embed_images", "a.png")
    with pytest.raises(ConfigurationError, match="NUL"):
        await Job.open(f"{tmp_path}/j\0b")


async def test_texts_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    for options in ({"prompt": "a\udc80b"}, {"prompt": "a", "system_prompt": "\ud800"}):
        with pytest.raises(ConfigurationError, match="keep"):
            await Job.create(
                tmp_path / "job", "caption_images", tmp_path / "a.png", options=options
            )


async def test_links_in_circles_are_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("x.png", "a/y.png", "a/b/z.png", ".hidden.png"):
        (folder / name).write_bytes(PNG + name.encode())
    for number in range(4):
        (folder / f"back{number}").symlink_to(folder)
        (folder / "a" / "b" / f"up{number}").symlink_to(folder / "a")
    async with asyncio.timeout(20):
        async with await Job.create(tmp_path / "job", "embed_images", f"{folder}/**/*.png") as job:
            sources = {item.source.removeprefix(f"{folder}/") for item in await items_of(job)}
    assert {"x.png", "a/y.png", "a/b/z.png"} <= sources
    assert len(sources) < 12
    assert not [name for name in sources if "hidden" in name]
