"""Polling with a deadline, for conditions that no event announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from mock_device.checks.errors import CheckError

_POLL_SECONDS = 0.5


class Deadline:
    """A deadline that several steps share."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()

    def left(self) -> timedelta:
        """Remaining time, at least one second, so that the last step can check once."""
        return timedelta(seconds=max(self._end - time.monotonic(), 1.0))


def until_no_complaints(complaints: Callable[[], list[str]], timeout: timedelta, what: str) -> None:
    """Call ``complaints`` repeatedly until it returns none. Raises CheckError with the last complaints.

    It is called once more after the deadline, so that a slow answer still counts.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        expired = time.monotonic() >= deadline
        found = complaints()
        if not found:
            return
        if expired:
            raise CheckError(f"{what} after {timeout.total_seconds():.0f} s:\n" + "\n".join(found))
        time.sleep(_POLL_SECONDS)
