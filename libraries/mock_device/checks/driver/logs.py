"""Logs of the driver's pods, from a mark on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_LINES = 15


@dataclass(frozen=True)
class LogMark:
    """A place in the log of a pod: what comes after it is new."""

    pod: str
    lines: int
    """How many lines the pod had written."""


def after(mark: LogMark, log: str) -> list[str]:
    """Lines of ``log``, the whole log of the pod, that were written after ``mark``."""
    return log.splitlines()[mark.lines :]


def matching(lines: Sequence[str], pattern: str) -> list[str]:
    """Lines that the regular expression finds something in."""
    return [line for line in lines if re.search(pattern, line)]


def missing(lines: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The first of the regular expressions that finds no line after that of the one before, in words."""
    rest = list(lines)
    for number, pattern in enumerate(patterns):
        position = next((index for index, line in enumerate(rest) if re.search(pattern, line)), None)
        if position is None:
            before = f" after one with {patterns[number - 1]!r}" if number else ""
            end = "\n".join(lines[-_SHOWN_LINES:]) or "nothing"
            return [f"expected a line with {pattern!r}{before}; what it says since the mark:\n{end}"]
        del rest[: position + 1]
    return []
