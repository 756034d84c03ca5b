"""The folder that an emulator keeps its files in: marked as its own, and locked while in use."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

MARKER = ".memories-emulator"
"""The file that says that a folder is an emulator's; locked by the one that uses it."""

PARTS = ("videos", "images", "assets", "incoming")
"""The folders within."""

SPOOL_NAME = re.compile(r"[0-9a-f]{32}")
"""The name of an upload on its way in."""

_TEMPORARY = "memories-emulator-"


@contextlib.contextmanager
def kept(folder: Path) -> Generator[Path]:
    """Use a folder that outlasts the emulator, and lock it.

    Args:
        folder: Made if it does not exist. One that holds other people's files is refused: an
            emulator deletes what was left of interrupted uploads, and must not err about whose.

    Raises:
        FileExistsError: It holds files, and no mark of an emulator.
        BlockingIOError: Another emulator uses it.
        OSError: It cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marked = (folder / MARKER).exists()
    names = set(os.listdir(folder))
    if not marked and names and names != set(PARTS):
        raise FileExistsError(
            f"{folder} holds files that are not the emulator's: choose an empty folder"
        )
    with _locked(folder / MARKER) as free:
        if not free:
            raise BlockingIOError(f"{folder} is in use by another emulator")
        yield folder


@contextlib.contextmanager
def temporary() -> Generator[Path]:
    """Use a folder that goes with the emulator; remove those that killed ones have left."""
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    try:
        # Locked before it bears the name that tells others that it may be tried.
        unnamed = folder / f"{MARKER}.new"
        with _locked(unnamed):
            unnamed.rename(folder / MARKER)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove this user's temporary folders whose emulator was killed: their lock is free."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if not _is_mine(folder) or not (folder / MARKER).is_file():
                continue
            with _locked(folder / MARKER) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[bool]:
    """Open a file, made if it does not exist, and lock it; yield whether that succeeded.

    The kernel frees the lock of a process that is killed. ``flock`` belongs to this one opening
    of the file, so that nothing else that this process opens or closes can lose it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":

    def _lock(descriptor: int) -> bool:
        """Say that the lock is held: here nothing keeps a second emulator out."""
        return True

    def _is_mine(folder: Path) -> bool:
        """Say no, as nothing tells whether an emulator is alive."""
        return False

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        """Lock an open file, or return False where another has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_mine(folder: Path) -> bool:
        """Return whether this user made the folder: in a shared one anybody may make any name."""
        return not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
