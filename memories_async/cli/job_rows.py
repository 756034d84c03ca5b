"""A job's items, plan and state, as programs read them and as people do."""

from __future__ import annotations

from array import array
from collections import Counter

from memories_async.bulk import Counts, Item, Plan, PlannedInput, Status
from memories_async.cli.terminal.console import on_a_line, one_line
from memories_async.cli.terminal.progress import duration
from memories_async.cli.terms import in_options


def row_of(item: Item) -> dict[str, object]:
    """Return what is known of an item, as programs read it."""
    row: dict[str, object] = {"id": item.id, "source": item.source, "status": item.status.value}
    if item.result is not None:
        row |= item.result
    if item.vector is not None:
        # Nine digits are what a float32 needs to come back as it was.
        row["vector"] = [float(f"{number:.9g}") for number in array("f", item.vector)]
    if item.error:
        row["error"] = in_options(item.error)
    for field in ("details", "duplicate_of", "extra"):
        if value := getattr(item, field):
            row[field] = value
    return row


def text_of(item: Item) -> str:
    """Return what is known of an item, as people read it: one line, whatever is in it."""
    source = on_a_line(item.source)
    if item.status is not Status.DONE:
        error = f": {one_line(in_options(item.error))}" if item.error else ""
        return f"{source}: {item.status.value}{error}"
    result = item.result or {}
    if item.vector is not None:
        return f"{source}: {len(item.vector) // 4} numbers"
    found = next((result[name] for name in ("text", "image_id", "video_no") if name in result), "")
    return f"{source}: {one_line(str(found))}"


def state(counts: Counts) -> str:
    """Say in a few words where a job stands."""
    fields = ("done", "waiting", "failed", "unknown", "skipped", "planned", "sending")
    parts = [f"{count} {field}" for field in fields if (count := getattr(counts, field))]
    return ", ".join(parts) or "empty"


def input_row(planned: PlannedInput) -> dict[str, object]:
    """Return what would become of an input, as programs read it."""
    row: dict[str, object] = {"source": planned.source, "send": planned.reason is None}
    if planned.size is not None:
        row["bytes"] = planned.size
    if planned.reason is not None:
        row |= {"reason": planned.reason.value, "message": planned.message}
    return row


def input_text(planned: PlannedInput) -> str:
    """Return what would become of an input, as people read it: one line."""
    if planned.reason is not None:
        why = one_line(planned.message or planned.reason.value)
        return f"{on_a_line(planned.source)}: not sent: {why}"
    size = "" if planned.size is None else f" ({planned.size / 1e6:.1f} MB)"
    return f"{on_a_line(planned.source)}: would be sent{size}"


def plan_row(plan: Plan) -> dict[str, object]:
    """Return what a run would do, as programs read it."""
    return {
        "items": len(plan.to_send),
        "requests": plan.requests,
        "bytes": plan.size,
        "cost": None if plan.cost is None else float(plan.cost),
        "possible_cost": None if plan.possible_cost is None else float(plan.possible_cost),
        "seconds": plan.seconds,
        "unsent": _reasons(plan),
    }


def plan_text(plan: Plan) -> str:
    """Return what a run would do, as people read it."""
    cost = "at a price that is not documented" if plan.cost is None else f"for ${plan.cost}"
    parts = ", ".join(f"{count} {reason}" for reason, count in _reasons(plan).items())
    unsent = f"; {len(plan.unsent)} not sent: {parts}" if parts else ""
    return (
        f"{len(plan.to_send)} items, {plan.size / 1e6:.1f} MB, in {plan.requests} requests "
        f"{cost}; at least {duration(plan.seconds)}{unsent}"
    )


def _reasons(plan: Plan) -> dict[str, int]:
    return dict(Counter(one.reason.value for one in plan.unsent if one.reason))
