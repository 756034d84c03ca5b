"""Where files are kept that the user did not name: their own folder, and XDG's below it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from memories_async.errors import ConfigurationError, quoted

FOLDER = "memories-async"
_LONGEST_PATH = 4096


def home() -> Path:
    """Return the user's folder.

    Raises:
        ConfigurationError: There is none, as for a container's made-up user, or it would be
            another one in each working folder.
    """
    try:
        folder = _checked("HOME", Path.home())
    except RuntimeError:
        raise ConfigurationError("this user has no home folder: set HOME to one") from None
    if not folder.is_absolute():
        raise ConfigurationError(f"HOME is no absolute path: {quoted(str(folder), 40)}")
    return folder


def config_folder() -> Path:
    """Return the folder of the profiles: in XDG's for configuration, or in that of Windows."""
    if sys.platform == "win32":
        parent = _named("APPDATA") or home()
    else:
        parent = _named("XDG_CONFIG_HOME") or home() / ".config"
    return parent / FOLDER


def state_folder() -> Path:
    """Return the folder of jobs and results: in XDG's for state, or in that of Windows."""
    if sys.platform == "win32":
        return (_named("LOCALAPPDATA") or home()) / FOLDER
    return xdg_state_folder()


def xdg_state_folder() -> Path:
    """Return the folder in XDG's for state, on every system: a cluster's ledgers are below it."""
    return (_named("XDG_STATE_HOME") or home() / ".local" / "state") / FOLDER


def _named(variable: str) -> Path | None:
    """Return the folder that a variable names; a relative one is none, as XDG's standard says.

    A job would be found from one working folder alone, and be paid for again from the next.
    """
    named = Path(os.environ.get(variable, ""))
    return _checked(variable, named) if named.is_absolute() else None


def _checked(variable: str, folder: Path) -> Path:
    if len(path := str(folder)) > _LONGEST_PATH:  # each message about it would hold all of it
        raise ConfigurationError(f"{variable} is longer than a path may be: {quoted(path, 40)}")
    return folder
