"""Latency over time as an SVG, with a mark for each switch."""
from collections.abc import Sequence
from html import escape

from load.latency import SLOT, Latency

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1200, 360, 60, 40, 40
LINES = {50: "#1a7f5a", 99: "#b3261e"}


def latency(counts: Latency, windows: Sequence[tuple[float, float]], title: str) -> str:
    """Median and 99th percentile of each slot of 100 ms; the switches are grey."""
    slots = sorted({key >> 10 for key in counts.counts})
    by_slot: dict[int, Latency] = {slot: Latency() for slot in slots}
    for key, n in counts.counts.items():
        by_slot[key >> 10].counts[key] = n
    series = {q: [(slot * SLOT, by_slot[slot].percentile(q) * 1000) for slot in slots] for q in LINES}
    first, last = slots[0] * SLOT, (slots[-1] + 1) * SLOT
    top = max(value for _, value in series[99]) * 1.05

    def x(at: float) -> float:
        return LEFT + (at - first) / (last - first) * (WIDTH - LEFT - 10)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>']
    for begin, end in windows:
        out.append(f'<rect x="{x(begin):.1f}" y="{TOP}" width="{max(1.0, x(end) - x(begin)):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
                   ' fill="#ddd"/>')
    for part in range(5):
        value = top * part / 4
        out.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - 10}" stroke="#eee"/>'
                   f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for part in range(11):
        at = first + (last - first) * part / 10
        out.append(f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{at - first:.0f} s</text>')
    for number, (q, colour) in enumerate(LINES.items()):
        points = " ".join(f"{x(at + SLOT / 2):.1f},{y(value):.1f}" for at, value in series[q])
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>'
                   f'<text x="{WIDTH - 140 + 70 * number}" y="20" fill="{colour}">p{q} ms</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
