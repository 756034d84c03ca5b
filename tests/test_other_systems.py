"""Windows and macOS, played in a process of its own: every module imports, calls and jobs work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulator.films import write_three_shots

ROOT = Path(__file__).parents[1]
MEDIA = ROOT / "examples" / "media"


@pytest.mark.parametrize("system", ["win32", pytest.param("darwin", marks=pytest.mark.slow)])
def test_everything_imports_and_lives(system: str, tmp_path: Path) -> None:
    """It starts twice: the second finds the first one's files, and pays for nothing twice."""
    shutil.copy(MEDIA / "frame-1.3s.jpg", tmp_path / "photo.jpg")
    write_three_shots(tmp_path / "film.mp4")
    ended = subprocess.run(
        [sys.executable, "-P", "-X", "utf8", "tests/other_systems.py", system, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.fullmatch(r"\d+ modules imported\ncalled\ncalled\n", ended.stdout)
