"""Where the command line keeps its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = "memories-async"


def config_folder() -> Path:
    """Return the folder of the profiles: in XDG's for configuration, or in that of Windows."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("APPDATA") or Path.home())
    else:
        parent = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return parent / FOLDER


def state_folder() -> Path:
    """Return the folder of jobs and results: in XDG's for state, or in that of Windows."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        parent = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return parent / FOLDER
