"""A bar chart as SVG, drawn by hand: CPU per GiB uploaded, beside curl's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

from benchmarks.report import Table

WIDTH, LABEL, SCALE_END, ROW, BAR = 760, 170, 680, 34, 12
LONGEST = 3.0
"""Where a bar is broken off: one outlier would press all others against the axis."""
FOOTER = 115
"""Characters in a line below the bars."""
COLOURS = ("#2f6f9f", "#e0a030")
STYLE = (
    "text { font: 13px system-ui, sans-serif; fill: #24292f } "
    ".small { font-size: 11px; fill: #57606a } .own { font-weight: 600 } "
    # No line runs through a figure.
    ".value { paint-order: stroke; stroke: #ffffff; stroke-width: 4px }"
)


def draw(tables: Sequence[Table], heading: str, *, title: str, machine: str, own: str) -> str:
    """Draw one bar per row and table.

    Args:
        tables: Tables with the same rows; each has its own colour.
        heading: The column whose medians are drawn.
        title: What stands above.
        machine: What stands below.
        own: The row to stress.
    """
    rows = list(tables[0].samples)
    medians = [[table.median(row, heading) or 0.0 for table in tables] for row in rows]
    per_unit = (SCALE_END - LABEL) / min(max(max(values) for values in medians), LONGEST)
    bottom = 62 + ROW * len(rows)
    footer = textwrap.wrap(machine, FOOTER)
    height = bottom + 20 + 15 * len(footer)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<text x="16" y="26" class="own">{escape(title)}</text>',
        f'<text x="{WIDTH - 16}" y="26" text-anchor="end" class="small">less is better</text>',
    ]
    for index, table in enumerate(tables):
        x, label = LABEL + 90 * index, escape(table.name.rpartition("-")[2])
        parts.append(f'<rect x="{x}" y="38" width="10" height="10" fill="{COLOURS[index]}"/>')
        parts.append(f'<text x="{x + 16}" y="48" class="small">{label}</text>')
    line = LABEL + per_unit
    parts.append(f'<path d="M{line:.1f} 56V{bottom}" stroke="#57606a" stroke-dasharray="3 3"/>')
    for number, (row, values) in enumerate(zip(rows, medians, strict=True)):
        y = 60 + ROW * number
        weight = ' class="own"' if row == own else ""
        parts.append(
            f'<text x="{LABEL - 10}" y="{y + 18}" text-anchor="end"{weight}>{escape(row)}</text>'
        )
        for index, value in enumerate(values):
            top = y + 2 + (BAR + 1) * index
            end = LABEL + min(value, LONGEST) * per_unit
            parts.append(
                f'<rect x="{LABEL}" y="{top}" width="{end - LABEL:.1f}" height="{BAR}" '
                f'fill="{COLOURS[index]}"/>'
            )
            if value > LONGEST:
                parts.append(_break(end - 20, top))
            parts.append(
                f'<text x="{end + 6:.1f}" y="{top + 10}" class="small value">{value:.2f}</text>'
            )
    for number, text in enumerate(footer):
        y = bottom + 24 + 15 * number
        parts.append(f'<text x="16" y="{y}" class="small">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _break(x: float, top: int) -> str:
    """Draw two slanting cuts through a bar that is longer than the chart."""
    cuts = "".join(f"M{x + 6 * cut:.1f} {top + BAR + 2}l5 -{BAR + 4}" for cut in range(2))
    return f'<path d="{cuts}" stroke="#ffffff" stroke-width="3"/>'
