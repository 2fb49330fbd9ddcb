"""Compares logs of the driver's pods with expectations, starting at a mark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_LINES = 15


@dataclass(frozen=True)
class LogMark:
    """A position in a pod's log; later lines are new."""

    pod: str
    lines: int
    """Number of lines before the mark."""


def after(mark: LogMark, log: str) -> list[str]:
    """Lines after ``mark`` in ``log``, which is the pod's complete log."""
    return log.splitlines()[mark.lines :]


def matching(lines: Sequence[str], pattern: str) -> list[str]:
    """Lines in which the regular expression matches."""
    return [line for line in lines if re.search(pattern, line)]


def missing(lines: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Message about the first pattern without a match; each pattern must match a line after the previous match."""
    rest = list(lines)
    for number, pattern in enumerate(patterns):
        position = next((index for index, line in enumerate(rest) if re.search(pattern, line)), None)
        if position is None:
            before = f" after one with {patterns[number - 1]!r}" if number else ""
            end = "\n".join(lines[-_SHOWN_LINES:]) or "nothing"
            return [f"expected a line with {pattern!r}{before}; the log since the mark:\n{end}"]
        del rest[: position + 1]
    return []
