"""Log lines that clients can provoke, limited in number and length."""

from __future__ import annotations

import logging
import threading

from mock_accel_server.timers import Timers

_LINES = 10
WINDOW_SECONDS = 10.0
_LONGEST = 300

log = logging.getLogger(__name__)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """``text`` truncated to ``longest`` characters, with the number of truncated ones."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more characters)"


class Notices:
    """Warnings about the clients of one device.

    In each time window the first lines are written. The others are counted, and the
    count is written when the window ends. Windows belong to the device, so that a
    client gets no new window by reconnecting.
    """

    def __init__(self, name: str, timers: Timers, seconds: float = WINDOW_SECONDS) -> None:
        self._name = name
        self._seconds = seconds
        self._window = timers.timer(seconds, self.flush)
        self._lock = threading.Lock()
        self._written = 0
        self._left_out = 0

    def warning(self, text: str) -> None:
        """Write the line, or count it as suppressed. Any thread may call this."""
        with self._lock:
            if not self._window.running:
                self._window.start()
            self._written += 1
            if self._written > _LINES:
                self._left_out += 1
                return
        log.warning("%s: %s", self._name, shortened(text))

    def flush(self) -> None:
        """End the window and write the number of suppressed lines, if any."""
        with self._lock:
            left_out = self._left_out
            self._written = self._left_out = 0
            self._window.stop()
        if left_out:
            log.warning("%s: %d more messages within %g s left out", self._name, left_out, self._seconds)
