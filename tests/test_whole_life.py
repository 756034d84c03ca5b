"""The examples that lead a film from its upload to its end, in both colours."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def check(printed: str) -> None:
    """Look for what must have come of each step."""
    assert printed.count("100% of 1.1 MB") == 2  # up and down
    for fact in (": 5 s of", "1280 x 720", "score 1.00", "mostly", "green", "no such video"):
        assert fact in printed, fact


@pytest.mark.anyio
async def test_the_whole_life(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "whole_life.py"))
    assert await example["main"]() == 0
    check(capsys.readouterr().out)


@pytest.mark.slow
def test_the_whole_life_blocking(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "whole_life_blocking.py"))
    assert example["main"]() == 0
    check(capsys.readouterr().out)


def test_both_colours_say_the_same() -> None:
    asyncio_colour = (EXAMPLES / "whole_life.py").read_text()
    blocking = (EXAMPLES / "whole_life_blocking.py").read_text()

    def steps(source: str) -> str:
        return source[source.index('    print("Uploading")') : source.index("def main")]

    without_await = (
        steps(asyncio_colour)
        .replace("await ", "")
        .replace(
            "[video async for video in client.library.videos()]", "list(client.library.videos())"
        )
        .removesuffix("async ")
    )
    assert without_await == steps(blocking)
