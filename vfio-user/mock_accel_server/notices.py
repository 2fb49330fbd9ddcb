"""Log lines that a client can cause at will, limited in number and length."""

from __future__ import annotations

import logging

from mock_accel_server.timers import Timers

_LINES = 10
WINDOW_SECONDS = 10.0
_LONGEST = 300

log = logging.getLogger(__name__)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """``text`` with at most ``longest`` characters, and how many are left out."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more characters)"


class Notices:
    """Warnings about the clients of one device.

    In each window of time the first lines are written. The others are counted,
    and the count is written when the window ends. A client that connects again
    and again has no new window each time: they belong to the device.
    """

    def __init__(self, name: str, timers: Timers, seconds: float = WINDOW_SECONDS) -> None:
        self._name = name
        self._seconds = seconds
        self._window = timers.timer(seconds, self.flush)
        self._written = 0
        self._left_out = 0

    def warning(self, text: str) -> None:
        """Write the line, or count it."""
        if not self._window.running:
            self._window.start()
        if self._written < _LINES:
            self._written += 1
            log.warning("%s: %s", self._name, shortened(text))
        else:
            self._left_out += 1

    def flush(self) -> None:
        """End the window: say how many lines were left out, if any were."""
        if self._left_out:
            log.warning("%s: %d more messages within %g s left out", self._name, self._left_out, self._seconds)
        self._written = self._left_out = 0
        self._window.stop()
