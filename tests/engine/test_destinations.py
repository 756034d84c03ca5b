"""Where a download may lie: found out before anything is paid for."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from memories_async import MediaError, sqlite
from memories_async._engine.transport.downloads import check


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "a.mp4")


def a_pipe_beside(folder: Path) -> None:
    os.mkfifo(folder / "a.mp4.part")


@pytest.mark.parametrize(
    ("name", "prepare", "message"),
    [
        ("a\0.mp4", nothing, "no file's name has a NUL character"),
        ("", nothing, "is a directory"),
        ("none/a.mp4", nothing, "is no directory"),
        ("a.mp4", a_pipe, "is no regular file, and would be replaced by one"),
        ("a.mp4", a_pipe_beside, r"a\.mp4\.part cannot be written: it is no regular file"),
        ("a" * 300, nothing, "cannot be written: File name too long"),
    ],
)
def test_refused(name: str, prepare: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    with pytest.raises(MediaError, match=message):
        check(os.path.join(tmp_path, name))


def test_a_path_of_any_length_fills_no_message() -> None:
    with pytest.raises(MediaError, match="cannot be written: the path is too long") as caught:
        check("x" * 100_000)
    assert len(str(caught.value)) < 200


def test_a_folder_that_nothing_can_be_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not say so: root has all of them, and a medium may be read-only."""

    def read_only(path: str, flags: int, mode: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be written: nothing can be added to"):
        check(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("there", [(), ("a.mp4",), ("a.mp4.part",)])
def test_allowed(there: tuple[str, ...], tmp_path: Path) -> None:
    for name in there:
        (tmp_path / name).write_bytes(b"old")
    check(str(tmp_path / "a.mp4"))
    assert sorted(os.listdir(tmp_path)) == sorted(there)


def test_a_file_that_sqlite_has_open_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "photos.job"
    opened = contextlib.closing(sqlite.connect(path, create_missing=True))
    with opened, pytest.raises(MediaError, match="is an SQLite file that this process has open"):
        check(str(path))
    check(str(path))
