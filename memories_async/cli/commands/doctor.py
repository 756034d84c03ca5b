"""memories-async doctor: what to run first, and what to attach to a report."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

from memories_async.addresses import proxy_from_environment
from memories_async.cli.credentials import Account, account, connect_as
from memories_async.cli.doctor import environment
from memories_async.cli.doctor.findings import Finding, Health
from memories_async.cli.doctor.live import BILLED, FREE, HeardMemories, Step, cost_of, examine
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import interrupts
from memories_async.cli.options import CALLING, SHARED, Calling, Dollars, Shared
from memories_async.cli.profiles import KeyName
from memories_async.cli.terminal.console import in_thread, one_line
from memories_async.cli.terminal.output import Output
from memories_async.errors import ConfigurationError


async def doctor(
    *,
    live: bool = False,
    max_cost: Dollars | None = None,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Check the installation, the keys, the way to the service and its answers.

    Keys are never shown. Without --live nothing is billed and nothing is changed.

    Args:
        live: Make every billed call once as well, with tiny media made here, and say by field
            where an answer differs from what this version knows.
        max_cost: Dollars that the billed calls may cost (0.05 if not given).
        calling: How the service is called.
        shared: What every command understands.
    """
    if max_cost is not None and not live:
        raise ConfigurationError("--max-cost is for --live: without it nothing is billed")
    output, who = Output.of(shared), account(shared.profile)
    budget = Decimal(str(0.05 if max_cost is None else max_cost))
    worst = Health.OK
    async with output.rows() as printer:
        async for finding in _findings(who, calling, output, budget, live=live):
            worst = max(worst, finding.health, key=list(Health).index)
            await printer.put(output.line(_row(finding), _text(finding)))
    return Exit.FAILED if worst in (Health.PROBLEM, Health.DRIFT) else Exit.DONE


async def _findings(
    who: Account, calling: Calling, output: Output, budget: Decimal, *, live: bool
) -> AsyncIterator[Finding]:
    for finding in (*environment.versions(), *environment.keys(who)):
        yield finding
    for origin in environment.origins(who):
        for finding in await in_thread(functools.partial(_way_to, origin)):
            yield finding
    key: KeyName | None = next(iter(who.keys), None)
    if key is None:
        yield Finding("calls", Health.SKIPPED, "there is no key")
        return
    steps: Sequence[Step] = FREE
    if live:
        steps = [*FREE, *BILLED]
        published, unpublished = cost_of(steps, who.keys)
        output.note(
            f"before: the calls cost ${published}, and {unpublished} of them have no published "
            f"price; --max-cost is ${budget}"
        )
    made: list[Step] = []

    def spent(step: Step) -> None:
        made.append(step)
        interrupts.may_be_billed = bool(step.counted)

    async with connect_as(HeardMemories, who, key, calling) as client:
        async for finding in examine(client, steps, who.keys, budget, spent):
            yield finding
    if live:
        published, unpublished = cost_of(made, who.keys)
        yield Finding(
            "cost",
            Health.OK,
            f"${published} by the published prices, and {unpublished} calls without one",
        )


def _way_to(origin: str) -> list[Finding]:
    proxy = proxy_from_environment(origin)
    address, login = (None, None) if proxy is None else (proxy.address, proxy.login)
    headers = {"Proxy-Authorization": login} if login else {}
    return list(environment.way_to(origin, address, headers))


def _row(finding: Finding) -> dict[str, object]:
    row: dict[str, object] = {
        "check": finding.check,
        "health": finding.health.value,
        "message": finding.message,
    }
    return row | ({"differences": list(finding.differences)} if finding.differences else {})


def _text(finding: Finding) -> str:
    lines = [f"{finding.health.value:8}{one_line(finding.check)}: {one_line(finding.message)}"]
    return "\n".join([*lines, *(f"{'':10}{one_line(text)}" for text in finding.differences)])
