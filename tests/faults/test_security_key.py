"""S1, S2 and S22: the key is in nothing that can be seen, whatever goes wrong."""

from __future__ import annotations

import ast
import asyncio
import base64
import faulthandler
import io
import json
import logging
import os
import pickle
import re
import traceback
import warnings
from collections.abc import Awaitable, Coroutine, Iterator
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

from memories_async import CallOptions, Memories, MemoriesError, secret
from memories_async._engine.request import Request, address
from memories_async.observe import Receipts
from memories_async.operations import CAPTION_IMAGE_URL, Service
from memories_async.secret import Secret
from tests import sources
from tests.conftest import PatientLoop
from tests.faults.conftest import (
    CAPTION_SENTINEL,
    MP4,
    PNG,
    SENTINEL,
    Stage,
    caption,
    embed,
    on_stage,
    until,
)
from tests.faults.scenarios import SCENARIOS
from tests.for_each import for_each
from tests.observe.telemetry import Telemetry

pytestmark = pytest.mark.anyio

T = TypeVar("T")

KEYS = (SENTINEL, CAPTION_SENTINEL)
QUICK = CallOptions(stall_timeout=0.1, answer_timeout=0.1, attempts=2)


class Watch(logging.Handler):
    """Keeps the text of every log record, with its arguments and tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{self.format(record)} {record.args!r} {record.__dict__!r}")
        if record.exc_info and record.exc_info[1] is not None:
            self.texts.append(with_locals(record.exc_info[1]))


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watch every logger at its most talkative, but the emulator's: it is the other side."""
    watch, root = Watch(), logging.getLogger()
    level = root.level
    root.addHandler(watch)
    root.setLevel(logging.NOTSET)
    talkative = [logging.getLogger(name) for name in ("aiohttp", "asyncio", "memories_async")]
    levels = [logger.level for logger in talkative]
    for logger in talkative:
        logger.setLevel(logging.DEBUG)
    yield watch
    for logger, before in zip(talkative, levels, strict=True):
        logger.setLevel(before)
    root.setLevel(level)
    root.removeHandler(watch)


def with_locals(error: BaseException) -> str:
    """Format a traceback as the most talkative crash reporter would, outside the tests' frames."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    return "".join(_without_tests(report).format())


def _without_tests(report: traceback.TracebackException) -> traceback.TracebackException:
    for part in _parts(report):
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if "/tests/" not in frame.filename]
        )
    return report


def _parts(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    yield report
    for inner in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if inner is not None:
            yield from _parts(inner)


def everything_about(error: BaseException) -> Iterator[str]:
    """Yield every text in which an error, or one behind it, can show itself."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield f"{current} {current!r} {current.args!r} {vars(current)!r}"
        yield with_locals(current)
        yield from (repr(value) for value in vars(current).values())
        waiting += [inner for inner in (current.__cause__, current.__context__) if inner]
        if isinstance(current, MemoriesError):
            pickled = pickle.dumps(current)
            yield pickled.decode("latin-1")
            yield repr(vars(pickle.loads(pickled)))


def assert_no_key(texts: Iterator[str] | list[str], of_what: str) -> None:
    for text in texts:
        for key in KEYS:
            at = text.find(key[4:-4])  # also where its ends are masked
            assert at < 0, f"{of_what}: …{text[max(at - 300, 0) : at + 100]}…"


@attrs.frozen
class Aftermath:
    """What calls under a fault left behind."""

    errors: list[BaseException]
    warnings: list[str]
    events: list[str]


NAMES = ("caption", "embed", "upload", "read")


def call(client: Memories, name: str, film: Path, options: CallOptions) -> Awaitable[object]:
    match name:
        case "caption":
            return caption(client, options)
        case "embed":
            return embed(client, options)
        case "upload":
            return client.captions.video(film, "what", options=options)
        case _:
            return client.library.video("VI1", options=options)


@pytest.fixture(scope="module")
def short_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "short.mp4"
    path.write_bytes(MP4)
    os.truncate(path, 6 << 20)
    return path


def run_in_debug(work: Coroutine[object, object, T]) -> T:
    """Run to the end and come back before anything is looked at: looking takes its time."""
    with asyncio.Runner(debug=True, loop_factory=PatientLoop) as runner:
        return runner.run(work)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_s02_the_key_in_no_log_error_traceback_span_metric_or_receipt(
    watch: Watch, short_film: Path, scenario: str, tmp_path: Path
) -> None:
    telemetry, receipts = Telemetry(), tmp_path / "receipts.jsonl"

    async def suffer() -> Aftermath:
        left = Aftermath([], [], [])
        async with on_stage() as stage:
            observers = [stage.recorded, telemetry.observer, Receipts(receipts)]
            for name in NAMES:
                stage.proxy.plans.clear()
                stage.emulator.faults.clear()
                SCENARIOS[scenario](stage)
                # What was sent may come back, and what was not sent cannot.
                keys = {"caption_key": SENTINEL} if "echo" in scenario else {}
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    try:
                        client = stage.client(observers=observers, **keys)
                        await call(client, name, short_film, QUICK)
                    except MemoriesError as error:
                        left.errors.append(error)
                left.warnings.extend(str(warning.message) for warning in caught)
            left.events.extend(map(repr, stage.recorded.events))
        return left

    left = run_in_debug(suffer())
    assert left.errors or scenario == "nothing"
    for error in left.errors:
        assert_no_key(everything_about(error), scenario)
    assert_no_key(left.warnings, "a warning")
    assert_no_key(watch.texts, "a log record")
    assert any("memories_async" in text for text in watch.texts)
    assert_no_key(left.events, "an event")
    spans = [str(span.to_json()) for span in telemetry.finished()]
    assert len(spans) >= 2 * len(NAMES)
    assert_no_key(spans, "a span")
    assert_no_key([telemetry.metrics()], "a metric")
    assert_no_key([receipts.read_text()], "a receipt")


@pytest.mark.parametrize("scenario", ["no answer", "stalled", "dripping answer"])
@pytest.mark.parametrize("name", NAMES)
def test_s02_the_key_in_no_traceback_of_a_cancelled_call(
    watch: Watch, short_film: Path, scenario: str, name: str
) -> None:
    async def suffer() -> BaseException | None:
        async with on_stage() as stage:
            SCENARIOS[scenario](stage)
            try:
                async with asyncio.timeout(0.1):
                    await call(stage.client(), name, short_film, CallOptions(stall_timeout=5))
            except (TimeoutError, MemoriesError) as error:
                return error
        return None

    error = run_in_debug(suffer())
    if error is not None:  # a small request fits through where a large one stalls
        assert_no_key(everything_about(error), f"{scenario}: {name}")
    assert_no_key(watch.texts, "a log record")


async def test_s02_the_key_in_no_stack_of_a_running_task(stage: Stage, tmp_path: Path) -> None:
    SCENARIOS["no answer"](stage)
    calling = asyncio.ensure_future(caption(stage.client()))
    await until(lambda: stage.emulator.ledger)  # it has the request, and keeps silent
    shown = io.StringIO()
    for task in asyncio.all_tasks():
        task.print_stack(file=shown)
        shown.write(repr(task))
    with open(tmp_path / "dump", "w+") as file:  # noqa: ASYNC230  # a small file
        faulthandler.dump_traceback(file)
        file.seek(0)
        shown.write(file.read())
    assert_no_key([shown.getvalue()], "a stack")
    calling.cancel()
    await asyncio.wait([calling])


async def test_s01_the_key_in_no_repr_str_vars_or_pickle(stage: Stage) -> None:
    client = stage.client()
    await caption(client)
    dispatcher = client._dispatcher
    pipeline = await dispatcher.engine()
    settings = dispatcher.settings
    url, fields = address(CAPTION_IMAGE_URL, {"url": "u"}, settings.origin(Service.CAPTION))
    key = settings.key(Service.CAPTION)
    request = Request(CAPTION_IMAGE_URL, url, key, fields, settings.policy)
    result = await client.captions.image(PNG, "what")
    subjects = [
        client,
        client.captions,
        client.library,
        client.embeddings,
        dispatcher,
        dispatcher.settings,
        dispatcher.settings.api_key,
        pipeline,
        pipeline.http,
        request,
        result,
        attrs.asdict(dispatcher.settings),
        attrs.asdict(result),
    ]
    texts: list[str] = []
    for subject in subjects:
        texts += [repr(subject), str(subject), f"{subject}"]
        texts.append(repr(vars(subject)) if hasattr(subject, "__dict__") else "")
        try:
            texts.append(pickle.dumps(subject).decode("latin-1"))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            texts.append(f"{error} {error!r}")
    assert_no_key(texts, "an object")


def test_s01_a_secret_shows_its_last_four_letters() -> None:
    assert repr(Secret(SENTINEL, "V")) == str(Secret(SENTINEL, "V")) == "Secret('sk-…KEY0')"
    assert repr(Secret("short", "V")) == "Secret('…')"


def test_s01_a_pickled_secret_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(Secret(SENTINEL, "MEMORIES_API_KEY"))
    assert SENTINEL.encode() not in pickled
    monkeypatch.setenv("MEMORIES_API_KEY", "other")
    assert pickle.loads(pickled) == Secret("other", "MEMORIES_API_KEY")


@for_each({str(path): path for path in sources.MODULES})
def test_s22_no_pickle_yaml_or_eval(path: Path) -> None:
    for node in ast.walk(sources.parsed(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = {module.partition(".")[0], *(alias.name for alias in node.names)}
            assert not names & {"pickle", "marshal", "shelve", "yaml", "dill"}, path
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path


def test_s02_nothing_prints_or_logs_a_revealed_key() -> None:
    """``reveal`` is called where the header is made, and where a digest or a mask needs it."""
    places = {
        str(path.relative_to(sources.PACKAGE)): path.read_text().count(".reveal()")
        for path in sources.MODULES
        if ".reveal()" in path.read_text()
    }
    assert places == {
        "_engine/transport/http.py": 1,  # the header
        "_engine/pacing.py": 1,  # a digest
        "callbacks/inbox.py": 3,  # HMACs, and a store, with a secret of the inbox's own
    }


def _in_base_64(before: bytes, after: bytes = b"") -> bytes:
    return base64.b64encode(before + SENTINEL.encode() + after)


@pytest.mark.parametrize(
    "echo",
    [
        SENTINEL.encode().hex().encode(),
        SENTINEL.encode().hex().upper().encode(),
        *(_in_base_64(before, b"?") for before in (b"", b":", b"me", b"Bearer ")),
        base64.urlsafe_b64encode(b"Bearer " + SENTINEL.encode()),
        "".join(f"%25{ord(character):02x}" for character in SENTINEL).encode(),
        "".join(f"&#x{ord(character):06x};" for character in SENTINEL).encode(),
        "".join(f"\\x{ord(character):02x}" for character in SENTINEL).encode(),
        "".join(f"\\{ord(character):03o}" for character in SENTINEL).encode(),
        "".join(f"\\u{{{ord(character):x}}}" for character in SENTINEL).encode(),
        SENTINEL.encode("utf-16-le"),
    ],
)
def test_a_key_that_is_echoed_in_another_spelling_is_hidden(echo: bytes) -> None:
    hidden = Secret(SENTINEL, "V").hide(b"no such key: " + echo + b"!")
    assert "…" in hidden.decode()
    assert len(hidden) < 32  # at most the ends of a base 64 text are left
    inside = SENTINEL[6:-6].encode()
    assert inside not in hidden.replace(b"\0", b"")
    assert base64.b64encode(inside) not in hidden


@pytest.mark.parametrize(
    "echo",
    [
        SENTINEL[:8],
        SENTINEL[:-1],
        f"{SENTINEL[: len(SENTINEL) // 2]}...",
        SENTINEL.upper(),
        SENTINEL.lower(),
        SENTINEL.swapcase()[:12],
        SENTINEL[::-1],
        SENTINEL[::-1].lower(),
        "\u200b".join(SENTINEL),
        "\ufeff".join(SENTINEL),
        f"{SENTINEL[:9]}\u00ad{SENTINEL[9:]}",
        json.dumps("\u200d".join(SENTINEL)),
    ],
)
def test_a_key_that_is_cut_turned_or_written_otherwise_is_hidden(echo: str) -> None:
    hidden = Secret(SENTINEL, "V").hide(f"no such key: {echo}!".encode()).decode()
    assert "…" in hidden
    for part in (SENTINEL[:8], SENTINEL[:8:-1][:8]):
        assert part.lower() not in re.sub(r"[\u200b\u200d\ufeff\u00ad]", "", hidden).lower()
    assert len(hidden) < 30


TOKEN = "eyJhbGciOi" + "".join(f"{number:05d}" for number in range(1600))
"""As long as a header can be; signed tokens of some thousand characters all begin like this."""


@pytest.mark.parametrize("length", [100, 500, 2000, 8000])
def test_a_long_token_is_hidden_wherever_it_begins(length: int) -> None:
    token = TOKEN[:length]
    secret = Secret(token, "V")
    for echo in (token, token[:-9], token[::-1], token[::-1][:-9], token.upper(), token[:8]):
        assert secret.hide(f"no such key: {echo}!".encode()) == "no such key: …!".encode()
    # Another's token, in the text of an answer that was paid for.
    assert secret.hide(b"It shows eyJhbGciOiJSUzI1NiJ9.") == "It shows …JSUzI1NiJ9.".encode()


def test_no_pattern_of_a_whole_key_is_made_where_nothing_was_echoed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    spellings = secret._spellings
    monkeypatch.setattr(secret, "_spellings", lambda key: made.append(key) or spellings(key))
    said = b'{"text": "100 % \\u00e9 &amp; \\\\"}'
    assert Secret(TOKEN, "V").hide(said) == said
    assert made == [TOKEN[:8]]


def test_words_that_a_short_key_begins_with_stay() -> None:
    said = b"a password is asked for"
    assert Secret("password1234", "V").hide(said) == said


def test_what_holds_no_key_stays_as_it_is() -> None:
    said = b'{"text": "100 % \\u00e9 &amp; sk-", "n": [0.1, -2e-5], "b": "U0VOVElORUw="}'
    assert Secret(SENTINEL, "V").hide(said) == said


def test_a_key_is_hidden_in_a_page_that_names_its_characters() -> None:
    secret = Secret("sk_mavi+0123/4567=", "V")
    assert secret.hide(b"sk&lowbar;mavi&plus;0123&sol;4567&equals;") == "…".encode()
