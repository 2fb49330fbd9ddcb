"""Shares of a device in the kernel module: parts of its window and of its ring, each with a device node of its own.

Source: attribute ``shares`` in ``kernel-driver/ABI/testing/sysfs-class-mock-accel``.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTE = "shares"
PAGE = 4096
"""Offsets and sizes are multiples of it."""
MOST_JOBS = 255
"""Jobs that wait in the ring of a device at once, and the greatest limit of a share."""


@dataclass(frozen=True)
class WindowShare:
    """A share that the module has."""

    id: str
    offset: int
    """Bytes from the start of the device's window."""
    size: int
    """Bytes."""
    jobs: int
    """Jobs that may wait at once; 0: no limit but that of the device."""
    minor: int
    """Number of its device node; the major number is that of the device."""


def parse(text: str) -> tuple[WindowShare, ...]:
    """Content of the attribute, one share a line. Raises ValueError."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 5:
            raise ValueError(f"expected id, offset, size, jobs and minor number, found {line!r}")
        found.append(WindowShare(words[0], *map(int, words[1:])))
    return tuple(found)


def adding(share_id: str, offset: int, size: int, jobs: int) -> str:
    """What is written to the attribute to add a share."""
    return f"add {share_id} {offset} {size} {jobs}"


def removing(share_id: str) -> str:
    """What is written to the attribute to remove a share."""
    return f"remove {share_id}"
