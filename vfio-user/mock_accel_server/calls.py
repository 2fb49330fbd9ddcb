"""Functions that other threads ask the loop to run."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class Calls:
    """``fd`` is readable when the loop shall run ``run``. Threads may post until ``close`` and after it."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._open = True

    def post(self, call: Callable[[], object]) -> None:
        """Run ``call`` in the loop's thread soon; never, after ``close``."""
        self._waiting.append(call)
        self.wake()

    def wake(self) -> None:
        """Make the loop look at its timers."""
        with self._lock:
            if self._open:
                os.eventfd_write(self.fd, 1)

    def run(self) -> None:
        """Run what was posted, in order."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        while self._waiting:
            self._waiting.popleft()()

    def close(self) -> None:
        with self._lock:
            self._open = False
            os.close(self.fd)
