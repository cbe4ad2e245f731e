"""Bar charts as SVG: one bar per peer, logarithmic, with a line from minimum to maximum."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "bar_chart"]

_WIDTH, _LABELS, _ROW, _TOP, _BOTTOM = 760, 290, 26, 46, 34
_RIGHT = 70
_OURS, _OTHERS, _LINE, _TEXT = "#2563eb", "#94a3b8", "#0f172a", "#64748b"


@dataclass(frozen=True, slots=True)
class Bar:
    """One peer's ratio; `is_ours` gives it the other colour."""

    title: str
    minimum: float
    median: float
    maximum: float
    is_ours: bool = False


def bar_chart(title: str, unit: str, bars: Sequence[Bar], mark: float | None = None) -> str:
    """Return a chart of positive values, smallest median first.

    Args:
        mark: A value with a line of its own, such as 1 for "as fast as".

    Raises:
        ValueError: there are no bars, or a value is not positive.

    """
    if not bars or min(bar.minimum for bar in bars) <= 0:
        raise ValueError(f"chart {title!r}: give at least one bar, and only values above 0")
    ordered = sorted(bars, key=lambda bar: bar.median)
    low = 10 ** math.floor(math.log10(min([bar.minimum for bar in bars] + ([mark] if mark else []))))
    high = 10 ** math.ceil(math.log10(max([bar.maximum for bar in bars] + ([mark] if mark else []))))
    high = high if high > low else low * 10
    height = _TOP + _ROW * len(ordered) + _BOTTOM

    def x(value: float) -> float:
        share = math.log10(value / low) / math.log10(high / low)
        return _LABELS + share * (_WIDTH - _LABELS - _RIGHT)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="20" font-size="14" font-weight="bold" fill="{_LINE}">{escape(title)}</text>',
        f'<text x="12" y="36" fill="{_TEXT}">{escape(unit)}</text>',
    ]
    parts += _grid(low, high, x, height)
    for at, bar in enumerate(ordered):
        parts += _row(bar, x, low, _TOP + at * _ROW)
    if mark:
        parts.append(
            f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP - 4}" y2="{height - _BOTTOM}" '
            f'stroke="{_LINE}" stroke-dasharray="4 3"/>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(low: float, high: float, x: Callable[[float], float], height: int) -> list[str]:
    parts, value, foot = [], low, height - _BOTTOM
    while value <= high * 1.0001:
        at = f"{x(value):.1f}"
        parts.append(f'<line x1="{at}" x2="{at}" y1="{_TOP - 4}" y2="{foot}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{at}" y="{foot + 16}" fill="{_TEXT}" text-anchor="middle">{value:g}</text>')
        value *= 10
    return parts


def _row(bar: Bar, x: Callable[[float], float], low: float, top: float) -> list[str]:
    middle, end = f"{top + _ROW / 2:.1f}", f"{top + _ROW / 2 + 4:.1f}"
    colour = _OURS if bar.is_ours else _OTHERS
    start, width = f"{x(low):.1f}", f"{x(bar.median) - x(low):.1f}"
    least, most = f"{x(bar.minimum):.1f}", f"{x(bar.maximum):.1f}"
    return [
        f'<text x="{_LABELS - 8}" y="{end}" fill="{_LINE}" text-anchor="end">{escape(bar.title)}</text>',
        f'<rect x="{start}" y="{top + 5:.1f}" width="{width}" height="{_ROW - 10}" fill="{colour}"/>',
        f'<line x1="{least}" x2="{most}" y1="{middle}" y2="{middle}" stroke="{_LINE}" stroke-width="2"/>',
        f'<text x="{x(bar.maximum) + 6:.1f}" y="{end}" fill="{_LINE}">{bar.median:.3g}</text>',
    ]
