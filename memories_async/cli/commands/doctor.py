"""memories-async doctor: what to run first, and what to attach to a report."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

from memories_async.addresses import checked_base_url, proxy_from_environment
from memories_async.cli import checks
from memories_async.cli.credentials import Account, account, connect_as
from memories_async.cli.doctor import environment
from memories_async.cli.doctor.findings import Finding, Health
from memories_async.cli.doctor.live import RecordingMemories, examine
from memories_async.cli.doctor.recording import Destination, make_empty, recorded, replayed
from memories_async.cli.doctor.steps import BILLED, FREE, GIVEN, Step, cost_of
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import interrupts
from memories_async.cli.options import CALLING, SHARED, Calling, Dollars, FileName, Shared
from memories_async.cli.profiles import KeyName
from memories_async.cli.terminal.console import in_thread, one_line
from memories_async.cli.terminal.output import Output
from memories_async.config import DOCUMENTED_RATES, Rate
from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket

_ADDRESS = checks.matches(r"https?://\S+", "an address that begins with https://")
_Address: TypeAlias = Annotated[str, Parameter(validator=_ADDRESS)]


@Parameter(name="*", group="Live")
@attrs.frozen(kw_only=True)
class Live:
    """The calls that cost.

    Attributes:
        live: Make every billed call once as well, with tiny media made here, and say by field
            where an answer differs from what this version knows.
        max_cost: Dollars that the billed calls may cost (0.05 if not given).
        record: Keep the answers in this new folder, without keys and signed addresses: for
            --replay, for tests, and to attach to a report.
        replay: Make the same calls of the answers that this folder keeps: without a key and a
            network, and nothing is billed.
        image_url: A picture at a public address, for the calls that take one.
        video_url: A short video at a public address, for the calls that take one.
        callback_url: A public address of yours, to which results of videos may be posted.
    """

    live: bool = False
    max_cost: Dollars | None = None
    record: FileName | None = None
    replay: FileName | None = None
    image_url: _Address | None = None
    video_url: _Address | None = None
    callback_url: _Address | None = None

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            ConfigurationError: Some do not.
        """
        for name in ("max_cost", "record", *GIVEN):
            if getattr(self, name) is not None and not self.live:
                option = f"--{name.replace('_', '-')}"
                raise ConfigurationError(f"{option} is for --live: without it nothing is billed")
        if self.replay is not None and self.live:
            raise ConfigurationError("--replay is for a run of its own, not for --live")

    @property
    def addresses(self) -> Mapping[str, str]:
        """The addresses that were given, by name."""
        given = {name: getattr(self, name) for name in GIVEN}
        return {name: address for name, address in given.items() if address is not None}


NOT_LIVE = Live()


async def doctor(
    *, live: Live = NOT_LIVE, calling: Calling = CALLING, shared: Shared = SHARED
) -> int:
    """Check the installation, the keys, the way to the service and its answers.

    Keys are never shown. Without --live nothing is billed and nothing is changed.

    Args:
        live: The calls that cost.
        calling: How the service is called.
        shared: What every command understands.
    """
    live.check()
    if live.record is not None:
        make_empty(Path(live.record))  # before anything is asked or shown
    output = Output.of(shared)
    worst = Health.OK
    if live.replay is not None:
        findings = _replay(live.replay, calling)
    else:
        findings = _findings(account(shared.profile), calling, output, live)
    async with output.rows() as printer:
        async for finding in findings:
            worst = max(worst, finding.health, key=list(Health).index)
            await printer.put(output.line(_row(finding), _text(finding)))
    return Exit.FAILED if worst in (Health.PROBLEM, Health.DRIFT) else Exit.DONE


async def _findings(
    who: Account, calling: Calling, output: Output, live: Live
) -> AsyncIterator[Finding]:
    for finding in environment.versions():
        yield finding
    if who.base_url is not None:  # before it is shown: a password may stand in it
        checked_base_url(who.base_url, "base_url")
    for finding in environment.keys(who):
        yield finding
    for origin in environment.origins(who):
        for finding in await in_thread(functools.partial(_check_connection, origin)):
            yield finding
    if not who.keys:
        yield Finding("calls", Health.PROBLEM, "there is no key: none can be made")
        return
    steps: Sequence[Step] = FREE
    budget = Decimal(str(0.05 if live.max_cost is None else live.max_cost))
    if live.live:
        steps = [*FREE, *BILLED]
        published, unpublished = cost_of(steps, who.keys, live.addresses)
        output.note(
            f"before: the calls cost ${published}, and {unpublished} of them have no published "
            f"price; --max-cost is ${budget}"
        )
    made: list[Step] = []

    def spent(step: Step) -> None:
        made.append(step)
        interrupts.may_be_billed = bool(step.counted)

    async with recorded(who, live.addresses, live.record) as there:
        # Beside a recorder the service's own rates hold as well.
        rates = DOCUMENTED_RATES if who.base_url is None else None
        async for finding in _calls(there, steps, calling, budget, spent, rates):
            yield finding
    if live.live:
        published, unpublished = cost_of(made, who.keys, live.addresses)
        yield Finding(
            "cost",
            Health.OK,
            f"${published} by the published prices, and {unpublished} calls without one",
        )


async def _replay(folder: str, calling: Calling) -> AsyncIterator[Finding]:
    free = Decimal("Infinity")
    async with replayed(folder) as there:
        for finding in environment.versions():
            yield finding
        async for finding in _calls(there, [*FREE, *BILLED], calling, free, lambda _: None, None):
            yield finding


async def _calls(
    there: Destination,
    steps: Sequence[Step],
    calling: Calling,
    budget: Decimal,
    spent: Callable[[Step], object],
    rates: Mapping[Bucket, Rate] | None,
) -> AsyncIterator[Finding]:
    key: KeyName = next(iter(there.account.keys))
    async with connect_as(RecordingMemories, there.account, key, calling, rates) as client:
        async for finding in examine(client, steps, there, budget, spent):
            yield finding


def _check_connection(origin: str) -> list[Finding]:
    proxy = proxy_from_environment(origin)
    address, login = (None, None) if proxy is None else (proxy.address, proxy.login)
    headers = {"Proxy-Authorization": login} if login else {}
    return list(environment.check_connection(origin, address, headers))


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
