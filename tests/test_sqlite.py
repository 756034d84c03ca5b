"""One module opens SQLite files, and never lets go of a lock by accident."""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memories_async import sqlite
from memories_async.bulk.ledger.sqlite import SCHEMA as LEDGER
from memories_async.errors import ConfigurationError
from memories_async.sqlite import Schema
from tests import sources
from tests.locks import locks_held

NOTES = Schema(
    application_id=0x6E6F7465,
    version=2,
    statements=("CREATE TABLE note (text TEXT, at REAL)",),
    upgrades={0: (), 1: ("ALTER TABLE note ADD COLUMN at REAL",)},
    unmarked=frozenset({"note"}),
)
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")
PROC = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="/proc/locks is Linux's own")


def calls(tree: ast.AST) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_else_in_the_package_opens_an_sqlite_file() -> None:
    openers = {
        path.relative_to(sources.PACKAGE).as_posix()
        for path in sources.MODULES
        if any(
            "sqlite3." in call and call.endswith("connect") for call in calls(sources.parsed(path))
        )
        or "from sqlite3 import" in path.read_text()
    }
    assert openers == {"sqlite.py"}


@PROC
def test_a_descriptor_closed_beside_sqlite_drops_its_locks_and_connecting_again_does_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "notes.db"
    first = sqlite.connect(path, NOTES, create_missing=True)
    held = locks_held(path)
    assert held
    for _ in range(3):
        sqlite.connect(path, NOTES, create_missing=True).close()
        sqlite.connect_for_reading(path, NOTES).close()
        with pytest.raises(FileExistsError):
            sqlite.create(path)
    assert locks_held(path) == held
    os.close(os.open(path, os.O_RDONLY))  # what all this is about
    assert locks_held(path) < held
    first.close()


@POSIX
def test_a_new_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    before = os.umask(0)
    try:
        db = sqlite.connect(path, NOTES, create_missing=True)
    finally:
        os.umask(before)
    db.execute("INSERT INTO note VALUES ('x', 1)")
    for name in (path, f"{path}-wal", f"{path}-shm"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    db.close()


@POSIX
def test_a_file_open_to_others_is_made_private_with_what_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    other = sqlite.connect(path, NOTES, create_missing=True)
    for name in (path, f"{path}-wal", f"{path}-shm"):
        os.chmod(name, 0o644)
    db = sqlite.connect(path, NOTES)
    for name in (path, f"{path}-wal", f"{path}-shm"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    db.close()
    other.close()


@POSIX
def test_a_file_of_somebody_else_that_is_open_to_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notes.db"
    sqlite.connect(path, NOTES, create_missing=True).close()
    os.chmod(path, 0o666)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(path).st_uid + 1)
    with pytest.raises(ConfigurationError, match="another user"):
        sqlite.connect(path, NOTES)


@POSIX
@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_link_is_refused(tmp_path: Path, target: str) -> None:
    sqlite.connect(tmp_path / "there", NOTES, create_missing=True).close()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    for opens in (sqlite.connect, sqlite.connect_for_reading):
        with pytest.raises(ConfigurationError, match="symbolic link"):
            opens(link, NOTES)
    with pytest.raises(FileExistsError):
        sqlite.create(link)
    assert not (tmp_path / "nowhere").exists()


@POSIX
def test_a_link_put_there_while_the_file_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.connect(tmp_path / "there", NOTES, create_missing=True).close()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there")
    monkeypatch.setattr(sqlite, "_regular", os.stat)  # as if it had been a file a moment ago
    for opens in (sqlite.connect, sqlite.connect_for_reading):
        with pytest.raises(ConfigurationError, match="symbolic link"):
            opens(link, NOTES)


@POSIX
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name in (pipe, tmp_path):
        with pytest.raises(ConfigurationError, match="no regular file"):
            sqlite.connect(name, NOTES)
        with pytest.raises(ConfigurationError, match="no regular file"):
            sqlite.connect_for_reading(name, NOTES)


def test_a_file_whose_tables_are_no_text_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    sqlite.connect(path, NOTES, create_missing=True).close()
    content = path.read_bytes()
    # SQLite's message quotes what it cannot read, and Python's module takes that for UTF-8.
    path.write_bytes(content.replace(b"CREATE TABLE note", b"CREATE \xf8ABLE note"))
    for opens in (sqlite.connect, sqlite.connect_for_reading):
        with pytest.raises(sqlite3.DatabaseError, match="damaged"):
            opens(path, NOTES)
    assert not sqlite.in_use(os.stat(path))


def test_no_file_is_made_unasked(tmp_path: Path) -> None:
    for opens in (sqlite.connect, sqlite.connect_for_reading):
        with pytest.raises(FileNotFoundError):
            opens(tmp_path / "notes.db", NOTES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "a%20b?mode=memory#c", "é\udc80.db"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/{name}"
    if "\0" in name or "\ud800" in name:
        with pytest.raises(ConfigurationError, match=r"NUL|surrogates"):
            sqlite.connect(path, NOTES, create_missing=True)
        return
    sqlite.connect(path, NOTES, create_missing=True).close()
    assert os.listdir(tmp_path) == [name]


def test_other_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database, but longer than the header of one " * 10)
    other = tmp_path / "other"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE something (x)")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    before = text.read_bytes(), other.read_bytes()
    for opens in (sqlite.connect, sqlite.connect_for_reading):
        with pytest.raises(ConfigurationError, match="no SQLite file"):
            opens(text, NOTES)
        with pytest.raises(ConfigurationError, match="another purpose"):
            opens(other, NOTES)
    assert (text.read_bytes(), other.read_bytes()) == before


def old_file(path: Path, version: int) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE note (text TEXT)")
    db.execute("INSERT INTO note VALUES ('kept')")
    if version:
        db.execute(f"PRAGMA application_id = {NOTES.application_id}")
        db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()


@pytest.mark.parametrize("version", [0, 1])
def test_an_older_file_is_upgraded_in_place(tmp_path: Path, version: int) -> None:
    path = tmp_path / "notes.db"
    old_file(path, version)
    if version == 0:  # one step more: it was written before files were marked
        steps = {0: ("ALTER TABLE note ADD COLUMN at REAL",), 1: ()}
        schema = Schema(
            application_id=NOTES.application_id,
            version=2,
            statements=NOTES.statements,
            upgrades=steps,
            unmarked=NOTES.unmarked,
        )
    else:
        schema = NOTES
    reading = sqlite.connect_for_reading(path, schema)
    assert reading.execute("SELECT * FROM note").fetchall() == [("kept", None)]
    reading.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (version,)
    for _ in range(2):
        db = sqlite.connect(path, schema)
        assert db.execute("SELECT * FROM note").fetchall() == [("kept", None)]
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        db.close()


def test_a_failed_upgrade_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    old_file(path, 1)

    def fail(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM note")
        raise RuntimeError("halfway")

    schema = Schema(
        application_id=NOTES.application_id, version=2, statements=(), upgrades={1: (fail,)}
    )
    with pytest.raises(RuntimeError):
        sqlite.connect(path, schema)
    db = sqlite3.connect(path)
    assert db.execute("SELECT * FROM note").fetchall() == [("kept",)]
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()


def test_a_file_of_a_newer_version_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    old_file(path, 7)
    for opens in (sqlite.connect, sqlite.connect_for_reading):
        with pytest.raises(ConfigurationError, match="upgrade the package"):
            opens(path, NOTES)


def made(path: Path) -> None:
    for _ in range(5):
        sqlite.connect(path, NOTES, create_missing=True).close()


def test_processes_and_threads_that_all_come_first_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=made, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(made, [path] * 16))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_in_use_knows_the_file_and_what_lies_beside_it_by_any_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    db = sqlite.connect(path, NOTES, create_missing=True)
    os.link(path, tmp_path / "same")
    names = ["same", "notes.db", "notes.db-wal", "notes.db-shm"]
    assert all(sqlite.in_use(os.stat(tmp_path / name)) for name in names)
    (tmp_path / "other").touch()
    assert not sqlite.in_use(os.stat(tmp_path / "other"))
    db.close()
    assert not sqlite.in_use(os.stat(path))


def test_in_use_while_other_threads_open_and_close(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    db = sqlite.connect(path, NOTES, create_missing=True)
    ended = threading.Event()

    def open_and_close() -> None:
        while not ended.is_set():
            sqlite.connect(path, NOTES).close()

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(open_and_close) for _ in range(2)]
        assert all(sqlite.in_use(os.stat(path)) for _ in range(300))
        ended.set()
    for other in others:
        other.result()
    db.close()


def test_a_checkpoint_leaves_everything_in_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    db = sqlite.connect(path, NOTES, create_missing=True)
    db.execute("INSERT INTO note VALUES ('kept', 1)")
    assert sqlite.checkpoint(db)
    copy = tmp_path / "copy.db"
    subprocess.run(["cp", path, copy], check=True)
    reading = sqlite.connect_for_reading(copy, NOTES)
    assert reading.execute("SELECT text FROM note").fetchall() == [("kept",)]
    reading.close()
    db.close()


READ = """
import sys
from memories_async import sqlite
from memories_async.bulk.ledger.sqlite import SCHEMA as LEDGER
from tests import sources
from tests.locks import locks_held
from tests.test_sqlite import NOTES
db = sqlite.connect_for_reading(sys.argv[1], NOTES)
print(db.execute("SELECT text FROM note").fetchall())
db.close()
"""


def on_read_only_media(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that sees a folder mounted read-only; skip the test where that may not be."""
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    probe = [*namespace, script, str(folder), "true"]
    try:
        possible = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("nothing can be mounted read-only here")
    return subprocess.run(
        [*namespace, script, str(folder), *command], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_on_read_only_media_is_read(tmp_path: Path, version: int) -> None:
    media = tmp_path / "media"
    media.mkdir()
    path = media / "notes.db"
    if version == 1:
        old_file(path, 1)
    else:
        db = sqlite.connect(path, NOTES, create_missing=True)
        db.execute("INSERT INTO note VALUES ('kept', 1)")
        db.close()
    ran = on_read_only_media(media, [sys.executable, "-c", READ, str(path)])
    assert ran.stdout == "[('kept',)]\n", ran.stderr


def test_what_a_killed_writer_left_on_read_only_media_is_read(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    path = media / "notes.db"
    code = (
        "import os, sys; from memories_async import sqlite; from tests.test_sqlite import NOTES\n"
        "db = sqlite.connect(sys.argv[1], NOTES, create_missing=True)\n"
        "db.execute('INSERT INTO note VALUES (?, 1)', ('kept',))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=False)
    assert os.path.getsize(f"{path}-wal")
    ran = on_read_only_media(media, [sys.executable, "-c", READ, str(path)])
    assert ran.stdout == "[('kept',)]\n", ran.stderr


def test_many_threads_may_come_first(tmp_path: Path) -> None:
    """What one makes is seen whole by the others, or not at all."""
    for attempt in range(20):
        path = tmp_path / str(attempt)
        ready = threading.Barrier(8)

        def come(path: Path = path, ready: threading.Barrier = ready) -> None:
            ready.wait()
            sqlite.connect(path, LEDGER, create_missing=True).close()

        with ThreadPoolExecutor(8) as pool:
            for coming in [pool.submit(come) for _ in range(8)]:
                coming.result()
