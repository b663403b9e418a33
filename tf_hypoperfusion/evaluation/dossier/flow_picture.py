"""The flow of patients as STARD draws it, as an SVG that takes the colour of the text around it."""

import html

from data_tools.runtime.errors import counted
from tf_hypoperfusion.evaluation.dossier.fact import Fact
from tf_hypoperfusion.evaluation.dossier.stations import Flow, Station

# Pixels. So many reasons are named in a box; the table has all.
BOX_WIDTH, SIDE_LEFT, SIDE_WIDTH = 330, 400, 520
LINE, PADDING, GAP = 20, 10, 26
NAMED, LONGEST = 4, 62


def draw(flow: Flow) -> str:
    """Boxes from top to bottom, and beside each arrow who was left out and why."""
    parts: list[str] = []
    y = 2
    for k, station in enumerate(flow.stations):
        side = _side_lines(station)
        if k:
            height = max(GAP, len(side) * LINE + 2 * PADDING + 12 if side else 0)
            parts.append(_arrow(BOX_WIDTH / 2, y, BOX_WIDTH / 2, y + height))
            if side:
                middle = y + height / 2
                parts.append(_arrow(BOX_WIDTH / 2, middle, SIDE_LEFT, middle))
                tall = len(side) * LINE + 2 * PADDING
                parts.append(_box(SIDE_LEFT, middle - tall / 2, SIDE_WIDTH, side))
            y += height
        count = station.count
        number = f"n = {count.value}" if isinstance(count, Fact) else "not known"
        lines = [station.name, number]
        parts.append(_box(2, y, BOX_WIDTH, lines))
        y += len(lines) * LINE + 2 * PADDING
    width = SIDE_LEFT + SIDE_WIDTH + 2 if any(map(_side_lines, flow.stations)) else BOX_WIDTH + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 2:g}" '
        f'width="{width}" height="{y + 2:g}" role="img" aria-label="Flow of patients" '
        'font-family="system-ui, sans-serif" font-size="14" fill="none" stroke="currentColor">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor" '
        'stroke="none"/></marker></defs>' + "".join(parts) + "</svg>\n"
    )


def _side_lines(station: Station) -> list[str]:
    lines = []
    for step, number, reasons in station.lost:
        lines.append(f"{counted(number, 'patient')}: {step}")
        named = [(why, n) for why, n in reasons.items() if why != step]
        for why, n in named[:NAMED]:
            lines.append(f"   {n}: {why if len(why) <= LONGEST else why[:LONGEST] + '...'}")
        if more := sum(n for _, n in named[NAMED:]):
            lines.append(f"   {more}: other reasons")
    return lines


def _box(x: float, y: float, width: float, lines: list[str]) -> str:
    height = len(lines) * LINE + 2 * PADDING
    text = "".join(
        f'<text x="{x + PADDING + 12 * (len(line) - len(line.lstrip())) / 3:g}" '
        f'y="{y + PADDING + LINE * k + 15:g}" fill="currentColor" stroke="none">'
        f"{html.escape(line.strip())}</text>"
        for k, line in enumerate(lines)
    )
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3"/>{text}'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" marker-end="url(#head)"/>'
