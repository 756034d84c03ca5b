"""The shell scripts stay in the project's own folder, wherever that was unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ("benchmarks/run", "examples/run", "tests/run")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts are for POSIX")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The project's scripts in a folder of somebody else's git repository.

    Their environment is made already: its interpreter only says where it runs and what it is given.
    """
    outer = tmp_path / "somebody else's"
    inner = outer / "vendor" / "memories async"
    for name in (".ci/environment", "pyproject.toml", *SCRIPTS):
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, inner / name)
    subprocess.run(["git", "init", "-q", str(outer)], check=True)
    for folder in (outer, inner):
        interpreter = folder / ".venv/bin/python"
        interpreter.parent.mkdir(parents=True)
        interpreter.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
        interpreter.chmod(0o755)
    return inner


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("place", ["inside", "outside", "by its full path", "with CDPATH"])
def test_a_script_stays_in_its_own_folder(unpacked: Path, script: str, place: str) -> None:
    outer = unpacked.parent.parent
    where, how = {
        "inside": (unpacked, script),
        "outside": (outer, f"vendor/memories async/{script}"),
        "by its full path": (Path("/"), str(unpacked / script)),
        "with CDPATH": (unpacked, script),
    }[place]
    variables = {**os.environ, "CDPATH": str(ROOT)} if place == "with CDPATH" else {**os.environ}
    ended = subprocess.run(
        ["sh", how, "argument"],
        cwd=where,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ended.stdout.splitlines()
    assert set(lines) & {str(unpacked), str(outer), str(ROOT)} == {str(unpacked)}
    assert any("argument" in line for line in lines)
    assert not (outer / ".venv/installed").exists()
