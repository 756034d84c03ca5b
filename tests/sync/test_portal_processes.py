"""Forks and workers: the child has its own loop and connections, the parent is unharmed."""

from __future__ import annotations

import os

import pytest

from memories_async.emulator import Emulator
from tests.sync.conftest import Child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

CHILD_ENDED = "child ended with 0"
BOTH_CALL = ["parent captioned", "child captioned", "child captioned", CHILD_ENDED]
REFUSED = "child this call or iteration was begun in the parent process"

PROGRAMS = {
    "fork_after_a_call": [*BOTH_CALL, "parent captioned"],
    "fork_and_close_in_the_child": [
        "parent captioned",
        "child closed",
        CHILD_ENDED,
        "parent captioned",
    ],
    "fork_and_do_nothing": ["parent captioned", CHILD_ENDED, "parent captioned"],
    "fork_a_child_that_drops_the_client": ["parent captioned", CHILD_ENDED, "parent captioned"],
    "fork_after_a_counted_call": [
        "parent captioned 1",
        "child 1 captioned",
        CHILD_ENDED,
        "parent captioned 1",
    ],
    "fork_within_a_batch": ["parent 0", REFUSED, "child captioned", CHILD_ENDED, "parent 1 2"],
    "fork_with_the_asyncio_client": [
        "parent captioned",
        "child captioned",
        CHILD_ENDED,
        "parent captioned",
    ],
    "fork_and_close_the_asyncio_client": [
        "parent captioned",
        "child closed",
        CHILD_ENDED,
        "parent captioned",
    ],
    "forked_workers": [
        "parent captioned",
        " ".join(["worker captioned"] * 4),
        "parent captioned",
    ],
    "spawned_workers": ["worker embedded"],
    "one_loop_after_the_other": ["captioned"],
    "a_loop_in_each_thread": ["captioned"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_processes_and_loops(
    emulator: Emulator, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORIES_API_KEY", "sk-mavi-0123456789")
    with Child(program, emulator.url) as child:
        for line in [*PROGRAMS[program], "leaving"]:
            assert child.listen() == line
        assert child.end(20) == (0, "")


def test_a_fork_in_the_middle_is_billed_once_each(emulator: Emulator) -> None:
    """Row 50 of the fault matrix: the parent's upload goes on while the child makes a call."""
    with Child("fork_in_the_middle", emulator.url) as child:
        for line in ("child captioned", CHILD_ENDED, "parent uploaded", "parent captioned"):
            assert child.listen() == line
        assert child.listen() == "leaving"
        assert child.end(20) == (0, "")
    made = [(entry.operation, entry.billed) for entry in emulator.ledger]
    assert sorted(made) == [
        ("caption_image_file", True),
        ("caption_image_file", True),
        ("caption_video_file", True),
    ]
