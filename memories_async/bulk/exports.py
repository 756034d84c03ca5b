"""A job's rows for other programs: JSON Lines, CSV, Parquet, and vectors as one NumPy array."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import importlib
import io
import json
import os
import secrets
import sqlite3
import stat
import unicodedata
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeGuard

from memories_async import sqlite
from memories_async.bulk.journal.file import own_files
from memories_async.bulk.journal.schema import APPLICATION_ID
from memories_async.bulk.kinds import JobKind
from memories_async.bulk.models import Item
from memories_async.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COLUMNS = {
    "id": "int64",
    "source": "string",
    "status": "string",
    "error": "string",
    "sha256": "string",
    "duplicate_of": "int64",
}
_LAST_COLUMNS = {"extra": "string", "answer_extra": "string"}
"""Objects of any shape: JSON Lines has them as they are, Parquet as JSON text."""


class RowWriter(Protocol):
    """Writes rows to a file that somebody else has opened, and closes."""

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class JsonLines:
    """One JSON object per line."""

    def __init__(self, file: BinaryIO, columns: Mapping[str, str]) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows."""
        for row in rows:
            if isinstance(row.get("vector"), array):
                row = {**row, "vector": _digits(row["vector"])}
            # Exact integers of any size: they are ids of others.
            self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        """Finish the file."""


class Csv:
    """One line per row below a line of names, for spreadsheets: RFC 4180, UTF-8.

    Vectors, and objects of any shape, are JSON in one cell. Texts stand there as they came: a
    spreadsheet may take one that begins with an equals sign for a formula.
    """

    def __init__(self, file: BinaryIO, columns: Mapping[str, str]) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", "replace", newline="", write_through=True)
        self._writer = csv.writer(self._text)
        self._columns = list(columns)
        self._writer.writerow(self._columns)

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows."""
        self._writer.writerows([_csv_cell(row[name]) for name in self._columns] for row in rows)

    def close(self) -> None:
        """Finish the file."""
        self._text.detach()


class Parquet:
    """Columns with Arrow's types, vectors as lists of float32."""

    def __init__(self, file: BinaryIO, columns: Mapping[str, str]) -> None:
        arrow = _installed("pyarrow")
        types = {"vector": arrow.list_(arrow.float32()), "int64": arrow.int64()}
        fields = [(name, types.get(kind, arrow.string())) for name, kind in columns.items()]
        self._arrow = arrow
        self._schema = arrow.schema(fields)
        self._writer = _installed("pyarrow.parquet").ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows as one group."""
        columns = [
            self._arrow.array([_cell(row[field.name]) for row in rows], field.type)
            for field in self._schema
        ]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


FORMATS: Mapping[str, type[JsonLines | Csv | Parquet]] = {
    "jsonl": JsonLines,
    "csv": Csv,
    "parquet": Parquet,
}


def format_of(path: str, format: str | None) -> str:
    """Return the format that was asked for, or else that the extension says.

    Raises:
        ConfigurationError: It is none that can be written.
    """
    chosen = format or os.path.splitext(path)[1].lower().removeprefix(".")
    if chosen not in FORMATS:
        raise ConfigurationError(f"an export is one of {', '.join(FORMATS)}, not {chosen!r}")
    return chosen


async def write(
    path: str, format: str, kind: JobKind, pages: AsyncIterator[Sequence[Item]], job: str
) -> int:
    """Write one row per input, a page at a time; the file is in its place once it is whole.

    Raises:
        ConfigurationError: As ``check_destination``.
        OSError: The file cannot be written.
    """
    columns = {**_COLUMNS, **kind.columns, **_LAST_COLUMNS}
    await asyncio.to_thread(check_destination, path, format, job)
    count = 0
    # A name of its own, made exclusively: exports to one name do not meet, and no link is followed.
    part = _part_of(path)
    file = await asyncio.to_thread(_new_file, part, replacing=path)
    try:
        try:
            writer: RowWriter = await asyncio.to_thread(FORMATS[format], file, columns)
            async for page in pages:
                rows = [_row(item, columns) for item in page]
                await asyncio.to_thread(writer.write, rows)
                count += len(rows)
            await asyncio.to_thread(writer.close)
        finally:
            await asyncio.to_thread(file.close)
        await asyncio.to_thread(os.replace, part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    return count


def check_destination(path: str, format: str, job: str | None = None) -> None:
    """Tell whether an export can be written, which is better known before anything is paid.

    Raises:
        ConfigurationError: The package that writes this format is not installed, there is no such
            folder, nothing can be added to it, what is there is a folder, a pipe, a device or a
            job, or the name is one of a job's own.
    """
    if format == "parquet":
        _installed("pyarrow")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ConfigurationError(f"{path} cannot be written: there is no folder {folder}")
    if _belongs_to_a_job(path, job):
        raise ConfigurationError(f"{path} is a job's own file: export to another name")
    _try_part(path)
    try:
        status = os.stat(path)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path} is a folder: export to another name")
    if not stat.S_ISREG(status.st_mode):  # whoever reads a pipe would wait for ever
        raise ConfigurationError(f"{path} is no regular file, and would be replaced by one")
    if sqlite.in_use(status) or _is_job(path):
        raise ConfigurationError(f"{path} is a job's own file: export to another name")


def _belongs_to_a_job(path: str, job: str | None) -> bool:
    """Tell whether a name is a job's own, be there a file of that name or not.

    What replaced the lock of a live run would let a second one in.
    """
    jobs = [] if job is None else [job]
    for own in own_files("job"):
        suffix = os.path.basename(own).removeprefix("job")
        if suffix and path.lower().endswith(suffix) and _is_job(path[: -len(suffix)]):
            jobs.append(path[: -len(suffix)])
    for own in (own for one in jobs for own in own_files(one)):
        if _place(own) == _place(path):
            return True
        with contextlib.suppress(OSError):
            if os.path.samefile(own, path):
                return True
    return False


def _place(path: str) -> tuple[str, str]:
    """Return a file's folder and name, alike for names that some systems take for the same."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.realpath(folder), unicodedata.normalize("NFC", name).casefold()


def _is_job(path: str) -> bool:
    with contextlib.suppress(ConfigurationError, OSError, sqlite3.Error):
        return sqlite.in_use(os.stat(path)) or sqlite.marks_of(path)[0] == APPLICATION_ID
    return False


def _part_of(path: str) -> str:
    return f"{path}.{secrets.token_hex(6)}.part"


def _try_part(path: str) -> None:
    """Make what an export makes first; permissions do not say whether that is possible."""
    part = _part_of(path)
    try:
        _new_file(part).close()
        os.unlink(part)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{path} cannot be written: {reason}") from None


def _new_file(path: str, *, replacing: str | None = None) -> BinaryIO:
    """Make a file, for nobody else to read than the one that it is to replace."""
    mode = None if replacing is None else _mode_of(replacing)

    def exclusive(name: str, flags: int) -> int:
        wanted = 0o666 if mode is None else mode
        return os.open(name, flags | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), wanted)

    file = open(path, "xb", opener=exclusive)  # noqa: SIM115  # the caller closes it
    if mode is not None:
        with contextlib.suppress(OSError):  # some file systems have no modes
            os.chmod(path, mode)  # the process's mask may have taken some of it
    return file


def _mode_of(path: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o777
    except OSError:
        return None


async def vectors(pages: AsyncIterator[Sequence[Item]]) -> tuple[list[str], NDArray[np.float32]]:
    """Return the sources and the vectors of all items that have one.

    Raises:
        ConfigurationError: NumPy is not installed, or the vectors have different lengths.
    """
    numpy = _installed("numpy")
    sources: list[str] = []
    numbers = bytearray()
    length = 0
    async for page in pages:
        for item in page:
            if item.vector is not None:
                if length not in (0, len(item.vector)):
                    raise ConfigurationError("the job's vectors have different lengths")
                length = len(item.vector)
                sources.append(item.source)
                numbers += item.vector
    return sources, numpy.frombuffer(numbers, numpy.float32).reshape(
        len(sources), -1 if length else 0
    )


def _row(item: Item, columns: Mapping[str, str]) -> dict[str, object]:
    known: dict[str, object] = {
        "id": item.id,
        # A name that is no UTF-8 cannot be written as text; its row is found by the number.
        "source": item.source.encode("utf-8", "replace").decode(),
        "status": item.status.value,
        "error": item.error,
        "sha256": item.sha256,
        "duplicate_of": item.duplicate_of,
        "extra": dict(item.extra) or None,
        "vector": None if item.vector is None else array("f", item.vector),
    }
    result = item.result or {}
    return {name: known[name] if name in known else result.get(name) for name in columns}


def _is_vector(value: object) -> TypeGuard[array[float]]:
    return isinstance(value, array)


def _digits(vector: object) -> list[float]:
    # Nine digits are what a float32 needs to come back as it was.
    return [float(f"{number:.9g}") for number in vector] if _is_vector(vector) else []


def _csv_cell(value: object) -> object:
    if _is_vector(value):
        return json.dumps(_digits(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return value.tolist() if _is_vector(value) else value


def _installed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise ConfigurationError(f"this needs the package {name}: pip install {name}") from None
