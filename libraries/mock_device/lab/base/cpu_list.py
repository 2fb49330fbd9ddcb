"""Lists of CPUs as the kernel writes them: ``0-3,8`` (cpuset(7), List format)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain


def cpu_ranges(text: str) -> Iterator[range]:
    """Ranges of CPUs of a list. Raises ValueError."""
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        yield range(int(first), int(last or first) + 1)


def cpu_numbers(text: str) -> Iterator[int]:
    """CPUs of a list. Raises ValueError."""
    return chain.from_iterable(cpu_ranges(text))
