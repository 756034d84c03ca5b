"""The only module that opens SQLite files: jobs, callback stores and limiters open theirs here.

SQLite protects a file with POSIX locks, and a process loses all of those that it holds on a file
as soon as it closes *any* descriptor of it (https://sqlite.org/howtocorrupt.html, 2.2). The next
process to close the file then believes that it is the last one and deletes a write-ahead log that
is in use. So nothing in this package opens, copies or hashes an SQLite file but through SQLite,
and whoever opens files that others name asks ``in_use`` first.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, cast

import attrs

from memories_async.checks.kinds import path_problem
from memories_async.errors import ConfigurationError

SUFFIXES: Final = ("-wal", "-shm", "-journal")
"""What SQLite adds to a file's name for those that it lays beside it."""
BUSY_TIMEOUT: Final = 30.0
"""Seconds for which a connection waits for another one's lock."""

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]
Step = str | Callable[[sqlite3.Connection], object]
"""A statement, or a function that is given the connection."""

# Guards _OPEN; and between a file's creation and the closing of the descriptor that created it, no
# other thread may open it through SQLite: the closing would drop that one's locks.
_LOCK = threading.Lock()
_OPEN: weakref.WeakSet[_Connection] = weakref.WeakSet()
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR


@attrs.frozen(kw_only=True)
class Schema:
    """What an SQLite file of one purpose holds.

    Attributes:
        application_id: The number in the file's header by which it is told from other files.
        version: The version of the tables, kept in the header as ``user_version``.
        statements: What makes the tables of this version in an empty file.
        upgrades: For each older version the steps that lead to the next; a file is upgraded in
            place, in one transaction. Version 0 stands for files written before they were marked.
        unmarked: The tables by which such an unmarked file is recognised; empty if there are none.
    """

    application_id: int
    version: int
    statements: tuple[str, ...]
    upgrades: Mapping[int, Sequence[Step]] = attrs.field(factory=dict[int, Sequence[Step]])
    unmarked: frozenset[str] = frozenset()

    @property
    def marks(self) -> tuple[int, int]:
        """The two numbers in the header of a file of this version."""
        return self.application_id, self.version


class _Connection(sqlite3.Connection):
    """A connection of which ``in_use`` knows until it is closed."""

    path: str = ""

    def close(self) -> None:
        super().close()
        with _LOCK:
            _OPEN.discard(self)


def create(path: str | os.PathLike[str]) -> None:
    """Make an empty file that only its owner may read and write.

    Raises:
        FileExistsError: There is something of that name, be it a symbolic link to nowhere.
        OSError: It cannot be made.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    with _LOCK:
        descriptor = os.open(path, flags, _PRIVATE)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, _PRIVATE)  # whatever the umask is
        finally:
            os.close(descriptor)


def connect(
    path: str | os.PathLike[str],
    schema: Schema | None = None,
    *,
    create_missing: bool = False,
    synchronous: Synchronous = "FULL",
    busy_timeout: float = BUSY_TIMEOUT,
) -> sqlite3.Connection:
    """Open a file for reading and writing, with a write-ahead log and explicit transactions.

    The connection may be used from several threads, by one at a time.

    Args:
        path: The file. One that others may read is made private; a link is refused.
        schema: What it holds. A file of an older version is upgraded, any other is refused and
            stays as it is. None leaves this to the caller.
        create_missing: Make the file if there is none, and the tables if it is empty.
        synchronous: ``FULL`` keeps what was committed through a power cut.
        busy_timeout: Seconds to wait for other connections' locks.

    Raises:
        ConfigurationError: It is a link or no regular file, belongs to somebody else and is open
            to others, or is not what the schema says.
        FileNotFoundError: There is no such file.
        OSError: It cannot be made or made private.
        sqlite3.Error: SQLite cannot open it.
    """
    name = check_name(path)
    if create_missing:
        with contextlib.suppress(FileExistsError):
            create(name)
    _regular(name)
    db = _open(name, "mode=rw", busy_timeout)
    try:
        _check_name(db, name)
        if schema is not None:
            db.execute("BEGIN")  # one view of it: another process may be making its tables
            try:
                _steps(db, schema, create_missing)  # a file of another purpose is not touched
            finally:
                db.execute("ROLLBACK")
        _make_private(name)
        _with_patience(lambda: _use_log(db), busy_timeout)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if schema is not None:
            prepare(db, schema, make=create_missing)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        db.close()
        raise _explained(error, name) from None
    except BaseException:
        db.close()
        raise
    return db


def connect_for_reading(
    path: str | os.PathLike[str],
    schema: Schema | None = None,
    *,
    busy_timeout: float = BUSY_TIMEOUT,
) -> sqlite3.Connection:
    """Open a file without changing it, be it on read-only media.

    Such a connection never takes part in deleting the write-ahead log, so it is safe beside a
    writer. A file of an older version is read through an upgraded copy, which vanishes with the
    connection; so is one with a second name, beside which SQLite would lay a second log.

    Args:
        path: The file; a link is refused.
        schema: What it holds; None leaves this to the caller.
        busy_timeout: Seconds to wait for other connections' locks.

    Raises:
        ConfigurationError: It is a link or no regular file, or is not what the schema says.
        FileNotFoundError: There is no such file.
        sqlite3.Error: SQLite cannot open it.
    """
    name = check_name(path)
    _regular(name)
    alone = has_another_name(name)
    db = _open(name, "mode=ro&immutable=1" if alone else "mode=ro", busy_timeout)
    try:
        try:
            _check_name(db, name)  # the first query there is
        except sqlite3.OperationalError:
            # On read-only media SQLite cannot lay its shared memory beside the file. Without a
            # log there is nothing but the file, and there nobody can change it.
            if _size(f"{name}-wal") or os.access(os.path.dirname(name), os.W_OK):
                raise
            db.close()
            db = _open(name, "mode=ro&immutable=1", busy_timeout)
            _check_name(db, name)
        if schema is None or (_marks(db) == schema.marks and not alone):
            return db
        copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        try:
            with contextlib.closing(db):
                db.backup(copy)
            prepare(copy, schema, make=False)
        except BaseException:
            copy.close()
            raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        db.close()
        raise _explained(error, name) from None
    except BaseException:
        db.close()
        raise
    return copy


def prepare(db: sqlite3.Connection, schema: Schema, *, make: bool = True) -> None:
    """Make the tables in an empty file, or upgrade those of an older version.

    Args:
        db: The connection.
        schema: What the file shall hold.
        make: Whether an empty file is given the tables; else it is refused.

    Raises:
        ConfigurationError: The file holds something else, or was written by a newer version.
    """
    if _marks(db) == schema.marks:
        return
    with transaction(db):
        for step in _steps(db, schema, make):  # looked at anew: another process may be ahead
            if callable(step):
                step(db)
            else:
                db.execute(step)
        db.execute(f"PRAGMA application_id = {schema.application_id}")
        db.execute(f"PRAGMA user_version = {schema.version}")


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """Make changes that no other connection can come between: all of them, or none."""
    db.execute("BEGIN IMMEDIATE")
    with db:
        yield


def marks_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the application's and the version's number in a file's header.

    Of a damaged file, too, as long as its header can be read.

    Raises:
        ConfigurationError: It is a link, or no SQLite file.
        FileNotFoundError: There is no such file.
        sqlite3.Error: SQLite cannot read it.
    """
    try:
        with contextlib.closing(connect_for_reading(path)) as db:
            return _marks(db)
    except sqlite3.OperationalError:  # it is locked, or the medium fails
        raise
    except sqlite3.DatabaseError:
        with contextlib.closing(_open(check_name(path), "mode=ro", BUSY_TIMEOUT)) as db:
            # Has SQLite read what it can without complaining of tables and length.
            db.execute("PRAGMA writable_schema = ON")
            return _marks(db)


def checkpoint(db: sqlite3.Connection) -> bool:
    """Move all of the write-ahead log into the file itself, so that the file alone is whole.

    Returns:
        Whether that was possible: not while others read what came before.
    """
    (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def check_name(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file that SQLite can open, whether it exists or not.

    Raises:
        ConfigurationError: No file has such a name.
    """
    if not isinstance(cast("object", path), str | os.PathLike) or not os.fspath(path):
        raise ConfigurationError(f"{path!r} is no name of a file")
    name = os.path.abspath(path)
    if (problem := path_problem("name", name)) is not None:
        raise ConfigurationError(f"{name!r} is no file name: {problem}")
    return name


def has_another_name(path: str) -> bool:
    """Tell whether a file has several names, and no log beside this one.

    Each name has a log of its own: two that are in use at once damage the file.
    """
    try:
        return os.stat(path).st_nlink > 1 and not os.path.exists(f"{path}-wal")
    except OSError:
        return False


def in_use(status: os.stat_result) -> bool:
    """Tell whether this process has a file open through SQLite, by its number and device.

    To open and close such a file in any other way would drop the locks that protect it.

    Args:
        status: What ``os.stat`` says of the file.
    """
    wanted = (status.st_dev, status.st_ino)
    with _LOCK:
        paths = {db.path for db in _OPEN}
    names = [f"{path}{suffix}" for path in paths for suffix in ("", *SUFFIXES)]
    return any(identity(name) == wanted for name in names)


def delete(path: str | os.PathLike[str]) -> None:
    """Delete a file that no connection has open, and what SQLite laid beside it.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be deleted.
    """
    name = check_name(path)
    os.unlink(name)  # first: a file without its log is worse than a log without its file
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}{suffix}")


def _open(name: str, mode: str, busy_timeout: float) -> _Connection:
    with _LOCK:
        db = sqlite3.connect(
            f"{Path(name).as_uri()}?{mode}",
            timeout=busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
            uri=True,
        )
        db.path = name
        _OPEN.add(db)
    return db


def _regular(name: str) -> os.stat_result:
    status = os.lstat(name)
    if stat.S_ISLNK(status.st_mode):
        raise ConfigurationError(f"{name} is a symbolic link: name the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{name} is no regular file")
    return status


def _make_private(name: str) -> None:
    """Take everybody else's rights from a file and from what SQLite laid beside it."""
    if os.name != "posix":
        return
    for suffix in ("", *SUFFIXES):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(name + suffix)
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                if status.st_uid != os.geteuid():
                    raise ConfigurationError(
                        f"{name}{suffix} belongs to another user and is open to others: "
                        "its owner has to chmod it to 600"
                    )
                os.chmod(name + suffix, _PRIVATE)


def _check_name(db: sqlite3.Connection, name: str) -> None:
    """Refuse a file that became a link while it was being opened: SQLite says what it opened."""
    if os.path.basename(_file(db)) != os.path.basename(name):
        raise ConfigurationError(f"{name} is a symbolic link: name the file itself")


def _use_log(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        db.execute("PRAGMA journal_mode = WAL")


def _with_patience(work: Callable[[], object], seconds: float) -> None:
    """Try again while the file is busy: for a change of mode SQLite does not wait by itself."""
    end = time.monotonic() + seconds
    while True:
        try:
            work()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > end:
                raise
            time.sleep(0.005)
        else:
            return


def _marks(db: sqlite3.Connection) -> tuple[int, int]:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(application_id), int(version)


def _steps(db: sqlite3.Connection, schema: Schema, make: bool) -> list[Step]:
    """Return what is to be done to a file so that it holds what the schema says."""
    application_id, version = _marks(db)
    if (application_id, version) == schema.marks:
        return []
    tables = {str(name) for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if not tables and application_id in (0, schema.application_id):
        if not make:
            raise ConfigurationError(f"{_file(db)} is empty")
        return list(schema.statements)
    unmarked = application_id == 0 and bool(schema.unmarked) and schema.unmarked <= tables
    if application_id != schema.application_id and not unmarked:
        raise ConfigurationError(f"{_file(db)} is an SQLite file of another purpose")
    if version > schema.version:
        raise ConfigurationError(
            f"{_file(db)} was written by a newer version of memories-async (its format is "
            f"{version}, this version knows up to {schema.version}): upgrade the package"
        )
    missing = [old for old in range(version, schema.version) if old not in schema.upgrades]
    if missing:
        raise ConfigurationError(
            f"{_file(db)} was written by a version of memories-async whose format {missing[0]} "
            "can no longer be read"
        )
    return [step for old in range(version, schema.version) for step in schema.upgrades[old]]


def _explained(error: sqlite3.DatabaseError | UnicodeDecodeError, name: str) -> Exception:
    if isinstance(error, UnicodeDecodeError):
        # SQLite's message quotes the table's text that it cannot read, and Python decodes that.
        return sqlite3.DatabaseError("the file is damaged: its tables cannot be read")
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(f"{name} is no SQLite file")
    return error


def _file(db: sqlite3.Connection) -> str:
    # A name need not be text, and Python would decode what SQLite calls text.
    query = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
    (name,) = db.execute(query).fetchone()
    return os.fsdecode(name or b"") or "the file"


def identity(name: str) -> tuple[int, int] | None:
    """Tell which file a name stands for, without opening it; None if there is none."""
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size
    except OSError:
        return 0


if hasattr(os, "register_at_fork"):
    # Another thread may hold it while this one forks; the child does not have that thread.
    os.register_at_fork(
        before=_LOCK.acquire,
        after_in_parent=_LOCK.release,
        after_in_child=_LOCK.release,
    )

__all__ = [
    "BUSY_TIMEOUT",
    "SUFFIXES",
    "Schema",
    "Step",
    "Synchronous",
    "check_name",
    "checkpoint",
    "connect",
    "connect_for_reading",
    "create",
    "delete",
    "has_another_name",
    "in_use",
    "marks_of",
    "prepare",
    "transaction",
]
