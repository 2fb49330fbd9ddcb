"""Waiting for what no event announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from mock_device.checks.errors import CheckError

_POLL_SECONDS = 0.5


class Deadline:
    """A time that several steps have together."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()

    def left(self) -> timedelta:
        """What of it is left, at least a second, so that the last step looks once."""
        return timedelta(seconds=max(self._end - time.monotonic(), 1.0))


def until_no_complaints(complaints: Callable[[], list[str]], timeout: timedelta, what: str) -> None:
    """Ask again and again until there are none; CheckError has those of the last time.

    It is asked once more when the time is up, so that a slow answer counts.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        last_time = time.monotonic() >= deadline
        found = complaints()
        if not found:
            return
        if last_time:
            raise CheckError(f"{what} after {timeout.total_seconds():.0f} s:\n" + "\n".join(found))
        time.sleep(_POLL_SECONDS)
