"""Charts as inline SVG: no script, no font, no picture from elsewhere; every text is escaped."""

import html
import math
from collections.abc import Sequence

import msgspec

__all__ = ["Bar", "Point", "bars", "columns", "scatter", "text"]

WIDTH = 560
LABEL = 150
ROW = 24
PLOT_HEIGHT = 360
MARGIN = 44
LABEL_LENGTH = 20


class Bar(msgspec.Struct, frozen=True):
    """One bar: `value` is its length, `part` the length of its dark share, `note` stands behind it."""

    label: str
    value: float
    note: str
    part: float = 0.0


class Point(msgspec.Struct, frozen=True):
    """One dot of a scatter chart; `size` is proportional to its area, `note` its tooltip."""

    label: str
    x: float
    y: float
    size: float
    note: str


def text(value: object) -> str:
    """Return the value as text that is safe in HTML, SVG and attributes."""
    return html.escape(str(value), quote=True)


def bars(rows: Sequence[Bar], title: str) -> str:
    """Return horizontal bars, one below the other."""
    longest = max((row.value for row in rows), default=0) or 1
    room = WIDTH - LABEL - 116
    drawn = [_bar(row, position * ROW, room / longest) for position, row in enumerate(rows)]
    return _svg(title, max(len(rows), 1) * ROW, drawn)


def columns(rows: Sequence[Bar], title: str) -> str:
    """Return upright columns side by side, on a square-root scale: the small ones stay visible."""
    tallest = math.sqrt(max((row.value for row in rows), default=0)) or 1
    step, base = WIDTH / max(len(rows), 1), PLOT_HEIGHT - MARGIN
    drawn = []
    for position, row in enumerate(rows):
        height = math.sqrt(row.value) / tallest * (base - MARGIN)
        middle = (position + 0.5) * step
        drawn.append(
            f'<g class="band{position}"><rect x="{middle - step * 0.36:.1f}" y="{base - height:.1f}" '
            f'width="{step * 0.72:.1f}" height="{height:.1f}" rx="3"/></g>'
            f'<text x="{middle:.1f}" y="{base - height - 8:.1f}" text-anchor="middle">{text(row.note)}</text>'
            f'<text x="{middle:.1f}" y="{base + 20}" text-anchor="middle" class="soft">{text(row.label)}</text>'
        )
    return _svg(title, PLOT_HEIGHT, drawn)


def scatter(points: Sequence[Point], labelled: int, x_title: str, y_title: str) -> str:
    """Return a scatter chart with a logarithmic x axis; up to `labelled` of the highest points are named."""
    top = max((point.y for point in points), default=1) * 1.08 or 1
    right = math.log10(max((point.x for point in points), default=10) * 1.5 + 10)
    area = max((point.size for point in points), default=1) or 1
    drawn = [*_x_axis(right, x_title), *_y_axis(top, y_title)]
    taken: list[float] = []
    for point in sorted(points, key=lambda point: (-point.y, point.label)):
        x, y = _across(math.log10(max(point.x, 1)) / right), _up(point.y / top)
        named = len(taken) < labelled and all(abs(y - other) > ROW / 2 for other in taken)
        taken += [y] if named else []
        drawn.append(_dot(point, x, y, 2.5 + 9 * math.sqrt(point.size / area), named=named))
    return _svg(f"{y_title} against {x_title}", PLOT_HEIGHT, drawn)


def _bar(row: Bar, top: int, scale: float) -> str:
    middle = top + ROW / 2 + 4
    length = max(row.value * scale, 1)
    dark = f'<rect class="part" x="{LABEL}" y="{top + 4}" width="{row.part * scale:.1f}" height="{ROW - 8}" rx="3"/>'
    return (
        f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{text(_short(row.label))}'
        f"<title>{text(row.label)}</title></text>"
        f'<rect x="{LABEL}" y="{top + 4}" width="{length:.1f}" height="{ROW - 8}" rx="3"/>{dark if row.part else ""}'
        f'<text x="{LABEL + length + 6:.1f}" y="{middle}" class="soft">{text(row.note)}</text>'
    )


def _dot(point: Point, x: float, y: float, radius: float, *, named: bool) -> str:
    tip = f"<title>{text(point.label)}: {text(point.note)}</title>"
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{tip}</circle>'
    if not named:
        return dot
    at, anchor = (x - radius - 4, "end") if x > WIDTH * 0.7 else (x + radius + 4, "start")
    return f'{dot}<text x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{text(_short(point.label))}</text>'


def _x_axis(right: float, title: str) -> list[str]:
    base = PLOT_HEIGHT - MARGIN
    ticks = [
        f'<line x1="{_across(power / right):.1f}" x2="{_across(power / right):.1f}" y1="8" y2="{base}"/>'
        f'<text x="{_across(power / right):.1f}" y="{base + 16}" text-anchor="middle" class="soft">{10**power:,}</text>'
        for power in range(1, int(right) + 1)
    ]
    return [*ticks, f'<text x="{WIDTH - 8}" y="{base + 34}" text-anchor="end" class="soft">{text(title)}</text>']


def _y_axis(top: float, title: str) -> list[str]:
    power = 10 ** math.floor(math.log10(top))
    step = max(power / 2 if top < 5 * power else power, 0.5)
    ticks = [
        f'<line x1="{MARGIN}" x2="{WIDTH - 8}" y1="{_up(value / top):.1f}" y2="{_up(value / top):.1f}"/>'
        f'<text x="{MARGIN - 6}" y="{_up(value / top) + 4:.1f}" text-anchor="end" class="soft">{value:g}</text>'
        for value in (step * position for position in range(int(top / step) + 1))
    ]
    return [*ticks, f'<text x="{MARGIN + 4}" y="16" class="soft">{text(title)}</text>']


def _across(share: float) -> float:
    return MARGIN + share * (WIDTH - MARGIN - 8)


def _up(share: float) -> float:
    return PLOT_HEIGHT - MARGIN - share * (PLOT_HEIGHT - MARGIN - 8)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}…"


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
