"""Deadlines of a loop, in order: an event costs the same however many there are."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

_NEVER = float("inf")


class Timer:
    """Runs its action once, ``seconds`` after ``start``, unless ``stop`` comes first."""

    def __init__(self, timers: Timers, seconds: float, action: Callable[[], None]) -> None:
        self._timers = timers
        self._seconds = seconds
        self.action = action
        self.due = _NEVER
        """Monotonic time; never while it is stopped."""
        self.queued = False
        """It has its one place in the heap, at ``due`` or before."""

    @property
    def running(self) -> bool:
        return self.due != _NEVER

    def start(self) -> None:
        """Start, or start again from now."""
        self.due = time.monotonic() + self._seconds
        self._timers.queue(self)

    def stop(self) -> None:
        self.due = _NEVER


class Timers:
    """A heap with at most one entry for each timer.

    A timer always waits equally long, so its due time only moves later. Its entry
    stays where it is then, and moves when it comes to the top.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def timer(self, seconds: float, action: Callable[[], None]) -> Timer:
        """A new timer, stopped. ``action`` runs in ``run_due``."""
        return Timer(self, seconds, action)

    def queue(self, timer: Timer) -> None:
        """Give ``timer`` its place in the heap; for Timer."""
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
