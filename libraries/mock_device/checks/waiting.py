"""Polling with a deadline, for conditions that no event announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from mock_device.checks.errors import CheckError
from mock_device.lab.base import timeouts

_POLL_SECONDS = 0.5


class Deadline:
    """A deadline that several steps share. ``timeout`` is nominal, as everywhere (``lab.base.timeouts``)."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeouts.seconds(timeout)

    def left(self) -> timedelta:
        """Remaining time, as a time-out for a step: at least one second, so that the last step can check once."""
        return timeouts.exactly(timedelta(seconds=max(self._end - time.monotonic(), 1.0)))


def until_no_complaints(complaints: Callable[[], list[str]], timeout: timedelta, what: str) -> None:
    """Call ``complaints`` repeatedly until it returns none. Raises CheckError with the last complaints.

    It is called once more after the deadline, so that a slow answer still counts.
    """
    seconds = timeouts.seconds(timeout)
    deadline = time.monotonic() + seconds
    while True:
        expired = time.monotonic() >= deadline
        found = complaints()
        if not found:
            return
        if expired:
            raise CheckError(f"{what} after {seconds:.0f} s:\n" + "\n".join(found))
        time.sleep(_POLL_SECONDS)
