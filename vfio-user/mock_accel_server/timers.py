"""Timers of an event loop in a heap: the cost of an event does not depend on their number."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

_NEVER = float("inf")


class Timer:
    """Runs its action once, ``seconds`` after ``start``, unless it is stopped before."""

    def __init__(self, timers: Timers, seconds: float, action: Callable[[], None]) -> None:
        self._timers = timers
        self._seconds = seconds
        self.action = action
        self.due = _NEVER
        """Monotonic time; infinity while it is stopped."""
        self.queued = False
        """Whether it has its entry in the heap, at ``due`` or before."""

    @property
    def running(self) -> bool:
        return self.due != _NEVER

    def start(self) -> None:
        """Start or restart the timer."""
        self.due = time.monotonic() + self._seconds
        self._timers.queue(self)

    def stop(self) -> None:
        self.due = _NEVER


class Timers:
    """A heap with at most one entry per timer.

    The duration of a timer is fixed, so a restart only moves its due time later. Its
    entry stays where it is and is corrected when it reaches the top.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def timer(self, seconds: float, action: Callable[[], None]) -> Timer:
        """A new, stopped timer. ``run_due`` runs its ``action``."""
        return Timer(self, seconds, action)

    def queue(self, timer: Timer) -> None:
        """Add ``timer`` to the heap; called by Timer."""
        if not timer.queued:
            timer.queued = True
            heapq.heappush(self._heap, (timer.due, next(self._order), timer))

    def timeout(self) -> float | None:
        """Seconds until the next timer is due, 0 if one is, None if none runs."""
        heap = self._heap
        while heap:
            queued_for, _, timer = heap[0]
            if timer.due == queued_for:
                return max(0.0, queued_for - time.monotonic())
            heapq.heappop(heap)
            timer.queued = False
            if timer.running:
                self.queue(timer)
        return None

    def run_due(self) -> None:
        """Run the action of every timer that is due."""
        while self.timeout() == 0.0:
            _, _, timer = heapq.heappop(self._heap)
            timer.queued = False
            timer.stop()
            timer.action()
