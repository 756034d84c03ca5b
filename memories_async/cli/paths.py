"""Where the command line keeps its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from memories_async.errors import ConfigurationError

FOLDER = "memories-async"


def _home() -> Path:
    """Return the user's folder, which a container's made-up user may lack."""
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError("this user has no home folder: set HOME to one") from None


def config_folder() -> Path:
    """Return the folder of the profiles: in XDG's for configuration, or in that of Windows."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("APPDATA") or _home())
    else:
        parent = Path(os.environ.get("XDG_CONFIG_HOME") or _home() / ".config")
    return parent / FOLDER


def state_folder() -> Path:
    """Return the folder of jobs and results: in XDG's for state, or in that of Windows."""
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or _home())
    else:
        parent = Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state")
    return parent / FOLDER
