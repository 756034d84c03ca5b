"""A job's rows for other programs: JSON Lines, Parquet, and vectors as one NumPy array."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import orjson

from memories_async.bulk.kinds import Kind
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


class Format(Protocol):
    """Writes rows to a file."""

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class JsonLines:
    """One JSON object per line."""

    def __init__(self, path: str, columns: Mapping[str, str]) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  # closed by close()

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows."""
        for row in rows:
            vector = row.get("vector")
            if isinstance(vector, array):
                # Nine digits are what a float32 needs to come back as it was.
                numbers = cast("array[float]", vector)
                row = {**row, "vector": [float(f"{number:.9g}") for number in numbers]}
            self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Parquet:
    """Columns with Arrow's types, vectors as lists of float32."""

    def __init__(self, path: str, columns: Mapping[str, str]) -> None:
        arrow = _installed("pyarrow")
        types = {"vector": arrow.list_(arrow.float32()), "int64": arrow.int64()}
        fields = [(name, types.get(kind, arrow.string())) for name, kind in columns.items()]
        self._arrow = arrow
        self._schema = arrow.schema(fields)
        self._writer = _installed("pyarrow.parquet").ParquetWriter(path, self._schema)

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


FORMATS: Mapping[str, type[JsonLines | Parquet]] = {"jsonl": JsonLines, "parquet": Parquet}


def format_of(path: str, format: str | None) -> str:
    """Return the format that was asked for, or else that the extension says.

    Raises:
        ConfigurationError: It is none that can be written.
    """
    chosen = format or os.path.splitext(path)[1].lower().removeprefix(".")
    if chosen not in FORMATS:
        raise ConfigurationError(f"an export is {' or '.join(FORMATS)}, not {chosen!r}")
    return chosen


async def write(path: str, format: str, kind: Kind, pages: AsyncIterator[Sequence[Item]]) -> int:
    """Write one row per input, a page at a time; the file is in its place once it is whole.

    Raises:
        ConfigurationError: The package that writes this format is not installed.
        OSError: The file cannot be written.
    """
    columns = {**_COLUMNS, **kind.columns, **_LAST_COLUMNS}
    part, count = f"{path}.part", 0
    try:
        file: Format = await asyncio.to_thread(FORMATS[format], part, columns)
        try:
            async for page in pages:
                rows = [_row(item, columns) for item in page]
                await asyncio.to_thread(file.write, rows)
                count += len(rows)
        finally:
            await asyncio.to_thread(file.close)
        await asyncio.to_thread(os.replace, part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    return count


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


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return cast("array[float]", value).tolist() if isinstance(value, array) else value


def _installed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise ConfigurationError(f"this needs the package {name}: pip install {name}") from None
