"""Drawn lives hold, tell the same story twice, and find what is put in on purpose."""

from __future__ import annotations

import datetime
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

import pytest

# Seeds that once broke: the client closed under its calls, deadlines that began too late, answers
# that nobody asked for, a paid answer that was in when a cancellation came, a permit that was stale
# at once and renewed for ever, a true callback that was acknowledged and lost behind a forged one.
ONCE_BROKEN = (17, 38, 42, 24, 48, 50, 52, 70, 83, 92, 130, 186)
LIVES = int(os.environ.get("SIMULATION_SEEDS", "1000"))
TODAY = datetime.datetime.now(datetime.UTC).date().toordinal() * 1000
PARTS = 4
SLOW = pytest.mark.slow


def simulate(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + (done.stderr if status else "")
    assert done.returncode == status, said[-6000:] + done.stderr[-6000:]
    return said


@pytest.mark.parametrize("seeds", [ONCE_BROKEN[:2], pytest.param(ONCE_BROKEN, marks=SLOW)])
def test_what_once_broke_holds_and_tells_the_same_story_twice(seeds: Sequence[int]) -> None:
    """Whatever lived in the process before."""
    told = simulate(
        "--only", ",".join(map(str, seeds)), "--processes", "1", "--digests"
    ).splitlines()[:2]
    again = simulate("--only", "38,17", "--processes", "1", "--digests").splitlines()[:2]
    assert [line.split()[0] for line in told] == ["17", "38"]
    assert told == again[::-1]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("part", "parts"), [(0, 16), *(pytest.param(n, PARTS, marks=SLOW) for n in range(PARTS))]
)
def test_what_is_put_in_on_purpose_is_found(part: int, parts: int) -> None:
    print(simulate("--planted", "--part", str(part), "--parts", str(parts)))


@pytest.mark.slow
def test_a_broken_life_is_made_smaller_and_its_command_breaks_it_again() -> None:
    fault = ["--fault", "nothing is counted"]
    lines = simulate(*fault, "--only", "1", status=1).splitlines()
    at = next(number for number, line in enumerate(lines) if "requests within" in line)
    command = shlex.split(lines[at + 1])
    assert command[:3] == ["python", "-m", "tests.simulation"]
    assert len([part for part in command[-1].split(",") if part.startswith("call-")]) > 30
    assert "requests within" in simulate(*fault, *command[3:], status=1)


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_a_thousand_lives_hold() -> None:
    """New ones each day, and always the first."""
    print(
        simulate(
            "--seeds",
            str(LIVES // 2),
        )
    )
    print(
        simulate(
            "--from",
            str(TODAY),
            "--seeds",
            str(LIVES // 2),
        )
    )
