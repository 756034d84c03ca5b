"""What the rounds came to, and on which machine: as text, as Markdown and as JSON."""

from __future__ import annotations

import datetime
import os
import platform
import re
import ssl
import statistics
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import cattrs

from benchmarks.process import Sample

LIBRARIES = (
    "memories-async",
    "aiohttp",
    "httpx",
    "openai",
    "requests",
    "requests-toolbelt",
    "orjson",
)


@attrs.frozen
class Column:
    """One figure of every row: the median over the rounds, with the least and the most.

    Attributes:
        heading: What it is, with its unit.
        key: The sample's field.
        per: The row by whose figure of the same round each figure is divided, if any.
        digits: Digits after the point.
    """

    heading: str
    key: str
    per: str = ""
    digits: int = 2


@attrs.frozen
class Goal:
    """The most that a median may be."""

    row: str
    heading: str
    most: float


@attrs.frozen
class Table:
    """One topic's samples and how to read them."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    samples: dict[str, list[Sample]]
    goals: tuple[Goal, ...] = ()

    def values(self, row: str, column: Column) -> list[float]:
        """Return a column's figure of every round, in order of size; none where it has none."""
        values: list[float] = []
        for number, sample in enumerate(self.samples[row]):
            value = sample.get(column.key)
            other = self.samples[column.per][number].get(column.key) if column.per else 1.0
            if value is not None and other:
                values.append(value / other)
        return sorted(values)

    def median(self, row: str, heading: str) -> float | None:
        """Return a column's median for a row."""
        column = next(column for column in self.columns if column.heading == heading)
        values = self.values(row, column)
        return statistics.median(values) if values else None

    def cell(self, row: str, column: Column) -> str:
        """Write a figure as ``median (least-most)``."""
        values = self.values(row, column)
        if not values:
            return "-"
        least, middle, most = (
            f"{value:,.{column.digits}f}"
            for value in (values[0], statistics.median(values), values[-1])
        )
        return middle if least == most else f"{middle} ({least}-{most})"

    def cells(self) -> list[list[str]]:
        """Return all cells, the headings first."""
        rows = [[row, *(self.cell(row, column) for column in self.columns)] for row in self.samples]
        return [["", *(column.heading for column in self.columns)], *rows]

    def verdicts(self) -> list[str]:
        """Say of each goal whether it was met, or by how much it was missed."""
        return [verdict for goal in self.goals if (verdict := self._verdict(goal))]

    def _verdict(self, goal: Goal) -> str:
        value = self.median(goal.row, goal.heading) if goal.row in self.samples else None
        if value is None:
            return ""
        missed = value > goal.most
        outcome = f"missed by {value - goal.most:.3g}" if missed else "met"
        return f"{goal.row}: {goal.heading} at most {goal.most:g}: {value:.3g}, {outcome}"


def as_text(tables: Sequence[Table]) -> str:
    return "\n\n".join(_text(table) for table in tables)


def _text(table: Table) -> str:
    rows = table.cells()
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [table.title, table.note, ""]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    return "\n".join([*lines, *(["", *table.verdicts()] if table.goals else [])])


def as_markdown(tables: Sequence[Table], machine: dict[str, str]) -> str:
    parts = [_markdown(table) for table in tables]
    return "\n\n".join([*parts, f"{machine_line(machine)}"]) + "\n"


def _markdown(table: Table) -> str:
    headings, *rows = table.cells()
    lines = [f"**{table.title}** {table.note}", "", f"| {' | '.join(headings)} |"]
    lines.append("|---" + "|--:" * len(table.columns) + "|")
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


_SECTION = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->\n", re.DOTALL)


def readme(text: str, tables: Sequence[Table], machine: dict[str, str]) -> str:
    """Return a README with its tables written anew; those that were not measured stay.

    Args:
        text: What it says now. A table stands between ``<!-- table: NAME -->`` and
            ``<!-- end -->``; what is measured and has no such place is added at the end.
        tables: What was measured.
        machine: On what.
    """
    written = {
        table.name: f"<!-- table: {table.name} -->\n{_markdown(table)}\n\n"
        + "".join(f"- {verdict}\n" for verdict in table.verdicts())
        + f"\n{machine_line(machine)}\n<!-- end -->\n"
        for table in tables
    }
    text = _SECTION.sub(lambda found: written.pop(found[1], found[0]), text)
    return "\n".join([text, *written.values()]) if written else text


def machine_line(machine: dict[str, str]) -> str:
    return " · ".join(f"{name} {value}".strip() for name, value in machine.items())


def machine() -> dict[str, str]:
    """Say what the figures were measured on and with."""
    curl = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False)
    return {
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "on": f"{_processor()}, {os.cpu_count()} cores",
        platform.system(): platform.release(),
        platform.python_implementation(): platform.python_version(),
        "": ssl.OPENSSL_VERSION,
        "curl": curl.stdout.split(" ")[1] if curl.stdout else "(none)",
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def as_json(tables: Sequence[Table], machine: dict[str, str]) -> dict[str, Any]:
    return {"machine": machine, "tables": [attrs.asdict(table) for table in tables]}


def from_json(results: dict[str, Any]) -> tuple[list[Table], dict[str, str]]:
    """Read back what ``as_json`` gave."""
    return cattrs.structure(results["tables"], list[Table]), results["machine"]
