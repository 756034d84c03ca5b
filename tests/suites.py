"""Other people's test suites, each run by pytest in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests import forks

NOT_ASKED_FOR = [
    f"-pno:{name}" for name in ("schemathesis", "hypothesispytest", "xdist", "timeout")
]
"""Other plugins of this environment: loading them takes four fifths of such a process's time."""


def run(
    *arguments: str, folder: Path, environment: Mapping[str, str], started: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder; ``started`` where what is imported is asked for."""
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *NOT_ASKED_FOR, *arguments)
    if started:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    # What has been loaded before a fork was is loaded before pytest can rewrite it.
    warning = "-Wignore::pytest.PytestAssertRewriteWarning"
    return forks.completed([*arguments, warning], cwd=folder, env=environment, loaded=["pytest"])
