"""What a job can be given, and what is found in it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Person
from memories_async.bulk import Input, Inputs, Job
from memories_async.bulk.inputs.find import CHUNK, chunks
from memories_async.bulk.kinds import KINDS
from tests.bulk.ledgers import PNG

pytestmark = pytest.mark.anyio

PROMPT = {"prompt": "What is it?"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("b.PNG", "a.jpg", "notes.md", "film.mp4", "._a.jpg", "deep/er/c.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / ".hidden" / "d.png").write_bytes(PNG)
    return tmp_path


async def found(inputs: Inputs, kind: str = "caption_images") -> list[str]:
    planned = [one async for chunk in chunks(inputs, KINDS[kind], PROMPT) for one in chunk]
    return [one.source for one in planned]


async def test_a_folder_is_searched_for_what_fits(folder: Path) -> None:
    names = ["a.jpg", "b.PNG", "deep/er/c.png"]
    assert await found(folder) == [str(folder / name) for name in names]
    assert await found(str(folder), "add_videos") == [str(folder / "film.mp4")]


async def test_patterns_files_and_urls(folder: Path) -> None:
    assert set(await found(f"{folder}/**/*.png")) == {str(folder / "deep/er/c.png")}
    assert await found(folder / "notes.md") == [str(folder / "notes.md")]  # its turn will tell
    assert await found("https://example.org/x.png") == ["https://example.org/x.png"]
    assert await found(["https://example.org/x.png", folder / "a.jpg"]) == [
        "https://example.org/x.png",
        str(folder / "a.jpg"),
    ]


async def test_a_name_with_the_signs_of_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(PNG)
    assert await found(tmp_path / "a[1].png") == [str(tmp_path / "a[1].png")]


async def test_paths_are_kept_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert await found("deep/../a.jpg") == [str(folder / "a.jpg")]


async def test_lists_and_json_lines_are_relative_to_themselves(folder: Path) -> None:
    (folder / "list.txt").write_text(f"a.jpg\n\n {folder}/b.PNG \nhttps://example.org/x.png\n")
    assert await found(folder / "list.txt") == [
        str(folder / "a.jpg"),
        str(folder / "b.PNG"),
        "https://example.org/x.png",
    ]
    lines = [
        {"path": "a.jpg", "prompt": "Who?", "extra": {"row": 1}},
        {"url": "https://example.org/x.png"},
    ]
    (folder / "items.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    kind = KINDS["caption_images"]
    first, second = [
        one async for chunk in chunks(folder / "items.jsonl", kind, PROMPT) for one in chunk
    ]
    assert (first.source, first.options) == (str(folder / "a.jpg"), {"prompt": "Who?"})
    assert (first.extra, first.size) == ({"row": 1}, len(PNG))
    assert (second.source, second.options, second.size) == ("https://example.org/x.png", {}, None)


async def test_an_async_iterable_is_taken_as_it_comes(folder: Path) -> None:
    async def names() -> AsyncIterator[str | Input]:
        yield str(folder / "a.jpg")
        yield Input(folder / "b.PNG")

    assert await found(names()) == [str(folder / "a.jpg"), str(folder / "b.PNG")]


async def test_an_iterable_is_taken_a_chunk_at_a_time() -> None:
    taken = 0

    def names() -> object:
        nonlocal taken
        for number in range(10 * CHUNK):
            taken += 1
            yield f"/nowhere/{number}.png"

    stream = chunks(names(), KINDS["caption_images"], PROMPT)  # type: ignore[arg-type]  # a generator of texts
    assert len(await anext(stream)) == CHUNK
    assert taken == CHUNK
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_numbers_of_the_user_s_own_come_back_as_they_were(folder: Path) -> None:
    """Ids of other systems may have more than 64 bits; nothing makes floats of them."""
    row = {"id": 2**64 + 1, "below": -(2**80), "parts": [10**30, {"deep": 2**70}], "half": 0.5}
    (folder / "items.jsonl").write_text(json.dumps({"path": "a.jpg", "extra": row}))
    for number, inputs in enumerate((folder / "items.jsonl", Input(folder / "a.jpg", extra=row))):
        path = folder / f"job {number}"
        async with await Job.create(path, "caption_images", inputs, options=PROMPT) as job:
            ((extra),) = [item.extra async for item in job.items()]
            assert (extra, repr(extra["id"])) == (row, repr(2**64 + 1))
            await job.export(folder / "out.jsonl")
        assert json.loads((folder / "out.jsonl").read_text())["extra"] == row


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 10**5000, {1: 2}, "\ud83d", {"a"}, b"x", object()],
    ids=type,
)
async def test_what_json_cannot_say_is_refused_and_not_made_into_something_else(
    folder: Path, value: object
) -> None:
    with pytest.raises(ConfigurationError, match="cannot keep"):
        await anext(chunks(Input("/x.png", extra={"row": value}), KINDS["add_images"], {}))


async def test_what_is_kept_of_options_is_what_the_service_wants() -> None:
    given = {
        "datetime_taken": datetime(2025, 9, 7, 22, 52),
        "tags": ("a", "b"),
    }
    (one,) = await anext(chunks(Input("/x.png", given), KINDS["add_images"], {}))
    assert one.options == {"datetime_taken": "2025-09-07 22:52:00", "tags": ["a", "b"]}
    persons = {"persons": [Person("Ann", "https://example.org/ann.png")], "prompt": "Who?"}
    (one,) = await anext(chunks(Input("/x.mp4", persons), KINDS["caption_videos"], {}))
    assert one.options["persons"] == [{"name": "Ann", "url": "https://example.org/ann.png"}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "a.jpg", "promt": "x"}', "a.jpg.*promt"),
        ('{"prompt": "x"}', "line 2"),
        ('{"path": "a.jpg", "url": "https://example.org"}', "line 2"),
        ('{"path": 7}', "line 2"),
        ('{"path": "a.jpg", "extra": 7}', "line 2"),
        ("[1]", "line 2"),
        ("{", "line 2"),
        ('{"path": "a.jpg", "path": "b.PNG"}', "line 2: 'path' stands twice"),
        ('{"path": "a.jpg", "extra": {"row": 1, "row": 2}}', "line 2: 'row' stands twice"),
        ('{"path": "a.jpg", "extra": {"rows": [{"a": 1, "a": 1}]}}', "line 2: 'a' stands twice"),
        ('{"path": "a.jpg", "extra": {"row": NaN}}', "line 2"),
        ('{"path": "a.jpg", "extra": {"row": 1e999}}', "line 2"),
        ('{"path": "a.jpg", "extra": {"row": %s}}' % ("9" * 5000), "line 2"),
        ('{"path": "a.jpg", "extra": {"row": %s}}' % ("[" * 3000 + "]" * 3000), "line 2"),
        ('{"path": "a.jpg", "extra": {"row": "\\ud83d"}}', "line 2"),
    ],
)
async def test_a_bad_line_is_named_and_no_job_is_left(
    folder: Path, line: str, message: str
) -> None:
    (folder / "items.jsonl").write_text(f'{{"path": "b.PNG"}}\n{line}\n')
    with pytest.raises(ConfigurationError, match=message):
        await Job.create(folder / "job", "caption_images", folder / "items.jsonl", options=PROMPT)
    assert not [name for name in os.listdir(folder) if name.startswith("job")]


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("embed_images", "https://example.org/x.png"),
        ("embed_images", []),
        ("embed_images", [b"bytes are gone when the job is resumed" * 3, 7][1:]),
        ("caption_images", "https://user:password@example.org/x.png"),
        ("caption_images", "missing.txt"),
    ],
)
async def test_what_cannot_be_sent_later_is_refused(
    tmp_path: Path, kind: str, inputs: Inputs
) -> None:
    options = PROMPT if kind == "caption_images" else {}
    with pytest.raises(ConfigurationError):
        await Job.create(tmp_path / "job", kind, inputs, options=options)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes by name")
@pytest.mark.parametrize("name", ["list.txt", "list.jsonl"])
async def test_a_list_that_may_never_end_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memories_async._lines.LONGEST", 1000)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigurationError, match="is no regular file"):
        await Job.create(tmp_path / "job", "embed_images", tmp_path / name)
    os.unlink(tmp_path / name)
    (tmp_path / name).write_bytes(b"a" * 1001)
    with pytest.raises(ConfigurationError, match="has a line of more than"):
        await Job.create(tmp_path / "job", "embed_images", tmp_path / name)


@pytest.mark.parametrize("missing", ["nothing", "nothing/", "nothing.png", ["a.png", "nothing/"]])
async def test_a_path_that_is_not_there_is_refused_where_it_was_misspelled(
    missing: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"nothing\S*: there is no such file or folder"):
        await Job.create("job", "embed_images", missing)
    assert not (tmp_path / "job").exists()


async def test_a_file_that_is_not_there_among_others_may_still_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with await Job.create("job", "embed_images", ["a.png", Input("b")]) as job:
        assert (await job.counts()).planned == 2
