"""Both type-checkers, in their strictest mode, agree on both colours of the public API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-incremental"],
    "pyright": ["-m", "pyright", "--project", str(HERE / "pyright.json")],
}


# They are in the group "lint", which .ci/run installs for the slow tests.
@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_the_types_of_both_colours(checker: str) -> None:
    command = [sys.executable, *CHECKERS[checker]]
    if checker == "mypy":
        command += sorted(str(path) for path in HERE.glob("[!_t]*.py"))
    else:
        command += ["--pythonpath", sys.executable]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
