"""Log lines: stable fields for formatters, and ``MEMORIES_LOG`` for scripts."""

from __future__ import annotations

import json
import logging
import textwrap
from collections.abc import Iterator

import pytest

from memories_async import Memories
from memories_async.emulator import Emulator, InjectedFault, Reason
from memories_async.emulator.engines.hashing import HashEngine
from tests import forks
from tests.faults.conftest import PNG, Stage, caption

pytestmark = pytest.mark.anyio


@pytest.fixture
def debug() -> Iterator[None]:
    logger = logging.getLogger("memories_async")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("debug")
async def test_the_fields_of_a_call(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.emulator.faults.add(InjectedFault(None, Reason.THROTTLED))
    await caption(stage.client(observers=[]))
    records = [record for record in caplog.records if hasattr(record, "memories_event")]
    texts = [record.getMessage() for record in records]
    assert texts[0] == "captions.image: POST /v1/understand/uploadImgFile"
    assert "captions.image: billed" in texts
    [ended] = [
        record.__dict__
        for record in records
        if record.__dict__["memories_event"] == "AttemptEnded"
        and record.__dict__["memories_attempt"] == 2
    ]
    assert {name: ended[name] for name in FIELDS} == FIELDS
    assert isinstance(ended["memories_seconds"], float)
    [throttled] = [record for record in records if "throttled: the lane" in record.getMessage()]
    assert throttled.levelno == logging.INFO


FIELDS = {
    "memories_operation": "captions.image",
    "memories_method": "POST",
    "memories_path": "/v1/understand/uploadImgFile",
    "memories_attempt": 2,
    "memories_verdict": "ok",
    "memories_state": "SENT",
    "memories_status": 200,
    "memories_code": None,
    "memories_error": None,
}


async def test_nothing_is_made_where_nobody_listens(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import memories_async._engine.watch as watch

    def made(*arguments: object) -> None:
        raise AssertionError("an event was made for nobody")

    monkeypatch.setattr(watch, "_observed", made)
    await caption(stage.client(observers=[]))


THEIRS = (
    "theirs = logging.StreamHandler(); "
    "theirs.setFormatter(logging.Formatter('theirs %(message)s')); "
)
PRINTS = (
    "Prints = type('Prints', (logging.Handler,), "
    "{'emit': lambda self, record: print('theirs', record.getMessage(), file=sys.stderr)}); "
)


@pytest.mark.parametrize(
    ("configured", "shown"),
    [
        ("pass", ["ours"]),
        ("logging.basicConfig(format='theirs %(message)s')", ["theirs"]),
        ("logging.basicConfig(); logging.root.handlers[0].setLevel('WARNING')", ["ours"]),
        ("logging.basicConfig(); package.propagate = False", ["ours"]),
        ("logging.root.addHandler(logging.NullHandler())", ["ours"]),
        ("package.addHandler(logging.NullHandler())", ["ours"]),
        (THEIRS + "package.addHandler(theirs)", ["theirs"]),
        (THEIRS + "package.addHandler(theirs); package.propagate = False", ["theirs"]),
        (THEIRS + "package.addHandler(theirs); theirs.setLevel('INFO')", ["ours"]),
        (
            THEIRS + "logging.root.addHandler(theirs); theirs.addFilter(logging.Filter('a'))",
            ["ours"],
        ),
        (
            THEIRS + "logging.root.addHandler(theirs); theirs.addFilter(logging.Filter())",
            ["theirs"],
        ),
        # No stream of its own, as rich's and those that pass records on to another system.
        (PRINTS + "logging.root.addHandler(Prints())", ["theirs"]),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_line_is_shown_once_beside_the_application_s_own(
    configured: str, shown: list[str], first: bool
) -> None:
    program = f"""
        import logging, sys
        from memories_async import Memories
        package = logging.getLogger("memories_async")
        if not {first}:
            Memories("key")
        {configured}
        Memories("key")
        package.debug("a line")
    """
    done = forks.completed(
        ["-c", textwrap.dedent(program)], env=forks.least(MEMORIES_LOG="debug", PATH="")
    )
    done.check_returncode()
    said = [line for line in done.stderr.splitlines() if line.endswith("a line")]
    assert ["theirs" if line.startswith("theirs") else "ours" for line in said] == shown


def test_a_level_that_is_none_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MEMORIES_LOG", "loud")
    Memories("key")
    assert caplog.messages == ["MEMORIES_LOG is 'loud', no level such as debug or info"]


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", True), ("Info", False), ("nonsense", False)]
)
def test_a_script_sees_them_where_it_asks(level: str, shown: bool) -> None:
    program = f"""
        import asyncio, json
        from memories_async import Memories

        key = "key-0123456789"

        async def main(url):
            for _ in range(2):
                async with Memories(key, caption_key=key, base_url=url) as m:
                    await m.captions.image({PNG!r}, "a prompt that nobody shall read")

        import sys
        asyncio.run(main(sys.argv[1]))
    """
    with Emulator(HashEngine()) as emulator:
        done = forks.completed(
            ["-c", textwrap.dedent(program), emulator.url],
            env=forks.least(MEMORIES_LOG=level, PATH=""),
        )
    done.check_returncode()
    lines = [line for line in done.stderr.splitlines() if "captions.image: billed" in line]
    assert len(lines) == (2 if shown else 0), "once for each call, however many clients"
    assert "nobody shall read" not in done.stderr
    assert "0123456789" not in done.stderr
    assert not json.loads(f"[{done.stdout}]")
