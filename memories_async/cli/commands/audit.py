"""memories-async audit: what should be on the bill, by a file of receipts."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from memories_async.cli.exit_codes import Exit
from memories_async.cli.options import SHARED, FileName, Shared
from memories_async.cli.terminal.console import on_a_line
from memories_async.cli.terminal.output import Output
from memories_async.observe import Total, read_receipts, totals


async def audit(file: FileName, /, *, shared: Shared = SHARED) -> int:
    """Sum a file of receipts by day, operation and status; nothing is sent.

    Args:
        file: What Memories(observers=[Receipts(FILE)]) wrote.
        shared: What every command understands.
    """
    output = Output.of(shared)
    found = list(totals(read_receipts(file)))
    async with output.rows() as printer:
        for total in found:
            await printer.put(output.line(_row_of(total), _text_of(total)))
    perhaps = sum(total.count for total in found if total.status == "perhaps billed")
    count = sum(total.count for total in found)
    output.note(f"{count} calls, of which {perhaps} are only perhaps billed; days are by UTC")
    return Exit.DONE


def _row_of(total: Total) -> Mapping[str, object]:
    dollars = None if total.dollars is None else float(total.dollars)
    return attrs.asdict(total) | {"dollars": dollars}


def _text_of(total: Total) -> str:
    dollars = "price not documented" if total.dollars is None else f"${total.dollars}"
    operation = on_a_line(total.operation)
    return f"{total.day}  {operation:24}  {total.status:14}  {total.count:>7}  {dollars}"
