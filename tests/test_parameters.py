"""Every public parameter, with wrong values of every kind: refused before anything is opened."""

from __future__ import annotations

import asyncio
import enum
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import memories_async
import memories_async.sync
from memories_async import CallOptions, ConfigurationError, MemoriesError, Person
from memories_async.checks.parameters import CallChecker, Parameter
from tests.for_each import for_each

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
URL = "https://example.com/a.png"


async def hook(progress: object) -> None: ...


class AsyncHook:
    async def __call__(self, progress: object) -> None: ...


HUGE = 10**5000
"""More digits than Python's int writes down."""

NO_TEXT: tuple[object, ...] = (None, 5, b"x", ["x"], object(), "", " \n", "\u200b", "\ud800", HUGE)
NO_OPTIONAL_TEXT = NO_TEXT[1:]
NO_FLAG: tuple[object, ...] = (None, "yes", "False", 0, 1, [], HUGE)
NO_NUMBER: tuple[object, ...] = (
    *("5", b"5", True, [5], float("nan"), float("inf"), 1e400, object()),
    *(HUGE, -HUGE, 10**309),
)
NO_INTEGER: tuple[object, ...] = (*NO_NUMBER, 1.0, 2**70, -(2**63) - 1)
NO_TEXTS: tuple[object, ...] = (
    *("x", b"x", 5, {"x"}, iter(["x"])),
    *([None], [-1], [b"x"], [""], ["x", " "], ["\ud800"], [["x"]], [HUGE]),
)
NO_SOURCE: tuple[object, ...] = (None, 5, 1.5, True, object(), str, {}, {PNG}, [], "", " ", HUGE)
NO_MANY: tuple[object, ...] = (
    None,
    5,
    "one.jpg",
    b"x",
    Path("one.jpg"),
    {"a": PNG},
    object(),
    HUGE,
)
NO_HOOK: tuple[object, ...] = (5, "print", [print], hook, AsyncHook(), HUGE)
NO_OPTIONS: tuple[object, ...] = ({"deadline": 3}, 5, "fast", CallOptions, HUGE, [HUGE])
NO_TIME: tuple[object, ...] = (5, 1.5, b"x", object(), datetime(1, 1, 1), datetime.max)
PERSON = {"name": "Alice", "url": URL}

WRONG: Mapping[str, tuple[object, ...]] = {
    "as_base64": NO_FLAG,
    "asset_id": (*NO_OPTIONAL_TEXT, ".", "..", " .. "),
    "by": (None, 5, "", "taste", "CLIP", ["clip"]),
    "callback": NO_OPTIONAL_TEXT,
    "camera_model": (*NO_OPTIONAL_TEXT, "x" * 201),
    "concurrency": (None, *NO_INTEGER, 0, -1),
    "datetime_taken": (
        *NO_TIME,
        *("", "2025-9-7 22:52:00", "2025-09-07", "2025-09-07T22:52:00", "2025-13-07 22:52:00"),
    ),
    "destination": (None, 5, b"x", [], "", "a\0b", "a\ud800b"),
    "dimensionality": (*NO_INTEGER, 0, -1),
    "filtering_level": (5, "", "all", "LOW", True),
    "folder_id": NO_INTEGER,
    "image": NO_SOURCE,
    "latitude": (*NO_NUMBER, 90.1, -91),
    "longitude": (*NO_NUMBER, 180.1, -181),
    "model": (None, 5, b"x", "", " "),
    "name": NO_OPTIONAL_TEXT,
    "on_progress": NO_HOOK,
    "options": NO_OPTIONS,
    "ordered": NO_FLAG,
    "page_size": (None, *NO_INTEGER, 0, -1),
    "persons": (
        *(5, "Alice", PERSON, [5], ["Alice"], [{}], [{"name": "Alice"}], [{**PERSON, "age": 5}]),
        *([{**PERSON, "url": 5}], [("Alice", URL)], [SimpleNamespace(name="", url=URL)]),
        [Person("A", "a.jpg")],
        [PERSON] * 6,
    ),
    "prompt": NO_TEXT,
    "qa": NO_FLAG,
    "query": NO_TEXT,
    "reasoning_effort": (0, 11, -2, 99, "high", "1.0", "", True, 2.0, [2], HUGE, -HUGE),
    "retain_original_video": NO_FLAG[1:],
    "signed": NO_FLAG,
    "similarity": (*NO_NUMBER, 1.1, -0.1),
    "source": NO_SOURCE,
    "sources": NO_MANY,
    "status": NO_OPTIONAL_TEXT,
    "system_prompt": NO_OPTIONAL_TEXT,
    "tag": NO_OPTIONAL_TEXT,
    "tags": (*NO_TEXTS, ["x"] * 51),
    "taken_since": (*NO_TIME, "2025-09-07 22:52:00"),
    "texts": (None, 5, b"x", "", [""], ["x", None], {"x"}, iter("x")),
    "thinking": NO_FLAG,
    "top_k": (*NO_INTEGER, 0, 1001),
    "unique_id": (*NO_OPTIONAL_TEXT, "me ", "me\u200b"),
    "video_no": (*NO_TEXT, " VI1", "VI1\n", "VI\x001", "..", ".", "VI " * 1000),
    "video_nos": (*NO_TEXTS, [" VI1"], ["VI1", "VI2\n"]),
    "video_transcription_prompt": NO_OPTIONAL_TEXT,
    "within": (None, *NO_NUMBER, -1),
}
"""What must be refused of the parameter of a name, in every method that has it."""

MORE: Mapping[str, tuple[object, ...]] = {
    "captions.image.source": (None, 5, object(), {}, "", [None], [PNG, 5]),
    "captions.video.system_prompt": NO_TEXT,
    "captions.submit_video.callback": NO_TEXT,
    "captions.submit_video.system_prompt": NO_TEXT,
    "embeddings.image.model": (None, "clip", ""),
    "embeddings.images.model": (None, "clip", ""),
    "embeddings.image.source": NO_SOURCE[1:],
    "embeddings.video.asset_id": (None, "", ".."),
    "library.add_images.sources": (None, 5, object(), {}, "", [None], [PNG, 5]),
    "library.add_video.callback": (5, "", "https://example.com/" + "x" * 300),
    "library.add_video.tags": (*NO_TEXTS, ["x"] * 21),
    "library.search.video_nos": (*NO_TEXTS, ["VI1"] * 101),
    "library.search_transcripts.page_size": (None, 0, 501),
}
"""The same, of one method's parameter."""

GIVEN: Mapping[str, object] = {
    "source": PNG,
    "sources": [PNG],
    "prompt": "What?",
    "callback": "https://example.com/back",
    "video_no": "VI1",
    "video_nos": ["VI1"],
    "image": PNG,
    "query": "a rabbit",
    "destination": "film.mp4",
    "asset_id": "re_1",
    "texts": "a rabbit",
}
"""What is given where nothing is wrong."""

# What concerns two parameters, by the one that is named.
TOGETHER: tuple[tuple[str, dict[str, object], str], ...] = (
    ("library.add_images", {"latitude": 52.5}, "longitude"),
    ("library.add_video", {"longitude": 13.4}, "latitude"),
    ("library.search", {"latitude": 0}, "longitude"),
    ("library.videos", {"longitude": 0.0}, "latitude"),
    ("library.search", {"by": "caption", "top_k": 201}, "top_k"),
)


NOWHERE = "http://127.0.0.1:1"


def client() -> memories_async.Memories:
    return memories_async.Memories("key", caption_key="key", base_url=NOWHERE)


def blocking_client() -> memories_async.sync.Memories:
    return memories_async.sync.Memories("key", caption_key="key", base_url=NOWHERE)


def calls() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield every public method by its name."""
    made = client()
    for namespace in ("captions", "library", "embeddings", "assets"):
        for name, method in inspect.getmembers(getattr(made, namespace), callable):
            if not name.startswith("_"):
                yield f"{namespace}.{name}", method


CALLS = dict(calls())
PARAMETERS = {
    f"{call}.{name}": (call, name)
    for call, method in CALLS.items()
    for name in inspect.signature(method).parameters
}
EACH_PARAMETER = for_each({name: name for name in PARAMETERS})


def doors(function: object) -> dict[str, Parameter]:
    """Return the checked parameters of a call; what no checker stands before has no such cell."""
    cells = getattr(getattr(function, "__func__", function), "__closure__", None) or ()
    found = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, CallChecker)]
    assert len(found) == 1, f"{function} is not checked"
    return found[0].parameters


def test_there_are_parameters() -> None:
    assert len(PARAMETERS) > 100
    assert set(GIVEN) | set(WRONG) <= {name for _, name in PARAMETERS.values()}
    assert set(MORE) <= set(PARAMETERS)


@EACH_PARAMETER
def test_every_parameter_has_its_kinds(parameter: str) -> None:
    call, name = PARAMETERS[parameter]
    assert doors(CALLS[call])[name].kinds, "a new kind of annotation"
    assert name in WRONG, "a new parameter: say what must be refused of it"


def arguments(call: str, wrong: Mapping[str, object]) -> dict[str, object]:
    """Return what the call needs, and what is wrong."""
    needed = {
        name: GIVEN[name]
        for name, parameter in inspect.signature(CALLS[call]).parameters.items()
        if parameter.default is parameter.empty
    }
    return {**needed, **wrong}


async def refused(call: str, wrong: Mapping[str, object]) -> MemoriesError:
    """Make a call that must be refused; nothing of the engine may have been made for it."""
    made = client()
    returned: Any = attrgetter(call)(made)(**arguments(call, wrong))
    with pytest.raises(MemoriesError) as caught:
        await (anext(returned) if isinstance(returned, AsyncIterator) else returned)
    assert not made._dispatcher._engine._pipelines, "no thread, file or socket before the check"
    return caught.value


def says(error: MemoriesError, call: str, parameter: str) -> None:
    assert type(error) is ConfigurationError
    assert str(error).startswith(f"{call}: "), str(error)
    assert parameter in str(error)
    assert "attempt" not in str(error)
    assert "POST" not in str(error)
    assert len(str(error)) < 400


@EACH_PARAMETER
def test_what_is_wrong_is_refused_by_name(parameter: str) -> None:
    call, name = PARAMETERS[parameter]

    async def each() -> None:
        for value in MORE.get(parameter, WRONG[name]):
            both = {"latitude": 0, "longitude": 0} if name in ("latitude", "longitude") else {}
            says(await refused(call, {**both, name: value}), call, name)

    asyncio.run(each())


@EACH_PARAMETER
def test_the_blocking_client_refuses_the_same(parameter: str) -> None:
    call, name = PARAMETERS[parameter]
    with blocking_client() as made:
        for value in MORE.get(parameter, WRONG[name])[:6]:
            with pytest.raises(ConfigurationError) as caught:
                list(attrgetter(call)(made)(**arguments(call, {name: value})))
            says(caught.value, call, name)
        assert not made._asyncio._dispatcher._engine._pipelines


@pytest.mark.parametrize(("call", "wrong", "named"), TOGETHER)
def test_what_is_wrong_together(call: str, wrong: dict[str, object], named: str) -> None:
    says(asyncio.run(refused(call, wrong)), call, named)


# Words of a few messages, as a reader sees them.

SAYS: tuple[tuple[str, dict[str, object], str], ...] = (
    ("captions.image", {"prompt": None}, "captions.image: prompt is None; a text is wanted"),
    ("captions.image", {"prompt": b"x"}, "captions.image: prompt is b'x'; a text is wanted"),
    ("library.video", {"video_no": None}, "library.video: video_no is None; a text is wanted"),
    (
        "captions.images",
        {"sources": "one.jpg"},
        "captions.images: sources is 'one.jpg'; a sequence of images or videos is wanted",
    ),
    (
        "captions.video",
        {"persons": [5]},
        "captions.video: persons[0] is 5; a Person, or a mapping of name and url, is wanted",
    ),
    (
        "captions.video",
        {"on_progress": hook},
        "captions.video: on_progress is an async function, which is never awaited; give a plain "
        "function",
    ),
    (
        "captions.video",
        {"options": {"deadline": 3}},
        "captions.video: options is {'deadline': 3}; CallOptions is wanted",
    ),
    (
        "library.add_images",
        {"datetime_taken": "2025-9-7 22:52:00"},
        "library.add_images: datetime_taken is yyyy-MM-dd HH:mm:ss, not '2025-9-7 22:52:00'",
    ),
    (
        "embeddings.image",
        {"model": "clip"},
        "embeddings.image: model is one of multimodalembedding@001, mobileclip, not 'clip'",
    ),
    (
        "embeddings.text",
        {"dimensionality": 2**70},
        f"embeddings.text: dimensionality must be between 1 and {2**31 - 1}, not {2**70}",
    ),
)


@pytest.mark.parametrize(("call", "wrong", "message"), SAYS)
def test_what_a_message_says(call: str, wrong: dict[str, object], message: str) -> None:
    assert str(asyncio.run(refused(call, wrong))) == message


def test_a_large_value_is_not_shown_whole() -> None:
    error = asyncio.run(refused("captions.image", {"prompt": b"x" * 10_000_000}))
    assert len(str(error)) < 200


def test_a_function_that_does_not_exist_is_python_s_own_error() -> None:
    async def call() -> None:
        await client().library.video("VI1", pages=3)  # type: ignore[call-arg]  # that is the point

    with pytest.raises(TypeError, match="unexpected keyword argument 'pages'"):
        asyncio.run(call())


def test_a_mistake_s_traceback_is_short() -> None:
    import traceback

    async def call(source: object) -> None:
        await client().captions.image(source, "What?")  # type: ignore[arg-type]  # that is the point

    for source in (5, "/no/such/file.png", "notes.txt"):
        with pytest.raises(MemoriesError) as caught:
            asyncio.run(call(source))
        frames = traceback.extract_tb(caught.value.__traceback__)
        ours = [frame for frame in frames if "memories_async" in Path(frame.filename).parts]
        assert len(ours) <= 1
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.skipif(sys.platform == "win32", reason="local paths are spelled otherwise")
def test_what_is_natural_is_taken() -> None:
    when = datetime(2025, 9, 7, 22, 52, tzinfo=UTC)
    fine: tuple[tuple[str, dict[str, object]], ...] = (
        ("captions.video", {"persons": [PERSON, Person("Bob", URL)]}),
        ("captions.video", {"persons": (PERSON,), "reasoning_effort": "10"}),
        ("captions.image", {"source": [PNG, PNG], "reasoning_effort": -1, "thinking": True}),
        ("captions.image", {"source": (URL,), "options": CallOptions(deadline=1)}),
        ("library.add_images", {"sources": iter([PNG]), "datetime_taken": when, "tags": ("a",)}),
        ("library.add_images", {"sources": PNG, "latitude": 0, "longitude": 0.0}),
        ("library.add_video", {"source": Path("a.mp4"), "datetime_taken": "2025-09-07 22:52:00"}),
        ("library.videos", {"taken_since": when, "folder_id": -1}),
        ("library.download", {"destination": Path("a.mp4")}),
        ("embeddings.text", {"texts": ("a", "b"), "dimensionality": 256}),
        ("captions.image", {"on_progress": print}),
    )
    for call, given in fine:
        parameters = doors(CALLS[call])
        for name, value in given.items():
            assert parameters[name].problem(value) is None, (call, name)


class Word(enum.Enum):
    LOW = "low"


class Named(str, enum.Enum):  # noqa: UP042  # as code from before Python 3.11 has them
    LOW = "low"


class Number(enum.IntEnum):
    TEN = 10


@pytest.mark.parametrize(
    ("parameter", "given", "sent"),
    [
        ("library.search.top_k", np.int64(5), 5),
        ("library.search.top_k", Number.TEN, 10),
        ("library.search.latitude", np.float32(1.5), 1.5),
        ("library.search.latitude", np.float64(1.5), 1.5),
        ("library.search.latitude", np.int8(3), 3),
        ("library.search.latitude", Fraction(1, 2), 0.5),
        ("library.search.filtering_level", Named.LOW, "low"),
        ("library.search.query", Named.LOW, "low"),
        ("library.search.query", np.str_("low"), "low"),
        ("captions.image.reasoning_effort", Number.TEN, 10),
        ("library.add_images.tags", [Named.LOW, "b"], ["low", "b"]),
    ],
)
def test_values_of_other_kinds_are_sent_as_python_s_own(
    parameter: str, given: object, sent: object
) -> None:
    call, name = PARAMETERS[parameter]
    taken = doors(CALLS[call])[name].read(given, call)
    assert taken == sent
    assert type(taken) is type(sent)
    if isinstance(taken, list):
        assert {type(item) for item in taken} == {str}


@pytest.mark.parametrize("value", [np.bool_(True), Word.LOW, np.float64(5), 5 + 0j, Decimal(5)])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="a whole number is wanted"):
        doors(CALLS["library.search"])["top_k"].read(value, "library.search")
