"""Plots as SVG text: lines over time or over percentiles, and bars with a whisker; no script, no font, no other file.

Colours are CSS classes of the page, so one drawing serves light and dark. Every line ends in its name, because a legend
makes the eye travel and a colour alone tells some readers nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from msgspec import Struct

__all__ = ["Band", "Bar", "Line", "bar_chart", "line_chart", "nice_ticks", "percentile_chart", "told"]

WIDTH: Final = 560
HEIGHT: Final = 252
LEFT: Final = 48
RIGHT: Final = 132  # room for the names of the lines
TOP: Final = 22
BOTTOM: Final = 34
COLOURS: Final = 8
LABEL_GAP: Final = 14.0
ROW: Final = 36


class Line(Struct, frozen=True):
    """A named line of (x, y) points, in order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class Band(Struct, frozen=True):
    """A named stretch of the x axis, such as a phase; a `muted` one is not part of the measurement."""

    name: str
    begins: float
    ends: float
    muted: bool = False


class Bar(Struct, frozen=True):
    """A named bar up to `value`, with a thin line on to `reach`."""

    name: str
    value: float
    reach: float


def told(value: float, unit: str = "") -> str:
    """Return a number as people read it: three digits that count, thousands apart."""
    if value == 0:
        return f"0{unit}"
    if abs(value) >= 100:
        return f"{value:,.0f}{unit}"
    text = f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{unit}"


def nice_ticks(highest: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from 0 up to the first that is not below `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(multiple * power for multiple in (1, 2, 2.5, 5, 10) if multiple * power >= rough * 0.999)
    return [step * number for number in range(math.ceil(highest / step * 0.999) + 1)]


def line_chart(title: str, lines: Sequence[Line], *, unit: str, bands: Sequence[Band] = ()) -> str:
    """Return lines over seconds, with the phases behind them."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return _empty(title)
    last = max([line.points[-1][0] for line in drawn] + [band.ends for band in bands])
    ticks = nice_ticks(max(y for line in drawn for _, y in line.points))
    x, y = _linear(0, max(last, 1e-9), LEFT, WIDTH - RIGHT), _linear(0, ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [_band(band, x) for band in bands]
    parts += [_y_tick(y(tick), told(tick)) for tick in ticks]
    parts += [_x_tick(x(tick), told(tick, " s")) for tick in nice_ticks(last) if tick <= last * 1.001]
    return _svg(title, unit, [*parts, *_lines(drawn, x, y, unit)])


def percentile_chart(title: str, lines: Sequence[Line], *, unit: str) -> str:
    """Return durations over percentiles; both axes are logarithmic, so the tail has the room that it deserves.

    The points are (share, duration)."""
    drawn = [
        Line(line.name, [(-math.log10(1 - share), max(y, 1e-3)) for share, y in line.points if share < 1], line.dashed)
        for line in lines
        if line.points
    ]
    if not drawn:
        return _empty(title)
    last = max(1.0, max(line.points[-1][0] for line in drawn))
    values = [value for line in drawn for _, value in line.points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.0001))
    high = max(high, low + 1)
    x = _linear(0, last, LEFT, WIDTH - RIGHT)
    flat = _linear(low, high, HEIGHT - BOTTOM, TOP)

    def y(value: float) -> float:
        return flat(math.log10(value))

    parts = [_y_tick(y(10.0**power), told(10.0**power)) for power in range(low, high + 1)]
    for power, name in ((0.0, "0"), (math.log10(2), "p50"), (1, "p90"), (2, "p99"), (3, "p99.9"), (4, "p99.99")):
        if power <= last * 1.001:
            parts.append(_x_tick(x(power), name))
    return _svg(title, unit, [*parts, *_lines(drawn, x, y, unit)])


def bar_chart(title: str, bars: Sequence[Bar], *, unit: str, value: str, reach: str) -> str:
    """Return horizontal bars; `value` and `reach` name what their solid and their thin part stand for."""
    if not bars:
        return _empty(title)
    left, right = 12 + 7 * max(len(bar.name) for bar in bars), WIDTH - 118
    height = max(HEIGHT, TOP + ROW * len(bars) + 8)
    x = _linear(0, max(max(bar.reach, bar.value) for bar in bars) or 1.0, left, right)
    parts = []
    for number, bar in enumerate(bars):
        top = TOP + number * ROW
        middle = top + 11
        parts.append(f'<text class="name" x="{left - 10}" y="{middle + 4}" text-anchor="end">{escape(bar.name)}</text>')
        width, end = max(2.0, x(bar.value) - left), x(bar.reach)
        parts.append(
            f'<line class="whisker" x1="{left}" x2="{end:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<line class="whisker" x1="{end:.1f}" x2="{end:.1f}" y1="{middle - 5}" y2="{middle + 5}"/>'
            f'<rect class="bar" x="{left}" y="{top + 3}" width="{width:.1f}" height="16" rx="3"/>'
            f'<text class="tick" x="{max(end, left + width) + 8:.1f}" y="{middle + 4}">'
            f"{told(bar.value)} → {told(bar.reach, unit)}</text>"
        )
    caption = f"{escape(title)}: {escape(value)} as bars, {escape(reach)} as lines"
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{caption}">{"".join(parts)}</svg>'


Scale = Callable[[float], float]


def _linear(low: float, high: float, at_low: float, at_high: float) -> Scale:
    span = (at_high - at_low) / ((high - low) or 1.0)
    return lambda value: at_low + (value - low) * span


def _lines(lines: Sequence[Line], x: Scale, y: Scale, unit: str) -> list[str]:
    """Draw the lines, and their names where they end, pushed apart where they would meet."""
    parts, ends = [], []
    for number, line in enumerate(lines):
        colour = f"c{number % COLOURS}"
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        dash = " dashed" if line.dashed else ""
        highest = max(value for _, value in line.points)
        parts.append(
            f'<polyline class="line {colour}{dash}" points="{path}">'
            f"<title>{escape(line.name)}: up to {told(highest)} {escape(unit)}</title></polyline>"
        )
        ends.append((y(line.points[-1][1]), x(line.points[-1][0]), colour, line.name))
    lowest = TOP - LABEL_GAP
    placed = []
    for height, right, colour, name in sorted(ends):
        lowest = max(height, lowest + LABEL_GAP)
        placed.append((lowest, right, colour, name))
    over = max(0.0, placed[-1][0] - (HEIGHT - BOTTOM)) if placed else 0.0
    parts += [
        f'<text class="end {colour}" x="{max(right, WIDTH - RIGHT) + 8:.1f}" y="{height - over + 4:.1f}">'
        f"{escape(name)}</text>"
        for height, right, colour, name in placed
    ]
    return parts


def _band(band: Band, x: Scale) -> str:
    begins, ends = x(band.begins), x(band.ends)
    kind = "band muted" if band.muted else "band"
    name = escape(band.name)
    shown = name if ends - begins > 6.2 * len(band.name) else ""
    return (
        f'<rect class="{kind}" x="{begins:.1f}" y="{TOP}" width="{max(0, ends - begins):.1f}"'
        f' height="{HEIGHT - TOP - BOTTOM}"><title>{name}</title></rect>'
        f'<line class="edge" x1="{ends:.1f}" x2="{ends:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="phase" x="{(begins + ends) / 2:.1f}" y="{TOP - 7}" text-anchor="middle">{shown}</text>'
    )


def _y_tick(at: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _x_tick(at: float, label: str) -> str:
    return f'<text class="tick" x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(label)}</text>'


def _svg(title: str, unit: str, parts: Sequence[str]) -> str:
    label = f"{escape(title)}, {escape(unit)}"
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{inside}</svg>'


def _empty(title: str) -> str:
    return f'<p class="none">{escape(title)}: nothing was measured.</p>'
