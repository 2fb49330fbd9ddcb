"""Bar charts as inline SVG images (SVG 1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LABEL_WIDTH = 300
_BAR_WIDTH = 360
_VALUE_WIDTH = 160
_ROW_HEIGHT = 24
_BAR_HEIGHT = 14


@dataclass(frozen=True)
class Bar:
    """A labelled value, which is not negative, and its upper limit."""

    label: str
    value: float
    limit: float | None = None


def svg(title: str, bars: Sequence[Bar], unit: str) -> str:
    """Draw ``bars`` on one scale, each with its value and a line at its limit; bars above their limit are red."""
    longest = max((max(bar.value, bar.limit or 0.0) for bar in bars), default=0.0) or 1.0
    width, height = _LABEL_WIDTH + _BAR_WIDTH + _VALUE_WIDTH, (len(bars) + 1) * _ROW_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        # Inherit the page's text colour, because Robot Framework's log may be dark.
        'font-family="sans-serif" font-size="12" fill="currentColor">',
        f'<text x="0" y="15" font-weight="bold">{escape(title)}</text>',
    ]
    for row, bar in enumerate(bars, 1):
        top = row * _ROW_HEIGHT
        above = bar.limit is not None and bar.value > bar.limit
        length = bar.value / longest * _BAR_WIDTH
        words = f"{bar.value:.4g} {unit}" + (f" of {bar.limit:g}" if bar.limit is not None else "")
        lines += [
            f'<text x="{_LABEL_WIDTH - 8}" y="{top + 12}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{_LABEL_WIDTH}" y="{top}" width="{length:.1f}" height="{_BAR_HEIGHT}" '
            f'fill="{"#c00" if above else "#4a7"}"/>',
        ]
        if bar.limit is not None:
            x = _LABEL_WIDTH + bar.limit / longest * _BAR_WIDTH
            ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{top + _BAR_HEIGHT + 3}"'
            lines.append(f'<line {ends} stroke="currentColor"/>')
        lines.append(f'<text x="{_LABEL_WIDTH + _BAR_WIDTH + 8}" y="{top + 12}">{escape(words)}</text>')
    return "\n".join([*lines, "</svg>"])
